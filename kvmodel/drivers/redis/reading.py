"""Reads: records by key, pages of slices, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvmodel.drivers.base import Absent, Key, Row, Rows, Slice
from kvmodel.drivers.meter import spend
from kvmodel.drivers.redis.courier import Courier, Request, call
from kvmodel.drivers.redis.layout import Place
from kvmodel.drivers.redis.scans import Directories, PlainKeys
from kvmodel.drivers.redis.scripts import COUNT, RANGE, SCAN
from kvmodel.drivers.redis.writes import halves

__all__ = ["READ_BATCH", "Reader"]

READ_BATCH: Final = 1024
PAGE: Final = 1000
"""How many records a page has."""
_LONGEST_PAGE: Final = 4000
"""How many it has if just so many are wanted."""
_PAGE_BYTES: Final = 4 << 20
_COUNT_PAGE: Final = 20_000
_HEAD_END: Final = 25


class Reader:
    """How a driver reads.

    Args:
        courier: The way to the store.
        directories: What lists partitions.
        in_cluster: Whether keys are spread over slots.
    """

    def __init__(self, courier: Courier, directories: Directories, *, in_cluster: bool) -> None:
        self._courier = courier
        self._directories = directories
        self._plain_keys = PlainKeys(courier)
        self._in_cluster = in_cluster

    # --- by key -------------------------------------------------------------------------------------------------------

    async def read(
        self, place: Place, keys: Sequence[Key], *, values: bool, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked."""
        spots = [place.locate(key) for key in keys]
        found: list[bytes | None] = []
        for start in range(0, len(spots), READ_BATCH):
            part = spots[start : start + READ_BATCH]
            names = [spot.key for spot in part]
            slots = [spot.slot for spot in part]
            if values or place.is_plain:
                found += await self._contents(names, slots, until)
            else:
                requests = [
                    Request(slot, (b"GETRANGE", name, 0, _HEAD_END), may_ask=True)
                    for slot, name in zip(slots, names, strict=True)
                ]
                found += [head or None for head in await self._courier.ask(requests, until, keys=len(part))]
        load = place.codec.loader(values)
        return [Absent(key) if data is None else load(key, data, now) for key, data in zip(keys, found, strict=True)]

    async def _contents(self, names: list[bytes], slots: list[int], until: float) -> list[bytes | None]:
        if len(names) > 1 and not self._in_cluster:
            (contents,) = await self._courier.ask([Request(0, (b"MGET", *names))], until, keys=len(names))
            return list(contents)
        requests = [Request(slot, (b"GET", name), may_ask=True) for slot, name in zip(slots, names, strict=True)]
        return await self._courier.ask(requests, until, keys=len(names))

    # --- slices -------------------------------------------------------------------------------------------------------

    async def scan(self, place: Place, slice: Slice, *, values: bool, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        if slice.limit == 0:
            return Rows([])
        if slice.partition is None:
            return await self._scan_table(place, slice, values=values, now=now, until=until)
        bounds = place.bounds(slice)
        if bounds.is_empty:
            return Rows([])
        if not place.has_index:
            if bounds.low != b"-":
                return Rows([])
            (row,) = await self.read(place, [slice.partition], values=values, now=now, until=until)
            return Rows([row] if isinstance(row, Row) else [])
        limit = b"" if slice.limit is None else slice.limit
        arguments = [bounds.low, bounds.high, int(slice.reverse), _room(slice), limit, int(values), *halves(now)]
        request = call(RANGE, bounds.area.slot, [bounds.area.index_key], [*arguments, _PAGE_BYTES])
        ((there_is_more, last, *found),) = await self._courier.ask([request], until)
        spend(0, len(found) // 2)
        load, decode, partition = place.codec.loader(values), place.decode, bounds.area.partition
        rows = [
            row
            for name, data in zip(found[::2], found[1::2], strict=True)
            if isinstance(row := load(decode(partition, name), data, now), Row)
        ]
        return Rows(rows, decode(partition, last) if there_is_more else None)

    async def count(self, place: Place, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice, by their beginnings."""
        total = 0
        limit = slice.limit
        if slice.partition is not None and place.has_index:
            return await self._count_range(place, slice, now, until)
        while limit is None or total < limit:
            rest = None if limit is None else limit - total
            page, resume = await self._count_page(place, slice._replace(limit=rest), now, until)
            total += page
            if resume is None:
                break
            slice = slice._replace(after=resume)
        return total if limit is None else min(total, limit)

    async def _count_range(self, place: Place, slice: Slice, now: int, until: float) -> int:
        bounds = place.bounds(slice)
        low, total = bounds.low, 0
        while not bounds.is_empty and (slice.limit is None or total < slice.limit):
            rest = b"" if slice.limit is None else slice.limit - total
            arguments = [low, bounds.high, _COUNT_PAGE, rest, *halves(now)]
            request = call(COUNT, bounds.area.slot, [bounds.area.index_key], arguments)
            ((there_is_more, last, live, examined),) = await self._courier.ask([request], until)
            spend(0, examined)
            total += live
            if not there_is_more:
                break
            low = b"(" + last
        return total

    async def _count_page(self, place: Place, slice: Slice, now: int, until: float) -> tuple[int, Key | None]:
        if slice.partition is not None or place.is_plain:
            rows = await self.scan(place, slice, values=False, now=now, until=until)
            return len(rows.rows), rows.resume
        stretch = await self._directories.walk(
            place, SCAN, slice.after, room=_COUNT_PAGE, limit=slice.limit, more=[2, *halves(now), 0], until=until
        )
        return stretch.live, stretch.resume

    # --- tables -------------------------------------------------------------------------------------------------------

    async def _scan_table(self, place: Place, slice: Slice, *, values: bool, now: int, until: float) -> Rows:
        if place.is_plain:
            return await self._scan_plain(place, slice, now=now, until=until)
        stretch = await self._directories.walk(
            place,
            SCAN,
            slice.after,
            room=_room(slice),
            limit=slice.limit,
            more=[int(values), *halves(now), _PAGE_BYTES],
            until=until,
        )
        load, found = place.codec.loader(values), stretch.found
        rows: list[Row] = []
        for partition, name, data in zip(found[::3], found[1::3], found[2::3], strict=True):
            row = load(place.decode(partition, name), data, now)
            if isinstance(row, Row):
                rows.append(row)
        rows = rows[: slice.limit]
        return Rows(rows, None if len(rows) == slice.limit else stretch.resume)

    async def _scan_plain(self, place: Place, slice: Slice, *, now: int, until: float) -> Rows:
        after = b"" if slice.after is None else place.codec.encode_key(slice.after)
        names, there_is_more = await self._plain_keys.page(place, after, _room(slice), until)
        keys = list(map(place.codec.decode_key, names))
        found = await self.read(place, keys, values=True, now=now, until=until)
        rows = [row for row in found if isinstance(row, Row)][: slice.limit]
        return Rows(rows, keys[-1] if there_is_more and len(rows) != slice.limit else None)


def _room(slice: Slice) -> int:
    """Answer how many records a page of a slice looks at."""
    return slice.limit if slice.limit is not None and slice.limit <= _LONGEST_PAGE else PAGE
