"""The writer thread of LMDB: groups and their verdicts, growth, failures, and callers who do not wait."""

from __future__ import annotations

import asyncio
import errno
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest

from kvmodel.drivers.base import ABSENT, Check, CheckRange, Delete, Outcome, Row, Status
from kvmodel.drivers.bytewrites import Transaction
from kvmodel.drivers.lmdb import LmdbDriver, driver, registry
from kvmodel.drivers.lmdb.environment import Environment
from kvmodel.errors import AlreadyExists, Closed, Conflict, KvModelError, OutcomeUnknown, StoreError, TimedOut
from tests.drivers.processes import neighbour, run
from tests.drivers.rows import NOW, RED, USERS, age, condition, find, names, put, until, version, write

Writing = asyncio.Task[list[Outcome]]


def environment_of(driver: LmdbDriver) -> Environment:
    return driver._opened().environment


def commits(driver: LmdbDriver) -> int:
    """How many transactions were written to the disk so far."""
    return driver.native.info()["last_txnid"]


@contextmanager
def write_lock(driver: LmdbDriver) -> Iterator[None]:
    """Keep the file's write lock, as another process could."""
    txn = driver.native.begin(write=True)
    try:
        yield
    finally:
        txn.abort()


async def queue(driver: LmdbDriver, *writes: Any, seconds: float = 20.0) -> list[Writing]:
    """Start writes, each a task of its own, up to where they wait for their turn."""
    tasks = [asyncio.create_task(write(driver, *each, seconds=seconds)) for each in writes]
    await asyncio.sleep(0)
    return tasks


async def verdicts(tasks: list[Writing]) -> list[list[Outcome] | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


class Held:
    """A change that puts one pair, and stays inside its transaction until it is let go."""

    def __init__(self) -> None:
        self.taken = threading.Event()
        self.let_go = threading.Event()
        self.runs = 0

    def apply(self, txn: Transaction) -> None:
        self.runs += 1
        txn.put(b"\x7fheld", b"1")
        self.taken.set()
        assert self.let_go.wait(20)


def spin(seconds: float) -> None:
    """Keep the event loop busy."""
    end = until(seconds)
    while until(0) < end:
        pass


def has(driver: LmdbDriver, key: bytes) -> bool:
    return driver.look(lambda view: view.get(key)) is not None


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_what_waits_is_committed_together(lmdb_driver: LmdbDriver) -> None:
    """All writes that wait when the lock is free become one transaction, with one sync."""
    await write(lmdb_driver, put("first"))
    before = commits(lmdb_driver)
    with write_lock(lmdb_driver):
        tasks = await queue(lmdb_driver, *([put(f"{i:02}", i)] for i in range(50)))

    outcomes = await verdicts(tasks)

    assert all(isinstance(each, list) and each[0].status is Status.WRITTEN for each in outcomes)
    assert commits(lmdb_driver) - before == 1
    assert len(await names(lmdb_driver)) == 51


async def test_one_turn_of_the_event_loop_is_one_commit(lmdb_driver: LmdbDriver) -> None:
    """The writer thread does not begin before all tasks of a turn had their say, however long that takes."""
    await write(lmdb_driver, put("first"))
    before = commits(lmdb_driver)

    async def slowly(name: str) -> None:
        spin(0.015)
        await write(lmdb_driver, put(name))

    await asyncio.gather(*(slowly(f"{i}") for i in range(8)))

    assert commits(lmdb_driver) - before == 1


async def test_concurrent_updates_share_syncs(lmdb_driver: LmdbDriver) -> None:
    """With 100 tasks that update at once there is at most one sync for 25 updates."""
    await write(lmdb_driver, *(put(f"{i:03}") for i in range(100)))
    before = commits(lmdb_driver)

    async def update(name: str) -> None:
        for turn in range(1, 11):
            row = await find(lmdb_driver, name)
            assert isinstance(row, Row)
            await write(lmdb_driver, put(name, turn, row.version))

    await asyncio.gather(*(update(f"{i:03}") for i in range(100)))

    assert commits(lmdb_driver) - before <= 1_000 // 25
    rows = await lmdb_driver.scan(USERS, RED._replace(limit=100), now=NOW, until=until())
    assert [row.values["age"] for row in rows.rows] == [10] * 100


async def test_each_write_of_a_group_has_its_own_verdict(lmdb_driver: LmdbDriver) -> None:
    """Expectations are compared with the state that the earlier writes of the same group left."""
    await write(lmdb_driver, put("ada", 1), put("bob", 1))
    ada, bob = await version(lmdb_driver, "ada"), await version(lmdb_driver, "bob")
    empty = CheckRange(USERS, RED._replace(starts="new"), ())
    with write_lock(lmdb_driver):
        tasks = await queue(
            lmdb_driver,
            [put("ada", 2, ada)],
            [put("ada", 3, ada), put("torn", 1)],
            [put("new", 1, ABSENT), empty],
            [put("new", 2, ABSENT)],
            [put("other", 1), empty],
            [Delete(USERS, ("red", "bob"), bob)],
            [Check(USERS, ("red", "bob"), bob), put("torn", 2)],
            [put("bob", 9, ABSENT)],
        )

    ended = await verdicts(tasks)

    kinds = [type(each) if isinstance(each, BaseException) else None for each in ended]
    assert kinds == [None, Conflict, None, AlreadyExists, Conflict, None, Conflict, None]
    assert [await age(lmdb_driver, name) for name in ("ada", "new", "bob", "torn", "other")] == [2, 1, 9, None, None]


async def test_a_write_that_fails_in_an_unforeseen_way_fails_alone(lmdb_driver: LmdbDriver) -> None:
    """What it had changed is taken back, and its neighbours are written."""

    class Buggy:
        def apply(self, txn: Transaction) -> None:
            txn.put(b"\x7fpartial", b"1")
            raise ZeroDivisionError

    class Refused:
        def apply(self, txn: Transaction) -> None:
            txn.put(b"", b"1")

    with write_lock(lmdb_driver):
        before = await queue(lmdb_driver, [put("a")], [put("b")])
        buggy = asyncio.create_task(lmdb_driver.change(Buggy(), size=1, until=until()))
        refused = asyncio.create_task(lmdb_driver.change(Refused(), size=1, until=until()))
        await asyncio.sleep(0)
        after = await queue(lmdb_driver, [put("c")])

    await asyncio.gather(*before, *after)
    with pytest.raises(ZeroDivisionError):
        await buggy
    with pytest.raises(StoreError):
        await refused
    assert await names(lmdb_driver) == ["a", "b", "c"]
    assert not has(lmdb_driver, b"\x7fpartial")


# --- growth -----------------------------------------------------------------------------------------------------------


async def test_the_file_grows_by_itself(path: Path) -> None:
    """A full map is made larger without losing a write, while other tasks and threads go on reading."""
    small = LmdbDriver(path, map_size=1 << 16)
    await small.open()
    await write(small, put("ada", 1))
    stop = threading.Event()

    def look_all_the_time() -> int:
        count = 0
        while not stop.is_set():
            row = small.peeker(USERS)(("red", "ada"))
            assert isinstance(row, Row)
            assert small.look(lambda view: len(list(zip(range(50), view.iterate(b"", b"\xff", False), strict=False))))
            count += 1
        return count

    reader = asyncio.create_task(asyncio.to_thread(look_all_the_time))
    for start in range(0, 200, 20):
        await asyncio.gather(
            *(write(small, put(f"{i:03}", i, ABSENT, note="x" * 20_000)) for i in range(start, start + 20))
        )
        assert await age(small, "ada") == 1
    stop.set()

    assert await reader > 0
    assert small.native.info()["map_size"] >= 200 * 20_000
    assert await names(small) == [f"{i:03}" for i in range(200)] + ["ada"]
    await small.close()


async def test_a_write_larger_than_twice_the_map(path: Path) -> None:
    """The map grows at once by as much as is needed."""
    small = LmdbDriver(path, map_size=1 << 16)
    await small.open()

    await write(small, *(put(f"{i:03}", i, note="x" * 100_000) for i in range(100)))

    assert len(await names(small)) == 100
    await small.close()


async def test_verdicts_after_growth_are_those_of_the_last_attempt(path: Path) -> None:
    """A group that is repeated in a larger map is judged from the beginning: its own first attempt is no conflict."""
    small = LmdbDriver(path, map_size=1 << 16)
    await small.open()
    with write_lock(small):
        tasks = await queue(
            small,
            [put("ada", 1, ABSENT)],
            [put("ada", 2, ABSENT)],
            [put("big", 1, ABSENT, note="x" * 500_000)],
        )

    ended = await verdicts(tasks)

    assert [isinstance(each, list) for each in ended] == [True, False, True]
    assert isinstance(ended[1], AlreadyExists)
    assert [await age(small, name) for name in ("ada", "big")] == [1, 1]
    await small.close()


async def test_a_map_that_can_not_grow(path: Path) -> None:
    """Without address space a write fails with the reason, and the file can be used as before."""
    small = LmdbDriver(path, map_size=1 << 20)
    await small.open()
    named = LmdbDriver(path, database="named")
    await named.open()
    await write(small, put("ada", 1))
    await write(named, put("ada", 2))
    environment = environment_of(small)
    real = environment.handle

    class Cramped:
        """A handle whose map can't be replaced: the binding gives it up then."""

        def set_mapsize(self, size: int) -> None:
            real.close()
            raise failure(lmdb.MemoryError, errno.ENOMEM)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    environment.handle = Cramped()  # type: ignore[assignment]
    with pytest.raises(StoreError, match="address space"):
        await write(small, put("big", note="x" * 2_000_000))

    assert environment.handle is not real
    assert await names(small) == ["ada"]
    await write(small, put("bob", 1))
    await write(named, put("bob", 2))
    assert [await age(each, "bob") for each in (small, named)] == [1, 2]
    await small.close()
    await named.close()


# --- a disk that fails ------------------------------------------------------------------------------------------------


@contextmanager
def no_room(path: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what this one has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((path / "data.mdb").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk(lmdb_driver: LmdbDriver, path: Path) -> None:
    """A write that finds no room says so and has changed nothing; afterwards everything works."""
    await write(lmdb_driver, put("ada", 1))
    with no_room(path):
        with write_lock(lmdb_driver):
            tasks = await queue(
                lmdb_driver, [put("ada", 2)], [put("big", note="x" * 1_000_000)], [put("ada", 3, ABSENT)]
            )
        ended = await verdicts(tasks)

    for each in ended:
        assert type(each) is StoreError
        assert "disk is full" in str(each)
        assert str(path) in str(each)
        assert isinstance(each.__cause__, lmdb.Error)
    assert await names(lmdb_driver) == ["ada"]
    assert await age(lmdb_driver, "ada") == 1
    await write(lmdb_driver, put("big", 1, note="x" * 1_000_000))
    assert await names(lmdb_driver) == ["ada", "big"]


def failure(kind: type[lmdb.Error], code: int) -> lmdb.Error:
    """Answer an error as the binding makes it."""
    error = kind("made up")
    error.code = code  # type: ignore[misc]
    return error


class Failing:
    """A handle whose commits fail; with ``doubt`` it is good for nothing afterwards, as LMDB's own is."""

    def __init__(self, real: lmdb.Environment, code: int, *, doubt: bool) -> None:
        self.real = real
        self.code = code
        self.doubt = doubt

    def begin(self, *args: Any, write: bool = False) -> Any:
        if not write:
            if self.doubt:
                raise failure(lmdb.PanicError, -30795)
            return self.real.begin(*args)
        code = self.code

        class Txn:
            def __init__(self, txn: lmdb.Transaction[bytes]) -> None:
                self.txn = txn

            def commit(self) -> None:
                self.txn.abort()
                raise failure(lmdb.Error, code)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.txn, name)

        return Txn(self.real.begin(write=True))

    def dbs(self, txn: Any) -> list[bytes]:
        return self.real.dbs(getattr(txn, "txn", txn))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize(("code", "text"), [(errno.EROFS, "does not let"), (errno.EIO, "nothing was written")])
async def test_a_commit_that_fails_for_certain(lmdb_driver: LmdbDriver, code: int, text: str) -> None:
    """When LMDB can go on after a failed commit, nothing was written, and that is what is said."""
    environment = environment_of(lmdb_driver)
    real = environment.handle
    environment.handle = Failing(real, code, doubt=False)  # type: ignore[assignment]

    with pytest.raises(StoreError, match=text) as caught:
        await write(lmdb_driver, put("ada"))

    assert type(caught.value) is StoreError
    environment.handle = real
    assert await names(lmdb_driver) == []
    await write(lmdb_driver, put("ada"))


async def test_a_commit_that_leaves_doubt(lmdb_driver: LmdbDriver, path: Path) -> None:
    """When the very last page could not be written, nobody knows; the file is opened again and can be used."""
    named = LmdbDriver(path, database="named")
    await named.open()
    await write(named, put("ada", 1))
    environment = environment_of(lmdb_driver)
    real = environment.handle
    environment.handle = Failing(real, errno.EIO, doubt=True)  # type: ignore[assignment]

    with pytest.raises(OutcomeUnknown):
        await write(lmdb_driver, put("ada"))

    await write(lmdb_driver, put("bob", 2))
    assert type(environment.handle) is lmdb.Environment
    assert environment.handle is not real
    assert await age(lmdb_driver, "bob") == 2
    await condition(lambda: _can_read(named))
    await write(named, put("bob", 3))
    assert await names(named) == ["ada", "bob"]
    await named.close()


def _can_read(driver: LmdbDriver) -> bool:
    try:
        return driver.look(lambda view: not view.is_empty())
    except KvModelError:
        return False


# --- callers who do not wait ------------------------------------------------------------------------------------------


async def test_cancelled_while_queued(lmdb_driver: LmdbDriver) -> None:
    """A write that was cancelled before its turn is withdrawn: it never happens."""
    with write_lock(lmdb_driver):
        gone, stays = await queue(lmdb_driver, [put("gone")], [put("stays")])
        await condition(lambda: environment_of(lmdb_driver).entering)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone

    await stays
    assert await names(lmdb_driver) == ["stays"]


async def test_cancelled_before_it_was_queued(path: Path) -> None:
    """A write that is cancelled in the turn it was made in leaves nothing behind, though the file is closed at once."""
    closing = LmdbDriver(path)
    await closing.open()
    task = asyncio.create_task(write(closing, put("ada")))
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait([task])
    await closing.close()
    await asyncio.sleep(0)

    assert task.cancelled() or isinstance(task.exception(), OutcomeUnknown)
    assert not registry._files


async def test_timed_out_while_queued(lmdb_driver: LmdbDriver) -> None:
    """A write whose time ran out before its turn is withdrawn and says that it was not written."""
    with write_lock(lmdb_driver):
        gone, stays = [
            *await queue(lmdb_driver, [put("gone")], seconds=0.02),
            *await queue(lmdb_driver, [put("stays")]),
        ]
        with pytest.raises(TimedOut):
            await gone

    await stays
    assert await names(lmdb_driver) == ["stays"]


async def test_late_from_the_start(lmdb_driver: LmdbDriver) -> None:
    """A write that comes too late is not even queued."""
    with pytest.raises(TimedOut):
        await write(lmdb_driver, put("ada"), seconds=-1)

    assert await names(lmdb_driver) == []


async def test_late_when_the_event_loop_was_held_up(lmdb_driver: LmdbDriver) -> None:
    """A write whose time is over is not taken, even where its event loop had no chance to give it up."""
    environment = environment_of(lmdb_driver)
    with write_lock(lmdb_driver):
        (gone,) = await queue(lmdb_driver, [put("gone")], seconds=0.05)
        await condition(lambda: environment.entering)
        spin(0.06)
    # Not an await: the event loop has to stand still until the writer thread is done.
    assert environment.turn.acquire(timeout=20)
    environment.turn.release()

    with pytest.raises(TimedOut):
        await gone
    assert await names(lmdb_driver) == []


async def test_cancelled_while_taken(lmdb_driver: LmdbDriver) -> None:
    """A write that was cancelled in the middle may have happened, and the caller is told so."""
    held = Held()
    task = asyncio.create_task(lmdb_driver.change(held, size=1, until=until()))
    await condition(held.taken.is_set)
    task.cancel()

    with pytest.raises(OutcomeUnknown) as caught:
        await task
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    held.let_go.set()
    await condition(lambda: has(lmdb_driver, b"\x7fheld"))


async def test_timed_out_while_taken(lmdb_driver: LmdbDriver) -> None:
    """A write whose time ran out in the middle may have happened, and the caller is told so, in time."""
    held = Held()
    task = asyncio.create_task(lmdb_driver.change(held, size=1, until=until(0.05)))

    with pytest.raises(OutcomeUnknown):
        await task
    held.let_go.set()
    await condition(lambda: has(lmdb_driver, b"\x7fheld"))


async def test_cancelled_when_it_was_done(lmdb_driver: LmdbDriver) -> None:
    """A cancellation that meets the answer: what was refused was not written, what was written is in doubt."""
    await write(lmdb_driver, put("ada", 1))
    for mutation, error in ((put("ada", 2, ABSENT), asyncio.CancelledError), (put("bob", 2), OutcomeUnknown)):
        (task,) = await queue(lmdb_driver, [mutation])
        (job,) = lmdb_driver._jobs
        await condition(job.answer.done)
        task.cancel()
        with pytest.raises(error):
            await task
    assert await names(lmdb_driver) == ["ada", "bob"]


async def test_those_who_left_are_not_written_after_growth(path: Path) -> None:
    """A write that was given up while its group found no room is left out when the group is repeated."""
    small = LmdbDriver(path, map_size=1 << 20)
    await small.open()

    class Large(Held):
        def apply(self, txn: Transaction) -> None:
            super().apply(txn)
            txn.put(b"\x7flarge", b"x" * 2_000_000)

    with write_lock(small):
        left, large = Held(), Large()
        left.let_go.set()
        tasks = [asyncio.create_task(small.change(each, size=1, until=until())) for each in (left, large)]
        await asyncio.sleep(0)
    await condition(large.taken.is_set)
    tasks[0].cancel()
    with pytest.raises(OutcomeUnknown):
        await tasks[0]
    large.let_go.set()
    await tasks[1]

    assert (left.runs, large.runs) == (1, 2)
    assert small.native.info()["map_size"] > 1 << 20
    await small.close()


async def test_an_event_loop_that_has_gone(lmdb_driver: LmdbDriver, path: Path) -> None:
    """Nobody is waiting any more for an answer: the thread goes on with the others."""

    def leave() -> None:
        loop = asyncio.new_event_loop()
        other = LmdbDriver(path)
        loop.run_until_complete(other.open())
        task = loop.create_task(write(other, put("left")))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        left.append((other, task))
        loop.close()

    left: list[object] = []
    with write_lock(lmdb_driver):
        await asyncio.to_thread(leave)
        tasks = await queue(lmdb_driver, [put("stays")])

    await asyncio.gather(*tasks)
    assert await names(lmdb_driver) == ["left", "stays"]
    lost_driver, lost_task = left[0]  # type: ignore[misc]
    lost_task._log_destroy_pending = False  # type: ignore[has-type]
    shared = lmdb_driver._opened()
    del shared.users[lost_driver]  # type: ignore[has-type]


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_closing_finishes_what_is_under_way(path: Path) -> None:
    """Writes that were started before close are written, and their callers told."""
    closing = LmdbDriver(path)
    await closing.open()
    with write_lock(closing):
        tasks = await queue(closing, [put("ada")], [put("bob")])
        end = asyncio.create_task(closing.close())
        await asyncio.sleep(0)
    await end

    assert all(isinstance(each, list) for each in await verdicts(tasks))
    again = LmdbDriver(path)
    await again.open()
    assert await names(again) == ["ada", "bob"]
    await again.close()


@pytest.fixture
async def short_grace(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], bool]]:
    """Make closing impatient. Answers whether all files have been closed."""
    monkeypatch.setattr(driver, "_GRACE", 0.05)
    monkeypatch.setattr(registry, "_GRACE", 0.05)
    yield lambda: not registry._files
    await condition(lambda: not registry._files)


LOCK = "env = lmdb.open(path)\nwith env.begin(write=True): tell('locked'); wait()"


async def test_closing_while_another_process_keeps_the_lock(path: Path, short_grace: Callable[[], bool]) -> None:
    """Closing ends all the same; what was not taken is not written, and the file is closed when that is possible."""
    waiting = LmdbDriver(path)
    await waiting.open()
    with neighbour(LOCK, path) as other:
        assert other.heard() == "locked"
        (task,) = await queue(waiting, [put("ada")])
        await waiting.close()
        with pytest.raises(Closed):
            await task
        assert not short_grace()
        other.go_on()
        await condition(short_grace)

    again = LmdbDriver(path)
    await again.open()
    assert await names(again) == []
    await again.close()


async def test_coming_back_before_the_file_was_closed(path: Path, short_grace: Callable[[], bool]) -> None:
    """A file that could not be closed yet is simply used again."""
    first, second = LmdbDriver(path), LmdbDriver(path)
    await first.open()
    with neighbour(LOCK, path) as other:
        assert other.heard() == "locked"
        (task,) = await queue(first, [put("ada")])
        await first.close()
        with pytest.raises(Closed):
            await task
        await second.open()
        (task,) = await queue(second, [put("bob")])
        other.go_on()
        await task
    assert await names(second) == ["bob"]
    await write(second, put("cyd"))
    await second.close()


def test_a_program_that_does_not_close_ends(path: Path) -> None:
    """A forgotten connection does not keep the program from ending, and takes nothing with it."""
    code = """
        import asyncio
        from kvmodel.drivers.lmdb import LmdbDriver
        from tests.drivers.rows import names, put, write

        async def main():
            driver = LmdbDriver(path)
            await driver.open()
            await write(driver, put(sys.argv[0] + str(os.getpid())))
            tell(len(await names(driver)))

        asyncio.run(main())
    """
    assert run(code, path) == "1"
    assert run(code, path) == "2"
