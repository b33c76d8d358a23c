"""What is done to a queue as a whole: old messages go, dead letters come back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from kvmodel import _aio
from kvmodel._bulk import Bulk
from kvmodel._queue.desk import notify
from kvmodel._queue.ids import first_id
from kvmodel._queue.layout import READY
from kvmodel._queue.place import Place, id_of
from kvmodel.drivers.base import ANYTHING, Delete, Edge, Row, Slice
from kvmodel.errors import Conflict

__all__ = ["purge", "redrive"]

_PAGE = 250


async def purge(place: Place, before: int) -> int:
    """Remove the messages of a partition that were put before a moment, and answer how many."""
    await place.tables.prepared()
    bulk: Bulk[object] = Bulk(place.tables.messages)  # type: ignore[type-var]
    removed = 0
    slice = Slice(place.partition, upper=Edge((first_id(before),), False))
    async for rows in _pages(place, dead=False, slice=slice, limit=None):
        messages = [Delete(place.tables.messages.table, row.key, ANYTHING) for row in rows]
        removed += await bulk.remove(messages, done=removed)
        if (
            place.tables.has_tickets
        ):  # Of those that wait. Those that were taken or delayed have others, which nobody misses.
            tickets = [place.ticket_key(READY, id_of(row.key)) for row in rows]
            await bulk.remove([Delete(place.tables.tickets.table, key, ANYTHING) for key in tickets], done=removed)
    return removed


async def redrive(place: Place, limit: int | None) -> int:
    """Take dead letters back into the queue, the oldest first, and answer how many."""
    await place.tables.prepared()
    revived = 0
    async for rows in _pages(place, dead=True, slice=Slice(place.partition), limit=limit):
        for start in range(0, len(rows), place.tables.most):
            revived += await _revive(place, rows[start : start + place.tables.most])
        notify(place)
    return revived


async def _revive(place: Place, rows: Sequence[Row]) -> int:
    if place.tables.is_atomic:
        with suppress(Conflict):
            await place.tables.commit([mutation for row in rows for mutation in place.revive(row)])
            return len(rows)
    return sum([await _revive_one(place, row) for row in rows])


async def _revive_one(place: Place, row: Row) -> bool:
    """Take one back, unless somebody else does. If it was put anew meanwhile, only the letter goes."""
    try:
        await place.tables.commit(place.revive(row))
    except Conflict:
        is_there = isinstance(await place.tables.messages.read(row.key, values=False), Row)
        if is_there and place.tables.is_atomic:
            with suppress(Conflict):
                await place.tables.commit([place.drop_letter(row)])
        return False
    return True


async def _pages(place: Place, *, dead: bool, slice: Slice, limit: int | None) -> AsyncIterator[list[Row]]:
    """Yield the rows of a slice, page by page. They may be removed meanwhile."""
    bound = place.tables.dead if dead else place.tables.messages
    while limit is None or limit > 0:
        wanted = _PAGE if limit is None else min(_PAGE, limit)
        page = await bound.driver.scan(
            bound.table, slice._replace(limit=wanted), values=dead, now=bound.now(), until=bound.until()
        )
        if page.rows:
            yield page.rows
        if limit is not None:
            limit -= len(page.rows)
        after = page.resume or (page.rows[-1].key if len(page.rows) == wanted else None)
        if after is None:
            return
        slice = slice._replace(after=after)
        await _aio.give_way()
