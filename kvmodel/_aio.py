"""All of asyncio that the layers above the drivers use, in one place.

Nothing else above the drivers imports asyncio, so that a synchronous twin can be made by replacing this module.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, CancelledError, Future, Lock, Task, TimerHandle, get_running_loop, sleep
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from kvmodel.errors import TimedOut

__all__ = [
    "CancelledError",
    "Future",
    "Lock",
    "Loop",
    "Ousted",
    "TaskSet",
    "TimerHandle",
    "before",
    "call_later",
    "finished",
    "get_running_loop",
    "give_way",
    "held",
    "running_loop",
    "sleep",
    "start",
]

Loop = AbstractEventLoop
T = TypeVar("T")


def running_loop() -> Loop | None:
    """Answer the event loop that runs here, if one does."""
    try:
        return get_running_loop()
    except RuntimeError:
        return None


async def give_way() -> None:
    """Let other tasks run once."""
    await sleep(0)


async def before(awaitable: Awaitable[T], seconds: float, *, store: str) -> T:
    """Await for at most ``seconds``. Raises ``TimedOut``: for waits in which nothing was sent, or a read."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            return await awaitable
    except TimeoutError as error:
        if isinstance(error, TimedOut):
            raise
        raise TimedOut("no answer in time: raise the timeout, or look at the store's load", store=store) from error


def start(coroutine: Coroutine[Any, Any, T]) -> Task[T]:
    """Run a coroutine beside this one. Whoever starts it awaits it."""
    return get_running_loop().create_task(coroutine)


async def finished(task: Task[Any]) -> None:
    """Wait until a task has ended, in whatever way; what it raised is nobody's business any more."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def held(lock: Lock, seconds: float, *, store: str) -> AsyncIterator[None]:
    """Hold a lock. Raises ``TimedOut`` where it can't be had in time."""
    await before(lock.acquire(), seconds, store=store)
    try:
        yield
    finally:
        lock.release()


class Ousted(Exception):
    """The owner of tasks has ended."""


class TaskSet:
    """Background tasks with an owner: they end when it does, none outlives it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._guests: set[asyncio.Task[Any]] = set()
        self._ousted: set[asyncio.Task[Any]] = set()
        self._left = asyncio.Event()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that handles its own errors."""
        task = start(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel what still runs, and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._guests:
            self._left.clear()
            for guest in self._guests - self._ousted:
                self._ousted.add(guest)
                guest.cancel()
            await self._left.wait()

    async def shelter(self, awaitable: Awaitable[T]) -> T:
        """Await in the caller's own task what ends with the owner too. Raises ``Ousted`` when it does."""
        task = asyncio.current_task()
        assert task is not None
        self._guests.add(task)
        try:
            return await awaitable
        except CancelledError:
            if task in self._ousted and not task.uncancel():
                raise Ousted from None
            raise
        finally:
            self._guests.discard(task)
            self._ousted.discard(task)
            self._left.set()


def call_later(seconds: float, function: Callable[[], None]) -> TimerHandle:
    """Call a function in ``seconds``."""
    return asyncio.get_running_loop().call_later(max(seconds, 0), function)
