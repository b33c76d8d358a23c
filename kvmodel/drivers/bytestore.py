"""What every transactional byte store shares: a driver needs only transactions over ordered bytes.

Rules.

* Reading takes place inside one synchronous transaction that lasts for a page and no longer: it is bounded by records
  and by bytes, whichever comes first, expired records included.
* Records are read as ordered bytes; nothing here knows what a record or a key looks like, only the codec does.
* A store that records of ours live in carries a marker, and one catalogue row a table. They are compared when a table
  is prepared and again by the first write, inside its transaction, which writes what is missing. Tables with
  ``layout="plain"`` neither read nor write them.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar, cast

from kvmodel.drivers.base import (
    Absent,
    Capabilities,
    Driver,
    FacetT,
    Key,
    Mutation,
    Outcome,
    Purged,
    Row,
    Rows,
    Slice,
    Table,
    Version,
)
from kvmodel.drivers.byteskips import ByteSkips
from kvmodel.drivers.bytewrites import ByteWrite, Erase, ReadTransaction, Transaction, prepare, send_all
from kvmodel.drivers.facets import SkipStore
from kvmodel.drivers.formats.catalogue import (
    MARKER_KEY,
    check_entry,
    check_marker,
    encode_entry,
    encode_marker,
    entry_key,
)
from kvmodel.drivers.formats.codec import ByteCodec, compile_codec
from kvmodel.drivers.meter import spend
from kvmodel.errors import DecodingError, SchemaError, TimedOut

__all__ = ["FIRST_PAGE", "PAGE", "PAGE_BYTES", "ByteStore", "Change"]

FIRST_PAGE = 100
PAGE = 256
"""How many records one page looks at: the first page less, so that the first record comes at once."""

PAGE_BYTES = 1 << 20
COUNT_PAGE = 4096

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Change(Protocol[T_co]):
    """What runs inside one write transaction. It may run again in another one, if the first came to nothing."""

    def apply(self, txn: Transaction, /) -> T_co: ...


class _Page(NamedTuple):
    rows: Rows
    examined: int


class ByteStore(Driver):
    """A driver over a transactional byte store.

    A subclass answers :meth:`look` and :meth:`change`, ``open`` and ``close``, and sets ``capabilities``.
    """

    capabilities: Capabilities

    def __init__(self, address: str) -> None:
        self._address = address
        self._codecs: dict[Table, ByteCodec] = {}
        self._recorded: set[Table] = set()

    @abstractmethod
    def look(self, work: Callable[[ReadTransaction], T]) -> T:
        """Run ``work`` in a read transaction, at once. It may run twice."""
        ...

    @abstractmethod
    async def change(self, change: Change[T], *, size: int, until: float) -> T:
        """Run a change in a write transaction and commit. ``size`` is how many bytes it is going to write."""
        ...

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

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: here, the whole store."""
        return None

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Compare with what the store holds of a table. What is missing is written with the first write."""
        self.codec(table)
        if table.layout == "record" and not self.look(lambda txn: self._missing(txn, table)):
            self._recorded.add(table)

    def _missing(self, txn: ReadTransaction, table: Table) -> list[tuple[bytes, bytes]]:
        """Compare a table with what the store says of it; answer the rows that are still to be written."""
        if table.layout == "plain":
            return []
        marker = txn.get(MARKER_KEY)
        if marker is not None:
            check_marker(marker, store=self._address)
        elif not txn.is_empty():
            raise SchemaError(
                "this store holds data that kvmodel did not write: connect to another path, "
                'or declare the model with layout="plain" to work on that data',
                table=table.name,
                store=self._address,
            )
        rows = [] if marker is not None else [(MARKER_KEY, encode_marker())]
        key = entry_key(table)
        entry = txn.get(key)
        if entry is None or check_entry(table, entry, store=self._address):
            rows.append((key, encode_entry(table)))
        return rows

    @property
    def address(self) -> str:
        """Where the store is."""
        return self._address

    # --- reading ------------------------------------------------------------------------------------------------------

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Answer a function that reads one record at once, expired or not, and counts for no budget."""
        codec = self.codec(table)

        def peek(key: Key) -> Row | Absent:
            encoded = codec.encode_key(key)
            data = self.look(lambda txn: txn.get(encoded))
            return Absent(key) if data is None else codec.load(key, data, 0)

        return peek

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked; a page of them from one state of the store."""
        codec = self.codec(table)
        load = codec.loader(values)
        encoded = list(map(codec.encode_key, keys))
        rows: list[Row | Absent] = []
        room = self.capabilities.max_read_batch
        for start in range(0, len(encoded), room):
            if start:
                await self._breathe(until)
            part = encoded[start : start + room]
            spend(1, len(part))
            found = zip(keys[start : start + room], self.look(partial(_get_all, part)), strict=True)
            rows += [Absent(key) if data is None else load(key, data, now) for key, data in found]
        return rows

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        codec = self.codec(table)
        start, stop = codec.bounds(slice)
        if start >= stop or slice.limit == 0:
            return Rows([])
        page = self.look(lambda txn: _read_page(txn, codec, slice, start, stop, values, now))
        spend(1, page.examined)
        return page.rows

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice, without decoding them."""
        codec = self.codec(table)
        start, stop = codec.bounds(slice)
        total = 0
        while start < stop and (slice.limit is None or total < slice.limit):
            wanted = None if slice.limit is None else slice.limit - total
            live, examined, last = self.look(partial(_count_page, codec, start, stop, now, wanted))
            spend(1, examined)
            total += live
            if last is None:
                break
            start = last + b"\0"
            await self._breathe(until)
        return total if slice.limit is None else min(total, slice.limit)

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        """Answer skip scans, or ``None``."""
        return cast("FacetT", ByteSkips(self)) if kind is SkipStore else None

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked for size before anything is queued."""
        if not mutations:
            return []
        write = prepare(
            mutations,
            atomic=atomic,
            now=now,
            store=self._address,
            codec_of=self.codec,
            recorded=self._recorded,
            register=self._missing,
        )
        limits = self.capabilities
        requests = write.cut(limits.max_batch, limits.max_request_bytes)
        spend(len(requests), len(mutations))
        if len(requests) == 1:
            return await self._send(requests[0], until)
        return await send_all(requests, lambda request: self._send(request, until))

    async def _send(self, request: ByteWrite, until: float) -> list[Outcome]:
        outcomes = await self.change(request, size=request.size, until=until)
        if request.tables:
            self._recorded |= request.recorded(outcomes)
        return outcomes

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records of one page behind ``after``."""
        if table.layout == "plain":
            return Purged(0)
        codec = self.codec(table)
        start = codec.first if after is None else codec.encode_key(after) + b"\0"
        dead, last = self.look(lambda txn: _find_dead(txn, codec, start, now, limit))
        spend(1, len(dead))
        count = 0
        if dead:
            spend(1, len(dead))
            count = await self.change(Erase(codec, dead), size=sum(len(key) for key, _ in dead), until=until)
        return Purged(count, None if last is None else codec.decode_key(last))

    async def _breathe(self, until: float) -> None:
        """Let other tasks run between two pages of one call, and keep its time limit."""
        await asyncio.sleep(0)
        if time.monotonic() > until:
            raise TimedOut("time ran out while reading: raise the timeout, or read less at once", store=self._address)


def _read_page(
    txn: ReadTransaction, codec: ByteCodec, slice: Slice, start: bytes, stop: bytes, values: bool, now: int
) -> _Page:
    """Read rows until the page is full, the limit is reached or the slice ends."""
    load = codec.loader(values)
    decode_key = codec.decode_key
    limit = slice.limit
    # A limited slice that fits into a page is one page.
    room = FIRST_PAGE if slice.after is None and (limit is None or limit > PAGE) else PAGE
    rows: list[Row] = []
    examined = size = 0
    last = b""
    for key, data in txn.iterate(start, stop, slice.reverse):
        if not start <= key < stop:
            break
        if examined == room or size > PAGE_BYTES:
            return _Page(Rows(rows, decode_key(last)), examined)
        examined += 1
        size += len(data)
        last = key
        row = load(decode_key(key), data, now)
        if isinstance(row, Row):
            rows.append(row)
            if len(rows) == limit:
                break
    return _Page(Rows(rows), examined)


def _get_all(keys: Sequence[bytes], txn: ReadTransaction) -> list[bytes | None]:
    return list(map(txn.get, keys))


def _count_page(
    codec: ByteCodec, start: bytes, stop: bytes, now: int, wanted: int | None, txn: ReadTransaction
) -> tuple[int, int, bytes | None]:
    """Answer how many records live, how many there were, and the last key if there may be more behind it."""
    peek_header = codec.peek_header
    live = examined = size = 0
    last = b""
    for key, data in txn.iterate(start, stop, False):
        if key >= stop:
            break
        if examined == COUNT_PAGE or size > PAGE_BYTES:
            return live, examined, last
        examined += 1
        size += len(data)
        live += peek_header(data, now) is not None
        last = key
        if live == wanted:
            break
    return live, examined, None


def _find_dead(
    txn: ReadTransaction, codec: ByteCodec, start: bytes, now: int, limit: int
) -> tuple[list[tuple[bytes, Version]], bytes | None]:
    """Answer expired records, and the last key looked at if there may be more behind it."""
    dead: list[tuple[bytes, Version]] = []
    examined = size = 0
    last = b""
    for key, data in txn.iterate(start, codec.last, False):
        if key >= codec.last:
            break
        if len(dead) == limit or examined == COUNT_PAGE or size > PAGE_BYTES:
            return dead, last
        examined += 1
        size += len(data)
        last = key
        try:
            if codec.peek_header(data, now) is None:
                dead.append((key, codec.version(data)))
        except DecodingError:
            continue  # A damaged record is for its reader to report; it does not stop the others from going.
    return dead, None
