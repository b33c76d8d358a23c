"""Taking messages: order, leases, giving back, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import kvmodel as kv
from tests.queue.conftest import every_store
from tests.queue.models import Clock, Event, Wide, drain, gather_all, take


async def _nothing(queue: str = "q") -> bool:
    return [message async for message in Event.objects.consume(queue, wait=False)] == []


@every_store
async def test_messages_are_taken_in_the_order_of_their_ids(db: kv.Database) -> None:
    """Each once; then there is nothing left to take, and nothing left at all."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(30))

    assert await drain() == [str(number) for number in range(30)]
    assert await drain() == []
    assert await Event.objects.length("q") == 0


@every_store
async def test_a_taken_message_is_nobody_elses(db: kv.Database) -> None:
    """Until it is given back, whoever asks."""
    await Event.objects.put(Event("q", "a"))

    message = await take()
    assert await _nothing()
    await message.nack()
    assert (await take()).item.data == "a"


@every_store
async def test_attempts_are_counted(db: kv.Database, clock: Clock) -> None:
    """Whether a message was given back, or its lease ran out."""
    await Event.objects.put(Event("q", "a"))

    first = await take()
    await first.nack()
    second = await take(lease=10)
    clock.advance(10)
    third = await take()

    assert [first.attempts, second.attempts, third.attempts] == [1, 2, 3]
    assert first.item == second.item == third.item
    assert first.id == third.item.id


@every_store
async def test_a_lease_runs_out(db: kv.Database, clock: Clock) -> None:
    """At its end, not before, and then the message is somebody else's."""
    await Event.objects.put(Event("q", "a"))
    message = await take(lease=10)

    assert message.leased_until == clock.now + timedelta(seconds=10)
    clock.advance(9.999999)
    assert await _nothing()
    clock.advance(timedelta(microseconds=1))
    assert (await take()).attempts == 2
    for lost in (message.ack, message.nack, message.extend):
        with pytest.raises(kv.Conflict, match="not held any more"):
            await lost()
    assert await Event.objects.length("q") == 1


@every_store
async def test_a_lease_that_ran_out_can_be_kept_while_nobody_took_the_message(db: kv.Database, clock: Clock) -> None:
    """Nothing happened to it: the work is not lost."""
    await Event.objects.put_many([Event("q", "a"), Event("q", "b")])
    one, two = await take(lease=1), await take(lease=1)
    clock.advance(60)

    await one.ack()
    await two.extend(30)

    assert await _nothing()
    await two.ack()
    assert await Event.objects.length("q") == 0


@every_store
async def test_extend_keeps_a_message(db: kv.Database, clock: Clock) -> None:
    """For as long as it says, from now on; by default for as long as it was taken for."""
    await Event.objects.put(Event("q", "a"))
    message = await take(lease=10)
    clock.advance(8)

    await message.extend()
    assert message.leased_until == clock.now + timedelta(seconds=10)
    clock.advance(9)
    assert await _nothing()
    await message.extend(timedelta(minutes=1))
    await message.extend(60)
    clock.advance(59)
    assert await _nothing()
    clock.advance(1)
    assert (await take()).attempts == 2


@every_store
async def test_nack_with_a_delay(db: kv.Database, clock: Clock) -> None:
    """Nobody takes it before."""
    await Event.objects.put(Event("q", "a"))

    await (await take()).nack(delay=5)

    assert await _nothing()
    clock.advance(timedelta(seconds=5))
    assert (await take()).attempts == 2


@every_store
async def test_a_message_is_settled_once(db: kv.Database) -> None:
    """Acknowledged or given back, it is out of its consumer's hands."""
    await Event.objects.put_many([Event("q", "a"), Event("q", "b")])
    one, two = await take(), await take()
    await one.ack()
    await two.nack()

    for settled in (one, two):
        for again in (settled.ack, settled.nack, settled.extend):
            with kv.budget() as spent, pytest.raises(kv.Conflict) as caught:
                await again()
            assert caught.value.keys == (("events", ("q", settled.id)),)
            assert spent.round_trips == 0
    assert await Event.objects.length("q") == 1


async def test_what_comes_back_takes_its_old_place(db: kv.Database, clock: Clock) -> None:
    """What was given back is taken in the order of ids; what became due by the clock comes before it."""
    await Event.objects.put_many(Event("q", name) for name in "abcd")
    a, b = await take(), await take(lease=1)
    await a.nack()
    clock.advance(1)

    assert await drain() == ["b", "a", "c", "d"]
    with pytest.raises(kv.Conflict):
        await b.ack()


@every_store
async def test_a_message_dies_after_its_last_attempt(db: kv.Database, clock: Clock) -> None:
    """Given back for the last time, or with its last lease run out; dead letters are read like messages."""
    await Event.objects.put_many([Event("q", "nacked"), Event("q", "left"), Event("q", "well")])
    for _ in range(2):
        for message in [await take(), await take()]:
            await message.nack()
    nacked, left = await take(), await take()
    assert (nacked.attempts, left.attempts) == (3, 3)

    await nacked.nack(delay=10)
    assert [event.data for event in await Event.objects.dead("q")] == ["nacked"]
    clock.advance(30)
    assert await drain() == ["well"]
    assert [event.data for event in await Event.objects.dead("q")] == ["nacked", "left"]
    assert await Event.objects.dead("q", after=nacked.id) == [left.item]
    assert await Event.objects.dead("q", limit=1) == [nacked.item]
    assert await Event.objects.length("q") == 0
    with pytest.raises(kv.Conflict):
        await left.ack()


@every_store
async def test_redrive_takes_dead_letters_back(db: kv.Database) -> None:
    """The oldest first, with no attempts counted."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(10))
    for _ in range(3):
        for message in [await take() for _ in range(10)]:
            await message.nack()
    assert await Event.objects.dead("q").count() == 10

    assert await Event.objects.redrive("q", limit=4) == 4
    assert await Event.objects.redrive("q") == 6
    assert await Event.objects.redrive("q") == 0

    assert await gather_all(Event.objects.dead("q")) == []
    taken = [await take() for _ in range(10)]
    assert [(message.item.data, message.attempts) for message in taken] == [(str(number), 1) for number in range(10)]


async def test_redrive_of_what_was_put_anew(db: kv.Database) -> None:
    """A message that somebody has put again meanwhile is what it is; only the dead letter goes."""
    event = await Event.objects.put(Event("q", "old"))
    async for message in Event.objects.consume("q", wait=False, max_attempts=1):
        await message.nack()
    await Event.objects.put_many([Event("q", "new", id=event.id), Event("q", "next")])

    assert await Event.objects.redrive("q") == 0
    assert await Event.objects.dead("q") == []
    assert await drain() == ["new", "next"]


async def test_redrive_at_the_same_time(db: kv.Database, connect: Callable[[], Awaitable[kv.Database]]) -> None:
    """Each letter comes back once."""
    other = await connect()
    here, there = Event.objects.using(db), Event.objects.using(other)
    await here.put_many(Event("q", str(number)) for number in range(300))
    async for message in here.consume("q", wait=False, max_attempts=1, prefetch=100):
        await message.nack()

    counts = await asyncio.gather(here.redrive("q"), there.redrive("q"), here.redrive("q"))

    assert sum(counts) == 300
    assert len([message async for message in here.consume("q", wait=False, prefetch=100)]) == 300


async def test_redrive_of_many(db: kv.Database) -> None:
    """Page by page, however many there are."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(700))
    async for message in Event.objects.consume("q", wait=False, max_attempts=1, prefetch=100):
        await message.nack()

    assert await Event.objects.redrive("q", limit=650) == 650
    assert await Event.objects.length("q") == 650
    assert await Event.objects.dead("q").count() == 50
    assert await Event.objects.dead("q").delete() == 50


async def test_consumers_may_say_how_many_attempts(db: kv.Database) -> None:
    """Instead of the model; ``None`` is any number. The model's own default is ten."""

    class Job(kv.QueueModel, table="jobs"):
        queue: str = kv.partition_key()

    class Eager(kv.QueueModel, table="eager", max_attempts=None):
        queue: str = kv.partition_key()

    async def attempts(model: Any, **options: Any) -> int:
        await model.objects.put(model("q"))
        count = 0
        async for message in model.objects.consume("q", wait=False, **options):
            count += 1
            if count == 15:
                await message.ack()
            else:
                await message.nack()
        return count

    assert await attempts(Job) == 10
    assert await attempts(Job, max_attempts=2) == 2
    assert await attempts(Job, max_attempts=None) == 15
    assert await attempts(Eager) == 15
    assert await attempts(Event) == 3


async def test_a_lower_limit_buries_what_was_tried_before(db: kv.Database) -> None:
    """A message is never handed out oftener than its consumer allows."""
    await Event.objects.put(Event("q", "a"))
    await (await take()).nack()
    await (await take()).nack()

    assert [m async for m in Event.objects.consume("q", wait=False, max_attempts=2)] == []
    assert await Event.objects.dead("q").count() == 1


async def test_prefetch_takes_several_at_once(db: kv.Database) -> None:
    """For one look and one write; nobody else gets them."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(1_000))
    consumer = Event.objects.consume("q", wait=False, prefetch=300)

    with kv.budget(round_trips=6, keys=4 * 300):
        first = [await anext(consumer) for _ in range(300)]

    assert [message.item.data for message in first] == [str(number) for number in range(300)]
    assert (await take()).item.data == "300"


@every_store
async def test_what_waited_too_long_for_its_turn_is_leased_anew(db: kv.Database, clock: Clock) -> None:
    """A consumer never hands out on a lease that ran out: that would be two at a time. The attempt is not a new one."""
    await Event.objects.put_many(Event("q", name) for name in "abcd")
    slow = Event.objects.consume("q", lease=30, prefetch=4, wait=False)
    first = await anext(slow)
    await first.ack()

    clock.advance(31)
    quick = await take()
    rest = [message async for message in slow]

    assert (quick.item.data, quick.attempts) == ("b", 2)
    assert [(message.item.data, message.attempts) for message in rest] == [("c", 1), ("d", 1)]
    assert await _nothing()
    for message in (quick, *rest):
        await message.ack()
    assert await Event.objects.length("q") == 0


@every_store
async def test_the_end_of_a_block_gives_everything_back(db: kv.Database) -> None:
    """What was taken ahead as if it had never been taken, what was handed out as if given back."""
    await Event.objects.put_many(Event("q", name) for name in "abcde")

    with pytest.raises(ZeroDivisionError):
        async with Event.objects.consume("q", prefetch=4) as consumer:
            done = await anext(consumer)
            await done.ack()
            await anext(consumer)
            _ = 1 / 0

    again = [await take() for _ in range(4)]
    assert [(message.item.data, message.attempts) for message in again] == [("b", 2), ("c", 1), ("d", 1), ("e", 1)]


async def test_without_a_block_leases_run_out(db: kv.Database, clock: Clock) -> None:
    """A consumer that is just left gives nothing back."""
    await Event.objects.put_many(Event("q", name) for name in "ab")
    async for message in Event.objects.consume("q", prefetch=2, lease=5):
        await message.ack()
        break

    assert await _nothing()
    clock.advance(5)
    assert (await take()).item.data == "b"


@every_store
async def test_a_sharded_queue_is_consumed_like_any_other(db: kv.Database, clock: Clock) -> None:
    """All of it, each message once, dead letters included."""
    await Wide.objects.put_many(Wide("q", str(number)) for number in range(60))

    taken = [message async for message in Wide.objects.consume("q", wait=False, lease=5)]
    assert sorted(int(message.item.data) for message in taken) == list(range(60))
    for message in taken[:20]:
        await message.ack()
    clock.advance(5)
    again = await gather_all(Wide.objects.consume("q", wait=False, lease=5))
    assert len(again) == 40
    assert {message.attempts for message in again} == {2}
    for message in again:
        await message.nack()
    assert [m async for m in Wide.objects.consume("q", wait=False)] == []
    dead = await Wide.objects.dead("q")
    assert len(dead) == 40
    assert dead == sorted(dead, key=lambda message: message.id)
    assert await Wide.objects.redrive("q", limit=15) == 15
    assert await Wide.objects.redrive("q") == 25
    assert await Wide.objects.length("q") == 40


async def test_what_was_due_by_the_clock_goes_back_to_where_it_was(db: kv.Database, clock: Clock) -> None:
    """A message that was taken ahead and never handed out keeps its place among those that became due."""
    ready = await Event.objects.put(Event("q", "ready"))
    await Event.objects.put(Event("q", "late"), delay=5)
    clock.advance(5)
    async with Event.objects.consume("q", prefetch=2) as consumer:
        await (await anext(consumer)).nack()
        assert [lease.id for lease in consumer._ahead] == [ready.id]
    async with Event.objects.consume("q", prefetch=2) as consumer:
        await consumer._holder.desk.give_back(await consumer._holder.desk.take(1, consumer._holder.wish))
    await Event.objects.put(Event("q", "later"), delay=5)
    clock.advance(5)
    async with Event.objects.consume("q", prefetch=3) as consumer:
        consumer._ahead += await consumer._holder.desk.take(3, consumer._holder.wish)

    assert await drain() == ["later", "ready", "late"]


@pytest.mark.parametrize(
    "options",
    [
        {"lease": 0},
        {"lease": -1},
        {"lease": "30"},
        {"lease": timedelta(0)},
        {"prefetch": 0},
        {"prefetch": 1.5},
        {"poll": -1},
        {"max_attempts": 0},
        {"max_attempts": True},
    ],
)
async def test_wrong_options_are_refused_at_once(db: kv.Database, options: dict[str, Any]) -> None:
    """When the consumer is made."""
    with pytest.raises(kv.ValidationError):
        Event.objects.consume("q", **options)


async def test_wrong_spans_are_refused(db: kv.Database) -> None:
    """Before anything is sent; the message stays held."""
    await Event.objects.put(Event("q"))
    message = await take()

    for wrong in (message.extend(0), message.extend(-1), message.nack(delay=-1)):
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await wrong
    await message.ack()


async def test_a_message_says_what_it_is(db: kv.Database, clock: Clock) -> None:
    """For logs."""
    await Event.objects.put(Event("q", "data"))

    assert repr(await take()).startswith("<Message Event(id=UUID(")
    assert "attempt 2" in repr(await _second())


async def _second() -> Any:
    await Event.objects.put(Event("p", "data"))
    await (await take("p")).nack()
    return await take("p")


async def test_old_messages_are_upgraded_when_they_die(db: kv.Database) -> None:
    """A dead letter is written in the words of the current declaration, like everything that is written."""

    class Old(kv.QueueModel, table="things", max_attempts=1):
        queue: str = kv.partition_key()
        name: str

    class New(kv.QueueModel, table="things", schema=2, max_attempts=1):
        queue: str = kv.partition_key()
        title: str

        @kv.upgrade(1)
        @staticmethod
        def _(values: dict[str, object]) -> dict[str, object]:
            return {"title": values["name"]}

    await Old.objects.put(Old("q", "x"))
    async for message in New.objects.consume("q", wait=False):
        assert message.item.title == "x"
        await message.nack()

    assert [new.title for new in await New.objects.dead("q")] == ["x"]
    await New.objects.redrive("q")
    assert [new.title for new in await New.objects.read("q")] == ["x"]


async def test_a_message_that_cannot_be_read(db: kv.Database, clock: Clock) -> None:
    """It is reported by who takes it, stays stored, and does not stand in the way of others."""

    class Text(kv.QueueModel, table="texts", max_attempts=2):
        queue: str = kv.partition_key()
        value: str

    class Number(kv.QueueModel, table="texts", max_attempts=2):
        queue: str = kv.partition_key()
        value: int

    await Text.objects.put(Text("q", "not a number"))
    await Number.objects.put(Number("q", 5))

    for _ in range(2):
        with pytest.raises(kv.DecodingError):
            await anext(Number.objects.consume("q", wait=False, lease=10))
        clock.advance(10)
    good = await anext(Number.objects.consume("q", wait=False))
    assert good.item.value == 5
    assert [text.value for text in await Text.objects.dead("q")] == ["not a number"]
