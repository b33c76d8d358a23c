"""The driver for Redis: a single server, one behind sentinels, or a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, cast
from urllib.parse import SplitResult

import attrs
from redis.asyncio import Redis, RedisCluster

from kvmodel.drivers.base import (
    Absent,
    Atomicity,
    Capabilities,
    Driver,
    Durability,
    Expiry,
    FacetT,
    Key,
    Mutation,
    Outcome,
    Purged,
    Reverse,
    Row,
    Rows,
    Slice,
    Table,
    Watch,
    Watcher,
)
from kvmodel.drivers.facets import SelfCheck
from kvmodel.drivers.redis.address import OPTIONS, SCHEMES, Kind, Target, parse_target
from kvmodel.drivers.redis.catalogue import Catalogue
from kvmodel.drivers.redis.courier import Courier
from kvmodel.drivers.redis.health import durability_of, findings_of, may_lose
from kvmodel.drivers.redis.layout import MAX_KEY_BYTES, MAX_VALUE_BYTES, Place
from kvmodel.drivers.redis.opening import check_states, examine, make_native, make_topology, welcome_all
from kvmodel.drivers.redis.reading import READ_BATCH, Reader
from kvmodel.drivers.redis.scans import Directories
from kvmodel.drivers.redis.scripts import SWEEP
from kvmodel.drivers.redis.slots import slot_names, tag_of
from kvmodel.drivers.redis.watching import RedisWatcher
from kvmodel.drivers.redis.writes import halves
from kvmodel.drivers.redis.writing import MAX_BATCH, MAX_REQUEST_BYTES, Writer
from kvmodel.drivers.refusals import refuse_watch, refuse_write
from kvmodel.errors import Closed, Unsupported

__all__ = ["RedisDriver"]

_SWEEP_PAGE = 5000


class RedisDriver(Driver, SelfCheck):
    """A connection to Redis. Made by :meth:`from_url`, for the schemes that :attr:`schemes` lists.

    Every read of one partition, and every write, is one command; each call that writes is one script in the server.

    Args:
        target: What to connect to.
    """

    schemes: ClassVar[tuple[str, ...]] = tuple(SCHEMES)
    options: ClassVar[dict[str, Callable[[str], object]]] = OPTIONS
    capabilities = Capabilities(
        store="redis",
        atomicity=Atomicity.STORE,
        conditional=True,
        range_checks=True,
        ordered=True,
        reverse=Reverse.NATIVE,
        scan_table=True,
        expiry=Expiry.NATIVE,
        watch=Watch.TABLE,
        durability=Durability.DISK,
        max_key_bytes=MAX_KEY_BYTES,
        max_value_bytes=MAX_VALUE_BYTES,
        max_read_batch=READ_BATCH,
        max_batch=MAX_BATCH,
        max_request_bytes=MAX_REQUEST_BYTES,
    )

    def __init__(self, target: Target) -> None:
        self._target = target
        self._in_cluster = target.kind is Kind.CLUSTER
        self._has_failover = target.kind is not Kind.SERVER
        self.capabilities = type(self).capabilities
        if self._in_cluster:
            self.capabilities = attrs.evolve(
                self.capabilities, atomicity=Atomicity.PARTITION, watch=Watch.NONE, failover_may_lose=True
            )
        self._places: dict[Table, Place] = {}
        self._topology = make_topology(target)
        self._courier = Courier(self._topology, target.text)
        self._directories = Directories(self._courier, in_cluster=self._in_cluster)
        self._catalogue = Catalogue(self._courier, in_cluster=self._in_cluster)
        self._reader = Reader(self._courier, self._directories, in_cluster=self._in_cluster)
        self._writer = Writer(self._courier, self._catalogue, self._place, in_cluster=self._in_cluster)
        self._watchers: set[RedisWatcher] = set()
        self._native: Redis[Any] | RedisCluster[Any] | None = None
        self._is_closed = False

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, object]) -> RedisDriver:
        """Make a driver for ``redis://user:password@host:port/0``, and so on. Raises ``ValidationError``."""
        return cls(parse_target(url, options))

    @property
    def address(self) -> str:
        """Where the servers are, without credentials."""
        return self._target.text

    @property
    def native(self) -> Redis[Any] | RedisCluster[Any]:
        """redis-py's own client of the same servers, with connections and errors of its own."""
        if self._is_closed:
            raise Closed("this connection is closed: connect again", store=self.address)
        if self._native is None:
            self._native = make_native(self._target, self._topology)
        return self._native

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Reach the servers, load the scripts, and learn how durable they are."""
        until = time.monotonic() + self._target.settings.connect_timeout
        states = await examine(self._topology, until, self.address)
        check_states(states, self._target)
        await welcome_all(self._topology, until, self.address)
        if self._in_cluster:
            slot_names()
        self.capabilities = attrs.evolve(
            self.capabilities,
            durability=durability_of(states),
            failover_may_lose=may_lose(states, has_failover=self._has_failover),
        )

    async def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        for watcher in list(self._watchers):
            await watcher.close()
        native, self._native = self._native, None
        if native is not None:
            await cast("Any", native).aclose()
        await self._courier.close()

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Compare with what the store holds of a table. What is missing is written with the first write."""
        await self._catalogue.compare(self._place(table), until)

    def _place(self, table: Table) -> Place:
        place = self._places.get(table)
        if place is None:
            place = self._places[table] = Place(table, self.capabilities.store, in_cluster=self._in_cluster)
        return place

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: the whole server, or, in a cluster, what has the same hash tag."""
        if not self._in_cluster:
            return None
        place = self._place(table)
        if place.is_plain:
            return tag_of(place.codec.encode_key(key))
        return table.namespace, key[: len(table.partition)]

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        """Answer what only some stores have, or ``None``."""
        return self if kind is SelfCheck and isinstance(self, kind) else None

    # --- reading ------------------------------------------------------------------------------------------------------

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked."""
        return await self._reader.read(self._place(table), keys, values=values, now=now, until=until)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice: a state of the store, unless it is a whole table of a cluster."""
        return await self._reader.scan(self._place(table), slice, values=values, now=now, until=until)

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice, inside the server."""
        return await self._reader.count(self._place(table), slice, now=now, until=until)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write; everything is encoded and checked for size before anything is sent."""
        if not mutations:
            return []
        if self._in_cluster and len(mutations) > 1:
            refuse_write(self.capabilities, self.scope, mutations, atomic)
        return await self._writer.write(mutations, atomic=atomic, now=now, until=until)

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove up to ``limit`` expired records behind ``after``, and what is left of those that are gone."""
        place = self._place(table)
        if place.is_plain:
            return Purged(0)
        stretch = await self._directories.walk(
            place, SWEEP, after, room=_SWEEP_PAGE, limit=limit, more=halves(now), until=until
        )
        return Purged(stretch.live, stretch.resume)

    # --- what only some stores have -----------------------------------------------------------------------------------

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> Watcher:
        """Begin to follow the changes of a slice, from now on."""
        refuse_watch(self.capabilities, table, slice, resumes=position is not None)
        place = self._place(table)
        if place.is_plain:
            raise Unsupported(
                "what other programs write is not told of: use the record layout", table=table.name, store=self.address
            )
        self._watchers = {watcher for watcher in self._watchers if watcher.is_open}
        watcher = RedisWatcher(place, slice, self._courier)
        self._watchers.add(watcher)
        await watcher.begin(until)
        return watcher

    async def check(self, *, until: float) -> list[str]:
        """Answer, in words, which settings of the servers would lose data silently."""
        states = await examine(self._topology, until, self.address)
        silent = len(self._topology.masters()) - len(states)
        found = [f"replicas: {silent} masters do not answer, and were not looked at"] if silent else []
        return found + findings_of(states, has_failover=self._has_failover)
