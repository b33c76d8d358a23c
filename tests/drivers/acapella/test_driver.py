"""Models on AcapellaDB: what others wrote is read, what is written others read, and what goes over the wire for it."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.acapella import AcapellaDriver, IndexField, QueryCondition, Session
from kvmodel.testing.acapella import AcapellaServer
from tests.drivers.rows import condition


class User(kv.Model, table="users"):
    name: str = kv.clustering_key()
    age: int = 0


class Item(kv.Model, table="items"):
    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0


class Pair(kv.Model, table="pairs"):
    one: str = kv.clustering_key()
    other: str = kv.clustering_key()


class Setting(kv.Model, table="settings"):
    name: str = kv.partition_key()
    value: str = ""


class Word(kv.Model, table="words", layout="plain"):
    name: str = kv.clustering_key()
    text: str = kv.field(whole_value=True)


class Number(kv.Model, table="numbers", layout="plain"):
    name: str = kv.clustering_key()
    number: int = kv.field(whole_value=True)


class Event(kv.Model, table="events"):
    day: datetime = kv.partition_key()
    at: tuple[str, int] = kv.clustering_key()
    data: bytes = b""
    price: Decimal = Decimal(0)
    when: datetime | None = None
    id: UUID | None = None


class Person(kv.Model, table="people", store_options={"acapella": {"reindex": True}}):
    club: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0


class Wrong(kv.Model, table="wrong", store_options={"acapella": {"reindex": "yes"}}):
    name: str = kv.clustering_key()


class Down(kv.Model, table="down"):
    shelf: str = kv.partition_key()
    name: str = kv.clustering_key(descending=True)


def requests(server: AcapellaServer) -> list[str]:
    """Method and last segments of what came in."""
    return [f"{seen.method} {seen.path.removeprefix('/acapelladb/v2/')}" for seen in server.seen]


# --- the store's own data ---------------------------------------------------------------------------------------------


async def test_what_others_wrote_is_read(db: kv.Database, session: Session) -> None:
    """``partition=["users"], clustering=["first"]``, value ``{"age": 25}`` is a ``User``; no member, the default."""
    await session.entry(["users"], ["first"]).set({"age": 25})
    await session.entry(["users"], ["second"]).set({})
    await session.entry(["settings", "colour"]).set({"value": "red", "more": [1]})

    assert await User.objects.get("first") == User("first", age=25)
    assert await User.objects.range() == [User("first", age=25), User("second")]
    assert await Setting.objects.get("colour") == Setting("colour", "red")


async def test_what_is_written_others_read(db: kv.Database, session: Session) -> None:
    """The fields, and nothing else; what this program does not know is kept."""
    await User.objects.create(User("first", age=25))
    await session.entry(["settings", "colour"]).set({"value": "red", "more": [1]})
    setting = await Setting.objects.get("colour")
    setting.value = "blue"
    await Setting.objects.save(setting)

    assert (await session.get_entry(["users"], ["first"])).value == {"age": 25}
    assert (await session.get_entry(["settings", "colour"])).value == {"value": "blue", "more": [1]}


async def test_whole_values(db: kv.Database, session: Session) -> None:
    """One field is the stored value itself."""
    await Word.objects.save(Word("w", "value 1"))
    await session.entry(["numbers"], ["n"]).set(7)

    assert (await session.get_entry(["words"], ["w"])).value == "value 1"
    assert await Number.objects.get("n") == Number("n", 7)


async def test_types_that_json_lacks(db: kv.Database, session: Session) -> None:
    """In keys and in values they have the documented texts."""
    moment = datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone.utc)
    event = Event(moment, ("a:b", -1), b"\0", Decimal("1.50"), moment, UUID(int=7))
    await Event.objects.create(event)

    (entry,) = await session.range(["events", "20240229T010203.000004Z"])
    assert entry.clustering == ["tba-3Ab--dmz8--".replace("-3A", "93A")]
    assert entry.value == {
        "data": "AA==",
        "price": "1.50",
        "when": "2024-02-29T01:02:03.000004Z",
        "id": "00000000-0000-0000-0000-000000000007",
    }
    assert await Event.objects.get(moment, ("a:b", -1)) == event


@pytest.mark.parametrize("part", ["", ".", ".."])
async def test_parts_that_no_path_takes(db: kv.Database, server: AcapellaServer, part: str) -> None:
    """An empty text, and lone dots, are refused before anything is sent, in every place; as bounds they will do."""
    objs: list[Any] = [User(part), Item(part, "a"), Item("a", part), Setting(part)]
    for obj in objs:
        with pytest.raises(kv.ValidationError):
            await type(obj).objects.save(obj)
        with pytest.raises(kv.ValidationError):
            await type(obj).objects.using(db).find(*[part, "a"][: 1 if not isinstance(obj, Item) else 2])
    assert server.seen == []
    await User.objects.save(User("a"))

    assert await User.objects.range(first=part) == [User("a")]
    assert await User.objects.range(first=part, last=part) == []
    assert await User.objects.range(prefix=(part,)) == []
    await Pair.objects.save_many([Pair("a", "x"), Pair("a", "y"), Pair("b", "x")])
    assert len(await Pair.objects.range(first=("a", part))) == 3
    assert await Pair.objects.range(last=("a", part)) == []
    assert await Pair.objects.range(after=("b", part)) == [Pair("b", "x")]
    with pytest.raises(kv.ValidationError):
        await User.objects.using(db.namespace("..")).find("a")


async def test_namespaces_come_before_the_table(server: AcapellaServer, session: Session) -> None:
    """User and keyspace, as the store's accounts and indexes want them."""
    async with kv.connect(f"{server.url}?namespace=user/keyspace") as db:
        await User.objects.using(db).create(User("first", 25))

    assert (await session.get_entry(["user", "keyspace", "users"], ["first"])).value == {"age": 25}


async def test_a_wrong_type_is_told(db: kv.Database, session: Session) -> None:
    """``DecodingError`` names table, key and field; a row whose key is another's too."""
    await session.entry(["users"], ["first"]).set({"age": "25"})
    with pytest.raises(kv.DecodingError) as caught:
        await User.objects.get("first")
    assert (caught.value.table, caught.value.key) == ("users", ("first",))

    await session.entry(["users"], ["first"]).set(7)
    with pytest.raises(kv.DecodingError):
        await User.objects.get("first")
    await session.entry(["users"], ["a", "b"]).set({"age": 1})
    with pytest.raises(kv.DecodingError):
        await User.objects.range(last="a\1")


async def test_versions_are_the_stores(db: kv.Database, session: Session) -> None:
    """Numbers, which go on after a deletion."""
    user = await User.objects.create(User("first"))
    assert kv.version(user) == "i1"
    await User.objects.delete(user)
    assert kv.version(await User.objects.create(User("first"))) == "i3"
    assert await session.get_version(["users"], ["first"]) == 3


# --- ranges -----------------------------------------------------------------------------------------------------------


async def test_deleted_rows_do_not_count(db: kv.Database, server: AcapellaServer) -> None:
    """Ranges still show them: they are passed over, and a limit is kept."""
    await Item.objects.save_many(Item("s", f"{number:03}") for number in range(300))
    for number in range(250):
        await Item.objects.delete("s", f"{number:03}")
    server.seen.clear()

    assert [item.name for item in await Item.objects.range("s", limit=2)] == ["250", "251"]
    assert len(server.seen) <= 6
    assert await Item.objects.range("s").count() == 50
    assert [item.name async for item in Item.objects.range("s", limit=51)] == [
        f"{number}" for number in range(250, 300)
    ]
    page = await Item.objects.range("s").page(49)
    assert page.next_token is not None
    assert [item.name for item in (await Item.objects.range("s").page(49, page.next_token)).items] == ["299"]
    assert await Item.objects.range("s", last="100") == []


async def test_a_server_that_hides_deleted_rows() -> None:
    """Gives the same."""
    async with AcapellaServer(hides_deleted=True) as server, kv.connect(server.url) as db:
        await Item.objects.using(db).save_many(Item("s", f"{number}") for number in range(9))
        await Item.objects.using(db).delete("s", "0")

        assert [item.name for item in await Item.objects.using(db).range("s", limit=1)] == ["1"]
        assert await Item.objects.using(db).create(Item("s", "0")) == Item("s", "0")


async def test_an_included_first_key_costs_one_read(db: kv.Database, server: AcapellaServer) -> None:
    """The server leaves it out; ``explain()`` shows the read. A shorter bound, and ``after``, cost none."""
    await User.objects.save_many([User(name) for name in "abc"])
    server.seen.clear()
    query = User.objects.range(first="b", limit=2)

    plan = query.explain()
    with kv.budget(round_trips=plan.round_trips, keys=plan.keys):
        assert [user.name for user in await query] == ["b", "c"]
    assert (plan.round_trips, plan.keys) == (2, 3)
    assert "'b'" in str(plan)
    assert requests(server) == ["GET kv/partition/users/clustering/b", "GET kv/partition/users"]

    for cheap in (User.objects.range(after="a", limit=2), User.objects.range(limit=2), User.objects.range(last="b")):
        server.seen.clear()
        assert len(await cheap) == 2
        assert len(server.seen) == 1
    assert User.objects.range(after="a", limit=2).explain().round_trips == 1
    server.seen.clear()
    assert [user.name for user in await User.objects.range(first="b", last="b")] == ["b"]
    assert requests(server) == ["GET kv/partition/users/clustering/b"]


async def test_backwards_by_the_remedy(db: kv.Database) -> None:
    """A descending key reads backwards as a plain range; without, it has a price that has to be allowed."""
    await Down.objects.save_many([Down("s", name) for name in ("a", "a!", "b", "é")])
    await User.objects.save_many([User(name) for name in "abc"])

    assert [each.name for each in await Down.objects.range("s", limit=3)] == ["é", "b", "a!"]
    assert [each.name for each in await Down.objects.range("s", first="b", last="a")] == ["b", "a!", "a"]
    with pytest.raises(kv.Unsupported, match="descending"):
        await User.objects.range(reverse=True)
    query = User.objects.range(first="a", before="c", reverse=True, limit=1, allow_costly=True)
    assert await query == [User("b")]
    assert "forwards" in str(query.explain())
    found = [user.name async for user in User.objects.range(reverse=True, allow_costly=True)]
    assert found == ["c", "b", "a"]


async def test_large_rows_come_in_small_pages(server: AcapellaServer) -> None:
    """A reply that would be too long is asked for in parts."""
    async with kv.connect(f"{server.url}?max_reply_bytes=64KiB") as db:
        objects = Setting.objects.using(db)
        word = Word.objects.using(db)
        await word.save_many([Word(f"{number:02}", "x" * 10_000) for number in range(30)])
        await objects.save(Setting("a"))

        assert len(await word.range()) == 30
        assert await word.range().count() == 30


# --- writing ----------------------------------------------------------------------------------------------------------


async def test_one_partition_is_one_batch(db: kv.Database, server: AcapellaServer) -> None:
    """With a version for each item, and nothing else on the wire."""
    await Item.objects.save_many([Item("s", "a", 1), Item("s", "b", 1)])
    async with db.unit_of_work() as uow:
        (await Item.objects.get("s", "a")).count = 2
        uow.delete(await Item.objects.get("s", "b"))
        uow.add(Item("s", "c", 3))
        uow.put(Item("s", "d", 4))
        server.seen.clear()

    (seen,) = server.seen
    assert (seen.method, seen.path) == ("PUT", "/acapelladb/v2/kv/partition/items:s")
    assert json.loads(seen.body) == [
        {"key": ["a"], "value": {"count": 2}, "version": 1},
        {"key": ["b"], "value": None, "version": 1},
        {"key": ["c"], "value": {"count": 3}, "version": 0},
        {"key": ["d"], "value": {"count": 4}, "version": None},
    ]


async def test_several_partitions_are_one_transaction(db: kv.Database, server: AcapellaServer) -> None:
    """Every row is read with ``watch`` in the order of keys, then written, then all of it committed."""
    await Item.objects.save_many([Item("s", "a", 1), Item("r", "b", 1)])
    async with db.unit_of_work() as uow:
        (await Item.objects.get("s", "a")).count = 2
        uow.add(Item("t", "c", 3))
        (await Item.objects.get("r", "b")).count = 5
        server.seen.clear()

    def row(shelf: str, name: str) -> str:
        return f"kv/partition/items:{shelf}/clustering/{name}"

    rows = [row("r", "b"), row("s", "a"), row("t", "c")]
    assert requests(server) == [
        "POST tx",
        *(f"GET {each}" for each in rows),
        *(f"PUT {each}" for each in rows),
        "POST tx/1/commit",
    ]
    assert all("watch=True" in seen.query for seen in server.seen if seen.method == "GET")
    assert all("transaction=1" in seen.query for seen in server.seen if seen.method in ("GET", "PUT"))
    assert [(await Item.objects.get(*key)).count for key in (("s", "a"), ("r", "b"), ("t", "c"))] == [2, 5, 3]


async def test_what_is_only_checked_takes_a_transaction(db: kv.Database, server: AcapellaServer) -> None:
    """A batch cannot check a row that it does not change."""
    await Item.objects.save_many([Item("s", "a", 1), Item("s", "b", 1)])
    async with db.unit_of_work() as uow:
        await Item.objects.get("s", "a")
        uow.add(Item("s", "c"))
        server.seen.clear()
    assert requests(server)[0] == "POST tx"

    uow = await db.unit_of_work().begin()
    await Item.objects.get("s", "a")
    uow.add(Item("s", "d"))
    await Item.objects.using(db, outside=True).update("s", "a", count=9)
    with pytest.raises(kv.Conflict) as caught:
        await uow.commit()
    assert caught.value.keys == (("items", ("s", "a")),)
    assert server.store.open_transactions == 0
    assert not await Item.objects.exists("s", "d")


async def test_a_lock_that_times_out_is_a_conflict(db: kv.Database, session: Session) -> None:
    """Nothing was written, and the transaction is gone."""
    await Item.objects.save(Item("s", "a", 1))
    async with session.transaction() as tx:
        await tx.get_entry(["items", "s"], ["a"], watch=True)

        uow = await db.unit_of_work().begin()
        uow.add(Item("r", "new"))
        (await Item.objects.get("s", "a")).count = 2
        with pytest.raises(kv.Conflict) as caught:
            await uow.commit()

    assert caught.value.keys == (("items", ("s", "a")),)
    assert not await Item.objects.exists("r", "new")


async def test_a_transaction_never_waits_for_those_that_wait_for_it(server: AcapellaServer) -> None:
    """Writes that a lock holds up may have taken all connections: its owner goes on all the same."""
    server.lock_timeout = 30
    async with kv.connect(server.url, connections=2) as db:
        await Item.objects.save(Item("s", "a", 1))
        assert isinstance(db.native, Session)
        tx = await db.native.transaction_manual()
        await tx.get_entry(["items", "s"], ["a"], watch=True)
        server.seen.clear()

        waiting = [asyncio.create_task(Item.objects.save(Item("s", "a", number))) for number in range(5)]
        await condition(lambda: len(server.seen) == 2)
        await tx.keep_alive()
        assert server.store.open_transactions == 1
        await tx.commit()

        assert len(await asyncio.gather(*waiting)) == 5


async def test_transactions_are_bounded_like_connections(server: AcapellaServer) -> None:
    """Their requests have connections of their own, so there are no more of them at once than that."""
    server.lock_timeout = 30
    async with kv.connect(server.url, connections=2) as db:
        await Item.objects.save(Item("s", "a", 1))
        most = 0

        async def add(number: int) -> None:
            nonlocal most
            async with db.unit_of_work(verify=True) as uow:
                await Item.objects.get("s", "a")
                uow.add(Item("r", f"{number}"))
            most = max(most, server.store.open_transactions)

        assert isinstance(db.native, Session)
        lock = await db.native.transaction_manual()
        await lock.get_entry(["items", "s"], ["a"], watch=True)
        tasks = [asyncio.create_task(add(number)) for number in range(6)]
        await condition(lambda: server.store.open_transactions == 3)
        await lock.rollback()
        await asyncio.gather(*tasks)

        assert most <= 2


async def test_a_free_key_may_have_been_used_before(db: kv.Database, server: AcapellaServer) -> None:
    """A deleted row keeps its version: ``create`` looks at what refused it, alone, in a batch and in a transaction."""
    for shelf in "st":
        await Item.objects.save(Item(shelf, "a"))
        await Item.objects.delete(shelf, "a")
    server.seen.clear()

    await Item.objects.create(Item("s", "a", 1))
    assert [each.split()[0] for each in requests(server)] == ["PUT", "GET", "PUT"]
    await Item.objects.delete("s", "a")
    async with db.unit_of_work() as uow:
        uow.add(Item("s", "a", 2), Item("s", "b", 2))
    await Item.objects.delete("s", "a")
    async with db.unit_of_work() as uow:
        uow.add(Item("s", "a", 3), Item("t", "a", 3))

    assert [(await Item.objects.get(*key)).count for key in (("s", "a"), ("s", "b"), ("t", "a"))] == [3, 2, 3]
    with pytest.raises(kv.AlreadyExists) as caught:
        async with db.unit_of_work() as uow:
            uow.add(Item("s", "new"), Item("s", "a"))
    assert caught.value.keys == (("items", ("s", "a")),)
    assert not await Item.objects.exists("s", "new")


async def test_a_batch_tells_what_became_of_each(db: kv.Database, server: AcapellaServer) -> None:
    """One conflict refuses a partition's request; what else is in it is written all the same."""
    stale = await Item.objects.create(Item("s", "stale"))
    await Item.objects.update("s", "stale", count=5)
    batch = db.batch()
    batch.put(stale, Item("s", "a"), Item("s", "b"), Item("t", "c"))

    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    statuses = [outcome.status for outcome in caught.value.outcomes]
    assert statuses == [kv.Status.CONFLICT, kv.Status.WRITTEN, kv.Status.WRITTEN, kv.Status.WRITTEN]
    assert [item.name for item in await Item.objects.range("s")] == ["a", "b", "stale"]


async def test_foreign_tokens_are_a_conflict(db: kv.Database, server: AcapellaServer) -> None:
    """A version that this store never gives out is nobody's."""
    await Item.objects.save(Item("s", "a"))

    with pytest.raises(kv.Conflict):
        await Item.objects.save(Item("s", "a", 9), if_version="sxyz")

    assert (await Item.objects.get("s", "a")).count == 0


async def test_writes_that_are_indexed(db: kv.Database, server: AcapellaServer, session: Session) -> None:
    """A model says so in its class line; then every one of its writes brings the indexes up to date."""
    index = session.partition_index(["u", "k", "people", "p"])
    await index.set_index(1, [IndexField("age", "number")])
    people = Person.objects.using(db.namespace("u/k"))
    await people.create(Person("p", "ada", 36))
    await people.save_many([Person("p", "bob", 25), Person("p", "eve", 36)])
    async with db.unit_of_work() as uow:
        bob = await Person.objects.using(db.namespace("u/k")).get("p", "bob")
        bob.age = 36
        await Person.objects.using(db.namespace("u/k")).create(Person("q", "zoe", 36))
    assert uow is not None

    found = await index.query({"age": QueryCondition(eq=36)})
    assert [entry.clustering for entry in found] == [["ada"], ["bob"], ["eve"]]
    with pytest.raises(kv.SchemaError):
        await db.prepare(Wrong)


async def test_units_that_cross_do_not_wait_for_each_other(db: kv.Database) -> None:
    """Locks are taken in the order of keys, so that of two units that meet one goes first and the other one sees it."""
    await Item.objects.save_many([Item("s", "a"), Item("t", "a")])

    async def transfer(first: str, second: str) -> None:
        async def work(uow: kv.UnitOfWork) -> None:
            (await Item.objects.get(first, "a")).count += 1
            (await Item.objects.get(second, "a")).count += 1

        await db.transact(work)

    await asyncio.gather(*(transfer(*pair) for pair in [("s", "t"), ("t", "s")] * 5))

    assert [(await Item.objects.get(shelf, "a")).count for shelf in "st"] == [10, 10]


# --- what it claims ---------------------------------------------------------------------------------------------------


async def test_capabilities(server: AcapellaServer) -> None:
    """A majority of replicas confirms a write, unless the connection says otherwise."""
    async with kv.connect(server.url) as db:
        assert db.capabilities == AcapellaDriver.capabilities
        assert db.capabilities.atomicity is kv.Atomicity.STORE
    async with kv.connect(f"{server.url}?n=1&r=1&w=1") as db:
        assert db.capabilities.durability is kv.Durability.PROCESS
    async with kv.connect(f"{server.url}?n=5&r=1&w=2&max_value_bytes=1MiB") as db:
        assert (db.capabilities.durability, db.capabilities.failover_may_lose) == (kv.Durability.PROCESS, True)
        assert db.capabilities.max_value_bytes == 1 << 20


async def test_denials(db: kv.Database, server: AcapellaServer) -> None:
    """What the store cannot do is refused before a byte is sent."""
    await User.objects.save(User("a"))
    server.seen.clear()

    with pytest.raises(kv.Unsupported, match="expire"):
        await User.objects.save(User("b"), expires_in=timedelta(seconds=1))
    with pytest.raises(kv.Unsupported, match="whole table"):
        await User.objects.scan()
    with pytest.raises(kv.Unsupported, match="watch"):
        async for _ in Item.objects.watch("s"):
            pass
    async with db.unit_of_work():
        with pytest.raises(kv.Unsupported, match="unchecked"):
            await User.objects.range()

    assert server.seen == []


async def test_connecting(server: AcapellaServer) -> None:
    """Host, port, prefix, account and quorum stand in the URL; where it is reached, and by whom, is told at once."""
    async with kv.connect(f"{server.url}?n=5&r=3&w=4") as db:
        await User.objects.using(db).find("a")
        assert server.seen[-1].query.startswith("n=5&r=3&w=4")
    async with kv.connect(f"acapella://127.0.0.1:{server.port}") as db:
        assert db.native.store.endswith("/acapelladb")  # type: ignore[attr-defined]
    with pytest.raises(kv.StoreError, match="path"):
        await kv.connect(f"acapella://127.0.0.1:{server.port}/other")
    with pytest.raises(kv.Unavailable):
        await kv.connect("acapella://127.0.0.1:1/acapelladb")
    async with AcapellaServer(prefix="") as bare:
        for url in (bare.url, f"acapella://127.0.0.1:{bare.port}"):
            async with kv.connect(url) as db:
                assert await User.objects.using(db).find("a") is None


async def test_connecting_with_an_account() -> None:
    """Refused credentials, and none where some are wanted, are told apart from all else; no message has a password."""
    async with AcapellaServer(accounts={"user": "s3cret/:@"}) as server:
        host = f"127.0.0.1:{server.port}/acapelladb"
        async with kv.connect(f"acapella://user:s3cret%2F%3A%40@{host}") as db:
            await User.objects.using(db).save(User("a"))
            assert "s3cret" not in f"{db!r} {db.native!r}"
        for account in ("", "user:wr0ng@", "other@"):
            with pytest.raises(kv.AuthenticationFailed) as caught:
                await kv.connect(f"acapella://{account}{host}")
            assert "wr0ng" not in f"{caught.value!r}{caught.value}"


@pytest.mark.parametrize(
    "url",
    [
        "acapella://h/a?n=0",
        "acapella://h/a?n=1",
        "acapella://h/a?r=4",
        "acapella://h/a?w=x",
        "acapella://h/a?keep_alive=0",
        "acapella://h/a?nope=1",
        "acapella://h/a b",
        "acapella://h/a#b",
        "acapella://:p@h/a",
    ],
)
async def test_urls_are_checked(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(kv.ValidationError):
        await kv.connect(url)


async def test_native_is_the_session(db: kv.Database) -> None:
    """Of the same connections and account."""
    assert isinstance(db.native, Session)
    await db.native.entry(["users"], ["a"]).set({"age": 1})
    assert await User.objects.get("a") == User("a", 1)


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_watching_one_record(db: kv.Database, server: AcapellaServer) -> None:
    """Through the long poll, for as long as nothing happens; deleting what is deleted is no change."""
    await User.objects.save(User("a", 1))
    async with User.objects.watch("a") as changes:
        waiting = asyncio.create_task(anext(changes))
        await condition(lambda: "waitVersion=1" in server.seen[-1].query)
        await User.objects.save(User("a", 2))
        change = await waiting
        assert (change.kind, change.old, change.new) == (kv.ChangeKind.CHANGED, User("a", 1), User("a", 2))

        await User.objects.delete("a")
        assert (await anext(changes)).kind is kv.ChangeKind.DELETED
        waiting = asyncio.create_task(anext(changes))
        for version in (3, 4):
            await condition(lambda: f"waitVersion={version}" in server.seen[-1].query)  # noqa: B023 - awaited here
            await (User.objects.delete("a") if version == 3 else User.objects.save(User("a", 3)))
        change = await waiting
        assert (change.kind, change.old, change.new) == (kv.ChangeKind.CREATED, None, User("a", 3))


async def test_a_watch_that_meets_damage_goes_on(db: kv.Database, session: Session) -> None:
    """What is no record of the model is told as such; what comes behind it is told too."""
    async with User.objects.watch("a") as changes:
        await session.entry(["users"], ["a"]).set({"age": "x"})
        with pytest.raises(kv.DecodingError):
            await anext(changes)
        await User.objects.save(User("a", 3))
        assert (await anext(changes)).new == User("a", 3)


def test_capabilities_are_data() -> None:
    """The class holds the best case."""
    claimed = attrs.asdict(AcapellaDriver.capabilities)

    assert claimed["watch"] is kv.Watch.RECORD
    assert claimed["expiry"] is kv.Expiry.NONE
    assert (claimed["catalogue"], claimed["empty_texts"], claimed["leaves_deleted"]) == (False, False, True)
