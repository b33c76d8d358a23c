"""Exchanges of the driver with its store, and what writes are made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Final

import asyncpg

from kvmodel.drivers.base import (
    Capabilities,
    Key,
    Mutation,
    Outcome,
    Purged,
    Row,
    Slice,
    Table,
)
from kvmodel.drivers.meter import spend
from kvmodel.drivers.picodata.bounds import Params, order_by, slice_condition
from kvmodel.drivers.picodata.forms import Wire
from kvmodel.drivers.picodata.operations import Piece, make_piece
from kvmodel.drivers.picodata.place import Place
from kvmodel.drivers.picodata.pool import PicodataPool
from kvmodel.drivers.picodata.preparing import Preparing
from kvmodel.drivers.picodata.statements import UNLIMITED, Statement, block
from kvmodel.drivers.picodata.writer import MAX_PARAMETERS, Writer, refuse_without_blocks
from kvmodel.drivers.refusals import refuse_write
from kvmodel.errors import OutcomeUnknown, TimedOut, Unavailable, Unsupported, ValidationError

__all__ = ["Requests"]

_BLOCK: Final = 32
_SWEPT: Final = 256
_ERASED: Final = 32
_RETRIES: Final = 5
MAX_READ: Final = 32


class Requests:
    """What the driver sends.

    Attributes:
        capabilities: What the store can do.
        has_blocks: Whether this version has blocks that insert and delete.
    """

    capabilities: Capabilities
    has_blocks: bool
    _pool: PicodataPool
    _preparing: Preparing

    @property
    def address(self) -> str:
        """Where the cluster is, as a URL without credentials."""
        return self._pool.address

    # --- exchanges ----------------------------------------------------------------------------------------------------

    async def ask(self, statement: Statement, until: float) -> list[asyncpg.Record]:
        """Send a statement that reads; again, if the connection is lost, as long as there is time."""
        attempt = 0
        while True:
            attempt += 1
            spend(1)
            try:
                return await self.fetch_once(statement, until)
            except OutcomeUnknown as lost:
                if isinstance(lost.__cause__, asyncio.CancelledError):
                    raise lost.__cause__ from None
                if time.monotonic() >= until:
                    raise TimedOut("no answer in time: raise the timeout", store=self.address) from lost.__cause__
                if attempt >= _RETRIES:
                    raise Unavailable(
                        "connections are lost again and again: look at the nodes", store=self.address
                    ) from lost.__cause__

    async def fetch_once(self, statement: Statement, until: float) -> list[asyncpg.Record]:
        """Send a statement once; answer its rows."""
        rows: list[asyncpg.Record] = await self._pool.run(
            lambda link: link.fetch(statement.sql, *statement.args), until
        )
        return rows

    async def fetch(self, statement: Statement, until: float) -> list[asyncpg.Record]:
        """Send a statement that may write, once; answer its rows."""
        spend(1)
        return await self.fetch_once(statement, until)

    async def change(self, statement: Statement, until: float) -> int:
        """Send a statement that writes, once; answer how many rows it changed."""
        spend(1)
        tag: str = await self._pool.run(lambda link: link.execute(statement.sql, *statement.args), until)
        return int(tag.rsplit(" ", 1)[-1])

    async def look(self, pieces: Sequence[Piece], until: float) -> list[Row | None]:
        """Read the versions of records that live."""
        found: dict[tuple[Place, tuple[Wire, ...]], Row] = {}
        places: dict[Place, list[Piece]] = {}
        for piece in pieces:
            places.setdefault(piece.place, []).append(piece)
        for place, group in places.items():
            for start in range(0, len(group), MAX_READ):
                part = group[start : start + MAX_READ]
                statement = place.texts.read([piece.key for piece in part], values=False)
                for record in await self.ask(statement, until):
                    row = place.rows.load(record, part[0].time, values=False)
                    if isinstance(row, Row):
                        found[place, place.rows.key_wires(record)] = row
        return [found.get((piece.place, tuple(piece.key))) for piece in pieces]

    async def place(self, table: Table, until: float) -> Place:
        """Answer where a table's records lie."""
        return await self._preparing.place(table, until)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write_all(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Encode all, refuse what has to be refused, then send."""
        if not mutations:
            return []
        scope = self.scope if len(mutations) > 1 else _anywhere
        refuse_write(self.capabilities, scope, mutations, atomic)
        if await self._placed(mutations, until):
            refuse_write(self.capabilities, scope, mutations, atomic)  # What is there may lie elsewhere than planned.
        pieces = [self._encoded(mutation, now) for mutation in mutations]
        writer = Writer(self, now, until)
        if not atomic:
            return await self._batch(writer, pieces)
        if len(pieces) == 1:
            spend(0, 1)
            return [await writer.one(pieces[0])]
        writer.block_of(pieces)  # It has to fit before anything is charged.
        spend(0, len(pieces))
        return await writer.together(pieces)

    async def _placed(self, mutations: Sequence[Mutation], until: float) -> bool:
        """Find out where the tables lie. Whether that had to be asked."""
        unknown = {mutation.table for mutation in mutations if not self._preparing.is_placed(mutation.table)}
        for table in unknown:
            await self.place(table, until)
        return bool(unknown)

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity that a record belongs to."""
        raise NotImplementedError

    def _encoded(self, mutation: Mutation, now: int) -> Piece:
        try:
            piece = make_piece(mutation, self._preparing.known(mutation.table), now)
        except ValidationError as error:
            error.table = error.table or mutation.table.name
            error.key = error.key or getattr(mutation, "key", None)
            raise
        if not self.has_blocks:
            refuse_without_blocks(piece, self.address)
        return piece

    async def _batch(self, writer: Writer, pieces: Sequence[Piece]) -> list[Outcome]:
        """Send independent pieces in few statements."""
        spend(0, len(pieces))
        outcomes: dict[Piece, Outcome] = {}
        for group in _replacements(pieces):
            outcomes.update(zip(group, await writer.replace(group), strict=True))
        for group in self._blocks([piece for piece in pieces if not piece.is_replacement]):
            outcomes.update(zip(group, await writer.each(group), strict=True))
        return [outcomes[piece] for piece in pieces]

    def _blocks(self, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
        """Group what a block may carry: pieces of one bucket."""
        groups: dict[object, list[Piece]] = {}
        for piece in pieces:
            scope = self.scope(piece.mutation.table, piece.mutation.key)
            groups.setdefault(scope, []).append(piece)
        for group in groups.values():
            widest = max(3 * len(piece.key) + 2 * len(piece.stored.wires if piece.stored else ()) for piece in group)
            room = max(1, min(_BLOCK, MAX_PARAMETERS // (widest + 8)))
            for start in range(0, len(group), room):
                yield group[start : start + room]

    # --- purging ------------------------------------------------------------------------------------------------------

    async def sweep(self, table: Table, *, limit: int, after: Key | None, now: int, until: float) -> Purged:
        """Remove expired records behind ``after``, each only in the version that was seen."""
        place = await self.place(table, until)
        if place.layout.expires is None:
            return Purged(0)
        moment = place.rows.moment(now)
        params = Params()
        room = max(1, min(limit, _SWEPT, place.room))
        slice = Slice(None, after=after)
        behind = slice_condition(place.layout, slice, params, place.texts.constant)
        dead = place.texts.dead(moment, params)
        where = f"{dead} AND {behind}" if behind else dead
        order = order_by(place.layout, slice)
        statement = place.texts.page(where, order, room, params, values=False, unlimited=True)
        records = await self.ask(statement, until)
        spend(0, len(records))
        removed = 0
        for start in range(0, len(records), _ERASED):
            removed += await self._erase(place, records[start : start + _ERASED], moment, until)
        resume = place.rows.key(records[-1]) if len(records) == room else None
        return Purged(removed, resume)

    async def _erase(self, place: Place, records: Sequence[asyncpg.Record], moment: Wire, until: float) -> int:
        """Remove records, by key and version: a record that somebody writes meanwhile stays."""
        texts, rows = place.texts, place.rows
        version = place.layout.version
        if place.layout.engine == "memtx" and version is not None and len(records) > 1:
            keys = [(*rows.key_wires(record), record[version.name]) for record in records]
            params = Params()
            where = f"{texts.among(keys, params, version)} AND {texts.dead(moment, params)}"
            return await self.change(Statement(texts.delete(where) + UNLIMITED, params.values), until)
        if place.layout.engine == "vinyl" and not self.has_blocks:
            raise Unsupported(
                "on vinyl a record that is written meanwhile could go too: update the cluster to 26.1.3",
                table=place.layout.table.name,
                store=self.address,
            )
        return sum([await self._erase_one(place, record, moment, until) for record in records])

    async def _erase_one(self, place: Place, record: asyncpg.Record, moment: Wire, until: float) -> int:
        texts = place.texts
        params = Params()
        at = texts.at(place.rows.key_wires(record), params)
        wanted = place.rows.expectation(place.rows.version(record))
        assert wanted is not None
        where = f"{at} AND {texts.dead(moment, params)}{texts.equal(*wanted, params)}"
        if not self.has_blocks:
            return await self.change(Statement(texts.delete(where), params.values), until)
        sql = block([f"SELECT 0 FROM {place.layout.sql} WHERE {where}"], [texts.delete(where)])
        return len(await self.fetch(Statement(sql, params.values), until))


def _anywhere(table: Table, key: Key) -> Hashable:
    """Answer the scope of a lone mutation."""
    return None


def _replacements(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Group the pieces that one INSERT can carry: of one table, with the same columns."""
    groups: dict[tuple[Place, tuple[str, ...]], list[Piece]] = {}
    for piece in pieces:
        if piece.is_replacement and piece.stored is not None:
            groups.setdefault((piece.place, tuple(piece.stored.columns)), []).append(piece)
    for group in groups.values():
        room = max(1, min(100, MAX_PARAMETERS // len(group[0].row())))
        for start in range(0, len(group), room):
            yield group[start : start + room]
