"""The driver: records as blobs, one call of the store for each decision, ranges out of listings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.base import Table
from kvmodel.drivers.quasardb import QuasardbClient, QuasardbDriver
from kvmodel.drivers.quasardb.names import MARKER_NAME, common_prefix, entry_name
from kvmodel.testing import VirtualClock
from kvmodel.testing.quasardb.server import LocalServer, Mishap


class User(kv.Model, table="users"):
    """A record as most are."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0


class Log(kv.Model, table="logs"):
    """Two clustering components."""

    day: str = kv.partition_key()
    hour: int = kv.clustering_key()
    place: str = kv.clustering_key()


class Old(kv.Model, table="old", layout="plain"):
    """What another program wrote."""

    name: str = kv.partition_key()
    data: bytes = kv.field(whole_value=True)


class Loose(kv.Model, table="loose", layout="plain", store_options={"quasardb": {"key_prefix": ""}}):
    """What another program wrote, without a prefix."""

    name: str = kv.partition_key()
    data: bytes = kv.field(whole_value=True)


@pytest.fixture
def clock() -> VirtualClock:
    """The time, as the driver sees it."""
    return VirtualClock()


@pytest.fixture
async def db(server: LocalServer, clock: VirtualClock) -> AsyncIterator[kv.Database]:
    """A database on the stand-in."""
    async with kv.connect(server.url, workers=2, clock=clock) as db:
        yield db


def contents(server: LocalServer) -> dict[str, bytes]:
    """All blobs of the store."""
    return {name: entry.value for name, entry in server.store._entries.items() if isinstance(entry.value, bytes)}


# --- names ------------------------------------------------------------------------------------------------------------


async def test_names_are_text_that_sorts_as_keys_do(db: kv.Database, server: LocalServer) -> None:
    """Namespace, table and key, each ended and escaped; what describes the table lies beside."""
    await User.objects.using(db.namespace("t 1")).save(User("re\0d", "é"))
    await User.objects.using(db).save(User("red", "ada"))

    names = [name for name in contents(server) if name.startswith("kv ")]
    assert sorted(names) == ["kv  users red ada ", "kv t!QP1!P users re!0d é "]
    assert {MARKER_NAME, "kv.table  users "} < set(contents(server))
    assert not any("\0" in name or name.startswith(("$", "qdb")) for name in contents(server))


@pytest.mark.parametrize(
    ("start", "stop", "prefix"),
    [
        (b"kv  users red ", b"kv  users red!", "kv  users red "),
        (b"kv  users red a", b"kv  users red b", "kv  users red a"),
        (b"kv  users red a ", b"kv  users red c ", "kv  users red "),
        (b"abc", b"abc\0", "abc"),
        ("é1".encode(), "é9".encode(), "é"),
        ("é".encode(), "è".encode(), ""),
        ("a\u00e9".encode(), "a\u00eb".encode(), "a"),
        (b"\x01", b"\xff" * 4, ""),
        (b"x" * 2000, b"x" * 1999 + b"y", "x" * 1024),
    ],
)
def test_the_narrowest_prefix(start: bytes, stop: bytes, prefix: str) -> None:
    """Everything between two bounds begins with it; it ends with a whole character, within the library's limit."""
    assert common_prefix(start, stop) == prefix


async def test_a_range_lists_no_more_than_its_narrowest_prefix(db: kv.Database, server: LocalServer) -> None:
    """Bounds that begin alike are listed by what they have in common."""
    await User.objects.using(db).save_many([User("red", name) for name in ("ada", "adam", "bob", "é")])
    asked: list[str] = []
    names = server.store.names

    def listen(end: str, text: str, count: int) -> list[str]:
        asked.append(text)
        return names(end, text, count)

    server.store.names = listen  # type: ignore[method-assign]  # to see what is asked
    objects = User.objects.using(db)
    assert [user.name for user in await objects.range("red", prefix="ad")] == ["ada", "adam"]
    assert [user.name for user in await objects.range("red", first="ada", last="adam")] == ["ada", "adam"]
    assert [user.name for user in await objects.range("red", after="adam", reverse=True)] == ["é", "bob"]

    assert asked == ["kv  users red ad", "kv  users red ada", "kv  users red "]


async def test_keys_over_the_librarys_limit(db: kv.Database) -> None:
    """In bytes, before anything is sent; the message says what remains."""
    await db.prepare(User)
    with pytest.raises(kv.ValidationError, match="1014 remain"), kv.budget(round_trips=0):
        await User.objects.using(db).find("é" * 506, "x")
    with pytest.raises(kv.SchemaError):
        await User.objects.using(db.namespace("/".join(["n" * 200] * 6))).find("a", "b")


async def test_foreign_names_in_the_place_of_a_table(db: kv.Database, server: LocalServer) -> None:
    """Nobody described them: ``SchemaError``. Other data of the cluster does not matter."""
    server.store.put("blob", "something else", b"x")
    await User.objects.using(db).find("a", "b")
    server.store.put("blob", "kv  logs x", b"x")
    with pytest.raises(kv.SchemaError):
        await Log.objects.using(db).find("a", 1, "b")


async def test_a_name_that_is_no_key_is_told(db: kv.Database, server: LocalServer) -> None:
    """A range does not pass over what it can't read."""
    await User.objects.using(db).save(User("red", "ada"))
    server.store.put("blob", "kv  users red nonsense", b"x")
    with pytest.raises(kv.DecodingError):
        await User.objects.using(db).range("red")


async def test_an_entry_of_another_type(db: kv.Database, server: LocalServer) -> None:
    """``DecodingError`` that names the record, for reading and for writing."""
    await User.objects.using(db).save(User("red", "ada"))
    server.store.put("integer", "kv  users red bob ", 7)
    for call in (User.objects.using(db).get("red", "bob"), User.objects.using(db).create(User("red", "bob"))):
        with pytest.raises(kv.DecodingError) as caught:
            await call
        assert caught.value.table == "users"


# --- the catalogue ----------------------------------------------------------------------------------------------------


async def test_a_table_is_described_before_its_first_record(db: kv.Database, server: LocalServer) -> None:
    """Marker and row cost one call each, once; reading writes nothing."""
    await User.objects.using(db).find("red", "ada")
    assert contents(server) == {}
    server.calls.clear()

    await User.objects.using(db).save(User("red", "ada"))
    await User.objects.using(db).save(User("red", "bob"))

    assert server.calls == ["put", "put", "update", "update"]


async def test_two_programs_may_describe_it_at_once(db: kv.Database, server: LocalServer) -> None:
    """Who comes second finds what he would have written."""
    async with kv.connect(server.url, workers=1) as other:
        for each in (db, other):
            await each.prepare(User)
        await asyncio.gather(*(User.objects.using(each).save(User("red", "ada")) for each in (db, other)))

    assert await User.objects.using(db).exists("red", "ada")


async def test_a_lost_answer_while_describing_does_not_matter(db: kv.Database, server: LocalServer) -> None:
    """It is the same row whoever writes it: it is enough to find it there."""
    await db.prepare(User)
    server.mishaps.append(Mishap("reset", call="put", applies=True))

    await User.objects.using(db).save(User("red", "ada"))

    assert await User.objects.using(db).exists("red", "ada")


# --- writes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ada(db: kv.Database, server: LocalServer) -> User:
    """A record that is there, in a table that is described."""
    created = await User.objects.using(db).create(User("red", "ada", age=1))
    server.calls.clear()
    return created


async def test_what_each_write_costs(db: kv.Database, server: LocalServer, ada: User) -> None:
    """What decides is one call; what compares a version reads before."""
    objects = User.objects.using(db)
    for work, calls in (
        (lambda: objects.create(User("red", "bob")), ["put"]),
        (lambda: objects.save(User("red", "bob", age=2)), ["update"]),
        (lambda: objects.save(kv.replace(ada, age=2)), ["get", "compare_and_swap"]),
        (lambda: objects.update("red", "ada", age=3), ["get", "get", "compare_and_swap"]),
        (lambda: objects.delete("red", "ada"), ["get_and_remove"]),
    ):
        server.calls.clear()
        with kv.budget(round_trips=len(calls)):
            await work()
        assert server.calls == calls


async def test_two_records_are_refused_before_anything_is_sent(db: kv.Database, server: LocalServer, ada: User) -> None:
    """Changes of two, or a change that relies on another one: ``Unsupported``, which names ``db.batch()``."""
    with pytest.raises(kv.Unsupported, match=r"db\.batch\(\)"):
        async with db.unit_of_work() as uow:
            uow.add(User("red", "bob"))
            uow.add(User("red", "eve"))
    with pytest.raises(kv.Unsupported):
        async with db.unit_of_work() as uow:
            await User.objects.get("red", "ada")
            uow.add(User("red", "eve"))

    assert server.calls == ["get"]


async def test_a_unit_of_one_record_compares_and_swaps(db: kv.Database, server: LocalServer, ada: User) -> None:
    """Of twenty tasks that count at once, none is lost."""

    async def count(uow: kv.UnitOfWork) -> None:
        (await User.objects.get("red", "ada")).age += 1

    await asyncio.gather(*(db.transact(count) for _ in range(20)))

    assert (await User.objects.using(db).get("red", "ada")).age == 21


async def test_a_batch_reaches_many_records(db: kv.Database, ada: User) -> None:
    """Independent writes, an outcome for each."""
    batch = db.batch()
    for number in range(5):
        batch.add(User("red", f"n{number}"))
    batch.add(User("red", "ada"))
    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    statuses = [outcome.status.name for outcome in caught.value.outcomes]
    assert statuses == ["WRITTEN"] * 5 + ["CONFLICT"]


async def test_content_that_comes_in_between_is_a_conflict(db: kv.Database, server: LocalServer, ada: User) -> None:
    """Between reading and swapping somebody else writes: the swap notices, whatever the stamps."""
    objects = User.objects.using(db)
    swap = server.store.compare_and_swap

    def overtaken(kind: str, name: str, new: Any, comparand: Any) -> Any:
        server.store.update("blob", name, comparand[:-1] + b"\x07")
        return swap(kind, name, new, comparand)

    server.store.compare_and_swap = overtaken  # type: ignore[method-assign]  # to come in between
    with pytest.raises(kv.Conflict):
        await objects.save(kv.replace(ada, age=9))

    assert (await objects.get("red", "ada")).age == 7


async def test_deleting_an_object_that_was_changed(db: kv.Database, ada: User) -> None:
    """Only what was loaded goes."""
    objects = User.objects.using(db)
    await objects.update("red", "ada", age=5)
    with pytest.raises(kv.Conflict):
        await objects.delete(ada)
    assert await objects.delete(await objects.get("red", "ada"))
    assert await objects.delete("red", "ada") is False


# --- expiry -----------------------------------------------------------------------------------------------------------


async def test_the_deadline_is_in_the_record(db: kv.Database, server: LocalServer, clock: VirtualClock) -> None:
    """The store's own expiry is left alone: it would end what somebody else writes meanwhile."""
    objects = User.objects.using(db)
    await objects.create(User("red", "ada"), expires_in=timedelta(minutes=1))
    assert "expires_at" not in server.calls
    clock.advance(61)

    assert await objects.find("red", "ada") is None
    assert await objects.range("red") == []
    assert await objects.range("red").count() == 0
    assert await objects.delete("red", "ada") is False
    await objects.create(User("red", "ada"), expires_in=timedelta(minutes=1))
    clock.advance(61)
    await objects.create(User("red", "ada", age=2))
    assert (await objects.get("red", "ada")).age == 2


async def test_purging_removes_only_what_it_saw(db: kv.Database, server: LocalServer, clock: VirtualClock) -> None:
    """With ``remove_if``: a record that was written again in the same moment stays."""
    objects = User.objects.using(db)
    for name in ("ada", "bob", "eve"):
        await objects.create(User("red", name), expires_in=timedelta(minutes=1))
    await objects.create(User("red", "lasting"))
    clock.advance(61)
    remove_if = server.store.remove_if

    def overtaken(kind: str, name: str, comparand: Any) -> None:
        if "bob" in name:
            server.store.update("blob", name, b"\x10" + b"s" * 12 + b"\x81\xa3age\x05")
        remove_if(kind, name, comparand)

    server.store.remove_if = overtaken  # type: ignore[method-assign]  # to come in between

    assert await db.purge_expired(User) == 2
    assert [user.name for user in await objects.range("red")] == ["bob", "lasting"]
    assert len([name for name in contents(server) if name.startswith("kv ")]) == 2


# --- ranges -----------------------------------------------------------------------------------------------------------


async def test_explain_tells_the_cost(db: kv.Database) -> None:
    """The listing, its prefix and its bound; that each record is a call."""
    plan = User.objects.using(db).range("red", limit=2).explain()

    assert plan.round_trips is None
    assert plan.keys == 2
    assert "'kv  users red '" in plan.steps[1]
    assert "refused above 100000" in plan.steps[1]
    assert "one call each" in plan.steps[-1]


async def test_what_a_range_costs(db: kv.Database) -> None:
    """One call for the names, one for each record that is wanted."""
    objects = User.objects.using(db)
    await objects.save_many([User("red", f"{number:03}") for number in range(300)])

    with kv.budget(round_trips=3, keys=2):
        assert len(await objects.range("red", limit=2)) == 2
    with kv.budget(round_trips=302):
        assert len(await objects.range("red")) == 300


async def test_a_range_over_too_many_names_is_refused(server: LocalServer) -> None:
    """``TooLarge`` that names the option, never a short answer."""
    async with kv.connect(server.url, workers=1, max_names=50) as db:
        objects = User.objects.using(db)
        await objects.save_many([User("red", f"{number:03}") for number in range(50)])
        assert len(await objects.range("red")) == 50
        await objects.save(User("red", "one more"))
        for call in (objects.range("red", limit=1), objects.range("red").count()):
            with pytest.raises(kv.TooLarge, match="max_names"):
                await call
        assert len(await objects.range("red", prefix="01")) == 10


async def test_records_that_go_while_they_are_listed(db: kv.Database, server: LocalServer) -> None:
    """The limit is filled with what is still there."""
    objects = User.objects.using(db)
    await objects.save_many([User("red", f"{number:03}") for number in range(20)])
    names = server.store.names

    def vanish(end: str, text: str, count: int) -> list[str]:
        found = names(end, text, count)
        for number in range(0, 20, 2):
            server.store.remove("blob", f"kv  users red {number:03} ")
        server.store.names = names  # type: ignore[method-assign]  # once
        return found

    server.store.names = vanish  # type: ignore[method-assign]  # to come in between

    assert [user.name for user in await objects.range("red", limit=4)] == ["001", "003", "005", "007"]


async def test_pages_go_on_behind_the_last_key(db: kv.Database) -> None:
    """Each page lists again; a record is told once at the most, and none is left out."""
    objects = Log.objects.using(db)
    await objects.save_many([Log("d", number % 24, f"p{number}") for number in range(600)])

    rows = [(log.hour, log.place) async for log in objects.range("d")]
    page = await objects.range("d").page(10)
    rest = await objects.range("d").page(10, page.next_token)

    assert rows == sorted(rows)
    assert len(rows) == 600
    assert [(log.hour, log.place) for log in (*page.items, *rest.items)] == rows[:20]


# --- data of other programs -------------------------------------------------------------------------------------------


async def test_the_plain_layout(db: kv.Database, server: LocalServer) -> None:
    """Names and contents as they stand; versions are contents, compared by the store itself."""
    server.store.put("blob", "old:a", b"one")
    objects = Old.objects.using(db)

    found = await objects.get("a")
    assert found.data == b"one"
    found.data = b"two"
    await objects.save(found)
    await objects.create(Old("b", b"new"))
    with pytest.raises(kv.AlreadyExists):
        await objects.create(Old("b", b"new"))
    stale = await objects.get("a")
    server.store.update("blob", "old:a", b"three")
    stale.data = b"four"
    with pytest.raises(kv.Conflict):
        await objects.save(stale)
    with pytest.raises(kv.Conflict):
        await objects.delete(stale)

    assert contents(server) == {"old:a": b"three", "old:b": b"new"}
    assert [each.name for each in await objects.scan()] == ["a", "b"]
    assert await objects.scan().count() == 2
    assert await objects.delete("a")


async def test_equal_content_in_the_plain_layout_is_no_success(db: kv.Database, server: LocalServer) -> None:
    """Of two who count up from the same content one is told of a conflict, though both write the same."""
    objects = Old.objects.using(db)
    await objects.create(Old("n", b"1"))
    first, second = await objects.get("n"), await objects.get("n")
    first.data = second.data = b"2"

    await objects.save(first)
    with pytest.raises(kv.Conflict):
        await objects.save(second)

    assert contents(server) == {"old:n": b"2"}


async def test_names_in_the_plain_layout_are_the_librarys(db: kv.Database) -> None:
    """NUL would cut them, ``$`` is the store's own."""
    for name in ("a\0b", "x" * 1025):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await Old.objects.using(db).find(name)
    with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
        await Loose.objects.using(db).find("$qdb.statistics")


async def test_names_with_nothing_in_common_cannot_be_listed(db: kv.Database) -> None:
    """The library has no listing of everything."""
    with pytest.raises(kv.Unsupported, match="key_prefix"):
        await Loose.objects.using(db).scan()


async def test_empty_content_is_no_comparand(db: kv.Database, server: LocalServer) -> None:
    """The store could not say whether it swapped."""
    server.store.put("blob", "old:a", b"")
    found = await Old.objects.using(db).get("a")
    found.data = b"x"
    with pytest.raises(kv.ValidationError):
        await Old.objects.using(db).save(found)
    await Old.objects.using(db).save(found, force=True)


# --- lost answers -----------------------------------------------------------------------------------------------------

LOST = ["reset", "handle", "timed_out", "interrupted", "strange", "try_again", "unstable"]


@pytest.mark.parametrize("fault", LOST)
async def test_a_write_whose_answer_was_lost_is_looked_up(
    db: kv.Database, server: LocalServer, ada: User, fault: str
) -> None:
    """Our stamp is there: it was done, and the caller gets his version."""
    objects = User.objects.using(db)
    works: list[tuple[str, Callable[[], Awaitable[User]]]] = [
        ("put", lambda: objects.create(User("red", "bob"))),
        ("update", lambda: objects.save(User("red", "eve"))),
        ("compare_and_swap", lambda: objects.save(kv.replace(ada, age=2))),
    ]
    for call, work in works:
        server.mishaps.append(Mishap(fault, call=call, applies=True))
        saved = await work()
        saved.age += 1
        await objects.save(saved)
    assert server.mishaps == []


@pytest.mark.parametrize("fault", LOST[:5])
async def test_a_write_that_cannot_be_found_is_unknown(
    db: kv.Database, server: LocalServer, ada: User, fault: str
) -> None:
    """It may still be on its way: nothing is sent again."""
    objects = User.objects.using(db)
    for call, work in (
        ("put", lambda: objects.create(User("red", "bob"))),
        ("update", lambda: objects.save(User("red", "eve"))),
        ("compare_and_swap", lambda: objects.save(kv.replace(ada, age=2))),
        ("get_and_remove", lambda: objects.delete("red", "ada")),
        ("remove_if", lambda: objects.delete(ada)),
    ):
        server.mishaps.append(Mishap(fault, call=call))
        server.calls.clear()
        with pytest.raises(kv.OutcomeUnknown) as caught:
            await work()
        assert server.calls.count(call) == 1
        assert caught.value.table == "users"


@pytest.mark.parametrize("fault", ["try_again", "unstable", "conflict", "locked"])
async def test_a_write_that_was_refused_for_now_is_sent_again(
    db: kv.Database, server: LocalServer, ada: User, fault: str
) -> None:
    """The cluster says so itself; and it is looked for before."""
    objects = User.objects.using(db)
    server.mishaps.extend([Mishap(fault, call="put"), Mishap(fault, call="put")])
    await objects.create(User("red", "bob"))
    server.mishaps.append(Mishap(fault, call="compare_and_swap"))
    await objects.save(kv.replace(ada, age=2))

    assert (await objects.get("red", "ada")).age == 2


@pytest.mark.parametrize("fault", ["reset", "handle", "try_again", "unstable", "conflict"])
async def test_reads_are_tried_again(db: kv.Database, server: LocalServer, ada: User, fault: str) -> None:
    """Over a new connection, where it was lost."""
    server.mishaps.extend([Mishap(fault, call="get"), Mishap(fault, call="get")])
    assert await User.objects.using(db).get("red", "ada") == ada


async def test_a_lost_create_over_a_taken_key(db: kv.Database, server: LocalServer, ada: User) -> None:
    """What is there is somebody else's: nobody knows what became of ours."""
    server.mishaps.append(Mishap("reset", call="put"))
    with pytest.raises(kv.OutcomeUnknown):
        await User.objects.using(db).create(User("red", "ada"))


async def test_a_cluster_that_goes_away(db: kv.Database, server: LocalServer, ada: User) -> None:
    """Refused connections are ``Unavailable``: nothing was done. When it comes back, all goes on."""
    objects = User.objects.using(db)
    port = server.address
    server.stop()
    with pytest.raises(kv.Unavailable):
        await objects.get("red", "ada")
    with pytest.raises((kv.OutcomeUnknown, kv.Unavailable)):
        await objects.save(User("red", "bob"))
    with pytest.raises(kv.Unavailable):
        await objects.save(User("red", "bob"))
    server.start()
    assert server.address == port
    assert await objects.get("red", "ada") == ada


async def test_a_batch_says_what_became_of_each(db: kv.Database, server: LocalServer, ada: User) -> None:
    """Lost in the middle: the others are written."""
    batch = db.batch()
    for number in range(6):
        batch.put(User("red", f"n{number}"))
    server.mishaps.append(Mishap("interrupted", call="update", skips=2))
    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    statuses = [outcome.status.name for outcome in caught.value.outcomes]
    assert sorted(statuses) == ["UNKNOWN"] + ["WRITTEN"] * 5


# --- the driver itself ------------------------------------------------------------------------------------------------


async def test_capabilities(db: kv.Database) -> None:
    """What is said of the store."""
    can = db.capabilities
    assert (can.store, can.atomicity, can.conditional, can.range_checks) == (
        "quasardb",
        kv.Atomicity.RECORD,
        True,
        False,
    )
    assert (can.ordered, can.reverse, can.scan_table) == (True, kv.Reverse.NATIVE, True)
    assert (can.watch, can.max_key_bytes, can.max_read_batch) == (kv.Watch.NONE, 1024, 1)
    assert isinstance(db.native, QuasardbClient)


async def test_the_url(server: LocalServer) -> None:
    """Hosts, options, and credentials, which stay out of sight."""
    from kvmodel._registry import find_driver, split_url

    url = split_url("qdb://ada:Ssecret@db1,db2:99?library=x")
    driver = find_driver("qdb").from_url(url, {"cluster_public_key": "Pkey", "max_value_bytes": 1 << 20})

    assert isinstance(driver, QuasardbDriver)
    assert driver.address == "qdb://db1:2836,db2:99"
    assert driver.capabilities.max_value_bytes == 1 << 20
    for text in ("qdb://", "qdb://db1/path", "qdb://db1#x", "qdb://ada@db1", "qdb://db1:x"):
        with pytest.raises(kv.ValidationError):
            await kv.connect(text)
    for option in ({"workers": 0}, {"library_timeout": 0.1}, {"connect_timeout": 0}, {"compression": "best"}, {"x": 1}):
        with pytest.raises(kv.ValidationError):
            await kv.connect("qdb://db1", **option)


async def test_nothing_is_read_in_place(db: kv.Database) -> None:
    """Whoever asks nevertheless is told."""
    driver = QuasardbDriver(QuasardbClient("db1"))
    table = Table("t", (), (), ())
    with pytest.raises(kv.Unsupported):
        driver.peeker(table)
    assert driver.scope(table, ("a",)) != driver.scope(table, ("b",))
    await driver.close()


def test_a_row_of_the_catalogue_has_a_name_of_its_own() -> None:
    """No table's name can be mistaken for another one's, or for a record."""
    names = {
        entry_name(Table("t", (), (), (), namespace=space)) for space in ((), ("a",), ("a", "b"), ("a b",), ("a ", "b"))
    }
    assert len(names) == 5
    assert not any(name.startswith("kv ") for name in (*names, MARKER_NAME))
