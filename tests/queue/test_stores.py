"""Queues on stores that can do less, and on stores that fail: what still holds, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.schema import schema_of
from kvmodel.testing import Fault, FaultPlan
from tests.queue.models import SECOND, Brief, Clock, Event, Result, Wide, drain, gather_all, take

UNCONDITIONAL = "memory://?conditional=false&range_checks=false&atomicity=record"
UNORDERED = "memory://?ordered=false&scan_table=false&range_checks=false&reverse=none"
RECORD = "memory://queue?atomicity=record&range_checks=false"


@pytest.mark.parametrize("url", [UNCONDITIONAL, UNORDERED])
async def test_consuming_is_refused_where_it_would_not_be_safe(url: str, clock: Clock) -> None:
    """Before anything is sent, and with the way out."""
    async with kv.connect(url, clock=clock):
        await Event.objects.put(Event("q", "a"))

        with kv.budget(round_trips=0):
            with pytest.raises(kv.Unsupported, match=r"read\(\) and between\(\)"):
                Event.objects.consume("q")
            with pytest.raises(kv.Unsupported, match="delay"):
                await Event.objects.put(Event("q"), delay=1)


async def test_a_log_needs_no_conditions(clock: Clock) -> None:
    """Without conditional writes a queue can be filled and read; no tickets are written that nobody could use."""
    async with kv.connect(UNCONDITIONAL, clock=clock) as db:
        await db.prepare(Event)
        start = clock.now
        with kv.budget(round_trips=1, keys=1):
            first = await Event.objects.put(Event("q", "a"))
        clock.advance(SECOND)
        with kv.budget(round_trips=1, keys=2):
            await Event.objects.put_many([Event("q", "b"), Event("q", "c")])

        assert [event.data for event in await Event.objects.read("q", after=first.id)] == ["b", "c"]
        assert await Event.objects.between("q", start, start + SECOND) == [first]
        assert await Event.objects.length("q") == 3
        assert await Event.objects.dead("q") == []
        assert await Event.objects.purge("q", older_than=0) == 1
        assert [event.data for event in await Event.objects.read("q")] == ["b", "c"]


async def test_reading_is_refused_without_order(clock: Clock) -> None:
    """A message can still be got by its id."""
    async with kv.connect(UNORDERED, clock=clock):
        event = await Event.objects.put(Event("q", "a"))

        assert await Event.objects.get("q", event.id) == event
        for refused in (Event.objects.read("q"), Event.objects.between("q"), Event.objects.dead("q")):
            with pytest.raises(kv.Unsupported, match="ranges"):
                await refused


async def test_a_unit_is_refused_where_it_would_be_none(clock: Clock) -> None:
    """Where atomic writes reach one record, an acknowledgement can't commit with anything else."""
    async with kv.connect(RECORD, clock=clock) as db:
        await Event.objects.put(Event("q", "a"))
        message = await take()

        with pytest.raises(kv.Unsupported):
            async with db.unit_of_work() as uow:
                uow.add(Result("q", "a"))
                await message.ack()
        await message.ack()


async def test_a_unit_reaches_as_far_as_the_partition(clock: Clock) -> None:
    """Where atomic writes do: the consumer's records have to lie in the queue's partition."""
    async with kv.connect("memory://?atomicity=partition", clock=clock) as db:
        await Event.objects.put_many([Event("q", "a"), Event("q", "b")])
        async with db.unit_of_work() as uow:
            uow.add(Result("q", "a"))
            await (await take()).ack()
        with pytest.raises(kv.Unsupported):
            async with db.unit_of_work() as uow:
                uow.add(Result("elsewhere", "b"))
                await (await take()).ack()

        assert await Event.objects.length("q") == 1


@pytest.mark.parametrize("limits", ["max_atomic_changes=1", "max_atomic_changes=2", "max_atomic_checks=2"])
async def test_atomic_writes_too_small_for_a_step(clock: Clock, limits: str) -> None:
    """Are used one record at a time, like those of stores that have no larger ones."""
    async with kv.connect(f"memory://?{limits}&range_checks=false", clock=clock):
        await Event.objects.put_many([Event("q", "a"), Event("q", "b")])
        for _ in range(3):
            await (await take()).nack()

        assert await drain() == ["b"]
        assert await Event.objects.redrive("q") == 1
        assert await drain() == ["a"]


# --- one record at a time: what a crash between two writes leaves -----------------------------------------------------


class Stop(Exception):
    """The program dies here."""


class DyingDriver:
    """Lets a number of writes through, and then no more: what a crash in the middle leaves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        write = MemoryDriver.write

        async def dying(driver: MemoryDriver, *args: Any, **options: Any) -> Any:
            if self.left is not None:
                if not self.left:
                    raise Stop
                self.left -= 1
            return await write(driver, *args, **options)

        monkeypatch.setattr(MemoryDriver, "write", dying)


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
@pytest.mark.parametrize("call", ["put", "take", "extend", "nack", "ack", "bury", "redrive"])
async def test_a_crash_between_two_writes_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, call: str, writes: int
) -> None:
    """Whatever the last write was: a message whose put was reported is done once it was acknowledged, and not before.

    It may be handed out twice.
    """
    dying = DyingDriver(monkeypatch)
    async with kv.connect(RECORD, clock=clock):
        await Event.objects.put(Event("q", "a"))
        message = None if call in ("put", "take") else await take()
        if call in ("bury", "redrive"):
            assert message is not None
            for _ in range(2):
                await message.nack()
                message = await take()
            if call == "redrive":
                await message.nack()

        dying.left = writes
        acknowledged = await _dies(call, message)
        dying.left = None
        clock.advance(3_600)
        drained = await drain()
        await Event.objects.redrive("q")
        drained += await drain()

        assert set(drained) <= {"a", "b"}
        if acknowledged:
            assert "a" not in drained
        elif not (call == "ack" and writes == 1):  # Then it was acknowledged, and only the answer is missing.
            assert "a" in drained
        clock.advance(3_600)
        assert await drain() == []
        assert await Event.objects.dead("q") == []


async def _dies(call: str, message: Any) -> bool:
    """Make a call that is cut short; answer whether it said that the message is acknowledged."""
    try:
        match call:
            case "put":
                await Event.objects.put(Event("q", "b"))
            case "take":
                await take()
            case "bury":
                await message.nack()
            case "redrive":
                await Event.objects.redrive("q")
            case _:
                await getattr(message, call)()
    except Stop:
        return False
    return call == "ack"


async def test_a_lost_race_one_record_at_a_time_leaves_one_ticket(clock: Clock) -> None:
    """The loser takes back what it put, so that the message is not handed out a second time for it."""
    async with kv.connect(RECORD, clock=clock) as db, kv.connect(RECORD, clock=clock) as other:
        await Event.objects.using(db).put(Event("q", "a"))
        slow = await anext(Event.objects.using(db).consume("q", wait=False, lease=1))
        clock.advance(1)
        quick = await anext(Event.objects.using(other).consume("q", wait=False))

        for lost in (slow.nack, slow.extend, slow.ack):
            with pytest.raises(kv.Conflict):
                await lost()
        assert [m async for m in Event.objects.using(db).consume("q", wait=False)] == []
        await quick.ack()
        clock.advance(3_600)
        assert [m async for m in Event.objects.using(db).consume("q", wait=False)] == []


# --- stores that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("url", ["memory://", "memory://?atomicity=record&range_checks=false"])
async def test_at_least_once_on_a_store_that_fails(url: str, clock: Clock, seed: int) -> None:
    """Conflicts, cut connections, lost replies: what was put is worked, and what was acknowledged stays so."""
    plan = FaultPlan(seed, conflict=0.1, cut_before=0.05, cut_after=0.05, delay=0.1, calls=["write", "scan", "read"])
    async with kv.connect(url, plan=plan, clock=clock):
        put = [number for number in range(20) if await _goes_well(Event.objects.put(Event("q", str(number))))]
        worked: list[str] = []
        acknowledged: list[str] = []

        async def work() -> None:
            for _ in range(60):
                try:
                    async for message in Event.objects.consume("q", wait=False, max_attempts=None):
                        assert message.item.data not in acknowledged
                        worked.append(message.item.data)
                        if await _goes_well(message.ack()):
                            acknowledged.append(message.item.data)
                except kv.StoreError:
                    pass
                clock.advance(11)
                await asyncio.sleep(0)

        await asyncio.wait_for(asyncio.gather(work(), work()), 60)
        plan.quiet()
        clock.advance(3_600)
        worked += await drain()

    assert {str(number) for number in put} <= set(worked)
    assert plan.counts[Fault.CUT_AFTER] > 0
    assert plan.counts[Fault.CONFLICT] > 0


async def _goes_well(call: Any) -> bool:
    try:
        await call
    except (kv.StoreError, kv.Conflict):
        return False
    return True


async def test_what_was_taken_before_a_failure_is_handed_out(clock: Clock) -> None:
    """A look that fails after another one found something does not take that away."""
    plan = FaultPlan(calls=["scan"])
    async with kv.connect("memory://", plan=plan, clock=clock):
        await Wide.objects.put_many(Wide("q") for _ in range(40))
        consumer = Wide.objects.consume("q", wait=False, prefetch=40)
        plan.then(*[None] * 5, Fault.CUT_BEFORE)

        assert (await anext(consumer)).attempts == 1

        rest = await gather_all(consumer)
        assert len(rest) == 39


async def test_a_large_wish_that_fails_half_way(clock: Clock) -> None:
    """It takes several writes; what the first ones brought is handed out."""
    plan = FaultPlan(calls=["write"])
    async with kv.connect("memory://", plan=plan, clock=clock):
        await Event.objects.put_many(Event("q") for _ in range(900))
        consumer = Event.objects.consume("q", wait=False, prefetch=900)
        plan.then(None, Fault.CUT_BEFORE)

        await anext(consumer)

        assert len(consumer._ahead) == 499
        assert len(await gather_all(consumer)) == 899


async def test_a_damaged_message_stands_in_nobodys_way(clock: Clock) -> None:
    """Who takes it is told, as often as its lease runs out; the others are taken, with it or without it."""
    async with kv.connect("memory://", clock=clock) as db:
        bad, *_ = events = [Event("q", str(number)) for number in range(4)]
        await Event.objects.put_many(events)
        bound = db._tables[schema_of(Event)]
        db.native.put(bound.driver.codec(bound.table).encode_key(("q", bad.id)), b"\xff damaged")  # type: ignore[attr-defined]

        for expected in ("1", "2", "3", None, None):
            consumer = Event.objects.consume("q", lease=10, wait=False, prefetch=2)
            with pytest.raises(kv.DecodingError):
                await anext(consumer)
            following = await anext(consumer, None)
            assert (following and following.item.data) == expected
            if following is not None:
                await following.ack()
            clock.advance(10)
        with pytest.raises(kv.DecodingError):
            await Event.objects.read("q")


async def test_a_lost_race_is_tried_again(clock: Clock) -> None:
    """Further on, and as often as time allows; then it is told."""
    plan = FaultPlan(script=[Fault.CONFLICT] * 3, calls=["write"])
    async with kv.connect("memory://", clock=clock) as db:
        await Event.objects.using(db).put_many(Event("q", str(number)) for number in range(100))
    async with kv.connect("memory://", plan=plan, clock=clock):
        await _fill(plan)

        assert (await take()).attempts == 1
        plan.then(*[Fault.CONFLICT] * 1_000)
        with kv.timeout(0.05), pytest.raises(kv.TimedOut, match="other consumers were faster"):
            await take()


async def _fill(plan: FaultPlan) -> None:
    """Put messages while nothing goes wrong."""
    script, plan._script = plan._script, []
    await Event.objects.put_many(Event("q", str(number)) for number in range(100))
    plan.then(*script)


async def test_a_lost_lease_write_is_told(clock: Clock) -> None:
    """Nobody knows whether the message was taken; if it was, its lease runs out."""
    plan = FaultPlan(calls=["write"])
    async with kv.connect("memory://", plan=plan, clock=clock):
        await Event.objects.put(Event("q", "a"))
        plan.then(Fault.CUT_AFTER)

        with pytest.raises(kv.OutcomeUnknown):
            await take()
        assert await drain() == []
        clock.advance(30)
        assert (await take()).attempts == 2


# --- the small hooks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["lmdb"], indirect=True)
async def test_the_companions_are_prepared_and_purged_with_their_queue(url: str, clock: Clock) -> None:
    """``prepare=never`` leaves them to ``db.prepare``; dead letters that expired go with ``db.purge_expired``."""
    async with kv.connect(url, clock=clock, prepare="never") as db:
        await db.prepare(Brief)
        await Brief.objects.put(Brief("q", "a"))
        async for message in Brief.objects.consume("q", wait=False, max_attempts=1):
            await message.nack()
        assert await Brief.objects.dead("q").count() == 1
        clock.advance(61)
        assert await Brief.objects.dead("q").count() == 0
    async with kv.connect(url, clock=clock) as db:
        assert await db.purge_expired(Brief) == 1


async def test_a_bound_model_takes_its_companions_along(clock: Clock) -> None:
    """``db.bind`` and ``using`` say where a queue is, for its tickets and dead letters as well."""

    class Bound(kv.QueueModel, table="bound"):
        queue: str = kv.partition_key()
        data: str

    class BoundWide(kv.QueueModel, table="bound_wide", shards=3):
        queue: str = kv.partition_key()
        data: str

    models: list[Any] = [Bound, BoundWide]
    async with kv.connect("memory://", clock=clock) as one, kv.connect("memory://", clock=clock) as other:
        for model in models:
            one.bind(model)
            await model.objects.put(model("q", "a"))
            async for message in model.objects.consume("q", wait=False, max_attempts=1):
                await message.nack()

            assert await model.objects.dead("q").count() == 1
            assert await model.objects.using(other).dead("q").count() == 0
            assert await model.objects.redrive("q") == 1


async def test_namespaces_keep_queues_apart(db: kv.Database) -> None:
    """As they do all records."""
    one, other = db.namespace("one"), db.namespace("other")
    await Event.objects.using(one).put(Event("q", "a"))

    assert await Event.objects.using(other).length("q") == 0
    assert [m async for m in Event.objects.using(other).consume("q", wait=False)] == []
    assert [m.item.data async for m in Event.objects.using(one).consume("q", wait=False)] == ["a"]
