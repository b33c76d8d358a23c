"""Operations inside a unit of work: the same names as outside (:mod:`kvmodel._direct`), remembered until its commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kvmodel._commit import Entry, Intent
from kvmodel._deadlines import Deadline
from kvmodel._direct import apply_changes, not_found
from kvmodel.drivers.base import ABSENT, ANYTHING, CheckRange, Expectation, Key, Row, Slice, Table
from kvmodel.errors import Unsupported, ValidationError
from kvmodel.model import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvmodel._binding import Bound
    from kvmodel.model import Model

__all__ = ["Joined"]

M = TypeVar("M", bound="Model")


class Joined:
    """The identity map of a unit of work, and the ranges it read.

    Attributes:
        entries: What the unit knows, by table and key, in the order in which it came to know it.
        ranges: The ranges it read and has to find unchanged.
        pending: How many calls are under way.
    """

    def __init__(self, check_open: Callable[[], None]) -> None:
        self._check_open = check_open
        self.entries: dict[tuple[Table, Key], Entry[Any]] = {}
        self.ranges: list[CheckRange] = []
        self.pending = 0

    # --- reading ---

    async def find(self, bound: Bound[M], key: Key) -> M | None:
        return self._answer(await self._see(bound, key))

    async def find_many(self, bound: Bound[M], keys: Sequence[Key]) -> list[M | None]:
        self._check_open()
        unread = [key for key in dict.fromkeys(keys) if not self.entry(bound, key).known]
        if unread:
            with self._reading(bound):
                rows = await bound.read_many(unread)
            for key, row in zip(unread, rows, strict=True):
                self._remember(bound, key, row if isinstance(row, Row) else None)
        return [self._answer(self.entry(bound, key)) for key in keys]

    async def exists(self, bound: Bound[M], key: Key) -> bool:
        self._check_open()
        entry = self.entry(bound, key)
        if not entry.known:
            with self._reading(bound):
                row = await bound.read(key, values=False)
            if not entry.known:
                entry.witness(row.version if isinstance(row, Row) else ABSENT)
                entry.covered = False
        entry.checked = True
        return entry.is_live

    async def refresh(self, bound: Bound[M], obj: M, key: Key) -> None:
        self._check_open()
        with self._reading(bound):
            row = await bound.read(key)
        entry = self.entry(bound, key)
        if entry.obj is not None and entry.obj is not obj:
            raise ValidationError(
                "this unit of work has another object for this record: refresh that one",
                table=bound.table.name,
                key=key,
            )
        entry.witness(row.version if isinstance(row, Row) else ABSENT)
        entry.covered, entry.checked = False, True
        if entry.intent is Intent.DELETE or not isinstance(row, Row):
            raise not_found(bound, key)
        bound.schema.load_into(obj, row)
        entry.track(obj)

    async def scan(self, bound: Bound[M], slice: Slice, *, checked: bool = True) -> list[M]:
        """Answer a slice as this unit sees it: what is stored, with its own pending changes."""
        self._check_open()
        if checked and not bound.driver.capabilities.range_checks:
            raise Unsupported(
                "this store can't tell at commit whether a range has changed: read it with .unchecked(), which "
                "protects neither its rows nor against newcomers, or get the records by key",
                table=bound.table.name,
                store=bound.driver.address,
            )
        if slice.limit == 0:
            return []
        limit = slice.limit
        while True:
            gone = sum(not entry.is_live for entry in self._within(bound, slice))
            wanted = slice if limit is None else slice._replace(limit=limit + gone)
            with self._reading(bound, conditional=checked):
                rows = await _read_slice(bound, wanted)
            if checked:
                self.ranges.append(CheckRange(bound.table, wanted, tuple((row.key, row.version) for row in rows)))
            for row in rows:
                self._remember_ranged(bound, row, checked)
            found = self._merge(bound, slice, rows)
            # Unless what is missing was deleted by this unit meanwhile, in another task.
            if limit is None or len(found) == limit or len(rows) < limit + gone:
                return found

    def _merge(self, bound: Bound[M], slice: Slice, rows: Sequence[Row]) -> list[M]:
        """Answer the first live objects among what was read and what this unit put into the slice."""
        order = bound.order.encode_key
        entries = {row.key: self.entry(bound, row.key) for row in rows}
        entries.update((entry.key, entry) for entry in self._within(bound, slice))
        ordered = sorted(entries.values(), key=lambda entry: order(entry.key), reverse=slice.reverse)
        live = [obj for entry in ordered if (obj := _live(entry)) is not None]
        return live if slice.limit is None else live[: slice.limit]

    def _within(self, bound: Bound[M], slice: Slice) -> list[Entry[M]]:
        """The entries that this unit put into a slice or deleted from it."""
        start, stop = bound.order.bounds(slice)
        order = bound.order.encode_key
        return [
            entry
            for (table, key), entry in self.entries.items()
            if table is bound.table and entry.intent is not Intent.KEEP and start <= order(key) < stop
        ]

    # --- writing ---

    async def put(self, bound: Bound[M], obj: M, key: Key, expect: Expectation, deadline: Deadline) -> None:
        self._check_open()
        self.put_now(bound, obj, key, expect, deadline)

    def put_now(self, bound: Bound[M], obj: M, key: Key, expect: Expectation, deadline: Deadline) -> None:
        """Mean to write an object; it is validated now, and encoded at commit."""
        bound.schema.dump(obj)
        self.entry(bound, key).put(obj, expect, deadline)

    async def delete(self, bound: Bound[M], obj: M, key: Key, expect: Expectation) -> bool:
        self._check_open()
        self.delete_now(bound, obj, key, expect)
        return True

    def holds(self, bound: Bound[M], key: Key, obj: M) -> bool:
        """Whether an object is the one that stands for a record in this unit."""
        entry = self.entries.get((bound.table, key))
        return entry is not None and entry.obj is obj

    def delete_now(self, bound: Bound[M], obj: M, key: Key, expect: Expectation) -> None:
        """Mean to delete an object's record."""
        entry = self.entry(bound, key)
        entry.delete(expect)
        entry.obj = obj

    async def delete_key(self, bound: Bound[M], key: Key) -> bool:
        existed = await self.exists(bound, key)
        if existed:
            self.entry(bound, key).delete(ANYTHING)
        return existed

    async def update(self, bound: Bound[M], key: Key, changes: Mapping[str, object]) -> M:
        entry = await self._see(bound, key)
        obj = self._answer(entry)
        if obj is None:
            raise not_found(bound, key)
        values = apply_changes(obj, changes)
        changed = replace(obj, **values)
        bound.schema.dump(changed)  # Every constraint and every type is right before anything is changed.
        if bound.schema.is_frozen:
            entry.obj = changed
            return changed
        for name in values:
            setattr(obj, name, getattr(changed, name))
        return obj

    async def expire(self, bound: Bound[M], key: Key, deadline: int | None) -> None:
        entry = await self._see(bound, key)
        if self._answer(entry) is None:
            raise not_found(bound, key)
        entry.deadline = deadline

    # --- inside ---

    def entry(self, bound: Bound[M], key: Key) -> Entry[M]:
        entry = self.entries.get((bound.table, key))
        if entry is None:
            entry = self.entries[bound.table, key] = Entry(bound, key)
        return entry

    async def _see(self, bound: Bound[M], key: Key) -> Entry[M]:
        """Answer the entry of a key, read if it was not."""
        self._check_open()
        entry = self.entry(bound, key)
        if not entry.known:
            with self._reading(bound):
                row = await bound.read(key)
            self._remember(bound, key, row if isinstance(row, Row) else None)
        return entry

    @staticmethod
    def _answer(entry: Entry[M]) -> M | None:
        """Answer the object of a key that was asked for, which is checked even if an unchecked range had read it."""
        entry.checked = True
        return _live(entry)

    def _remember(self, bound: Bound[M], key: Key, row: Row | None) -> None:
        """Take down what was read by key. Another call may have been faster: then only versions are compared."""
        entry = self.entry(bound, key)
        if entry.intent is not Intent.KEEP:
            return
        entry.witness(ABSENT if row is None else row.version)
        entry.covered, entry.checked = False, True
        if row is not None and entry.obj is None:
            entry.track(bound.schema.load(row))

    def _remember_ranged(self, bound: Bound[M], row: Row, checked: bool) -> None:
        """Take down what was read by a range; a row that was read by key before stays checked by itself."""
        entry = self.entry(bound, row.key)
        if not entry.known and not entry.was_read:
            entry.covered = entry.checked = checked
        if entry.intent is Intent.KEEP or entry.was_read:
            entry.witness(row.version)
        if entry.intent is Intent.KEEP and entry.obj is None:
            entry.track(bound.schema.load(row))

    @contextmanager
    def _reading(self, bound: Bound[Any], *, conditional: bool = True) -> Iterator[None]:
        """A read of this unit is under way; it must be one that can be verified at commit."""
        capabilities = bound.driver.capabilities
        if conditional and not capabilities.conditional:
            raise Unsupported(
                "this store can't verify at commit what a unit of work has read: read outside of the unit, and write "
                "with db.batch() or save(obj, force=True)",
                table=bound.table.name,
                store=bound.driver.address,
            )
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1
        self._check_open()


def _live(entry: Entry[M]) -> M | None:
    return None if entry.intent is Intent.DELETE else entry.obj


async def _read_slice(bound: Bound[Any], slice: Slice) -> list[Row]:
    until = await bound.prepared()
    rows: list[Row] = []
    limit = slice.limit
    while True:
        page = await bound.driver.scan(bound.table, slice, now=bound.now(), until=until)
        rows += page.rows
        if page.resume is None or (limit is not None and len(rows) >= limit):
            return rows
        slice = slice._replace(after=page.resume, limit=None if limit is None else limit - len(rows))
        await bound.breathe(until)
