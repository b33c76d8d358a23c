"""Writing: blocks on one bucket where the version has them, single statements where it has not.

Rules.

* One record, or several for themselves: a block answers which expectations hold, and its changes carry the same
  conditions, so that what fails changes nothing. One exchange.
* All or nothing: each expectation is a guard that divides by the number of rows that it finds; where there is none the
  block fails before it changes anything. Only then are the records read, to say which expectation it was.
* Without blocks, a record's UPDATE or DELETE names what it relies on, and its count tells. On vinyl that is no safe
  comparison, so it is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import asyncpg
import attrs

from kvmodel.drivers.base import ABSENT, ANYTHING, Check, Delete, Key, Outcome, Put, Row, Status
from kvmodel.drivers.picodata.bounds import Params
from kvmodel.drivers.picodata.errors import is_division
from kvmodel.drivers.picodata.operations import Piece, stamped
from kvmodel.drivers.picodata.statements import Statement, block
from kvmodel.drivers.refusals import conflict_of
from kvmodel.errors import (
    BudgetExceeded,
    Conflict,
    KvModelError,
    OutcomeUnknown,
    StoreError,
    TimedOut,
    TooLarge,
    Unsupported,
)

__all__ = ["MAX_PARAMETERS", "Reach", "Writer"]

MAX_PARAMETERS: Final = 7000
"""Versions before 26.2 drop the connection when a statement has some more."""


class Reach(Protocol):
    """What writing needs of the driver."""

    has_blocks: bool

    @property
    def address(self) -> str: ...

    async def fetch(self, statement: Statement, until: float) -> list[asyncpg.Record]:
        """Send a statement that may write, once; answer its rows. Raises ``OutcomeUnknown`` where no answer came."""
        ...

    async def change(self, statement: Statement, until: float) -> int:
        """Send a statement that writes, once; answer how many rows it changed."""
        ...

    async def look(self, pieces: Sequence[Piece], until: float) -> list[Row | None]:
        """Read the versions of records that live."""
        ...


@attrs.define
class Writer:
    """Carries out pieces.

    Attributes:
        reach: The way to the store.
        now: The time, for deadlines.
        until: When the call has to be over.
    """

    reach: Reach
    now: int
    until: float

    # --- one record ---------------------------------------------------------------------------------------------------

    async def one(self, piece: Piece) -> Outcome:
        """Carry out one piece. Raises ``Conflict``, ``OutcomeUnknown``, ``StoreError``."""
        lost: OutcomeUnknown | None = None
        while True:
            try:
                return await self._one(piece)
            except Conflict:
                if lost is None:
                    raise
                if await self._is_own([piece], lost):
                    return piece.written(piece.expect is not ABSENT)
                raise lost from None
            except OutcomeUnknown as error:
                if await self._was_done([piece], error):
                    existed = None if not piece.is_conditional else piece.expect is not ABSENT
                    return piece.written(existed)
                lost = error

    async def _one(self, piece: Piece) -> Outcome:
        if isinstance(piece.mutation, Check):
            (found,) = await self.reach.look([piece], self.until)
            if not piece.holds(found):
                raise self.conflict([piece])
            return piece.written(found is not None)
        if piece.is_replacement:
            params = Params()
            await self.reach.change(Statement(piece.insert(params, "REPLACE"), params.values), self.until)
            return piece.written(None)
        if self.reach.has_blocks:
            (outcome,) = await self._by_block([piece])
        else:
            outcome = await self._by_count(piece)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def _by_count(self, piece: Piece) -> Outcome:
        """Carry out a piece without a block."""
        refuse_without_blocks(piece, self.reach.address)
        if isinstance(piece.mutation, Put) and not piece.names_version:
            if piece.expect is ANYTHING:
                return await self._update_or_insert(piece)
            if piece.expect is ABSENT:
                return await self._insert(piece)
        params = Params()
        if isinstance(piece.mutation, Delete):
            if piece.expect is ABSENT:
                (found,) = await self.reach.look([piece], self.until)
                return piece.written(False) if found is None else self._failed(piece)
            sql = piece.place.texts.delete(piece.expected(params))
        else:
            update = piece.update(params)
            if not update:
                (found,) = await self.reach.look([piece], self.until)
                return piece.written(True) if piece.holds(found) else self._failed(piece)
            sql = update[0]
        count = await self.reach.change(Statement(sql, params.values), self.until)
        if not count and piece.is_conditional:
            return self._failed(piece)
        return piece.written(count > 0)

    async def _insert(self, piece: Piece) -> Outcome:
        """Insert where nothing lives."""
        while True:
            params = Params()
            if await self.reach.change(Statement(piece.insert(params, "NOTHING"), params.values), self.until):
                return piece.written(False)
            if piece.place.layout.expires is None:
                return self._failed(piece)
            params = Params()
            sql = piece.delete_dead(params)
            if not await self.reach.change(Statement(sql, params.values), self.until):
                return self._failed(piece)
            self._check_time()

    async def _update_or_insert(self, piece: Piece) -> Outcome:
        """Write a row that has columns which are to be left alone."""
        while True:
            params = Params()
            for sql in piece.update(params):
                if await self.reach.change(Statement(sql, params.values), self.until):
                    return piece.written(None)
            params = Params()
            if await self.reach.change(Statement(piece.insert(params, "NOTHING"), params.values), self.until):
                return piece.written(None)
            self._check_time()

    # --- several records, each for itself -----------------------------------------------------------------------------

    async def each(self, pieces: Sequence[Piece]) -> list[Outcome]:
        """Carry out pieces of one bucket, each for itself, in one exchange. Failures are outcomes."""
        if len(pieces) == 1 or not self.reach.has_blocks:
            return [await self._outcome(piece) for piece in pieces]
        try:
            return await self._by_block(pieces)
        except OutcomeUnknown as lost:
            return await self._found_out(pieces, lost)
        except BudgetExceeded:
            raise
        except KvModelError as error:
            return [Outcome(Status.FAILED, error=error)] * len(pieces)

    async def _outcome(self, piece: Piece) -> Outcome:
        try:
            return await self.one(piece)
        except Conflict as error:
            return Outcome(Status.CONFLICT, error=error)
        except OutcomeUnknown as error:
            if isinstance(error.__cause__, asyncio.CancelledError):
                raise
            return Outcome(Status.UNKNOWN, error=error)
        except BudgetExceeded:
            raise
        except KvModelError as error:
            return Outcome(Status.FAILED, error=error)

    async def _by_block(self, pieces: Sequence[Piece]) -> list[Outcome]:
        """Send a block in which each piece answers for itself."""
        params = Params()
        reads, changes = [], []
        for number, piece in enumerate(pieces):
            # What a replacement finds is of no interest; a block has to read before it changes.
            if not piece.is_replacement or len(pieces) == 1:
                reads.append(f"SELECT {number} FROM {piece.place.layout.sql} WHERE {piece.expected(params)}")
            changes += piece.changes(params)
        self._check_parameters(params)
        rows = await self.reach.fetch(Statement(block(reads, changes), params.values), self.until)
        found = {row[0] for row in rows}
        return [self._told(piece, number in found) for number, piece in enumerate(pieces)]

    def _told(self, piece: Piece, found: bool) -> Outcome:
        if isinstance(piece.mutation, Put) and piece.expect is ANYTHING:
            return piece.written(None)
        if piece.expect is ANYTHING or found is not (piece.expect is ABSENT):
            return piece.written(found)
        return self._failed(piece)

    async def replace(self, pieces: Sequence[Piece]) -> list[Outcome]:
        """Write rows, whatever is there, in one INSERT. Failures are outcomes."""
        texts = pieces[0].place.texts
        stored = pieces[0].stored
        assert stored is not None
        params = Params()
        columns = [*texts.key, *stored.columns]
        sql = texts.insert(columns, [piece.row() for piece in pieces], "REPLACE", params)
        try:
            await self.reach.change(Statement(sql, params.values), self.until)
        except OutcomeUnknown as lost:
            return await self._found_out(pieces, lost)
        except BudgetExceeded:
            raise
        except KvModelError as error:
            # Several nodes have a share each, and some of them may have done theirs.
            return await self._found_out(pieces, error)
        return [piece.written(None) for piece in pieces]

    async def _found_out(self, pieces: Sequence[Piece], failure: KvModelError) -> list[Outcome]:
        """Read which pieces were carried out."""
        if isinstance(failure.__cause__, asyncio.CancelledError):
            raise failure
        done: set[Piece] = set()
        if time.monotonic() < self.until:
            marked = stamped(pieces)
            try:
                found = await self.reach.look(marked, self.until) if marked else []
            except (StoreError, BudgetExceeded):
                found = [None] * len(marked)
            done = {piece for piece, row in zip(marked, found, strict=True) if row is not None and _wrote(piece, row)}
        buckets = {piece.place.scope(piece.mutation.key) for piece in pieces}
        is_certain = len(buckets) == 1 and not isinstance(failure, OutcomeUnknown)
        status = Status.FAILED if is_certain else Status.UNKNOWN
        error = failure
        if status is Status.UNKNOWN and not isinstance(failure, OutcomeUnknown):
            error = OutcomeUnknown("a part of the cluster failed: read again before going on", store=self.reach.address)
            error.__cause__ = failure.__cause__
        return [piece.written(None) if piece in done else Outcome(status, error=error) for piece in pieces]

    # --- all or nothing -----------------------------------------------------------------------------------------------

    async def together(self, pieces: Sequence[Piece]) -> list[Outcome]:
        """Carry out pieces of one bucket, all or none. Raises ``Conflict``, ``OutcomeUnknown``, ``StoreError``."""
        statement = self.block_of(pieces)
        lost: OutcomeUnknown | None = None
        while True:
            try:
                await self.reach.fetch(statement, self.until)
            except OutcomeUnknown as error:
                if await self._was_done(pieces, error):
                    break
                lost = error
            except StoreError as error:
                if error.__cause__ is None or not is_division(error.__cause__):
                    raise
                if lost is not None:
                    if await self._is_own(pieces, lost):
                        break
                    raise lost from None
                raise await self._judged(pieces) from error.__cause__
            else:
                break
        return [piece.written(_existed(piece)) for piece in pieces]

    def block_of(self, pieces: Sequence[Piece]) -> Statement:
        """Answer the block of an atomic write. Raises ``TooLarge``."""
        params = Params()
        guards: list[str] = []
        changes: list[str] = []
        for piece in pieces:
            if piece.is_conditional:
                # Of a missing row, or of one too many, this makes a division by zero: the block fails as a whole.
                divisor = "(1 - count(*))" if piece.expect is ABSENT else "count(*)"
                condition = piece.expected(params)
                guards.append(f"SELECT 1 / {divisor} FROM {piece.place.layout.sql} WHERE {condition}")
            changes += piece.changes(params)
        self._check_parameters(params)
        return Statement(block(guards, changes), params.values)

    async def _judged(self, pieces: Sequence[Piece]) -> Conflict:
        """Read what the pieces rely on, to say which expectation failed."""
        conditional = [piece for piece in pieces if piece.is_conditional]
        try:
            found = await self.reach.look(conditional, self.until)
        except (StoreError, BudgetExceeded):
            found = [None] * len(conditional)
            return self.conflict([], conditional)
        failing = [piece for piece, row in zip(conditional, found, strict=True) if not piece.holds(row)]
        return self.conflict(failing, conditional)

    # --- when the answer was lost -------------------------------------------------------------------------------------

    async def _was_done(self, pieces: Sequence[Piece], lost: OutcomeUnknown) -> bool:
        """Find out what became of a request. Whether it was done; if not, it can be sent again. Raises ``lost``.

        The server may still be at it. So 'not done' is no answer, unless the write relies on a version of a record
        that it changes, and that version is still there: then it can be done only once, however often it arrives.
        """
        if isinstance(lost.__cause__, asyncio.CancelledError) or time.monotonic() >= self.until:
            raise lost
        marked = stamped(pieces)
        guards = [piece for piece in pieces if piece.names_version and not isinstance(piece.mutation, Check)]
        if not marked and not guards:
            raise lost
        looked = list(dict.fromkeys([*marked, *guards]))
        try:
            found = dict(zip(looked, await self.reach.look(looked, self.until), strict=True))
        except (StoreError, BudgetExceeded) as error:
            raise lost from error
        if any((row := found[piece]) is not None and _wrote(piece, row) for piece in marked):
            return True
        versioned = [piece for piece in guards if piece.place.layout.version is not None]
        if versioned and all(piece.holds(found[piece]) for piece in guards):
            return False
        raise lost

    async def _is_own(self, pieces: Sequence[Piece], lost: OutcomeUnknown) -> bool:
        """What was sent again met a failing expectation: was it because it had been done the first time?"""
        marked = stamped(pieces)
        try:
            found = await self.reach.look(marked, self.until) if marked else []
        except (StoreError, BudgetExceeded) as error:
            raise lost from error
        return any(row is not None and _wrote(piece, row) for piece, row in zip(marked, found, strict=True))

    # --- errors -------------------------------------------------------------------------------------------------------

    def _failed(self, piece: Piece) -> Outcome:
        return Outcome(Status.CONFLICT, error=self.conflict([piece]))

    def conflict(self, failing: Sequence[Piece], asked: Sequence[Piece] = ()) -> Conflict:
        """Answer the error of expectations that failed."""
        keys: list[tuple[str, Key]] = [piece.name for piece in failing]
        blamed = failing or asked
        taken = bool(blamed) and all(isinstance(piece.mutation, Put) and piece.expect is ABSENT for piece in blamed)
        return conflict_of(keys, self.reach.address, taken=taken)

    def _check_parameters(self, params: Params) -> None:
        if len(params.values) > MAX_PARAMETERS:
            raise TooLarge(
                "this write has more parameters than the store takes in one statement: split it",
                size=len(params.values),
                limit=MAX_PARAMETERS,
                store=self.reach.address,
            )

    def _check_time(self) -> None:
        if time.monotonic() >= self.until:
            raise TimedOut("others changed this record again and again; nothing was written", store=self.reach.address)


def refuse_without_blocks(piece: Piece, store: str) -> None:
    """Raise ``Unsupported`` for what only a block can do."""
    if piece.place.layout.engine == "vinyl" and piece.is_conditional and piece.expect is not ABSENT:
        raise Unsupported(
            "on vinyl two writers could both find the version they rely on: update the cluster to 26.1.3, whose blocks"
            " prevent that, or keep the table in memtx",
            table=piece.mutation.table.name,
            key=piece.mutation.key,
            store=store,
        )


def _wrote(piece: Piece, row: Row) -> bool:
    return piece.stored is not None and row.version == piece.stored.version


def _existed(piece: Piece) -> bool | None:
    return None if not piece.is_conditional else piece.expect is not ABSENT
