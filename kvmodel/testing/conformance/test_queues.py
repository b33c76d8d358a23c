"""Queues: what is put can be read everywhere in order, and worked wherever the store can keep two consumers apart."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

import kvmodel as kv
from kvmodel.queue import Message
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.conformance.models import Item, refused
from kvmodel.testing.plugin import Connect

pytestmark = pytest.mark.asyncio

ordered = pytest.mark.kv_requires("ordered")
leasing = pytest.mark.kv_requires("ordered", "conditional")
by_partition = pytest.mark.kv_requires(atomicity=kv.Atomicity.PARTITION)


class Event(kv.QueueModel, table="events", max_attempts=2):
    """A message. Its partitions are those of ``Item``."""

    shelf: str = kv.partition_key()
    text: str = ""


class Spread(kv.QueueModel, table="spread", shards=3):
    """A queue over three partitions."""

    shelf: str = kv.partition_key()
    number: int


async def take(db: kv.Database, *, lease: float = 30) -> Message[Event]:
    """Take the next message."""
    return await anext(Event.objects.using(db).consume("s", lease=lease, wait=False))


async def left(db: kv.Database) -> list[str]:
    """What can still be taken; it is taken."""
    return [message.item.text async for message in Event.objects.using(db).consume("s", wait=False)]


# --- reading ----------------------------------------------------------------------------------------------------------


@ordered
async def test_messages_are_read_in_order(kv_db: kv.Database) -> None:
    """One by one or many at once, they come in the order in which they were put; reading takes nothing away."""
    events = Event.objects.using(kv_db)
    first = await events.put(Event("s", "0"))
    assert await events.put_many(Event("s", f"{number}") for number in range(1, 30)) == 29
    await events.put(Event("another", "x"))

    for _ in range(2):
        assert [event.text async for event in events.read("s")] == [f"{number}" for number in range(30)]
    assert [event.text for event in await events.read("s", after=first.id, limit=3)] == ["1", "2", "3"]
    assert await events.length("s") == 30


@ordered
async def test_messages_of_a_time(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """A range over time is a range over keys: its start is in it, its end is not. The old can be purged."""
    events = Event.objects.using(kv_db)
    moments = []
    for number in range(4):
        moments.append(datetime.fromtimestamp(kv_clock() / 1_000_000, timezone.utc))
        await events.put(Event("s", f"{number}"))
        kv_clock.advance(1)

    assert [event.text for event in await events.between("s", moments[1], moments[3])] == ["1", "2"]
    assert [event.text for event in await events.read("s", settle=1.5)] == ["0", "1", "2"]
    assert await events.purge("s", older_than=timedelta(seconds=2.5)) == 2
    assert [event.text for event in await events.read("s")] == ["2", "3"]


@ordered
async def test_shards_are_merged(kv_db: kv.Database) -> None:
    """A queue over several partitions is read in the order of time."""
    spread = Spread.objects.using(kv_db)
    await spread.put_many(Spread("s", number) for number in range(20))
    await spread.put(Spread("s", 20))

    assert [event.number for event in await spread.read("s")] == list(range(21))
    assert [event.number async for event in spread.read("s", limit=5)] == list(range(5))
    assert await spread.length("s") == 21


# --- working ----------------------------------------------------------------------------------------------------------


@leasing
async def test_a_message_is_worked_once(kv_db: kv.Database, kv_connect: Connect) -> None:
    """It goes to one consumer at a time, and is gone once that one has acknowledged it."""
    other = await kv_connect()
    await Event.objects.using(kv_db).put_many(Event("s", text) for text in "abc")

    one, another = await take(kv_db), await take(other)

    assert (one.item.text, one.attempts, another.item.text) == ("a", 1, "b")
    await one.ack()
    with pytest.raises(kv.Conflict):
        await one.ack()
    assert await left(kv_db) == ["c"]
    await another.ack()
    assert await Event.objects.using(kv_db).length("s") == 1


@leasing
async def test_a_lease_runs_out(kv_db: kv.Database, kv_connect: Connect, kv_clock: VirtualClock) -> None:
    """The message is handed out again, with the attempt counted; who had it can't settle it any more."""
    await Event.objects.using(kv_db).put(Event("s", "a"))
    lost = await take(kv_db, lease=10)
    await lost.extend(20)
    kv_clock.advance(19)
    assert await left(kv_db) == []

    kv_clock.advance(1)
    again = await take(await kv_connect())

    assert again.attempts == 2
    for late in (lost.ack(), lost.nack(), lost.extend()):
        with pytest.raises(kv.Conflict):
            await late
    await again.ack()
    assert await Event.objects.using(kv_db).length("s") == 0


@leasing
async def test_delays(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """A delayed message, or one that is given back with a delay, is seen at once and taken later."""
    events = Event.objects.using(kv_db)
    await events.put(Event("s", "delayed"), delay=10)
    await events.put(Event("s", "returned"))
    await (await take(kv_db)).nack(delay=timedelta(seconds=20))

    assert await left(kv_db) == []
    assert await events.length("s") == 2
    kv_clock.advance(10)
    assert await left(kv_db) == ["delayed"]
    kv_clock.advance(10)
    assert await left(kv_db) == ["returned"]


@leasing
async def test_dead_letters(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """After its last attempt a message waits with the dead letters until it is taken back."""
    events = Event.objects.using(kv_db)
    await events.put_many(Event("s", text) for text in "ab")
    for _ in range(2):
        await (await take(kv_db)).nack()  # "a" dies of this,
    await take(kv_db, lease=1)
    kv_clock.advance(1)
    await take(kv_db, lease=1)
    kv_clock.advance(1)

    assert await left(kv_db) == []  # and "b" of that.
    assert sorted([event.text for event in await events.dead("s")]) == ["a", "b"]
    assert await events.length("s") == 0
    assert await events.redrive("s") == 2
    assert await left(kv_db) == ["a", "b"]
    assert await events.dead("s") == []


@leasing
async def test_consumers_compete(kv_db: kv.Database, kv_connect: Connect) -> None:
    """Several connections with several consumers each work every message once, in one partition or more."""
    databases = [kv_db, await kv_connect(), await kv_connect()]
    await Event.objects.using(kv_db).put_many(Event("s", f"{number}") for number in range(30))
    await Spread.objects.using(kv_db).put_many(Spread("s", number) for number in range(30))
    worked: list[int] = []

    async def work(db: kv.Database) -> None:
        async for message in Event.objects.using(db).consume("s", wait=False, prefetch=2):
            await message.ack()
            worked.append(int(message.item.text))
        async for spread in Spread.objects.using(db).consume("s", wait=False):
            await spread.ack()
            worked.append(30 + spread.item.number)

    async with asyncio.TaskGroup() as group:
        for db in databases * 2:
            group.create_task(work(db))

    assert sorted(worked) == list(range(60))


@leasing
async def test_a_cancelled_consumer_gives_back(kv_db: kv.Database) -> None:
    """Whoever waits stops at once when told to, and a block gives back what it had in hand."""
    await Event.objects.using(kv_db).put(Event("s", "a"))
    begun = asyncio.Event()

    async def work() -> None:
        async with Event.objects.using(kv_db).consume("s") as consumer:
            async for _ in consumer:
                begun.set()

    working = asyncio.ensure_future(work())
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    assert await left(kv_db) == ["a"]


@leasing
async def test_what_is_ahead_costs_nothing(kv_db: kv.Database) -> None:
    """Messages that are leased or done stand in nobody's way."""
    if kv_db.capabilities.leaves_deleted:
        pytest.skip("this store has leaves_deleted: what is done is passed over, at a cost")
    events = Event.objects.using(kv_db)
    await events.put(Event("s", "first"))
    with kv.budget() as alone:
        await (await take(kv_db)).ack()
    await events.put_many(Event("s", f"{number}") for number in range(121))
    ahead = events.consume("s", prefetch=120)
    for number in range(120):
        message = await anext(ahead)
        if number % 2:
            await message.ack()

    with kv.budget() as behind:
        message = await take(kv_db)
        await message.ack()

    assert message.item.text == "120"
    assert behind.round_trips <= alone.round_trips
    assert behind.keys <= alone.keys


@leasing
@by_partition
async def test_work_and_acknowledgement_are_one_commit(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """What a consumer writes in a unit of work is written with the acknowledgement, or not at all."""
    items = Item.objects.using(kv_db)
    await Event.objects.using(kv_db).put(Event("s", "a"))
    lost = await take(kv_db, lease=10)
    kv_clock.advance(10)
    message = await take(kv_db)

    with pytest.raises(kv.Conflict):
        async with kv_db.unit_of_work() as uow:
            uow.put(Item("s", "lost"))
            await lost.ack()
    async with kv_db.unit_of_work() as uow:
        uow.put(Item("s", "done"))
        await message.ack()
        assert await Event.objects.using(kv_db, outside=True).length("s") == 1

    assert [await items.exists("s", name) for name in ("lost", "done")] == [False, True]
    assert await Event.objects.using(kv_db).length("s") == 0


# --- refusals ---------------------------------------------------------------------------------------------------------


@leasing
@pytest.mark.kv_denied(atomicity=kv.Atomicity.PARTITION)
async def test_one_record_at_a_time(kv_db: kv.Database) -> None:
    """A unit of work that would be none is refused, and the message stays in hand."""
    await Event.objects.using(kv_db).put(Event("s", "a"))
    message = await take(kv_db)

    with pytest.raises(kv.Unsupported):
        async with kv_db.unit_of_work():
            await message.ack()

    await message.ack()
    assert await Event.objects.using(kv_db).length("s") == 0


@pytest.mark.kv_denied("ordered", "conditional")
async def test_consuming_is_refused(kv_db: kv.Database) -> None:
    """Where nothing could keep two consumers from one message, none is leased, nor delayed."""
    events = Event.objects.using(kv_db)
    event = await events.put(Event("s", "a"))

    with refused():
        events.consume("s")
    with refused():
        await events.put(Event("s"), delay=1)
    assert await events.get("s", event.id) == event


@pytest.mark.kv_denied("ordered")
async def test_reading_is_refused_without_order(kv_db: kv.Database) -> None:
    """A queue can't be read then."""
    await kv_db.prepare(Event)

    with refused():
        await Event.objects.using(kv_db).read("s")
    with refused():
        await Event.objects.using(kv_db).length("s")
