"""Limits for a block of code: its time, and what it may spend."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from kvmodel._ambient import time_limit
from kvmodel.drivers.meter import Meter, meter_variable
from kvmodel.errors import ValidationError

__all__ = ["Spent", "budget", "timeout"]

Spent = Meter


def check_timeout(seconds: object) -> float:
    """Answer a time limit as a float. Raises ``ValidationError`` unless it is a positive, finite number."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ValidationError(f"a timeout is a positive number of seconds, not {seconds!r}")
    return float(seconds)


@contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """Change the time limit of every operation that starts in this block.

    It bounds each operation (and each page of a stream), not the block as a whole.

    Args:
        seconds: The limit, in seconds.

    Raises:
        ValidationError: The limit is not a positive number.
    """
    token = time_limit.set(check_timeout(seconds))
    try:
        yield
    finally:
        time_limit.reset(token)


@contextmanager
def budget(*, round_trips: int | None = None, keys: int | None = None) -> Iterator[Spent]:
    """Fail when this block, and the tasks started in it, spend more than this.

    Counted are exchanges of kvmodel's own clients, retries included, and calls where a borrowed library owns the wire
    (an embedded store's too: a read, a page, a commit). Yields the count, which may be read at any time.

    Args:
        round_trips: How many exchanges with the store are allowed; ``None`` for any number.
        keys: How many keys may be read or written; ``None`` for any number.

    Raises:
        BudgetExceeded: When more is spent, before the exchange that would be too many is sent.
    """
    for name, limit in (("round_trips", round_trips), ("keys", keys)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ValidationError(f"a budget's {name} is a number of them, 0 or more, not {limit!r}")
    meter = Meter(round_trips, keys, outer=meter_variable.get())
    token = meter_variable.set(meter)
    try:
        yield meter
    finally:
        meter_variable.reset(token)
