"""What goes wrong on the way: connections that are cut, answers that don't come, parts that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import kvmodel as kv
from kvmodel.testing.picodata import LocalPicodata, Mishap, PostgresServer, Refusal
from tests.drivers.picodata.helpers import Item, native, statements
from tests.drivers.rows import condition


@pytest.fixture
async def cluster(postgres: PostgresServer) -> AsyncIterator[LocalPicodata]:
    """One node, whose mishaps are those of the next statements."""
    async with LocalPicodata(1, postgres=postgres) as cluster:
        yield cluster


def next_time(cluster: LocalPicodata, **mishap: object) -> None:
    """Let something go wrong with the next statement."""
    cluster.nodes[0].mishaps.append(Mishap(**mishap))  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_read_is_sent_again(cluster: LocalPicodata, db: kv.Database, when: str) -> None:
    """When the connection is cut, before or after."""
    await Item.objects.save(Item("s", "a", 3))
    next_time(cluster, **{when: True}, matches="SELECT")

    assert (await Item.objects.get("s", "a")).count == 3


async def test_a_write_whose_answer_was_lost_is_found_by_its_stamp(cluster: LocalPicodata, db: kv.Database) -> None:
    """It was done, and the caller gets its version: for one record, for a unit of work, for a batch."""
    objects = Item.objects
    await db.prepare(Item)
    next_time(cluster, after=True)
    made = await objects.create(Item("s", "a", 1))
    assert kv.version(made) == kv.version(await objects.get("s", "a"))

    next_time(cluster, after=True)
    await objects.save(Item("s", "b", 2))
    made.count = 7
    next_time(cluster, after=True)
    await objects.save(made)
    assert (await objects.get("s", "a")).count == 7

    next_time(cluster, after=True, matches="DO $$")
    async with db.unit_of_work() as uow:
        (await objects.get("s", "a")).count = 8
        uow.add(Item("s", "c"))
    next_time(cluster, after=True)
    assert await objects.save_many([Item("s", f"{number}") for number in range(3)]) == 3
    assert await objects.range("s").count() == 6


async def test_a_conditional_write_that_was_not_done_is_sent_again(cluster: LocalPicodata, db: kv.Database) -> None:
    """It relies on a version that is still there, so that it can be done only once, however often it arrives."""
    made = await Item.objects.create(Item("s", "a", 1))
    made.count = 2
    next_time(cluster, before=True)
    await Item.objects.save(made)
    assert (await Item.objects.get("s", "a")).count == 2

    next_time(cluster, before=True, matches="DO $$")
    async with db.unit_of_work() as uow:
        (await Item.objects.get("s", "a")).count = 3
        uow.add(Item("s", "b"))
    assert (await Item.objects.get("s", "a")).count == 3


@pytest.mark.parametrize("call", ["create", "save", "delete", "batch", "unit"])
async def test_what_cannot_be_known_is_said_so(cluster: LocalPicodata, db: kv.Database, call: str) -> None:
    """The server may still be at it, as no request can be cancelled: never a blind second attempt."""
    objects = Item.objects
    await objects.save(Item("s", "there", 1))
    cluster.nodes[0].statements.clear()
    next_time(cluster, before=True)

    if call == "batch":
        with pytest.raises(kv.BatchError) as failed:
            await objects.save_many([Item("s", "a"), Item("s", "b")])
        assert {outcome.status.name for outcome in failed.value.outcomes} == {"UNKNOWN"}
    else:
        with pytest.raises(kv.OutcomeUnknown):
            if call == "create":
                await objects.create(Item("s", "a"))
            elif call == "save":
                await objects.save(Item("s", "a"))
            elif call == "delete":
                await objects.delete("s", "there")
            else:
                async with db.unit_of_work() as uow:
                    uow.add(Item("s", "a"))
                    uow.add(Item("s", "b"))
    changing = [text for text in statements(cluster) if "INSERT" in text or "DELETE" in text]
    assert len(changing) == 1
    assert await objects.range("s").count() == 1


async def test_content_versions_are_not_looked_up(cluster: LocalPicodata, db: kv.Database) -> None:
    """Without a stamp nothing tells whose write it was."""
    await native(db).execute('CREATE TABLE "old" ("id" INTEGER NOT NULL, "a" TEXT, PRIMARY KEY ("id"))')

    class Old(kv.Model, table="old"):
        id: int = kv.partition_key()
        a: str = ""

    loaded = await Old.objects.create(Old(1, "x"))
    loaded.a = "y"
    next_time(cluster, after=True)
    with pytest.raises(kv.OutcomeUnknown):
        await Old.objects.save(loaded)


async def test_a_lost_race_after_a_lost_answer(cluster: LocalPicodata, db: kv.Database) -> None:
    """Somebody else wrote meanwhile: nobody knows, and that is said."""
    made = await Item.objects.create(Item("s", "a", 1))
    async with kv.connect(cluster.url) as other:
        held = asyncio.Event()
        next_time(cluster, hold=held, before=True, matches="UPDATE")
        made.count = 2
        saving = asyncio.ensure_future(Item.objects.using(db).save(made))
        await condition(lambda: not cluster.nodes[0].mishaps)
        await Item.objects.using(other).update("s", "a", count=9)
        held.set()
        with pytest.raises(kv.OutcomeUnknown):
            await saving
        assert (await Item.objects.using(other).get("s", "a")).count == 9


async def test_answers_that_do_not_come(cluster: LocalPicodata, db: kv.Database) -> None:
    """Reads are ``TimedOut``, writes ``OutcomeUnknown``; the connection is dropped, and nobody gets the late answer."""
    await Item.objects.save_many([Item("s", "a", 1), Item("s", "b", 2)])
    never = asyncio.Event()
    for error, matches in ((kv.TimedOut, "SELECT"), (kv.OutcomeUnknown, "INSERT")):
        next_time(cluster, stall=never, matches=matches)
        before = cluster.nodes[0].accepted
        with kv.timeout(0.1), pytest.raises(error):
            if error is kv.TimedOut:
                await Item.objects.get("s", "a")
            else:
                await Item.objects.save(Item("s", "c"))
        assert (await Item.objects.get("s", "b")).count == 2
        assert cluster.nodes[0].accepted == before + 1
    never.set()


async def test_a_cancelled_write_may_have_happened(cluster: LocalPicodata, db: kv.Database) -> None:
    """``OutcomeUnknown``, and later statements are answered by a fresh connection."""
    await db.prepare(Item)
    held = asyncio.Event()
    next_time(cluster, hold=held, matches="INSERT")
    task = asyncio.ensure_future(Item.objects.save(Item("s", "a")))
    await condition(lambda: not cluster.nodes[0].mishaps)
    task.cancel()
    with pytest.raises(kv.OutcomeUnknown) as caught:
        await task
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    held.set()
    next_time(cluster, hold=(held := asyncio.Event()), matches="SELECT")
    reading = asyncio.ensure_future(Item.objects.range("s").count())
    await condition(lambda: not cluster.nodes[0].mishaps)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    held.set()
    assert await Item.objects.range("s").count() in (0, 1)


async def test_a_batch_of_which_a_part_fails(cluster: LocalPicodata, db: kv.Database) -> None:
    """One INSERT over several buckets is no transaction: who was written is found out, the others are unknown."""
    await db.prepare(Item)
    next_time(cluster, partial=True, matches="INSERT")

    with pytest.raises(kv.BatchError) as failed:
        await Item.objects.save_many([Item("s", "a"), Item("t", "b"), Item("s", "c")])

    assert [outcome.status.name for outcome in failed.value.outcomes] == ["WRITTEN", "UNKNOWN", "WRITTEN"]
    assert sorted(item.name for item in await Item.objects.scan()) == ["a", "c"]


async def test_pages_shrink_to_the_limits_of_the_server(cluster: LocalPicodata, db: kv.Database) -> None:
    """Fewer rows first; where even those are too many, the statement asks for more than it is granted by itself."""
    await Item.objects.save_many([Item("s", f"{number:04}", number) for number in range(600)])
    options = {"server_settings": {"options": "sql_motion_row_max=40"}}
    async with kv.connect(cluster.url, connect_kwargs=options) as small:
        assert len(await Item.objects.using(small).range("s")) == 600
        assert await Item.objects.using(small).range("s").count() == 600
        assert not any("LIMIT" in text and "OPTION" in text for text in statements(cluster))
        assert sum("LIMIT" in text for text in statements(cluster)) == 2 + 600 // 25 + 1
    options = {"server_settings": {"options": "sql_vdbe_opcode_max=20"}}
    async with kv.connect(cluster.url, connect_kwargs=options) as tiny:
        assert len(await Item.objects.using(tiny).range("s")) == 600
        assert any("LIMIT 100 OPTION" in text for text in statements(cluster))


async def test_a_node_that_may_not_write(cluster: LocalPicodata, db: kv.Database) -> None:
    """What the store refuses is an error of kvmodel, with the store's own words as its cause."""
    await db.prepare(Item)
    for words, error in (
        ("Can't modify data on a read-only instance", kv.Unavailable),
        ("Write access to space 'items' is denied for user 'x'", kv.StoreError),
        ("Tuple is too large for memtx: 2 MiB", kv.TooLarge),
    ):
        next_time(cluster, refusal=Refusal("XX000", words))
        with pytest.raises(error) as caught:
            await Item.objects.create(Item("s", "a"))
        assert words in str(caught.value.__cause__)


async def test_a_router_that_is_behind_is_asked_again(cluster: LocalPicodata, db: kv.Database) -> None:
    """The storage refused before it did anything."""
    await db.prepare(Item)
    next_time(cluster, refusal=Refusal("XX000", "storage schema version different from router"))
    await Item.objects.create(Item("s", "a"))


async def test_many_cuts(cluster: LocalPicodata, db: kv.Database) -> None:
    """Under a stream of cuts nothing that was acknowledged is missing, and nothing that was refused is there."""
    await db.prepare(Item)
    done, unknown = set(), set()
    for number in range(60):
        if number % 3 == 0:
            next_time(cluster, **{"before" if number % 2 else "after": True}, matches="DO $$")
        try:
            await Item.objects.create(Item("s", f"{number:02}"))
            done.add(f"{number:02}")
        except kv.OutcomeUnknown:
            unknown.add(f"{number:02}")

    found = {item.name for item in await Item.objects.range("s")}
    assert done <= found <= done | unknown
    assert len(unknown) == 10


async def test_a_batch_of_one_partition_that_fails(cluster: LocalPicodata, db: kv.Database) -> None:
    """One node refused it as a whole: that is certain, and said so."""
    await db.prepare(Item)
    next_time(cluster, refusal=Refusal("XX000", "out of memory"), matches="INSERT")

    with pytest.raises(kv.BatchError) as failed:
        await Item.objects.save_many([Item("s", "a"), Item("s", "b")])

    assert [outcome.status.name for outcome in failed.value.outcomes] == ["FAILED", "FAILED"]
    assert "out of memory" in str(failed.value.outcomes[0].error.__cause__ if failed.value.outcomes[0].error else "")


async def test_calls_of_the_pool_end_by_their_time(cluster: LocalPicodata, db: kv.Database) -> None:
    """A statement that is out of time takes its connection with it."""
    pool = native(db)
    never = asyncio.Event()
    next_time(cluster, stall=never, matches="SELECT")
    before = cluster.nodes[0].accepted

    with pytest.raises(kv.OutcomeUnknown):
        await pool.fetch("SELECT name FROM _pico_tier", timeout=0.1)
    assert len(await pool.fetch("SELECT name FROM _pico_tier")) == 1
    assert cluster.nodes[0].accepted == before + 1
    never.set()
