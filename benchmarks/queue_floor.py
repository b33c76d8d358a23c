"""The floor of the queue benchmark: what somebody would write by hand on py-lmdb, and no more.

It keeps the same promises for one table: messages in the order of time-ordered ids, each in a record of its own; a
ticket each, ordered by when it is due, so that taking costs the same whatever is ahead; leases, attempts, and one
commit for each step, off the event loop. It has no checks of values, no dead letters, no delays, no waiting, no units
of work, and it shares no commits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import lmdb
import msgpack

T = TypeVar("T")

READY = bytes(8)
_pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True).pack


@attrs.define
class FloorEvent:
    """A message."""

    queue: str
    data: str
    id: bytes = b""


@attrs.define
class FloorMessage:
    """A message in somebody's hands."""

    item: FloorEvent
    ticket: bytes
    attempts: int


class FloorQueue:
    """A queue, by hand."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._env = lmdb.open(str(path), map_size=1 << 30, sync=sync, max_dbs=2)
        self._messages = self._env.open_db(b"messages")
        self._tickets = self._env.open_db(b"tickets")
        self._writer = ThreadPoolExecutor(1)
        self._count = 0

    async def close(self) -> None:
        """Let the file and the thread go."""
        self._writer.shutdown()
        self._env.close()

    async def put(self, event: FloorEvent) -> None:
        """Put a message."""
        await self._run(partial(self._put_all, [event]))

    async def put_many(self, events: Iterable[FloorEvent], size: int) -> None:
        """Put messages, a batch at a time."""
        everything = list(events)
        for start in range(0, len(everything), size):
            await self._run(partial(self._put_all, everything[start : start + size]))

    async def take(self, queue: str, lease: float) -> FloorMessage | None:
        """Take the next message that is due."""
        return await self._run(partial(self._take, queue.encode() + b"\0", lease))

    async def ack(self, message: FloorMessage) -> None:
        """Take a message out of the queue."""
        await self._run(partial(self._ack, message))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def _put_all(self, events: list[FloorEvent]) -> None:
        with self._env.begin(write=True) as txn:
            for event in events:
                prefix = event.queue.encode() + b"\0"
                event.id = self._new_id()
                txn.put(prefix + event.id, _pack({"data": event.data}), db=self._messages, overwrite=False)
                txn.put(prefix + READY + event.id, _pack(0), db=self._tickets, overwrite=False)

    def _new_id(self) -> bytes:
        self._count += 1
        return time.time_ns().to_bytes(8, "big") + self._count.to_bytes(4, "big") + os.urandom(4)

    def _take(self, prefix: bytes, lease: float) -> FloorMessage | None:
        now = time.time_ns() // 1000
        with self._env.begin(write=True) as txn:
            found = self._first(txn, prefix, READY[:-1] + b"\1", now.to_bytes(8, "big"))
            ticket, data = found or self._first(txn, prefix, READY, READY) or (b"", b"")
            if not ticket:
                return None
            id, attempts = ticket[-16:], msgpack.unpackb(data) + 1
            message = txn.get(prefix + id, db=self._messages)
            txn.delete(ticket, db=self._tickets)
            if message is None:
                return None
            leased = prefix + (now + int(lease * 1_000_000)).to_bytes(8, "big") + id
            txn.put(leased, _pack(attempts), db=self._tickets)
        event = FloorEvent(prefix[:-1].decode(), msgpack.unpackb(message)["data"], id)
        return FloorMessage(event, leased, attempts)

    def _first(
        self, txn: lmdb.Transaction[bytes], prefix: bytes, start: bytes, last: bytes
    ) -> tuple[bytes, bytes] | None:
        """The first ticket that is due between two moments."""
        with txn.cursor(db=self._tickets) as cursor:
            if not cursor.set_range(prefix + start):
                return None
            key, data = cursor.item()
        return (key, data) if key.startswith(prefix) and key[len(prefix) : -16] <= last else None

    def _ack(self, message: FloorMessage) -> None:
        with self._env.begin(write=True) as txn:
            if not txn.delete(message.ticket, db=self._tickets):
                raise LookupError("the lease was lost")
            txn.delete(message.item.queue.encode() + b"\0" + message.item.id, db=self._messages)
