"""Waiting for messages, being woken, and stopping. Nothing here sleeps: polls come with each turn of the event loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import kvmodel as kv
from kvmodel._queue.desk import Desk, _desks
from kvmodel.testing import Fault, FaultPlan
from tests.queue.conftest import every_store
from tests.queue.models import Clock, Event, Wide, gather_all, take

NEVER = 3_600
"""A poll that does not come while a test runs: whoever is woken was told."""


async def _turns(count: int = 20) -> None:
    """Let other tasks run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _first(**options: Any) -> str:
    """Wait for a message, acknowledge it, and answer what is in it."""
    message = await anext(Event.objects.consume("q", **options))
    await message.ack()
    return message.item.data


async def test_a_put_wakes_who_waits(db: kv.Database) -> None:
    """On the same connection at once, however rarely it polls."""
    waiting = asyncio.create_task(_first(poll=NEVER))
    await _turns()
    assert not waiting.done()

    await Event.objects.put(Event("p", "another queue"))
    await Event.objects.put(Event("q", "a"))

    assert await asyncio.wait_for(waiting, 10) == "a"


@pytest.mark.parametrize("way", ["put_many", "commit", "nack", "redrive", "block"])
async def test_whatever_makes_a_message_due_wakes_who_waits(db: kv.Database, way: str) -> None:
    """Not only a put by itself."""
    await Event.objects.put_many([Event("q", "held"), Event("q", "dying")])
    held = await take()
    async for message in Event.objects.consume("q", wait=False, max_attempts=1):
        await message.nack()
    async with Event.objects.consume("q", poll=NEVER) as block:
        if way == "block":
            await held.nack()
            await anext(block)
        waiting = asyncio.create_task(_first(poll=NEVER))
        await _turns()
        assert not waiting.done()

        match way:
            case "put_many":
                await Event.objects.put_many([Event("q", "put")])
            case "commit":
                async with db.unit_of_work():
                    await Event.objects.put(Event("q", "put"))
            case "nack":
                await held.nack()
            case "redrive":
                await Event.objects.redrive("q")
            case _:
                pass

    expected = {"put_many": "put", "commit": "put", "nack": "held", "redrive": "dying", "block": "held"}
    assert await asyncio.wait_for(waiting, 10) == expected[way]


async def test_polling_notices_what_others_put(db: kv.Database, connect: Callable[[], Awaitable[kv.Database]]) -> None:
    """Another connection tells nobody, as another process would not."""
    other = await connect()

    async def first(poll: float) -> str:
        message = await anext(Event.objects.using(db).consume("q", poll=poll))
        return message.item.data

    polling = asyncio.create_task(first(0))
    await _turns()
    await Event.objects.using(other).put(Event("q", "a"))
    assert await asyncio.wait_for(polling, 10) == "a"

    told = asyncio.create_task(first(NEVER))
    await _turns()
    await Event.objects.using(other).put(Event("q", "b"))
    await _turns()
    assert not told.done()
    await Event.objects.using(db).put(Event("q", "c"))
    assert await asyncio.wait_for(told, 10) == "b"


async def test_polling_notices_what_becomes_due(db: kv.Database, clock: Clock) -> None:
    """The end of a lease, or of a delay."""
    await Event.objects.put(Event("q", "held"))
    await take(lease=10)
    await Event.objects.put(Event("q", "late"), delay=20)

    waiting = asyncio.create_task(_first(poll=0))
    await _turns()
    assert not waiting.done()
    clock.advance(10)
    assert await asyncio.wait_for(waiting, 10) == "held"
    waiting = asyncio.create_task(_first(poll=0))
    await _turns()
    clock.advance(10)
    assert await asyncio.wait_for(waiting, 10) == "late"


async def test_who_waits_looks_again_when_the_next_message_is_due(
    url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sooner than it polls: it was seen when that will be."""
    waits: list[float] = []

    async def wait(self: Any, changes: int, seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(Desk, "wait", wait)
    async with kv.connect(url, clock=clock):
        await Event.objects.put(Event("q", "late"), delay=2.25)

        assert await _first(poll=1) == "late"
        await Event.objects.put(Event("q", "later"), delay=2)
        assert await _first(poll=60) == "later"

    assert waits == [1, 1, 0.25, 2]


async def test_nothing_is_missed_between_a_look_and_the_wait(db: kv.Database) -> None:
    """What is put while a consumer looks is found by its next look, not by its next poll."""
    consumer = Event.objects.consume("q", poll=NEVER)
    desk = consumer._holder.desk
    taking = desk.take

    async def take_and_put(*args: Any) -> Any:
        taken = await taking(*args)
        if not taken:
            await Event.objects.put(Event("q", "a"))
        return taken

    desk.take = take_and_put  # type: ignore[method-assign, assignment]

    assert (await asyncio.wait_for(anext(consumer), 10)).item.data == "a"


# --- stopping ---------------------------------------------------------------------------------------------------------


@every_store
async def test_who_waits_can_be_cancelled(db: kv.Database) -> None:
    """It ends at once, and nothing is left behind."""
    waiting = asyncio.create_task(_first(poll=NEVER))
    await _turns()

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    await Event.objects.put(Event("q", "a"))
    assert await _first(wait=False) == "a"


@every_store
async def test_a_cancelled_consumer_keeps_nothing(db: kv.Database) -> None:
    """Wherever it was in taking a message: that is there for others at once, with no attempt counted."""
    for turns in range(100):
        await Event.objects.put(Event("q", str(turns)))
        taking = asyncio.create_task(anext(Event.objects.consume("q", poll=NEVER)))
        await _turns(turns)
        if taking.done():
            assert turns > 2
            return

        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

        message = await asyncio.wait_for(anext(Event.objects.consume("q", poll=NEVER)), 10)
        assert (message.item.data, message.attempts) == (str(turns), 1)
        await message.ack()


@every_store
@pytest.mark.parametrize("call", ["ack", "nack", "extend"])
async def test_what_is_begun_is_carried_out(db: kv.Database, clock: Clock, call: str) -> None:
    """Whoever is cancelled while settling a message ends at once, as cancelled, and the message is settled."""
    for turns in range(1, 100):
        await Event.objects.put(Event("q", str(turns)))
        message = await take()
        settling = asyncio.create_task(getattr(message, call)())
        await _turns(turns)
        if settling.done():
            assert turns > 1
            return

        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling

        again = asyncio.create_task(anext(Event.objects.consume("q", poll=0)))
        while not again.done():
            await asyncio.sleep(0)
            if call == "extend" and message.leased_until == clock.now + timedelta(seconds=30):
                clock.advance(30)
            if call == "ack" and not await Event.objects.length("q"):
                await Event.objects.put(Event("q", "next"))
        assert again.result().item.data == ("next" if call == "ack" else str(turns))
        await again.result().ack()


async def test_a_cancelled_consumer_harms_no_other(db: kv.Database) -> None:
    """Those that share a look with it get theirs, and what was meant for it goes to somebody else."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(8))
    tasks = [asyncio.create_task(_first(poll=NEVER)) for _ in range(8)]
    await _turns(2)
    for task in tasks[::2]:
        task.cancel()

    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    more = [await asyncio.wait_for(_first(poll=NEVER), 10) for _ in range(4)]

    got = [each for each in done if isinstance(each, str)]
    assert len(got) == 4
    assert sorted([*got, *more]) == [str(number) for number in range(8)]


async def test_closing_the_database_ends_waiting(url: str, clock: Clock) -> None:
    """With ``kv.Closed``, at the next look; a look that is under way ends so too."""
    db = await kv.connect(url, clock=clock)
    waiting = asyncio.create_task(_first(poll=0))
    await _turns()

    await db.close()

    with pytest.raises(kv.Closed):
        await asyncio.wait_for(waiting, 10)


async def test_closing_while_somebody_takes(clock: Clock) -> None:
    """Nobody is left waiting for an answer that will not come."""
    plan = FaultPlan(script=[Fault.STALL], calls=["scan"])
    db = await kv.connect("memory://", plan=plan, clock=clock)
    waiting = asyncio.create_task(_first(poll=NEVER))
    await _turns()

    await db.close()

    with pytest.raises(kv.Closed):
        await asyncio.wait_for(waiting, 10)


# --- together ---------------------------------------------------------------------------------------------------------


async def test_consumers_share_looks(db: kv.Database) -> None:
    """Those of one connection that want messages at once get them from one look and one write."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(8))
    consumers = [Event.objects.consume("q", wait=False) for _ in range(8)]

    with kv.budget(round_trips=4):
        messages = await asyncio.gather(*map(anext, consumers))

    assert sorted(message.item.data for message in messages) == [str(number) for number in range(8)]


async def test_what_is_scarce_is_shared_evenly(db: kv.Database) -> None:
    """One that wants many does not take it all."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(9))
    consumers = [Event.objects.consume("q", wait=False, prefetch=100) for _ in range(3)]

    await asyncio.gather(*map(anext, consumers))

    assert [len(consumer._ahead) for consumer in consumers] == [2, 2, 2]


async def test_wishes_differ(db: kv.Database, clock: Clock) -> None:
    """Each consumer has the lease it asked for, also where they look together."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(4))
    leases = [10.0, 20.0, 10.0, 20.0]

    messages = await asyncio.gather(*(take(lease=lease) for lease in leases))

    assert [(message.leased_until - clock.now).total_seconds() for message in messages] == leases
    assert len({message.id for message in messages}) == 4


async def test_a_desk_lives_as_long_as_its_consumers(db: kv.Database) -> None:
    """A program may use any number of queues, one after the other."""
    for number in range(5):
        await Event.objects.put(Event(f"q{number}"))
        await gather_all(Event.objects.consume(f"q{number}", wait=False))
        await gather_all(Wide.objects.consume(f"q{number}", wait=False))
    gc.collect()

    assert not any(_desks[db._connection].values())


@every_store
async def test_competing_consumers_work_every_message_once(
    db: kv.Database, connect: Callable[[], Awaitable[kv.Database]]
) -> None:
    """Of several connections, several on each, all at once; while more is put."""
    databases = [db, await connect(), await connect()]
    worked: list[str] = []

    async def work(database: kv.Database) -> None:
        while len(worked) < 120:
            async for message in Event.objects.using(database).consume("q", wait=False, prefetch=2):
                worked.append(message.item.data)
                assert message.attempts == 1
                await message.ack()
            await asyncio.sleep(0)

    async def put() -> None:
        for start in range(0, 120, 10):
            await Event.objects.using(db).put_many(Event("q", str(number)) for number in range(start, start + 10))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for database in databases:
            for _ in range(3):
                group.create_task(work(database))
        group.create_task(put())

    assert sorted(map(int, worked)) == list(range(120))
    assert await Event.objects.using(db).length("q") == 0


async def test_desks_begin_anywhere(db: kv.Database) -> None:
    """So that the consumers of several processes do not all begin with the same partition of a sharded queue."""
    places = list(Wide.objects.consume("q")._holder.desk._places)
    desks = [Desk(db._connection, places) for _ in range(50)]

    assert len({desk._places[0].partition for desk in desks}) > 1


async def test_competing_consumers_of_a_sharded_queue(
    db: kv.Database, connect: Callable[[], Awaitable[kv.Database]]
) -> None:
    """They begin in different partitions, and reach all of them."""
    databases = [db, await connect()]
    await Wide.objects.using(db).put_many(Wide("q", str(number)) for number in range(100))
    worked: list[str] = []

    async def work(database: kv.Database) -> None:
        async for message in Wide.objects.using(database).consume("q", wait=False):
            worked.append(message.item.data)
            await message.ack()

    await asyncio.wait_for(asyncio.gather(*(work(database) for database in databases * 3)), 60)

    assert sorted(map(int, worked)) == list(range(100))
