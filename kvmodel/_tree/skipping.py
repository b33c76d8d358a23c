"""Reading the upper levels of a tree, whatever lies under them.

Theory of operation. A store that goes to places by itself (the ``SkipStore`` facet) is asked for pages. Others are
asked for slices: a page of the partition is read; nodes that lie too deep are passed over; and reading goes on not
behind the last key but behind the last subtree that is of no interest (backwards: at the node on top of it). Pages grow
while all that they bring is wanted, and shrink when it is not, down to the child alone; from there they try now and
then whether a neighbour is wanted too. So a child costs about one seek however much is under it, and children without
descendants are read as a plain range is.

Known limit: a node that is missing while others are under it costs a seek as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

from kvmodel._tree.paths import Path, behind, tighter
from kvmodel.drivers.base import Absent, Edge, Key, Row, Slice
from kvmodel.drivers.facets import SkipStore

if TYPE_CHECKING:
    from kvmodel._binding import Bound

__all__ = ["Skip", "path_of", "read_levels"]

T = TypeVar("T")

_FIRST_PAGE: Final = 2
_LARGEST_PAGE: Final = 256
_GROWTH: Final = 4
_MOST_SINGLES: Final = 16
_BREATH: Final = 128
"""After how many nodes other tasks are let run."""


async def read_levels(
    bound: Bound[Any], slice: Slice, deepest: int, *, values: bool, whole: bool, after: Key | None
) -> AsyncIterator[list[Row | Absent]]:
    """Read page by page what has ``deepest`` parts at the most.

    Forwards, what lies deeper is told of by an ``Absent`` for the node of the deepest level that is not there.

    Args:
        values: Whether they are wanted.
        whole: Whether the time limit is that of the whole, or of each page; which then begin small.
        after: Where to go on; it may come from outside, and reaches nothing beyond the slice.
    """
    until = await bound.prepared()
    store = bound.driver.facet(SkipStore) if bound.table.layout == "record" else None
    pages: _Pages
    if store is None:
        pages = _Slices(bound, slice, deepest, after)
    else:
        pages = _Leaps(bound, store, slice._replace(after=after), deepest, small=not whole)
    read = 0
    while pages.slice is not None:
        rows = await pages.read(values, until)
        yield rows
        read += len(rows)
        until = until if whole else bound.until()
        if read >= _BREATH and pages.slice is not None:
            read = 0
            await bound.breathe(until)


class _Pages(Protocol):
    """A way to read, page by page. ``slice`` is what is left, ``None`` at the end."""

    slice: Slice | None

    async def read(self, values: bool, until: float) -> list[Row | Absent]:
        """Read the next page."""
        ...


class _Leaps(_Pages):
    """The store skips by itself."""

    def __init__(self, bound: Bound[Any], store: SkipStore, slice: Slice, deepest: int, *, small: bool) -> None:
        self._bound = bound
        self._store = store
        self._deepest = deepest
        self._size = 1 if small else None
        self.slice = None if slice.limit == 0 else slice

    async def read(self, values: bool, until: float) -> list[Row | Absent]:
        bound, slice = self._bound, self.slice
        assert slice is not None
        wanted = min((size for size in (self._size, slice.limit) if size is not None), default=None)
        rows, after = await self._store.skip_scan(
            bound.table, slice._replace(limit=wanted), self._deepest, values=values, now=bound.now(), until=until
        )
        left = slice.limit
        if wanted is not None:
            found = sum(isinstance(row, Row) for row in rows)
            after = rows[-1].key if found == wanted else after
            left = None if left is None else left - found
        if self._size is not None:
            self._size = min(self._size * _GROWTH, _LARGEST_PAGE)
        self.slice = None if after is None or left == 0 else slice._replace(after=after, limit=left)
        return rows


class _Slices(_Pages):
    """What is to be skipped is left out between one slice and the next."""

    def __init__(self, bound: Bound[Any], slice: Slice, deepest: int, after: Key | None) -> None:
        self._bound = bound
        self._skip: Skip[Row] = Skip(slice, deepest)
        if after is not None:
            self._skip.begin_behind(path_of(after))
        self.slice = self._skip.slice

    async def read(self, values: bool, until: float) -> list[Row | Absent]:
        bound, slice = self._bound, self._skip.slice
        assert slice is not None
        page = await bound.driver.scan(bound.table, slice, values=values, now=bound.now(), until=until)
        resume = None if page.resume is None else path_of(page.resume)
        steps = self._skip.take([(path_of(row.key), row) for row in page.rows], resume)
        self.slice = self._skip.slice
        return [Absent((*(slice.partition or ()), path)) if row is None else row for path, row in steps]


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


def path_of(key: Key) -> Path:
    """The path at the end of a key."""
    return cast("Path", key[-1])
