"""Time limits: one for a whole operation, however many requests it takes, and what is known when it has passed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import kvmodel as kv
from kvmodel import _aio, _binding
from kvmodel._direct import pause
from kvmodel.database import Connection, Database
from kvmodel.drivers.base import Absent, Key, Mutation, Outcome, Row, Rows, Slice, Table
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.testing.faults import Fault, FaultPlan
from tests.mapper.models import Clock, Counter, Fixed, Session, User


class Recorder(MemoryDriver):
    """Notes the time limit of every call."""

    limits: list[float]

    async def prepare(self, table: Table, *, now: int, until: float) -> None:
        self.limits.append(until)
        await super().prepare(table, now=now, until=until)

    async def read(
        self, table: Table, keys: Sequence[Key], *, values: bool = True, now: int, until: float
    ) -> list[Row | Absent]:
        self.limits.append(until)
        return await super().read(table, keys, values=values, now=now, until=until)

    async def scan(self, table: Table, slice: Slice, *, values: bool = True, now: int, until: float) -> Rows:
        self.limits.append(until)
        return await super().scan(table, slice, values=values, now=now, until=until)

    async def count(self, table: Table, slice: Slice, *, now: int, until: float) -> int:
        self.limits.append(until)
        return await super().count(table, slice, now=now, until=until)

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        self.limits.append(until)
        return await super().write(mutations, atomic=atomic, now=now, until=until)


@pytest.fixture(params=[True, False], ids=["in place", "remote"])
async def recorder(request: pytest.FixtureRequest) -> AsyncIterator[Recorder]:
    driver = Recorder(reads_in_place=request.param)
    driver.limits = []
    await driver.open()
    yield driver
    await driver.close()


async def _in_a_unit(db: Database) -> None:
    async with db.unit_of_work() as uow:
        uow.put(Counter("a"))


OPERATIONS: dict[str, Callable[[Database], Any]] = {
    "find": lambda db: Counter.objects.using(db).find("a"),
    "exists": lambda db: Counter.objects.using(db).exists("a"),
    "get_many": lambda db: Counter.objects.using(db).get_many([f"{n}" for n in range(3000)]),
    "save": lambda db: Counter.objects.using(db).save(Counter("a")),
    "delete": lambda db: Counter.objects.using(db).delete("a"),
    "range": lambda db: Counter.objects.using(db).range()._list(),
    "first": lambda db: Counter.objects.using(db).range().first(),
    "page": lambda db: Counter.objects.using(db).range().page(5),
    "count": lambda db: Counter.objects.using(db).range().count(),
    "stream of one page": lambda db: anext(aiter(Counter.objects.using(db).range()), None),
    "commit": _in_a_unit,
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_one_limit_for_all_requests_of_an_operation(recorder: Recorder, name: str) -> None:
    """Making the table ready, and every request after that, have to be over by the same moment."""
    db = Database(Connection(recorder))

    await OPERATIONS[name](db)

    assert len(recorder.limits) > 1
    assert len(set(recorder.limits)) == 1


@pytest.mark.parametrize("name", ["update", "expire"])
async def test_one_limit_for_all_attempts(name: str) -> None:
    """Reading, writing and doing both again after a lost race are one operation."""
    plan = FaultPlan(calls=["write"])
    driver = Recorder(plan=plan)
    driver.limits = []
    await driver.open()
    db = Database(Connection(driver))
    objects = Counter.objects.using(db)
    await objects.create(Counter("a"))
    driver.limits.clear()
    plan.then(Fault.CONFLICT, Fault.CONFLICT)

    if name == "update":
        await objects.update("a", value=1)
    else:
        await objects.expire("a", expires_in=timedelta(hours=1))

    assert len(driver.limits) == 6
    assert len(set(driver.limits)) == 1
    await db.close()


async def test_an_update_that_loses_every_race_ends_in_time() -> None:
    """TimedOut, with the last Conflict as its cause; nothing was written."""

    class Contended(MemoryDriver):
        async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
            if atomic:
                raise kv.Conflict("somebody else was faster")
            return await super().write(mutations, atomic=atomic, now=now, until=until)

    driver = Contended()
    await driver.open()
    db = Database(Connection(driver))
    objects = Counter.objects.using(db)
    await objects.save_many([Counter("a")])

    with kv.timeout(0.01), pytest.raises(kv.TimedOut, match="lost every race") as caught:
        await objects.update("a", value=1)

    assert isinstance(caught.value.__cause__, kv.Conflict)
    assert caught.value.key == ("a",)
    assert (await objects.get("a")).value == 0
    await db.close()


@pytest.mark.parametrize("inside", [False, True])
async def test_a_long_range_ends_in_time(db: kv.Database, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    """Pages that are read in place take time too: between them the limit is looked at."""
    await User.objects.save_many([User("red", f"{n:05}") for n in range(1000)])
    later = itertools.count(step=4)
    monkeypatch.setattr(_binding, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + next(later)))

    with pytest.raises(kv.TimedOut):
        if inside:
            async with db.unit_of_work():
                await User.objects.range("red")
        else:
            await User.objects.range("red")


async def test_each_page_of_a_stream_has_its_own_limit() -> None:
    """A stream may take as long as its reader likes: the limit is a page's."""
    driver = Recorder()
    driver.limits = []
    await driver.open()
    db = Database(Connection(driver))
    await User.objects.using(db).save_many([User("red", f"{n:05}") for n in range(200)])
    driver.limits.clear()

    assert len([user async for user in User.objects.using(db).range("red")]) == 200

    assert len(driver.limits) == len(set(driver.limits)) == 3
    await db.close()


async def test_waiting_for_another_tables_preparation_ends_in_time() -> None:
    """One table is made ready after the other: who waits for a slow one is TimedOut, and nothing hangs behind it."""

    class Slow(MemoryDriver):
        async def prepare(self, table: Table, *, now: int, until: float) -> None:
            await asyncio.Event().wait()

    driver = Slow()
    await driver.open()
    db = Database(Connection(driver))
    first = asyncio.create_task(Counter.objects.using(db).find("a"))
    await asyncio.sleep(0)

    with kv.timeout(0.001), pytest.raises(kv.TimedOut):
        await User.objects.using(db).find("red", "ada")

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not db._connection.preparing.locked()
    await db.close()


async def test_a_caller_whose_time_is_up_leaves_the_others_alone() -> None:
    """Reads that travel together have each their own limit."""
    plan = FaultPlan(calls=["read"], script=[Fault.STALL])
    async with kv.connect("memory://", plan=plan) as db:
        await db.prepare(Counter)
        patient = asyncio.create_task(Counter.objects.find("a"))
        with kv.timeout(0.001):
            hasty = asyncio.create_task(Counter.objects.find("b"))
        with pytest.raises(kv.TimedOut):
            await hasty
        plan.resume()

        assert await patient is None
        assert [call.size for call in plan.log] == [2]


async def test_before_hands_on_what_the_awaited_raises() -> None:
    """A TimedOut from below keeps its own words."""

    async def fail() -> None:
        raise kv.TimedOut("mine")

    with pytest.raises(kv.TimedOut, match="mine"):
        await _aio.before(fail(), 10, store="s")


async def test_closing_ends_reads_that_are_under_way() -> None:
    """They are Closed, not cancelled: nobody cancelled their tasks."""
    plan = FaultPlan(calls=["read"], script=[Fault.STALL])
    db = await kv.connect("memory://", plan=plan)
    reading = asyncio.create_task(Counter.objects.using(db).find("a"))
    for _ in range(5):
        await asyncio.sleep(0)
    await db.close()

    with pytest.raises(kv.Closed):
        await reading


async def test_closing_in_the_middle_of_a_stream(db: kv.Database) -> None:
    """The next page is refused."""
    await User.objects.save_many([User("red", f"{n:04}") for n in range(300)])
    stream = aiter(User.objects.range("red"))
    await anext(stream)
    await db.close()

    with pytest.raises(kv.Closed):
        async for _ in stream:
            pass


async def test_the_driver_is_closed_whatever_its_tasks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing that is cancelled while it waits for its tasks still lets the store go."""
    db = await kv.connect("memory://")
    driver = db._connection.driver
    assert isinstance(driver, MemoryDriver)

    async def close() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(db._connection._tasks, "close", close)
    with pytest.raises(asyncio.CancelledError):
        await db.close()

    with pytest.raises(kv.Closed):
        _ = driver.native


# --- what became of a write -------------------------------------------------------------------------------------------


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan(calls=["write", "batch"])


@pytest.fixture
async def planned(plan: FaultPlan, clock: Clock) -> AsyncIterator[kv.Database]:
    """A database on which a test says what goes wrong with the next writes."""
    async with kv.connect("memory://", plan=plan, clock=clock) as db:
        yield db


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize("name", ["create", "save", "delete"])
@pytest.mark.parametrize("cause", ["cut", "timeout", "cancellation"])
async def test_a_write_that_may_have_happened(plan: FaultPlan, name: str, cause: str) -> None:
    """OutcomeUnknown, and the object is unknown: not to be saved before it was read again, unless forced."""
    ada = User("red", "ada")
    if name != "create":
        await User.objects.create(ada)
    plan.then(Fault.CUT_AFTER if cause == "cut" else Fault.STALL)

    with kv.timeout(0.001 if cause == "timeout" else 10):
        task = asyncio.create_task(getattr(User.objects, name)(ada))
    for _ in range(5):
        await asyncio.sleep(0)
    if cause == "cancellation":
        task.cancel()
    with pytest.raises(kv.OutcomeUnknown):
        await task

    with pytest.raises(kv.ValidationError):
        kv.version(ada)
    for attempt in (User.objects.save, User.objects.delete):
        with pytest.raises(kv.Conflict, match="refresh"):
            await attempt(ada)
    await User.objects.save(ada, force=True)
    assert await User.objects.get("red", "ada") == ada


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize("name", ["update", "expire"])
async def test_an_unknown_outcome_ends_the_attempts(plan: FaultPlan, name: str) -> None:
    """update and expire do not do again what may have happened."""
    await Counter.objects.create(Counter("a", 1))
    plan.then(Fault.LATE)

    with pytest.raises(kv.OutcomeUnknown):
        if name == "update":
            await Counter.objects.update("a", value=lambda value: value + 1)
        else:
            await Counter.objects.expire("a", expires_in=timedelta(hours=1))

    assert plan.counts[Fault.LATE] == 1
    await plan.settle()
    assert (await Counter.objects.get("a")).value == (2 if name == "update" else 1)


@pytest.mark.usefixtures("planned")
async def test_an_unknown_object_keeps_what_it_does_not_know(plan: FaultPlan, clock: Clock) -> None:
    """Saved by force, it keeps its deadline and the fields that its model does not have."""

    class Wide(kv.Model, table="things"):
        name: str = kv.partition_key()
        age: int = 0
        extra: str = ""

    class Narrow(kv.Model, table="things"):
        name: str = kv.partition_key()
        age: int = 0

    await Wide.objects.create(Wide("a", 1, "kept"), expires_in=timedelta(seconds=10))
    thing = await Narrow.objects.get("a")
    thing.age = 2
    plan.then(Fault.LATE)
    with pytest.raises(kv.OutcomeUnknown):
        await Narrow.objects.save(thing)
    await Narrow.objects.save(thing, force=True)

    wide = await Wide.objects.get("a")
    assert (wide.age, wide.extra) == (2, "kept")
    clock.advance(10)
    assert await Wide.objects.find("a") is None


@pytest.mark.usefixtures("planned")
async def test_what_was_surely_not_written_changes_no_state(plan: FaultPlan) -> None:
    """After Unavailable an object is what it was before."""
    ada = User("red", "ada")
    plan.then(Fault.CUT_BEFORE)
    with pytest.raises(kv.Unavailable):
        await User.objects.create(ada)
    await User.objects.create(ada)

    ada.age = 1
    plan.then(Fault.CUT_BEFORE)
    with pytest.raises(kv.Unavailable):
        await User.objects.save(ada)
    await User.objects.save(ada)


async def test_a_forced_write_with_a_deadline_that_has_passed_is_refused(db: kv.Database, clock: Clock) -> None:
    """It would be gone at once. A checked one meets an expired record: a Conflict."""
    session = await Session.objects.create(Session("t"), expires_in=timedelta(seconds=5))
    clock.advance(5)

    with pytest.raises(kv.Conflict):
        await Session.objects.save(session)
    with pytest.raises(kv.ValidationError, match="deadline"):
        await Session.objects.save(session, force=True)
    with pytest.raises(kv.ValidationError, match="deadline"):
        async with db.batch() as batch:
            batch.put(session, force=True)
    await Session.objects.save(session, force=True, expires_in=timedelta(seconds=5))

    assert await Session.objects.exists("t")


async def test_a_deleted_object_that_is_saved_takes_its_models_default(db: kv.Database, clock: Clock) -> None:
    """It is a new record: nothing of the old one's deadline is left, and it does not live for ever either."""
    session = await Session.objects.create(Session("t"), expires_at=None)
    await Session.objects.delete(session)

    await Session.objects.save(session, force=True)

    clock.advance(3599)
    assert await Session.objects.exists("t")
    clock.advance(1)
    assert not await Session.objects.exists("t")
    await Session.objects.create(session, expires_in=timedelta(seconds=5))
    clock.advance(5)
    assert not await Session.objects.exists("t")


async def test_refresh_finds_the_record_that_was_loaded(db: kv.Database) -> None:
    """A key field that was changed by mistake is lost as every change is; a frozen object is refused."""
    ada = await User.objects.create(User("red", "ada", age=1))
    await User.objects.create(User("red", "eve", age=2))
    ada.name = "eve"

    await User.objects.refresh(ada)

    assert (ada.name, ada.age) == ("ada", 1)
    with pytest.raises(kv.ValidationError, match="frozen"):
        await Fixed.objects.refresh(await Fixed.objects.create(Fixed("a")))


async def test_refresh_of_an_object_that_was_never_stored(db: kv.Database) -> None:
    """A new object's key says which record is meant."""
    await User.objects.create(User("red", "ada", age=1))
    ada = User("red", "ada")

    await User.objects.refresh(ada)
    ada.age += 1
    await User.objects.save(ada)

    assert (await User.objects.get("red", "ada")).age == 2


async def test_the_pause_between_attempts_stays_short() -> None:
    """However many races were lost, the next attempt comes soon; and never when time is up."""
    assert await pause(5_000, time.monotonic() + 10)
    assert not await pause(1, time.monotonic() - 1)
