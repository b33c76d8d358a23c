"""What taking costs, in round trips and keys: the same whatever lies ahead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import kvmodel as kv
from tests.queue.models import Clock, Event, Wide, take

MANY = 10_000


async def _cost() -> tuple[int, int]:
    """Take and acknowledge a message, and answer round trips and keys."""
    with kv.budget() as spent:
        message = await take()
        await message.ack()
    return spent.round_trips, spent.keys


async def _lease_all(db: kv.Database, clock: Clock) -> None:
    """Have all messages taken, for an hour."""
    async for _ in Event.objects.consume("q", lease=3_600, wait=False, prefetch=500):
        pass


async def _purge_all(db: kv.Database, clock: Clock) -> None:
    clock.advance(1)
    await Event.objects.purge("q", older_than=0)


@pytest.fixture
async def cost_of_the_first(db: kv.Database) -> tuple[int, int]:
    """What it costs where nothing is ahead, and one message behind."""
    await Event.objects.put_many([Event("q", "first"), Event("q", "next")])
    cost = await _cost()
    await (await take()).ack()
    return cost


@pytest.mark.parametrize("what", [_lease_all, _purge_all])
async def test_the_next_message_costs_the_same_with_ten_thousand_ahead(
    db: kv.Database,
    clock: Clock,
    cost_of_the_first: tuple[int, int],
    what: Callable[[kv.Database, Clock], Awaitable[None]],
) -> None:
    """To the key: what others hold lies behind what is due, and what is gone is nowhere."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(MANY))
    await what(db, clock)
    await Event.objects.put_many([Event("q", "next"), Event("q", "behind")])

    assert await _cost() == cost_of_the_first == (5, 6)


async def test_ten_thousand_acknowledged_ahead_cost_nothing(
    db: kv.Database, clock: Clock, cost_of_the_first: tuple[int, int]
) -> None:
    """Worked by consumers, one after the other."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(MANY))
    consumer = Event.objects.consume("q", wait=False, prefetch=500)
    async with db.unit_of_work():
        async for message in consumer:
            await message.ack()
    await Event.objects.put_many([Event("q", "next"), Event("q", "behind")])

    assert await _cost() == cost_of_the_first


async def test_delayed_messages_ahead_cost_nothing(db: kv.Database, cost_of_the_first: tuple[int, int]) -> None:
    """They lie behind what is due."""
    async with db.unit_of_work():
        for number in range(1_000):
            await Event.objects.put(Event("q", str(number)), delay=3_600)
    await Event.objects.put_many([Event("q", "next"), Event("q", "behind")])

    assert await _cost() == cost_of_the_first


async def test_what_each_call_costs(db: kv.Database, clock: Clock) -> None:
    """As the documentation says."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(5))
    await db.prepare(Event)

    with kv.budget(round_trips=4, keys=4):  # timed tickets, ready tickets, the message; the lease, which is two records
        message = await take()
    with kv.budget(round_trips=1, keys=2):
        await message.extend(60)
    with kv.budget(round_trips=1, keys=2):
        await message.nack()
    message = await take()
    with kv.budget(round_trips=1, keys=2):
        await message.ack()
    await (await take()).nack()
    await (await take()).nack()
    message = await take()
    with kv.budget(round_trips=2, keys=4):
        await message.nack()
    assert await Event.objects.dead("q").count() == 1


@pytest.mark.parametrize("url", ["record"], indirect=True)
async def test_what_each_call_costs_one_record_at_a_time(db: kv.Database) -> None:
    """As the documentation says, for stores whose atomic writes reach one record."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(5))

    with kv.budget(round_trips=5):
        message = await take()
    with kv.budget(round_trips=2):
        await message.extend(60)
    with kv.budget(round_trips=3):
        await message.ack()
    with kv.budget(round_trips=2):
        await Event.objects.put(Event("q"))


async def test_an_empty_queue_costs_two_looks(db: kv.Database) -> None:
    """One for what became due, one for what is ready; a sharded one as many for each of its partitions."""
    await db.prepare(Event, Wide)

    with kv.budget(round_trips=2, keys=0):
        assert [m async for m in Event.objects.consume("q", wait=False)] == []
    with kv.budget(round_trips=16, keys=0):
        assert [m async for m in Wide.objects.consume("q", wait=False)] == []
