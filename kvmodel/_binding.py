"""A model on one connection: its schema, its table there, and how it is read and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from kvmodel import _aio
from kvmodel.drivers.base import Absent, Driver, Key, Reverse, Row, Slice
from kvmodel.drivers.formats.codec import ByteCodec, compile_codec
from kvmodel.drivers.refusals import refuse_slice
from kvmodel.errors import TimedOut, Unsupported

if TYPE_CHECKING:
    from kvmodel.database import Connection
    from kvmodel.model import Model
    from kvmodel.schema import Schema

__all__ = ["Bound"]

M = TypeVar("M", bound="Model")


class Bound(Generic[M]):
    """A model's schema, bound to a connection and a namespace."""

    __slots__ = (
        "_compared",
        "_order",
        "connection",
        "driver",
        "in_place",
        "load",
        "loop",
        "make_key",
        "now",
        "peek",
        "ready",
        "schema",
        "table",
    )

    def __init__(self, schema: Schema, connection: Connection, namespace: tuple[str, ...]) -> None:
        self.schema = schema
        self.connection = connection
        self.table = schema.make_table(namespace)
        self.driver: Driver = connection.driver
        keeper = None if schema.facet is None else connection.driver.facet(schema.facet)
        if keeper is not None:
            keeper.adopt(self.table)
            self.driver = keeper
        self.loop = connection.loop
        self.now = connection.now
        self.make_key = schema.make_key
        self.load: Callable[[Row], M] = schema.load
        self.in_place = self.driver.capabilities.reads_in_place
        self.peek: Callable[[Key], Row | Absent] | None = None
        self.ready = False
        self._compared = False
        self._order: ByteCodec | None = None

    # --- time ---

    def until(self) -> float:
        """When an operation that starts now has to be over, on the monotonic clock."""
        return self.connection.until()

    def default_deadline(self) -> int | None:
        """The deadline of a new record that is given none."""
        default = self.schema.expires_in
        return None if default is None else self.now() + default // timedelta(microseconds=1)

    # --- getting ready ---

    async def prepared(self, until: float | None = None) -> float:
        """Make the table ready in the store, once. Raises ``Closed`` where the connection can't be used here.

        Answers when the operation has to be over: by ``until``, where this is a part of a longer one.
        """
        self.connection.check_usable()
        until = self.until() if until is None else until
        if not self.ready:
            if self.connection.prepares:
                await self.prepare(until)
            else:
                self._made_ready()
        return until

    async def prepare(self, until: float) -> None:
        """Make the table ready, whatever the connection's ``prepare`` option says."""
        async with _aio.held(self.connection.preparing, until - time.monotonic(), store=self.driver.address):
            if not self._compared:
                await self.driver.prepare(self.table, now=self.now(), until=until)
                self._compared = True
                self._made_ready()

    def _made_ready(self) -> None:
        self.ready = True
        if self.in_place:
            self.peek = self.driver.peeker(self.table)

    # --- reading ---

    async def read(self, key: Key, *, values: bool = True, until: float | None = None) -> Row | Absent:
        """Read one record; concurrent calls travel together where the store takes several keys at once."""
        until = await self.prepared(until)
        if self.driver.capabilities.max_read_batch > 1 and not self.in_place and values:
            return await self.connection.batcher.read(self, key, until)
        rows = await self.driver.read(self.table, [key], values=values, now=self.now(), until=until)
        return rows[0]

    async def read_many(self, keys: Sequence[Key]) -> list[Row | Absent]:
        """Read records by key, in the order asked, in as few requests as the store allows."""
        until = await self.prepared()
        return await self.driver.read(self.table, keys, now=self.now(), until=until) if keys else []

    async def breathe(self, until: float) -> None:
        """Let other tasks run between two pages of one operation, and keep its time limit."""
        await _aio.give_way()
        if time.monotonic() > until:
            raise TimedOut(
                "time ran out while reading: raise the timeout, or read less at once",
                table=self.table.name,
                store=self.driver.address,
            )

    # --- order ---

    @property
    def order(self) -> ByteCodec:
        """The order of this table's keys as bytes, whatever the store itself keeps."""
        if self._order is None:
            plain = self.table
            self._order = compile_codec(
                type(plain)(name=plain.name, partition=plain.partition, clustering=plain.clustering, values=()),
                store="",
            )
        return self._order

    def within(self, slice: Slice, key: Key) -> bool:
        """Whether a slice reaches a key."""
        start, stop = self.order.bounds(slice)
        return start <= self.order.encode_key(key) < stop

    # --- what the store can do ---

    def require_range(self, slice: Slice, *, allow_costly: bool = False) -> None:
        """Raise ``Unsupported`` unless the store can answer a slice, in its order and direction."""
        capabilities = self.driver.capabilities
        refuse_slice(capabilities, self.table, slice)
        if slice.reverse and capabilities.reverse is Reverse.COSTLY and not allow_costly:
            raise Unsupported(
                "this store reads the whole slice to answer it backwards: declare clustering_key(descending=True), "
                "or say allow_costly=True",
                table=self.table.name,
                store=self.driver.address,
            )

    def require_conditional(self) -> None:
        """Raise ``Unsupported`` unless the store can replace just what was read."""
        if not self.driver.capabilities.conditional:
            raise Unsupported(
                "this store has no conditional writes, so that what others wrote meanwhile could be lost: read, change "
                "and save(obj, force=True) if nobody else writes this record",
                table=self.table.name,
                store=self.driver.address,
            )
