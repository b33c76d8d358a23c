"""A plan of what goes wrong between a memory driver and its store: ``kv.connect("memory://", plan=FaultPlan(seed=1))``.

Rules.

* The same seed, or script, and the same calls give the same faults.
* A plan plays only what a real store could do: a write that relies on nothing meets no conflict, only a batch can be
  done in part, and what may have been done is reported as ``OutcomeUnknown``, never as undone.
* What was late is done between two later calls, or by :meth:`FaultPlan.settle`.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

from kvmodel.drivers.base import ANYTHING, CheckRange, Outcome, Status
from kvmodel.errors import Conflict, KvModelError, OutcomeUnknown, Unavailable

__all__ = ["Call", "Fault", "FaultPlan"]

P = TypeVar("P")
R = TypeVar("R")


class Fault(enum.Enum):
    """What can go wrong with one request."""

    CONFLICT = "conflict"
    """Somebody else was faster: a write that relies on something is refused, and nothing is done."""

    CUT_BEFORE = "cut before"
    """The connection breaks before the request arrives: ``Unavailable``, and nothing is done."""

    CUT_AFTER = "cut after"
    """The connection breaks before the reply arrives: a write is done, and ``OutcomeUnknown``."""

    LATE = "late"
    """The connection breaks, and the write is done later all the same: ``OutcomeUnknown`` until then and after."""

    PARTIAL = "partial"
    """The connection breaks in the middle of a batch: some of its writes are done, the others were not sent."""

    DELAY = "delay"
    """The reply takes its time: other tasks run meanwhile."""

    STALL = "stall"
    """No reply comes, and nothing is done, until :meth:`FaultPlan.resume` or the time limit."""

    def __repr__(self) -> str:
        return self.name


class Call(NamedTuple):
    """One request that a plan has seen: ``read``, ``scan``, ``count``, ``write`` or ``batch``, and what it met."""

    name: str
    size: int
    fault: Fault | None


_WRITES = frozenset({"write", "batch"})


class FaultPlan:
    """What goes wrong, drawn from a seed or read from a script.

    Args:
        seed: Two plans with the same seed draw the same.
        conflict, cut_before, cut_after, late, partial, delay: How likely each fault is for a call that it can happen
            to, from 0 to 1; their sum is 1 at the most.
        script: What happens to the first calls, one after the other, ``None`` for nothing; then the seed goes on. A
            fault that cannot happen to its call is left out.
        calls: Which calls anything happens to, and which a script counts: names as in :class:`Call`; left out, all.
        turns: For how many turns of the event loop a reply is delayed at the most.
        late_by: How many later calls a late write is behind.

    Attributes:
        log: Every call, in order.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        conflict: float = 0.0,
        cut_before: float = 0.0,
        cut_after: float = 0.0,
        late: float = 0.0,
        partial: float = 0.0,
        delay: float = 0.0,
        script: Sequence[Fault | None] = (),
        calls: Sequence[str] = ("read", "scan", "count", "write", "batch"),
        turns: int = 5,
        late_by: int = 2,
    ) -> None:
        self._chances = {
            Fault.CONFLICT: conflict,
            Fault.CUT_BEFORE: cut_before,
            Fault.CUT_AFTER: cut_after,
            Fault.LATE: late,
            Fault.PARTIAL: partial,
            Fault.DELAY: delay,
        }
        if min(self._chances.values()) < 0 or sum(self._chances.values()) > 1:
            raise ValueError("chances are numbers from 0 to 1, and their sum is 1 at the most")
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._script = list(script)
        self._calls = frozenset(calls)
        self._turns = turns
        self._late_by = late_by
        self._late: list[tuple[int, Callable[[], Awaitable[object]]]] = []
        self._resumed = asyncio.Event()
        self.log: list[Call] = []

    def __repr__(self) -> str:
        return f"<FaultPlan after {len(self.log)} calls, {sum(self.counts.values())} faults>"

    @property
    def counts(self) -> Counter[Fault]:
        """How often each fault happened."""
        return Counter(call.fault for call in self.log if call.fault is not None)

    def then(self, *faults: Fault | None) -> None:
        """Add to the script: what happens to the next calls."""
        self._script += faults

    def quiet(self) -> None:
        """Let nothing go wrong any more. What is late or stalled stays so."""
        self._script = []
        self._chances = {}

    def resume(self) -> None:
        """Let the calls that are stalled go on."""
        self._resumed.set()
        self._resumed = asyncio.Event()

    async def settle(self) -> None:
        """Do all writes that are late, now."""
        late, self._late = self._late, []
        for _, write in late:
            await _quietly(write)

    # --- between the driver and its store -----------------------------------------------------------------------------

    async def carry(self, call: str, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]]) -> R:
        """Carry out one request, or what the plan makes of it."""
        await self._catch_up()
        fault = self._draw(call, payload)
        self.log.append(Call(call, len(payload), fault))
        match fault:
            case None:
                return await apply(payload)
            case Fault.CONFLICT:
                return await self._conflict(call, payload, apply)
            case Fault.CUT_BEFORE:
                raise Unavailable("the connection broke before the request was sent (a planned fault)")
            case Fault.CUT_AFTER:
                await apply(payload)
                raise _lost(call)
            case Fault.LATE:
                self._late.append((len(self.log) + self._late_by, partial(apply, payload)))
                raise _lost(call)
            case Fault.PARTIAL:
                return await self._in_part(payload, apply)
            case Fault.DELAY:
                for _ in range(self._random.randint(1, self._turns)):
                    await asyncio.sleep(0)
                return await apply(payload)
            case Fault.STALL:
                await self._resumed.wait()
                return await apply(payload)

    def _draw(self, call: str, payload: Sequence[object]) -> Fault | None:
        if call not in self._calls:
            return None
        if self._script:
            scripted = self._script.pop(0)
            return scripted if scripted is not None and _can_happen(scripted, call, payload) else None
        drawn = self._random.random()
        for fault, chance in self._chances.items():
            if drawn < chance:
                return fault if _can_happen(fault, call, payload) else None
            drawn -= chance
        return None

    async def _catch_up(self) -> None:
        """Do the late writes whose time has come."""
        due = [write for number, write in self._late if number <= len(self.log)]
        self._late = [late for late in self._late if late[0] > len(self.log)]
        for write in due:
            await _quietly(write)

    async def _conflict(self, call: str, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]]) -> R:
        if call != "batch":
            raise _somebody_was_faster()
        losing = self._random.choice([index for index, each in enumerate(payload) if _relies_on_something(each)])
        rest = [each for index, each in enumerate(payload) if index != losing]
        outcomes = list(cast("Sequence[Outcome]", await apply(rest)))
        outcomes.insert(losing, Outcome(Status.CONFLICT, error=_somebody_was_faster()))
        return cast("R", outcomes)

    async def _in_part(self, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]]) -> R:
        done = self._random.randrange(len(payload))
        outcomes = list(cast("Sequence[Outcome]", await apply(payload[:done]))) if done else []
        error = Unavailable("the connection broke before this was sent (a planned fault)")
        outcomes += [Outcome(Status.UNSENT, error=error)] * (len(payload) - done)
        return cast("R", outcomes)


def _can_happen(fault: Fault, call: str, payload: Sequence[object]) -> bool:
    """Whether a store could do this to such a call."""
    match fault:
        case Fault.CONFLICT:
            return call in _WRITES and any(map(_relies_on_something, payload))
        case Fault.LATE:
            return call in _WRITES
        case Fault.PARTIAL:
            return call == "batch"
        case _:
            return True


def _relies_on_something(mutation: Any) -> bool:
    return isinstance(mutation, CheckRange) or mutation.expect is not ANYTHING


def _somebody_was_faster() -> Conflict:
    return Conflict("somebody else wrote first and nothing was written: read again, then retry (a planned fault)")


def _lost(call: str) -> KvModelError:
    if call in _WRITES:
        return OutcomeUnknown("the connection broke and the write may have happened: read again (a planned fault)")
    return Unavailable("the connection broke before the reply came (a planned fault)")


async def _quietly(write: Callable[[], Awaitable[object]]) -> None:
    """Do a write whose caller has gone: what comes of it is nobody's business any more."""
    try:
        await write()
    except KvModelError:
        return
