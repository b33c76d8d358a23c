"""What ``put`` and ``put_many`` write, what they refuse, and what they cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest

import kvmodel as kv
from kvmodel.testing import Fault, FaultPlan
from tests.queue.conftest import every_store
from tests.queue.models import Brief, Clock, Event, Order, Signal, Wide, drain, gather_all, take


async def test_put_answers_the_message_loaded(db: kv.Database) -> None:
    """With its id, at its version."""
    event = Event("q", "data")

    answer = await Event.objects.put(event)

    assert answer is event
    assert await Event.objects.get("q", event.id) == event
    assert kv.version(event) == kv.version(await Event.objects.get("q", event.id))


async def test_put_writes_at_once(db: kv.Database) -> None:
    """Message and ticket are one write."""
    await db.prepare(Event)

    with kv.budget(round_trips=1, keys=2):
        await Event.objects.put(Event("q"))


async def test_put_many_is_one_batch(db: kv.Database) -> None:
    """One write for several hundred, in order, of several queues."""
    await db.prepare(Event)

    with kv.budget(round_trips=1, keys=400):
        count = await Event.objects.put_many(Event("q" if number % 2 else "p", str(number)) for number in range(200))

    assert count == 200
    assert [event.data for event in await Event.objects.read("q")] == [str(number) for number in range(1, 200, 2)]
    assert [event.data for event in await Event.objects.read("p")] == [str(number) for number in range(0, 200, 2)]


async def test_put_many_takes_any_input(db: kv.Database) -> None:
    """Of any length, from an async generator too; the objects are loaded afterwards."""

    async def events() -> AsyncIterator[Event]:
        for number in range(1_200):
            yield Event("q", str(number))

    assert await Event.objects.put_many(events()) == 1_200
    assert [event.data for event in await Event.objects.read("q")] == [str(number) for number in range(1_200)]

    some = [Event("p"), Event("p")]
    await Event.objects.put_many(some)
    assert kv.version(some[0])
    assert await Event.objects.put_many([]) == 0


@every_store
async def test_put_many_works_everywhere(db: kv.Database) -> None:
    """Where writes reach less far, in more requests; every message can be taken afterwards."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(25))
    await Wide.objects.put_many(Wide("w", str(number)) for number in range(25))

    assert await drain() == [str(number) for number in range(25)]
    assert len(await gather_all(Wide.objects.consume("w", wait=False))) == 25


async def test_a_taken_id_is_refused(db: kv.Database) -> None:
    """Whoever puts a message again, after a lost reply for example, does not put it twice."""
    event = await Event.objects.put(Event("q", "data"))

    with pytest.raises(kv.AlreadyExists) as caught:
        await Event.objects.put(Event("q", "again", id=event.id))

    assert caught.value.keys == (("events", ("q", event.id)),)
    assert await drain() == ["data"]


async def test_put_again_after_a_lost_reply(clock: Clock) -> None:
    """The id was given before anything was sent, so the second attempt says whether the first one happened."""
    plan = FaultPlan(script=[Fault.CUT_AFTER], calls=["write"])
    async with kv.connect("memory://", plan=plan, clock=clock):
        event = Event("q", "data")
        with pytest.raises(kv.OutcomeUnknown):
            await Event.objects.put(event)
        with pytest.raises(kv.Conflict, match="may or may not have happened"):
            await Event.objects.save(event)
        with pytest.raises(kv.AlreadyExists):
            await Event.objects.put(event)

        plan.then(Fault.CUT_BEFORE)
        other = Event("q", "other")
        with pytest.raises(kv.Unavailable):
            await Event.objects.put(other)
        await Event.objects.put(other)

        assert await drain() == ["data", "other"]


async def test_a_failing_batch_says_what_remains(db: kv.Database) -> None:
    """A message that was put before is named; nothing of its batch was put, and the rest can be put again."""
    old = await Event.objects.put(Event("q", "old"))
    events = [Event("q", "a"), Event("q", "b", id=old.id), *(Event("q", str(number)) for number in range(600))]

    with pytest.raises(kv.BatchError) as caught:
        await Event.objects.put_many(events)

    assert caught.value.done == 0
    assert [outcome.status for outcome in caught.value.outcomes[:3]] == [
        kv.Status.UNSENT,
        kv.Status.CONFLICT,
        kv.Status.UNSENT,
    ]
    remaining: list[Any] = list(caught.value.remaining)  # type: ignore[arg-type]
    assert remaining == events
    remaining.remove(events[1])
    assert await Event.objects.put_many(remaining) == 601
    assert await Event.objects.length("q") == 602


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Event("q", 5),  # type: ignore[arg-type]
        lambda: Event("q", id=uuid4()),
        lambda: Event(7),  # type: ignore[arg-type]
        lambda: Event("q" * 600),
    ],
)
async def test_a_message_that_cannot_be_stored(db: kv.Database, bad: Callable[[], Event]) -> None:
    """Is refused, alone and in a batch, and nothing is put with it."""
    if db.capabilities.max_key_bytes is None and len(str(bad().queue)) > 500:
        pytest.skip("this store takes keys of any length")

    with pytest.raises(kv.ValidationError):
        await Event.objects.put(bad())
    with pytest.raises(kv.BatchError) as caught:
        await Event.objects.put_many([Event("q"), bad(), Event("q")])

    assert [outcome.status for outcome in caught.value.outcomes] == [
        kv.Status.UNSENT,
        kv.Status.FAILED,
        kv.Status.UNSENT,
    ]
    assert await Event.objects.length("q") == 0


async def test_the_same_object_twice_is_refused(db: kv.Database) -> None:
    """It would be one message; which is told before anything is written."""
    event = Event("q")

    with pytest.raises(kv.BatchError) as caught:
        await Event.objects.put_many([event, event])

    assert caught.value.outcomes[1].status is kv.Status.FAILED
    assert await Event.objects.length("q") == 0


async def test_a_batch_over_the_request_limit_is_split(clock: Clock) -> None:
    """Into requests that the store takes; a single message that is too large is named."""
    async with kv.connect("memory://?max_request_bytes=4096&reads_in_place=false", clock=clock):
        await Event.objects.put_many(Event("q", "x" * 500) for _ in range(40))
        assert await Event.objects.length("q") == 40

        with pytest.raises(kv.BatchError) as caught:
            await Event.objects.put_many([Event("p", "x"), Event("p", "x" * 5_000), Event("p", "x")])

    outcomes = [outcome.status for outcome in caught.value.outcomes]
    assert outcomes == [kv.Status.WRITTEN, kv.Status.TOO_LARGE, kv.Status.UNSENT]


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.CUT_BEFORE])
async def test_a_batch_whose_reply_is_lost(clock: Clock, fault: Fault) -> None:
    """Its outcomes say what is known of it."""
    plan = FaultPlan(script=[fault], calls=["write"])
    async with kv.connect("memory://", plan=plan, clock=clock):
        events = [Event("q"), Event("q")]
        with pytest.raises(kv.BatchError) as caught:
            await Event.objects.put_many(events)

    expected = kv.Status.UNKNOWN if fault is Fault.CUT_AFTER else kv.Status.UNSENT
    assert [outcome.status for outcome in caught.value.outcomes] == [expected] * 2
    with pytest.raises(kv.ValidationError):
        kv.version(events[0])


async def test_apart_no_message_is_left_without_its_ticket(clock: Clock) -> None:
    """Where a write reaches one record: messages whose tickets were not sent are taken back."""
    plan = FaultPlan(script=[None, Fault.CUT_BEFORE], calls=["batch"])
    async with kv.connect("memory://?atomicity=record&range_checks=false", plan=plan, clock=clock):
        events = [Event("q", "a"), Event("q", "b")]
        with pytest.raises(kv.BatchError) as caught:
            await Event.objects.put_many(events)

        assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.UNSENT] * 2
        assert await Event.objects.length("q") == 0
        await Event.objects.put_many(events)
        assert await drain() == ["a", "b"]


async def test_a_delayed_message_is_seen_at_once_and_taken_later(db: kv.Database, clock: Clock) -> None:
    """Readers see everything; consumers have to wait, seconds or a timedelta."""
    await Event.objects.put(Event("q", "late"), delay=60)
    await Event.objects.put(Event("q", "later"), delay=timedelta(minutes=2))
    await Event.objects.put(Event("q", "now"), delay=0)

    assert [event.data for event in await Event.objects.read("q")] == ["late", "later", "now"]
    assert await drain() == ["now"]
    clock.advance(59.999999)
    assert await drain() == []
    clock.advance(timedelta(microseconds=1))
    assert await drain() == ["late"]
    clock.advance(60)
    assert await drain() == ["later"]


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "1", True, timedelta(seconds=-1)])
async def test_a_wrong_delay_is_refused(db: kv.Database, delay: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(kv.ValidationError, match="delay"), kv.budget(round_trips=0):
        await Event.objects.put(Event("q"), delay=delay)


async def test_queues_are_named_by_all_partition_fields(db: kv.Database) -> None:
    """Each combination is a queue; a model without such fields has one."""
    await Order.objects.put_many([Order("north", 1, "a"), Order("north", 2, "b"), Order("south", 1, "c")])
    await Signal.objects.put_many([Signal("x"), Signal("y")])

    assert [order.data for order in await Order.objects.read("north", 2)] == ["b"]
    assert [message.item.data async for message in Order.objects.consume("south", 1, wait=False)] == ["c"]
    assert await Order.objects.length("north", 1) == 1
    assert [signal.data for signal in await Signal.objects.read()] == ["x", "y"]
    assert [message.item.data async for message in Signal.objects.consume(wait=False)] == ["x", "y"]
    for call in (Order.objects.read, Order.objects.consume, Order.objects.dead):
        with pytest.raises(kv.ValidationError, match="2 key values"):
            call("north")
    for counted in (Order.objects.length, Order.objects.redrive):
        with pytest.raises(kv.ValidationError, match="2 key values"):
            await counted("north")


async def test_new_messages_are_only_made_by_put(db: kv.Database) -> None:
    """Anything else would make records that nobody can take."""
    event = await Event.objects.put(Event("q", "data"))
    fresh = Event("q", "fresh")

    for refused in (
        Event.objects.create(fresh),
        Event.objects.save(fresh),
        Event.objects.save(event, force=True),
        Event.objects.save_many([fresh]),
    ):
        with pytest.raises(kv.Unsupported, match="put"):
            await refused
    async with db.unit_of_work() as uow:
        with pytest.raises(kv.Unsupported, match="put"):
            uow.add(fresh)
        await uow.rollback()
    with pytest.raises(kv.Unsupported, match="put"):
        db.batch().put(fresh)
    assert await Event.objects.length("q") == 1


async def test_a_message_that_is_there_is_a_record(db: kv.Database) -> None:
    """It can be changed and deleted like others; who takes it gets what it is then."""
    one, two = Event("q", "one"), Event("q", "two")
    await Event.objects.put_many([one, two])

    one.data = "changed"
    await Event.objects.save(one)
    await Event.objects.update("q", two.id, data="updated")

    assert await drain() == ["changed", "updated"]


async def test_a_deleted_message_is_not_handed_out(db: kv.Database) -> None:
    """Its ticket goes when somebody meets it, however many there are."""
    events = [Event("q", str(number)) for number in range(300)]
    await Event.objects.put_many(events)
    for event in events[:-1]:
        await Event.objects.delete("q", event.id)

    with kv.budget(round_trips=40):
        assert await drain() == ["299"]
    with kv.budget(keys=0):
        assert await drain() == []


async def test_an_expired_message_is_not_handed_out(db: kv.Database, clock: Clock) -> None:
    """It is gone for everybody at once."""
    await Brief.objects.put(Brief("q", "old"))
    clock.advance(30)
    await Brief.objects.put(Brief("q", "young"))
    clock.advance(31)

    assert [brief.data for brief in await Brief.objects.read("q")] == ["young"]
    assert [message.item.data async for message in Brief.objects.consume("q", wait=False)] == ["young"]


async def test_frozen_messages(db: kv.Database) -> None:
    """Their id is given like that of others."""

    class Fixed(kv.QueueModel, table="fixed", frozen=True):
        queue: str = kv.partition_key()

    fixed: Any = await Fixed.objects.put(Fixed("q"))

    assert fixed.id.version == 7
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        fixed.id = uuid4()


async def test_another_models_object_is_refused(db: kv.Database) -> None:
    """With the name of the class that was expected."""
    strangers: list[Any] = [Wide("q"), "text", None]
    for stranger in strangers:
        with pytest.raises(kv.ValidationError, match="Event"):
            await Event.objects.put(stranger)
        with pytest.raises(kv.BatchError) as caught:
            await Event.objects.put_many([Event("q"), stranger])
        assert [outcome.status for outcome in caught.value.outcomes] == [kv.Status.UNSENT, kv.Status.FAILED]


async def test_a_message_that_was_taken_keeps_its_version(db: kv.Database) -> None:
    """Leases are not written into it: payloads are written once."""
    event = await Event.objects.put(Event("q"))

    message = await take()
    await message.extend()

    assert kv.version(message.item) == kv.version(event) == kv.version(await Event.objects.get("q", event.id))
