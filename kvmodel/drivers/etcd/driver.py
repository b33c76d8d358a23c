"""The driver for etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import SplitResult, unquote

import attrs
import grpc

from kvmodel.drivers.base import (
    Absent,
    Atomicity,
    Capabilities,
    CheckRange,
    Costs,
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
    Watch,
)
from kvmodel.drivers.bytewrites import prepare
from kvmodel.drivers.etcd.catalogue import Catalogue
from kvmodel.drivers.etcd.client import MAX_REPLY_BYTES, EtcdClient
from kvmodel.drivers.etcd.commands import LEASE_GRANT
from kvmodel.drivers.etcd.layout import Place as Layout
from kvmodel.drivers.etcd.layout import make_version
from kvmodel.drivers.etcd.leases import Leases
from kvmodel.drivers.etcd.messages import KeyValue, LeaseGrantRequest
from kvmodel.drivers.etcd.operations import AnyPiece, Piece, RangePiece
from kvmodel.drivers.etcd.reading import KEYS_PAGE, PAGE, Reader
from kvmodel.drivers.etcd.watcher import EtcdWatcher
from kvmodel.drivers.etcd.watches import Place
from kvmodel.drivers.etcd.writes import Limits, Writer, tables_of, too_large
from kvmodel.drivers.formats.codec import compile_codec
from kvmodel.drivers.meter import spend
from kvmodel.drivers.options import choose, parse_int, parse_size, parse_text
from kvmodel.drivers.refusals import refuse_slice, refuse_watch, refuse_write
from kvmodel.errors import OutcomeUnknown, StoreError, Unsupported, ValidationError

__all__ = ["EtcdDriver"]

MAX_OPERATIONS: Final = 128
"""How many operations, and how many comparisons, a transaction may have, unless the server is told otherwise."""

MAX_REQUEST_BYTES: Final = 3 << 19
"""How long a request may be, unless the server is told otherwise."""

_DESCRIBING: Final = 3
"""How many operations of a batch may be needed for the marker, a table's description, and conditions."""

_MAX_KEY: Final = 1 << 16
_RESERVE: Final = 4 * _MAX_KEY
_FIRST_PAGE: Final = 100


class EtcdDriver(Driver):
    """A connection to an etcd cluster.

    Every write is one transaction, in one request. Reads are linearizable.

    Args:
        hosts: Where the nodes are: ``host:port,host:port``.
        user, password: Who asks, where the cluster wants to know.
        credentials: How to encrypt; ``None`` for plain TCP.
        server_name: The name that certificates are checked for, where it is not the host's.
        connect_timeout: How many seconds the first connection may take.
        max_txn_ops, max_request_bytes: What the servers take, where they are configured otherwise than by default.
        max_reply_bytes: The longest answer that is read. What would be longer is asked for in parts.
    """

    schemes: ClassVar[tuple[str, ...]] = ("etcd", "etcd+tls")
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "ca": parse_text,
        "cert": parse_text,
        "key": parse_text,
        "server_name": parse_text,
        "connect_timeout": float,
        "max_txn_ops": parse_int,
        "max_request_bytes": parse_size,
        "max_reply_bytes": parse_size,
    }
    capabilities = Capabilities(
        store="etcd",
        atomicity=Atomicity.STORE,
        conditional=True,
        range_checks=True,
        ordered=True,
        reverse=Reverse.COSTLY,
        scan_table=True,
        expiry=Expiry.NATIVE,
        watch=Watch.TABLE,
        watch_resumes=True,
        durability=Durability.MAJORITY,
        max_key_bytes=_MAX_KEY,
        max_value_bytes=MAX_REQUEST_BYTES - _RESERVE,
        max_read_batch=MAX_OPERATIONS,
        max_batch=MAX_OPERATIONS - _DESCRIBING,
        max_atomic_changes=MAX_OPERATIONS,
        max_atomic_checks=MAX_OPERATIONS,
        max_request_bytes=MAX_REQUEST_BYTES,
    )

    def __init__(
        self,
        hosts: str,
        user: str | None = None,
        password: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str | None = None,
        connect_timeout: float = 10.0,
        max_txn_ops: int = MAX_OPERATIONS,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        if max_txn_ops < 4:
            raise ValidationError("max_txn_ops is 4 or more", field="max_txn_ops")
        if max_request_bytes <= 2 * _RESERVE:
            raise ValidationError(f"max_request_bytes is more than {2 * _RESERVE}", field="max_request_bytes")
        self._client = EtcdClient(
            hosts,
            user,
            password,
            credentials=credentials,
            server_name=server_name,
            timeout=connect_timeout,
            max_reply_bytes=max_reply_bytes,
        )
        self.capabilities = attrs.evolve(
            type(self).capabilities,
            max_value_bytes=max_request_bytes - _RESERVE,
            max_read_batch=max_txn_ops,
            max_batch=max_txn_ops - _DESCRIBING,
            max_atomic_changes=max_txn_ops,
            max_atomic_checks=max_txn_ops,
            max_request_bytes=max_request_bytes,
        )
        self.limits = Limits(max_txn_ops, max_request_bytes)
        self.calls = self._client._calls
        self.reader = Reader(self.calls, max_txn_ops)
        self.catalogue = Catalogue(self.reader.fetch, self._has_keys, self.address)
        self.leases = Leases(self._grant, self.address)
        self._layouts: dict[Table, Layout] = {}

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> EtcdDriver:
        """Make a driver for ``etcd://user:password@host:port,host:port``, or ``etcd+tls://...``."""
        if url.path.strip("/") or url.fragment:
            raise ValidationError(
                "an etcd URL is etcd://user:password@host:port,host:port, without a path", field="url"
            )
        who, at, hosts = url.netloc.rpartition("@")
        user, _, password = who.partition(":")
        return cls(
            hosts,
            unquote(user) if at else None,
            unquote(password),
            credentials=_credentials(url.scheme == "etcd+tls", options),
            server_name=choose(options, "server_name", str, "") or None,
            connect_timeout=choose(options, "connect_timeout", float, 10.0),
            max_txn_ops=choose(options, "max_txn_ops", int, MAX_OPERATIONS),
            max_request_bytes=choose(options, "max_request_bytes", int, MAX_REQUEST_BYTES),
            max_reply_bytes=choose(options, "max_reply_bytes", int, MAX_REPLY_BYTES),
        )

    @property
    def address(self) -> str:
        """Where the store is, without credentials."""
        return self._client.store

    @property
    def native(self) -> EtcdClient:
        """The store's own client."""
        return self._client

    async def open(self) -> None:
        """Reach the cluster, and log in."""
        await self._client.open()

    async def close(self) -> None:
        """Finish the writes that are under way, and close all connections."""
        await self._client.close()

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Compare with what the store holds of a table. What is missing is written with the first write."""
        self.layout_of(table)
        await self.catalogue.compare(table, until)

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: the whole store."""
        return None

    def layout_of(self, table: Table) -> Layout:
        """Answer how a table's records lie in the store."""
        layout = self._layouts.get(table)
        if layout is None:
            limits = self.capabilities
            codec = compile_codec(
                table,
                store=limits.store,
                max_key_bytes=limits.max_key_bytes,
                max_value_bytes=limits.max_value_bytes,
            )
            layout = self._layouts[table] = Layout(codec, PAGE)
        return layout

    async def _has_keys(self, table: Table, until: float) -> bool:
        codec = self.layout_of(table).codec
        return bool((await self.reader.range(codec.first, codec.last, 1, until, keys_only=True)).kvs)

    async def _grant(self, ttl: int, until: float) -> int:
        # One that was made and whose answer was lost ends by itself: another one does no harm.
        method = LEASE_GRANT._replace(writes=False)
        return (await self.calls.call(method, LeaseGrantRequest(ttl), until=until)).id

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked; those of one request from one state of the store."""
        layout = self.layout_of(table)
        encoded = list(map(layout.codec.encode_key, keys))
        found = await self.reader.fetch(encoded, until, keys_only=not values)
        if not values:
            await self._read_leased(encoded, found, until)
        load = layout.load if values else layout.load_head
        return [Absent(key) if kv is None else load(key, kv, now) for key, kv in zip(keys, found, strict=True)]

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    async def _read_leased(self, keys: Sequence[bytes], found: list[KeyValue | None], until: float) -> None:
        """Read the values of keys that may have expired, which only their values tell."""
        leased = [number for number, kv in enumerate(found) if kv is not None and kv.lease]
        if leased:
            values = await self.reader.fetch([keys[number] for number in leased], until)
            for number, kv in zip(leased, values, strict=True):
                found[number] = kv

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice; backwards, its keys are all read for that."""
        refuse_slice(self.capabilities, table, slice)
        layout = self.layout_of(table)
        start, stop = layout.codec.bounds(slice)
        if start >= stop or slice.limit == 0:
            return Rows([])
        is_first = slice.after is None and (slice.limit is None or slice.limit > PAGE)
        room = min(_FIRST_PAGE if is_first else PAGE, slice.limit or PAGE)
        kvs: Sequence[KeyValue]
        if slice.reverse:
            kvs, more = await self._backwards(layout, start, stop, room, until)
        elif values or layout.is_plain:
            kvs, more = await self.reader.records(layout, start, stop, room, until)
        else:
            kvs, more, _ = await self.reader.heads(layout, start, stop, room, until)
        rows = list(_rows(layout, kvs, values, now))
        if not more or len(rows) == slice.limit:
            return Rows(rows)
        return Rows(rows, layout.codec.decode_key(kvs[-1].key))

    def costs(self, table: Table, slice: Slice) -> Costs | None:
        """Say what reading backwards takes."""
        if not slice.reverse:
            return None
        return Costs(
            (
                f"read all keys of the slice, without values, {KEYS_PAGE} to a request: this store has no other order",
                f"read the last records by key, {self.limits.operations} to a request",
            )
        )

    async def _backwards(
        self, layout: Layout, start: bytes, stop: bytes, room: int, until: float
    ) -> tuple[list[KeyValue], bool]:
        """Read the last records of a range, the last one first."""
        room = min(room, layout.room)
        while True:
            keys = await self.reader.last(start, stop, room, until)
            found = [kv for kv in reversed(await self.reader.fetch(keys, until)) if kv is not None]
            more = len(keys) == room
            if found or not more:
                return found, more
            stop = keys[0]  # They all went in between.

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice: by their keys, and the values of those that may have expired."""
        refuse_slice(self.capabilities, table, slice)
        layout = self.layout_of(table)
        start, stop = layout.codec.bounds(slice)
        total, more = 0, start < stop
        if more and layout.is_plain:
            total, more = await self.reader.count(start, stop, until), False
        while more and (slice.limit is None or total < slice.limit):
            kvs, more, _ = await self.reader.heads(layout, start, stop, KEYS_PAGE, until)
            total += sum(layout.is_alive(kv, now) for kv in kvs)
            if more:
                start = kvs[-1].key + b"\0"
        return total if slice.limit is None else min(total, slice.limit)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked for size before anything is sent."""
        if not mutations:
            return []
        refuse_write(self.capabilities, self.scope, mutations, atomic)
        pieces = self._encode(mutations, now)
        for request in [pieces] if atomic else [[piece] for piece in pieces]:
            self._check_size(request)
        tables = tables_of(pieces)
        await self.catalogue.ready(tables, until)
        if atomic:
            spend(0, len(pieces))
            return await Writer(self, pieces, now, until).commit()
        missing = self.catalogue.missing(tables)
        return await self._settle(list(self._cut(pieces, len(missing) + 1 if missing else 0)), now, until)

    def _encode(self, mutations: Sequence[Mutation], now: int) -> list[AnyPiece]:
        encoded = prepare(
            mutations,
            atomic=True,
            now=now,
            store=self.address,
            codec_of=lambda table: self.layout_of(table).codec,
            recorded=set(),
            register=lambda txn, table: [],
        )
        pieces: list[AnyPiece] = []
        for mutation, _, key, data, _ in encoded.steps:
            layout = self.layout_of(mutation.table)
            if isinstance(mutation, CheckRange):
                pieces.append(RangePiece.make(mutation, layout))
            else:
                pieces.append(
                    Piece(mutation, layout, key, data if isinstance(mutation, Put) else None, mutation.expect)
                )
        return pieces

    def _cut(self, pieces: Sequence[AnyPiece], reserve: int = 0) -> Iterator[list[AnyPiece]]:
        """Cut a batch into requests that the store takes: a key comes once in each, a range check is alone.

        ``reserve`` is how many operations of the first one are needed to describe tables.
        """
        request: list[AnyPiece] = []
        keys: set[bytes] = set()
        size = 0
        room = self.limits.operations
        for piece in pieces:
            alone = isinstance(piece, RangePiece)
            key = b"" if isinstance(piece, RangePiece) else piece.key
            if alone or piece.is_conditional:
                room = self.limits.operations - 1  # A transaction inside another one counts in both.
            full = len(request) >= room - reserve or size + piece.size > self.limits.request_bytes - _RESERVE
            if request and (full or alone or key in keys or isinstance(request[-1], RangePiece)):
                yield request
                request, keys, size, reserve = [], set(), 0, 0
                room = self.limits.operations - (alone or piece.is_conditional)
            request.append(piece)
            keys.add(key)
            size += piece.size
        yield request

    def _check_size(self, pieces: list[AnyPiece]) -> None:
        size, limit = sum(piece.size for piece in pieces), self.limits.request_bytes
        if size > limit:
            raise too_large(pieces, size, limit, self.address)

    async def _settle(self, requests: list[list[AnyPiece]], now: int, until: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for number, request in enumerate(requests):
            try:
                spend(0, len(request))
                outcomes += await self._settle_one(request, now, until)
            except StoreError as error:
                if number == 0 or isinstance(error.__cause__, asyncio.CancelledError):
                    raise
                status = Status.UNKNOWN if isinstance(error, OutcomeUnknown) else Status.UNSENT
                outcomes += [Outcome(status, error=error)] * len(request)
                left = sum(map(len, requests[number + 1 :]))
                return outcomes + [Outcome(Status.UNSENT, error=error)] * left
        return outcomes

    async def _settle_one(self, request: list[AnyPiece], now: int, until: float) -> list[Outcome]:
        writer = Writer(self, list(request), now, until)
        found = await writer.settle()
        return [found[piece] for piece in request]

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records of one page behind ``after``, before their leases do it."""
        if table.layout == "plain":
            return Purged(0)
        layout = self.layout_of(table)
        codec = layout.codec
        start = codec.first if after is None else codec.encode_key(after) + b"\0"
        kvs, more, _ = await self.reader.heads(layout, start, codec.last, min(KEYS_PAGE, limit), until)
        dead = [kv for kv in kvs if not layout.is_alive(kv, now)]
        pieces: list[AnyPiece] = [Piece(None, layout, kv.key, None, make_version(kv.mod_revision, None)) for kv in dead]
        removed = 0
        for request in self._cut(pieces) if pieces else ():
            spend(0, len(request))
            outcomes = await Writer(self, list(request), now, until).settle()
            removed += sum(outcome.status is Status.WRITTEN for outcome in outcomes.values())
        return Purged(removed, codec.decode_key(kvs[-1].key) if more else None)

    # --- watching -----------------------------------------------------------------------------------------------------

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> EtcdWatcher:
        """Follow the changes of a slice, whoever makes them."""
        refuse_watch(self.capabilities, table, slice, resumes=position is not None)
        layout = self.layout_of(table)
        start, stop = layout.codec.bounds(slice)
        place = None if position is None else Place.parse(position)
        changes = self._client.watch(start or b"\0", stop, place=place, prev_kv=True)
        try:
            await changes.open(until)
        except BaseException:
            await changes.close()
            raise
        return EtcdWatcher(changes, layout.codec, clock)


def _credentials(encrypted: bool, options: Mapping[str, object]) -> grpc.ChannelCredentials | None:
    """Read certificates. Raises ``ValidationError`` where they can't be, or make no sense."""
    files = {name: choose(options, name, str, "") for name in ("ca", "cert", "key")}
    if not encrypted:
        given = [name for name in (*files, "server_name") if options.get(name)]
        if given:
            raise ValidationError(f"{given[0]}= is for encrypted connections: etcd+tls://", field=given[0])
        return None
    if bool(files["cert"]) != bool(files["key"]):
        raise ValidationError("give cert= and key= together", field="cert" if files["key"] else "key")
    contents: dict[str, bytes | None] = {}
    for name, path in files.items():
        try:
            contents[name] = Path(path).read_bytes() if path else None
        except OSError as error:
            raise ValidationError(f"the file of {name}= can't be read: {error.strerror}", field=name) from error
    return grpc.ssl_channel_credentials(contents["ca"], contents["key"], contents["cert"])


def _rows(layout: Layout, kvs: Sequence[KeyValue], values: bool, now: int) -> Iterator[Row]:
    load = layout.load if values else layout.load_head
    decode_key = layout.codec.decode_key
    for kv in kvs:
        row = load(decode_key(kv.key), kv, now)
        if isinstance(row, Row):
            yield row
