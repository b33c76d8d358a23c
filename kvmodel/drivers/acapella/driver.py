"""The driver for AcapellaDB."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Final, TypeVar, cast
from urllib.parse import SplitResult, unquote

import attrs

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.errors import KvError
from kvmodel.drivers.acapella.layout import MAX_KEY_BYTES, MAX_VALUE_BYTES, PAGE, Place, TreePlace
from kvmodel.drivers.acapella.protocol import USUAL, Quorum
from kvmodel.drivers.acapella.scans import Scan, costs_of
from kvmodel.drivers.acapella.session import DEFAULT_PORT, DEFAULT_PREFIX, MAX_REPLY_BYTES, Session
from kvmodel.drivers.acapella.tree_store import AcapellaTrees
from kvmodel.drivers.acapella.watching import RecordWatcher
from kvmodel.drivers.acapella.writes import Step, Writer
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
    Table,
    Watch,
    Watcher,
)
from kvmodel.drivers.bytestore import PAGE_BYTES
from kvmodel.drivers.facets import TreeStore
from kvmodel.drivers.options import choose, parse_bool, parse_int, parse_size
from kvmodel.drivers.refusals import refuse_slice, refuse_watch, refuse_write
from kvmodel.errors import TimedOut, Unsupported, ValidationError

__all__ = ["AcapellaDriver"]

FacetT = TypeVar("FacetT")
PlaceT = TypeVar("PlaceT", bound=Place)

_OPENING: Final = 10.0
_MAX_REQUEST_BYTES: Final = 64 << 20
_PROBE: Final = "kvmodel"


class AcapellaDriver(Driver):
    """A connection to an AcapellaDB server.

    Args:
        host, port: Where the server is.
        api_prefix: What paths begin with; ``None`` to find out whether it is the usual one or none.
        account: User and password.
        quorum: Replicas and confirmations.
        connections: How many connections at the most.
        tls: Encrypt; or how to.
        keep_alive: After how many seconds an open transaction is told to be still wanted.
        max_value_bytes: The largest record, as JSON.
        max_reply_bytes: The longest reply that is read.
    """

    schemes: ClassVar[tuple[str, ...]] = ("acapella",)
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        "n": parse_int,
        "r": parse_int,
        "w": parse_int,
        "connections": parse_int,
        "tls": parse_bool,
        "keep_alive": float,
        "max_value_bytes": parse_size,
        "max_reply_bytes": parse_size,
    }
    capabilities = Capabilities(
        store="acapella",
        atomicity=Atomicity.STORE,
        conditional=True,
        range_checks=False,
        ordered=True,
        reverse=Reverse.COSTLY,
        scan_table=False,
        expiry=Expiry.NONE,
        watch=Watch.RECORD,
        durability=Durability.MAJORITY,
        catalogue=False,
        empty_texts=False,
        shared_partitions=False,
        leaves_deleted=True,
        max_key_bytes=MAX_KEY_BYTES,
        max_value_bytes=MAX_VALUE_BYTES,
        max_read_batch=1,
        max_batch=PAGE,
        max_request_bytes=_MAX_REQUEST_BYTES,
    )

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        api_prefix: str | None = None,
        *,
        account: tuple[str, str] | None = None,
        quorum: Quorum = USUAL,
        connections: int = 32,
        tls: bool | ssl.SSLContext = False,
        keep_alive: float = 5.0,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._make_session: Callable[[str], Session] = partial(
            Session,
            host,
            port,
            connections=connections,
            tls=tls,
            keep_alive=keep_alive,
            max_reply_bytes=max_reply_bytes,
        )
        self._guesses = api_prefix is None and account is None
        self._session = self._make_session(DEFAULT_PREFIX if api_prefix is None else api_prefix)
        self._transactions = asyncio.Semaphore(connections)
        self._account = account
        self._page_bytes = min(PAGE_BYTES, max_reply_bytes // 2)
        self._quorum = quorum
        self._places: dict[Table, Place] = {}
        self.capabilities = attrs.evolve(
            type(self).capabilities,
            max_value_bytes=max_value_bytes,
            durability=Durability.MAJORITY if 1 < quorum.n < 2 * quorum.w else Durability.PROCESS,
            failover_may_lose=2 * quorum.w <= quorum.n,
        )
        self._trees = AcapellaTrees(self)

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> AcapellaDriver:
        """Make a driver for ``acapella://user:password@host:port/prefix?n=3&r=2&w=2``."""
        if url.fragment:
            raise ValidationError("a # in the path of a URL has to be written %23", field="url")
        tls = options.get("tls", False)
        if not isinstance(tls, bool | ssl.SSLContext):
            raise ValidationError("the option tls is true or false, or an ssl.SSLContext", field="tls")
        keep_alive = options.get("keep_alive", 5.0)
        if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float) or not keep_alive > 0:
            raise ValidationError("the option keep_alive is a number of seconds greater than zero", field="keep_alive")
        return cls(
            url.hostname or "127.0.0.1",
            url.port or DEFAULT_PORT,
            _prefix(url.path),
            account=_account(url),
            quorum=Quorum.checked(
                choose(options, "n", int, 3), choose(options, "r", int, 2), choose(options, "w", int, 2)
            ),
            connections=choose(options, "connections", int, 32),
            tls=tls,
            keep_alive=float(keep_alive),
            max_value_bytes=choose(options, "max_value_bytes", int, MAX_VALUE_BYTES),
            max_reply_bytes=choose(options, "max_reply_bytes", int, MAX_REPLY_BYTES),
        )

    @property
    def address(self) -> str:
        """Where the store is."""
        return self._session.store

    @property
    def native(self) -> Session:
        """The store's own client."""
        return self._session

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Log in, or else ask something that costs nothing."""
        if self._account is not None:
            await self._session.login(*self._account, timeout=_OPENING)
            return
        try:
            await self._probe()
        except KvError as error:
            if error.status != 404 or not self._guesses:
                raise
            bare = self._make_session("")
            await self._session.close()
            self._session = bare
            await self._probe()

    async def _probe(self) -> None:
        await self._session.call(protocol.version((_PROBE,), quorum=self._quorum), timeout=_OPENING)

    async def close(self) -> None:
        """Finish the writes that are under way, and close all connections."""
        await self._session.close()

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """See that the table can be kept. The store holds no description of it."""
        self.place(table)

    def place(self, table: Table) -> Place:
        """Answer where and how a table is kept. Raises ``SchemaError`` and ``ValidationError``."""
        place = self._places.get(table)
        if place is None:
            place = self._places[table] = self._make_place(Place, table)
        return place

    def keep_as_tree(self, table: Table) -> None:
        """Keep a table in trees from now on."""
        self._places[table] = self._make_place(TreePlace, table)

    def _make_place(self, kind: type[PlaceT], table: Table) -> PlaceT:
        limit = self.capabilities.max_value_bytes or MAX_VALUE_BYTES
        return kind(
            table,
            self._quorum,
            store=self.capabilities.store,
            max_value_bytes=limit,
            page_bytes=self._page_bytes,
        )

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: the whole store."""
        return None

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        """Answer the store's trees."""
        return cast("FacetT", self._trees) if kind is TreeStore else None

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, one request each."""
        return await Scan(self._session, self.place(table), until).read(keys, values=values)

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    def costs(self, table: Table, slice: Slice) -> Costs | None:
        """Say what a slice costs where that is not one request a page."""
        return costs_of(slice, self.place(table))

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        refuse_slice(self.capabilities, table, slice)
        return await Scan(self._session, self.place(table), until).page(slice, values=values)

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the rows of a slice. They travel with their values, page by page."""
        refuse_slice(self.capabilities, table, slice)
        return await Scan(self._session, self.place(table), until).count(slice)

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> Watcher:
        """Begin to follow one record."""
        refuse_watch(self.capabilities, table, slice, resumes=position is not None)
        place = self.place(table)
        assert slice.partition is not None
        watcher = RecordWatcher(self._session, place, slice.partition + slice.prefix)
        await watcher.begin(until)
        return watcher

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked before anything is sent."""
        if not mutations:
            return []
        self._refuse(mutations, atomic)
        writer = Writer(
            self._session,
            [self._encode(mutation) for mutation in mutations],
            until,
            max_batch=self.capabilities.max_batch or PAGE,
            max_request_bytes=self.capabilities.max_request_bytes or _MAX_REQUEST_BYTES,
            transactions=self._transactions,
        )
        if time.monotonic() >= until:
            raise TimedOut("time ran out before anything was sent: raise the timeout", store=self.address)
        return await (writer.commit() if atomic else writer.settle())

    def _refuse(self, mutations: Sequence[Mutation], atomic: bool) -> None:
        """Refuse what can't be done: for nodes, what trees can't do."""
        in_trees = [each for each in mutations if self.place(each.table).is_tree]
        if in_trees:
            refuse_write(self._trees.capabilities, self.scope, in_trees, atomic)
        refuse_write(self.capabilities, self.scope, mutations, atomic)

    def _encode(self, mutation: Mutation) -> Step:
        assert not isinstance(mutation, CheckRange)
        place = self.place(mutation.table)
        try:
            address = place.address(mutation.key)
            body = place.documents.dump(mutation.values) if isinstance(mutation, Put) else None
        except ValidationError as error:
            if error.key is None:
                error.key = mutation.key
            raise
        return Step(mutation, place, address, body)

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove nothing: no record here expires."""
        return Purged(0)


def _prefix(path: str) -> str | None:
    """Answer the prefix of the API: the URL's path; ``None`` where it has none."""
    if path and re.fullmatch(r"(/[A-Za-z0-9_.~%-]+)*/?", path) is None:
        raise ValidationError("the URL's path is what the server's paths begin with, such as /acapelladb", field="url")
    return path.rstrip("/") if path else None


def _account(url: SplitResult) -> tuple[str, str] | None:
    if url.username:
        return unquote(url.username), unquote(url.password or "")
    if url.username is not None or url.password is not None:
        raise ValidationError("give user and password: acapella://user:password@host", field="url")
    return None
