"""The driver for Picodata."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, unquote

import asyncpg
import attrs

from kvmodel.drivers.base import (
    Absent,
    Atomicity,
    Capabilities,
    Driver,
    Durability,
    Expiry,
    Key,
    Mutation,
    Outcome,
    Purged,
    Reverse,
    Row,
    Rows,
    Slice,
    Table,
)
from kvmodel.drivers.meter import spend
from kvmodel.drivers.options import choose, parse_bool, parse_int, parse_size, parse_text
from kvmodel.drivers.picodata.bounds import Params, encode_key, order_by, slice_condition
from kvmodel.drivers.picodata.ddl import VERSION
from kvmodel.drivers.picodata.discovery import NodeAddress, parse_address
from kvmodel.drivers.picodata.errors import is_limit
from kvmodel.drivers.picodata.forms import Wire
from kvmodel.drivers.picodata.place import FIRST_PAGE, PAGE, Place
from kvmodel.drivers.picodata.pool import BalanceStrategy, PicodataPool
from kvmodel.drivers.picodata.preparing import Preparing
from kvmodel.drivers.picodata.requests import MAX_READ, Requests
from kvmodel.drivers.refusals import refuse_slice
from kvmodel.errors import StoreError, Unsupported, ValidationError

__all__ = ["PicodataDriver"]

MAX_ROW_BYTES: Final = 1_000_000
_MAX_BATCH: Final = 100
_MAX_ATOMIC: Final = 100
_VERSION: Final = re.compile(r"\b(\d{2})\.(\d+)(?:\.(\d+))?")
_OLDEST: Final = (25, 5, 1)
_BLOCKS: Final = (26, 1, 3)
_DESCENDING: Final = (26, 2, 0)


def _refuse_text(name: str) -> Callable[[str], object]:
    def refuse(text: str) -> object:
        raise ValueError(f"{name} can't stand in a URL: give it by keyword")

    return refuse


class PicodataDriver(Requests, Driver):
    """A connection to a Picodata cluster, by PostgreSQL's protocol.

    Args:
        nodes: Where the nodes listen.
        user, password: Who logs in.
        pool_size: How many connections at the most, at least 1.
        discovery: Whether to ask the cluster for its nodes.
        balance_strategy: Chooses among the free connections; round robin if left out.
        topology_update_interval: Every how many seconds discovery asks again; 0 for never.
        forbidden_tiers: Whose nodes discovery leaves alone: names with commas between them.
        tls: Whether to encrypt, with the system's certificates; or an ``ssl.SSLContext``.
        connect_timeout: How many seconds connecting may take.
        connect_kwargs: More arguments for ``asyncpg.connect``.
        max_value_bytes: How large a row may be, where the server is configured otherwise than by default.
    """

    schemes: ClassVar[tuple[str, ...]] = ("picodata",)
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "pool_size": parse_int,
        "discovery": parse_bool,
        "balance_strategy": _refuse_text("balance_strategy"),
        "topology_update_interval": float,
        "forbidden_tiers": parse_text,
        "tls": parse_bool,
        "tls_ca": parse_text,
        "tls_cert": parse_text,
        "tls_key": parse_text,
        "connect_timeout": float,
        "connect_kwargs": _refuse_text("connect_kwargs"),
        "max_value_bytes": parse_size,
    }
    capabilities = Capabilities(
        store="picodata",
        atomicity=Atomicity.PARTITION,
        conditional=True,
        ordered=True,
        reverse=Reverse.NATIVE,
        scan_table=True,
        expiry=Expiry.EMULATED,
        durability=Durability.PROCESS,
        failover_may_lose=True,
        typed_columns=True,
        max_value_bytes=MAX_ROW_BYTES,
        max_read_batch=MAX_READ,
        max_batch=_MAX_BATCH,
        max_atomic_changes=_MAX_ATOMIC,
        max_atomic_checks=_MAX_ATOMIC,
    )

    def __init__(
        self,
        nodes: Sequence[NodeAddress],
        user: str | None = None,
        password: str | None = None,
        *,
        pool_size: int = 10,
        discovery: bool = False,
        balance_strategy: BalanceStrategy | None = None,
        topology_update_interval: float = 60.0,
        forbidden_tiers: str = "",
        tls: bool | ssl.SSLContext = False,
        connect_timeout: float = 10.0,
        connect_kwargs: Mapping[str, Any] | None = None,
        max_value_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        if pool_size < 1:
            raise ValidationError("pool_size is at least 1", field="pool_size")
        self._pool = PicodataPool(
            nodes,
            user,
            password,
            pool_size=pool_size,
            discovery=discovery,
            balance_strategy=balance_strategy,
            topology_update_interval=topology_update_interval or None,
            forbidden_tiers=filter(None, forbidden_tiers.split(",")),
            tls=tls if isinstance(tls, ssl.SSLContext) else ssl.create_default_context() if tls else None,
            timeout=connect_timeout,
            connect_kwargs=connect_kwargs,
        )
        self.capabilities = attrs.evolve(type(self).capabilities, max_value_bytes=max_value_bytes)
        self.has_blocks = True
        self._version: tuple[int, int, int] = _BLOCKS
        self._preparing = Preparing(self)

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> PicodataDriver:
        """Make a driver for ``picodata://user:password@host:port,host:port``."""
        user, password, nodes = _read_netloc(url)
        tls = options.get("tls", False)
        if not isinstance(tls, bool | ssl.SSLContext):
            raise ValidationError("the option tls is true or false, or an ssl.SSLContext", field="tls")
        strategy = options.get("balance_strategy")
        if strategy is not None and not callable(strategy):
            raise ValidationError("balance_strategy is a callable", field="balance_strategy")
        arguments = options.get("connect_kwargs")
        if arguments is not None and not isinstance(arguments, Mapping):
            raise ValidationError("connect_kwargs is a mapping", field="connect_kwargs")
        return cls(
            nodes,
            user,
            password,
            pool_size=choose(options, "pool_size", int, 10),
            discovery=choose(options, "discovery", bool, False),
            balance_strategy=strategy,
            topology_update_interval=float(choose(options, "topology_update_interval", int | float, 60.0)),  # type: ignore[arg-type]  # a union serves isinstance
            forbidden_tiers=choose(options, "forbidden_tiers", str, ""),
            tls=_tls(tls, options),
            connect_timeout=float(choose(options, "connect_timeout", int | float, 10.0)),  # type: ignore[arg-type]  # a union serves isinstance
            connect_kwargs=arguments,
            max_value_bytes=choose(options, "max_value_bytes", int, MAX_ROW_BYTES),
        )

    @property
    def native(self) -> PicodataPool:
        """The connected pool: SQL as the store speaks it."""
        return self._pool

    @property
    def address(self) -> str:
        """Where the cluster is, as a URL without credentials."""
        return self._pool.address

    @property
    def pool(self) -> PicodataPool:
        """The pool of connections."""
        return self._pool

    @property
    def sorts_keys(self) -> bool:
        """Whether this version knows descending parts of a primary key."""
        return self._version >= _DESCENDING

    async def open(self) -> None:
        """Connect, and see which version it is. Raises ``Unsupported`` for one whose reads may be old."""
        await self._pool.open()
        rows = await self._pool.fetch(VERSION)
        # It may name the PostgreSQL that it speaks like too, which is an older number.
        told = _VERSION.findall(str(rows[0][0]))
        if not told:
            raise StoreError("the server doesn't say which version of Picodata it is", store=self.address)
        self._version = max((int(year), int(minor), int(patch or 0)) for year, minor, patch in told)
        if self._version < _OLDEST:
            raise Unsupported(
                "this version of Picodata may answer reads from replicas that lag behind: update to 25.5.1 or later",
                store=self.address,
            )
        self.has_blocks = self._version >= _BLOCKS
        if not self.has_blocks:
            self.capabilities = attrs.evolve(
                self.capabilities, atomicity=Atomicity.RECORD, max_atomic_changes=None, max_atomic_checks=None
            )

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Create what the store lacks of a table, wait until all nodes have it, and compare with what was there.

        Raises ``SchemaError`` with all differences in words.
        """
        await self._preparing.prepare(table, until)

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: the bucket of a partition; a record, where there are no blocks."""
        bucket = self._preparing.known(table).scope(key)
        return bucket if self.has_blocks else (bucket, table.name, key)

    async def place(self, table: Table, until: float) -> Place:
        """Answer where a table's records lie."""
        return await self._preparing.place(table, until)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked. Those of one partition are one state of the store."""
        place = self._preparing.known(table)
        wires = [tuple(encode_key(place.layout, key)) for key in keys]
        place = await self.place(table, until)
        found: dict[tuple[Wire, ...], asyncpg.Record] = {}
        for start in range(0, len(keys), MAX_READ):
            part = wires[start : start + MAX_READ]
            spend(0, len(part))
            for record in await self.ask(place.texts.read(part, values=values), until):
                found[place.rows.key_wires(record)] = record
        load = place.rows.load
        return [
            Absent(key) if (record := found.get(wire)) is None else load(record, now, values=values)
            for key, wire in zip(keys, wires, strict=True)
        ]

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice; its rows are one state of the store where it is of one partition."""
        refuse_slice(self.capabilities, table, slice)
        place = await self.place(table, until)
        params = Params()
        where = slice_condition(place.layout, slice, params, place.texts.constant)
        if where is None or slice.limit == 0:
            return Rows([])
        first = slice.after is None and (slice.limit is None or slice.limit > PAGE)
        wanted = min(FIRST_PAGE if first else PAGE, slice.limit or PAGE)
        order = order_by(place.layout, slice)
        records, room = await self._page(place, where, order, wanted, params, values, until)
        load = place.rows.load
        rows = [row for record in records if isinstance(row := load(record, now, values=values), Row)]
        if len(records) < room or len(rows) == slice.limit:
            return Rows(rows)
        return Rows(rows, place.rows.key(records[-1]))

    async def _page(
        self, place: Place, where: str, order: str, wanted: int, params: Params, values: bool, until: float
    ) -> tuple[list[asyncpg.Record], int]:
        """Read a page, a smaller one if the server grants no more; answer how many rows there was room for."""
        while True:
            room = min(wanted, place.room)
            statement = place.texts.page(where, order, room, params, values=values, unlimited=place.unlimited)
            try:
                records = await self.ask(statement, until)
            except StoreError as error:
                if error.__cause__ is None or not is_limit(error.__cause__) or not place.cut(room):
                    raise
                continue
            spend(0, len(records))
            place.learn(records)
            return records, room

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice, in one exchange."""
        refuse_slice(self.capabilities, table, slice)
        place = await self.place(table, until)
        params = Params()
        where = slice_condition(place.layout, slice, params, place.texts.constant)
        if where is None or slice.limit == 0:
            return 0
        live = place.texts.live(place.rows.moment(now), params)
        where = where + live if where else live.removeprefix(" AND ")
        rows = await self.ask(place.texts.count(where, params), until)
        total = int(rows[0][0])
        spend(0, total)
        return total if slice.limit is None else min(total, slice.limit)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write: a record by a statement or block, records of a partition by one block, batches in few statements."""
        return await self.write_all(mutations, atomic=atomic, now=now, until=until)

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove expired records, each only in the version that was seen."""
        return await self.sweep(table, limit=limit, after=after, now=now, until=until)


def _read_netloc(url: SplitResult) -> tuple[str | None, str | None, list[NodeAddress]]:
    """Take user, password and hosts out of a URL."""
    info, at, hosts = url.netloc.rpartition("@")
    if url.fragment:
        raise ValidationError("percent-encode what is special in user and password: # is %23", field="url")
    user, colon, password = info.partition(":")
    try:
        nodes = [parse_address(host.strip()) for host in hosts.split(",")]
    except ValueError as error:
        raise ValidationError(
            f"a Picodata URL is picodata://user:password@host:port,host:port ({error})", field="url"
        ) from None
    return (unquote(user) if at else None), (unquote(password) if colon else None), nodes


def _tls(tls: bool | ssl.SSLContext, options: Mapping[str, object]) -> bool | ssl.SSLContext:
    """Answer what to encrypt with, made of files where these are named."""
    authority = choose(options, "tls_ca", str, "")
    certificate = choose(options, "tls_cert", str, "")
    if isinstance(tls, ssl.SSLContext) or not (authority or certificate):
        return tls
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if certificate:
            context.load_cert_chain(certificate, choose(options, "tls_key", str, "") or None)
    except (OSError, ssl.SSLError) as error:
        raise ValidationError("the files of tls_ca, tls_cert and tls_key can't be read", field="tls") from error
    return context
