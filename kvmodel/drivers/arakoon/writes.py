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
from typing import Final, Protocol, TypeAlias

import attrs

from kvmodel.drivers.arakoon.pieces import MAX_LISTED, Piece, RangePiece
from kvmodel.drivers.arakoon.places import HEADS
from kvmodel.drivers.arakoon.protocol import Refusal
from kvmodel.drivers.arakoon.steps import Step, encode_step
from kvmodel.drivers.base import ABSENT, CheckRange, Delete, Key, Mutation, Outcome, Put, Status
from kvmodel.errors import (
    AlreadyExists,
    BudgetExceeded,
    Conflict,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    TooLarge,
)

__all__ = ["AnyPiece", "Reach", "Writer", "size_of"]

AnyPiece: TypeAlias = "Piece | RangePiece"

HEAD_BYTES: Final = 8
"""What a sequence has around its steps."""


class Reach(Protocol):
    """What writing needs of the driver."""

    @property
    def address(self) -> str: ...

    async def send(self, steps: Sequence[Step], until: float) -> None:
        """Send one sequence. Raises ``Conflict`` with the store's words as its cause, or ``OutcomeUnknown``."""
        ...

    async def fetch(self, keys: Sequence[bytes], until: float) -> list[bytes | None]:
        """Read values."""
        ...

    async def list_heads(self, prefix: bytes, limit: int, until: float) -> list[tuple[bytes, bytes]]:
        """Read what lies below a prefix."""
        ...


Registering = Callable[[], "tuple[Sequence[Step], Sequence[Step]]"]
"""Answers what has to hold of the catalogue, and what has to be written into it."""


def size_of(steps: Iterable[Step]) -> int:
    """Answer how many bytes steps have on the wire."""
    return sum(len(encode_step(step)) for step in steps)


@attrs.define(eq=False)
class Writer:
    """One call of ``write``, or one request of a batch.

    Attributes:
        reach: The way to the store.
        pieces: What to write.
        now: The time, for deadlines.
        until: When the call has to be over.
        registering: What the catalogue needs.
        refresh: Reads the catalogue again, when it is not what it was. Raises ``SchemaError``.
    """

    reach: Reach
    pieces: list[AnyPiece]
    now: int
    until: float
    registering: Registering
    refresh: Callable[[], Awaitable[None]]
    _was_lost: OutcomeUnknown | None = None

    async def commit(self) -> list[Outcome]:
        """Write all or nothing. Raises ``Conflict``, ``SchemaError``, ``OutcomeUnknown``."""
        self._refuse([piece for piece in self.pieces if isinstance(piece, Piece) and not piece.can_hold(self.now)])
        await self._read_first()
        while not await self._attempt():
            self._check_time()
        return [_written(piece) for piece in self.pieces]

    async def settle(self) -> dict[AnyPiece, Outcome]:
        """Write what can be written, each piece for itself."""
        outcomes: dict[AnyPiece, Outcome] = {}
        self._drop([p for p in self.pieces if isinstance(p, Piece) and not p.can_hold(self.now)], outcomes)
        while self.pieces:
            try:
                await self._read_first()
                if await self._attempt():
                    break
            except Conflict as conflict:
                failed = set(conflict.keys)
                self._drop([piece for piece in self.pieces if _name(piece) in failed], outcomes)
            self._check_time()
        return outcomes | {piece: _written(piece) for piece in self.pieces}

    def _drop(self, failing: Sequence[AnyPiece], outcomes: dict[AnyPiece, Outcome]) -> None:
        for piece in failing:
            outcomes[piece] = Outcome(Status.CONFLICT, error=self._conflict([(piece, [_key(piece)])]))
            self.pieces.remove(piece)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> bool:
        """Send the sequence. Answers whether it was done; if not, it is to be tried again. Raises ``Conflict``."""
        asserted, written = self.registering()
        steps = [*asserted, *(step for piece in self.pieces for step in piece.asserts())]
        steps += [*written, *(step for piece in self.pieces if isinstance(piece, Piece) for step in piece.steps())]
        try:
            await self.reach.send(steps, self.until)
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
        piece = next((p for p in self.pieces if isinstance(p, Piece) and p.head_key == named), None)
        if piece is not None and piece.names_version and piece.is_conditional:
            raise self._conflict([(piece, [_key(piece)])]) from cause
        if named.startswith(b"\x00") and not named.startswith(HEADS):
            await self.refresh()
        await self._examine(cause)

    async def _examine(self, cause: BaseException | None = None) -> None:
        """Read what the pieces rely on, and compare. Raises ``Conflict``."""
        pieces = [piece for piece in self.pieces if isinstance(piece, Piece) and piece.is_conditional]
        heads = await self.reach.fetch([piece.head_key for piece in pieces], self.until) if pieces else []
        failures: list[tuple[AnyPiece, list[Key]]] = [
            (piece, [_key(piece)]) for piece, head in zip(pieces, heads, strict=True) if not piece.holds(head, self.now)
        ]
        for check in self.pieces:
            if isinstance(check, RangePiece) and not check.is_empty:
                failures += await self._compare(check)
        if failures:
            raise self._conflict(failures) from cause

    async def _compare(self, check: RangePiece) -> list[tuple[AnyPiece, list[Key]]]:
        listed = await self.reach.list_heads(check.head_prefix, MAX_LISTED + 1, self.until)
        changed = check.differences(listed, self.now)
        return [(check, changed)] if changed else []

    async def _read_first(self) -> None:
        if any(piece.must_read for piece in self.pieces):
            await self._examine()

    # --- when the answer was lost -------------------------------------------------------------------------------------

    async def _look_up(self, lost: OutcomeUnknown) -> bool:
        """Find out what became of a sequence. Answers as :meth:`_attempt` does, or raises ``OutcomeUnknown``."""
        if isinstance(lost.__cause__, asyncio.CancelledError) or time.monotonic() >= self.until:
            raise lost
        guards = [piece for piece in self.pieces if isinstance(piece, Piece) and piece.changes and piece.names_version]
        puts = self._stamped()
        if not (puts or guards):
            raise lost
        try:
            heads = await self._heads({*puts, *guards})
        except (StoreError, BudgetExceeded) as error:
            raise lost from error
        if any(heads[piece] == piece.head for piece in puts):
            return True
        if guards and all(heads[piece] == piece.expect for piece in guards):
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
        if any(heads[piece] == piece.head for piece in puts):
            return True
        raise lost

    def _stamped(self) -> set[Piece]:
        return {piece for piece in self.pieces if isinstance(piece, Piece) and piece.puts and not piece.place.is_plain}

    async def _heads(self, pieces: Iterable[Piece]) -> dict[Piece, bytes | None]:
        chosen = list(pieces)
        found = await self.reach.fetch([piece.head_key for piece in chosen], self.until) if chosen else []
        return dict(zip(chosen, found, strict=True))

    # --- errors -------------------------------------------------------------------------------------------------------

    def _refuse(self, failing: Sequence[AnyPiece]) -> None:
        if failing:
            raise self._conflict([(piece, [_key(piece)]) for piece in failing])

    def _check_time(self) -> None:
        if time.monotonic() >= self.until:
            raise TimedOut(
                "others changed what this write relies on again and again; nothing was written",
                store=self.reach.address,
            )

    def _conflict(self, failures: Sequence[tuple[AnyPiece, list[Key]]]) -> Conflict:
        keys = [(piece.place.table.name, key) for piece, failed in failures for key in failed]
        table, key = keys[0] if len(keys) == 1 else (None, None)
        if all(isinstance(piece.mutation, Put) and piece.mutation.expect is ABSENT for piece, _ in failures):
            return AlreadyExists(
                "this key is taken: change the record that is there, or save() to replace it whatever it is",
                keys=keys,
                table=table,
                key=key,
                store=self.reach.address,
            )
        return Conflict(
            "somebody else wrote first and nothing was written: read again, then retry",
            keys=keys,
            table=table,
            key=key,
            store=self.reach.address,
        )


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


def _key(piece: AnyPiece) -> Key:
    mutation = piece.mutation
    if mutation is None or isinstance(mutation, CheckRange):
        assert isinstance(piece, Piece)
        return piece.place.codec.decode_key(piece.key)
    return mutation.key


def _name(piece: AnyPiece) -> tuple[str, Key]:
    return piece.place.table.name, _key(piece)


def _written(piece: AnyPiece) -> Outcome:
    mutation: Mutation | None = piece.mutation
    if isinstance(piece, RangePiece) or mutation is None or isinstance(mutation, CheckRange):
        return Outcome(Status.WRITTEN)
    existed = None if not piece.is_conditional else mutation.expect is not ABSENT
    if isinstance(mutation, Delete) or not piece.puts:
        return Outcome(Status.WRITTEN, None, existed)
    return Outcome(Status.WRITTEN, piece.head, existed)
