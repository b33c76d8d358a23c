"""The LMDB driver: opening, reading, durability, options, and files that are not fit."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lmdb
import pytest

from kvmodel.drivers.base import ABSENT, Durability, Row
from kvmodel.drivers.bytestore import PAGE
from kvmodel.drivers.lmdb import LmdbDriver
from kvmodel.drivers.lmdb.registry import _files
from kvmodel.drivers.meter import Meter, meter_variable
from kvmodel.errors import (
    BudgetExceeded,
    Closed,
    SchemaError,
    StoreError,
    Unavailable,
    Unsupported,
    ValidationError,
)
from tests.drivers.processes import neighbour, run
from tests.drivers.rows import (
    NOW,
    PAST,
    RED,
    USERS,
    age,
    condition,
    find,
    keys,
    make_table,
    names,
    pages,
    put,
    until,
    write,
)


async def connect(path: Path, **options: Any) -> LmdbDriver:
    """Open a file the way a database does."""
    driver = LmdbDriver.from_url(urlsplit(f"lmdb://{path}"), options)
    await driver.open()
    return driver


def idle_readers(driver: LmdbDriver) -> bool:
    """Whether no read transaction is alive."""
    lines = driver.native.readers().splitlines()
    return all(line.split()[-1] == "-" for line in lines[1:] if line.strip())


# --- reading and writing ----------------------------------------------------------------------------------------------


async def test_records_survive(path: Path) -> None:
    """What was acknowledged is there when the file is opened again."""
    driver = await connect(path)
    await write(driver, put("ada", 1), put("bob", 2))
    await driver.close()

    driver = await connect(path)
    await driver.prepare(USERS, now=NOW, until=until())
    assert await names(driver) == ["ada", "bob"]
    assert await age(driver, "bob") == 2
    await driver.close()


async def test_records_survive_a_killed_process(path: Path) -> None:
    """What was acknowledged is there though the process died without closing anything."""
    run(
        """
        import asyncio
        from kvmodel.drivers.lmdb import LmdbDriver
        from tests.drivers.rows import put, write

        async def main():
            driver = LmdbDriver(path)
            await driver.open()
            await write(driver, put("ada", 1))
            os._exit(0)

        asyncio.run(main())
        """,
        path,
    )

    driver = await connect(path)
    assert await age(driver, "ada") == 1
    await driver.close()


async def test_reading_in_place(lmdb_driver: LmdbDriver) -> None:
    """What is answered at once is what a read answers, except that deadlines are left to the caller."""
    await write(lmdb_driver, put("ada", 1), put("old", 1, expires_at=PAST))
    peek = lmdb_driver.peeker(USERS)

    for name in ("ada", "nobody"):
        assert await find(lmdb_driver, name) == peek(("red", name))
    assert await find(lmdb_driver, "old", now=PAST - 1) == peek(("red", "old"))


async def test_slices_in_both_directions(lmdb_driver: LmdbDriver) -> None:
    """Pages follow one another without a gap, to either side, with other tables' records around."""
    total = 2 * PAGE + 7
    people = [put(f"{i:04}", i) for i in range(total)]
    others = [put("x", table=make_table(name)) for name in ("a", "z")]
    await write(lmdb_driver, *people, *others, put("y", team="blue"), put("y", team="zed"), atomic=False)

    assert await names(lmdb_driver) == [f"{i:04}" for i in range(total)]
    assert await names(lmdb_driver, RED._replace(reverse=True)) == [f"{i:04}" for i in reversed(range(total))]
    assert await lmdb_driver.count(USERS, RED, now=NOW, until=until()) == total
    assert len(await keys(lmdb_driver, RED._replace(partition=None))) == total + 2


async def test_backwards_from_the_last_key_of_all(lmdb_driver: LmdbDriver) -> None:
    """A slice whose end lies behind every key in the file is read backwards too, and so is an empty file."""
    last = make_table("zzz")
    assert await names(lmdb_driver, RED._replace(reverse=True), table=last) == []
    await write(lmdb_driver, put("ada", table=last), put("bob", table=last))

    assert await names(lmdb_driver, RED._replace(reverse=True), table=last) == ["bob", "ada"]


async def test_no_transaction_lives_between_pages(lmdb_driver: LmdbDriver) -> None:
    """Between two pages nothing keeps old pages of the file alive."""
    await write(lmdb_driver, *(put(f"{i:04}") for i in range(2 * PAGE)), atomic=False)

    page = await lmdb_driver.scan(USERS, RED, now=NOW, until=until())

    assert page.resume is not None
    assert idle_readers(lmdb_driver)
    lmdb_driver.peeker(USERS)(("red", "0000"))
    await lmdb_driver.read(USERS, [("red", "0000")], now=NOW, until=until())
    assert idle_readers(lmdb_driver)


async def test_a_failing_read_leaves_no_transaction(lmdb_driver: LmdbDriver) -> None:
    """An error inside a page ends its transaction."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lmdb_driver.look(fail)
    assert idle_readers(lmdb_driver)


async def test_exchanges_are_counted(lmdb_driver: LmdbDriver) -> None:
    """Each read, page and write counts once, with the keys it touches; what is over the budget is not written."""
    meter = Meter()
    token = meter_variable.set(meter)
    try:
        await write(lmdb_driver, put("ada"), put("bob"))
        await lmdb_driver.read(USERS, [("red", "ada"), ("red", "bob")], now=NOW, until=until())
        await pages(lmdb_driver)
        assert (meter.round_trips, meter.keys) == (3, 6)
        meter.max_round_trips = 3
        with pytest.raises(BudgetExceeded):
            await write(lmdb_driver, put("cyd"))
    finally:
        meter_variable.reset(token)
    assert await names(lmdb_driver) == ["ada", "bob"]


# --- sharing ----------------------------------------------------------------------------------------------------------


async def test_a_file_is_opened_once(tmp_path: Path) -> None:
    """Connections to one file share it, by whatever path they came, until the last one has gone."""
    (tmp_path / "link").symlink_to(tmp_path / "data")
    first = await connect(tmp_path / "data")
    second = await connect(tmp_path / "link")
    third = await connect(tmp_path / "data" / ".." / "data", readonly=True)
    assert first.native is second.native is third.native

    await write(first, put("ada", 1))
    await first.close()
    assert await age(second, "ada") == 1
    await write(second, put("ada", 2))
    await second.close()
    assert await age(third, "ada") == 2
    await third.close()
    assert not _files


async def test_a_file_that_took_another_ones_place(path: Path) -> None:
    """A file that was deleted and made anew is another file, even while the old one is open."""
    old = await connect(path)
    await write(old, put("ada", 1))
    shutil.rmtree(path)
    new = await connect(path)

    assert await age(new, "ada") is None
    assert await age(old, "ada") == 1
    await old.close()
    await new.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [({}, {"sync": False}), ({"sync": False}, {}), ({"readonly": True}, {})],
)
async def test_one_file_has_one_set_of_options(path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    """A second connection can't have the file otherwise than the first, and is told which option it is about."""
    await (await connect(path)).close()
    driver = await connect(path, **first)

    with pytest.raises(ValidationError) as caught:
        await connect(path, **second)

    assert caught.value.field in {*first, *second}
    await driver.close()
    assert not _files


async def test_several_event_loops_share_a_file(lmdb_driver: LmdbDriver, path: Path) -> None:
    """Connections that live in other threads' event loops read and write the same file at the same time."""

    def work(number: int) -> None:
        async def main() -> None:
            driver = await connect(path)
            for turn in range(20):
                await write(driver, put(f"{number}-{turn}", turn))
                assert await age(driver, f"{number}-{turn}") == turn
            await driver.close()

        asyncio.run(main())

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(4)))

    assert len(await names(lmdb_driver)) == 80


async def test_an_environment_of_somebody_else(path: Path) -> None:
    """A file that the program opened with the binding itself is refused with the remedy."""
    path.mkdir()
    with lmdb.open(str(path)), pytest.raises(StoreError, match="already open"):
        await connect(path)
    assert not _files


# --- life -------------------------------------------------------------------------------------------------------------


async def test_a_closed_connection_says_so(path: Path) -> None:
    """Every call after close raises Closed, though another connection keeps the file open; closing twice is fine."""
    other = await connect(path)
    driver = await connect(path)
    await write(driver, put("ada"))
    await driver.close()
    await driver.close()

    with pytest.raises(Closed):
        await write(driver, put("ada"))
    with pytest.raises(Closed):
        await find(driver, "ada")
    with pytest.raises(Closed):
        await names(driver)
    with pytest.raises(Closed):
        _ = driver.native
    await other.close()


async def test_a_connection_can_be_opened_again(path: Path) -> None:
    """Closing gives everything back: the same driver can open the file anew, with or without having written."""
    driver = LmdbDriver(path)
    for turn in range(3):
        await driver.open()
        if turn != 1:
            await write(driver, put("ada", turn))
        await driver.close()
        assert not _files
    await driver.open()
    assert await age(driver, "ada") == 2
    await driver.close()


# --- options ----------------------------------------------------------------------------------------------------------


async def test_missing_directories_are_created(tmp_path: Path) -> None:
    """A path need not exist."""
    driver = await connect(tmp_path / "a" / "b" / "c")
    await write(driver, put("ada"))
    await driver.close()

    assert (tmp_path / "a" / "b" / "c" / "data.mdb").is_file()


async def test_reading_only(path: Path) -> None:
    """A connection that only reads sees everything and refuses every write; it creates nothing."""
    with pytest.raises(Unavailable):
        await connect(path, readonly=True)
    assert not path.exists()
    driver = await connect(path)
    await write(driver, put("ada", 1))
    await driver.close()

    driver = await connect(path, readonly=True)
    await driver.prepare(USERS, now=NOW, until=until())
    assert await age(driver, "ada") == 1
    with pytest.raises(Unsupported):
        await write(driver, put("ada", 2))
    with pytest.raises(SchemaError):
        await driver.prepare(make_table(key="bytes"), now=NOW, until=until())
    await driver.close()


async def test_reading_only_where_nothing_was_written(path: Path) -> None:
    """An empty directory can't be read."""
    path.mkdir()

    with pytest.raises(Unavailable):
        await connect(path, readonly=True)
    assert list(path.iterdir()) == []


async def test_reading_only_where_the_lock_file_is_not_ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader writes into the lock file: where it may not, it is told so, and not to do what it does already."""

    def refuse(*given: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    await (await connect(path)).close()
    monkeypatch.setattr(lmdb, "open", refuse)

    with pytest.raises(Unavailable, match=r"lock\.mdb"):
        await connect(path, readonly=True)
    with pytest.raises(Unavailable, match="readonly=true"):
        await connect(path)


async def test_capabilities_tell_the_truth(path: Path) -> None:
    """Without sync an acknowledged write survives a killed process only; the key limit is the file's own."""
    driver = await connect(path)
    assert driver.capabilities.durability is Durability.DISK
    assert driver.capabilities.max_key_bytes == driver.native.max_key_size()
    await driver.close()

    driver = await connect(path, sync=False)
    assert driver.capabilities.durability is Durability.PROCESS
    assert driver.native.flags()["sync"] is False
    await write(driver, put("ada"))
    await driver.close()


async def test_the_longest_key(lmdb_driver: LmdbDriver) -> None:
    """A key of the full length that the store claims can be written, one byte more is refused."""
    limit = lmdb_driver.capabilities.max_key_bytes
    assert limit is not None
    room = limit - len(lmdb_driver.codec(USERS).encode_key(("red", "")))

    await write(lmdb_driver, put("x" * room, 7))
    assert await age(lmdb_driver, "x" * room) == 7
    with pytest.raises(ValidationError):
        await write(lmdb_driver, put("x" * (room + 1)))


async def test_named_databases(path: Path) -> None:
    """Databases inside one file know nothing of each other, and survive; the main one may still be used."""
    main, a, b = await connect(path), await connect(path, database="a"), await connect(path, database="b")
    await write(a, put("ada", 1))
    await write(b, put("ada", 2))
    await main.prepare(USERS, now=NOW, until=until())
    await asyncio.gather(write(main, put("ada", 3)), write(a, put("bob", 1)), write(b, put("bob", 2)))
    for driver, number in ((main, 3), (a, 1), (b, 2)):
        assert await age(driver, "ada") == number
        assert driver.peeker(USERS)(("red", "ada")) == await find(driver, "ada")
    assert [await names(driver) for driver in (main, a, b)] == [["ada"], ["ada", "bob"], ["ada", "bob"]]
    assert await names(a, RED._replace(reverse=True)) == ["bob", "ada"]
    for driver in (main, a, b):
        await driver.close()

    driver = await connect(path, database="a", readonly=True)
    assert await names(driver) == ["ada", "bob"]
    await driver.close()
    with pytest.raises(Unavailable):
        await connect(path, database="c", readonly=True)
    assert not _files


@pytest.mark.parametrize("readonly", [False, True])
async def test_names_that_no_database_can_have(path: Path, readonly: bool) -> None:
    """A name that is too long, or that of a record, is refused, and the file can be used without it."""
    driver = await connect(path)
    await write(driver, put("ada"))
    await driver.close()
    for name in ("x" * 600, "\0kvmodel"):
        with pytest.raises(StoreError, match="database"):
            await connect(path, database=name, readonly=readonly)
    assert not _files

    driver = await connect(path, readonly=readonly)
    assert await names(driver) == ["ada"]
    await driver.close()


@pytest.mark.parametrize("size", [0, -1, 1 << 60])
def test_map_sizes_are_checked(path: Path, size: int) -> None:
    """A map that can't be is refused before anything is opened."""
    with pytest.raises(ValidationError):
        LmdbDriver(path, map_size=size)


# --- files that are not fit -------------------------------------------------------------------------------------------


def fill_with_noise(data: Path) -> None:
    data.write_bytes(os.urandom(100_000))


def fill_with_text(data: Path) -> None:
    data.write_bytes(b"hello world\n" * 10_000)


def be_short(data: Path) -> None:
    data.write_bytes(b"\0" * 10)


def be_newer(data: Path) -> None:
    raw = bytearray(data.read_bytes())
    for page in (0, 4096):  # The version follows the magic number in both first pages.
        at = raw.index(b"\xde\xc0\xef\xbe", page)
        raw[at + 4 : at + 8] = (999).to_bytes(4, "little")
    data.write_bytes(raw)


def be_cut_off(data: Path) -> None:
    with data.open("r+b") as file:
        file.truncate(3 * 4096)


@pytest.mark.parametrize("damage", [fill_with_noise, fill_with_text, be_short, be_newer, be_cut_off])
@pytest.mark.parametrize("readonly", [False, True])
async def test_files_that_are_not_fit(path: Path, damage: Callable[[Path], None], readonly: bool) -> None:
    """A damaged, newer or foreign file is refused with its path and a remedy, and not touched."""
    driver = await connect(path)
    await write(driver, *(put(f"{i:04}", note="x" * 500) for i in range(200)))
    await driver.close()
    data = path / "data.mdb"
    damage(data)
    before = data.read_bytes()

    with pytest.raises(StoreError, match=r"newer|choose another|restore") as caught:
        await connect(path, readonly=readonly)

    assert str(path) in str(caught.value)
    assert type(caught.value) is StoreError
    assert data.read_bytes() == before
    assert not _files


async def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    """A file that is no LMDB file is refused; so are a path below it and LMDB's own data file by name."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(StoreError, match="choose another"):
        await connect(tmp_path / "text")
    with pytest.raises(Unavailable):
        await connect(tmp_path / "text" / "below")
    await (await connect(tmp_path / "data")).close()
    with pytest.raises(ValidationError, match="directory"):
        await connect(tmp_path / "data" / "data.mdb")
    assert (tmp_path / "text").read_text() == "hello"


async def test_a_single_file(tmp_path: Path) -> None:
    """A file that others made without a directory can be used as it is."""
    with lmdb.open(str(tmp_path / "single"), subdir=False) as handle, handle.begin(write=True) as txn:
        txn.put(b"theirs", b"1")

    driver = await connect(tmp_path / "single")
    plain = make_table(layout="plain")
    await write(driver, put("ada", 1, table=plain))
    with pytest.raises(SchemaError):
        await driver.prepare(USERS, now=NOW, until=until())
    assert await age(driver, "ada", table=plain) == 1
    await driver.close()


async def test_pages_that_were_never_used_may_be_missing(path: Path) -> None:
    """A file may be shorter than LMDB counts, where the pages at its end are free: that is no damage."""
    path.mkdir()
    with lmdb.open(str(path)) as handle:
        for count, size in ((0, 0), (50, 10), (50, 10), (200, 200)):
            with handle.begin(write=True) as txn:
                txn.put(b"a", b"1")
                keys = [b"k%06d" % number for number in range(count)]
                for key in keys:
                    txn.put(key, b"x" * size)
                for key in reversed(keys):
                    txn.delete(key)
        counted = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
    assert (path / "data.mdb").stat().st_size < counted

    driver = await connect(path)
    assert driver.look(lambda view: view.get(b"a")) == b"1"
    await driver.close()


async def test_no_right_to_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that the system refuses is Unavailable, with the reason as cause."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(Unavailable, match="permissions") as caught:
        await connect(tmp_path / "data")
    assert isinstance(caught.value.__cause__, PermissionError)


# --- other processes --------------------------------------------------------------------------------------------------


async def test_dead_readers_are_cleared(path: Path) -> None:
    """A process that died inside a read transaction does not keep old pages alive for ever."""
    await (await connect(path)).close()
    with neighbour("env = lmdb.open(path); tell('open'); wait()", path) as living:
        assert living.heard() == "open"
        run(
            "env = lmdb.open(path); txn = env.begin(); txn.get(b'x'); print(os.getpid(), flush=True); os._exit(0)", path
        )

        driver = await connect(path)

        assert driver.native.readers().strip() == "(no active readers)"
        await driver.close()


async def test_growth_by_another_process(path: Path) -> None:
    """A file that another process made larger than our map is read and written all the same."""
    driver = await connect(path, map_size=1 << 20)
    await write(driver, put("ada", 1))
    assert await age(driver, "ada") == 1
    run(
        """
        env = lmdb.open(path, map_size=1 << 26)
        with env.begin(write=True) as txn:
            for number in range(2000):
                txn.put(b"\\x7fother%d" % number, b"x" * 2000)
        """,
        path,
    )

    row = driver.peeker(USERS)(("red", "ada"))
    assert isinstance(row, Row)
    assert await names(driver) == ["ada"]
    await write(driver, put("bob", 2, ABSENT))
    assert await names(driver) == ["ada", "bob"]
    await driver.close()


async def test_growth_by_a_process_that_keeps_the_lock(path: Path) -> None:
    """While a write waits for a process that made the file larger than our map, reads say so instead of hanging."""
    driver = await connect(path, map_size=1 << 20)
    await write(driver, put("ada", 1))
    code = """
        env = lmdb.open(path, map_size=1 << 26)
        with env.begin(write=True) as txn:
            for number in range(2000):
                txn.put(b"\\x7fother%d" % number, b"x" * 2000)
        with env.begin(write=True) as txn:
            tell("locked")
            wait()
    """
    with neighbour(code, path) as other:
        assert other.heard() == "locked"
        pending = asyncio.create_task(write(driver, put("bob", 2)))
        await condition(lambda: driver._opened().environment.entering)
        with pytest.raises(Unavailable):
            await find(driver, "ada")
        other.go_on()
        await pending
    assert await names(driver) == ["ada", "bob"]
    await driver.close()
