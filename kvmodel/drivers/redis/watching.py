"""Watching a table of a single server, over publish and subscribe.

Rules.

* A watcher subscribes first, then leaves a key that says so. From then on every write of this table is published by the
  very script that writes. The key has a short life, is renewed in time, and holds a word that only a continuous life
  leaves as it is.
* What is published while the connection is down is gone: the watcher then raises ``WatchLost``. There are no positions
  to go on from.
* Records that expire are not told of. What is changed past this driver is not either.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from msgpack import unpackb
from redis.exceptions import RedisError

from kvmodel.drivers.base import Absent, ChangeKind, Key, Row, RowChange, Slice, Watcher
from kvmodel.drivers.redis.courier import Courier, Request
from kvmodel.drivers.redis.layout import Place
from kvmodel.drivers.redis.link import Link, LinkLost, Unreachable
from kvmodel.drivers.redis.nodes import Node
from kvmodel.drivers.redis.refusals import unreachable
from kvmodel.errors import Closed, DecodingError, StoreError, TimedOut, WatchLost

__all__ = ["RedisWatcher"]

_LIFE: Final = 30_000
"""How many milliseconds the key lives that says that somebody listens."""
_RENEWAL: Final = 8.0
_KINDS: Final = {1: ChangeKind.CREATED, 2: ChangeKind.CHANGED, 3: ChangeKind.DELETED}
_RENEW: Final = b"""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""


class RedisWatcher(Watcher):
    """The changes of one slice.

    Args:
        place: The table.
        slice: What of it.
        courier: The way to the store.
    """

    def __init__(self, place: Place, slice: Slice, courier: Courier) -> None:
        self._place = place
        self._courier = courier
        self._partition, self._prefix, self._stop = _reach(place, slice)
        self._changes: deque[RowChange] = deque()
        self._arrived = asyncio.Event()
        self._link: Link | None = None
        self._word = b""
        self._tasks: list[asyncio.Task[None]] = []
        self._error: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether it still listens."""
        return self._error is None

    async def begin(self, until: float) -> None:
        """Subscribe, and have writers know. Raises ``StoreError``."""
        node = self._courier.topology.node(0)
        store = self._courier.store
        if node is None:
            raise unreachable(None, None, store)
        channel = self._place.channel
        try:
            async with asyncio.timeout(until - time.monotonic()):
                self._link = link = await node.connect()
                await link.exchange([(b"SUBSCRIBE", channel)], until)
                self._word = await self._announce(until)
        except TimeoutError as error:
            await self.close()
            raise TimedOut("the watch was not in place in time", store=store) from error
        except (Unreachable, LinkLost) as error:
            await self.close()
            raise unreachable(error.__cause__, node.address, store) from error
        except BaseException:
            await self.close()
            raise
        self._tasks = [asyncio.create_task(self._listen(link)), asyncio.create_task(self._renew(node))]

    async def _announce(self, until: float) -> bytes:
        """Leave the key that says that somebody listens, or prolong its life; answer the word in it."""
        channel = self._place.channel
        while True:
            word = secrets.token_hex(8).encode()
            requests = [
                Request(0, (b"SET", channel, word, b"NX", b"PX", _LIFE)),
                Request(0, (b"GET", channel)),
                Request(0, (b"PEXPIRE", channel, _LIFE)),
            ]
            _, found, lives = await self._courier.ask(requests, until)
            if found is not None and lives:
                return bytes(found)

    async def _renew(self, node: Node) -> None:
        """Keep the key alive, as long as it never went."""
        while True:
            await asyncio.sleep(_RENEWAL)
            until = time.monotonic() + _RENEWAL
            words = (b"EVAL", _RENEW, 1, self._place.channel, self._word, _LIFE)
            try:
                if self._courier.topology.node(0) is not node:
                    raise LinkLost("another server has taken over")
                (lives,) = await self._courier.ask([Request(0, words)], until)
            except (StoreError, LinkLost) as error:
                return self._fail(error)
            if not lives:
                return self._fail(LinkLost("the key that says that somebody listens was gone"))

    async def _listen(self, link: Link) -> None:
        try:
            while True:
                message = await link.receive()
                if message[0] == b"message":
                    self._take(message[2])
        except (LinkLost, RedisError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = WatchLost(
                "the connection was gone for a while, and what was published meanwhile is lost: read again, then watch",
                table=self._place.table.name,
                store=self._courier.store,
            )
            self._error.__cause__ = error
        self._arrived.set()

    # --- changes ------------------------------------------------------------------------------------------------------

    def _take(self, payload: bytes) -> None:
        """Note what a message tells of the slice."""
        partition, changes = unpackb(payload, raw=True)
        if self._partition is not None and partition != self._partition:
            return
        for name, kind, data in changes:
            if self._prefix <= name < self._stop:
                self._changes.append(self._change(partition, name, _KINDS[kind], data))
        if self._changes:
            self._arrived.set()

    def _change(self, partition: bytes, name: bytes, kind: ChangeKind, data: bytes) -> RowChange:
        key: Key = ()
        try:
            key = self._place.decode(partition, name)
            new: Row | Absent | None = self._place.codec.load(key, data, 0) if data else None
        except DecodingError as error:
            return RowChange(key, kind, error=error)
        return RowChange(key, kind, new if isinstance(new, Row) else None)

    async def next(self) -> Sequence[RowChange]:
        """Wait until something changed. Raises ``WatchLost`` and ``Closed``."""
        while not self._changes:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        told = list(self._changes)
        self._changes.clear()
        return told

    async def close(self) -> None:
        """Stop listening. The key that says that somebody does goes by itself."""
        if self._error is None:
            self._error = Closed("this watch is closed", store=self._courier.store)
        self._changes.clear()
        self._arrived.set()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._link is not None:
            link, self._link = self._link, None
            link.abort()


def _reach(place: Place, slice: Slice) -> tuple[bytes | None, bytes, Any]:
    """Answer the partition that is watched, if it is one, and between which names."""
    if slice.partition is None:
        return None, b"", _Behind()
    bounds = place.bounds(slice)
    low = b"" if bounds.low == b"-" else bounds.low[1:]
    return bounds.area.partition, low, _Behind() if bounds.high == b"+" else bounds.high[1:]


class _Behind:
    """Is behind everything."""

    def __gt__(self, other: object) -> bool:
        return True
