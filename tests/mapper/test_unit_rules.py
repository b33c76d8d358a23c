"""Units of work in company: what comes while they commit, what they already hold, and whose they are."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace

import attrs
import pytest

import kvmodel as kv
from kvmodel import _direct, database
from kvmodel.database import Connection, Database
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.testing.faults import Fault, FaultPlan
from tests.mapper.models import Clock, Counter, Fixed, Session, User


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan(calls=["write", "batch"])


@pytest.fixture
async def planned(plan: FaultPlan) -> AsyncIterator[kv.Database]:
    """A database on which a test says what goes wrong with the next writes."""
    async with kv.connect("memory://", plan=plan) as db:
        yield db


async def _users(*names: str) -> None:
    await User.objects.save_many([User("red", name, age=30) for name in names])


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- while it commits, and afterwards ---------------------------------------------------------------------------------


async def test_what_comes_while_a_unit_commits_is_refused(planned: kv.Database, plan: FaultPlan) -> None:
    """It would be left out of the commit, and lost without a word."""
    unit = await planned.unit_of_work().begin()
    unit.add(User("red", "ada"))
    plan.then(Fault.STALL)
    commit = asyncio.create_task(unit.commit())
    await _turns()

    with pytest.raises(kv.Closed, match="being committed"):
        unit.add(User("red", "bob"))
    with pytest.raises(kv.Closed):
        await User.objects.get("red", "ada")
    with pytest.raises(kv.Closed):
        await unit.commit()
    with pytest.raises(kv.Closed):
        await unit.rollback()
    plan.resume()
    await commit

    names = [user.name for user in await User.objects.using(planned, outside=True).range("red")]
    assert names == ["ada"]


async def test_calls_behind_a_commit_in_its_block_are_refused(db: kv.Database) -> None:
    """Every call inside a block joins its unit: when that has ended they must not commit by themselves."""
    async with db.unit_of_work() as uow:
        await uow.rollback()
        with pytest.raises(kv.Closed):
            await User.objects.create(User("red", "ada"))
    async with db.unit_of_work() as uow:
        uow.add(User("red", "bob"))
        await uow.commit()
        with pytest.raises(kv.Closed):
            await User.objects.find("red", "bob")

    assert [user.name for user in await User.objects.range("red")] == ["bob"]


async def test_a_unit_inside_an_outlived_one_does_not_free_its_task(db: kv.Database) -> None:
    """A task whose unit was ended by another task gets Closed, also after a unit of its own."""
    go = asyncio.Event()

    async def late() -> None:
        async with db.unit_of_work() as inner:
            await go.wait()
            inner.add(User("red", "inner"))
        await User.objects.create(User("red", "late"))

    async with db.unit_of_work():
        task = asyncio.create_task(late())
        await _turns()
    go.set()

    with pytest.raises(kv.Closed):
        await task
    assert [user.name for user in await User.objects.range("red")] == ["inner"]


async def test_units_by_hand_may_end_in_any_order(db: kv.Database) -> None:
    """When all that a task has begun have ended, its calls are on their own again."""
    one = await db.unit_of_work().begin()
    two = await db.unit_of_work().begin()
    three = await db.unit_of_work().begin()

    await two.rollback()
    await one.rollback()
    await User.objects.create(User("red", "ada"))
    await three.commit()
    await User.objects.create(User("red", "bob"))

    assert [user.name for user in await User.objects.range("red")] == ["ada", "bob"]


async def test_a_unit_that_ends_below_open_ones(db: kv.Database) -> None:
    """The units above it stay in force, one after the other."""
    one = await db.unit_of_work().begin()
    two = await db.unit_of_work().begin()
    three = await db.unit_of_work().begin()

    await one.rollback()
    await User.objects.create(User("red", "three"))
    await three.commit()
    await User.objects.create(User("red", "two"))
    await two.rollback()

    assert [user.name for user in await User.objects.range("red")] == ["three"]


async def test_a_unit_that_was_begun_in_another_task(db: kv.Database) -> None:
    """It is used by its name, and ended from here; this task's own calls were never part of it."""
    uow = await asyncio.create_task(db.unit_of_work().begin())
    await User.objects.using(uow).create(User("red", "ada"))
    assert await User.objects.find("red", "ada") is None

    await uow.commit()

    assert await User.objects.exists("red", "ada")


async def test_a_commit_that_fails_for_a_pending_call_ends_its_block(planned: kv.Database) -> None:
    """A call that nobody awaited fails the block; the unit is over and the task free."""
    blocked = FaultPlan(calls=["read"], script=[Fault.STALL])
    async with kv.connect("memory://", plan=blocked) as db:
        objects = User.objects.using(db)
        with pytest.raises(kv.Unsupported, match="under way"):
            async with db.unit_of_work() as uow:
                reading = asyncio.create_task(objects.find("red", "ada"))
                await _turns()
                uow.add(User("red", "eve"))
        blocked.resume()

        with pytest.raises(kv.Closed):
            await reading
        assert "failed" in repr(uow)
        assert await objects.find("red", "eve") is None


async def test_transact_does_not_repeat_what_has_committed(db: kv.Database) -> None:
    """A function that commits by itself and loses another race afterwards must not be run twice."""
    await _users("ada")
    stale = await User.objects.get("red", "ada")
    await User.objects.update("red", "ada", age=1)
    runs = 0

    async def function(uow: kv.UnitOfWork) -> None:
        nonlocal runs
        runs += 1
        assert runs == 1
        uow.add(Counter("run"))
        await uow.commit()
        await User.objects.using(db, outside=True).save(stale)

    with pytest.raises(kv.Conflict):
        await db.transact(function)

    assert await Counter.objects.exists("run")


@pytest.mark.parametrize(("seconds", "attempts"), [(5, range(20, 21)), (0.05, range(30, 200))])
async def test_transact_gives_up_after_time_and_attempts(
    planned: kv.Database, plan: FaultPlan, monkeypatch: pytest.MonkeyPatch, seconds: float, attempts: range
) -> None:
    """At least 20 attempts, however little time there is, and more while there is some; then the last Conflict."""
    await Counter.objects.create(Counter("hits"))
    plan.then(*[Fault.CONFLICT] * 200)
    later = itertools.count(step=seconds)
    monkeypatch.setattr(
        database, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + next(later), time_ns=time.time_ns)
    )
    monkeypatch.setattr(_direct, "random", SimpleNamespace(uniform=lambda least, most: least))
    runs = 0

    async def function(uow: kv.UnitOfWork) -> None:
        nonlocal runs
        runs += 1
        await Counter.objects.update("hits", value=runs)

    with pytest.raises(kv.Conflict):
        await planned.transact(function)

    assert runs in attempts


async def test_transact_does_not_repeat_an_unknown_outcome(planned: kv.Database, plan: FaultPlan) -> None:
    """What may have happened is never done again by itself."""
    await Counter.objects.create(Counter("hits"))
    plan.then(Fault.CUT_AFTER)

    async def function(uow: kv.UnitOfWork) -> None:
        await Counter.objects.update("hits", value=lambda value: value + 1)

    with pytest.raises(kv.OutcomeUnknown):
        await planned.transact(function)

    assert (await Counter.objects.get("hits")).value == 1


async def test_a_lost_commit_makes_what_it_wrote_unknown(planned: kv.Database, plan: FaultPlan) -> None:
    """Objects that were written are unknown, those that were only read stay loaded."""
    await _users("ada", "bob", "cyd")
    eve = User("red", "eve")
    plan.then(Fault.CUT_AFTER)

    with pytest.raises(kv.OutcomeUnknown):
        async with planned.unit_of_work() as uow:
            ada = await User.objects.get("red", "ada")
            bob = await User.objects.get("red", "bob")
            cyd = await User.objects.get("red", "cyd")
            ada.age = 1
            uow.delete(cyd)
            uow.add(eve)

    for obj in (ada, cyd, eve):
        with pytest.raises(kv.ValidationError):
            kv.version(obj)
        with pytest.raises(kv.Conflict, match="refresh"):
            await User.objects.save(obj)
    await User.objects.save(bob)
    await User.objects.refresh(ada)
    ada.age = 2
    await User.objects.save(ada)


async def test_a_lost_commit_without_objects(planned: kv.Database, plan: FaultPlan) -> None:
    """What was deleted by key has no object that could be unknown."""
    await _users("ada")
    plan.then(Fault.CUT_AFTER)

    with pytest.raises(kv.OutcomeUnknown):
        async with planned.unit_of_work():
            await User.objects.delete("red", "ada")

    assert not await User.objects.exists("red", "ada")


async def test_states_after_a_commit(db: kv.Database) -> None:
    """Only what was deleted is deleted: what was read stays loaded, and what was put is so at its new version."""
    await _users("ada", "bob", "cyd")

    async with db.unit_of_work() as uow:
        ada, bob, cyd = await User.objects.get_many([("red", name) for name in ("ada", "bob", "cyd")])
        assert ada is not None
        assert bob is not None
        assert cyd is not None
        before = kv.version(ada), kv.version(cyd)
        uow.delete(bob)
        uow.put(cyd)

    assert kv.version(ada) == before[0]
    assert kv.version(cyd) != before[1]
    assert kv.version(cyd) == kv.version(await User.objects.get("red", "cyd"))
    with pytest.raises(kv.ValidationError):
        kv.version(bob)


async def test_a_cancelled_commit_makes_what_it_wrote_unknown(planned: kv.Database, plan: FaultPlan) -> None:
    """Cancelled in the middle, it may have happened, and the unit is over."""
    unit = await planned.unit_of_work().begin()
    ada = User("red", "ada")
    unit.add(ada)
    plan.then(Fault.STALL)
    commit = asyncio.create_task(unit.commit())
    await _turns()
    commit.cancel()

    with pytest.raises(kv.OutcomeUnknown):
        await commit
    with pytest.raises(kv.Closed):
        await unit.commit()
    with pytest.raises(kv.Conflict):
        await User.objects.using(planned, outside=True).save(ada)


async def test_a_conflict_leaves_objects_as_they_were(db: kv.Database) -> None:
    """After a lost race nothing was written: objects keep their values and the version they were loaded at."""
    await _users("ada")
    eve = User("red", "eve")

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            ada = await User.objects.get("red", "ada")
            before = kv.version(ada)
            uow.add(eve)
            await User.objects.using(db, outside=True).update("red", "ada", age=50)
            ada.age = 1

    assert (ada.age, kv.version(ada)) == (1, before)
    await User.objects.create(eve)


# --- what is checked --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["get", "get_many", "exists", "find"])
async def test_a_key_that_was_asked_for_is_checked_whatever_read_it_first(db: kv.Database, how: str) -> None:
    """Rows of an unchecked range are not protected, but a read of their key is."""
    await _users("ada", "bob")

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            await User.objects.range("red").unchecked()
            if how == "get_many":
                await User.objects.get_many([("red", "ada")])
            else:
                await getattr(User.objects, how)("red", "ada")
            uow.add(User("red", "eve"))
            await User.objects.using(db, outside=True).update("red", "ada", age=1)


async def test_a_look_at_a_key_is_checked_whatever_reads_it_later(db: kv.Database) -> None:
    """An unchecked range that shows the record afterwards takes nothing from exists."""
    await _users("ada")

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            assert await User.objects.exists("red", "ada")
            await User.objects.range("red").unchecked()
            uow.add(User("red", "eve"))
            await User.objects.using(db, outside=True).update("red", "ada", age=1)


async def test_a_read_that_failed_checks_nothing(db: kv.Database) -> None:
    """A key whose read failed was not read: an unchecked range that shows it later leaves it unchecked."""
    await _users("ada")

    async with db.unit_of_work() as uow:
        with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=0):
            await User.objects.get("red", "ada")
        await User.objects.range("red").unchecked()
        uow.add(User("red", "eve"))
        await User.objects.using(db, outside=True).update("red", "ada", age=1)

    assert await User.objects.exists("red", "eve")


async def test_rows_of_a_checked_range_cost_no_checks_of_their_own() -> None:
    """The range is checked as a whole, which is one check; a row that is read by key as well is one more."""
    driver = MemoryDriver(max_atomic_checks=3)
    await driver.open()
    db = Database(Connection(driver))
    objects = User.objects.using(db)
    await objects.save_many([User("red", f"{n}") for n in range(10)])

    async with db.unit_of_work() as uow:
        await objects.range("red")
        uow.add(User("blue", "eve"))
    with pytest.raises(kv.TooLarge) as caught:
        async with db.unit_of_work() as uow:
            await objects.range("red")
            uow.add(User("blue", "fay"))
            for n in range(2):
                await objects.refresh(await objects.get("red", f"{n}"))

    assert (caught.value.size, caught.value.limit) == (4, 3)
    await db.close()


async def test_writes_that_rely_on_nothing_are_no_checks() -> None:
    """Only expectations count against what a store checks in one commit, and changes against what it changes."""
    driver = MemoryDriver(max_atomic_checks=1, max_atomic_changes=3)
    await driver.open()
    db = Database(Connection(driver))

    async with db.unit_of_work() as uow:
        uow.put(*(Counter(f"{n}") for n in range(3)))
    with pytest.raises(kv.TooLarge) as caught:
        async with db.unit_of_work() as uow:
            uow.put(*(Counter(f"{n}") for n in range(4)))

    assert (caught.value.size, caught.value.limit) == (4, 3)
    await db.close()


@pytest.mark.parametrize("first", ["new", "nothing"])
@pytest.mark.parametrize("then", ["save", "if_version", "delete"])
async def test_an_expectation_counts_behind_a_write_without_one(db: kv.Database, first: str, then: str) -> None:
    """What a later write of the same key relies on is not forgotten for an earlier one that relied on nothing."""
    ada = await User.objects.create(User("red", "ada"))
    token = kv.version(ada)
    await User.objects.update("red", "ada", age=50)

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            if first == "new":
                uow.put(User("red", "ada", age=1))
            if then == "save":
                await User.objects.save(ada)
            elif then == "delete":
                await User.objects.delete(ada)
            else:
                await User.objects.save(User("red", "ada", age=2), if_version=token)

    assert (await User.objects.get("red", "ada")).age == 50


async def test_expectations_that_contradict_each_other_are_a_conflict_at_once(db: kv.Database) -> None:
    """Two versions of a record, or a version of what this unit adds, can't both be met."""
    ada = await User.objects.create(User("red", "ada"))
    older = attrs.evolve(ada)  # type: ignore[misc]
    token = kv.version(ada)
    ada.age = 1
    await User.objects.save(ada)

    async with db.unit_of_work() as uow:
        uow.put(ada)
        uow.put(ada)
        with pytest.raises(kv.Conflict):
            await User.objects.save(older, if_version=token)
        uow.add(User("red", "eve"))
        with pytest.raises(kv.Conflict):
            await User.objects.save(User("red", "eve"), if_version=token)
        with pytest.raises(kv.AlreadyExists):
            uow.add(User("red", "eve"))


async def test_if_version_in_a_unit(db: kv.Database) -> None:
    """The token is judged at commit, or as soon as the unit knows better."""
    ada = await User.objects.create(User("red", "ada"))
    token = kv.version(ada)

    async with db.unit_of_work():
        await User.objects.save(User("red", "ada", age=1), if_version=token)
    async with db.unit_of_work():
        await User.objects.get("red", "ada")
        with pytest.raises(kv.Conflict):
            await User.objects.save(User("red", "ada", age=2), if_version=token)

    assert (await User.objects.get("red", "ada")).age == 1


# --- what it holds ----------------------------------------------------------------------------------------------------


async def test_delete_of_what_the_unit_added(db: kv.Database) -> None:
    """By object it needs no force: the unit knows what it compares with."""
    await _users("ada")

    async with db.unit_of_work():
        eve = await User.objects.create(User("red", "eve"))
        assert await User.objects.delete(eve)
        assert await User.objects.find("red", "eve") is None
        with pytest.raises(kv.ValidationError):
            await User.objects.delete(User("red", "ada"))

    assert [user.name for user in await User.objects.range("red")] == ["ada"]


async def test_uow_delete_relies_on_what_was_loaded(db: kv.Database) -> None:
    """An object from outside goes only if unchanged; one that this unit added goes, whatever it was before."""
    ada = await User.objects.create(User("red", "ada"))
    gone = await User.objects.create(User("red", "gone"))
    await User.objects.delete(gone)
    await User.objects.update("red", "ada", age=1)

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            uow.delete(ada)
    async with db.unit_of_work() as uow:
        uow.add(gone)
        uow.delete(gone)
        with pytest.raises(kv.Conflict):
            uow.put(gone)

    assert [user.name for user in await User.objects.range("red")] == ["ada"]


async def test_delete_add_delete_add(db: kv.Database) -> None:
    """What counts is the last word, over what was there in the beginning."""
    await _users("ada")

    async with db.unit_of_work() as uow:
        for age in (1, 2):
            assert await User.objects.delete("red", "ada")
            assert await User.objects.delete("red", "ada") is False
            uow.add(User("red", "ada", age=age))
    assert (await User.objects.get("red", "ada")).age == 2

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            await User.objects.delete("red", "ada")
            uow.add(User("red", "ada", age=3))
            await User.objects.using(db, outside=True).update("red", "ada", age=50)
    assert (await User.objects.get("red", "ada")).age == 50


async def test_add_behind_a_blind_delete(db: kv.Database) -> None:
    """A key that the unit frees itself, without having looked, may be added: nothing is expected of it."""
    await _users("ada")

    async with db.unit_of_work() as uow:
        uow.delete(User("red", "ada"))
        uow.add(User("red", "ada", age=7))

    assert (await User.objects.get("red", "ada")).age == 7


async def test_added_and_deleted_still_wants_its_key_free(db: kv.Database) -> None:
    """Nothing is written, but a unit that writes anything else checks that the key was free."""
    await _users("ada")

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            ada = User("red", "ada")
            uow.add(ada, User("red", "eve"))
            uow.delete(ada)

    assert [user.name for user in await User.objects.range("red")] == ["ada"]


async def test_exists_then_get(db: kv.Database) -> None:
    """A look at the key alone is followed by a read of its value, at the same version."""
    await _users("ada")

    async with db.unit_of_work():
        assert await User.objects.exists("red", "ada")
        ada = await User.objects.get("red", "ada")
        ada.age = 1
        assert not await User.objects.exists("red", "eve")
        assert await User.objects.find("red", "eve") is None

    assert (await User.objects.get("red", "ada")).age == 1


async def test_reads_that_overlap_give_one_object() -> None:
    """However many ask a remote store for one key at once, and whichever way: one object, changes and all."""
    async with kv.connect("memory://", reads_in_place=False) as db:
        await _users("ada")
        async with db.unit_of_work():
            objects = User.objects
            found = await asyncio.gather(
                objects.get("red", "ada"),
                objects.update("red", "ada", age=1),
                objects.range("red").first(),
                objects.find("red", "ada"),
                objects.exists("red", "ada"),
            )
            many = await asyncio.gather(objects.get_many([("red", "ada")]), objects.get("red", "ada"))

        assert all(each is found[0] for each in (*found[1:4], many[0][0], many[1]))
        assert (await User.objects.get("red", "ada")).age == 1


async def test_refresh_forgets_what_was_not_committed(db: kv.Database) -> None:
    """The object is as it is stored again, still watched; a deleted or absent one is NotFound, and stays deleted."""
    await _users("ada", "bob")

    async with db.unit_of_work() as uow:
        ada = await User.objects.get("red", "ada")
        ada.age = 99
        await User.objects.refresh(ada)
        assert ada.age == 30
        ada.email = "a@example.org"
        bob = await User.objects.get("red", "bob")
        uow.delete(bob)
        with pytest.raises(kv.NotFound):
            await User.objects.refresh(bob)
        with pytest.raises(kv.NotFound):
            await User.objects.refresh(User("red", "eve"))

    assert [(user.name, user.age, user.email) for user in await User.objects.range("red")] == [
        ("ada", 30, "a@example.org")
    ]


async def test_refresh_of_another_object_is_refused(db: kv.Database) -> None:
    """One key is one object: a second one would push the first, and its changes, out of the unit."""
    await _users("ada")
    outside = await User.objects.get("red", "ada")

    async with db.unit_of_work():
        ada = await User.objects.get("red", "ada")
        ada.age = 1
        with pytest.raises(kv.ValidationError, match="another object"):
            await User.objects.refresh(outside)

    assert (await User.objects.get("red", "ada")).age == 1


async def test_refresh_brings_an_object_into_the_unit(db: kv.Database) -> None:
    """An object that was loaded before is read, watched and checked from then on."""
    await _users("ada")
    ada = await User.objects.get("red", "ada")

    async with db.unit_of_work():
        await User.objects.refresh(ada)
        assert await User.objects.get("red", "ada") is ada
        ada.age = 1
    assert (await User.objects.get("red", "ada")).age == 1

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            await User.objects.refresh(ada)
            uow.add(User("red", "eve"))
            await User.objects.using(db, outside=True).update("red", "ada", age=2)


@pytest.mark.parametrize("changes", [{"age": "old"}, {"tags": [1]}, {"email": 5}])
async def test_an_update_of_a_wrong_type_is_refused_at_once(db: kv.Database, changes: dict[str, object]) -> None:
    """Not only at commit: the object in the unit stays as it was."""
    await _users("ada")

    async with db.unit_of_work():
        with pytest.raises(kv.ValidationError):
            await User.objects.update("red", "ada", **changes)
        assert await User.objects.get("red", "ada") == User("red", "ada", age=30)


async def test_concurrent_updates_in_one_unit_all_arrive(db: kv.Database) -> None:
    """Each takes what the one before has left, frozen objects too."""
    await Fixed.objects.create(Fixed("a"))
    await Counter.objects.create(Counter("a"))

    async with db.unit_of_work():
        await asyncio.gather(*(Fixed.objects.update("a", value=lambda n: n + 1) for _ in range(10)))
        await asyncio.gather(*(Counter.objects.update("a", value=lambda n: n + 1) for _ in range(10)))

    assert (await Fixed.objects.get("a")).value == 10
    assert (await Counter.objects.get("a")).value == 10


async def test_a_frozen_object_that_was_added_can_be_updated(db: kv.Database) -> None:
    """The replacement stands for it, and is written in its place."""
    async with db.unit_of_work() as uow:
        uow.add(Fixed("a", 1))
        await Fixed.objects.update("a", value=2)

    assert (await Fixed.objects.get("a")).value == 2


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_expire_then_change(db: kv.Database, clock: Clock) -> None:
    """Both are in the commit, and a later change of the deadline wins."""
    await Session.objects.create(Session("t", "ada"))

    async with db.unit_of_work():
        await Session.objects.expire("t", expires_in=timedelta(seconds=5))
        await Session.objects.update("t", user="eve")
    clock.advance(4)
    assert (await Session.objects.get("t")).user == "eve"

    async with db.unit_of_work():
        await Session.objects.expire("t", expires_in=timedelta(seconds=5))
        await Session.objects.save(await Session.objects.get("t"), expires_at=None)
    clock.advance(6)
    assert kv.expires_at(await Session.objects.get("t")) is None


@pytest.mark.parametrize("deletes", [True, False])
async def test_a_new_object_does_not_inherit_a_deadline(db: kv.Database, clock: Clock, deletes: bool) -> None:
    """What was meant for the record before it goes with that: a new one has its model's default."""
    await Session.objects.create(Session("t"))

    async with db.unit_of_work() as uow:
        await Session.objects.expire("t", expires_in=timedelta(seconds=5))
        if deletes:
            await Session.objects.delete("t")
        uow.put(Session("t", "eve"))
    clock.advance(3599)

    assert (await Session.objects.get("t")).user == "eve"
    clock.advance(1)
    assert await Session.objects.find("t") is None


async def test_an_object_that_is_added_anew_takes_its_models_default(db: kv.Database, clock: Clock) -> None:
    """What it was loaded with belonged to the record that is gone."""
    session = await Session.objects.create(Session("t"), expires_in=timedelta(seconds=5))
    await Session.objects.delete("t")
    async with db.unit_of_work() as uow:
        uow.add(session)
    clock.advance(6)
    assert await Session.objects.exists("t")

    await Session.objects.expire("t", expires_in=timedelta(seconds=5))
    session = await Session.objects.get("t")
    await Session.objects.delete("t")
    async with db.unit_of_work():
        await Session.objects.create(session)
    clock.advance(6)
    assert await Session.objects.exists("t")


async def test_a_deadline_survives_a_second_put(db: kv.Database, clock: Clock) -> None:
    """Putting the same object again, without a word about its deadline, changes none."""
    eve = Session("t")
    async with db.unit_of_work():
        await Session.objects.create(eve, expires_in=timedelta(seconds=5))
        await Session.objects.save(eve)
    clock.advance(6)

    assert await Session.objects.find("t") is None


async def test_expired_rows_are_not_in_a_units_range(db: kv.Database, clock: Clock) -> None:
    """Nor do they count against its limit; one that expires before the commit has left the range."""
    await _users("ada", "bob", "cyd")
    await User.objects.expire("red", "ada", expires_in=timedelta(seconds=1))
    await User.objects.expire("red", "cyd", expires_in=timedelta(seconds=5))
    clock.advance(2)

    async with db.unit_of_work():
        assert [user.name for user in await User.objects.range("red", limit=2)] == ["bob", "cyd"]
        assert await User.objects.find("red", "ada") is None
    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            await User.objects.range("red")
            uow.add(User("red", "eve"))
            clock.advance(4)


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_limited_range_with_pending_changes(db: kv.Database, reverse: bool) -> None:
    """Deleted ones don't count against the limit, added ones do, at whichever end."""
    await _users(*"bdfhj")

    async with db.unit_of_work() as uow:
        for name in "bfh":
            await User.objects.delete("red", name)
        uow.add(*(User("red", name) for name in "ag"))
        everything = ["a", "d", "g", "j"]
        if reverse:
            everything.reverse()
        for limit in range(6):
            found = await User.objects.range("red", limit=limit, reverse=reverse)
            assert [user.name for user in found] == everything[:limit]


async def test_a_range_is_filled_up_when_rows_are_deleted_meanwhile() -> None:
    """A limit is met even if another task of the unit deletes rows while they are read."""
    plan = FaultPlan(calls=["scan"])
    async with kv.connect("memory://", plan=plan) as db:
        await _users("ada", "bob", "cyd", "dan")
        async with db.unit_of_work() as uow:
            ada = await User.objects.get("red", "ada")
            plan.then(Fault.STALL)
            reading = asyncio.create_task(User.objects.range("red", limit=2)._list())
            await _turns()
            uow.delete(ada)
            plan.resume()
            found = await reading

        assert [user.name for user in found] == ["bob", "cyd"]


async def test_a_long_range_in_a_unit_lets_other_tasks_run(db: kv.Database) -> None:
    """Reading does not freeze the event loop for longer than a page."""
    await User.objects.save_many([User("red", f"{n:05}") for n in range(2000)])
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    async with db.unit_of_work():
        assert len(await User.objects.range("red")) == 2000
    other.cancel()

    assert turns >= 5


async def test_a_range_without_protection_needs_no_conditional_writes() -> None:
    """.unchecked() works where nothing could be checked; a checked read is refused."""
    driver = MemoryDriver(conditional=False, range_checks=False)
    await driver.open()
    db = Database(Connection(driver))
    objects = User.objects.using(db)
    await objects.save(User("red", "ada"), force=True)

    async with db.unit_of_work():
        assert len(await objects.range("red").unchecked()) == 1
        with pytest.raises(kv.Unsupported, match="force=True"):
            await objects.get("red", "eve")
    await db.close()


# --- whose it is ------------------------------------------------------------------------------------------------------


async def test_uow_and_objects_mean_the_same_namespace(url: str) -> None:
    """A model that is bound to a view of the unit's connection lives there, however it comes into the unit."""

    class Tenant(kv.Model, table="tenants"):
        name: str = kv.partition_key()

    async with kv.connect(url) as db:
        mine = db.namespace("t1")
        mine.bind(Tenant)
        async with db.unit_of_work() as uow:
            uow.add(Tenant("a"))
            assert await Tenant.objects.find("a") is not None
            assert await Tenant.objects.using(uow).find("a") is not None

        assert [tenant.name for tenant in await Tenant.objects.using(mine).scan()] == ["a"]
        assert await Tenant.objects.using(db).scan() == []


async def test_uow_refuses_a_model_bound_elsewhere() -> None:
    """add and using(uow) follow the same rule as calls inside the unit."""

    class Abroad(kv.Model, table="abroad"):
        name: str = kv.partition_key()

    async with kv.connect("memory://") as one, kv.connect("memory://") as two:
        two.bind(Abroad)
        async with one.unit_of_work() as uow:
            with pytest.raises(kv.NoDatabase, match="bound"):
                uow.add(Abroad("a"))
            with pytest.raises(kv.NoDatabase, match="bound"):
                await Abroad.objects.using(uow).find("a")
            await Abroad.objects.using(two).create(Abroad("a"))


async def test_using_a_unit_from_a_task_that_was_started_before(db: kv.Database) -> None:
    """Context variables don't reach it: the unit is named."""
    go = asyncio.Event()
    units: list[kv.UnitOfWork] = []

    async def worker() -> None:
        await go.wait()
        objects = User.objects.using(units[0])
        await objects.create(User("red", "ada"))
        assert await User.objects.find("red", "ada") is None

    task = asyncio.create_task(worker())
    async with db.unit_of_work() as uow:
        units.append(uow)
        go.set()
        await task
        assert await User.objects.exists("red", "ada")

    assert await User.objects.exists("red", "ada")


async def test_two_units_side_by_side(db: kv.Database) -> None:
    """Each task has its own; what one has pending is not seen by the other, and the second loses the race."""
    await Counter.objects.create(Counter("hits"))
    both = asyncio.Barrier(2)

    async def work() -> str:
        try:
            async with db.unit_of_work():
                counter = await Counter.objects.get("hits")
                counter.value += 1
                await both.wait()
        except kv.Conflict:
            return "lost"
        return "won"

    assert sorted(await asyncio.gather(work(), work())) == ["lost", "won"]
    assert (await Counter.objects.get("hits")).value == 1


async def test_update_and_expire_of_what_is_absent(db: kv.Database) -> None:
    """NotFound, also of what this unit deleted."""
    await _users("ada")

    async with db.unit_of_work():
        await User.objects.delete("red", "ada")
        for name in ("ada", "eve"):
            with pytest.raises(kv.NotFound):
                await User.objects.get("red", name)
            with pytest.raises(kv.NotFound):
                await User.objects.update("red", name, age=1)
            with pytest.raises(kv.NotFound):
                await User.objects.expire("red", name, expires_in=timedelta(seconds=1))
