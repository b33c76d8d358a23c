"""The driver for Elevator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import SplitResult

from kvmodel.drivers.base import (
    ANYTHING,
    Absent,
    Atomicity,
    Capabilities,
    CheckRange,
    Driver,
    Durability,
    Expiry,
    Key,
    Mutation,
    Outcome,
    Purged,
    Put,
    Reverse,
    Row,
    Rows,
    Slice,
    Status,
    Table,
)
from kvmodel.drivers.bytestore import FIRST_PAGE, PAGE, PAGE_BYTES
from kvmodel.drivers.bytewrites import ByteWrite, prepare, send_all
from kvmodel.drivers.elevator.catalogue import Catalogue
from kvmodel.drivers.elevator.checks import check_name
from kvmodel.drivers.elevator.client import ElevatorClient
from kvmodel.drivers.elevator.protocol import Code
from kvmodel.drivers.elevator.refusals import Refusal
from kvmodel.drivers.elevator.session import DEFAULT_PORT, DEFAULT_SOCKETS
from kvmodel.drivers.elevator.where import parse_url
from kvmodel.drivers.formats.codec import ByteCodec, compile_codec
from kvmodel.drivers.options import choose, parse_bool, parse_int, parse_text
from kvmodel.drivers.refusals import refuse_slice, refuse_write
from kvmodel.errors import DecodingError, StoreError, TimedOut, Unsupported, ValidationError

__all__ = ["ElevatorDriver"]

_OPENING: Final = 10.0
_MIB: Final = 1 << 20
_REMEDY: Final = (
    "Elevator can't compare before it writes: save(obj, force=True) and delete by key write whatever is there, and "
    "db.batch() many at once"
)


class ElevatorDriver(Driver):
    """A connection to one database of an Elevator server.

    Args:
        endpoint: Where the server is: ``tcp://host:port`` or ``ipc://path``.
        database: The database; a name with a slash is a path on the server's disk.
        create: Make the database if the server has none of this name.
        compression: Have the server compress what it answers.
        sockets: How many sockets at the most, and so how many requests at once.
        address: The URL, for messages.
    """

    schemes: ClassVar[tuple[str, ...]] = ("elevator", "elevator+ipc")
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "create": parse_bool,
        "compression": parse_bool,
        "database": parse_text,
        "sockets": parse_int,
    }
    capabilities = Capabilities(
        store="elevator",
        atomicity=Atomicity.STORE,
        conditional=False,
        range_checks=False,
        ordered=True,
        reverse=Reverse.NONE,
        scan_table=True,
        expiry=Expiry.EMULATED,
        durability=Durability.PROCESS,
        max_key_bytes=_MIB,
        max_value_bytes=64 * _MIB,
        max_read_batch=1,
        max_batch=1000,
        max_request_bytes=128 * _MIB,
    )

    def __init__(
        self,
        endpoint: str = f"tcp://127.0.0.1:{DEFAULT_PORT}",
        database: str = "default",
        *,
        create: bool = False,
        compression: bool = False,
        sockets: int = DEFAULT_SOCKETS,
        address: str | None = None,
    ) -> None:
        self._client = ElevatorClient(
            endpoint, database, compression=compression, sockets=sockets, address=address or endpoint
        )
        self._address = address or endpoint
        self._database = database
        self._create = create
        self._native: ElevatorClient | None = None
        self._sockets = sockets
        self._catalogue = Catalogue(self._client, self._address)
        self._codecs: dict[Table, ByteCodec] = {}
        self._row_bytes: dict[Table, int] = {}

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> ElevatorDriver:
        """Make a driver for ``elevator://host:port/database`` or ``elevator+ipc://%2Fpath%2Fof%2Fsocket/database``."""
        where = parse_url(url)
        database = choose(options, "database", str, "")
        if database and where.database:
            raise ValidationError("the database stands in the URL's path or in ?database=, not in both", field="url")
        return cls(
            where.endpoint,
            check_name(database or where.database or "default").decode(),
            create=choose(options, "create", bool, False),
            compression=choose(options, "compression", bool, False),
            sockets=choose(options, "sockets", int, DEFAULT_SOCKETS),
            address=where.address,
        )

    @property
    def address(self) -> str:
        """Where the store is."""
        return self._address

    @property
    def native(self) -> ElevatorClient:
        """A client on the same sockets; which database it goes to is its own affair."""
        if self._native is None:
            self._native = self._client.sibling()
        return self._native

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Reach the server and the database."""
        try:
            await self._client.open(timeout=_OPENING)
        except StoreError as error:
            if not self._create or not _says_missing(error):
                raise
            await self._make()

    async def _make(self) -> None:
        try:
            await self._client.createdb(self._database, timeout=_OPENING)
        except StoreError as error:
            if not _says_missing(error):  # The same code: somebody else made it meanwhile, which connecting shows.
                raise
        await self._client.open(timeout=_OPENING)

    async def close(self) -> None:
        """Finish what is under way, and close all sockets."""
        await self._client.close()

    def codec(self, table: Table) -> ByteCodec:
        """Answer what encodes and decodes a table's keys and records, compiled once."""
        codec = self._codecs.get(table)
        if codec is None:
            codec = self._codecs[table] = compile_codec(
                table,
                store=self.capabilities.store,
                max_key_bytes=self.capabilities.max_key_bytes,
                max_value_bytes=self.capabilities.max_value_bytes,
            )
        return codec

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Compare with what the store holds of a table. What is missing is written with the first write."""
        self.codec(table)
        await self._catalogue.compare(table, lambda: self._left(until))

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: here, the whole database."""
        return None

    # --- reading ------------------------------------------------------------------------------------------------------

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("Elevator is asked over the network: await get() or find()", store=self._address)

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, one request each: several at once would read all that lies between them."""
        codec = self.codec(table)
        load = codec.loader(values)
        found = await self._find_each([codec.encode_key(key) for key in keys], until)
        return [Absent(key) if data is None else load(key, data, now) for key, data in zip(keys, found, strict=True)]

    async def _find_each(self, keys: Sequence[bytes], until: float) -> list[bytes | None]:
        """Look keys up, as many at the same time as there are sockets."""
        if len(keys) == 1:
            return [await self._client.find(keys[0], timeout=self._left(until))]
        found: list[bytes | None] = [None] * len(keys)
        rest = iter(enumerate(keys))

        async def look_up() -> None:
            for number, key in rest:
                found[number] = await self._client.find(key, timeout=self._left(until))

        tasks = [asyncio.create_task(look_up()) for _ in range(min(self._sockets, len(keys)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        refuse_slice(self.capabilities, table, slice)
        codec = self.codec(table)
        start, stop = codec.bounds(slice)
        if start >= stop or slice.limit == 0:
            return Rows([])
        alone = _is_one_key(table, slice)
        wanted = 1 if alone else self._page(table, slice)
        found, more = await self._read_page(table, start, stop, wanted, until)
        load = codec.loader(values)
        loaded = [load(codec.decode_key(encoded), data, now) for encoded, data in found]
        rows = [row for row in loaded if isinstance(row, Row)]
        done = alone or not more or len(rows) == slice.limit
        return Rows(rows, None if done else codec.decode_key(found[-1][0]))

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice. Deadlines are in the records, so those travel, page by page."""
        refuse_slice(self.capabilities, table, slice)
        codec = self.codec(table)
        start, stop = codec.bounds(slice)
        total, more = 0, start < stop
        while more and (slice.limit is None or total < slice.limit):
            found, more = await self._read_page(table, start, stop, self._page(table, None), until)
            total += sum(codec.peek_header(data, now) is not None for _, data in found)
            if found:
                start = found[-1][0] + b"\0"
        return total if slice.limit is None else min(total, slice.limit)

    def _page(self, table: Table, slice: Slice | None) -> int:
        """How many rows one page asks for. The store has no limit in bytes, so it goes by the rows it has seen."""
        limit = None if slice is None else slice.limit
        room = FIRST_PAGE if slice is not None and slice.after is None and (limit is None or limit > PAGE) else PAGE
        room = max(min(room, PAGE_BYTES // self._row_bytes.get(table, 1)), 1)
        return room if limit is None else min(room, limit)

    async def _read_page(
        self, table: Table, start: bytes, stop: bytes, wanted: int, until: float
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Answer the rows of a slice that one request brings, and whether there may be more of them."""
        found = await self._client.slice(start, wanted, timeout=self._left(until))
        if found:
            self._row_bytes[table] = max(sum(len(data) for _, data in found) // len(found), 1)
        inside = [row for row in found if row[0] < stop]
        return inside, len(inside) == wanted

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write. Everything is encoded and checked for size before anything is sent."""
        if not mutations:
            return []
        self._refuse(mutations, atomic)
        write = prepare(
            mutations,
            atomic=atomic,
            now=now,
            store=self._address,
            codec_of=self.codec,
            recorded=self._catalogue.recorded,
            register=lambda txn, table: [],
        )
        requests = write.cut(self.capabilities.max_batch, self.capabilities.max_request_bytes)
        missing = await self._catalogue.missing_rows(write.tables, lambda: self._left(until)) if write.tables else {}
        return await send_all(requests, lambda request: self._send(request, missing, until))

    def _refuse(self, mutations: Sequence[Mutation], atomic: bool) -> None:
        for mutation in mutations:
            if not isinstance(mutation, CheckRange) and mutation.expect is not ANYTHING:
                raise Unsupported(_REMEDY, table=mutation.table.name, key=mutation.key, store=self._address)
        refuse_write(self.capabilities, self.scope, mutations, atomic)

    async def _send(
        self, request: ByteWrite, missing: Mapping[Table, list[tuple[bytes, bytes]]], until: float
    ) -> list[Outcome]:
        """Send one request: a single put or delete as it is, all else as a batch, which is atomic.

        ``missing`` are the rows that the first put to a table takes along.
        """
        new: set[Table] = set()
        if missing:
            new = {step[0].table for step in request.steps if isinstance(step[0], Put)} - self._catalogue.recorded
        rows = [row for table in new for row in missing.get(table, ())]
        client, left = self._client, self._left(until)
        if len(request.steps) == 1 and not rows:
            ((mutation, _, key, data, _),) = request.steps
            if isinstance(mutation, Put):
                await client.put(key, data, timeout=left)
            else:
                await client.delete(key, timeout=left)
        else:
            changes: list[tuple[bytes, bytes | None]] = [*rows]
            changes += [
                (key, data if isinstance(mutation, Put) else None) for mutation, _, key, data, _ in request.steps
            ]
            await client.write_all(changes, keys=len(request.steps), timeout=left)
        self._catalogue.note_recorded(new)
        return [
            Outcome(Status.WRITTEN, version if isinstance(mutation, Put) else None)
            for mutation, _, _, _, version in request.steps
        ]

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records of one page behind ``after``.

        A record that is written again between the reading and the removal is removed with them, which has to be said
        to be welcome.
        """
        if not force:
            raise Unsupported(
                "Elevator can't remove a record only if it is still the expired one: purge_expired(force=True) does it "
                "where nobody writes expired records again meanwhile",
                table=table.name,
                store=self._address,
            )
        if table.layout == "plain":
            return Purged(0)
        codec = self.codec(table)
        start = codec.first if after is None else codec.encode_key(after) + b"\0"
        found, more = await self._read_page(table, start, codec.last, min(self._page(table, None), limit), until)
        dead = [key for key, data in found if _is_dead(codec, data, now)]
        if dead:
            await self._client.write_all([(key, None) for key in dead], keys=len(dead), timeout=self._left(until))
        return Purged(len(dead), codec.decode_key(found[-1][0]) if more and found else None)

    def _left(self, until: float) -> float:
        left = until - time.monotonic()
        if left <= 0:
            raise TimedOut("time ran out before this was sent: raise the timeout", store=self._address)
        return left


def _is_one_key(table: Table, slice: Slice) -> bool:
    """Whether a slice is as long as one key at the most."""
    lower, upper = slice.lower, slice.upper
    if len(slice.prefix) == len(table.clustering):
        return slice.partition is not None
    return lower is not None and lower == upper and len(lower.parts) == len(table.clustering)


def _is_dead(codec: ByteCodec, data: bytes, now: int) -> bool:
    try:
        return codec.peek_header(data, now) is None
    except DecodingError:
        return False  # A damaged record is for its reader to report; it does not stop the others from going.


def _says_missing(error: StoreError) -> bool:
    return isinstance(error.__cause__, Refusal) and error.__cause__.code == Code.DATABASE
