"""Writes: one request for one partition, a transaction for everything else.

Rules.

* Everything is encoded and checked before anything is sent.
* A batch changes rows of one partition at once. It can compare the versions of the rows that it changes, and it cannot
  check a row without changing it. Deleted rows keep their version, so that 'free' means version 0 only at first sight:
  a refused write is looked at, and sent again where the key is free after all. 409 is the promise that nothing was
  written.
* A transaction reads every row with ``watch``, in the order of keys, so that two of them never wait for each other;
  then compares, writes and commits. Before the commit nothing counts: whatever fails there has not happened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.errors import CasError, KvError, TransactionCompletedError, TransactionNotFoundError
from kvmodel.drivers.acapella.keys import Address
from kvmodel.drivers.acapella.layout import Place
from kvmodel.drivers.acapella.protocol import Call, Found
from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Check,
    Delete,
    Expectation,
    Key,
    Outcome,
    Put,
    Status,
    Version,
)
from kvmodel.drivers.meter import spend
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import (
    Conflict,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    TooLarge,
)

if TYPE_CHECKING:
    from kvmodel.drivers.acapella.session import Session
    from kvmodel.drivers.acapella.transactions import Transaction

__all__ = ["Step", "Writer"]

T = TypeVar("T")

_AT_ONCE: Final = 16
_NEVER: Final = -1


@attrs.frozen(eq=False)
class Step:
    """One mutation, encoded. ``body`` is ``None`` for a removal, and for a check."""

    mutation: Put | Delete | Check
    place: Place
    address: Address
    body: bytes | None

    @property
    def expect(self) -> Expectation:
        """What it relies on."""
        return self.mutation.expect

    @property
    def changes(self) -> bool:
        """Whether it writes."""
        return not isinstance(self.mutation, Check)

    @property
    def known(self) -> int | None:
        """Which version the store is to compare with, as far as that is known without reading."""
        if self.expect is ANYTHING:
            return None
        if self.expect is ABSENT:
            return 0
        return self.expect if isinstance(self.expect, int) else _NEVER

    def holds(self, found: Found) -> bool:
        """Whether what was read is what it relies on."""
        if self.expect is ANYTHING:
            return True
        is_live = found.value is not None
        if self.expect is ABSENT:
            return not is_live
        return is_live and (self.expect is PRESENT or self.expect == found.version)

    def outcome(self, version: int, existed: bool | None) -> Outcome:
        """What became of it, once it was written."""
        new: Version | None = None
        if isinstance(self.mutation, Put):
            assert self.body is not None
            new = self.place.version_written(version, self.body)
        return Outcome(Status.WRITTEN, new, existed)


class Writer:
    """One call of ``write``.

    Args:
        session: Where to send.
        steps: What to write.
        until: When it has to be over.
        max_batch: How many rows one batch takes.
        max_request_bytes: How many bytes one batch takes.
        transactions: How many transactions of this connection may be open at once.
    """

    def __init__(
        self,
        session: Session,
        steps: Sequence[Step],
        until: float,
        *,
        max_batch: int,
        max_request_bytes: int,
        transactions: asyncio.Semaphore,
    ) -> None:
        self._session = session
        self._steps = steps
        self._until = until
        self._max_batch = max_batch
        self._max_request_bytes = max_request_bytes
        self._transactions = transactions
        self._turns = asyncio.Semaphore(_AT_ONCE)

    # --- all or nothing -----------------------------------------------------------------------------------------------

    async def commit(self) -> list[Outcome]:
        """Write everything, or nothing. Raises ``Conflict``; then nothing was written."""
        steps = self._steps
        if len(steps) == 1 and not steps[0].changes:
            return [await self._check(steps[0])]
        if len(steps) == 1 and steps[0].place.is_tree:
            return [await self._put(steps[0], None)]
        if self._fits_a_batch():
            if len(steps) > 1:
                self._check_size(steps)
            return await self._group(steps)
        return await self._transact()

    def _fits_a_batch(self) -> bool:
        steps = self._steps
        same = len({step.address.partition for step in steps}) == 1
        plain = all(step.changes and not step.place.is_tree for step in steps)
        return same and plain and (len(steps) == 1 or all(step.expect is not PRESENT for step in steps))

    async def _check(self, step: Step) -> Outcome:
        found = await self._call(step.place.get_call(step.address))
        if not step.holds(found):
            raise self._conflict([step])
        return Outcome(Status.WRITTEN, None, found.value is not None)

    async def _group(self, steps: Sequence[Step]) -> list[Outcome]:
        """Write rows of one partition at once."""
        known = [step.known for step in steps]
        existed = [_existed(step) for step in steps]
        if any(step.expect is PRESENT for step in steps):
            known = await self._look(steps, known)
        spend(0, len(steps))
        while True:
            if _NEVER in known:  # A version that this store never gives: somebody else's token.
                raise self._conflict([step for step, each in zip(steps, known, strict=True) if each == _NEVER])
            try:
                versions = await self._send(steps, known)
            except CasError:
                known = await self._look(steps, known)
                self._check_time()
                continue
            triples = zip(steps, versions, existed, strict=True)
            return [step.outcome(version, was_there) for step, version, was_there in triples]

    async def _look(self, steps: Sequence[Step], known: list[int | None]) -> list[int | None]:
        """See what a refused write met. Answers the versions to send it again with, or raises ``Conflict``."""
        relying = [step for step in steps if step.expect is not ANYTHING]
        found = dict(zip(relying, await self._together([partial(self._read, step) for step in relying]), strict=True))
        failed = [step for step in relying if not step.holds(found[step])]
        if failed:
            raise self._conflict(failed)
        return [found[step].version if step in found else each for step, each in zip(steps, known, strict=True)]

    async def _read(self, step: Step) -> Found:
        return await self._call(step.place.get_call(step.address))

    async def _send(self, steps: Sequence[Step], known: Sequence[int | None]) -> list[int]:
        if len(steps) == 1:
            (step,) = steps
            return [await self._call(step.place.put_call(step.address, step.body, old_version=known[0]))]
        items = [(step.address.clustering, step.body, each) for step, each in zip(steps, known, strict=True)]
        first = steps[0]
        reindex = any(step.place.reindexes for step in steps)
        return await self._call(protocol.batch(first.address.partition, items, first.place.quorum, reindex=reindex))

    async def _put(self, step: Step, old_version: int | None) -> Outcome:
        spend(0, 1)
        version = await self._call(step.place.put_call(step.address, step.body, old_version=old_version))
        return step.outcome(version, _existed(step))

    def _check_size(self, steps: Sequence[Step]) -> None:
        size = sum(map(_size, steps))
        if size > self._max_request_bytes:
            raise TooLarge(
                "this write is larger than what is sent at once: split the unit of work",
                size=size,
                limit=self._max_request_bytes,
                store=self._session.store,
            )

    # --- a transaction ------------------------------------------------------------------------------------------------

    async def _transact(self) -> list[Outcome]:
        """Write in a transaction when there is room for one."""
        try:
            async with asyncio.timeout(self._left()):
                await self._transactions.acquire()
        except TimeoutError:
            self._check_time()
            raise
        try:
            return await self._write_in_transaction()
        finally:
            self._transactions.release()

    async def _write_in_transaction(self) -> list[Outcome]:
        """Write in a transaction, and leave none open behind."""
        steps = sorted(self._steps, key=lambda step: (step.place.is_tree, step.address))
        transaction = await self._session.transaction_manual(timeout=self._left())
        try:
            outcomes = await self._fill(steps, transaction.index)
            await self._conclude(transaction)
        except OutcomeUnknown:
            raise
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            await transaction._give_up(0.0 if is_cancelled else self._until - time.monotonic())
            raise
        return [outcomes[step] for step in self._steps]

    async def _fill(self, steps: Sequence[Step], index: int) -> dict[Step, Outcome]:
        """Lock and compare all rows, then write what is to be written. Nothing of it counts yet."""
        rows = [step for step in steps if not step.place.is_tree]
        found = {
            step: await self._inside(step.place.get_call(step.address, transaction=index, watch=True), step)
            for step in rows
        }
        spend(0, len(steps))
        failed = [step for step in rows if not step.holds(found[step])]
        if failed:
            raise self._conflict(failed)
        outcomes: dict[Step, Outcome] = {}
        for step in steps:
            seen = found.get(step)
            version = 0
            if step.changes:
                old = None if seen is None else seen.version
                call = step.place.put_call(step.address, step.body, old_version=old, transaction=index)
                version = await self._inside(call, step)
            outcomes[step] = step.outcome(version, None if seen is None else seen.value is not None)
        return outcomes

    async def _inside(self, call: Call[T], step: Step) -> T:
        try:
            return await self._call(call)
        except (CasError, TransactionNotFoundError, TransactionCompletedError) as error:
            raise self._lost_race(step) from error
        except TimedOut as error:
            if isinstance(error.__cause__, KvError):  # The server's own limit: somebody else has the lock.
                raise self._lost_race(step) from error
            raise

    async def _conclude(self, transaction: Transaction) -> None:
        try:
            await transaction.commit(timeout=self._left())
        except (CasError, TransactionNotFoundError, TransactionCompletedError) as error:
            raise self._lost_race(None) from error

    def _lost_race(self, step: Step | None) -> Conflict:
        return Conflict(
            "others hold these records, or the transaction took too long, and nothing was written: read again, then"
            " retry",
            keys=[] if step is None else [_name(step)],
            table=None if step is None else step.place.table.name,
            key=None if step is None else step.mutation.key,
            store=self._session.store,
        )

    # --- independent writes -------------------------------------------------------------------------------------------

    async def settle(self) -> list[Outcome]:
        """Write each by itself, in as few requests as that takes. Failures are outcomes."""
        groups = self._groups()
        if len(groups) == 1 and len(groups[0]) == 1:
            return [await self._settle_one(groups[0][0], raises=True)]
        found = await self._together([partial(self._settle_group, group) for group in groups])
        outcomes: dict[Step, Outcome] = {}
        for steps, ended in zip(groups, found, strict=True):
            outcomes.update(zip(steps, ended, strict=True))
        return [outcomes[step] for step in self._steps]

    def _groups(self) -> list[list[Step]]:
        """Cut the steps into what goes into one request: a batch of one partition, or one node."""
        groups: list[list[Step]] = []
        open_groups: dict[tuple[str, ...], list[Step]] = {}
        sizes: dict[tuple[str, ...], int] = {}
        for step in self._steps:
            if step.place.is_tree or not step.changes or step.expect is PRESENT:
                groups.append([step])
                continue
            partition = step.address.partition
            group, size = open_groups.get(partition), _size(step)
            if group is None or len(group) == self._max_batch or sizes[partition] + size > self._max_request_bytes:
                group = open_groups[partition] = []
                sizes[partition] = 0
                groups.append(group)
            group.append(step)
            sizes[partition] += size
        return groups

    async def _settle_group(self, steps: list[Step]) -> list[Outcome]:
        if len(steps) == 1:
            return [await self._settle_one(steps[0])]
        known = [step.known for step in steps]
        spend(0, len(steps))
        try:
            if _NEVER in known:
                raise CasError("a version is none of this store")
            versions = await self._send(steps, known)
        except CasError:
            return await self._settle_apart(steps)
        except StoreError as error:
            return [_ended(error)] * len(steps)
        return [step.outcome(version, _existed(step)) for step, version in zip(steps, versions, strict=True)]

    async def _settle_apart(self, steps: list[Step]) -> list[Outcome]:
        """Write again what a single conflict kept from being written: what relies on something one by one."""
        blind = [step for step in steps if step.expect is ANYTHING]
        groups = [[step] for step in steps if step.expect is not ANYTHING]
        if blind:
            groups.append(blind)
        outcomes: dict[Step, Outcome] = {}
        for group in groups:
            outcomes.update(zip(group, await self._settle_group(group), strict=True))
        return [outcomes[step] for step in steps]

    async def _settle_one(self, step: Step, *, raises: bool = False) -> Outcome:
        try:
            if not step.changes:
                return await self._check(step)
            if step.place.is_tree:
                return await self._put(step, None)
            (outcome,) = await self._group([step])
        except Conflict as error:
            return Outcome(Status.CONFLICT, error=error)
        except StoreError as error:
            if raises:
                raise
            return _ended(error)
        return outcome

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _call(self, call: Call[T]) -> T:
        return await self._session.call(call, timeout=self._left())

    async def _together(self, work: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """Do several things at once, and answer their results when all of them are over."""
        if len(work) < 2:
            return [await each() for each in work]
        tasks = [asyncio.ensure_future(self._in_turn(each)) for each in work]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for error in [task.exception() for task in tasks if not task.cancelled()]:
                if isinstance(error, OutcomeUnknown):
                    raise error from None
            raise
        errors = [task.exception() for task in tasks]
        for failure in errors:
            if failure is not None:
                raise failure
        return [task.result() for task in tasks]

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._turns:
            return await work()

    def _left(self) -> float:
        self._check_time()
        return self._until - time.monotonic()

    def _check_time(self) -> None:
        if time.monotonic() >= self._until:
            raise TimedOut("time ran out before this was sent: raise the timeout", store=self._session.store)

    def _conflict(self, steps: Sequence[Step]) -> Conflict:
        taken = all(isinstance(step.mutation, Put) and step.expect is ABSENT for step in steps)
        return conflict_of([_name(step) for step in steps], self._session.store, taken=taken)


def _name(step: Step) -> tuple[str, Key]:
    return step.place.table.name, step.mutation.key


def _existed(step: Step) -> bool | None:
    """Whether a record was there before a write that was done, as far as its expectation tells."""
    return None if step.expect is ANYTHING else step.expect is not ABSENT


def _size(step: Step) -> int:
    """How many bytes a step takes in a batch, at the most."""
    return 64 + 6 * sum(map(len, step.address.clustering)) + len(step.body or b"")


def _ended(error: StoreError) -> Outcome:
    if isinstance(error.__cause__, asyncio.CancelledError):
        raise error
    return Outcome(Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.UNSENT, error=error)
