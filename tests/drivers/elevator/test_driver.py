"""The driver: what it claims, what it denies in words that help, and how it pages."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.base import ANYTHING, Delete, Put, Slice
from kvmodel.drivers.elevator import ElevatorClient, ElevatorDriver
from kvmodel.drivers.elevator.protocol import Code, Reply, Status, encode_reply
from kvmodel.drivers.elevator.refusals import Refusal
from kvmodel.drivers.formats.catalogue import MARKER_KEY
from kvmodel.drivers.formats.records import pack
from kvmodel.schema import schema_of
from kvmodel.testing import VirtualClock
from kvmodel.testing.elevator import ElevatorServer, Quirks
from tests.drivers.rows import condition


class User(kv.Model, table="users"):
    """A record like many."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0


class Word(kv.Model, table="words", layout="plain"):
    """Data of another program."""

    book: str = kv.partition_key()
    name: str = kv.clustering_key()
    text: str = kv.field(whole_value=True)


@pytest.fixture
async def db(server: ElevatorServer) -> AsyncIterator[kv.Database]:
    """A database that is open."""
    async with kv.connect(server.url) as db:
        yield db


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_no_path_means_default(server: ElevatorServer) -> None:
    """As the server itself calls it."""
    async with kv.connect(server.url) as db:
        assert isinstance(db.native, ElevatorClient)
        assert db.native.db_name == "default"
        assert repr(db) == f"<Database on {server.url}>"


async def test_a_missing_database_is_made_only_on_request(server: ElevatorServer) -> None:
    """Else it is an error that says how; making it again is no error."""
    with pytest.raises(kv.StoreError, match=r"\?create=true") as caught:
        await kv.connect(f"{server.url}/library")
    assert not isinstance(caught.value, kv.Unavailable)

    for _ in range(2):
        async with kv.connect(f"{server.url}/library?create=true") as db:
            await User.objects.using(db).save(User("red", "ada"))
    assert sorted(server.storage.databases) == [b"default", b"library"]


async def test_connections_that_make_it_together(server: ElevatorServer) -> None:
    """One makes it, and the others find it."""
    url = f"{server.url}/library?create=true"
    server.storage.quirks = server.quirks = type(server.quirks)(mount_seconds=0)

    databases = await asyncio.gather(*(kv.connect(url)._open() for _ in range(5)))

    assert sorted(server.storage.databases) == [b"default", b"library"]
    for db in databases:
        await db.close()


async def test_a_database_that_somebody_makes_meanwhile(server: ElevatorServer) -> None:
    """Between the question for it and the making: then it is there, which is what was wanted."""
    missing = encode_reply(Reply(Status.FAILURE, None, Code.DATABASE, b"Database default doesn't exist"))
    server.answer_with(missing)

    async with kv.connect(f"{server.url}/default?create=true"):
        assert server.commands == ["DBCONNECT", "DBCREATE", "DBCONNECT"]


async def test_nothing_is_made_for_other_reasons() -> None:
    """A server that can't be used is told of, and nothing is asked of it."""
    with ElevatorServer(quirks=Quirks(new_msgpack=True)) as server:
        with pytest.raises(kv.StoreError, match="msgpack"):
            await kv.connect(f"{server.url}/default?create=true")
        assert server.commands == ["DBCONNECT"]


async def test_a_path_on_the_servers_disk(server: ElevatorServer) -> None:
    """Stands in the URL percent-encoded, and may hold a LevelDB of before."""
    server.storage.directories.add(b"/srv")
    server.storage.add_folder("/srv/old", {b"words:moby:a": b"Ishmael"})

    async with kv.connect(f"{server.url}/%2Fsrv%2Fold?create=true") as db:
        assert isinstance(db.native, ElevatorClient)
        assert db.native.db_name == "/srv/old"
        assert (await Word.objects.using(db).get("moby", "a")).text == "Ishmael"
    async with kv.connect(server.url, database="/srv/old") as db:
        assert await Word.objects.using(db).exists("moby", "a")


async def test_over_ipc(tmp_path: Path) -> None:
    """The socket's path stands before the database's, or alone."""
    with ElevatorServer(f"ipc://{tmp_path}/e") as server:
        for url in (server.url, f"{server.url}/default", f"elevator+ipc://{tmp_path}/e?database=default"):
            async with kv.connect(url) as db:
                await User.objects.using(db).save(User("red", "ada"))


@pytest.mark.parametrize(
    "url",
    [
        "elevator://127.0.0.1/caf%C3%A9",
        "elevator://127.0.0.1/a%00b",
        "elevator://user:secret@127.0.0.1/",
        "elevator://127.0.0.1/a?database=b",
        "elevator://127.0.0.1/?sockets=0",
        "elevator://127.0.0.1/?sockets=many",
        "elevator://127.0.0.1/?compression=perhaps",
        "elevator://127.0.0.1/?unknown=1",
        "elevator://127.0.0.1/a#b",
        "elevator://127.0.0.1/srv/data",
        "elevator://127.0.0.1//srv/data",
        "elevator://127.0.0.1/default/",
        "elevator+ipc://",
    ],
)
async def test_urls_that_are_refused(url: str) -> None:
    """Before anything is connected to; a password is not shown."""
    with pytest.raises(kv.ValidationError) as caught:
        await kv.connect(url)
    assert "secret" not in str(caught.value)


def test_the_default_port() -> None:
    """Is the server's."""
    from urllib.parse import urlsplit

    for url, address in {
        "elevator://host": "elevator://host:4141",
        "elevator://host/db": "elevator://host:4141/db",
        "elevator://[::1]:5/db": "elevator://[::1]:5/db",
    }.items():
        assert ElevatorDriver.from_url(urlsplit(url), {}).address == address


async def test_nobody_there() -> None:
    """Is told at once."""
    start = time.monotonic()
    with pytest.raises(kv.Unavailable):
        await kv.connect("elevator://127.0.0.1:1/")
    assert time.monotonic() - start < 5


async def test_the_native_client_goes_its_own_way(db: kv.Database) -> None:
    """What it connects to is nothing to the models."""
    native = db.native
    assert isinstance(native, ElevatorClient)
    await native.createdb("other")
    await native.connect("other")
    await User.objects.using(db).save(User("red", "ada"))

    assert await native.range() == []
    assert await User.objects.using(db).exists("red", "ada")


async def test_compression(server: ElevatorServer) -> None:
    """Both ways of connecting read the same."""
    async with kv.connect(server.url, compression=True) as db:
        await User.objects.using(db).save_many(User("red", f"{number:03}", number) for number in range(300))
        assert len(await User.objects.using(db).range("red")) == 300
        assert await User.objects.using(db).find("red", "x") is None


async def test_data_of_others_is_not_touched(server: ElevatorServer) -> None:
    """A database that holds something else is refused for records of ours, and open to plain ones."""
    async with ElevatorClient(server.endpoint) as client:
        await client.put("words:moby:a", "Ishmael")
    async with kv.connect(server.url) as db:
        with pytest.raises(kv.SchemaError, match="plain"):
            await User.objects.using(db).save(User("red", "ada"))
        assert (await Word.objects.using(db).get("moby", "a")).text == "Ishmael"


# --- what is denied ---------------------------------------------------------------------------------------------------


async def _loaded(db: kv.Database) -> User:
    user = await User.objects.using(db).get("red", "ada")
    user.age += 1
    return user


async def _saved_again(db: kv.Database) -> None:
    user = await _loaded(db)
    await User.objects.using(db).save(user)


async def _deleted_again(db: kv.Database) -> None:
    user = await _loaded(db)
    await User.objects.using(db).delete(user)


async def _read_in_a_unit(db: kv.Database) -> None:
    async with db.unit_of_work():
        await User.objects.using(db).get("red", "ada")


async def _added_in_a_unit(db: kv.Database) -> None:
    async with db.unit_of_work() as uow:
        uow.add(User("red", "eve"))


DENIED: dict[str, Callable[[kv.Database], Awaitable[object]]] = {
    "create": lambda db: User.objects.using(db).create(User("red", "eve")),
    "checked save": _saved_again,
    "update": lambda db: User.objects.using(db).update("red", "ada", age=1),
    "checked delete": _deleted_again,
    "read in a unit": _read_in_a_unit,
    "add in a unit": _added_in_a_unit,
}


@pytest.mark.parametrize("name", DENIED)
async def test_what_compares_is_refused(db: kv.Database, server: ElevatorServer, name: str) -> None:
    """Nothing is written, and the sentence names the way out."""
    await User.objects.using(db).save(User("red", "ada", 36))
    changes = [command for command in server.commands if command in ("PUT", "DELETE", "BATCH")]

    with pytest.raises(kv.Unsupported, match=r"force=True") as caught:
        await DENIED[name](db)

    if name != "update":
        assert "db.batch()" in str(caught.value)
    assert [command for command in server.commands if command in ("PUT", "DELETE", "BATCH")] == changes
    assert await User.objects.using(db).get("red", "ada") == User("red", "ada", 36)


async def test_the_ways_out_work(db: kv.Database, server: ElevatorServer) -> None:
    """Forced saves and deletes, deletes by key, batches, and units that write blindly, which are atomic."""
    objects = User.objects.using(db)
    user = await objects.save(User("red", "ada", 36))
    user.age = 37
    await objects.save(user, force=True)
    assert await objects.get("red", "ada") == user
    assert await objects.delete("red", "ada") is None
    async with db.batch() as batch:
        batch.put(User("red", "bob"), User("blue", "eve"))
    sent = server.commands.count("BATCH")
    async with db.unit_of_work() as uow:
        uow.put(User("red", "a"), User("blue", "b"), User("green", "c"))

    assert server.commands.count("BATCH") == sent + 1
    assert [user.name async for user in objects.scan()] == ["b", "eve", "c", "a", "bob"]


async def test_backwards_is_refused_with_the_remedy(db: kv.Database) -> None:
    """A descending clustering key."""
    await db.prepare(User)

    with pytest.raises(kv.Unsupported, match="descending=True"), kv.budget(round_trips=0):
        await User.objects.using(db).range("red", reverse=True)


async def test_the_driver_refuses_by_itself(server: ElevatorServer) -> None:
    """Whoever speaks to it without the mapper is told as well, before anything is sent."""
    driver = ElevatorDriver(server.endpoint)
    await driver.open()
    table = schema_of(User).make_table(())
    sent = len(server.commands)

    for call in (driver.scan, driver.count):
        with pytest.raises(kv.Unsupported, match="descending"):
            await call(table, Slice(("t",), reverse=True), now=0, until=_soon())
    with pytest.raises(kv.Unsupported, match="force=True"):
        await driver.purge(table, limit=9, after=None, now=0, until=_soon())
    with pytest.raises(kv.Unsupported, match="await"):
        driver.peeker(table)

    assert len(server.commands) == sent
    await driver.close()


async def test_a_damaged_record_is_not_purged(server: ElevatorServer) -> None:
    """It stays for its reader to see, and does not keep the expired ones behind it."""
    clock = VirtualClock()
    async with kv.connect(server.url, clock=clock) as db, ElevatorClient(server.endpoint) as client:
        for name in "abc":
            await User.objects.using(db).save(User("red", name), expires_in=timedelta(seconds=1))
        (damaged,) = [key for key in await client.range(include_value=False) if b"a" in key[-2:]]
        await client.put(damaged, b"\xff\xff")
        clock.advance(5)

        assert await db.purge_expired(User, force=True) == 2
        assert await client.exists(damaged)


async def test_purging_has_to_be_forced(db: kv.Database, server: ElevatorServer) -> None:
    """It can't be done only to what is still expired; forced it does."""
    clock = VirtualClock()
    async with kv.connect(server.url, clock=clock) as mine:
        objects = User.objects.using(mine)
        for number in range(300):
            await objects.save(User("red", f"{number:03}"), expires_in=timedelta(seconds=1 + number % 2 * 10))
        clock.advance(5)
        assert len(await objects.range("red")) == 150
        with pytest.raises(kv.Unsupported, match="force=True"):
            await mine.purge_expired(User)
        driver, table = mine._connection.driver, mine._bound(schema_of(User)).table
        assert isinstance(driver, ElevatorDriver)
        removed, after = 0, None
        while True:
            step = await driver.purge(table, limit=100, after=after, now=clock(), until=_soon(), force=True)
            removed, after = removed + step.removed, step.resume
            if after is None:
                break

    assert removed == 150
    native = db.native
    assert isinstance(native, ElevatorClient)
    assert len(await native.range(include_value=False)) == 150 + 2


def _soon() -> float:
    return time.monotonic() + 5


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_what_calls_cost(db: kv.Database, server: ElevatorServer) -> None:
    """One request each, of the smallest kind; the first write brings the table's rows along."""
    objects = User.objects.using(db)
    await db.prepare(User)
    before = len(server.commands)

    await objects.save(User("red", "ada"))
    await objects.save(User("red", "bob"))
    await objects.get("red", "ada")
    await objects.exists("red", "ada")
    await objects.range("red", limit=2)
    await objects.delete("red", "bob")

    assert server.commands[before:] == ["BATCH", "PUT", "MGET", "MGET", "SLICE", "DELETE"]


async def test_many_keys_are_read_one_by_one(db: kv.Database, server: ElevatorServer) -> None:
    """One request for several would make the server read all that lies between them."""
    objects = User.objects.using(db)
    await objects.save_many(User("red", f"{number}") for number in range(20))
    before = server.commands.count("MGET")

    assert all(await objects.get_many([("red", f"{number}") for number in range(20)]))

    assert db.capabilities.max_read_batch == 1
    assert server.commands.count("MGET") == before + 20


async def test_many_keys_use_all_sockets(server: ElevatorServer) -> None:
    """They are looked up side by side; when one of them fails, so does the call, and nothing stays under way."""
    async with kv.connect(server.url, sockets=3) as db:
        objects = User.objects.using(db)
        await objects.save_many(User("red", f"{number}") for number in range(10))
        native = db.native
        assert isinstance(native, ElevatorClient)
        pool = native._pool
        server.freeze()
        reading = asyncio.ensure_future(objects.get_many([("red", f"{number}") for number in range(12)]))
        await condition(lambda: sum(wire._answer is not None for wire in pool._busy) == 3)
        server.thaw()

        found = await reading
        assert [user and user.name for user in found] == [*(f"{number}" for number in range(10)), None, None]
        before = server.commands.count("MGET")
        server.answer_with([b"garbage"])
        with pytest.raises(kv.ProtocolError):
            await objects.get_many([("red", f"{number}") for number in range(100)])
        assert not pool._busy
        assert server.commands.count("MGET") - before < 50


async def test_a_limit_is_what_is_read(db: kv.Database) -> None:
    """``limit=2`` costs two records and one round trip."""
    objects = User.objects.using(db)
    await objects.save_many(User(team, f"{number:03}") for team in ("a", "b") for number in range(50))

    with kv.budget(round_trips=1, keys=2):
        assert [user.name for user in await objects.range("a", limit=2)] == ["000", "001"]
    with kv.budget(round_trips=1, keys=1):
        assert (await objects.range("a", first="007", last="007"))[0].name == "007"


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 356, 357, 700])
async def test_ranges_of_any_length(db: kv.Database, count: int) -> None:
    """However many pages they are, each record comes once and the neighbours stay out."""
    objects = User.objects.using(db)
    await objects.save_many([User("a", "x"), User("c", "x"), *(User("b", f"{number:04}") for number in range(count))])

    assert [user.name for user in await objects.range("b")] == [f"{number:04}" for number in range(count)]
    assert [user.name async for user in objects.range("b")] == [f"{number:04}" for number in range(count)]
    assert await objects.range("b").count() == count


async def test_pages_of_large_records_are_short(db: kv.Database, server: ElevatorServer) -> None:
    """The store knows no limit in bytes: after the first page the driver knows how large rows are."""
    objects = Word.objects.using(db)
    await objects.save_many(Word("b", f"{number:03}", "x" * 100_000) for number in range(150))
    sizes: list[int] = []
    stream = objects.range("b")
    with kv.budget(keys=None) as spent:
        async for _ in stream:
            if not sizes or sizes[-1] != spent.keys:
                sizes.append(spent.keys)

    assert len(sizes) > 5
    assert sizes[2] - sizes[1] < 20


async def test_a_bulk_that_is_cut(server: ElevatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several requests, the first was done; the lost one is unknown, and the rest unsent."""
    driver = ElevatorDriver(server.endpoint)
    await driver.open()
    table = schema_of(User).make_table((f"n{secrets.token_hex(3)}",))
    await driver.prepare(table, now=0, until=_soon())
    puts = [Put(table, ("t", f"{number:05}"), {"age": 1}, secrets.token_bytes(12)) for number in range(2500)]
    until = time.monotonic() + 1
    send, count = driver._send, 0

    async def spy(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            server.swallow()
        return await send(*given)

    monkeypatch.setattr(driver, "_send", spy)
    outcomes = await driver.write(puts, atomic=False, now=0, until=until)

    statuses = [outcome.status for outcome in outcomes]
    assert statuses == [kv.Status.WRITTEN] * 1000 + [kv.Status.UNKNOWN] * 1000 + [kv.Status.UNSENT] * 500
    await driver.close()


async def test_an_unprepared_write_describes_its_table(server: ElevatorServer) -> None:
    """With ``prepare=never`` the first write looks and brings the rows."""
    async with kv.connect(server.url, prepare="never") as db:
        await User.objects.using(db).save(User("red", "ada"))
        await User.objects.using(db).save(User("red", "bob"))
        native = db.native
        assert isinstance(native, ElevatorClient)
        assert len(await native.range()) == 4


class Account(kv.Model, table="users"):
    """Another program's idea of the same table."""

    number: int = kv.partition_key()


async def test_a_table_that_another_program_has_described(
    server: ElevatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first write it is looked at again, unless that was done just now."""
    monkeypatch.setattr("kvmodel.drivers.elevator.catalogue._FRESH", 0)
    async with kv.connect(server.url) as one, kv.connect(server.url) as two, kv.connect(server.url) as three:
        for db, model in ((one, User), (two, Account), (three, User)):
            await db.prepare(model)
        await User.objects.using(one).save(User("red", "ada"))

        with pytest.raises(kv.SchemaError, match="another key"):
            await Account.objects.using(two).save(Account(1))
        await User.objects.using(three).save(User("red", "bob"))

        assert [user.name for user in await User.objects.using(one).range("red")] == ["ada", "bob"]
        native = one.native
        assert isinstance(native, ElevatorClient)
        assert len(await native.range()) == 4


async def test_a_database_of_a_newer_kvmodel_is_left_alone(server: ElevatorServer) -> None:
    """Its marker says so."""
    async with ElevatorClient(server.endpoint) as client:
        await client.put(MARKER_KEY, pack({"keys": 99, "records": 1}))

    async with kv.connect(server.url) as db:
        with pytest.raises(kv.SchemaError, match="upgrade"):
            await User.objects.using(db).save(User("red", "ada"))
    assert server.commands[-2:] == ["DBCONNECT", "MGET"]


async def test_a_program_that_begins_at_the_same_moment(server: ElevatorServer) -> None:
    """Its first rows are not taken for data of strangers, even if they come between two looks."""
    async with kv.connect(server.url) as one, kv.connect(server.url) as two:
        driver = two._connection.driver
        assert isinstance(driver, ElevatorDriver)
        slice_of = driver._client.slice

        async def slice_late(*given: Any, **options: Any) -> Any:
            await User.objects.using(one).save(User("red", "ada"))
            return await slice_of(*given, **options)

        driver._client.slice = slice_late  # type: ignore[method-assign]
        await two.prepare(User)
        await User.objects.using(two).save(User("red", "bob"))

        assert len(await User.objects.using(one).range("red")) == 2


async def test_a_timed_out_write_is_unknown(db: kv.Database, server: ElevatorServer) -> None:
    """To the mapper too: the object has to be read again."""
    objects = User.objects.using(db)
    user = await objects.save(User("red", "ada"))
    server.swallow()

    with kv.timeout(0.1), pytest.raises(kv.OutcomeUnknown):
        await objects.save(user, force=True)
    with pytest.raises(kv.Conflict):
        await objects.save(user)


async def test_a_dropped_database_is_told(db: kv.Database) -> None:
    """Its data are gone: the error says so, and the server's words are its cause."""
    await User.objects.using(db).save(User("red", "ada"))
    native = db.native
    assert isinstance(native, ElevatorClient)
    await native.dropdb("default")

    with pytest.raises(kv.StoreError, match="dropped") as caught:
        await User.objects.using(db).get("red", "ada")
    assert isinstance(caught.value.__cause__, Refusal)


async def test_an_empty_write_and_an_empty_slice(server: ElevatorServer) -> None:
    """Send nothing."""
    driver = ElevatorDriver(server.endpoint)
    await driver.open()
    table = schema_of(User).make_table(())
    sent = len(server.commands)

    assert await driver.write([], atomic=True, now=0, until=_soon()) == []
    assert (await driver.scan(table, Slice(("t",), limit=0), now=0, until=_soon())).rows == []
    with pytest.raises(kv.TimedOut):
        await driver.write([Delete(table, ("t", "a"), ANYTHING)], atomic=True, now=0, until=0)

    assert len(server.commands) == sent
    await driver.close()
