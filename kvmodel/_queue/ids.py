"""Time-ordered ids: UUIDs of version 7 (RFC 9562), from a clock that the caller brings.

Layout, from the highest bit: 48 bits of milliseconds since the epoch, the version, 12 bits for the fraction of the
millisecond (method 3 of the RFC's section 6.2: a microsecond is told from the next), the variant, 62 bits for a counter
that starts at random and grows by random steps (method 2).

Rules.

* The ids of one source only grow: while its clock stands still, or is behind where it once was, they go on from the
  last one, so that they carry the time of the last one. A clock has one source in a process, whoever uses it.
* A forked child goes on where no id of its parent can be: one tick later, from a new random start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary, WeakSet

__all__ = ["IdSource", "first_id", "source_of", "time_of"]

Clock = Callable[[], int]

_COUNTER_BITS: Final = 62
_COUNTER: Final = (1 << _COUNTER_BITS) - 1
_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << _COUNTER_BITS
_LAST_TICK: Final = (1 << 60) - 1

_sources: WeakSet[IdSource] = WeakSet()


class IdSource:
    """Gives ids that only grow. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tick = -1
        self._counter = 0
        _sources.add(self)

    def next(self, now: int) -> UUID:
        """Answer a new id for a moment, in microseconds since the epoch."""
        tick = _tick_of(now)
        with self._lock:
            if tick > self._tick:
                self._tick, self._counter = tick, _random_start()
            else:
                self._counter += _random_step()
                if self._counter > _COUNTER:
                    self._tick, self._counter = self._tick + 1, _random_start()
            tick, counter = self._tick, self._counter
        return _compose(tick, counter)

    def reseed(self) -> None:
        """Go on where the parent of this process does not."""
        self._lock = threading.Lock()  # Another thread of the parent may have held the old one.
        self._tick, self._counter = self._tick + 1, _random_start()


def _reseed_all() -> None:
    for source in list(_sources):
        source.reseed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed_all)

_chosen: WeakKeyDictionary[object, IdSource] = WeakKeyDictionary()
_choosing = threading.Lock()


def source_of(clock: Clock, otherwise: object) -> IdSource:
    """Answer the source that goes with a clock: all connections of a process that share a clock share it.

    ``otherwise`` has the source where a clock can't be looked up.
    """
    with _choosing:
        try:
            return _chosen.setdefault(clock, IdSource())
        except TypeError:
            return _chosen.setdefault(otherwise, IdSource())


def first_id(moment: int) -> UUID:
    """Answer the lowest id of a moment, in microseconds since the epoch; no id of an earlier one reaches it."""
    return _compose(_tick_of(moment), 0)


def time_of(id: UUID) -> int:
    """Answer the moment that an id carries, in microseconds since the epoch."""
    milliseconds, fraction = id.int >> 80, id.int >> 64 & 0xFFF
    return milliseconds * 1000 - (-fraction * 1000 >> 12)


def _tick_of(moment: int) -> int:
    """The 60 bits of time. 4096 steps a millisecond hold its 1000 microseconds apart, and in order."""
    milliseconds, micros = divmod(moment, 1000)
    return min(max(milliseconds << 12 | (micros << 12) // 1000, 0), _LAST_TICK)


def _compose(tick: int, counter: int) -> UUID:
    return UUID(int=tick >> 12 << 80 | _VERSION | (tick & 0xFFF) << 64 | _VARIANT | counter)


def _random_start() -> int:
    """Begin in the lower half, so that there is room to count."""
    return int.from_bytes(os.urandom(8), "big") >> 3


def _random_step() -> int:
    return 1 + int.from_bytes(os.urandom(4), "big")
