"""The writer thread of an environment: all writes that wait become one LMDB transaction, with one disk sync.

Theory of operation. Tasks queue jobs. The thread begins a write transaction, waiting for other processes if it has to,
and only then takes what is queued: whoever gives up before that was surely not written. Each job is judged in turn
against the state that the ones before it left, so each has a verdict of its own; then all of them commit at once, and
the verdicts go back to their event loops, one call for each loop.

Rules.

* A verdict is handed over after the commit, never before: acknowledged means synced. A job that was refused is told
  so after the commit too, as what it was refused for may be a change of the same group.
* A transaction that comes to nothing for want of room is repeated, with the same jobs in the same order, after the
  map has grown. Those who gave up meanwhile are left out.
* What is changed while somebody watches is told after the commit, before the verdicts.
* A job that fails in an unforeseen way may have changed something: its transaction is given up, it fails alone, and
  the others go on without it.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import lmdb

from kvmodel.drivers.feed import ByteChange, Feed
from kvmodel.drivers.lmdb.environment import Environment, Space
from kvmodel.drivers.lmdb.faults import explain
from kvmodel.drivers.lmdb.transactions import WriteView
from kvmodel.errors import KvModelError, OutcomeUnknown, TimedOut

__all__ = ["Job", "Writer", "not_written"]

_GROUP_JOBS = 4096
_GROUP_BYTES = 64 << 20


class Stage(enum.Enum):
    """Where a job is on its way."""

    QUEUED = 1
    TAKEN = 2
    LEFT = 3


@attrs.define(eq=False)
class Job:
    """A change, whose wants it where, and how far it got.

    Attributes:
        work: What runs in the transaction; maybe again in another one, if the first came to nothing.
        space: The database it is meant for.
        size: How many bytes it is going to write.
        until: When its caller gives up.
        answer: Where the verdict goes.
    """

    work: Callable[[WriteView], Any]
    space: Space
    size: int
    until: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    stage: Stage = Stage.QUEUED


Verdict = tuple[Job, Any, BaseException | None]


class Writer:
    """The queue of an environment, and the thread that works it off.

    Args:
        environment: What to write to.
        finish: Called by the thread before it ends, when it was told to stop and nothing is left to do. If it answers
            ``False``, the thread goes on.
    """

    def __init__(self, environment: Environment, finish: Callable[[], bool]) -> None:
        self._environment = environment
        self._finish = finish
        self._condition = threading.Condition()
        self._queue: deque[Job] = deque()
        self._group: list[Job] = []
        self._changes: list[tuple[Feed, list[ByteChange]]] = []
        self._room = _GROUP_JOBS
        self._stopping = False
        self._thread: threading.Thread | None = None

    # --- from the event loops -----------------------------------------------------------------------------------------

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs."""
        with self._condition:
            self._queue.extend(jobs)
            if self._thread is None:
                # A program that forgot to close must still be able to end: what was not acknowledged may be lost.
                self._thread = threading.Thread(target=self._run, name="kvmodel-lmdb-writer", daemon=True)
                self._thread.start()
            self._condition.notify()

    def withdraw(self, job: Job) -> bool:
        """Give a job up. Answers whether it is certain that it was not and will not be written."""
        with self._condition:
            certain = job.stage is not Stage.TAKEN
            job.stage = Stage.LEFT
            return certain

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def stop(self) -> None:
        """Let the thread finish what is queued, and end."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    # --- from the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            with self._environment.turn:
                try:
                    self._serve()
                except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
                    self._lose()
                    _deliver((job, None, self._doubt(error)) for job in self._group)

    def _wait(self) -> bool:
        """Wait for a job. Answers ``False`` when the thread is to end."""
        with self._condition:
            while not self._queue:
                if self._stopping and self._finish():
                    return False
                self._stopping = False
                self._condition.wait()
        return True

    def _serve(self) -> None:
        """Carry out one group."""
        txn = self._begin()
        if txn is None:
            return
        jobs = self._group = self._take()
        if not jobs:
            txn.abort()
            return
        verdicts: list[Verdict] = []
        self._changes = []
        try:
            for job in jobs:
                verdicts.append(self._judge(job, txn))  # noqa: PERF401 - how many there are is needed when one fails
        except lmdb.MapFullError:
            txn.abort()
            self._grow(jobs)
        except Exception as error:  # noqa: BLE001 - it is handed to the job that caused it
            txn.abort()
            self._isolate(jobs, len(verdicts), error)
        else:
            self._commit(txn, jobs, verdicts)

    def _judge(self, job: Job, txn: lmdb.Transaction[bytes]) -> Verdict:
        """Carry a job out, inside a transaction. A refusal, which changes nothing, is a verdict too."""
        view = WriteView(self._environment.handle, txn, job.space.db)
        try:
            if job.space.feed.is_watched:
                self._changes.append((job.space.feed, view.record().changes))
            return job, job.work(view), None
        except KvModelError as refusal:
            return job, None, refusal

    def _begin(self) -> lmdb.Transaction[bytes] | None:
        """Begin a transaction, or fail everything that is queued."""
        try:
            try:
                return self._environment.begin_write()
            except lmdb.Error:
                if not self._environment.mend():
                    raise
                return self._environment.begin_write()
        except lmdb.Error as error:
            self._fail(self._take(), error)
            return None

    def _commit(self, txn: lmdb.Transaction[bytes], jobs: Sequence[Job], verdicts: Sequence[Verdict]) -> None:
        try:
            txn.commit()
        except lmdb.MapFullError:
            self._grow(jobs)
        except lmdb.Error as error:
            if self._environment.mend():
                # The last page of all, which makes the others count, was perhaps written.
                self._lose()
                _deliver((job, None, self._doubt(error)) for job in jobs)
            else:
                self._fail(jobs, error)
        else:
            for feed, changes in self._changes:
                feed.publish(changes)
            _deliver(verdicts)

    def _lose(self) -> None:
        """Those who watch can't be told what was committed."""
        for feed, _ in self._changes:
            feed.lose()

    def _grow(self, jobs: Sequence[Job]) -> None:
        """Make room, and put the jobs back: they are to be judged again."""
        try:
            self._environment.grow(sum(job.size for job in jobs))
        except lmdb.Error as error:
            self._fail(jobs, error)
        else:
            self._put_back(jobs)

    def _isolate(self, jobs: Sequence[Job], position: int, error: Exception) -> None:
        """Let the job at ``position`` fail alone: the ones before it go first, then it, then the others."""
        if position:
            self._room = position
            self._put_back(jobs)
        else:
            self._put_back(jobs[1:])
            self._fail(jobs[:1], error)

    def _take(self) -> list[Job]:
        """Take what is queued, as far as it is still wanted and fits one transaction."""
        jobs: list[Job] = []
        late: list[Job] = []
        size = 0
        now = time.monotonic()
        with self._condition:
            while self._queue and len(jobs) < self._room and size < _GROUP_BYTES:
                job = self._queue.popleft()
                if job.stage is Stage.LEFT:
                    continue
                if job.until < now:
                    job.stage = Stage.LEFT
                    late.append(job)
                    continue
                job.stage = Stage.TAKEN
                size += job.size
                jobs.append(job)
            self._room = _GROUP_JOBS
        _deliver((job, None, not_written(self._environment.address)) for job in late)
        return jobs

    def _put_back(self, jobs: Iterable[Job]) -> None:
        with self._condition:
            back = [job for job in jobs if job.stage is Stage.TAKEN]
            for job in back:
                job.stage = Stage.QUEUED
            self._queue.extendleft(reversed(back))

    def _fail(self, jobs: Iterable[Job], error: Exception) -> None:
        """Tell jobs of whose transaction nothing was written."""
        _deliver((job, None, self._told(error)) for job in jobs)

    def _told(self, error: Exception) -> Exception:
        if not isinstance(error, lmdb.Error):
            return error
        told = explain(error, self._environment.address)
        told.__cause__ = error
        return told

    def _doubt(self, error: Exception) -> OutcomeUnknown:
        doubt = OutcomeUnknown(
            "the write failed in the middle and may have happened: read again before going on",
            store=self._environment.address,
        )
        doubt.__cause__ = error
        return doubt


def not_written(address: str) -> TimedOut:
    """Answer the error for a write that was given up before it was taken."""
    return TimedOut(
        "the write waited too long for its turn and was not written: raise the timeout, or look for another process "
        "that keeps the file's write lock",
        store=address,
    )


def _deliver(verdicts: Iterable[Verdict]) -> None:
    """Hand verdicts to the event loops that wait for them, in one call each."""
    loops: dict[asyncio.AbstractEventLoop, list[Verdict]] = {}
    for verdict in verdicts:
        loops.setdefault(verdict[0].loop, []).append(verdict)
    for loop, group in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:
            continue  # The loop has been closed, so nobody waits.


def _settle(verdicts: Sequence[Verdict]) -> None:
    for job, result, error in verdicts:
        if job.answer.done():
            continue
        if error is None:
            job.answer.set_result(result)
        else:
            job.answer.set_exception(error)
