"""A store in this process's memory: for tests, examples and data that need not survive.

``memory://`` is a private store; ``memory://name`` shares one for as long as any connection to it is open.

A driver can also be told to play a poorer or a remote store: it then claims less, and refuses with ``Unsupported`` or
``TooLarge`` what it does not claim, before anything changes, as that store's own driver would.
"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import SplitResult, unquote
from weakref import WeakSet

import attrs

from kvmodel.drivers.base import (
    Absent,
    Atomicity,
    Capabilities,
    Durability,
    Expiry,
    FacetT,
    Key,
    Mutation,
    Outcome,
    Reverse,
    Row,
    Rows,
    Slice,
    Table,
    Watch,
)
from kvmodel.drivers.bytestore import PAGE, ByteStore, Change
from kvmodel.drivers.bytewrites import ReadTransaction
from kvmodel.drivers.feed import Feed, LocalWatcher, Recorder
from kvmodel.drivers.meter import spend
from kvmodel.drivers.options import parse_bool, parse_enum, parse_int, parse_size
from kvmodel.drivers.refusals import refuse_slice, refuse_watch, refuse_write
from kvmodel.errors import Closed, OutcomeUnknown, TimedOut, ValidationError

__all__ = ["MemoryDriver", "Plan", "Traits"]

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")

_BLOCK = 512
_WRITES = frozenset({"write", "batch"})


class SortedKeys:
    """Keys in order, in blocks short enough that an insertion moves little."""

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = []
        self._firsts: list[bytes] = []

    def add(self, key: bytes) -> None:
        """Add a key that is not there."""
        if not self._blocks:
            self._blocks.append([key])
            self._firsts.append(key)
            return
        number = max(bisect_right(self._firsts, key) - 1, 0)
        block = self._blocks[number]
        insort(block, key)
        self._firsts[number] = block[0]
        if len(block) > 2 * _BLOCK:
            self._blocks.insert(number + 1, block[_BLOCK:])
            self._firsts.insert(number + 1, block[_BLOCK])
            del block[_BLOCK:]

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        number = bisect_right(self._firsts, key) - 1
        block = self._blocks[number]
        del block[bisect_left(block, key)]
        if block:
            self._firsts[number] = block[0]
        else:
            del self._blocks[number], self._firsts[number]

    def ascend(self, start: bytes) -> Iterator[bytes]:
        """Yield the keys from ``start`` on."""
        number = max(bisect_right(self._firsts, start) - 1, 0)
        for position, block in enumerate(self._blocks[number:]):
            yield from block[bisect_left(block, start) :] if position == 0 else block

    def descend(self, stop: bytes) -> Iterator[bytes]:
        """Yield the keys below ``stop``, the last one first."""
        number = bisect_left(self._firsts, stop)
        for position, block in enumerate(reversed(self._blocks[:number])):
            yield from reversed(block[: bisect_left(block, stop)] if position == 0 else block)


class MemoryStore:
    """What one store holds, and the transaction on it: it is changed in place, with all expectations verified before.

    Attributes:
        lock: Held for every transaction, as event loops of several threads may share a store.
        connections: How many drivers have it open.
        feed: Tells of changes, in their order: it is used while the lock is held.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections = 0
        self.feed = Feed()
        self._data: dict[bytes, bytes] = {}
        self._keys = SortedKeys()
        self.get = self._data.get

    def __len__(self) -> int:
        return len(self._data)

    def is_empty(self) -> bool:
        return not self._data

    def iterate(self, start: bytes, stop: bytes, reverse: bool, /) -> Iterator[tuple[bytes, bytes]]:
        data = self._data
        return ((key, data[key]) for key in (self._keys.descend(stop) if reverse else self._keys.ascend(start)))

    def put(self, key: bytes, value: bytes, /) -> None:
        if key not in self._data:
            self._keys.add(key)
        self._data[key] = value

    def insert(self, key: bytes, value: bytes, /) -> bool:
        if key in self._data:
            return False
        self.put(key, value)
        return True

    def delete(self, key: bytes, /) -> None:
        if self._data.pop(key, None) is not None:
            self._keys.remove(key)


class Plan(Protocol):
    """Stands between a memory driver and its store, to play what goes wrong on the way."""

    async def carry(self, call: str, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]]) -> R:
        """Carry out one request.

        It may wait, raise, await ``apply(payload)`` and raise afterwards (the reply was lost), apply a part of the
        payload, or keep ``apply`` for later (the request was late).

        Args:
            call: ``read``, ``scan``, ``count``, ``write`` (atomic) or ``batch`` (not atomic).
            payload: The keys of a read, the mutations of a write, else nothing.
            apply: Does it, in one step.
        """
        ...


class Traits(TypedDict, total=False):
    """What a memory driver can be told to claim: any field of :class:`~kvmodel.drivers.base.Capabilities`."""

    store: str
    atomicity: Atomicity
    conditional: bool
    range_checks: bool
    ordered: bool
    reverse: Reverse
    scan_table: bool
    expiry: Expiry
    watch: Watch
    durability: Durability
    failover_may_lose: bool
    reads_in_place: bool
    max_key_bytes: int | None
    max_value_bytes: int | None
    max_read_batch: int
    max_batch: int | None
    max_atomic_changes: int | None
    max_atomic_checks: int | None
    max_request_bytes: int | None


def _refuse_text(text: str) -> object:
    raise ValueError("a plan is given by keyword: connect(url, plan=...)")


_TRAITS: dict[str, tuple[Callable[[str], object], type]] = {
    "atomicity": (parse_enum(Atomicity), Atomicity),
    "conditional": (parse_bool, bool),
    "range_checks": (parse_bool, bool),
    "ordered": (parse_bool, bool),
    "reverse": (parse_enum(Reverse), Reverse),
    "scan_table": (parse_bool, bool),
    "expiry": (parse_enum(Expiry), Expiry),
    "watch": (parse_enum(Watch), Watch),
    "reads_in_place": (parse_bool, bool),
    "max_key_bytes": (parse_size, int),
    "max_value_bytes": (parse_size, int),
    "max_read_batch": (parse_int, int),
    "max_batch": (parse_int, int),
    "max_atomic_changes": (parse_int, int),
    "max_atomic_checks": (parse_int, int),
    "max_request_bytes": (parse_size, int),
}

_shared: dict[str, MemoryStore] = {}
_shared_lock = threading.Lock()


class MemoryDriver(ByteStore):
    """A driver over a store in memory.

    Args:
        name: Shares the store with the other connections of this process that name it; ``None`` for one of its own.
        plan: Stands between this driver and the store. Reads are then no longer in place.
        traits: What to claim instead of the best case, field by field.
    """

    schemes: ClassVar[tuple[str, ...]] = ("memory",)
    options: ClassVar[dict[str, Callable[[str], object]]] = {
        **{name: parse for name, (parse, _) in _TRAITS.items()},
        "plan": _refuse_text,
    }
    capabilities = Capabilities(
        store="memory",
        atomicity=Atomicity.STORE,
        conditional=True,
        range_checks=True,
        reverse=Reverse.NATIVE,
        scan_table=True,
        watch=Watch.TABLE,
        watch_local=True,
        durability=Durability.MEMORY,
        reads_in_place=True,
        max_read_batch=PAGE,
    )

    def __init__(self, name: str | None = None, *, plan: Plan | None = None, **traits: Unpack[Traits]) -> None:
        super().__init__(f"memory://{name or ''}")
        if plan is not None:
            traits.setdefault("reads_in_place", False)
        self.capabilities = attrs.evolve(type(self).capabilities, **traits)
        self._name = name
        self._plan = plan
        self._store: MemoryStore | None = None
        self._watchers: WeakSet[LocalWatcher] = WeakSet()

    @classmethod
    def from_url(cls, url: SplitResult, options: Mapping[str, Any]) -> MemoryDriver:
        """Make a driver for ``memory://`` or ``memory://name``."""
        for name, value in options.items():
            kind = _TRAITS[name][1] if name in _TRAITS else object
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
                raise ValidationError(f"the option {name} takes a value of type {kind.__name__}", field=name)
        return cls(unquote(url.netloc + url.path).strip("/") or None, **options)

    @property
    def native(self) -> MemoryStore:
        """The store itself: bytes by bytes."""
        return self._opened()

    async def open(self) -> None:
        """Find or make the store."""
        if self._store is not None:
            return
        with _shared_lock:
            self._store = _shared.setdefault(self._name, MemoryStore()) if self._name else MemoryStore()
            self._store.connections += 1

    async def close(self) -> None:
        """Let the store go; its contents are gone with its last connection."""
        store, self._store = self._store, None
        if store is None:
            return
        for watcher in list(self._watchers):
            await watcher.close()
        with _shared_lock:
            store.connections -= 1
            if self._name and not store.connections:
                _shared.pop(self._name, None)

    def scope(self, table: Table, key: Key) -> Hashable:
        """Answer the unit of atomicity that a record belongs to, as far as this driver claims."""
        if self.capabilities.atomicity is Atomicity.STORE:
            return None
        partition = key[: len(table.partition)]
        if self.capabilities.atomicity is Atomicity.PARTITION:
            return table.namespace, partition
        return table.namespace, table.name, key

    def look(self, work: Callable[[ReadTransaction], T]) -> T:
        """Run ``work`` on the store as it is now."""
        store = self._opened()
        with store.lock:
            return work(store)

    async def change(self, change: Change[T], *, size: int, until: float) -> T:
        """Run a change on the store."""
        store = self._opened()
        with store.lock:
            if not store.feed.is_watched:
                return change.apply(store)
            recorder = Recorder(store)
            try:
                return change.apply(recorder)
            finally:
                store.feed.publish(recorder.changes)

    async def watch(
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> LocalWatcher:
        """Follow what the connections of this process change."""
        refuse_watch(self.capabilities, table, slice, resumes=position is not None)
        store, codec = self._opened(), self.codec(table)
        watcher = LocalWatcher(store.feed, codec, *codec.bounds(slice), clock, self._address)
        spend(1)
        with store.lock:
            store.feed.join(watcher)
        self._watchers.add(watcher)
        return watcher

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        """Answer skip scans, unless this plays a store on the other side of a network."""
        return super().facet(kind) if self.capabilities.reads_in_place else None

    # --- requests, on the way to the store ----------------------------------------------------------------------------

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        """Read records by key, in the order asked."""
        read = super().read

        async def apply(keys: Sequence[Key]) -> list[Row | Absent]:
            return await read(table, keys, values=values, now=now, until=until)

        return await self._carry("read", keys, apply, until)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        """Read one page of a slice."""
        refuse_slice(self.capabilities, table, slice)
        scan = super().scan

        async def apply(_: Sequence[object]) -> Rows:
            return await scan(table, slice, values=values, now=now, until=until)

        return await self._carry("scan", (), apply, until)

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        """Count the live rows of a slice."""
        refuse_slice(self.capabilities, table, slice)
        count = super().count

        async def apply(_: Sequence[object]) -> int:
            return await count(table, slice, now=now, until=until)

        return await self._carry("count", (), apply, until)

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Write."""
        refuse_write(self.capabilities, self.scope, mutations, atomic)
        write = super().write

        async def apply(mutations: Sequence[Mutation]) -> list[Outcome]:
            return await write(mutations, atomic=atomic, now=now, until=until)

        return await self._carry("write" if atomic else "batch", mutations, apply, until)

    async def _carry(
        self, call: str, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]], until: float
    ) -> R:
        """Send one request: at once, after a turn of the event loop, or as the plan will have it."""
        if self._plan is not None:
            return await self._by_plan(self._plan, call, payload, apply, until)
        if call in _WRITES or not self.capabilities.reads_in_place:
            await asyncio.sleep(0)
            if time.monotonic() > until:
                raise TimedOut("time ran out before anything was sent: raise the timeout", store=self._address)
        return await apply(payload)

    async def _by_plan(
        self,
        plan: Plan,
        call: str,
        payload: Sequence[P],
        apply: Callable[[Sequence[P]], Awaitable[R]],
        until: float,
    ) -> R:
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                return await plan.carry(call, payload, apply)
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, TimedOut):
                raise
            if call in _WRITES:
                raise OutcomeUnknown(
                    "no answer came and the write may have happened: read again before going on", store=self._address
                ) from error
            if isinstance(error, asyncio.CancelledError):
                raise
            raise TimedOut("no answer in time: raise the timeout", store=self._address) from error

    def _opened(self) -> MemoryStore:
        if self._store is None:
            raise Closed("this connection is closed: connect again", store=self._address)
        return self._store
