"""Writes that keep a strict tree whole: no node without a parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kvmodel._bulk import settle
from kvmodel._deadlines import KEEP
from kvmodel._direct import new_deadline
from kvmodel._stamps import new_stamp
from kvmodel._tree.paths import Path, below
from kvmodel.drivers.base import ANYTHING, PRESENT, Atomicity, Check, CheckRange, Delete, Key, Mutation, Outcome, Put
from kvmodel.errors import Conflict, NotFound, Unsupported, ValidationError

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model
    from kvmodel.repository import Repository

__all__ = ["delete_leaf", "put_child", "require_parent"]

M = TypeVar("M", bound="Model")


async def put_child(objects: Repository[M, *tuple[Any, ...]], node: M, parent: Key) -> M:
    """Write a node if its parent is there, in one step. Raises ``NotFound`` if it is not."""
    bound, unit = objects._where()
    if unit is not None:
        await require_parent(objects, bound, parent)
        return await objects.save(node)
    _require_steps(bound, can=bound.driver.capabilities.conditional)
    put = Put(
        bound.table,
        bound.schema.key_of(node),
        bound.schema.dump(node),
        new_stamp(),
        new_deadline(bound, node, KEEP, ANYTHING),
        ANYTHING,
    )
    until = await bound.prepared()
    try:
        outcome, _ = await _write(bound, [put, Check(bound.table, parent, PRESENT)], until)
    except Conflict as conflict:  # Nothing else is expected by this write.
        raise _no_parent(bound, parent) from conflict
    settle(put, node, outcome)
    return node


async def delete_leaf(objects: Repository[M, *tuple[Any, ...]], partition: Key, path: Path) -> bool | None:
    """Remove a node if nothing is under it, in one step. Raises ``ValidationError`` if something is."""
    bound, unit = objects._where()
    key = (*partition, path)
    under = below(partition, path)._replace(limit=1)
    if unit is not None:
        if await unit._joined.scan(bound, under):
            raise _not_a_leaf(bound, key)
        return await unit._joined.delete_key(bound, key)
    _require_steps(bound, can=bound.driver.capabilities.range_checks)
    until = await bound.prepared()
    try:
        outcome, _ = await _write(bound, [Delete(bound.table, key), CheckRange(bound.table, under, ())], until)
    except Conflict as conflict:
        raise _not_a_leaf(bound, key) from conflict
    return outcome.existed


async def require_parent(objects: Repository[M, *tuple[Any, ...]], bound: Bound[M], parent: Key) -> None:
    """Raise ``NotFound`` unless a node is there."""
    _, unit = objects._where()
    if not await objects._session(unit).exists(bound, parent):
        raise _no_parent(bound, parent)


def _require_steps(bound: Bound[Any], *, can: bool) -> None:
    """Raise ``Unsupported`` unless the store can look at one node and change another in one step."""
    if not can or bound.driver.capabilities.atomicity is Atomicity.RECORD:
        raise Unsupported(
            "this store can't look at one node and change another in one step, so that it can't keep a tree strict: "
            "say strict=False and look before you write",
            table=bound.table.name,
            store=bound.driver.address,
        )


async def _write(bound: Bound[Any], mutations: list[Mutation], until: float) -> list[Outcome]:
    return await bound.driver.write(mutations, atomic=True, now=bound.now(), until=until)


def _no_parent(bound: Bound[Any], parent: Key) -> NotFound:
    return NotFound(
        "this tree is strict and the parent is absent: set the parent first",
        table=bound.table.name,
        key=parent,
        store=bound.driver.address,
    )


def _not_a_leaf(bound: Bound[Any], key: Key) -> ValidationError:
    return ValidationError(
        "this tree is strict and there are nodes under this one: tree.delete_subtree() removes them too",
        table=bound.table.name,
        key=key,
        store=bound.driver.address,
    )
