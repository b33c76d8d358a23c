"""Writes: one sequence each, and what follows when it fails or its answer is lost.

Rules.

* Everything is encoded, and measured, before anything is sent.
* A failed assertion names one key. What was relied on there is looked at: a version that is gone is a conflict at once;
  'absent' may have met an expired record, and a range its neighbours, so these are read and the sequence is sent again
  relying on what was read. Each round either ends or knows more.
* A sequence whose answer was lost is looked up by the stamps in its heads. Found: it was done. Not found, and it relies
  on a version of a record that it changes, which is still there: it is sent again, as it can be done only once. In all
  other cases nobody knows, and that is what the caller is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from kvmodel.drivers.arakoon.layout import HEADS
from kvmodel.drivers.arakoon.operations import MAX_LISTED, Operation, RangeOperation, RecordOperation
from kvmodel.drivers.arakoon.protocol import Refusal
from kvmodel.drivers.arakoon.requests import Requests
from kvmodel.drivers.arakoon.steps import Step
from kvmodel.drivers.base import ABSENT, CheckRange, Delete, Key, Mutation, Outcome, Put, Status
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import BudgetExceeded, Conflict, OutcomeUnknown, StoreError, TimedOut

__all__ = ["Writer"]

CatalogueSteps = Callable[[], "tuple[Sequence[Step], Sequence[Step]]"]
"""Answers what has to hold of the catalogue, and what has to be written into it."""


@attrs.define(eq=False)
class Writer:
    """One call of ``write``, or one request of a batch.

    Attributes:
        requests: The way to the store.
        operations: What to write.
        now: The time, for deadlines.
        until: When the call has to be over.
        catalogue_steps: What the catalogue needs.
        refresh: Reads the catalogue again, when it is not what it was. Raises ``SchemaError``.
    """

    requests: Requests
    operations: list[Operation]
    now: int
    until: float
    catalogue_steps: CatalogueSteps
    refresh: Callable[[], Awaitable[None]]
    _was_lost: OutcomeUnknown | None = None

    async def commit(self) -> list[Outcome]:
        """Write all or nothing. Raises ``Conflict``, ``SchemaError``, ``OutcomeUnknown``."""
        self._refuse(self._impossible())
        await self._read_first()
        while not await self._attempt():
            self._check_time()
        return [_written(operation) for operation in self.operations]

    async def settle(self) -> dict[Operation, Outcome]:
        """Write what can be written, each operation for itself."""
        outcomes: dict[Operation, Outcome] = {}
        self._drop(self._impossible(), outcomes)
        while self.operations:
            try:
                await self._read_first()
                if await self._attempt():
                    break
            except Conflict as conflict:
                failed = set(conflict.keys)
                self._drop([operation for operation in self.operations if _name(operation) in failed], outcomes)
            self._check_time()
        return outcomes | {operation: _written(operation) for operation in self.operations}

    @property
    def _records(self) -> list[RecordOperation]:
        return [operation for operation in self.operations if isinstance(operation, RecordOperation)]

    def _impossible(self) -> list[RecordOperation]:
        return [record for record in self._records if not record.can_hold(self.now)]

    def _drop(self, failing: Sequence[Operation], outcomes: dict[Operation, Outcome]) -> None:
        for operation in failing:
            outcomes[operation] = Outcome(Status.CONFLICT, error=self._conflict([(operation, [_key(operation)])]))
            self.operations.remove(operation)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> bool:
        """Send the sequence. Answers whether it was done; if not, it is to be tried again. Raises ``Conflict``."""
        asserted, written = self.catalogue_steps()
        steps = [*asserted, *(step for operation in self.operations for step in operation.asserts())]
        steps += [*written, *(step for operation in self.operations for step in operation.changes())]
        try:
            await self.requests.send(steps, self.until)
        except Conflict as refused:
            if self._was_lost is not None:
                return await self._find_own(self._was_lost)
            await self._judge(refused)
            return False
        except OutcomeUnknown as lost:
            return await self._look_up(lost)
        return True

    async def _judge(self, refused: Conflict) -> None:
        """Say what failed, or learn what to rely on the next time."""
        cause = refused.__cause__
        named = cause.text if isinstance(cause, Refusal) else b""
        record = next((record for record in self._records if record.head_key == named), None)
        if record is not None and record.names_version and record.is_conditional:
            raise self._conflict([(record, [_key(record)])]) from cause
        if named.startswith(b"\x00") and not named.startswith(HEADS):
            await self.refresh()
        await self._examine(cause)

    async def _examine(self, cause: BaseException | None = None) -> None:
        """Read what the operations rely on, and compare. Raises ``Conflict``."""
        heads = await self._heads(record for record in self._records if record.is_conditional)
        failures: list[tuple[Operation, list[Key]]] = [
            (record, [_key(record)]) for record, head in heads.items() if not record.holds(head, self.now)
        ]
        for check in self.operations:
            if isinstance(check, RangeOperation) and not check.is_empty:
                failures += await self._compare(check)
        if failures:
            raise self._conflict(failures) from cause

    async def _compare(self, check: RangeOperation) -> list[tuple[Operation, list[Key]]]:
        listed = await self.requests.list_heads(check.head_prefix, MAX_LISTED + 1, self.until)
        changed = check.differences(listed, self.now)
        return [(check, changed)] if changed else []

    async def _read_first(self) -> None:
        if any(operation.must_read for operation in self.operations):
            await self._examine()

    # --- when the answer was lost -------------------------------------------------------------------------------------

    async def _look_up(self, lost: OutcomeUnknown) -> bool:
        """Find out what became of a sequence. Answers as :meth:`_attempt` does, or raises ``OutcomeUnknown``."""
        if isinstance(lost.__cause__, asyncio.CancelledError) or time.monotonic() >= self.until:
            raise lost
        guards = [record for record in self._records if record.is_change and record.names_version]
        puts = self._stamped()
        if not (puts or guards):
            raise lost
        try:
            heads = await self._heads({*puts, *guards})
        except (StoreError, BudgetExceeded) as error:
            raise lost from error
        if any(heads[record] == record.head for record in puts):
            return True
        if guards and all(heads[record] == record.expect for record in guards):
            self._was_lost = lost
            return False
        raise lost

    async def _find_own(self, lost: OutcomeUnknown) -> bool:
        """A sequence that was sent again met a failing assertion: was it because it had been done the first time?"""
        puts = self._stamped()
        try:
            heads = await self._heads(puts)
        except (StoreError, BudgetExceeded) as error:
            raise lost from error
        if any(heads[record] == record.head for record in puts):
            return True
        raise lost

    def _stamped(self) -> set[RecordOperation]:
        return {record for record in self._records if record.puts and not record.layout.is_plain}

    async def _heads(self, records: Iterable[RecordOperation]) -> dict[RecordOperation, bytes | None]:
        chosen = list(records)
        found = await self.requests.fetch([record.head_key for record in chosen], self.until)
        return dict(zip(chosen, found, strict=True))

    # --- errors -------------------------------------------------------------------------------------------------------

    def _refuse(self, failing: Sequence[Operation]) -> None:
        if failing:
            raise self._conflict([(operation, [_key(operation)]) for operation in failing])

    def _check_time(self) -> None:
        if time.monotonic() >= self.until:
            raise TimedOut(
                "others changed what this write relies on again and again; nothing was written",
                store=self.requests.address,
            )

    def _conflict(self, failures: Sequence[tuple[Operation, list[Key]]]) -> Conflict:
        keys = [(operation.layout.table.name, key) for operation, failed in failures for key in failed]
        taken = all(
            isinstance(operation.mutation, Put) and operation.mutation.expect is ABSENT for operation, _ in failures
        )
        return conflict_of(keys, self.requests.address, taken=taken)


def _key(operation: Operation) -> Key:
    mutation = operation.mutation
    if mutation is None or isinstance(mutation, CheckRange):
        assert isinstance(operation, RecordOperation)
        return operation.layout.codec.decode_key(operation.key)
    return mutation.key


def _name(operation: Operation) -> tuple[str, Key]:
    return operation.layout.table.name, _key(operation)


def _written(operation: Operation) -> Outcome:
    mutation: Mutation | None = operation.mutation
    if isinstance(operation, RangeOperation) or mutation is None or isinstance(mutation, CheckRange):
        return Outcome(Status.WRITTEN)
    existed = None if not operation.is_conditional else mutation.expect is not ABSENT
    if isinstance(mutation, Delete) or not operation.puts:
        return Outcome(Status.WRITTEN, None, existed)
    return Outcome(Status.WRITTEN, operation.head, existed)
