"""Changes of whole subtrees: move, copy, delete.

Rules. What is moved is what is stored: nodes are carried as rows, so that fields which the model does not know and
deadlines go with them. Everything is read first and written in one commit, which relies on both places being as they
were read: on the ranges where the store checks ranges, else on each record. A lost race is tried again. Inside a unit
of work nodes are objects of the unit, and its commit is the one that counts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs

from kvmodel._bulk import batch_size
from kvmodel._direct import new_deadline
from kvmodel._stamps import new_stamp
from kvmodel._state import State, Status, get_state, set_state
from kvmodel._tree.commits import (
    Costs,
    again_after_races,
    most_in_one,
    read_all,
    require_commits,
    unchanged,
    write_at_once,
)
from kvmodel._tree.paths import Path, is_under, subtree
from kvmodel._tree.strict import require_parent
from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Check,
    CheckRange,
    Delete,
    Expectation,
    Key,
    Mutation,
    Put,
    Row,
    Slice,
)
from kvmodel.drivers.base import Status as Ended
from kvmodel.errors import (
    AlreadyExists,
    BatchError,
    NotFound,
    ValidationError,
)
from kvmodel.query import Range

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model
    from kvmodel.repository import Repository
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Transfer", "delete_subtree"]

M = TypeVar("M", bound="Model")


@attrs.frozen(eq=False)
class Transfer(Generic[M]):
    """One move, or one copy, which keeps the nodes where they were."""

    objects: Repository[M, *tuple[Any, ...]]
    partition: Key
    old: Path
    new: Path
    keeps: bool = attrs.field(kw_only=True)
    overwrite: bool = attrs.field(kw_only=True)
    strict: bool = attrs.field(kw_only=True)

    async def run(self, *, atomic: bool) -> int:
        """Do it, and answer how many nodes it was."""
        bound, unit = self.objects._where()
        self._check_places(bound)
        if unit is not None:
            return await self._join(bound, unit)
        if atomic:
            require_commits(bound)
            return await again_after_races(bound, lambda until: self._commit(bound, until))
        return await self._in_batches(bound)

    def _check_places(self, bound: Bound[M]) -> None:
        if is_under(self.new, self.old):
            problem = "a node can't go to its own place or below itself: choose a path outside of it"
        elif self.overwrite and is_under(self.old, self.new):
            problem = "a node can't replace one that it is under: go to a free path first"
        else:
            return
        raise ValidationError(problem, table=bound.table.name, key=self._key(self.new), field="path")

    def _key(self, path: Path) -> Key:
        return (*self.partition, path)

    def _target(self, key: Key) -> Key:
        """Where the node with this key goes to."""
        path = cast("Path", key[-1])
        return self._key(self.new + path[len(self.old) :])

    @property
    def _source(self) -> Slice:
        return subtree(self.partition, self.old)

    @property
    def _place(self) -> Slice:
        return subtree(self.partition, self.new)

    async def _require_parent(self, bound: Bound[M]) -> None:
        if self._parent is not None:
            await require_parent(self.objects, bound, self._parent)

    @property
    def _parent(self) -> Key | None:
        return self._key(self.new[:-1]) if self.strict and len(self.new) > 1 else None

    # --- in a unit of work ---

    async def _join(self, bound: Bound[M], unit: UnitOfWork) -> int:
        joined = unit._joined
        checked = bound.driver.capabilities.range_checks
        await self._require_parent(bound)
        if not self.overwrite:
            taken = await joined.scan(bound, self._place._replace(limit=1), checked=checked)
            if taken:
                raise self._taken(bound, bound.schema.key_of(taken[0]))
        nodes = await joined.scan(bound, self._source, checked=checked)
        if not nodes:
            raise self._nothing(bound)
        expect = ANYTHING if self.overwrite else ABSENT
        keys = [bound.schema.key_of(node) for node in nodes]
        deadlines = [
            new_deadline(bound, node, joined.entry(bound, key).deadline, ABSENT)
            for node, key in zip(nodes, keys, strict=True)
        ]
        fresh = [self._moved(bound, node, self._target(key)) for node, key in zip(nodes, keys, strict=True)]
        if not self.keeps:
            for node, key in zip(nodes, keys, strict=True):
                joined.delete_now(bound, node, key, ANYTHING)
        for node, key, deadline in zip(fresh, keys, deadlines, strict=True):
            joined.put_now(bound, node, self._target(key), expect, deadline)
        return len(nodes)

    def _moved(self, bound: Bound[M], node: M, target: Key) -> M:
        """Answer a new object for the other place, that shares nothing with this one."""
        bound.schema.dump(node)  # What can't be stored is refused before anything is changed.
        state = get_state(node)
        fresh = copy.deepcopy(node)
        object.__setattr__(fresh, "path", target[-1])
        raw = None if state is None else state.raw
        # Unknown fields go with it. It has no version until the unit is committed, and none if it never is.
        set_state(fresh, None if raw is None else State(Status.UNKNOWN, target, None, None, copy.deepcopy(raw)))
        return fresh

    # --- in one commit ---

    async def _commit(self, bound: Bound[M], until: float) -> int:
        await self._require_parent(bound)
        await self._require_free(bound, until)
        most = most_in_one(bound, Costs(changes=1, checks=2) if self.keeps else Costs(changes=2, checks=2))
        rows = await read_all(bound, self._source, until, most=most)
        if not rows:
            raise self._nothing(bound)
        await write_at_once(bound, self._mutations(bound, rows), until)
        return len(rows)

    def _mutations(self, bound: Bound[M], rows: Sequence[Row]) -> list[Mutation]:
        in_ranges = bound.driver.capabilities.range_checks
        expect = ANYTHING if self.overwrite or in_ranges else ABSENT
        mutations: list[Mutation] = [*self._puts(bound, rows, expect)]
        if not self.keeps:
            mutations += [Delete(bound.table, row.key, ANYTHING if in_ranges else row.version) for row in rows]
        elif not in_ranges:
            mutations += [Check(bound.table, row.key, row.version) for row in rows]
        if in_ranges:
            mutations.append(unchanged(bound, self._source, rows))
            if not self.overwrite:
                mutations.append(CheckRange(bound.table, self._place._replace(limit=1), ()))
        if self._parent is not None:
            mutations.append(Check(bound.table, self._parent, PRESENT))
        return mutations

    def _puts(self, bound: Bound[M], rows: Sequence[Row], expect: Expectation) -> list[Mutation]:
        stamp, values_of = new_stamp(), bound.schema.values_of
        return [Put(bound.table, self._target(row.key), values_of(row), stamp, row.expires_at, expect) for row in rows]

    # --- in batches ---

    async def _in_batches(self, bound: Bound[M]) -> int:
        await self._require_parent(bound)
        await self._require_free(bound, await bound.prepared())
        conditional = bound.driver.capabilities.conditional
        expect = ABSENT if conditional and not self.overwrite else ANYTHING
        done = 0
        slice: Slice | None = self._source._replace(limit=batch_size(bound))
        while slice is not None:
            page = await bound.driver.scan(bound.table, slice, now=bound.now(), until=bound.until())
            await self._send(bound, self._puts(bound, page.rows, expect), page.rows, done)
            if not self.keeps:
                gone = [Delete(bound.table, row.key, row.version if conditional else ANYTHING) for row in page.rows]
                await self._send(bound, gone, page.rows, done)
            done += len(page.rows)
            after = page.rows[-1].key if len(page.rows) == slice.limit else page.resume
            slice = None if after is None else slice._replace(after=after)
        if not done:
            raise self._nothing(bound)
        return done

    async def _send(self, bound: Bound[M], mutations: Sequence[Mutation], rows: Sequence[Row], done: int) -> None:
        if not mutations:
            return
        outcomes = await bound.driver.write(mutations, atomic=False, now=bound.now(), until=bound.until())
        if all(outcome.status is Ended.WRITTEN for outcome in outcomes):
            return
        failed = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome.status is not Ended.WRITTEN]
        error = BatchError(
            "some nodes of a subtree were not moved or copied: look at .outcomes, then do the same again with "
            "overwrite=True",
            outcomes=outcomes,
            done=done,
            remaining=[row.key[-1] for row in failed],
            table=bound.table.name,
            store=bound.driver.address,
        )
        raise error from next((outcome.error for outcome in outcomes if outcome.error is not None), None)

    # --- what must be so ---

    async def _require_free(self, bound: Bound[M], until: float) -> None:
        """Raise ``AlreadyExists`` where something is at the new place."""
        if self.overwrite:
            return
        found = await read_all(bound, self._place._replace(limit=1), until, values=False)
        if found:
            raise self._taken(bound, found[0].key)

    def _taken(self, bound: Bound[M], key: Key) -> AlreadyExists:
        return AlreadyExists(
            "something is at the new place: choose a free path, delete it first, or say overwrite=True",
            keys=[(bound.table.name, key)],
            table=bound.table.name,
            key=key,
            store=bound.driver.address,
        )

    def _nothing(self, bound: Bound[M]) -> NotFound:
        return NotFound(
            "no node is at this path, nor below it: look at what is there with tree.children()",
            table=bound.table.name,
            key=self._key(self.old),
            store=bound.driver.address,
        )


# --- deleting ---------------------------------------------------------------------------------------------------------


async def delete_subtree(objects: Repository[M, *tuple[Any, ...]], slice: Slice, *, atomic: bool) -> int:
    """Delete all nodes of a slice, and answer how many."""
    bound, unit = objects._where()
    if unit is not None:
        nodes = await unit._joined.scan(bound, slice, checked=bound.driver.capabilities.range_checks)
        for node in nodes:
            unit._joined.delete_now(bound, node, bound.schema.key_of(node), ANYTHING)
        return len(nodes)
    if not atomic:
        return await Range(objects, slice).delete()
    return await again_after_races(bound, lambda until: _delete_at_once(bound, slice, until))


async def _delete_at_once(bound: Bound[Any], slice: Slice, until: float) -> int:
    rows = await read_all(bound, slice, until, values=False, most=most_in_one(bound, Costs(changes=1, checks=0)))
    if len(rows) > 1:
        require_commits(bound, conditional=False)
    mutations: list[Mutation] = [Delete(bound.table, row.key) for row in rows]
    if mutations and bound.driver.capabilities.range_checks:
        mutations.append(unchanged(bound, slice, rows))
    if mutations:
        await write_at_once(bound, mutations, until)
    return len(rows)
