"""Where the consumers of one queue meet, as far as they share a connection.

Consumers that want messages at the same time get them from one look at the tickets and one write, instead of fighting
for the same ones. Those that wait are woken by whatever this connection puts into the queue.

Rules.

* Taking runs beside the consumer that asked. If that is cancelled, it goes at once, and what was taken for it is given
  back, as if it had never been taken. So do acknowledging and giving back: begun, they are carried out.
* Only callers with the same wish and the same budget share a look: it could not be said whose it was.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from kvmodel import _aio
from kvmodel._queue.place import Lease, Place
from kvmodel._queue.taking import Wish, give_back, next_due, take
from kvmodel.drivers.base import Key, Table
from kvmodel.drivers.meter import Meter, current_meter
from kvmodel.errors import Closed, KvModelError, StoreError

if TYPE_CHECKING:
    from kvmodel.database import Connection

__all__ = ["Desk", "desk_of", "notify"]

_Name = tuple[Table, Key]


@attrs.frozen(eq=False)
class _Caller:
    """A consumer that wants messages."""

    count: int
    answer: _aio.Future[list[Lease]]


class Desk:
    """The consumers of one queue on one connection.

    Attributes:
        changes: Counts what may have made messages due.
    """

    def __init__(self, connection: Connection, places: Sequence[Place]) -> None:
        self._connection = connection
        self._places = deque(places)
        self._places.rotate(random.randrange(len(places)))  # noqa: S311 - only so that not all begin with the same
        self._turn = _aio.Lock()
        self._callers: dict[tuple[Wish, Meter | None], list[_Caller]] = {}
        self._sleepers: set[_aio.Future[None]] = set()
        self.changes = 0

    # --- taking ---

    async def take(self, count: int, wish: Wish) -> list[Lease]:
        """Take up to ``count`` messages; none only if none is due."""
        self._connection.check_usable()
        caller = _Caller(count, self._connection.loop.create_future())
        group = (wish, current_meter())
        if group in self._callers:
            self._callers[group].append(caller)
        else:
            self._callers[group] = [caller]
            self._connection._tasks.start(self._serve(group))
        try:
            return await caller.answer
        except _aio.CancelledError:
            if caller.answer.done() and not caller.answer.cancelled() and caller.answer.exception() is None:
                self.release(caller.answer.result())
            raise

    async def _serve(self, group: tuple[Wish, Meter | None]) -> None:
        """Take for all callers of a group. Those that come while another look is under way are in it too."""
        callers: list[_Caller] = []
        try:
            async with self._turn:
                callers = [each for each in self._callers.pop(group) if not each.answer.done()]
                if callers:
                    self._hand_out(callers, await self._take(sum(each.count for each in callers), group[0]))
        except _aio.CancelledError:
            _fail(callers or self._callers.pop(group, []), Closed("this database is closed: connect again"))
            raise
        except Exception as error:  # noqa: BLE001 - handed to every caller, none is lost
            _fail(callers, error)

    async def _take(self, count: int, wish: Wish) -> list[Lease]:
        """Take from one partition after the other, beginning with another one each time."""
        leases: list[Lease] = []
        for place in list(self._places):
            self._places.rotate(-1)
            await place.tables.prepared()
            try:
                leases += await take(place, count - len(leases), wish)
            except StoreError:
                if not leases:
                    raise
                break
            if len(leases) == count:
                break
        return leases

    def _hand_out(self, callers: Sequence[_Caller], taken: Sequence[Lease]) -> None:
        """Give each caller its share. What was taken for somebody who has gone is given back."""
        leases = deque(taken)
        for position, caller in enumerate(callers):
            share = min(caller.count, -(-len(leases) // (len(callers) - position)))
            if not caller.answer.done():
                caller.answer.set_result([leases.popleft() for _ in range(share)])
        self.release(leases)

    def release(self, leases: Collection[Lease]) -> None:
        """Give leases back that nobody has seen, beside whoever calls."""
        if leases:
            self._connection._tasks.start(self.give_back(leases))

    async def give_back(self, leases: Collection[Lease]) -> None:
        """Give leases back that nobody has seen."""
        for lease in leases:
            with suppress(KvModelError):  # It runs out by itself.
                await give_back(lease)
                self.notify()

    # --- settling ---

    async def carry(self, step: Coroutine[Any, Any, None]) -> None:
        """Carry something out to its end, also if whoever waits for it is cancelled meanwhile."""
        answer: _aio.Future[None] = self._connection.loop.create_future()
        self._connection._tasks.start(_answered(step, answer))
        await answer

    # --- waiting ---

    def notify(self) -> None:
        """Wake those who wait: there may be something to take."""
        self.changes += 1
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def patience(self, poll: float) -> float:
        """Answer for how many seconds nothing will happen that this connection can foresee, ``poll`` at the most."""
        found = [await next_due(place) for place in self._places] if poll else []
        now = self._connection.now()
        return min([poll, *(max(due - now, 0) / 1_000_000 for due in found if due is not None)])

    async def wait(self, changes: int, seconds: float) -> None:
        """Wait until something happens that was not counted in ``changes``, or until time is up."""
        if self.changes != changes:
            return
        if seconds <= 0:
            await _aio.give_way()
            return
        loop = self._connection.loop
        sleeper: _aio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper)
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)


async def _answered(step: Coroutine[Any, Any, None], answer: _aio.Future[None]) -> None:
    try:
        await step
    except _aio.CancelledError:
        answer.cancel()
        raise
    except Exception as error:  # noqa: BLE001 - handed on
        if not answer.done():
            answer.set_exception(error)
    else:
        _wake(answer)


def _wake(sleeper: _aio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _fail(callers: Sequence[_Caller], error: Exception) -> None:
    for caller in callers:
        if not caller.answer.done():
            caller.answer.set_exception(error)


# Desks live as long as somebody consumes.
_desks: WeakKeyDictionary[Connection, WeakValueDictionary[_Name, Desk]] = WeakKeyDictionary()


def _name(place: Place) -> _Name:
    return place.tables.tickets.table, place.partition


def desk_of(places: Sequence[Place]) -> Desk:
    """Answer the desk of a queue."""
    connection = places[0].tables.connection
    desks = _desks.setdefault(connection, WeakValueDictionary())
    desk = desks.get(_name(places[0]))
    if desk is None:
        desk = Desk(connection, places)
        for place in places:
            desks[_name(place)] = desk
    return desk


def notify(place: Place) -> None:
    """Wake those who wait for messages from this partition's queue."""
    desks = _desks.get(place.tables.connection)
    desk = None if desks is None else desks.get(_name(place))
    if desk is not None:
        desk.notify()
