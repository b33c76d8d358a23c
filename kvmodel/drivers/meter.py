"""Counts what drivers send, for ``kv.budget``.

A driver calls :func:`spend` once for every exchange with its store, just before it goes out, retries included. With no
budget in force that costs one context variable look-up.
"""

from __future__ import annotations

from contextvars import ContextVar

import attrs

from kvmodel.errors import BudgetExceeded

__all__ = ["Meter", "current_meter", "meter_variable", "spend"]

meter_variable: ContextVar[Meter | None] = ContextVar("kvmodel_meter", default=None)
current_meter = meter_variable.get


@attrs.define(eq=False)
class Meter:
    """What was spent inside one ``kv.budget`` block, and what may be."""

    max_round_trips: int | None = None
    max_keys: int | None = None
    round_trips: int = 0
    keys: int = 0
    outer: Meter | None = None

    def charge(self, round_trips: int, keys: int) -> None:
        """Add to what was spent, here and in the blocks around this one. Raises ``BudgetExceeded``."""
        self.round_trips += round_trips
        self.keys += keys
        if self.max_round_trips is not None and self.round_trips > self.max_round_trips:
            raise BudgetExceeded(
                "this block needs more round trips than its budget: read in one range or get_many, or raise the budget",
                spent=self.round_trips,
                limit=self.max_round_trips,
                unit="round_trips",
            )
        if self.max_keys is not None and self.keys > self.max_keys:
            raise BudgetExceeded(
                "this block touches more keys than its budget: narrow the range or set a limit, or raise the budget",
                spent=self.keys,
                limit=self.max_keys,
                unit="keys",
            )
        if self.outer is not None:
            self.outer.charge(round_trips, keys)


def spend(round_trips: int, keys: int = 0) -> None:
    """Charge an exchange, and the keys that it reads or writes, to the budget in force, if one is."""
    meter = meter_variable.get()
    if meter is not None:
        meter.charge(round_trips, keys)
