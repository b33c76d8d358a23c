"""Queues in units of work: put and acknowledge with everything else, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import kvmodel as kv
from tests.queue.models import Clock, Event, Result, Wide, drain, take


async def test_an_acknowledgement_commits_with_the_consumers_writes(db: kv.Database) -> None:
    """One write for both."""
    await Event.objects.put(Event("q", "a"))
    await db.prepare(Result)
    message = await take()

    with kv.budget(round_trips=1):
        async with db.unit_of_work() as uow:
            uow.add(Result("q", message.item.data, 1))
            await message.ack()

    assert await Event.objects.length("q") == 0
    assert await Result.objects.exists("q", "a")
    with pytest.raises(kv.Conflict):
        await message.ack()


async def test_a_unit_that_fails_acknowledges_nothing(db: kv.Database) -> None:
    """The message stays in the consumer's hands, who can still do it, or give it back."""
    await Event.objects.put(Event("q", "a"))
    message = await take()

    with pytest.raises(ZeroDivisionError):
        async with db.unit_of_work() as uow:
            uow.add(Result("q", "a"))
            await message.ack()
            _ = 1 / 0

    assert await Result.objects.find("q", "a") is None
    await message.nack()
    assert (await take()).attempts == 2


async def test_a_lost_lease_fails_the_unit(db: kv.Database, clock: Clock) -> None:
    """Work that somebody else has taken over is not written: exactly one of them commits."""
    await Event.objects.put(Event("q", "a"))
    slow = await take(lease=5)
    clock.advance(5)
    quick = await take()

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            uow.put(Result("q", "a", 1))
            await slow.ack()
    async with db.unit_of_work() as uow:
        uow.put(Result("q", "a", 2))
        await quick.ack()

    assert (await Result.objects.get("q", "a")).count == 2
    assert await Event.objects.length("q") == 0


async def test_a_unit_that_loses_another_race_keeps_the_lease(db: kv.Database) -> None:
    """The consumer's own conflict is no reason to lose the message."""
    await Event.objects.put(Event("q", "a"))
    await Result.objects.create(Result("q", "a"))
    message = await take()

    async def work(uow: kv.UnitOfWork) -> None:
        result = await Result.objects.get("q", "a")
        if not result.count:
            await Result.objects.using(db, outside=True).update("q", "a", count=10)
        result.count += 1
        await message.ack()

    await db.transact(work)

    assert (await Result.objects.get("q", "a")).count == 11
    assert await Event.objects.length("q") == 0


async def test_put_joins(db: kv.Database) -> None:
    """Put at the commit, seen by the unit before, and by nobody if it fails."""
    outside = Event.objects.using(db, outside=True)
    async with db.unit_of_work():
        event = await Event.objects.put(Event("q", "a"))
        await Event.objects.put(Event("q", "late"), delay=60)
        assert await Event.objects.put_many([Event("q", "b"), Event("q", "c")]) == 2
        assert await Event.objects.get("q", event.id) is event
        assert await outside.length("q") == 0
    assert await outside.length("q") == 4

    with pytest.raises(ZeroDivisionError):
        async with db.unit_of_work():
            await Event.objects.put(Event("q", "never"))
            _ = 1 / 0

    assert await drain() == ["a", "b", "c"]
    assert await Event.objects.length("q") == 1


async def test_a_chain_of_queues(db: kv.Database) -> None:
    """A step that takes from one queue and puts into the next does both or nothing."""
    await Event.objects.put(Event("in", "a"))
    message = await take("in")
    async with db.unit_of_work():
        await Event.objects.put(Event("out", message.item.data.upper()))
        await Wide.objects.put(Wide("out"))
        await message.ack()

    assert await drain("in") == []
    assert await drain("out") == ["A"]
    assert await Wide.objects.length("out") == 1


async def test_a_put_message_id_that_is_taken_fails_the_commit(db: kv.Database) -> None:
    """As with any other record."""
    event = await Event.objects.put(Event("q", "a"))

    with pytest.raises(kv.AlreadyExists):
        async with db.unit_of_work():
            await Event.objects.put(Event("q", "b", id=event.id))


async def test_taking_is_never_part_of_a_unit(db: kv.Database) -> None:
    """A lease that nobody sees would be none. The unit does not watch what was taken either."""
    await Event.objects.put_many([Event("q", "a"), Event("q", "b")])

    async with db.unit_of_work() as uow:
        message = await take()
        await message.extend()
        assert (await Event.objects.using(db, outside=True).consume("q", wait=False).__anext__()).item.data == "b"
        await message.nack()
        await uow.rollback()

    assert (await take()).attempts == 2


async def test_what_looks_at_a_whole_queue_does_not_join(db: kv.Database) -> None:
    """A unit could not vouch for it."""
    async with db.unit_of_work():
        for refused in (
            Event.objects.length("q"),
            Event.objects.purge("q", older_than=1),
            Event.objects.redrive("q"),
            Event.objects.dead("q").delete(),
        ):
            with pytest.raises(kv.Unsupported, match="unit of work"):
                await refused


async def test_units_and_consumers_find_each_other(
    db: kv.Database, connect: Callable[[], Awaitable[kv.Database]]
) -> None:
    """By connection: a unit elsewhere is not joined; one that is named is; ``outside=True`` joins none."""
    other = await connect()
    await Event.objects.using(db).put_many(Event("q", str(number)) for number in range(3))

    async with other.unit_of_work() as uow:
        message = await anext(Event.objects.using(db).consume("q", wait=False))
        await message.ack()
        assert await Event.objects.using(db).length("q") == 2
        await uow.rollback()
    async with db.unit_of_work() as uow:
        message = await anext(Event.objects.using(db, outside=True).consume("q", wait=False))
        await message.ack()
        assert await Event.objects.using(db, outside=True).length("q") == 1
        await uow.rollback()
    uow = await db.unit_of_work().begin()
    objects = Event.objects.using(uow)
    message = await anext(objects.consume("q", wait=False))
    await message.ack()
    assert await Event.objects.using(db, outside=True).length("q") == 1
    await uow.commit()
    assert await Event.objects.using(db).length("q") == 0


async def test_an_acknowledgement_in_a_unit_that_is_over(db: kv.Database) -> None:
    """Is refused like any other call."""
    await Event.objects.put(Event("q"))
    uow = await db.unit_of_work().begin()
    message = await anext(Event.objects.using(uow).consume("q", wait=False))
    await uow.rollback()

    with pytest.raises(kv.Closed):
        await message.ack()


async def test_a_unit_around_a_block(db: kv.Database) -> None:
    """What it is going to acknowledge is not given back by the block, unless the unit came to nothing."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(5))

    async with db.unit_of_work(), Event.objects.consume("q", wait=False) as consumer:
        async for message in consumer:
            if message.item.data != "4":
                await message.ack()
    assert [event.data for event in await Event.objects.read("q")] == ["4"]

    async with Event.objects.consume("q", wait=False) as consumer, db.unit_of_work() as uow:
        await (await anext(consumer)).ack()
        await uow.rollback()
    assert (await take()).attempts == 3


async def test_the_end_of_a_block_leaves_alone_what_a_unit_acknowledged(db: kv.Database) -> None:
    """It is settled by the commit."""
    await Event.objects.put(Event("q"))

    async with Event.objects.consume("q") as consumer:
        message = await anext(consumer)
        async with db.unit_of_work():
            await message.ack()
        with kv.budget() as spent:
            await consumer.close()

    assert spent.round_trips == 0
    assert await Event.objects.length("q") == 0
