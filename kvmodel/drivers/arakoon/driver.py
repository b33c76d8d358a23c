"""The driver for Arakoon."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import SplitResult

import attrs

from kvmodel.drivers.arakoon import protocol as p
from kvmodel.drivers.arakoon.catalogue import Catalogue
from kvmodel.drivers.arakoon.client import ArakoonClient
from kvmodel.drivers.arakoon.commands import MAX_REPLY_BYTES, MAX_UPDATE_BYTES, MAX_VALUE_BYTES
from kvmodel.drivers.arakoon.layout import TableLayout
from kvmodel.drivers.arakoon.operations import Operation, RangeOperation, RecordOperation, too_large
from kvmodel.drivers.arakoon.requests import PAGE, Requests, smaller
from kvmodel.drivers.arakoon.steps import HEAD_BYTES, size_of
from kvmodel.drivers.arakoon.wire import CONSISTENT
from kvmodel.drivers.arakoon.writes import Writer
from kvmodel.drivers.base import (
    ANYTHING,
    Absent,
    Atomicity,
    Capabilities,
    CheckRange,
    Delete,
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
from kvmodel.drivers.bytewrites import prepare
from kvmodel.drivers.formats.codec import compile_codec
from kvmodel.drivers.meter import spend
from kvmodel.drivers.options import choose, parse_bool, parse_int, parse_size, parse_text
from kvmodel.errors import (
    DecodingError,
    OutcomeUnknown,
    ProtocolError,
    StoreError,
    TimedOut,
    Unsupported,
    ValidationError,
)

__all__ = ["ArakoonDriver"]

_MAX_KEY: Final = 1 << 20
_FIRST_PAGE: Final = 100
_PAGE_BYTES: Final = 4 << 20
_COUNT_PAGE: Final = 4096


class ArakoonDriver(Requests, Driver):
    """A connection to an Arakoon cluster.

    Every write is one sequence: its assertions, then its changes, in one request. Reads are the master's.

    Args:
        hosts: Where the nodes are: ``host:port,host:port``.
        cluster: The cluster's id.
        nodes: What the cluster calls its nodes, in the order of ``hosts``.
        connections: How many connections a node gets at the most.
        tls: Whether to encrypt, with the system's certificates; or an ``ssl.SSLContext``.
        connect_timeout: How many seconds the first connection may take.
        max_value_bytes, max_update_bytes: What the servers take, where they are configured otherwise than by default.
        max_reply_bytes: The longest reply that is read. What would be longer is asked for in parts.
    """

    schemes: ClassVar[tuple[str, ...]] = ("arakoon",)
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "cluster": parse_text,
        "nodes": parse_text,
        "connections": parse_int,
        "tls": parse_bool,
        "connect_timeout": float,
        "max_value_bytes": parse_size,
        "max_update_bytes": parse_size,
        "max_reply_bytes": parse_size,
    }
    capabilities = Capabilities(
        store="arakoon",
        atomicity=Atomicity.STORE,
        conditional=True,
        range_checks=True,
        ordered=True,
        reverse=Reverse.NATIVE,
        scan_table=True,
        expiry=Expiry.EMULATED,
        durability=Durability.MAJORITY,
        max_key_bytes=_MAX_KEY,
        max_value_bytes=MAX_VALUE_BYTES,
        max_read_batch=PAGE,
        max_batch=PAGE,
        max_request_bytes=MAX_UPDATE_BYTES,
    )

    def __init__(
        self,
        hosts: str,
        cluster: str,
        nodes: Sequence[str] | None = None,
        *,
        connections: int = 8,
        tls: bool | ssl.SSLContext = False,
        connect_timeout: float = 10.0,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_update_bytes: int = MAX_UPDATE_BYTES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        context = tls if isinstance(tls, ssl.SSLContext) else ssl.create_default_context() if tls else None
        self._client = ArakoonClient(
            hosts,
            cluster,
            nodes,
            timeout=connect_timeout,
            connections=connections,
            tls=context,
            max_value_bytes=max_value_bytes,
            max_update_bytes=max_update_bytes,
            max_reply_bytes=max_reply_bytes,
        )
        self.capabilities = attrs.evolve(
            type(self).capabilities, max_value_bytes=max_value_bytes, max_request_bytes=max_update_bytes
        )
        self._layouts: dict[Table, TableLayout] = {}
        self._catalogue = Catalogue(self.fetch, self._first_key, self.address)

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> ArakoonDriver:
        """Make a driver for ``arakoon://host:port,host:port/?cluster=NAME&nodes=node_0,node_1``."""
        if url.username is not None or url.password is not None or url.path.strip("/") or url.fragment:
            raise ValidationError(
                "an Arakoon URL is arakoon://host:port,host:port/?cluster=NAME, without user or path", field="url"
            )
        cluster = options.get("cluster")
        if not isinstance(cluster, str):
            raise ValidationError("say which cluster: arakoon://host:port/?cluster=NAME", field="cluster")
        tls = options.get("tls", False)
        if not isinstance(tls, bool | ssl.SSLContext):
            raise ValidationError("the option tls is true or false, or an ssl.SSLContext", field="tls")
        return cls(
            url.netloc,
            cluster,
            _names(options.get("nodes")),
            connections=choose(options, "connections", int, 8),
            tls=tls,
            connect_timeout=choose(options, "connect_timeout", float, 10.0),
            max_value_bytes=choose(options, "max_value_bytes", int, MAX_VALUE_BYTES),
            max_update_bytes=choose(options, "max_update_bytes", int, MAX_UPDATE_BYTES),
            max_reply_bytes=choose(options, "max_reply_bytes", int, MAX_REPLY_BYTES),
        )

    @property
    def native(self) -> ArakoonClient:
        """The store's own client."""
        return self._client

    async def open(self) -> None:
        """Reach the cluster, and find its master."""
        await self._client.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Compare with what the store holds of a table. What is missing is written with the first write."""
        self.layout_of(table)
        await self._catalogue.compare(table, until)

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: the whole store."""
        return None

    def layout_of(self, table: Table) -> TableLayout:
        """Answer where a table's records lie."""
        layout = self._layouts.get(table)
        if layout is None:
            limits = self.capabilities
            codec = compile_codec(
                table,
                store=limits.store,
                max_key_bytes=limits.max_key_bytes,
                max_value_bytes=limits.max_value_bytes,
            )
            layout = self._layouts[table] = TableLayout(codec, PAGE)
        return layout

    async def _first_key(self, table: Table, until: float) -> bytes | None:
        """Answer the first key of a table's records, if there is any."""
        codec = self.layout_of(table).codec
        keys = await self._client.call(p.RANGE(CONSISTENT, codec.first, True, codec.last, False, 1), until=until)
        return keys[0] if keys else None

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked; a page of them from one state of the store."""
        layout = self.layout_of(table)
        encoded = list(map(layout.codec.encode_key, keys))
        wanted = encoded if values else list(map(layout.head_key, encoded))
        found = await self.fetch(wanted, until)
        load = layout.load if values else layout.load_head
        return [Absent(key) if data is None else load(key, data, now) for key, data in zip(keys, found, strict=True)]

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        layout = self.layout_of(table)
        start, stop = layout.codec.bounds(slice)
        if start >= stop or slice.limit == 0:
            return Rows([])
        first = slice.after is None and (slice.limit is None or slice.limit > PAGE)
        room = min(_FIRST_PAGE if first else PAGE, layout.room, slice.limit or PAGE)
        entries, room = await self._page(layout, start, stop, room, slice.reverse, values, until)
        rows = list(_rows(layout, entries, values, now))
        if len(entries) < room or len(rows) == slice.limit:
            return Rows(rows)
        return Rows(rows, layout.codec.decode_key(entries[-1][0]))

    async def _page(
        self, layout: TableLayout, start: bytes, stop: bytes, room: int, reverse: bool, values: bool, until: float
    ) -> tuple[list[tuple[bytes, bytes]], int]:
        """Read entries, fewer if a reply would be too long; answer them, and how many there was room for."""
        if not values:
            heads = await self.entries(*_head_range(layout, start, stop), room, until, reverse)
            return [(layout.key_of_head(key), head) for key, head in heads], room
        while True:
            try:
                entries = await self.entries(start, _end(stop), room, until, reverse)
            except ProtocolError as error:
                room = layout.room = smaller(error, room)
            else:
                if entries:
                    mean = sum(len(data) for _, data in entries) // len(entries)
                    layout.room = max(1, min(PAGE, _PAGE_BYTES // (mean + 1)))
                return entries, room

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice: by their heads, or, in the plain layout, by their keys."""
        layout = self.layout_of(table)
        start, stop = layout.codec.bounds(slice)
        total = 0
        while start < stop and (slice.limit is None or total < slice.limit):
            live, last = await self._count_page(layout, start, stop, now, until)
            total += live
            if last is None:
                break
            start = last + b"\0"
        return total if slice.limit is None else min(total, slice.limit)

    async def _count_page(
        self, layout: TableLayout, start: bytes, stop: bytes, now: int, until: float
    ) -> tuple[int, bytes | None]:
        if layout.is_plain:
            keys = await self.ask(p.RANGE(CONSISTENT, start, True, _end(stop), False, _COUNT_PAGE), until, 0)
            spend(0, len(keys))
            return len(keys), keys[-1] if len(keys) == _COUNT_PAGE else None
        heads = await self.entries(*_head_range(layout, start, stop), _COUNT_PAGE, until)
        peek_header = layout.codec.peek_header
        live = sum(peek_header(head, now) is not None for _, head in heads)
        return live, layout.key_of_head(heads[-1][0]) if len(heads) == _COUNT_PAGE else None

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked for size before anything is sent."""
        if not mutations:
            return []
        operations = self._encode(mutations, now)
        requests = [operations] if atomic else list(self._cut(operations))
        for request in requests:
            self._check_size(request)
        if len(mutations) == 1 and isinstance(mutations[0], Delete) and mutations[0].expect is ANYTHING:
            return [await self._delete(operations[0], now, until)]
        if atomic:
            return await self._commit(operations, now, until)
        return await self._settle(requests, now, until)

    def _encode(self, mutations: Sequence[Mutation], now: int) -> list[Operation]:
        encoded = prepare(
            mutations,
            atomic=True,
            now=now,
            store=self.address,
            codec_of=lambda table: self.layout_of(table).codec,
            recorded=set(),
            register=lambda txn, table: [],
        )
        operations: list[Operation] = []
        for mutation, _, key, data, _ in encoded.steps:
            layout = self.layout_of(mutation.table)
            if isinstance(mutation, CheckRange):
                operations.append(RangeOperation.make(mutation, layout))
            else:
                stored = data if isinstance(mutation, Put) else None
                operations.append(RecordOperation(mutation, layout, key, stored, mutation.expect))
        return operations

    def _cut(self, operations: list[Operation]) -> Iterator[list[Operation]]:
        """Cut a batch into requests that the store takes."""
        room = (self.capabilities.max_request_bytes or MAX_UPDATE_BYTES) // 4
        request: list[Operation] = []
        size = 0
        for operation in operations:
            more = _size(operation)
            if request and (len(request) == PAGE or size + more > room):
                yield request
                request, size = [], 0
            request.append(operation)
            size += more
        yield request

    def _check_size(self, operations: list[Operation]) -> None:
        limit = self.capabilities.max_request_bytes
        size = HEAD_BYTES + sum(map(_size, operations)) + self._catalogue.room(_tables(operations))
        if limit is not None and size > limit:
            raise too_large(operations, size, limit, self.address)

    def _writer(self, operations: list[Operation], now: int, until: float) -> Writer:
        catalogue = self._catalogue

        async def refresh() -> None:
            await catalogue.look_again(_tables(operations), until)

        return Writer(self, operations, now, until, lambda: catalogue.steps(_tables(operations)), refresh)

    async def _commit(self, operations: list[Operation], now: int, until: float) -> list[Outcome]:
        tables = _tables(operations)
        await self._catalogue.ready(tables, until)
        spend(0, len(operations))
        outcomes = await self._writer(operations, now, until).commit()
        self._catalogue.done(tables)
        return outcomes

    async def _settle(self, requests: list[list[Operation]], now: int, until: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for number, request in enumerate(requests):
            tables = _tables(request)
            try:
                await self._catalogue.ready(tables, until)
                spend(0, len(request))
                outcomes += await self._in_order(request, now, until)
            except StoreError as error:
                if number == 0 or isinstance(error.__cause__, asyncio.CancelledError):
                    raise
                status = Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.UNSENT
                outcomes += [Outcome(status, error=error)] * len(request)
                left = sum(map(len, requests[number + 1 :]))
                return outcomes + [Outcome(Status.UNSENT, error=error)] * left
            else:
                self._catalogue.done({table for table in tables if self._wrote(request, outcomes, table)})
        return outcomes

    async def _in_order(self, request: list[Operation], now: int, until: float) -> list[Outcome]:
        writer = self._writer(list(request), now, until)
        found = await writer.settle()
        return [found[operation] for operation in request]

    def _wrote(self, request: list[Operation], outcomes: list[Outcome], table: Table) -> bool:
        """Whether a request that has just ended wrote a record of a table."""
        ended = zip(request, outcomes[-len(request) :], strict=True)
        return any(each.layout.table is table and outcome.status is Status.WRITTEN for each, outcome in ended)

    async def _delete(self, operation: Operation, now: int, until: float) -> Outcome:
        """Remove a record, whatever it is, and tell whether it was there."""
        assert isinstance(operation, RecordOperation)
        layout = operation.layout
        if layout.is_plain:
            spend(0, 1)
            before = await self._client.call(p.REPLACE(operation.key, None), until=until)
            return Outcome(Status.WRITTEN, None, before is not None)
        while True:
            (head,) = await self.fetch([operation.head_key], until)
            if head is None:
                return Outcome(Status.WRITTEN, None, False)
            dead = RecordOperation(None, layout, operation.key, None, head)
            outcomes = await self._writer([dead], now, until).settle()
            if outcomes[dead].status is Status.WRITTEN:
                return Outcome(Status.WRITTEN, None, layout.is_alive(head, now))
            if time.monotonic() >= until:
                raise TimedOut("others wrote this record again and again; nothing was removed", store=self.address)

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records of one page behind ``after``."""
        if table.layout == "plain":
            return Purged(0)
        layout = self.layout_of(table)
        codec = layout.codec
        start = codec.first if after is None else codec.encode_key(after) + b"\0"
        heads = await self.entries(*_head_range(layout, start, codec.last), _COUNT_PAGE, until)
        dead: list[Operation] = []
        last: bytes | None = None
        for head_key, head in heads:
            if len(dead) == min(limit, PAGE):
                break
            last = layout.key_of_head(head_key)
            if _is_dead(layout, head, now):
                dead.append(RecordOperation(None, layout, last, None, head))
        is_done = len(heads) < _COUNT_PAGE and (last is None or last == layout.key_of_head(heads[-1][0]))
        removed = 0
        if dead:
            spend(0, len(dead))
            outcomes = await self._writer(list(dead), now, until).settle()
            removed = sum(outcome.status is Status.WRITTEN for outcome in outcomes.values())
        return Purged(removed, None if is_done or last is None else codec.decode_key(last))


def _names(given: object) -> list[str] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return given.split(",")
    if isinstance(given, Sequence) and all(isinstance(name, str) for name in given):
        return list(given)
    raise ValidationError("the option nodes takes names with commas between them", field="nodes")


def _tables(operations: Sequence[Operation]) -> list[Table]:
    """The tables that a write puts records into: they have to be in the catalogue."""
    found = {
        p.layout.table: None for p in operations if isinstance(p, RecordOperation) and p.puts and not p.layout.is_plain
    }
    return list(found)


def _size(operation: Operation) -> int:
    size = 0 if isinstance(operation, RangeOperation) and operation.must_read else size_of(operation.asserts())
    return size + size_of(operation.changes())


def _rows(layout: TableLayout, entries: list[tuple[bytes, bytes]], values: bool, now: int) -> Iterator[Row]:
    load = layout.load if values or layout.is_plain else layout.load_head
    decode_key = layout.codec.decode_key
    for key, data in entries:
        row = load(decode_key(key), data, now)
        if isinstance(row, Row):
            yield row


def _is_dead(layout: TableLayout, head: bytes, now: int) -> bool:
    try:
        return layout.codec.peek_header(head, now) is None
    except DecodingError:
        return False  # For its reader to report; it does not stop the others from going.


def _end(stop: bytes) -> bytes | None:
    """Answer the end to ask for: none where it is behind every key that there may be."""
    return None if len(stop) >= _MAX_KEY and not stop.strip(b"\xff") else stop


def _head_range(layout: TableLayout, start: bytes, stop: bytes) -> tuple[bytes, bytes]:
    return layout.head_key(start), layout.head_key(stop)
