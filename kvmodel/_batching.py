"""Concurrent reads of single keys, sent together.

Reads that are asked for during one turn of the event loop go out at its end, grouped by table, in requests of at most
``max_read_batch`` keys. A caller who is cancelled or whose record can't be decoded takes nothing from the others.
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import attrs

from kvmodel import _aio
from kvmodel.drivers.base import Absent, Key, Row
from kvmodel.drivers.meter import Meter, current_meter, meter_variable
from kvmodel.errors import Closed, DecodingError

if TYPE_CHECKING:
    from kvmodel._binding import Bound

__all__ = ["ReadBatcher"]


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
        if not self._waiting:
            _aio.call_soon(self._send)
        # Callers with different budgets do not share a request: it could not be said whose it was.
        self._waiting.setdefault((bound, waiting.meter), []).append(waiting)
        return await _aio.before(waiting.answer, until - time.monotonic(), store=bound.driver.address)

    def _send(self) -> None:
        groups, self._waiting = self._waiting, {}
        for (bound, meter), callers in groups.items():
            size = bound.driver.capabilities.max_read_batch
            for start in range(0, len(callers), size):
                self._tasks.start(self._read(bound, meter, callers[start : start + size]))

    async def _read(self, bound: Bound[Any], meter: Meter | None, callers: list[_Waiting]) -> None:
        meter_variable.set(meter)
        callers = [caller for caller in callers if not caller.answer.done()]
        if not callers:
            return
        keys = list(dict.fromkeys(caller.key for caller in callers))
        until = max(caller.until for caller in callers)
        try:
            rows = await bound.driver.read(bound.table, keys, now=bound.now(), until=until)
        except DecodingError as error:
            if len(callers) == 1:
                _fail(callers, error)
                return
            for caller in callers:  # One record is bad: each caller is to get an answer of its own.
                await self._read(bound, meter, [caller])
        except _aio.CancelledError:  # By the owner of these tasks, not by a caller, who is to know the difference.
            _fail(callers, Closed("this database was closed before an answer came", store=bound.driver.address))
            raise
        except Exception as error:  # noqa: BLE001 - handed to every caller, none is lost
            _fail(callers, error)
        else:
            found = dict(zip(keys, rows, strict=True))
            shared = len(keys) < len(callers)
            for caller in callers:
                if not caller.answer.done():
                    caller.answer.set_result(_own(found[caller.key]) if shared else found[caller.key])


def _own(row: Row | Absent) -> Row | Absent:
    """Give a caller values of its own, lists and objects inside them too, as two have asked for one key."""
    return row._replace(values=copy.deepcopy(row.values)) if isinstance(row, Row) else row


def _fail(callers: list[_Waiting], error: Exception) -> None:
    for caller in callers:
        if not caller.answer.done():
            caller.answer.set_exception(error)
