"""Writing to etcd: one transaction, its comparisons first; what to do when it is refused, or its answer is lost.

Rules.

* A write is one request. When its comparisons do not all hold, the answer says what is there; what that leaves open is
  read, and then either it is a ``Conflict`` or the write is sent again, relying on what was read.
* A write whose answer was lost is looked up by the stamps of its records. Found: it was done. Not found, and it relies
  on a revision of a key that it changes, which is still there: it is sent again, as it can be done only once. Otherwise
  nobody knows.
* A batch is one request too: writes without an expectation stand in it as they are, the others as transactions of their
  own inside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import attrs

from kvmodel.drivers.base import ABSENT, ANYTHING, CheckRange, Key, Outcome, Put, Status, Table
from kvmodel.drivers.etcd.calls import Calls
from kvmodel.drivers.etcd.catalogue import Catalogue
from kvmodel.drivers.etcd.commands import PUT, TXN
from kvmodel.drivers.etcd.errors import outcome_unknown
from kvmodel.drivers.etcd.leases import Leases
from kvmodel.drivers.etcd.messages import (
    KeyValue,
    PutRequest,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)
from kvmodel.drivers.etcd.operations import AnyPiece, Piece, RangePiece, alone, look, looked, written_version
from kvmodel.drivers.etcd.reading import KEYS_PAGE, Reader
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import (
    BudgetExceeded,
    Conflict,
    NotFound,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    TooLarge,
)

__all__ = ["Limits", "Reach", "Writer", "conflict", "tables_of", "too_large"]

_OVERHEAD: Final = 512
"""How many bytes the server adds to a request before it measures it, and more."""


@attrs.frozen
class Limits:
    """What the server takes in one request."""

    operations: int
    request_bytes: int


class Reach(Protocol):
    """What writing needs of the driver."""

    calls: Calls
    reader: Reader
    catalogue: Catalogue
    leases: Leases
    limits: Limits

    @property
    def address(self) -> str: ...


Read = list[tuple[Piece, "KeyValue | None"]]


@attrs.define(eq=False)
class Writer:
    """One atomic write, or one request of a batch.

    Attributes:
        reach: The way to the store.
        pieces: What to write.
        now: The time, for deadlines.
        until: When the call has to be over.
    """

    reach: Reach
    pieces: list[AnyPiece]
    now: int
    until: float
    _lost: OutcomeUnknown | None = None
    _revision: int = 0

    # --- all or nothing -----------------------------------------------------------------------------------------------

    async def commit(self) -> list[Outcome]:
        """Write all or nothing. Raises ``Conflict``, ``SchemaError``, ``TooLarge``, ``OutcomeUnknown``."""
        lone = self._lone_put()
        if lone is not None:
            return [await self._put(lone)]
        self._refuse_count(brief=True)
        self._refuse([piece for piece in self.pieces if not piece.can_hold(self.now)])
        await self._examine([piece for piece in self.pieces if isinstance(piece, Piece) and piece.must_read])
        existed: dict[Piece, bool] | None = None
        try:
            while existed is None:
                await self._make_ready()
                existed = await self._attempt()
        except (StoreError, BudgetExceeded, asyncio.CancelledError) as error:
            if self._lost is None or isinstance(error, OutcomeUnknown):
                raise
            raise self._lost from error  # What failed now is the second try: the first one may still be done.
        return [self._written(piece, existed) for piece in self.pieces]

    def _lone_put(self) -> Piece | None:
        """The one record of a write that relies on nothing: of all writes the one that is made most often."""
        piece = self.pieces[0]
        if len(self.pieces) > 1 or not isinstance(piece, Piece) or piece.data is None or piece.is_conditional:
            return None
        return None if self.reach.catalogue.missing([piece.place.codec.table]) else piece

    async def _put(self, piece: Piece) -> Outcome:
        """Write one record, without a transaction around it."""
        assert piece.data is not None
        while True:
            if piece.expires_at is not None:
                await self._take_leases()
            request = PutRequest(piece.key, piece.data, piece.lease)
            try:
                answer = await self.reach.calls.call(PUT, request, until=self.until)
            except OutcomeUnknown as lost:
                await self._look_up(lost)
                break
            except NotFound:  # Its lease has ended before its time, and nothing was written.
                self._forget_leases()
                self._check_time()
            else:
                assert answer.header is not None
                self._revision = answer.header.revision
                break
        return Outcome(Status.WRITTEN, written_version(piece, self._revision))

    async def _make_ready(self) -> None:
        """See to leases, and to what does not fit the transaction otherwise."""
        self._check_time()
        await self._take_leases()
        room = self.reach.limits.operations
        if self._count(brief=False) > room:
            await self._compare_ranges()
        missing = self.reach.catalogue.missing(tables_of(self.pieces))
        largest = max(self._count(brief=False), sum(piece.changes for piece in self._records()))
        if missing and largest + len(missing) + 1 > room:
            await self._record(missing)

    async def _record(self, missing: Sequence[Table]) -> None:
        """Describe tables in a transaction of their own, where there is no room for that in the write."""
        compares, operations = self.reach.catalogue.steps(missing)
        try:
            answer = await self._send(TxnRequest(compares, operations))
        except OutcomeUnknown:
            answer = None  # What it did, or not, is read again. Of the write itself nothing was sent.
        if answer is not None and answer.succeeded:
            self.reach.catalogue.done(missing, self._revision)
        else:
            await self.reach.catalogue.look_again(missing, self.until)

    async def _attempt(self) -> dict[Piece, bool] | None:
        """Send the transaction. Answers what was there, where that was asked; ``None`` to try again."""
        missing = self.reach.catalogue.missing(tables_of(self.pieces))
        compares, operations = self.reach.catalogue.steps(missing)
        described = len(operations)
        compares += [compare for piece in self.pieces for compare in piece.compares()]
        operations += [operation for piece in self._records() for operation in piece.operations()]
        looks = [look(piece) for piece in self._conditional()]
        try:
            answer = await self._send(TxnRequest(compares, operations, looks), resendable=self._is_guarded())
        except OutcomeUnknown as lost:
            return await self._look_up(lost)
        except NotFound:  # A lease has ended before its time, and nothing was written.
            self._forget_leases()
            return None
        if answer.succeeded:
            self.reach.catalogue.done(missing, self._revision)
            return self._existed([piece for piece in self._records() if piece.changes], answer.responses[described:])
        if self._lost is not None:
            return await self._find_own(self._lost)
        if missing:
            await self.reach.catalogue.look_again(missing, self.until)
        await self._judge(list(zip(self._conditional(), map(looked, answer.responses), strict=True)))
        await self._compare_ranges()
        return None

    async def _send(self, request: TxnRequest, *, resendable: bool = False) -> TxnResponse:
        data = request.encode()
        limit = self.reach.limits.request_bytes
        if len(data) + _OVERHEAD > limit:
            raise too_large(self.pieces, len(data) + _OVERHEAD, limit, self.reach.address)
        answer = await self.reach.calls.call(TXN, data, until=self.until, resendable=resendable)
        assert answer.header is not None
        self._revision = answer.header.revision
        return answer

    async def _take_leases(self) -> None:
        for piece in self._records():
            if piece.expires_at is not None and not piece.lease:
                piece.lease = await self.reach.leases.find(piece.expires_at, self.now, self.until)

    def _forget_leases(self) -> None:
        for piece in self._records():
            if piece.lease:
                self.reach.leases.forget(piece.lease)
                piece.lease = 0

    # --- when it was refused ------------------------------------------------------------------------------------------

    async def _examine(self, pieces: Sequence[Piece]) -> None:
        """Read what pieces rely on, and compare. Raises ``Conflict``."""
        if pieces:
            found = await self.reach.reader.fetch([piece.key for piece in pieces], self.until, keys_only=True)
            await self._judge(list(zip(pieces, found, strict=True)))

    async def _judge(self, read: Read) -> None:
        """Say what failed, or learn what to rely on the next time. Raises ``Conflict``."""
        failed: list[AnyPiece] = []
        open_ones: list[Piece] = []
        for piece, kv in read:
            verdict = piece.holds(kv, self.now)
            if verdict is None:
                open_ones.append(piece)
            elif not verdict:
                failed.append(piece)
        if open_ones:
            found = await self.reach.reader.fetch([piece.key for piece in open_ones], self.until)
            for piece, kv in zip(open_ones, found, strict=True):
                if not piece.holds(kv, self.now):
                    failed.append(piece)
        self._refuse(failed)

    async def _compare_ranges(self) -> None:
        """Read the ranges once more. Raises ``Conflict``."""
        failures: list[tuple[AnyPiece, list[Key]]] = []
        for piece in self.pieces:
            if isinstance(piece, RangePiece) and not piece.is_empty:
                changed = await self._compare(piece)
                if changed:
                    failures.append((piece, changed))
        if failures:
            raise conflict(failures, self.reach.address)

    async def _compare(self, piece: RangePiece) -> list[Key]:
        found: list[KeyValue] = []
        start, first, more = piece.start, 0, True
        while more:
            kvs, more, revision = await self.reach.reader.heads(piece.place, start, piece.stop, KEYS_PAGE, self.until)
            first = first or revision  # Later pages may show more than this, and then it fails at commit.
            found += kvs
            if more:
                start = kvs[-1].key + b"\0"
        return piece.differences(found, first, self.now)

    # --- when the answer was lost -------------------------------------------------------------------------------------

    def _guards(self) -> list[Piece]:
        """The pieces that rely on a revision of what they change: those can be done only once."""
        return [piece for piece in self._records() if piece.changes and piece.named_revision is not None]

    def _is_guarded(self) -> bool:
        return bool(self._guards())

    def _stamped(self) -> list[Piece]:
        return [piece for piece in self._records() if piece.data is not None and not piece.place.is_plain]

    async def _look_up(self, lost: OutcomeUnknown) -> dict[Piece, bool] | None:
        """Find out what became of the write. Answers as :meth:`_attempt` does, or raises ``OutcomeUnknown``."""
        if isinstance(lost.__cause__, asyncio.CancelledError) or time.monotonic() >= self.until:
            raise lost
        guards, stamped = self._guards(), self._stamped()
        if not (guards or stamped):
            raise lost
        found = await self._read_again([*stamped, *guards], lost)
        if self._is_own(stamped, found):
            return {}
        if guards and all((kv := found[piece]) and kv.mod_revision == piece.named_revision for piece in guards):
            self._lost = lost
            return None
        raise lost

    async def _find_own(self, lost: OutcomeUnknown) -> dict[Piece, bool]:
        """A write that was sent again was refused: was it because it had been done the first time?"""
        stamped = self._stamped()
        if self._is_own(stamped, await self._read_again(stamped, lost)):
            return {}
        raise lost

    async def _read_again(self, pieces: Sequence[Piece], lost: OutcomeUnknown) -> dict[Piece, KeyValue | None]:
        chosen = list(dict.fromkeys(pieces))
        try:
            found = await self.reach.reader.fetch([piece.key for piece in chosen], self.until) if chosen else []
        except (StoreError, BudgetExceeded, asyncio.CancelledError) as error:
            raise lost from error
        return dict(zip(chosen, found, strict=True))

    def _is_own(self, stamped: Sequence[Piece], found: dict[Piece, KeyValue | None]) -> bool:
        """Whether any record is this very write's: then all of it was done, in one revision."""
        for piece in stamped:
            kv = found[piece]
            if kv is not None and isinstance(piece.mutation, Put) and piece.place.has_stamp(kv, piece.mutation.stamp):
                self._revision = kv.mod_revision
                return True
        return False

    # --- batches ------------------------------------------------------------------------------------------------------

    async def settle(self) -> dict[AnyPiece, Outcome]:
        """Write what can be written, each piece for itself. There are no range checks among them."""
        outcomes: dict[AnyPiece, Outcome] = {}
        self._drop([piece for piece in self.pieces if not piece.can_hold(self.now)], outcomes)
        while self.pieces:
            try:
                self._check_time()
                await self._examine([piece for piece in self._records() if piece.must_read])
                await self._take_leases()
                await self._attempt_each(outcomes)
            except Conflict as refused:
                named = set(refused.keys)
                self._drop([piece for piece in self.pieces if _name(piece) in named], outcomes)
            except (StoreError, BudgetExceeded, asyncio.CancelledError) as error:
                return outcomes | self._left(error, outcomes)
        return outcomes

    def _left(self, error: BaseException, outcomes: dict[AnyPiece, Outcome]) -> dict[AnyPiece, Outcome]:
        """Answer what became of the pieces that are left, where others were written; else raise the error."""
        if all(outcome.status is not Status.WRITTEN for outcome in outcomes.values()):
            raise error
        if not isinstance(error, StoreError) or isinstance(error.__cause__, asyncio.CancelledError):
            raise outcome_unknown(self.reach.address) from error
        status = Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.UNSENT
        return dict.fromkeys(self.pieces, Outcome(status, error=error))

    async def _attempt_each(self, outcomes: dict[AnyPiece, Outcome]) -> None:
        """Send one request; what was done, or failed, is no piece of this write any more."""
        missing = self.reach.catalogue.missing(tables_of(self.pieces))
        compares, operations = self.reach.catalogue.steps(missing)
        described = len(operations)
        pieces = self._records()
        operations += map(alone, pieces)
        try:
            answer = await self._send(TxnRequest(compares, operations))
        except OutcomeUnknown as lost:
            outcomes |= await self._look_up_each(lost)
            self.pieces = []
            return
        except NotFound:
            self._forget_leases()
            return
        if not answer.succeeded:
            await self.reach.catalogue.look_again(missing, self.until)
            return
        self.reach.catalogue.done(missing, self._revision)
        refused: Read = []
        for piece, response in zip(pieces, answer.responses[described:], strict=True):
            inner = response.response_txn
            if inner is not None and not inner.succeeded:
                refused.append((piece, looked(inner.responses[0])))
                continue
            done = response if inner is None else inner.responses[0] if inner.responses else ResponseOp()
            outcomes[piece] = self._written(piece, self._existed([piece], [done]))
            self.pieces.remove(piece)
        await self._judge(refused)

    async def _look_up_each(self, lost: OutcomeUnknown) -> dict[AnyPiece, Outcome]:
        """Find out what became of a batch: of its parts, those whose stamp is found were written."""
        if isinstance(lost.__cause__, asyncio.CancelledError) or time.monotonic() >= self.until:
            raise lost
        stamped = self._stamped()
        found = await self._read_again(stamped, lost)
        own = [piece for piece in stamped if self._is_own([piece], found)]
        if not own:
            raise lost
        outcomes: dict[AnyPiece, Outcome] = dict.fromkeys(self.pieces, Outcome(Status.UNKNOWN, error=lost))
        return outcomes | {piece: self._written(piece, {}) for piece in own}

    def _drop(self, failing: Sequence[AnyPiece], outcomes: dict[AnyPiece, Outcome]) -> None:
        for piece in failing:
            error = conflict([(piece, [_key(piece)])], self.reach.address)
            outcomes[piece] = Outcome(Status.CONFLICT, error=error)
            self.pieces.remove(piece)

    # --- what there is ------------------------------------------------------------------------------------------------

    def _records(self) -> list[Piece]:
        return [piece for piece in self.pieces if isinstance(piece, Piece)]

    def _conditional(self) -> list[Piece]:
        return [piece for piece in self._records() if piece.is_conditional]

    def _count(self, *, brief: bool) -> int:
        """Answer how many comparisons it takes."""
        ranges = sum(piece.count(brief=brief) for piece in self.pieces if isinstance(piece, RangePiece))
        return ranges + len(self._conditional())

    def _refuse_count(self, *, brief: bool) -> None:
        count, limit = self._count(brief=brief), self.reach.limits.operations
        if count > limit:
            raise TooLarge(
                "this atomic write relies on more records than the store compares at once: split the unit of work, or "
                "read its ranges with .unchecked()",
                size=count,
                limit=limit,
                store=self.reach.address,
            )

    def _refuse(self, failing: Sequence[AnyPiece]) -> None:
        if failing:
            raise conflict([(piece, _keys(piece)) for piece in failing], self.reach.address)

    def _check_time(self) -> None:
        if time.monotonic() >= self.until:
            raise self._lost or TimedOut(
                "others changed what this write relies on again and again; nothing was written",
                store=self.reach.address,
            )

    def _written(self, piece: AnyPiece, existed: dict[Piece, bool]) -> Outcome:
        if isinstance(piece, RangePiece):
            return Outcome(Status.WRITTEN)
        known = existed.get(piece)
        if known is None and piece.is_conditional:
            known = piece.expect is not ABSENT
        return Outcome(Status.WRITTEN, written_version(piece, self._revision), known)

    def _existed(self, pieces: Sequence[Piece], responses: Sequence[ResponseOp]) -> dict[Piece, bool]:
        """Answer what was there, of the deletions that asked for it."""
        found: dict[Piece, bool] = {}
        for piece, response in zip(pieces, responses, strict=True):
            deleted = response.response_delete_range
            if deleted is not None and piece.expect is ANYTHING:
                found[piece] = any(piece.place.is_alive(kv, self.now) for kv in deleted.prev_kvs)
        return found


# --- names and errors -------------------------------------------------------------------------------------------------


def tables_of(pieces: Sequence[AnyPiece]) -> list[Table]:
    """Answer the tables that records are stored in, which the store has to describe."""
    stored = [piece for piece in pieces if isinstance(piece, Piece) and piece.data is not None]
    return list(dict.fromkeys(piece.place.codec.table for piece in stored))


def _key(piece: AnyPiece) -> Key:
    if isinstance(piece, Piece) and piece.mutation is None:
        return piece.place.codec.decode_key(piece.key)
    assert piece.mutation is not None
    assert not isinstance(piece.mutation, CheckRange)
    return piece.mutation.key


def _keys(piece: AnyPiece) -> list[Key]:
    return [_key(piece)] if isinstance(piece, Piece) else [key for key, _ in piece.mutation.rows]


def _name(piece: AnyPiece) -> tuple[str, Key]:
    return piece.place.codec.table.name, _key(piece)


def conflict(failures: Sequence[tuple[AnyPiece, list[Key]]], store: str) -> Conflict:
    """Answer the error of a write whose expectations do not hold, with the keys concerned."""
    keys = [(piece.place.codec.table.name, key) for piece, failed in failures for key in failed]
    taken = all(isinstance(piece.mutation, Put) and piece.mutation.expect is ABSENT for piece, _ in failures)
    return conflict_of(keys, store, taken=taken)


def too_large(pieces: Sequence[AnyPiece], size: int, limit: int, store: str) -> TooLarge:
    """Answer the error of a request that the store would not take."""
    mutation = pieces[0].mutation if len(pieces) == 1 else None
    return TooLarge(
        "this write is larger than the store takes in one request: split it",
        size=size,
        limit=limit,
        table=mutation.table.name if mutation else None,
        key=None if mutation is None or isinstance(mutation, CheckRange) else mutation.key,
        store=store,
    )
