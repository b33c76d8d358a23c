"""A clock that stands still until it is told to move."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

__all__ = ["VirtualClock"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_START = datetime(2100, 1, 1, tzinfo=timezone.utc)
"""So far ahead that a store with a clock of its own finds no deadline to be over."""


class VirtualClock:
    """What a database takes for the time: ``kv.connect(url, clock=clock)``.

    Deadlines of records follow it, so that a test of expiry waits for nothing. Time limits of operations do not: they
    are there to end what hangs.

    Args:
        start: The moment it shows at first, aware.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._micros = (start - _EPOCH) // _MICROSECOND

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.now.isoformat()}>"

    def __call__(self) -> int:
        """Answer the time as a database wants it: microseconds since the epoch."""
        return self._micros

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return _EPOCH + timedelta(microseconds=self._micros)

    def advance(self, by: timedelta | float) -> None:
        """Move forward by a time span, or by seconds. Raises ``ValueError`` for a step back.

        A single microsecond is ``timedelta(microseconds=1)``; fractions of it do not count.
        """
        span = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if span < timedelta(0):
            raise ValueError("a clock goes forward: make another one for another time")
        self._micros += span // _MICROSECOND
