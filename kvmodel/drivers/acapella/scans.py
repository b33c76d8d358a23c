"""Reading: records by key, and slices page by page.

Deleted rows that a range still shows are passed over, and count for the store's limit but not for the slice's: pages
are asked for until enough living ones were found. Backwards, rows are read from the front all the same, and the last
ones kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

from kvmodel.drivers.acapella.keys import Address
from kvmodel.drivers.acapella.layout import MAX_KEY_BYTES, PAGE, Place
from kvmodel.drivers.acapella.protocol import Call, Found, Node, RowItem
from kvmodel.drivers.acapella.session import Session
from kvmodel.drivers.acapella.slices import Span, lone, span_of
from kvmodel.drivers.base import Absent, Costs, Key, Row, Rows, Slice
from kvmodel.drivers.bytestore import FIRST_PAGE
from kvmodel.drivers.meter import spend
from kvmodel.errors import ProtocolError, TimedOut, ValidationError

__all__ = ["Scan", "costs_of"]

T = TypeVar("T")

_AT_ONCE: Final = 16
_LEAST: Final = 16


class Scan:
    """One call that reads.

    Args:
        session: Where to ask.
        place: The table.
        until: When it has to be over.
    """

    def __init__(self, session: Session, place: Place, until: float) -> None:
        self._session = session
        self._place = place
        self._until = until

    # --- by key -------------------------------------------------------------------------------------------------------

    async def read(self, keys: Sequence[Key], *, values: bool) -> list[Row | Absent]:
        """Read records by key, some of them at once."""
        addresses = [self._place.address(key) for key in keys]
        if len(keys) == 1:
            return [await self._read_one(keys[0], addresses[0], values)]
        rows: list[Row | Absent] = []
        pairs = list(zip(keys, addresses, strict=True))
        for begin in range(0, len(pairs), _AT_ONCE):
            some = pairs[begin : begin + _AT_ONCE]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._read_one(key, address, values)) for key, address in some]
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None  # One is enough to know; the others were cancelled.
            rows += [task.result() for task in tasks]
        return rows

    async def _read_one(self, key: Key, address: Address, values: bool) -> Row | Absent:
        spend(0, 1)
        return self._place.load(key, await self._call(self._place.get_call(address)), values)

    # --- slices -------------------------------------------------------------------------------------------------------

    async def page(self, slice: Slice, *, values: bool) -> Rows:
        """Read one page of a slice; backwards, all of it."""
        assert slice.partition is not None
        if slice.limit == 0:
            return Rows([])
        clustering = lone(slice, self._place.width)
        if clustering is not None:
            return Rows(await self._read_lone(slice, clustering, values))
        partition = self._place.keys.partition(slice.partition)
        span = span_of(slice, self._place.keys, self._place.width, MAX_KEY_BYTES)
        if span is None:
            return Rows([])
        if slice.reverse:
            return Rows(await self._backwards(slice, partition, span, values))
        return await self._forwards(slice, partition, span, values)

    async def count(self, slice: Slice) -> int:
        """Count the living rows of a slice."""
        total = 0
        while slice.limit is None or total < slice.limit:
            left = None if slice.limit is None else slice.limit - total
            page = await self.page(slice._replace(limit=left, reverse=False), values=False)
            total += len(page.rows)
            if page.resume is None:
                break
            slice = slice._replace(after=page.resume)
        return total

    async def _read_lone(self, slice: Slice, clustering: Key, values: bool) -> list[Row]:
        """Read a slice that is one key at the most, should its other bounds let that key in."""
        assert slice.partition is not None
        keys, width = self._place.keys, self._place.width
        span = span_of(slice._replace(prefix=()), keys, width, MAX_KEY_BYTES)
        if span is None or not span.lets_in(keys.clustering_texts(clustering)):
            return []
        key = (*slice.partition, *clustering)
        try:
            address = self._place.address(key)
        except ValidationError:  # No record has such a key.
            return []
        found = await self._read_one(key, address, values)
        return [found] if isinstance(found, Row) else []

    async def _forwards(self, slice: Slice, partition: tuple[str, ...], span: Span, values: bool) -> Rows:
        assert slice.partition is not None
        limit = slice.limit
        rows: list[Row] = await self._first(slice.partition, partition, span, values)
        if len(rows) == limit:
            return Rows(rows)
        asked = FIRST_PAGE if slice.after is None and limit is None else PAGE
        wanted = None if limit is None else limit - len(rows)
        async for items, behind in self._pages(partition, span, asked, wanted):
            for item in items:
                rows.append(self._load(slice.partition, item, values))
                if len(rows) == limit:
                    return Rows(rows)
            if rows and behind is not None:
                return Rows(rows, self._place.keys.key(slice.partition, behind))
        return Rows(rows)

    async def _backwards(self, slice: Slice, partition: tuple[str, ...], span: Span, values: bool) -> list[Row]:
        """Read all of it, and answer the last ones, the very last first."""
        assert slice.partition is not None
        kept: deque[Row] = deque(await self._first(slice.partition, partition, span, values), maxlen=slice.limit)
        async for items, _ in self._pages(partition, span, PAGE, None):
            kept.extend([self._load(slice.partition, item, values) for item in items])
        return list(reversed(kept))

    async def _first(self, key: Key, partition: tuple[str, ...], span: Span, values: bool) -> list[Row]:
        """Read the row that a range of the store would leave out."""
        if span.first is None:
            return []
        spend(0, 1)
        found = await self._call(self._place.get_call(Address(partition, span.first)))
        row = self._place.load(self._place.keys.key(key, span.first), found, values)
        return [row] if isinstance(row, Row) else []

    async def _pages(
        self, partition: tuple[str, ...], span: Span, asked: int, wanted: int | None
    ) -> AsyncIterator[tuple[list[RowItem | Node], tuple[str, ...] | None]]:
        """Read page after page. Yields the living rows, and where to go on; ``None`` at the end.

        Pages of few rows grow, should all that comes be deleted.
        """
        room = asked if wanted is None else wanted
        while not span.is_empty:
            items, limit = await self._range(partition, span, min(room, asked))
            is_last = len(items) < limit or items[-1].key == span.last
            living = [item for item in items if item.value is not None and span.holds(item.key)]
            yield living, None if is_last else items[-1].key
            if is_last:
                return
            span = span._replace(first=None, after=items[-1].key)
            room = max(room * 4, _LEAST)

    async def _range(self, partition: tuple[str, ...], span: Span, limit: int) -> tuple[Sequence[RowItem | Node], int]:
        """Read one page, of fewer rows if the reply would be too long; answer it, and for how many it had room."""
        limit = min(limit, self._place.room)
        while True:
            call = self._place.range_call(partition, span, limit)
            try:
                items, size = await self._call(_sized(call))
            except ProtocolError:
                if limit == 1:
                    raise
                limit = max(limit // 8, 1)
                self._place.room = limit
                continue
            self._place.measure(len(items), size)
            spend(0, len(items))
            if len(items) > limit:
                raise ProtocolError("the server sent more rows than were asked for", store=self._session.store)
            return items, limit

    def _load(self, partition: Key, item: RowItem | Node, values: bool) -> Row:
        version = item.version if isinstance(item, RowItem) else 0
        row = self._place.load(self._place.keys.key(partition, item.key), Found(version, item.value), values)
        assert isinstance(row, Row)
        return row

    async def _call(self, call: Call[T]) -> T:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimedOut("time ran out while reading: raise the timeout, or read less", store=self._session.store)
        return await self._session.call(call, timeout=left)


def _sized(call: Call[T]) -> Call[tuple[T, int]]:
    """Have a reply come with the size of its body."""
    read = call.read
    return Call(call.method, call.path, lambda body: (read(body), len(body)), call.query)


def costs_of(slice: Slice, place: Place) -> Costs | None:
    """Say what a slice costs where that is not one request a page."""
    if slice.partition is None:
        return None
    if lone(slice, place.width) is not None:
        return Costs((), 1, 1)
    span = span_of(slice, place.keys, place.width, MAX_KEY_BYTES)
    if span is None:
        return Costs((), 0, 0)
    if slice.reverse:
        return Costs(("read all of it forwards, and keep the last ones",))
    if span.first is None:
        return None
    step = f"read {place.table.name} {span.first!r} by key before it, as a range of this store leaves its first key out"
    limit = slice.limit
    return Costs((step,), 2 if limit is not None and limit <= PAGE else None, None if limit is None else limit + 1)
