"""Units of work: an identity map, what was read, what changed; committed as one atomic write, or not at all.

Rules. Nothing is sent before commit but reads. A key that was read is an entry with the version (or the absence) that
was seen; at commit every entry becomes one mutation: what changed is put, what was deleted is deleted, each expecting
what was seen, and what was only read is checked. Ranges are remembered as they were read and checked as a whole, where
the store can. So a commit succeeds only if everything that was read is still so at that moment: serialisable.

Changes are noticed by encoding again: an object is dirty if its stored form differs from the one it had when it was
read, so that changes inside lists and nested objects count.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kvmodel import _aio
from kvmodel._ambient import unit_variable
from kvmodel._commit import Change, build_changes
from kvmodel._deadlines import KEEP
from kvmodel._direct import expectation_of
from kvmodel._joined import Joined
from kvmodel._stamps import new_stamp
from kvmodel._state import get_state
from kvmodel.drivers.base import ABSENT, ANYTHING, Key, Mutation
from kvmodel.errors import Closed, OutcomeUnknown, Unsupported

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.database import Database
    from kvmodel.model import Model

__all__ = ["UnitOfWork"]


class _Stage(enum.Enum):
    NEW = "was not begun"
    OPEN = "is open"
    COMMITTING = "is being committed"
    COMMITTED = "was committed"
    ROLLED_BACK = "was rolled back"
    FAILED = "failed to commit"


class UnitOfWork:
    """Changes that become visible together. Made by ``db.unit_of_work()``.

    ``async with`` begins it, commits it at the end of the block, and rolls it back when the block ends by an exception.
    Or by hand: ``uow = await db.unit_of_work().begin()``, then :meth:`commit` or :meth:`rollback`.
    """

    def __init__(self, database: Database, *, verify: bool = False) -> None:
        self.database = database
        self._verify = verify
        self._stage = _Stage.NEW
        self._joined = Joined(self._check_open)
        self._outer: UnitOfWork | None = None
        self._is_block = False
        self._after: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<UnitOfWork that {self._stage.value}, {len(self._joined.entries)} records>"

    # --- its life ---

    async def begin(self) -> UnitOfWork:
        """Begin, and answer this unit. Calls of this task, and of the tasks it starts, join it from now on.

        Raises:
            Closed: It was begun before, or its database is closed.
        """
        if self._stage is not _Stage.NEW:
            raise Closed("a unit of work can be begun once: make another one with db.unit_of_work()")
        self.database._connection.check_usable()
        self._stage = _Stage.OPEN
        self._outer = unit_variable.get()
        unit_variable.set(self)
        return self

    async def __aenter__(self) -> UnitOfWork:
        await self.begin()
        self._is_block = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._stage is _Stage.OPEN and kind is None:
                await self.commit()
        finally:
            if self._stage is _Stage.OPEN:
                self._stage = _Stage.FAILED if kind is None else _Stage.ROLLED_BACK
            self._leave()

    async def commit(self) -> None:
        """Write everything that changed, at once, if everything that was read is still so.

        Raises:
            Conflict: Something that was read or is to be changed has changed meanwhile; nothing was written.
            AlreadyExists: The key of an added object is taken; nothing was written.
            Unsupported: The store can't do this in one atomic write; nothing was sent. ``db.batch()`` takes writes
                that need no atomicity.
            OutcomeUnknown: The answer was lost. Objects of this unit are unknown: read them again.
        """
        self._check_open()
        if self._joined.pending:
            raise Unsupported("a call of this unit of work is still under way: await all of them before commit()")
        self._stage = _Stage.COMMITTING  # What comes now would be left out of it, and is refused.
        try:
            await self._write()
        except BaseException:
            self._end(_Stage.FAILED)
            raise
        self._end(_Stage.COMMITTED)
        for call in self._after:
            call()

    async def rollback(self) -> None:
        """Forget everything. The store was never touched; objects keep their values."""
        self._check_open()
        self._end(_Stage.ROLLED_BACK)

    async def _write(self) -> None:
        changes = build_changes(self._joined.entries.values(), new_stamp())
        writes = any(change.writes for change in changes)
        if not writes and not (self._verify and (changes or self._joined.ranges)):
            return
        connection = self.database._connection
        until = connection.until()
        mutations: list[Mutation] = [change.mutation for change in changes]
        mutations += self._joined.ranges
        for bound in dict.fromkeys(change.entry.bound for change in changes):
            await bound.prepared(until)
        try:
            outcomes = await connection.driver.write(mutations, atomic=True, now=connection.now(), until=until)
        except (OutcomeUnknown, _aio.CancelledError):
            _lose(changes)
            raise
        for change, outcome in zip(changes, outcomes, strict=False):  # Ranges come behind the changes.
            change.entry.settle(change.mutation, outcome)

    def _end(self, stage: _Stage) -> None:
        """End this unit. What still comes inside its block is refused: it is not to be committed by itself."""
        self._stage = stage
        if not self._is_block:
            self._leave()

    def _leave(self) -> None:
        """Give the calls of this task back to the unit around this one, wherever that was begun.

        A unit that another task has ended meanwhile stays in force here: the calls of this task are refused.
        """
        inner = unit_variable.get()
        if inner is self:
            unit_variable.set(self._outer)
            return
        while inner is not None and inner._outer is not self:
            inner = inner._outer
        if inner is not None:
            inner._outer = self._outer

    @property
    def _is_open(self) -> bool:
        return self._stage is _Stage.OPEN

    def _check_open(self) -> None:
        if not self._is_open:
            raise Closed(
                f"this unit of work {self._stage.value}: a task must not outlive the unit it was started in, and what "
                "comes after a unit belongs outside of its block"
            )
        self.database._connection.check_usable()

    def _after_commit(self, call: Callable[[], None]) -> None:
        """Have something called once this unit is committed: it must not raise."""
        self._after.append(call)

    @property
    def _may_run_again(self) -> bool:
        """Whether nothing of this unit was written."""
        return self._stage is not _Stage.COMMITTED

    def _read_as_absent(self, keys: Iterable[tuple[str, tuple[object, ...]]]) -> bool:
        """Whether this unit had read one of these keys as absent, so that another attempt will see it taken."""
        named: set[tuple[str, tuple[object, ...]]] = set(keys)
        entries = self._joined.entries.values()
        return any(entry.seen is ABSENT and (entry.bound.table.name, entry.key) in named for entry in entries)

    # --- by object ---

    def add(self, *objs: Model) -> None:
        """Write new objects at commit; their keys have to be free then.

        Raises:
            AlreadyExists: This unit has seen that the key is taken; otherwise :meth:`commit` raises it.
            ValidationError: A field holds what can't be stored.
        """
        for obj in objs:
            bound, key = self._of(obj)
            deadline = KEEP if get_state(obj) is None else bound.default_deadline()
            self._joined.put_now(bound, obj, key, ABSENT, deadline)

    def put(self, *objs: Model) -> None:
        """Write objects at commit: new ones whatever is there, loaded ones over what was loaded.

        Raises:
            ValidationError: A field holds what can't be stored, or the key of a loaded object was changed.
        """
        for obj in objs:
            bound, key = self._of(obj)
            self._joined.put_now(bound, obj, key, expectation_of(bound, obj, key), KEEP)

    def delete(self, *objs: Model) -> None:
        """Remove the records of objects at commit: of loaded ones only what was loaded."""
        for obj in objs:
            bound, key = self._of(obj)
            entry = self._joined.entry(bound, key)
            expect = ANYTHING if entry.obj is obj else expectation_of(bound, obj, key)
            self._joined.delete_now(bound, obj, key, expect)

    def _of(self, obj: Model) -> tuple[Bound[Any], Key]:
        self._check_open()
        return type(obj).objects.using(self)._locate(obj)


def _lose(changes: list[Change]) -> None:
    """Nobody knows what became of these."""
    for change in changes:
        if change.writes:
            change.entry.lose(change.mutation)
