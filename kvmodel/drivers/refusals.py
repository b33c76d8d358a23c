"""Refusals that all drivers word alike.

What follows from a driver's capabilities alone is denied before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from kvmodel.drivers.base import (
    ANYTHING,
    Atomicity,
    Capabilities,
    Check,
    CheckRange,
    Delete,
    Expiry,
    Key,
    Mutation,
    Put,
    Reverse,
    Slice,
    Table,
    Watch,
)
from kvmodel.errors import AlreadyExists, Conflict, TooLarge, Unsupported

__all__ = ["conflict_of", "refuse_slice", "refuse_watch", "refuse_write"]

Scope = Callable[[Table, Key], Hashable]

_REACH = {
    Watch.NONE: "this store cannot be watched: poll with range(after=...) instead",
    Watch.RECORD: "this store watches single records: give the whole key, or poll with range(after=...)",
    Watch.PARTITION: "this store watches one partition at a time: give the values of its partition fields",
}
_RANKS = list(Watch)


def conflict_of(keys: Sequence[tuple[str, Key]], store: str, *, taken: bool) -> Conflict:
    """Answer the error of expectations that do not hold; nothing was written.

    Args:
        keys: The tables and keys concerned, as far as the store names them.
        store: The store's address.
        taken: Whether all that failed is that keys were to be free.
    """
    table, key = keys[0] if len(keys) == 1 else (None, None)
    if taken:
        return AlreadyExists(
            "this key is taken: change the record that is there, or save() to replace it whatever it is",
            keys=keys,
            table=table,
            key=key,
            store=store,
        )
    return Conflict(
        "somebody else wrote first and nothing was written: read again, then retry",
        keys=keys,
        table=table,
        key=key,
        store=store,
    )


def refuse_slice(capabilities: Capabilities, table: Table, slice: Slice) -> None:
    """Raise ``Unsupported`` for a slice that the store cannot read."""
    if slice.partition is None:
        if not capabilities.scan_table:
            raise Unsupported(
                "this store cannot read a whole table: read one partition with range(...)",
                table=table.name,
                store=capabilities.store,
            )
    elif not capabilities.ordered:
        raise Unsupported(
            "this store does not keep records in order, so it has no ranges: get_many(keys) reads what you can name",
            table=table.name,
            store=capabilities.store,
        )
    if slice.reverse and capabilities.reverse is Reverse.NONE:
        raise Unsupported(
            "this store cannot read backwards: declare the clustering key with descending=True",
            table=table.name,
            store=capabilities.store,
        )


def refuse_watch(capabilities: Capabilities, table: Table, slice: Slice, *, resumes: bool) -> None:
    """Raise ``Unsupported`` for a slice that the store cannot watch, or not from an earlier position."""
    if slice.partition is None:
        needed = Watch.TABLE
    else:
        needed = Watch.RECORD if len(slice.prefix) == len(table.clustering) else Watch.PARTITION
    has = capabilities.watch
    if _RANKS.index(has) < _RANKS.index(needed):
        raise Unsupported(_REACH[has], table=table.name, store=capabilities.store)
    if resumes and not capabilities.watch_resumes:
        raise Unsupported(
            "this store keeps no past changes, so that a watch can only start from now: read again, then watch without "
            "position=",
            table=table.name,
            store=capabilities.store,
        )


def refuse_write(capabilities: Capabilities, scope: Scope, mutations: Sequence[Mutation], atomic: bool) -> None:
    """Raise ``Unsupported`` or ``TooLarge`` for a write that the store cannot do."""
    for mutation in mutations:
        _refuse_mutation(capabilities, mutation)
    if atomic:
        _refuse_atomic(capabilities, scope, mutations)


def _refuse_mutation(capabilities: Capabilities, mutation: Mutation) -> None:
    table = mutation.table.name
    if isinstance(mutation, CheckRange):
        if not capabilities.range_checks:
            raise Unsupported(
                "this store cannot check a range at commit: read it with .unchecked(), or outside the unit of work",
                table=table,
                store=capabilities.store,
            )
        return
    if not capabilities.conditional and mutation.expect is not ANYTHING:
        raise Unsupported(
            "this store has no conditional writes: save(force=True) and delete by key need none",
            table=table,
            key=mutation.key,
            store=capabilities.store,
        )
    if capabilities.expiry is Expiry.NONE and isinstance(mutation, Put) and mutation.expires_at is not None:
        raise Unsupported(
            "this store cannot let records expire: save them without a deadline",
            table=table,
            key=mutation.key,
            store=capabilities.store,
        )


def _refuse_atomic(capabilities: Capabilities, scope: Scope, mutations: Sequence[Mutation]) -> None:
    if capabilities.atomicity is not Atomicity.STORE and len({_scope_of(scope, each) for each in mutations}) > 1:
        reach = "one record" if capabilities.atomicity is Atomicity.RECORD else "the records of one partition"
        raise Unsupported(
            f"an atomic write to this store reaches {reach}: split the unit of work, or use db.batch()",
            store=capabilities.store,
        )
    changes = sum(isinstance(mutation, (Put, Delete)) for mutation in mutations)
    _refuse_count(capabilities.max_atomic_changes, changes, "changes more records", capabilities.store)
    checks = sum(isinstance(each, (Check, CheckRange)) or each.expect is not ANYTHING for each in mutations)
    _refuse_count(capabilities.max_atomic_checks, checks, "relies on more records", capabilities.store)


def _refuse_count(limit: int | None, count: int, does: str, store: str) -> None:
    if limit is not None and count > limit:
        raise TooLarge(
            f"this atomic write {does} than the store takes at once: split the unit of work",
            size=count,
            limit=limit,
            store=store,
        )


def _scope_of(scope: Scope, mutation: Mutation) -> Hashable:
    if isinstance(mutation, CheckRange):
        return scope(mutation.table, mutation.slice.partition or ())
    return scope(mutation.table, mutation.key)
