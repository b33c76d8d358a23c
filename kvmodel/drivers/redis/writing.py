"""How a driver writes: what is sent, and what is done about answers that were lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from kvmodel.drivers.base import CheckRange, Mutation, Outcome, Put, Status, Table
from kvmodel.drivers.redis.catalogue import Catalogue
from kvmodel.drivers.redis.courier import Courier, Request
from kvmodel.drivers.redis.layout import Place
from kvmodel.drivers.redis.writes import (
    Call,
    Step,
    encode,
    found_done,
    look_up,
    make_call,
    outcomes_of,
    written,
)
from kvmodel.errors import (
    BudgetExceeded,
    Closed,
    Conflict,
    KvModelError,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    TooLarge,
)

__all__ = ["MAX_BATCH", "MAX_REQUEST_BYTES", "Writer"]

MAX_BATCH: Final = 1000
MAX_REQUEST_BYTES: Final = 1000 << 20
"""Below what a server takes of a client at once: ``client-query-buffer-limit``, 1 GiB by default."""
_BATCH_BYTES: Final = 16 << 20
"""When a batch is cut, so that the server is not held up for long."""


class Writer:
    """How a driver writes.

    Args:
        courier: The way to the store.
        catalogue: What is known of the catalogue.
        place_of: Answers where a table lies.
        in_cluster: Whether keys are spread over slots.
    """

    def __init__(
        self, courier: Courier, catalogue: Catalogue, place_of: Callable[[Table], Place], *, in_cluster: bool
    ) -> None:
        self._courier = courier
        self._catalogue = catalogue
        self._place_of = place_of
        self._in_cluster = in_cluster

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked for size before anything is sent."""
        steps = [encode(mutation, self._place_of(mutation.table)) for mutation in mutations]
        requests = [steps] if atomic else list(_cut(steps))
        for request in requests:
            self._check_size(request)
        if atomic:
            return await self._commit(steps, now, until)
        outcomes: list[Outcome] = []
        for number, request in enumerate(requests):
            try:
                outcomes += await self._settle(request, now, until)
            except StoreError as error:
                if number == 0 or isinstance(error.__cause__, asyncio.CancelledError):
                    raise
                status = Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.UNSENT
                outcomes += [Outcome(status, error=error)] * len(request)
                left = sum(map(len, requests[number + 1 :]))
                return outcomes + [Outcome(Status.UNSENT, error=error)] * left
        return outcomes

    def _check_size(self, steps: Sequence[Step]) -> None:
        size = sum(step.size for step in steps)
        if size <= MAX_REQUEST_BYTES:
            return
        mutation = steps[0].mutation if len(steps) == 1 else None
        raise TooLarge(
            "this write is larger than the store takes in one request: split it",
            size=size,
            limit=MAX_REQUEST_BYTES,
            table=mutation.table.name if mutation is not None else None,
            key=None if mutation is None or isinstance(mutation, CheckRange) else mutation.key,
            store=self._courier.store,
        )

    # --- all or nothing -----------------------------------------------------------------------------------------------

    async def _commit(self, steps: Sequence[Step], now: int, until: float) -> list[Outcome]:
        was_lost: OutcomeUnknown | None = None
        while True:
            try:
                (done,) = await self._send([steps], now, until, atomic=True)
            except (StoreError, Closed) as error:
                if was_lost is None or isinstance(error, OutcomeUnknown):
                    raise
                raise was_lost from error
            result = done.request.result
            if not isinstance(result, KvModelError):
                break
            if not isinstance(result, OutcomeUnknown):
                raise was_lost or result
            was_lost = result
            match await look_up(done, self._courier, until):
                case True:
                    return list(map(written, steps))
                case None:
                    raise result
        try:
            return outcomes_of(done, self._courier.store)
        except Conflict:
            if was_lost is None:
                raise
            # It was sent twice. Is it in its own way?
            if await self._is_done(steps, until):
                return list(map(written, steps))
            raise was_lost from None

    async def _is_done(self, steps: Sequence[Step], until: float) -> bool:
        try:
            return any(await found_done(steps, self._courier, until))
        except (StoreError, BudgetExceeded):
            return False

    # --- each for itself ----------------------------------------------------------------------------------------------

    async def _settle(self, steps: Sequence[Step], now: int, until: float) -> list[Outcome]:
        groups: dict[int, list[int]] = {}
        for number, step in enumerate(steps):
            groups.setdefault(step.slot, []).append(number)
        calls = await self._send(
            [[steps[number] for number in group] for group in groups.values()], now, until, atomic=False
        )
        if all(isinstance(done.request.result, KvModelError) for done in calls):
            await self._raise_if_lost(calls, until)
        found: dict[int, Outcome] = {}
        for group, done in zip(groups.values(), calls, strict=True):
            found |= zip(group, await self._outcomes(done, until), strict=True)
        return [found[number] for number in range(len(steps))]

    async def _raise_if_lost(self, calls: Sequence[Call], until: float) -> None:
        """Nothing of a batch was answered: raise, unless it is found to have been done."""
        errors = [done.request.result for done in calls]
        error = next((error for error in errors if isinstance(error, OutcomeUnknown)), errors[0])
        if not isinstance(error, OutcomeUnknown):
            raise error
        for done in calls:
            if await self._is_done(done.steps, until):
                return
        raise error

    async def _outcomes(self, done: Call, until: float) -> list[Outcome]:
        error = done.request.result
        if not isinstance(error, KvModelError):
            return outcomes_of(done, self._courier.store)
        if not isinstance(error, OutcomeUnknown):
            return [Outcome(Status.FAILED, error=error)] * len(done.steps)
        try:
            there = await found_done(done.steps, self._courier, until)
        except (StoreError, BudgetExceeded):
            there = [False] * len(done.steps)
        return [
            written(step) if is_there else Outcome(Status.UNKNOWN, error=error)
            for step, is_there in zip(done.steps, there, strict=True)
        ]

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _send(self, groups: Sequence[Sequence[Step]], now: int, until: float, *, atomic: bool) -> list[Call]:
        """Send one call for each group, with the rows of the catalogue that are missing."""
        places = list({step.place: None for group in groups for step in group if isinstance(step.mutation, Put)})
        keys = sum(map(len, groups))
        while True:
            rows = await self._catalogue.missing(places, until)
            inline = [] if self._in_cluster else rows
            calls = [
                make_call(group, atomic=atomic, now=now, rows=inline, watched=not self._in_cluster) for group in groups
            ]
            requests = [each.request for each in calls]
            if rows and self._in_cluster:
                requests.append(self._catalogue.request(rows))
            await self._courier.tell(requests, until, keys=keys)
            if not rows or await self._has_registered(requests, places, until):
                return calls
            if time.monotonic() >= until:
                raise TimedOut("others changed the catalogue again and again", store=self._courier.store)

    async def _has_registered(self, requests: Sequence[Request], places: Sequence[Place], until: float) -> bool:
        """Look at what became of the rows of the catalogue; answer whether the records need not be sent again."""
        if self._in_cluster:
            told = requests[-1].result
            if told == 1:
                self._catalogue.done(places)
            elif told == 0:
                with suppress(
                    StoreError
                ):  # The records may be written: that is what counts. The next write looks again.
                    await self._catalogue.look_again(places, until)
            return True
        result = requests[0].result
        if result == [_CHANGED]:
            await self._catalogue.look_again(places, until)
            return False
        if not isinstance(result, KvModelError) and result[0] == 1 and any(code != _CHANGED for code in result[1:]):
            self._catalogue.done(places)
        return True


_CHANGED: Final = 2


def _cut(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Cut a batch into requests."""
    request: list[Step] = []
    size = 0
    for step in steps:
        if request and (len(request) == MAX_BATCH or size + step.size > _BATCH_BYTES):
            yield request
            request, size = [], 0
        request.append(step)
        size += step.size
    yield request
