"""Taking messages: look at the beginning of the tickets, and make leases of what is due.

Several consumers may look at the same time and see the same tickets; one of them gets them. Whoever lost looks again,
further on and at random, so that many consumers in several processes get out of each other's way.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from kvmodel._direct import pause
from kvmodel._queue.layout import READY
from kvmodel._queue.place import Lease, Place, attempts_of, due_of, id_of
from kvmodel._queue.tables import Step
from kvmodel.drivers.base import Edge, Outcome, Row, Slice
from kvmodel.errors import Conflict, DecodingError, StoreError, TimedOut

__all__ = ["Wish", "give_back", "keep", "next_due", "renew", "take"]

_WIDE = 64
"""How many tickets are looked at where those that are looked at first come to nothing."""


_TIMED = Edge((READY + 1,), True)


class Wish(NamedTuple):
    """How messages are to be taken.

    Attributes:
        lease: For how long, in microseconds.
        max_attempts: After how many attempts a message is dead.
    """

    lease: int
    max_attempts: int | None


class _Plan(NamedTuple):
    """What becomes of one ticket: a lease, or ``None`` where the message is gone or dies."""

    step: Step
    lease: Lease | None


async def take(place: Place, count: int, wish: Wish) -> list[Lease]:
    """Take up to ``count`` messages; fewer only if no more are due.

    Raises:
        TimedOut: Every race was lost until the time limit.
    """
    leases: list[Lease] = []
    until, attempt, wide = place.tables.messages.until(), 0, 0
    try:
        while len(leases) < count:
            wanted = min(count - len(leases), place.tables.most)
            tickets = await _look(place, max(wanted, min(wide, place.tables.most)))
            if not tickets:
                break
            if attempt:
                tickets = _neighbours(tickets, wanted)
            won = await _lease(place, await _plan(place, tickets, wanted, wish))
            if won is None:
                attempt, wide = attempt + 1, _WIDE
                if not await pause(attempt, until):
                    raise _lost_every_race(place)
            else:
                leases += won
                wide = 0 if won else _WIDE
    except StoreError:
        if not leases:
            raise
    return leases


async def next_due(place: Place) -> int | None:
    """Answer when the next ticket is due that has a time, which may be over; ``None`` if no ticket has."""
    timed = await _scan(place, Slice(place.partition, lower=_TIMED, limit=1))
    return due_of(timed[0].key) if timed else None


async def _look(place: Place, count: int) -> list[Row]:
    """Read the first tickets that are due: those whose time has come, then those that have none."""
    by_now = Edge((place.tables.now(),), True)
    due = await _scan(place, Slice(place.partition, lower=_TIMED, upper=by_now, limit=count))
    if len(due) < count:
        due += await _scan(place, Slice(place.partition, prefix=(READY,), limit=count - len(due)))
    return due


async def _scan(place: Place, slice: Slice) -> list[Row]:
    """Read the first tickets of a slice, as many as its limit says."""
    bound, limit = place.tables.tickets, slice.limit or 0
    rows: list[Row] = []
    while True:
        page = await bound.driver.scan(bound.table, slice, now=bound.now(), until=bound.until())
        rows += page.rows
        if page.resume is None or len(rows) >= limit:
            return rows
        slice = slice._replace(after=page.resume, limit=limit - len(rows))


def _neighbours(tickets: list[Row], count: int) -> list[Row]:
    """Choose some that stand together, anywhere."""
    start = random.randrange(max(len(tickets) - count, 0) + 1)  # noqa: S311 - not a secret
    return tickets[start : start + count]


async def _plan(place: Place, tickets: Sequence[Row], count: int, wish: Wish) -> list[_Plan]:
    """Say what is to become of these tickets: at most ``count`` leases, and what else is found on the way."""
    found = await _read(place, [id_of(ticket.key) for ticket in tickets])
    until = place.tables.now() + wish.lease
    plans: list[_Plan] = []
    for ticket in tickets:
        plan = _plan_one(place, ticket, found.get(id_of(ticket.key)), until, wish)
        plans.append(plan)
        count -= plan.lease is not None
        if not count:
            break
    return plans


def _plan_one(place: Place, ticket: Row, message: Row | DecodingError | None, until: int, wish: Wish) -> _Plan:
    key, version = ticket.key, ticket.version
    if message is None:
        return _Plan([place.drop_ticket(key, version)], None)
    attempts = attempts_of(ticket)
    if wish.max_attempts is not None and attempts >= wish.max_attempts and isinstance(message, Row):
        try:
            return _Plan(place.bury(message, key, version), None)
        except DecodingError as error:
            message = error
    step = place.move(key, version, until, attempts + 1)
    return _Plan(step, Lease(place, step[0].key, b"", attempts + 1, due_of(key), message))


async def _read(place: Place, ids: Sequence[UUID]) -> dict[UUID, Row | DecodingError]:
    """Read messages. One that can't be read harms no other."""
    try:
        rows = await place.tables.messages.read_many([place.message_key(id) for id in ids])
    except DecodingError as error:
        if len(ids) == 1:
            return {ids[0]: error}
        found: dict[UUID, Row | DecodingError] = {}
        for id in ids:
            found |= await _read(place, [id])
        return found
    return {id: row for id, row in zip(ids, rows, strict=True) if isinstance(row, Row)}


async def _lease(place: Place, plans: Sequence[_Plan]) -> list[Lease] | None:
    """Carry plans out. Answers the leases that came of it, ``None`` if all is lost to others."""
    if place.tables.is_atomic:
        try:
            return list(_made(plans, await place.tables.commit([each for plan in plans for each in plan.step])))
        except Conflict:
            return None
    leases: list[Lease] = []
    done = 0
    for plan in plans:
        try:
            leases += _made([plan], await place.tables.commit(plan.step))
            done += 1
        except Conflict:
            continue
    return leases if done else None


def _made(plans: Sequence[_Plan], outcomes: Sequence[Outcome]) -> Iterator[Lease]:
    """Give the leases of plans that were carried out, with their versions."""
    position = 0
    for plan in plans:
        version = outcomes[position].version
        if plan.lease is not None and version is not None:
            yield plan.lease._replace(version=version)
        position += len(plan.step)


def _lost_every_race(place: Place) -> TimedOut:
    return TimedOut(
        "other consumers were faster every time: raise the timeout, let each take several messages at once with "
        "prefetch=, or spread the queue with shards=",
        table=place.tables.messages.table.name,
        store=place.tables.messages.driver.address,
    )


async def keep(lease: Lease, span: int) -> Lease:
    """Have a lease end a span from now. Raises ``Conflict`` where it is lost."""
    tables = lease.place.tables
    step = lease.place.move(lease.ticket, lease.version, tables.now() + span, lease.attempts)
    (outcome, *_) = await tables.commit(step)
    assert outcome.version is not None
    return lease._replace(ticket=step[0].key, version=outcome.version)


async def renew(lease: Lease, span: int) -> Lease | None:
    """Take up a lease that ran out, unless somebody else has the message."""
    try:
        return await keep(lease, span)
    except Conflict:
        return None


async def give_back(lease: Lease) -> None:
    """Undo a lease that nobody has seen: the attempt does not count. Does nothing where it is lost already."""
    try:
        place = lease.place
        await place.tables.commit(place.move(lease.ticket, lease.version, lease.origin, lease.attempts - 1))
    except Conflict:
        return
