"""Writes: from mutations to calls of one script, and from its answer to outcomes.

Rules.

* Everything is encoded, and measured, before anything is sent.
* One call is one atomic step in the server: all expectations and range checks, then all changes. A batch is one call
  whose steps stand for themselves; in a cluster one for each slot, which travel together.
* A call whose answer was lost is looked up by the stamps of its records. Found: it was done. Not found, and it relies
  on a version that is still there of a record that it changes: it is sent again, as it can be done only once. In all
  other cases nobody knows, and that is what the caller is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import attrs

from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    CheckRange,
    Delete,
    Expectation,
    Key,
    Mutation,
    Outcome,
    Put,
    Status,
)
from kvmodel.drivers.redis.catalogue import CatalogueRow
from kvmodel.drivers.redis.courier import Courier, Request, call
from kvmodel.drivers.redis.layout import Area, Bounds, Place, Spot
from kvmodel.drivers.redis.scripts import WRITE
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import BudgetExceeded, Conflict, StoreError, ValidationError

__all__ = ["GRACE", "Call", "Step", "encode", "found_done", "halves", "look_up", "make_call", "outcomes_of", "written"]

GRACE: Final = 1000
"""For how many milliseconds the server keeps a record that has expired, so that clocks may differ by as much."""

_KINDS: Final = {Put: b"p", Delete: b"d"}
_REFUSED: Final = 2
_HEAD_END: Final = 25
_STAMP: Final = slice(1, 13)
_TIDIES: Final = 3
"""Which argument of the script says whether to tidy up."""
_PER_STEP: Final = 160
"""How many bytes surround the variable parts of a step."""


class Step(NamedTuple):
    """One mutation, encoded. A check of a range has bounds, all others have a spot."""

    mutation: Mutation
    place: Place
    spot: Spot | None = None
    data: bytes = b""
    bounds: Bounds | None = None
    seen: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def slot(self) -> int:
        """Where it is for."""
        return self.spot.slot if self.spot is not None else self.area.slot

    @property
    def area(self) -> Area:
        """The area that a check of a range is about."""
        assert self.bounds is not None
        return self.bounds.area

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        size = _PER_STEP + len(self.data) + sum(_PER_STEP // 4 + len(name) for name, _ in self.seen)
        return size if self.spot is None else size + 2 * len(self.spot.key)


def encode(mutation: Mutation, place: Place) -> Step:
    """Encode a mutation. Raises ``ValidationError`` and ``TooLarge``, with the key concerned."""
    try:
        if isinstance(mutation, CheckRange):
            return _encode_check(mutation, place)
        spot = place.locate(mutation.key)
        if not isinstance(mutation, Put):
            return Step(mutation, place, spot)
        return Step(mutation, place, spot, place.codec.dump(mutation.values, mutation.stamp, mutation.expires_at))
    except ValidationError as error:
        if error.table is None:
            error.table = mutation.table.name
        if error.key is None and not isinstance(mutation, CheckRange):
            error.key = mutation.key
        raise


def _encode_check(check: CheckRange, place: Place) -> Step:
    bounds = place.bounds(check.slice)
    seen = []
    for key, version in check.rows:
        assert isinstance(version, bytes)
        seen.append((place.locate(key).name, version))
    return Step(check, place, None, b"", bounds, tuple(seen))


def halves(now: int) -> tuple[int, int]:
    """Answer a time in two numbers that Lua can compare."""
    return now >> 32, now & 0xFFFFFFFF


# --- calls ------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Call:
    """One call of the script.

    Attributes:
        steps: What it does.
        request: What is sent.
        is_atomic: Whether it is all or nothing.
    """

    steps: Sequence[Step]
    request: Request
    is_atomic: bool
    now: int


def make_call(
    steps: Sequence[Step], *, atomic: bool, now: int, rows: Sequence[CatalogueRow] = (), watched: bool = False
) -> Call:
    """Put steps, all of one slot, into one call.

    Args:
        rows: What has to be written into the catalogue with the first record.
        watched: Whether to look if somebody watches, and to tell them.
    """
    keys = _Keys()
    areas: dict[tuple[Place, bytes], tuple[int, list[bytes | int]]] = {}
    body: list[bytes | int] = []
    for step in steps:
        number = _area_of(step, keys, areas, watched)
        if isinstance(step.mutation, CheckRange):
            body += _check_arguments(step, number)
        else:
            body += _step_arguments(step, step.mutation, number, keys, now)
    high, low = halves(now)
    may_ask = not any(step.bounds for step in steps)
    arguments: list[bytes | int] = [int(atomic), high, low, 1, len(rows)]
    for row in rows:
        arguments += [keys.number(row.key), row.old, row.new]
    arguments.append(len(areas))
    for _, described in areas.values():
        arguments += described
    request = call(WRITE, steps[0].slot, keys.all, arguments + body, may_ask=may_ask)
    request.tidies = len(request.words) - len(arguments) - len(body) + _TIDIES
    return Call(steps, request, atomic, now)


class _Keys:
    """The keys of a call, each once."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    @property
    def all(self) -> list[bytes]:
        return list(self._numbers)

    def number(self, key: bytes) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)


def _area_of(
    step: Step, keys: _Keys, areas: dict[tuple[Place, bytes], tuple[int, list[bytes | int]]], watched: bool
) -> int:
    place = step.place
    area = step.spot.area if step.spot is not None else step.area
    known = areas.get((place, b"" if area is None else area.partition))
    if known is not None:
        return known[0]
    if area is None:
        described: list[bytes | int] = [0, 0, 0, b"", b"", b""]
    else:
        index = keys.number(area.index_key) if place.has_index else 0
        channel = keys.number(place.channel) if watched else 0
        described = [index, keys.number(area.directory), channel, area.partition, place.left, place.right]
    number = len(areas) + 1
    areas[place, b"" if area is None else area.partition] = (number, described)
    return number


def _step_arguments(step: Step, mutation: Mutation, number: int, keys: _Keys, now: int) -> tuple[bytes | int, ...]:
    assert not isinstance(mutation, CheckRange)
    assert step.spot is not None
    expect, version = _expectation(mutation.expect)
    ttl: bytes | int = b""
    if isinstance(mutation, Put) and mutation.expires_at is not None:
        # A program's own clock may be ahead of the one that the server's life spans are measured with.
        since = min(now, time.time_ns() // 1000)
        ttl = max(-(-(mutation.expires_at - since) // 1000), 0) + GRACE
    kind = _KINDS.get(type(mutation), b"c")
    return (kind, number, keys.number(step.spot.key), expect, version, step.spot.name, step.data, ttl)


def _expectation(expect: Expectation) -> tuple[bytes, bytes]:
    if expect is ANYTHING:
        return b"0", b""
    if expect is ABSENT:
        return b"1", b""
    if expect is PRESENT:
        return b"2", b""
    # What is no version of ours is nobody's.
    return b"3", expect if isinstance(expect, bytes) else b"?"


def _check_arguments(step: Step, number: int) -> Iterator[bytes | int]:
    assert step.bounds is not None
    assert isinstance(step.mutation, CheckRange)
    limit = step.mutation.slice.limit
    yield from (b"r", number, len(step.seen), int(step.mutation.slice.reverse), b"" if limit is None else limit)
    is_empty = step.bounds.is_empty or limit == 0
    yield from (b"+", b"-", b"") if is_empty else (step.bounds.low, step.bounds.high, b"")
    for name, version in step.seen:
        yield from (name, version)


# --- answers ----------------------------------------------------------------------------------------------------------


def outcomes_of(done: Call, store: str) -> list[Outcome]:
    """Answer what became of each step of a call that was answered. Raises ``Conflict``."""
    answer: Any = done.request.result
    if answer[0] == 0:
        raise _conflict([(done.steps[failure[0] - 1], failure[1:]) for failure in answer[1:]], store)
    return [_outcome(step, code, store) for step, code in zip(done.steps, answer[1:], strict=True)]


def _outcome(step: Step, code: int, store: str) -> Outcome:
    if code == _REFUSED:
        return Outcome(Status.CONFLICT, error=_conflict([(step, [])], store))
    version = None
    mutation = step.mutation
    if isinstance(mutation, Put):
        version = step.data if step.place.is_plain else mutation.stamp
    existed = None if code < 0 or isinstance(mutation, CheckRange) else bool(code)
    return Outcome(Status.WRITTEN, version, existed)


def written(step: Step) -> Outcome:
    """Answer the outcome of a step that was found done."""
    return _outcome(step, -1, "")


def _conflict(failures: Sequence[tuple[Step, Sequence[bytes]]], store: str) -> Conflict:
    keys = [(step.place.table.name, key) for step, names in failures for key in _keys_of(step, names)]
    taken = all(isinstance(step.mutation, Put) and step.mutation.expect is ABSENT for step, _ in failures)
    return conflict_of(keys, store, taken=taken)


def _keys_of(step: Step, names: Sequence[bytes]) -> list[Key]:
    if not isinstance(step.mutation, CheckRange):
        return [step.mutation.key]
    return [step.place.decode(step.area.partition, name) for name in names]


# --- when the answer was lost -----------------------------------------------------------------------------------------


async def look_up(lost: Call, courier: Courier, until: float) -> bool | None:
    """Find out what became of a call whose answer was lost: ``True`` if it was done, ``False`` if it may be sent again.

    ``None`` if nobody knows.
    """
    cause = lost.request.result.__cause__
    if isinstance(cause, asyncio.CancelledError) or time.monotonic() >= until:
        return None
    stamped = [step for step in lost.steps if isinstance(step.mutation, Put) and not step.place.is_plain]
    guards = [step for step in lost.steps if _is_guard(step)]
    chosen = list({id(step): step for step in (*stamped, *guards)}.values())
    if not chosen:
        return None
    try:
        found = dict(zip(map(id, chosen), await _versions(chosen, courier, until), strict=True))
    except (StoreError, BudgetExceeded):
        return None
    if any(found[id(step)] == step.mutation.stamp for step in stamped if isinstance(step.mutation, Put)):
        return True
    if guards and all(_expected(step) == found[id(step)] for step in guards):
        return False
    return None


async def found_done(steps: Sequence[Step], courier: Courier, until: float) -> list[bool]:
    """Answer for each step whether the record that it stores is there."""
    stamped = [step for step in steps if isinstance(step.mutation, Put) and not step.place.is_plain]
    found = dict(zip(map(id, stamped), await _versions(stamped, courier, until), strict=True)) if stamped else {}
    return [isinstance(step.mutation, Put) and found.get(id(step)) == step.mutation.stamp for step in steps]


async def _versions(steps: Iterable[Step], courier: Courier, until: float) -> list[bytes]:
    requests = [
        Request(step.slot, (b"GETRANGE", step.spot.key, 0, _HEAD_END), may_ask=True)
        for step in steps
        if step.spot is not None
    ]
    return [bytes(reply)[_STAMP] for reply in await courier.ask(requests, until)]


def _is_guard(step: Step) -> bool:
    """Whether a step changes a record in a version that it names, and that will never come back."""
    return isinstance(step.mutation, (Put, Delete)) and _expected(step) is not None and not step.place.is_plain


def _expected(step: Step) -> bytes | None:
    expect = None if isinstance(step.mutation, CheckRange) else step.mutation.expect
    return expect if isinstance(expect, bytes) else None
