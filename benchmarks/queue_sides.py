"""The sides of the queue benchmark: each puts messages, and has consumers take and acknowledge them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import kvmodel as kv
from benchmarks.queue_floor import FloorEvent, FloorQueue

__all__ = ["Mapper", "Side", "floor", "kvmodel", "litequeue"]

QUEUE = "q"
BATCH = 500
TEXT = "a message that says a little: {}"


class Event(kv.QueueModel, table="events"):
    """A message."""

    queue: str = kv.partition_key()
    data: str


class Side(Protocol):
    """One way to have a queue."""

    async def put(self, count: int) -> None:
        """Put messages one by one."""
        ...

    async def put_many(self, count: int) -> None:
        """Put messages together."""
        ...

    async def work(self, count: int, consumers: int) -> None:
        """Have consumers take and acknowledge so many messages, one by one."""
        ...

    async def tidy(self) -> None:
        """Do what has to be done now and then, and is not measured."""
        ...


class Mapper:
    """kvmodel."""

    async def put(self, count: int) -> None:
        for number in range(count):
            await Event.objects.put(Event(QUEUE, TEXT.format(number)))

    async def put_many(self, count: int) -> None:
        await Event.objects.put_many(Event(QUEUE, TEXT.format(number)) for number in range(count))

    async def work(self, count: int, consumers: int) -> None:
        async def consume() -> None:
            consumer = Event.objects.consume(QUEUE, lease=30, wait=False)
            for _ in range(count // consumers):
                message = await anext(consumer)
                await message.ack()

        await _together(consume, consumers)

    async def tidy(self) -> None:
        assert await Event.objects.length(QUEUE) == 0


class ByHand:
    """The floor."""

    def __init__(self, queue: FloorQueue) -> None:
        self._queue = queue

    async def put(self, count: int) -> None:
        for number in range(count):
            await self._queue.put(FloorEvent(QUEUE, TEXT.format(number)))

    async def put_many(self, count: int) -> None:
        await self._queue.put_many((FloorEvent(QUEUE, TEXT.format(number)) for number in range(count)), BATCH)

    async def work(self, count: int, consumers: int) -> None:
        async def consume() -> None:
            for _ in range(count // consumers):
                message = await self._queue.take(QUEUE, 30)
                assert message is not None
                await self._queue.ack(message)

        await _together(consume, consumers)

    async def tidy(self) -> None:
        assert await self._queue.take(QUEUE, 30) is None


class Lite:
    """litequeue, as its documentation uses it: called directly; several consumers are threads, a connection each."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._queue = self._open()

    def _open(self) -> Any:
        from litequeue import LiteQueue  # type: ignore[import-not-found]  # it is no dependency of kvmodel

        queue = LiteQueue(str(self._path), timeout=60)
        if self._sync:
            queue.conn.execute("PRAGMA synchronous = FULL")
        return queue

    async def put(self, count: int) -> None:
        for number in range(count):
            self._queue.put(TEXT.format(number))

    async def put_many(self, count: int) -> None:
        for start in range(0, count, BATCH):
            with self._queue.transaction():
                for number in range(start, min(start + BATCH, count)):
                    self._queue.put(TEXT.format(number))

    async def work(self, count: int, consumers: int) -> None:
        if consumers == 1:
            self._consume(self._queue, count)
            return
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(consumers) as threads:
            calls = (
                loop.run_in_executor(threads, lambda: self._consume(self._open(), count // consumers))
                for _ in range(consumers)
            )
            await asyncio.gather(*calls)

    def _consume(self, queue: Any, count: int) -> None:
        for _ in range(count):
            message = queue.pop()
            assert message is not None
            queue.done(message.message_id)

    async def tidy(self) -> None:
        self._queue.prune()
        assert self._queue.qsize() == 0

    def close(self) -> None:
        """Let the file go."""
        self._queue.conn.close()


async def _together(consume: Callable[[], Awaitable[None]], consumers: int) -> None:
    await asyncio.gather(*(consume() for _ in range(consumers)))


@asynccontextmanager
async def kvmodel(folder: Path, *, sync: bool) -> AsyncIterator[Side]:
    """Open kvmodel's side."""
    async with kv.connect(f"lmdb://{folder}/kvmodel?sync={str(sync).lower()}") as db:
        await db.prepare(Event)
        yield Mapper()


@asynccontextmanager
async def floor(folder: Path, *, sync: bool) -> AsyncIterator[Side]:
    """Open the side of what is written by hand."""
    queue = FloorQueue(folder / "floor", sync=sync)
    yield ByHand(queue)
    await queue.close()


@asynccontextmanager
async def litequeue(folder: Path, *, sync: bool) -> AsyncIterator[Side]:
    """Open litequeue's side."""
    side = Lite(folder / "lite.db", sync=sync)
    yield side
    side.close()
