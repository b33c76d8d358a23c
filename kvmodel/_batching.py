"""Concurrent reads of single keys, sent together.

Reads that are asked for during one turn of the event loop go out at its end, grouped by table, in requests of at most
``max_read_batch`` keys. A caller who is cancelled, whose key is refused or whose record can't be decoded takes nothing
from the others.
"""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from kvmodel import _aio
from kvmodel.drivers.base import Absent, Key, Row
from kvmodel.drivers.meter import Meter, current_meter, meter_variable
from kvmodel.errors import Closed, DecodingError, TimedOut, ValidationError

if TYPE_CHECKING:
    from kvmodel._binding import Bound

__all__ = ["ReadBatcher"]

_SLACK = 0.02
_CLOSED = "this database was closed before an answer came"


@attrs.frozen(eq=False)
class _Waiting:
    """One caller: the key it wants, until when, and who pays."""

    key: Key
    answer: _aio.Future[Row | Absent]
    until: float
    meter: Meter | None


class ReadBatcher:
    """Gathers the reads of one turn of the event loop."""

    def __init__(self, tasks: _aio.TaskSet) -> None:
        self._tasks = tasks
        self._waiting: dict[tuple[Bound[Any], Meter | None], list[_Waiting]] = {}

    async def read(self, bound: Bound[Any], key: Key, until: float) -> Row | Absent:
        """Read one record, together with what else is asked for now."""
        waiting = _Waiting(key, bound.loop.create_future(), until, current_meter())
        is_first = not self._waiting
        # Callers with different budgets do not share a request: it could not be said whose it was.
        self._waiting.setdefault((bound, waiting.meter), []).append(waiting)
        if is_first and await self._is_alone(waiting):
            return await self._read_alone(bound, key, until)
        return await waiting.answer

    async def _is_alone(self, first: _Waiting) -> bool:
        """Wait for the end of this turn. If nobody joined, the first caller reads by itself, which costs it least."""
        try:
            await _aio.give_way()
        except _aio.CancelledError:
            first.answer.cancel()
            self._send()
            raise
        if len(self._waiting) == 1 and all(len(callers) == 1 for callers in self._waiting.values()):
            self._waiting = {}
            return True
        self._send()
        return False

    async def _read_alone(self, bound: Bound[Any], key: Key, until: float) -> Row | Absent:
        reading = bound.driver.read(bound.table, [key], now=bound.now(), until=until)
        try:
            (row,) = await self._tasks.shelter(reading)
        except _aio.Ousted:
            raise Closed(_CLOSED, store=bound.driver.address) from None
        return row

    def _send(self) -> None:
        groups, self._waiting = self._waiting, {}
        for (bound, meter), callers in groups.items():
            size = bound.driver.capabilities.max_read_batch
            for start in range(0, len(callers), size):
                together = callers[start : start + size]
                _hurry(bound, together)
                self._tasks.start(self._read(bound, meter, together))

    async def _read(self, bound: Bound[Any], meter: Meter | None, callers: list[_Waiting]) -> None:
        meter_variable.set(meter)
        callers = [caller for caller in callers if not caller.answer.done()]
        if not callers:
            return
        keys = list(dict.fromkeys(caller.key for caller in callers))
        until = max(caller.until for caller in callers)
        try:
            rows = await bound.driver.read(bound.table, keys, now=bound.now(), until=until)
        except (DecodingError, ValidationError) as error:
            if len(callers) == 1:
                _fail(callers, error)
                return
            for caller in callers:  # One key or record is bad: each caller is to get an answer of its own.
                await self._read(bound, meter, [caller])
        except _aio.CancelledError:  # By the owner of these tasks, not by a caller, who is to know the difference.
            _fail(callers, Closed(_CLOSED, store=bound.driver.address))
            raise
        except Exception as error:  # noqa: BLE001 - handed to every caller, none is lost
            _fail(callers, error)
        else:
            found = dict(zip(keys, rows, strict=True))
            shared = len(keys) < len(callers)
            for caller in callers:
                if not caller.answer.done():
                    caller.answer.set_result(_own(found[caller.key]) if shared else found[caller.key])


def _hurry(bound: Bound[Any], callers: list[_Waiting]) -> None:
    """See to it that nobody waits much longer than he would: the request ends when the most patient one's time is over.

    A timer for everybody would cost more than all the rest.
    """
    latest = max(caller.until for caller in callers)
    for caller in callers:
        if caller.until < latest - _SLACK:
            seconds = caller.until - time.monotonic()
            timer = _aio.call_later(seconds, partial(_time_out, caller, bound.driver.address))
            caller.answer.add_done_callback(partial(_stop, timer))


def _stop(timer: _aio.TimerHandle, _: object) -> None:
    timer.cancel()


def _time_out(caller: _Waiting, store: str) -> None:
    _fail([caller], TimedOut("no answer in time: raise the timeout, or look at the store's load", store=store))


def _own(row: Row | Absent) -> Row | Absent:
    """Give a caller values of its own, lists and objects inside them too, as two have asked for one key."""
    return row._replace(values=copy.deepcopy(row.values)) if isinstance(row, Row) else row


def _fail(callers: list[_Waiting], error: Exception) -> None:
    for caller in callers:
        if not caller.answer.done():
            caller.answer.set_exception(error)
