"""Reading a queue like a log: nothing is taken away, nobody is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kvmodel as kv
from tests.queue.models import SECOND, Clock, Event, Wide, gather_all, take


async def _put(clock: Clock, *names: str) -> list[Event]:
    """Put events one second after another."""
    events = []
    for name in names:
        events.append(await Event.objects.put(Event("q", name)))
        clock.advance(SECOND)
    return events


async def _names(messages: Any) -> list[str]:
    return [event.data for event in await messages]


async def test_read_is_in_the_order_of_ids(db: kv.Database, clock: Clock) -> None:
    """From the beginning, or behind a message that was seen; it can be awaited and iterated."""
    a, b, c = await _put(clock, "a", "b", "c")
    await Event.objects.put(Event("other", "x"))

    assert await Event.objects.read("q") == [a, b, c]
    assert await gather_all(Event.objects.read("q")) == [a, b, c]
    assert await _names(Event.objects.read("q", after=a.id)) == ["b", "c"]
    assert await _names(Event.objects.read("q", after=c.id)) == []
    assert await _names(Event.objects.read("q", limit=2)) == ["a", "b"]
    assert [event.data async for event in Event.objects.read("q", after=a.id, limit=1)] == ["b"]
    assert await _names(Event.objects.read("q", limit=0)) == []
    assert await Event.objects.read("q").first() == a
    assert await Event.objects.read("none").first() is None


async def test_read_shows_what_is_being_worked(db: kv.Database, clock: Clock) -> None:
    """Messages are there until they are acknowledged."""
    await _put(clock, "a", "b")

    message = await take()
    assert await _names(Event.objects.read("q")) == ["a", "b"]
    await message.ack()
    assert await _names(Event.objects.read("q")) == ["b"]


async def test_read_costs_what_it_reads(db: kv.Database, clock: Clock) -> None:
    """One exchange for the first few, however many there are."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(500))

    with kv.budget(round_trips=1, keys=10):
        await Event.objects.read("q", limit=10)


async def test_settle_holds_back_the_youngest(db: kv.Database, clock: Clock) -> None:
    """Those that are younger than it says; when they are old enough, they are read."""
    await _put(clock, "a", "b")

    assert await _names(Event.objects.read("q", settle=1.0)) == ["a", "b"]
    assert await _names(Event.objects.read("q", settle=1.000001)) == ["a"]
    assert await _names(Event.objects.read("q", settle=timedelta(seconds=2))) == ["a"]
    assert await _names(Event.objects.read("q", settle=2.5)) == []
    late = Event.objects.read("q", settle=2.5)
    clock.advance(SECOND)
    assert await _names(late) == ["a"]


async def test_a_late_commit_is_missed_without_settle(db: kv.Database, clock: Clock) -> None:
    """An id is given before its commit: who reads on behind a younger one never sees it. ``settle`` waits for it."""
    uow = await db.unit_of_work().begin()
    await Event.objects.put(Event("q", "late"))
    outside = Event.objects.using(db, outside=True)
    clock.advance(SECOND)
    early = await outside.put(Event("q", "early"))

    assert await _names(outside.read("q")) == ["early"]
    assert await _names(outside.read("q", settle=5)) == []
    await uow.commit()

    assert await _names(Event.objects.read("q", after=early.id)) == []
    clock.advance(5)
    assert await _names(Event.objects.read("q", settle=5)) == ["late", "early"]


async def test_between_includes_its_start_and_not_its_end(db: kv.Database, clock: Clock) -> None:
    """To the microsecond, by the time at which messages were put."""
    start = clock.now
    await _put(clock, "a", "b", "c")
    micro = timedelta(microseconds=1)

    assert await _names(Event.objects.between("q", start, start + 2 * SECOND)) == ["a", "b"]
    assert await _names(Event.objects.between("q", start + micro, start + 2 * SECOND + micro)) == ["b", "c"]
    assert await _names(Event.objects.between("q", start, start)) == []
    assert await _names(Event.objects.between("q", start=start + SECOND)) == ["b", "c"]
    assert await _names(Event.objects.between("q", end=start + SECOND)) == ["a"]
    assert await _names(Event.objects.between("q", start, end=start + SECOND)) == ["a"]
    assert await _names(Event.objects.between("q")) == ["a", "b", "c"]
    assert await _names(Event.objects.between("q", start, clock.now, limit=1)) == ["a"]


async def test_between_wants_moments(db: kv.Database, clock: Clock) -> None:
    """Aware ones, two at the most, and a queue."""
    now = clock.now
    wrongs: list[Callable[[], object]] = [
        lambda: Event.objects.between("q", now.replace(tzinfo=None), now),
        lambda: Event.objects.between("q", now, 5),
        lambda: Event.objects.between("q", now, now, now),
        lambda: Event.objects.between(now, now),
        lambda: Event.objects.between(start=now, end=now),
    ]
    for wrong in wrongs:
        with pytest.raises(kv.ValidationError):
            wrong()


@pytest.mark.parametrize(
    "bounds", [{"after": 5}, {"after": "x"}, {"limit": -1}, {"limit": True}, {"settle": -1}, {"settle": "x"}]
)
async def test_wrong_bounds_are_refused_at_once(db: kv.Database, bounds: dict[str, Any]) -> None:
    """When the reading is made, not when it is awaited."""
    with pytest.raises(kv.ValidationError):
        Event.objects.read("q", **bounds)


async def test_length_counts_what_is_not_done(db: kv.Database, clock: Clock) -> None:
    """Waiting, delayed and leased messages; acknowledged and dead ones are out of it."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(4))
    await Event.objects.put(Event("q", "late"), delay=60)
    one, two = await take(), await take()

    assert await Event.objects.length("q") == 5
    await one.ack()
    assert await Event.objects.length("q") == 4
    for _ in range(3):
        await two.nack()
        two = await take()
        if two.attempts == 3:
            await two.nack()
            break
    assert await Event.objects.length("q") == 3
    assert await Event.objects.length("other") == 0


async def test_purge_removes_by_age(db: kv.Database, clock: Clock) -> None:
    """Seconds, a timedelta or a moment; what is being worked goes too, and its acknowledgement harms nobody."""
    await _put(clock, "a", "b", "c", "d")
    message = await take()

    assert await Event.objects.purge("q", older_than=3) == 1
    assert await _names(Event.objects.read("q")) == ["b", "c", "d"]
    assert await Event.objects.purge("q", older_than=timedelta(seconds=2)) == 1
    assert await Event.objects.purge("q", older_than=clock.now - SECOND) == 1
    assert await _names(Event.objects.read("q")) == ["d"]
    await message.ack()
    clock.advance(60)
    assert (await take()).item.data == "d"
    assert await Event.objects.length("q") == 1


async def test_purge_of_a_long_queue(db: kv.Database, clock: Clock) -> None:
    """Page by page, and with the tickets, so that nothing is left for consumers to clear away."""
    await Event.objects.put_many(Event("q", str(number)) for number in range(1_100))
    clock.advance(SECOND)

    assert await Event.objects.purge("q", older_than=0.5) == 1_100
    with kv.budget(keys=0):
        assert [m async for m in Event.objects.consume("q", wait=False)] == []


async def test_readings_in_a_unit_of_work(db: kv.Database, clock: Clock) -> None:
    """A unit sees its own messages, and is told when others put some meanwhile."""
    await _put(clock, "a")

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            await Event.objects.put(Event("q", "mine"))
            assert await _names(Event.objects.read("q")) == ["a", "mine"]
            await Event.objects.using(db, outside=True).put(Event("q", "theirs"))

    assert await _names(Event.objects.read("q")) == ["a", "theirs"]


async def test_a_sharded_queue_is_read_in_order(db: kv.Database, clock: Clock) -> None:
    """Its partitions are merged, by the same calls and with the same answers."""
    put = []
    for number in range(100):
        put.append(await Wide.objects.put(Wide("q", str(number))))
        clock.advance(SECOND)
    start = clock.now - 100 * SECOND

    assert len({message.shard for message in put}) == 8
    assert await Wide.objects.read("q") == put
    assert await gather_all(Wide.objects.read("q")) == put
    assert await Wide.objects.read("q", limit=7) == put[:7]
    assert await gather_all(Wide.objects.read("q", limit=7)) == put[:7]
    assert await Wide.objects.read("q", after=put[30].id, limit=3) == put[31:34]
    assert await Wide.objects.between("q", start + 10 * SECOND, start + 12 * SECOND) == put[10:12]
    assert await Wide.objects.read("q").first() == put[0]
    assert await Wide.objects.read("q", settle=50.5) == put[:50]
    assert await Wide.objects.length("q") == 100
    assert await Wide.objects.read("q", limit=5).count() == 5
    assert await Wide.objects.get("q", put[5].id) == put[5]
    assert await Wide.objects.purge("q", older_than=60.5) == 40
    assert await Wide.objects.read("q") == put[40:]


async def test_all_can_be_deleted(db: kv.Database) -> None:
    """Without a limit, which could not be kept over several partitions."""
    await Wide.objects.put_many(Wide("q") for _ in range(20))

    with pytest.raises(kv.ValidationError, match="limit"):
        await Wide.objects.read("q", limit=5).delete()
    assert await Wide.objects.read("q").delete() == 20
    assert [m async for m in Wide.objects.consume("q", wait=False)] == []
