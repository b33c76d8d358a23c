"""Planned faults: each does what it says, to the store and to its caller; a seed gives the same plan again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

import kvmodel as kv
from kvmodel.testing import Call, Fault, FaultPlan
from kvmodel.testing.conformance.models import Item, gather_all, names
from tests.faults.waiting import until


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan()


@pytest.fixture
async def db(plan: FaultPlan) -> AsyncIterator[kv.Database]:
    async with kv.connect("memory://", plan=plan, timeout=5) as db:
        await db.prepare(Item)
        yield db


@pytest.mark.usefixtures("db")
async def test_without_faults_nothing_changes(plan: FaultPlan) -> None:
    """Every call passes, and is logged by its name and size."""
    await Item.objects.create(Item("s", "a"))
    await Item.objects.save_many([Item("s", "b"), Item("s", "c")])
    await Item.objects.get("s", "a")
    await Item.objects.range("s")
    await Item.objects.range("s").count()

    assert [call.name for call in plan.log] == ["write", "batch", "read", "scan", "count"]
    assert plan.log[1] == Call("batch", 2, None)
    assert plan.counts == {}


@pytest.mark.usefixtures("db")
async def test_a_conflict_is_a_conflict(plan: FaultPlan) -> None:
    """Nothing is done, and the next attempt works."""
    item = await Item.objects.create(Item("s", "a"))
    plan.then(Fault.CONFLICT)
    item.count = 1

    with pytest.raises(kv.Conflict):
        await Item.objects.save(item)
    assert (await Item.objects.get("s", "a")).count == 0
    await Item.objects.save(item)
    assert (await Item.objects.get("s", "a")).count == 1


@pytest.mark.usefixtures("db")
async def test_what_relies_on_nothing_meets_no_conflict(plan: FaultPlan) -> None:
    """A store would not raise one for it, and neither does a plan."""
    plan.then(Fault.CONFLICT, Fault.CONFLICT, Fault.CONFLICT)

    await Item.objects.save(Item("s", "a"))
    await Item.objects.delete("s", "a")
    await Item.objects.find("s", "a")

    assert plan.counts == {}


@pytest.mark.usefixtures("db")
async def test_update_goes_on_after_conflicts(plan: FaultPlan) -> None:
    """It reads again and writes again, as often as it takes."""
    await Item.objects.create(Item("s", "a"))
    plan.then(*(fault for _ in range(3) for fault in (None, Fault.CONFLICT)))

    await Item.objects.update("s", "a", count=lambda count: count + 1)

    assert (await Item.objects.get("s", "a")).count == 1
    assert plan.counts == {Fault.CONFLICT: 3}


@pytest.mark.usefixtures("db")
async def test_a_cut_before_does_nothing(plan: FaultPlan) -> None:
    """Unavailable: the object is what it was, and can be saved again."""
    item = await Item.objects.create(Item("s", "a"))
    plan.then(Fault.CUT_BEFORE, Fault.CUT_BEFORE)
    item.count = 1

    with pytest.raises(kv.Unavailable):
        await Item.objects.save(item)
    with pytest.raises(kv.Unavailable):
        await Item.objects.get("s", "a")
    assert (await Item.objects.get("s", "a")).count == 0
    await Item.objects.save(item)


@pytest.mark.usefixtures("db")
async def test_a_cut_after_leaves_the_outcome_unknown(plan: FaultPlan) -> None:
    """The write is done; its object has to be read again before it is saved again. A read is merely Unavailable."""
    item = await Item.objects.create(Item("s", "a"))
    plan.then(Fault.CUT_AFTER)
    item.count = 1

    with pytest.raises(kv.OutcomeUnknown):
        await Item.objects.save(item)
    with pytest.raises(kv.Conflict):
        await Item.objects.save(item)
    await Item.objects.refresh(item)
    assert item.count == 1
    await Item.objects.save(item)
    plan.then(Fault.CUT_AFTER)
    with pytest.raises(kv.Unavailable):
        await Item.objects.get("s", "a")


@pytest.mark.usefixtures("db")
async def test_a_late_write_is_done_later() -> None:
    """The reader finds the old state first, then the new one."""
    plan = FaultPlan(script=[Fault.LATE], calls=["write"], late_by=2)
    async with kv.connect("memory://", plan=plan) as db:
        objects = Item.objects.using(db)

        with pytest.raises(kv.OutcomeUnknown):
            await objects.save(Item("s", "a"))

        assert [await objects.exists("s", "a") for _ in range(3)] == [False, False, True]


async def test_settling_does_what_is_late(db: kv.Database, plan: FaultPlan) -> None:
    """A late write that lost its race by then does nothing, quietly."""
    item = await Item.objects.create(Item("s", "a"))
    plan.then(Fault.LATE)
    item.count = 1
    with pytest.raises(kv.OutcomeUnknown):
        await Item.objects.save(item)
    await Item.objects.update("s", "a", count=7)
    plan.then(Fault.LATE)
    with pytest.raises(kv.OutcomeUnknown):
        await Item.objects.save(Item("s", "b"))

    await plan.settle()

    assert (await Item.objects.get("s", "a")).count == 7
    assert await Item.objects.exists("s", "b")


@pytest.mark.usefixtures("db")
async def test_a_unit_whose_reply_is_lost(plan: FaultPlan, db: kv.Database) -> None:
    """All of it is done, none of its objects can be saved unread, and transact does not run it again."""
    runs = 0

    async def add(uow: kv.UnitOfWork) -> None:
        nonlocal runs
        runs += 1
        uow.add(Item("s", "a"), Item("s", "b"))

    plan.then(Fault.CUT_AFTER)
    with pytest.raises(kv.OutcomeUnknown):
        await db.transact(add)

    assert runs == 1
    assert names(await Item.objects.range("s")) == ["a", "b"]


@pytest.mark.usefixtures("db")
async def test_a_batch_is_done_in_part(plan: FaultPlan) -> None:
    """What was not sent can be sent again, and nothing else has to be."""
    plan.then(Fault.PARTIAL)
    items = [Item("s", f"{number}") for number in range(10)]

    with pytest.raises(kv.BatchError) as caught:
        await Item.objects.save_many(items)
    statuses = [outcome.status for outcome in caught.value.outcomes]
    done = statuses.count(kv.Status.WRITTEN)
    assert statuses == [kv.Status.WRITTEN] * done + [kv.Status.UNSENT] * (10 - done)
    assert await Item.objects.range("s").count() == done == caught.value.done
    remaining = list(caught.value.remaining)  # type: ignore[arg-type]

    assert await Item.objects.save_many(remaining) == 10 - done  # type: ignore[arg-type]
    assert await Item.objects.range("s").count() == 10


async def test_one_of_a_batch_meets_a_conflict(plan: FaultPlan, db: kv.Database) -> None:
    """The others are done."""
    batch = db.batch()
    batch.add(*(Item("s", f"{number}") for number in range(5)))
    plan.then(Fault.CONFLICT)

    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    statuses = [outcome.status for outcome in caught.value.outcomes]
    assert sorted(map(repr, statuses)) == ["CONFLICT"] + ["WRITTEN"] * 4
    losing = statuses.index(kv.Status.CONFLICT)
    assert f"{losing}" not in names(await Item.objects.range("s"))


@pytest.mark.usefixtures("db")
async def test_a_batch_whose_reply_is_lost(plan: FaultPlan) -> None:
    """Every outcome is unknown, and all of it is among what remains."""
    plan.then(Fault.CUT_AFTER)
    items = [Item("s", f"{number}") for number in range(3)]

    with pytest.raises(kv.BatchError) as caught:
        await Item.objects.save_many(items)

    assert {outcome.status for outcome in caught.value.outcomes} == {kv.Status.UNKNOWN}
    assert list(caught.value.remaining) == items  # type: ignore[arg-type]


@pytest.mark.usefixtures("db")
async def test_a_delay_lets_others_run(plan: FaultPlan) -> None:
    """The slow one is overtaken, and both get their own answers."""
    await Item.objects.save_many([Item("s", "a", 1), Item("s", "b", 2)])
    plan.then(Fault.DELAY)
    order = []

    async def read(name: str) -> int:
        found = await Item.objects.range("s", first=name, limit=1)
        order.append(name)
        return found[0].count

    assert tuple(await asyncio.gather(read("a"), read("b"))) == (1, 2)
    assert order == ["b", "a"]


@pytest.mark.usefixtures("db")
async def test_a_stalled_call_goes_on_when_it_is_told_to(plan: FaultPlan) -> None:
    """Nothing is done until then."""
    plan.then(Fault.STALL)
    task = asyncio.ensure_future(Item.objects.save(Item("s", "a")))
    await until(lambda: plan.counts)
    assert not await Item.objects.exists("s", "a")
    assert not task.done()

    plan.resume()
    await task

    assert await Item.objects.exists("s", "a")


@pytest.mark.usefixtures("db")
async def test_a_stalled_call_ends_by_its_time_limit(plan: FaultPlan) -> None:
    """A read is TimedOut; of a write nobody knows."""
    plan.then(Fault.STALL, Fault.STALL)

    with kv.timeout(0.01):
        with pytest.raises(kv.TimedOut):
            await Item.objects.range("s")
        with pytest.raises(kv.OutcomeUnknown):
            await Item.objects.save(Item("s", "a"))

    assert not await Item.objects.exists("s", "a")


@pytest.mark.usefixtures("db")
async def test_a_cancelled_write_is_unknown(plan: FaultPlan) -> None:
    """It may have been sent: the caller is told so, and the object too."""
    item = await Item.objects.create(Item("s", "a"))
    plan.then(Fault.STALL)
    task = asyncio.ensure_future(Item.objects.save(item))
    await until(lambda: plan.counts)

    task.cancel()

    with pytest.raises(kv.OutcomeUnknown):
        await task
    with pytest.raises(kv.Conflict):
        await Item.objects.save(item)


@pytest.mark.usefixtures("db")
async def test_a_stream_that_breaks_has_given_whole_pages(plan: FaultPlan) -> None:
    """What came before is right; what comes after can be asked for from there."""
    await Item.objects.save_many([Item("s", f"{number:03}") for number in range(300)])
    plan.then(None, Fault.CUT_AFTER)
    seen: list[str] = []

    async def read() -> None:
        async for item in Item.objects.range("s"):
            seen.append(item.name)  # noqa: PERF401 - it breaks in the middle

    with pytest.raises(kv.Unavailable):
        await read()
    rest = names(await gather_all(Item.objects.range("s", after=seen[-1])))

    assert 0 < len(seen) < 300
    assert [*seen, *rest] == [f"{number:03}" for number in range(300)]


async def _draw(seed: int) -> Sequence[Call]:
    plan = FaultPlan(seed, conflict=0.2, cut_before=0.1, cut_after=0.1, late=0.1, partial=0.1, delay=0.2)
    async with kv.connect("memory://", plan=plan) as db:
        objects = Item.objects.using(db)
        for number in range(60):
            calls = (
                objects.create(Item("s", f"{number}")),
                objects.find("s", f"{number}"),
                objects.save_many([Item("s", "x"), Item("s", "y"), Item("s", "z")]),
            )
            await asyncio.gather(*calls, return_exceptions=True)
    return plan.log


async def test_a_seed_gives_the_same_faults_again() -> None:
    """And another seed others; all kinds come up."""
    once, again, other = await _draw(1), await _draw(1), await _draw(2)

    assert once == again
    assert once != other
    assert {call.fault for call in once} == {None, *Fault} - {Fault.STALL}


@pytest.mark.parametrize("chances", [{"conflict": -0.1}, {"delay": 1.1}, {"late": 0.6, "delay": 0.6}])
def test_chances_are_chances(chances: dict[str, float]) -> None:
    """Below 0, or above 1 together, they are refused."""
    with pytest.raises(ValueError, match="chances"):
        FaultPlan(**chances)  # type: ignore[arg-type]


def test_a_plan_is_given_by_keyword() -> None:
    """A URL cannot carry one."""
    with pytest.raises(kv.ValidationError, match="plan"):
        asyncio.run(kv.connect("memory://?plan=1")._open())
