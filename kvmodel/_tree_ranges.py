"""The nodes down to a level, and those above a node.

Theory of operation. A page of the partition is read; nodes that lie too deep are passed over; and reading goes on not
behind the last key but behind the last subtree that is of no interest (backwards: at the node on top of it). Pages grow
while all that they bring is wanted, and shrink when it is not, down to the child alone; from there they try now and
then whether a neighbour is wanted too. So a child costs about one seek however much is under it, and children without
descendants are read as a plain range is.

Known limit: a node that is missing while others are under it costs a seek as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kvmodel._tree_paths import Path, behind, below, tighter
from kvmodel.drivers.base import Edge, Key, Row, Slice
from kvmodel.errors import Unsupported
from kvmodel.query import Page, Plan, Range

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model
    from kvmodel.repository import Repository
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Ancestors", "Skip", "SkipRange"]

M = TypeVar("M", bound="Model")
T = TypeVar("T")

_FIRST_PAGE = 2
_LARGEST_PAGE = 256
_GROWTH = 4
_MOST_SINGLES = 16
_BREATH = 128
"""After how many keys other tasks are let run."""


class Skip(Generic[T]):
    """Says what to read next, and what of it is wanted. It does no I/O.

    Attributes:
        slice: What to read next; ``None`` at the end.
    """

    __slots__ = ("_deepest", "_least", "_left", "_patience", "_singles", "_size", "slice")

    def __init__(self, slice: Slice, deepest: int) -> None:
        self._deepest = deepest
        self._left = slice.limit
        self._size = _FIRST_PAGE
        self._least = 2 if slice.reverse else 1  # Backwards, what is under a child comes before it.
        self._patience = self._singles = 1
        self.slice: Slice | None = slice
        self._go_on(slice.lower, slice.upper)

    def begin_behind(self, path: Path) -> None:
        """Begin behind a path that comes from outside: it reaches nothing beyond the slice."""
        whole = self.slice
        if whole is None:
            return
        self._go_behind(path)
        if self.slice is not None:
            self._go_on(tighter(whole.lower, self.slice.lower, 1), tighter(whole.upper, self.slice.upper, -1))

    def take(self, rows: Sequence[tuple[Path, T]], resume: Path | None = None) -> list[tuple[Path, T | None]]:
        """Take what was read. ``resume`` is where to go on, should the page not be full and yet not the last.

        Answers the paths that are wanted and what was read there; forwards also, with ``None``, those of the deepest
        level where no node is, but others are below.
        """
        assert self.slice is not None
        is_full = len(rows) == self.slice.limit
        steps = self._wanted(rows, forwards=not self.slice.reverse)
        found = sum(item is not None for _, item in steps)
        if self._left is not None:
            self._left -= found
        self._adapt(found, len(rows))
        last = rows[-1][0] if is_full else resume
        if last is None:
            self.slice = None
        else:
            self._go_behind(last)
        return steps

    def _adapt(self, found: int, read: int) -> None:
        """Choose how much to read next by how much of a page was wanted."""
        if 2 * found <= read:
            self._size = max(self._size // _GROWTH, self._least)
            self._patience = self._singles = min(2 * self._patience, _MOST_SINGLES)
        elif found == read and self._size > 1:
            self._size = min(self._size * _GROWTH, _LARGEST_PAGE)
            self._patience = 1
        elif self._size == 1:
            self._singles -= 1
            self._size = 1 if self._singles else 2

    def _wanted(self, rows: Sequence[tuple[Path, T]], *, forwards: bool) -> list[tuple[Path, T | None]]:
        steps: list[tuple[Path, T | None]] = []
        for path, item in rows:
            if len(path) <= self._deepest:
                steps.append((path, item))
            elif forwards and (not steps or steps[-1][0] != path[: self._deepest]):
                steps.append((path[: self._deepest], None))
        return steps

    def _go_behind(self, path: Path) -> None:
        """Go on behind a path, and behind all under it that is of no interest."""
        assert self.slice is not None
        top = path[: self._deepest]
        if self.slice.reverse:
            self._go_on(self.slice.lower, Edge((top,), len(path) > self._deepest))
        elif len(path) < self._deepest:
            self._go_on(Edge((path,), False), self.slice.upper)
        elif (following := behind(top)) is not None:
            self._go_on(Edge((following,), True), self.slice.upper)
        else:
            self.slice = None

    def _go_on(self, lower: Edge | None, upper: Edge | None) -> None:
        assert self.slice is not None
        size = self._size if self._left is None else min(self._size, self._left)
        self.slice = self.slice._replace(lower=lower, upper=upper, limit=size) if size else None


class SkipRange(Range[M]):
    """The nodes of a slice down to a level, depth first."""

    __slots__ = ("_deepest",)

    def __init__(
        self,
        repository: Repository[M, *tuple[Any, ...]],
        slice: Slice,
        deepest: int,
        *,
        checked: bool = True,
        allow_costly: bool = False,
    ) -> None:
        super().__init__(repository, slice, checked=checked, allow_costly=allow_costly)
        self._deepest = deepest

    async def _list(self) -> list[M]:
        bound, unit = self._where()
        pages = self._pages(bound, unit, whole=True)
        return [node async for steps in pages for _, node in steps if node is not None]

    async def __aiter__(self) -> AsyncIterator[M]:
        bound, unit = self._where()
        if unit is not None:  # What the loop changes in the unit must not change what it loops over.
            for node in await self._list():
                yield node
            return
        async for steps in self._pages(bound, None, whole=False):
            for _, found in steps:
                if found is not None:
                    yield found

    async def places(self) -> list[tuple[Path, M | None]]:
        """Answer the nodes with their paths, and the paths of the deepest level that only have nodes below them."""
        bound, unit = self._where()
        return [step async for steps in self._pages(bound, unit, whole=True) for step in steps]

    async def paths(self) -> list[Path]:
        """Answer the paths alone, without moving values where the store can."""
        bound, unit = self._where()
        if unit is not None:
            return [path for path, _ in await self.places()]
        return [path async for steps in self._rows(bound, values=False) for path, _ in steps]

    async def count(self) -> int:
        """Count the nodes. Costs what reading them costs, but for their values."""
        bound = self._outside_unit("count()")
        found = 0
        async for steps in self._rows(bound, values=False):
            found += sum(row is not None for _, row in steps)
        return found

    async def delete(self) -> int:
        """Refuse: it would leave everything below without a parent."""
        raise Unsupported("this would leave what is below: delete a whole subtree with tree.delete_subtree(...)")

    def explain(self) -> Plan:
        """Say what will be sent and what it costs. Sends nothing."""
        plan = super().explain()
        step = f"{plan.steps[0]}, skipping what has more than {self._deepest} parts: about one seek for each node found"
        return Plan(plan.store, (step,), None, None)

    # --- inside ---

    async def _pages(
        self, bound: Bound[M], unit: UnitOfWork | None, *, whole: bool
    ) -> AsyncIterator[list[tuple[Path, M | None]]]:
        if unit is None:
            load = bound.schema.load
            async for steps in self._rows(bound, whole=whole):
                yield [(path, None if row is None else load(row)) for path, row in steps]
            return
        skip: Skip[M] = Skip(self._slice, self._deepest)
        while skip.slice is not None:
            nodes = await unit._joined.scan(bound, skip.slice, checked=self._checked)
            yield skip.take([(_path_of(bound.schema.key_of(node)), node) for node in nodes])

    async def _rows(
        self, bound: Bound[M], *, values: bool = True, whole: bool = True, after: Path | None = None
    ) -> AsyncIterator[list[tuple[Path, Row | None]]]:
        """Read page by page. The time limit is that of the whole, or of each page."""
        until = await bound.prepared()
        read = 0
        skip: Skip[Row] = Skip(self._slice, self._deepest)
        if after is not None:
            skip.begin_behind(after)
        while skip.slice is not None:
            page = await bound.driver.scan(bound.table, skip.slice, values=values, now=bound.now(), until=until)
            resume = None if page.resume is None else _path_of(page.resume)
            yield skip.take([(_path_of(row.key), row) for row in page.rows], resume)
            read += len(page.rows)
            until = until if whole else bound.until()
            if read >= _BREATH and skip.slice is not None:
                read = 0
                await bound.breathe(until)

    def _identity(self, bound: Bound[M]) -> tuple[object, ...]:
        return (*super()._identity(bound), self._deepest)

    async def _behind(self, bound: Bound[M], after: Key | None, limit: int) -> list[M]:
        limited = self._like(self._slice._replace(limit=limit), checked=self._checked)
        pages = limited._rows(bound, after=None if after is None else _path_of(after))
        return [bound.schema.load(row) async for steps in pages for _, row in steps if row is not None]

    def _like(self, slice: Slice, *, checked: bool) -> SkipRange[M]:
        return SkipRange(self._repository, slice, self._deepest, checked=checked, allow_costly=self._allow_costly)


class Ancestors(Range[M]):
    """The nodes on the way from the root to a node, which is not among them. Read by key, all at once."""

    __slots__ = ("_path",)

    def __init__(self, repository: Repository[M, *tuple[Any, ...]], partition: Key, path: Path) -> None:
        super().__init__(repository, below(partition, path[:1]))
        self._path = path

    def _keys(self) -> list[Key]:
        partition = self._slice.partition or ()
        return [(*partition, self._path[:length]) for length in range(1, len(self._path))]

    async def _list(self) -> list[M]:
        bound, unit = self._repository._where()
        found = await self._repository._session(unit).find_many(bound, self._keys())
        return [node for node in found if node is not None]

    async def __aiter__(self) -> AsyncIterator[M]:
        for node in await self._list():
            yield node

    async def count(self) -> int:
        """Count the nodes that are there. Costs what reading them costs."""
        return len(await self._list())

    async def page(self, size: int, token: str | None = None) -> Page[M]:
        """Refuse: ancestors come all at once."""
        raise Unsupported("ancestors are read by key, all at once, and have no pages: await them")

    async def delete(self) -> int:
        """Refuse: it would leave everything below without a parent."""
        raise Unsupported("this would leave what is below: delete a whole subtree with tree.delete_subtree(...)")

    def explain(self) -> Plan:
        """Say what will be sent and what it costs. Sends nothing."""
        bound, _ = self._repository._where()
        keys = len(self._keys())
        capabilities = bound.driver.capabilities
        trips = -(-keys // max(capabilities.max_read_batch, 1))
        return Plan(capabilities.store, (f"read {bound.table.name} by key, above {self._path!r}",), trips, keys)

    def _like(self, slice: Slice, *, checked: bool) -> Ancestors[M]:
        return self  # Neither a limit nor an unchecked range changes what is read by key.


def _path_of(key: Key) -> Path:
    return cast("Path", key[-1])
