"""The store's own trees as a driver for the tables of ``kv.TreeModel``.

A node is a key of a Distributed Tree, and its value the JSON object of the model's fields. Nodes have no versions, so
nothing can be relied upon; steps backwards are the store's own, one request each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.keys import Address
from kvmodel.drivers.acapella.layout import MAX_KEY_BYTES, TreePlace
from kvmodel.drivers.acapella.protocol import Found
from kvmodel.drivers.acapella.scans import Scan, costs_of
from kvmodel.drivers.acapella.slices import Span, lone, span_of
from kvmodel.drivers.acapella.tree_keys import BEHIND_ALL
from kvmodel.drivers.base import (
    Absent,
    Capabilities,
    Costs,
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
from kvmodel.drivers.facets import TreeStore
from kvmodel.drivers.meter import spend
from kvmodel.drivers.refusals import refuse_slice
from kvmodel.errors import TimedOut, Unsupported

if TYPE_CHECKING:
    from kvmodel.drivers.acapella.driver import AcapellaDriver

__all__ = ["AcapellaTrees"]

T = TypeVar("T")

_BACKWARDS: Final = 64


class AcapellaTrees(TreeStore):
    """The trees of one connection."""

    def __init__(self, driver: AcapellaDriver) -> None:
        self._driver = driver
        self.capabilities: Capabilities = attrs.evolve(
            driver.capabilities, conditional=False, reverse=Reverse.NATIVE, watch=Watch.NONE, leaves_deleted=False
        )

    @property
    def address(self) -> str:
        """Where the store is."""
        return self._driver.address

    @property
    def native(self) -> object:
        """The store's own client."""
        return self._driver.native

    def adopt(self, table: Table) -> None:
        """Keep the records of this table in trees."""
        self._driver.keep_as_tree(table)

    async def open(self) -> None:
        """The connection is the driver's."""

    async def close(self) -> None:
        """The connection is the driver's."""

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        """Nothing has to be there before a node is."""

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity: the whole store."""
        return None

    def peeker(self, table: Table) -> Callable[[Key], Row | Absent]:
        """Nothing is read in place here."""
        raise Unsupported("this store is read over the network: await the read", store=self.address)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read nodes by key, one request each."""
        return await self._driver.read(table, keys, values=values, now=now, until=until)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice; backwards, node by node."""
        refuse_slice(self.capabilities, table, slice)
        place = self._place(table)
        scan = Scan(self._driver.native, place, until)
        if not slice.reverse or slice.limit == 0 or lone(slice, place.width) is not None:
            return await scan.page(slice, values=values)
        assert slice.partition is not None
        span = span_of(slice, place.keys, place.width, MAX_KEY_BYTES)
        if span is None:
            return Rows([])
        return await self._backwards(place, slice, slice.partition, span, values, until)

    async def _backwards(
        self, place: TreePlace, slice: Slice, partition: Key, span: Span, values: bool, until: float
    ) -> Rows:
        tree = place.keys.partition(partition)
        room = _BACKWARDS if slice.limit is None else min(slice.limit, _BACKWARDS)
        rows: list[Row] = []
        if span.last and not span.ends_before:  # A step leaves out where it starts.
            spend(0, 1)
            found = await self._call(place.get_call(Address(tree, span.last)), until)
            row = place.load(place.keys.key(partition, span.last), found, values)
            rows += [row] if isinstance(row, Row) else []
        at, hint = span.last or BEHIND_ALL, None
        while len(rows) < room:
            spend(0, 1)
            node = await self._call(protocol.tree_step(tree, at, place.quorum, back=True, hint=hint), until)
            if node is None or not span.lets_in(node.key):
                return Rows(rows)
            at, hint = node.key, node.hint
            row = place.load(place.keys.key(partition, at), Found(0, node.value), values)
            rows += [row] if isinstance(row, Row) else []
        return Rows(rows, None if len(rows) == slice.limit else rows[-1].key)

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the nodes of a slice. They travel with their values, page by page."""
        return await Scan(self._driver.native, self._place(table), until).count(slice)

    def costs(self, table: Table, slice: Slice) -> Costs | None:
        """Say what a slice costs where that is not one request a page."""
        if not slice.reverse:
            return costs_of(slice, self._place(table))
        limit = slice.limit
        return Costs(("step backwards, one request a node",), None if limit is None else limit + 1, limit)

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> Watcher:
        """Refuse: the store waits for rows only."""
        raise Unsupported(
            "this store's trees cannot be watched: poll, or keep the nodes as rows with native=False in the class line",
            table=table.name,
            store=self.address,
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write nodes, and whatever comes with them."""
        return await self._driver.write(mutations, atomic=atomic, now=now, until=until)

    async def purge(
        self, table: Table, *, limit: int, after: Key | None, now: int, until: float, force: bool = False
    ) -> Purged:
        """Remove nothing: no node expires."""
        return Purged(0)

    def _place(self, table: Table) -> TreePlace:
        place = self._driver.place(table)
        assert isinstance(place, TreePlace)
        return place

    async def _call(self, call: protocol.Call[T], until: float) -> T:
        left = until - time.monotonic()
        if left <= 0:
            raise TimedOut("time ran out while reading: raise the timeout, or read less", store=self.address)
        return await self._driver.native.call(call, timeout=left)
