"""A few workers, and who is asked what.

Theory of operation. A pool has lanes. A lane has one worker, which is started when it is first needed and again when it
has died, and a queue in front of it. A name always goes to the same lane, so that the calls of one key are carried out
in the order in which they were made. What concerns no key goes to the lane with the shortest queue.

Rules.

* Everything ends at its time: waiting in the queue, starting a worker, connecting, and the call itself.
* What failed before the call was sent says so, and was not done.
"""

from __future__ import annotations

import asyncio
import time
from binascii import crc32
from collections import deque
from typing import Final

from kvmodel.drivers.meter import spend
from kvmodel.drivers.quasardb.errors import FAULTS, Effect, LibraryError, error_of, outcome_unknown
from kvmodel.drivers.quasardb.process import Late, Lost, Strange, Worker
from kvmodel.drivers.quasardb.protocol import OPERATIONS, Argument, Reply
from kvmodel.drivers.quasardb.worker import Settings
from kvmodel.errors import Closed, Conflict, KvModelError, ProtocolError, TimedOut, Unavailable

__all__ = ["Pool"]

_TRIES: Final = 3
_FIRST_PAUSE: Final = 0.005
_LAST_PAUSE: Final = 0.5
_LONG: Final = 24 * 3600.0


class Lane:
    """One worker, and who waits for it."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.starting: asyncio.Task[Worker] | None = None
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def load(self) -> int:
        """How many calls are under way or wait."""
        return self._is_taken + len(self._waiting)

    async def take(self, until: float) -> None:
        """Wait for one's turn. Raises ``TimeoutError``."""
        if not self._is_taken:
            self._is_taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(until):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.free()  # It came in the same moment.
            turn.cancel()
            raise

    def free(self) -> None:
        """Let the next one have the worker."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False


class Pool:
    """Workers for one cluster.

    Args:
        settings: What each worker connects with.
        workers: How many there may be.
        connect_timeout: How many seconds a worker may take to start and connect.
        store: What the store is called in messages.
    """

    def __init__(self, settings: Settings, *, workers: int, connect_timeout: float, store: str) -> None:
        self._settings = settings
        self._connect_timeout = connect_timeout
        self._store = store
        self._lanes = [Lane() for _ in range(workers)]
        self._reaping: set[asyncio.Task[None]] = set()
        self._is_closed = False

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self, until: float) -> None:
        """Start a worker and connect. Raises what the cluster has against it."""
        lane = self._lanes[0]
        await self._take(lane, until)
        try:
            await self._ready(lane, until)
        finally:
            lane.free()

    async def close(self) -> None:
        """End all workers: calls that are under way are waited for, until their time is over."""
        self._is_closed = True
        await asyncio.gather(*(self._retire(lane) for lane in self._lanes))
        while self._reaping:
            await asyncio.wait(self._reaping)

    async def _retire(self, lane: Lane) -> None:
        await lane.take(asyncio.get_running_loop().time() + _LONG)
        if lane.starting is not None:
            await asyncio.wait([lane.starting])
        if lane.worker is not None and lane.worker.is_alive:
            lane.worker.dismiss()
        lane.free()

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        return [lane.worker.pid for lane in self._lanes if lane.worker is not None and lane.worker.is_alive]

    # --- workers ------------------------------------------------------------------------------------------------------

    async def _take(self, lane: Lane, until: float) -> None:
        self._check_open()
        try:
            await lane.take(until)
        except TimeoutError as error:
            raise self._not_sent() from error
        if self._is_closed:
            lane.free()
            self._check_open()

    async def _ready(self, lane: Lane, until: float) -> Worker:
        """Answer a lane's worker, started and connected."""
        if lane.worker is not None and lane.worker.is_alive:
            return lane.worker
        if lane.starting is None:
            lane.starting = asyncio.create_task(self._start(lane))
            lane.starting.add_done_callback(_look_at)
        try:
            async with asyncio.timeout_at(until):
                return await asyncio.shield(lane.starting)
        except TimeoutError as error:
            if isinstance(error, KvModelError):
                raise
            raise self._not_sent() from error

    async def _start(self, lane: Lane) -> Worker:
        until = asyncio.get_running_loop().time() + self._connect_timeout
        try:
            worker = await Worker.start(self._settings.library, self._settings.max_bytes, self._reap)
            await self._connect(worker, until)
            lane.worker = worker
            return worker
        except OSError as error:
            if isinstance(error, KvModelError):
                raise
            raise Unavailable("a worker process can't be started", store=self._store) from error
        finally:
            lane.starting = None

    def _reap(self, worker: Worker) -> None:
        task = asyncio.create_task(worker.wait())
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _connect(self, worker: Worker, until: float) -> None:
        connected = False
        try:
            reply = await worker.ask("connect", tuple(self._settings), until, _nothing)
            if reply.failure is not None:
                raise error_of(_cause(reply), writes=False, store=self._store)
            connected = True
        except Late as error:
            raise Unavailable(
                "the cluster did not answer in time: is it running? Or raise connect_timeout", store=self._store
            ) from error
        except (Lost, Strange) as error:
            raise Unavailable(
                "a worker process ended before it was connected: can Python be started and the library be imported?",
                store=self._store,
            ) from error
        finally:
            if not connected:
                worker.kill(Lost())

    # --- calls --------------------------------------------------------------------------------------------------------

    def lane_of(self, name: str | None) -> int:
        """Answer the number of the lane that a name's calls go to; for no name, that of the least busy one."""
        if name is not None:
            return crc32(name.encode()) % len(self._lanes)
        return min(range(len(self._lanes)), key=lambda number: self._lanes[number].load)

    async def call(
        self, operation: str, *arguments: Argument, key: str | None, until: float, calls: int = 1, keys: int = 1
    ) -> Argument:
        """Have a worker do something, by ``until`` on the monotonic clock. Raises errors of kvmodel's.

        A read that failed for a reason that may be gone is sent again, and so is a write that was refused because
        another one was under way. No other write is.

        Args:
            key: The name that it concerns, if it is one.
            calls, keys: What it costs.
        """
        writes = OPERATIONS[operation].writes
        deadline = asyncio.get_running_loop().time() + until - time.monotonic()
        lane = self._lanes[self.lane_of(key)]
        lost = 0
        pause = _FIRST_PAUSE
        while True:
            spend(calls, keys)
            answer = await self._send(lane, operation, arguments, deadline)
            try:
                reply = await answer
            except (Lost, Late, Strange, asyncio.CancelledError) as trouble:
                if writes:
                    raise outcome_unknown(self._store, key) from trouble
                lost += 1
                if not isinstance(trouble, Lost) or lost == _TRIES:
                    raise self._trouble(trouble) from trouble
                continue
            if reply.failure is None:
                return reply.result
            cause = _cause(reply)
            if _may_repeat(cause, writes) and asyncio.get_running_loop().time() + pause < deadline:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE)
                continue
            lost += 1
            error = error_of(cause, writes=writes, store=self._store, key=key)
            if writes or lost == _TRIES or not cause.sent or not isinstance(error, Unavailable):
                raise error

    async def _send(
        self, lane: Lane, operation: str, arguments: tuple[Argument, ...], deadline: float
    ) -> asyncio.Future[Reply]:
        await self._take(lane, deadline)
        try:
            worker = await self._ready(lane, deadline)
            if asyncio.get_running_loop().time() >= deadline:
                raise self._not_sent()
            return worker.ask(operation, arguments, deadline, lane.free)
        except BaseException:
            lane.free()
            raise

    def _trouble(self, trouble: BaseException) -> BaseException:
        if isinstance(trouble, Late):
            return TimedOut("no answer in time, and the worker was ended: raise the timeout", store=self._store)
        if isinstance(trouble, Strange):
            return ProtocolError("a worker sent what is no reply, and was ended", store=self._store)
        if isinstance(trouble, Lost):
            return Unavailable("the worker process ended again and again in mid-call", store=self._store)
        return trouble

    def _not_sent(self) -> TimedOut:
        return TimedOut("time ran out before anything was sent: raise the timeout, or workers", store=self._store)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this client is closed: make another one", store=self._store)


def _cause(reply: Reply) -> LibraryError:
    failure = reply.failure
    assert failure is not None
    fault = FAULTS.get(failure.fault, FAULTS["strange"])
    return LibraryError(fault, failure.kind, failure.function, failure.words, sent=failure.sent)


def _may_repeat(cause: LibraryError, writes: bool) -> bool:
    """Whether a call was refused for now, and certainly changed nothing."""
    is_refused = cause.fault.effect is Effect.AGAIN and cause.sent
    return is_refused and (not writes or cause.fault.error is Conflict)


def _nothing() -> None:
    """A worker that has just connected is its lane's, which is taken."""


def _look_at(task: asyncio.Task[Worker]) -> None:
    """Nobody may wait for a worker any more that then fails to start."""
    if not task.cancelled():
        task.exception()
