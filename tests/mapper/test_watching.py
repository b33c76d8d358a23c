"""Watching above the drivers: bounds, damaged records, ends, positions; and the feed of embedded stores."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

import kvmodel as kv
from kvmodel._ambient import open_databases
from kvmodel.drivers import feed
from kvmodel.drivers.base import ChangeKind, Row, RowChange, Slice, Table, Watch, Watcher
from kvmodel.drivers.lmdb import LmdbDriver
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.schema import schema_of
from kvmodel.testing.clock import VirtualClock
from tests.drivers.rows import condition


class User(kv.Model, table="users"):
    """A record of two components."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0


class Stretched(kv.Model, table="users"):
    """The same table, as a newer program sees it: what the old one wrote is none of its records."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: str = ""


class Colour(kv.Model, table="colours"):
    """A key that is not stored as it is given."""

    at: tuple[int, int] = kv.partition_key()
    name: str = ""


@pytest.fixture(params=["memory", "lmdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that is watched within the process."""
    return "memory://watched" if request.param == "memory" else f"lmdb://{tmp_path}/data"


@pytest.fixture
async def db(url: str) -> AsyncIterator[kv.Database]:
    """A connection to it."""
    async with kv.connect(url) as db:
        yield db


async def ages(changes: kv.Changes[User], count: int) -> list[int | None]:
    """Answer what the next changes are about."""
    async with asyncio.timeout(10):
        return [None if (each := await anext(changes)).new is None else each.new.age for _ in range(count)]


# --- what is kept for a slow reader -----------------------------------------------------------------------------------


async def test_a_slow_reader_loses_its_watch(db: kv.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past so many changes: ``WatchLost``, from then on, and nothing is kept; another watch is not touched."""
    monkeypatch.setattr(feed, "BACKLOG", 10)
    objects = User.objects
    async with objects.watch("red") as slow, objects.watch("red") as quick:
        await objects.save_many(User("red", f"{number:02}", number) for number in range(10))
        assert await ages(quick, 10) == list(range(10))
        await objects.save(User("red", "10", 10))

        for _ in range(2):
            with pytest.raises(kv.WatchLost, match="read again"):
                await anext(slow)
        assert await ages(quick, 1) == [10]


async def test_large_changes_are_counted_by_their_size(db: kv.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both what was there and what is there; what was read counts no more."""
    monkeypatch.setattr(feed, "BACKLOG_BYTES", 4000)

    class Document(kv.Model, table="documents"):
        name: str = kv.clustering_key()
        text: str = ""

    async with Document.objects.watch() as changes:
        for _ in range(20):
            await Document.objects.save(Document("a", "x" * 1000))
            assert (await anext(changes)).new is not None
        await Document.objects.save(Document("a", "x" * 3000))
        with pytest.raises(kv.WatchLost):
            await anext(changes)


# --- what can't be read -----------------------------------------------------------------------------------------------


async def test_a_damaged_record_does_not_end_the_watch(db: kv.Database) -> None:
    """It is a ``DecodingError`` that names it; the next step goes on behind it. What it replaced can't be told."""
    objects = User.objects
    async with objects.watch("red") as changes:
        await objects.save(User("red", "a", 1))
        await damage(db, ("red", "a"))
        await objects.save(User("red", "a", 2))

        assert await ages(changes, 1) == [1]
        with pytest.raises(kv.DecodingError) as caught:
            await anext(changes)
        assert (caught.value.table, caught.value.key) == ("users", ("red", "a"))
        mended = await anext(changes)
    assert (mended.kind, mended.new, mended.old) == (kv.ChangeKind.CHANGED, User("red", "a", 2), None)


async def test_a_record_of_another_shape_does_not_end_the_watch(db: kv.Database) -> None:
    """What the store can read and the model can't is told in the same way."""
    async with Stretched.objects.watch("red") as changes:
        await User.objects.save(User("red", "a", 1))
        await Stretched.objects.save(Stretched("red", "a", "x"), force=True)

        with pytest.raises(kv.DecodingError) as caught:
            await anext(changes)
        assert caught.value.field == "age"
        mended = await anext(changes)
    assert (mended.new, mended.old) == (Stretched("red", "a", "x"), None)


async def damage(db: kv.Database, key: tuple[str, ...]) -> None:
    """Overwrite a record with what is none, in a transaction of the store."""
    driver: Any = db._connection.driver
    codec = driver.codec(db._tables[schema_of(User)].table)

    class Damage:
        def apply(self, txn: Any) -> None:
            txn.put(codec.encode_key(key), b"\x10damaged")

    await driver.change(Damage(), size=10, until=asyncio.get_running_loop().time() + 10)


# --- its end ----------------------------------------------------------------------------------------------------------


async def test_a_watch_that_nothing_refers_to_is_let_go(db: kv.Database) -> None:
    """A loop that was left without a block around it keeps nothing in the store."""
    await User.objects.save(User("red", "a"))

    async def leave() -> None:
        async for _ in User.objects.watch("red"):
            return

    task = asyncio.create_task(leave())
    while not task.done():
        await User.objects.save(User("red", "a"))
    await task
    del task
    gc.collect()
    await condition(lambda: not db._connection._watchers)


async def test_what_nobody_watches_is_not_recorded(db: kv.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing costs what it costs without."""
    async with User.objects.watch("red"):
        pass
    monkeypatch.setattr(feed.Recorder, "put", None)

    await User.objects.save(User("red", "a"))


async def test_watches_of_several_threads(url: str) -> None:
    """A change of one event loop is told in another's own thread."""
    told: list[object] = []
    began = threading.Event()

    async def watch() -> None:
        async with kv.connect(url) as db, User.objects.using(db).watch("red") as changes:
            began.set()
            change = await anext(changes)
            told.extend([change.new, threading.current_thread().name])

    thread = threading.Thread(target=lambda: asyncio.run(watch()), name="reader")
    async with kv.connect(url) as db:
        thread.start()
        await asyncio.to_thread(began.wait, 10)
        await User.objects.using(db).save(User("red", "a", 5))
        await asyncio.to_thread(thread.join, 10)

    assert told == [User("red", "a", 5), "reader"]


async def test_a_closed_loop_is_told_nothing(url: str) -> None:
    """A program that forgot to close its watch in another loop does not disturb the writers of this one."""
    kept: list[object] = []

    async def forget() -> None:
        db = await kv.connect(url)
        changes = User.objects.using(db).watch("red")
        await changes.__aenter__()
        kept.extend([db, changes])

    async with kv.connect(url) as db:
        await asyncio.to_thread(asyncio.run, forget())
        await User.objects.using(db).save(User("red", "a"))
        async with User.objects.using(db).watch("red") as changes:
            await User.objects.using(db).save(User("red", "a", 2))
            assert await ages(changes, 1) == [2]
        forgotten = kept[0]
        assert isinstance(forgotten, kv.Database)
        open_databases.discard(forgotten)
        await forgotten._connection.driver.close()


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_keys_are_as_they_are_asked_for(db: kv.Database) -> None:
    """``get(*change.key)`` finds the record."""
    async with Colour.objects.watch() as changes:
        await Colour.objects.save(Colour((1, 2), "x"))
        change = await anext(changes)

    assert change.key == ((1, 2),)
    assert await Colour.objects.get(*change.key) == change.new


# --- a store with positions -------------------------------------------------------------------------------------------


class Tape(Watcher):
    """Plays what it is given."""

    def __init__(self, start: int, play: list[RowChange | Exception]) -> None:
        self.at = start
        self.play = play
        self.closed = 0

    @property
    def position(self) -> str | None:
        return str(self.at)

    async def next(self) -> list[RowChange]:
        if not self.play:
            self.at += 100  # Time goes by, and nothing concerns this watch.
            await asyncio.Event().wait()
        change = self.play.pop(0)
        if isinstance(change, Exception):
            raise change
        self.at = int(change.position or 0)
        return [change]

    async def close(self) -> None:
        self.closed += 1


class Taped(MemoryDriver):
    """A memory store whose watches play tapes."""

    capabilities = MemoryDriver.capabilities
    play: tuple[RowChange | Exception, ...] = ()
    tapes: list[Tape]
    asked: list[str | None]

    async def watch(  # type: ignore[override]
        self, table: Table, slice: Slice, position: str | None, *, clock: Callable[[], int], until: float
    ) -> Tape:
        self.asked.append(position)
        tape = Tape(int(position or 7), list(self.play))
        self.tapes.append(tape)
        return tape


def change_of(number: int) -> RowChange:
    """A change with a position."""
    key = ("red", "a")
    return RowChange(key, ChangeKind.CHANGED, Row(key, {"age": number}, b"v"), None, str(number))


@pytest.fixture
async def taped() -> AsyncIterator[Taped]:
    """The driver of the one open database."""
    async with kv.connect("memory://") as db:
        driver = Taped(watch=Watch.TABLE)
        driver.capabilities = kv.Capabilities(store="tape", watch=Watch.TABLE, watch_resumes=True)
        driver.tapes, driver.asked = [], []
        await driver.open()
        await db._connection.driver.close()
        db._connection.driver = driver
        yield driver


async def test_positions_follow_what_was_given_out(taped: Taped) -> None:
    """From the start, change by change, and onward while nothing comes; the driver gets back its own."""
    taped.play = (change_of(10), change_of(20))
    async with User.objects.watch("red") as changes:
        places = [changes.position]
        for _ in range(2):
            change = await anext(changes)
            assert changes.position == change.position
            places.append(change.position)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(changes)
        places.append(changes.position)

    for place in places:
        async with User.objects.watch("red", position=place):
            pass
    assert taped.asked == [None, "7", "10", "20", "120"]
    assert [tape.closed for tape in taped.tapes] == [1] * 5


async def test_a_store_that_is_away_ends_nothing(taped: Taped) -> None:
    """The step fails, the next one goes on."""
    taped.play = (change_of(1), kv.Unavailable("away"), change_of(2))
    async with User.objects.watch("red") as changes:
        assert await ages(changes, 1) == [1]
        with pytest.raises(kv.Unavailable):
            await anext(changes)
        assert await ages(changes, 1) == [2]


@pytest.mark.parametrize("wrong", ["", "x", "é", "AAAA", "7"])
async def test_text_that_is_no_position(taped: Taped, wrong: str) -> None:
    """It is refused, whatever it is; nothing is asked of the driver."""
    with pytest.raises(kv.ValidationError, match="not one of this watch"):
        await anext(User.objects.watch("red", position=wrong))
    assert taped.asked == []


# --- LMDB -------------------------------------------------------------------------------------------------------------


async def test_a_file_that_is_only_read_is_not_watched(tmp_path: Path) -> None:
    """Nothing in this process changes it."""
    async with kv.connect(f"lmdb://{tmp_path}/data") as db:
        await User.objects.using(db).save(User("red", "a"))
    async with kv.connect(f"lmdb://{tmp_path}/data?readonly=true") as db:
        assert db.capabilities.watch is kv.Watch.NONE
        with pytest.raises(kv.Unsupported):
            await anext(User.objects.using(db).watch("red"))


async def test_databases_of_one_file_are_apart(tmp_path: Path) -> None:
    """A change in one of them is none in the other."""
    url = f"lmdb://{tmp_path}/data?database="
    async with (
        kv.connect(url + "one") as one,
        kv.connect(url + "two") as two,
        User.objects.using(one).watch("red") as changes,
    ):
        await User.objects.using(two).save(User("red", "a", 1))
        await User.objects.using(one).save(User("red", "a", 2))
        assert await ages(changes, 1) == [2]


async def test_a_commit_that_may_have_happened_loses_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say whether its changes are there: telling them, or not, could be wrong."""
    async with kv.connect(f"lmdb://{tmp_path}/data") as db:
        driver = db._connection.driver
        assert isinstance(driver, LmdbDriver)
        assert driver._shared is not None
        writer = driver._shared.writer

        def fail(*_: object) -> None:
            raise lmdb.Error("the disk went away")

        async with User.objects.watch("red") as changes:
            await User.objects.save(User("red", "a", 1))
            assert await ages(changes, 1) == [1]
            monkeypatch.setattr(writer, "_commit", fail)
            with pytest.raises(kv.OutcomeUnknown):
                await User.objects.save(User("red", "a", 2))
            with pytest.raises(kv.WatchLost):
                await anext(changes)


async def test_a_watch_is_in_place_between_two_writes(tmp_path: Path) -> None:
    """Not in the middle of one that nobody recorded: what is not told is there to be read."""
    async with kv.connect(f"lmdb://{tmp_path}/data") as db:
        await User.objects.save(User("red", "a", 1))
        driver = db._connection.driver
        assert isinstance(driver, LmdbDriver)
        key = driver.codec(db._tables[schema_of(User)].table).encode_key(("red", "b"))
        taken, goes_on = threading.Event(), threading.Event()

        class Slow:
            def apply(self, txn: Any) -> None:
                txn.put(key, b"\x10" + b"s" * 12 + b"\x80")  # A record without fields.
                taken.set()
                goes_on.wait(10)

        writing = asyncio.create_task(driver.change(Slow(), size=10, until=asyncio.get_running_loop().time() + 10))
        await asyncio.to_thread(taken.wait, 10)
        changes = User.objects.watch("red")
        entering = asyncio.create_task(changes.__aenter__())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not entering.done()
        goes_on.set()
        await entering
        assert await User.objects.exists("red", "b")
        await writing
        await changes.close()


async def test_a_refused_group_tells_nothing(tmp_path: Path) -> None:
    """What shares a transaction with a refused write is told; the refused one is not."""
    async with kv.connect(f"lmdb://{tmp_path}/data"):
        await User.objects.save(User("red", "a", 1))
        async with User.objects.watch("red") as changes:
            await asyncio.gather(
                User.objects.save(User("red", "b", 2)),
                User.objects.create(User("red", "a", 9)),
                User.objects.save(User("red", "c", 3)),
                return_exceptions=True,
            )
            assert await ages(changes, 2) == [2, 3]


async def test_expiry_is_judged_when_it_happens(url: str) -> None:
    """A change that is read late is what it was when it took place."""
    clock = VirtualClock()
    async with kv.connect(url, clock=clock) as db:
        objects = User.objects.using(db)
        async with objects.watch("red") as changes:
            await objects.save(User("red", "a", 1), expires_at=clock.now.replace(year=clock.now.year + 1))
            await objects.save(User("red", "a", 2), expires_at=None)
            clock.advance(400 * 86400)
            kinds = [(await anext(changes)).kind for _ in range(2)]
    assert kinds == [kv.ChangeKind.CREATED, kv.ChangeKind.CHANGED]
