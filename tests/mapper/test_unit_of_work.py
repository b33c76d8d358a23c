"""Units of work: identity, what is noticed, what is checked, what is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import kvmodel as kv
from tests.mapper.models import Clock, Counter, Fixed, Session, User


async def _users(*names: str, team: str = "red") -> None:
    await User.objects.save_many([User(team, name, age=30) for name in names])


async def test_changes_are_noticed_at_commit(db: kv.Database) -> None:
    """A change of a field, and one inside a list, are written without being announced."""
    await _users("ada", "bob")

    async with db.unit_of_work():
        ada = await User.objects.get("red", "ada")
        bob = await User.objects.get("red", "bob")
        ada.age += 1
        bob.tags.append("new")

    assert (await User.objects.get("red", "ada")).age == 31
    assert (await User.objects.get("red", "bob")).tags == ["new"]


async def test_nothing_is_sent_before_commit(db: kv.Database) -> None:
    """Somebody outside sees the old state until the block ends."""
    await _users("ada")

    async with db.unit_of_work() as uow:
        ada = await User.objects.get("red", "ada")
        ada.age = 99
        uow.add(User("red", "eve"))
        outside = User.objects.using(db, outside=True)

        assert (await outside.get("red", "ada")).age == 30
        assert await outside.find("red", "eve") is None


async def test_an_exception_leaves_the_store_untouched(db: kv.Database) -> None:
    """A block that ends by an exception writes nothing, and the exception goes on."""
    await _users("ada")

    with pytest.raises(ZeroDivisionError):
        async with db.unit_of_work() as uow:
            (await User.objects.get("red", "ada")).age = 1
            uow.add(User("red", "eve"))
            _ = 1 / 0

    assert [user.age for user in await User.objects.range("red")] == [30]


async def test_one_key_is_one_object(db: kv.Database) -> None:
    """However a record is reached in a unit, it is the same object."""
    await _users("ada")

    async with db.unit_of_work():
        ada = await User.objects.get("red", "ada")

        assert await User.objects.find("red", "ada") is ada
        assert (await User.objects.range("red"))[0] is ada
        assert (await User.objects.get_many([("red", "ada")]))[0] is ada
        assert await User.objects.update("red", "ada", age=5) is ada
        assert ada.age == 5


async def test_concurrent_reads_give_one_object(db: kv.Database) -> None:
    """Two tasks that read one key at once get one object."""
    await _users("ada")

    async with db.unit_of_work():
        one, two = await asyncio.gather(User.objects.get("red", "ada"), User.objects.get("red", "ada"))

        assert one is two


async def test_a_range_sees_the_units_own_changes(db: kv.Database) -> None:
    """Added records come in, deleted ones go, and the limit counts what is left."""
    await _users("ada", "bob", "cyd", "dan")

    async with db.unit_of_work() as uow:
        uow.add(User("red", "abe"))
        await User.objects.delete("red", "bob")
        names = [user.name for user in await User.objects.range("red", limit=3)]
        backwards = [user.name for user in await User.objects.range("red", reverse=True, limit=3)]
        beginning = [user.name for user in await User.objects.range("red", prefix="a")]
        streamed = [user.name async for user in User.objects.range("red", after="abe")]
        first = await User.objects.range("red").first()

    assert names == ["abe", "ada", "cyd"]
    assert backwards == ["dan", "cyd", "ada"]
    assert beginning == ["abe", "ada"]
    assert streamed == ["ada", "cyd", "dan"]
    assert first is not None
    assert first.name == "abe"


async def test_lost_update_is_a_conflict(db: kv.Database) -> None:
    """A record that changed after it was read fails the commit, and nothing of the unit is written."""
    await _users("ada")

    with pytest.raises(kv.Conflict) as caught:
        async with db.unit_of_work() as uow:
            ada = await User.objects.get("red", "ada")
            uow.add(User("red", "eve"))
            await User.objects.using(db, outside=True).update("red", "ada", age=50)
            ada.age += 1

    assert caught.value.keys == (("users", ("red", "ada")),)
    assert (await User.objects.get("red", "ada")).age == 50
    assert await User.objects.find("red", "eve") is None


async def test_write_skew_is_a_conflict(db: kv.Database) -> None:
    """Two units that each read what the other writes can't both commit."""
    await Counter.objects.save_many([Counter("x", 1), Counter("y", 1)])
    one = await db.unit_of_work().begin()
    two = await db.unit_of_work().begin()

    for unit, mine in ((one, "x"), (two, "y")):
        objects = Counter.objects.using(unit)
        both = await objects.get_many(["x", "y"])
        assert sum(counter.value for counter in both if counter) == 2
        await objects.update(mine, value=0)

    await one.commit()
    with pytest.raises(kv.Conflict):
        await two.commit()


async def test_an_absent_key_is_checked(db: kv.Database) -> None:
    """A key that was read as absent has to be absent still."""
    await _users("ada")

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            assert await User.objects.find("red", "eve") is None
            (await User.objects.get("red", "ada")).age = 1
            await User.objects.using(db, outside=True).create(User("red", "eve"))


@pytest.mark.parametrize("change", ["enter", "leave", "alter"])
async def test_a_phantom_is_a_conflict(db: kv.Database, change: str) -> None:
    """What was read as a range must still be that range."""
    await _users("ada", "bob")
    await Counter.objects.create(Counter("users"))
    outside = User.objects.using(db, outside=True)

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            found = await User.objects.range("red")
            await Counter.objects.update("users", value=len(found))
            if change == "enter":
                await outside.create(User("red", "eve"))
            elif change == "leave":
                await outside.delete("red", "bob")
            else:
                await outside.update("red", "bob", age=1)


async def test_a_newcomer_behind_the_limit_is_no_phantom(db: kv.Database) -> None:
    """A range with a limit protects what it read, not what lies behind."""
    await _users("ada", "bob")

    async with db.unit_of_work():
        (await User.objects.range("red", limit=1))[0].age = 1
        await User.objects.using(db, outside=True).create(User("red", "eve"))

    assert (await User.objects.get("red", "ada")).age == 1


async def test_an_unchecked_range_protects_nothing_but_writes_are_checked(db: kv.Database) -> None:
    """Rows of an unchecked range may change unless they are written."""
    await _users("ada", "bob")
    outside = User.objects.using(db, outside=True)

    async with db.unit_of_work():
        ada, _ = await User.objects.range("red").unchecked()
        await outside.update("red", "bob", age=77)
        await outside.create(User("red", "eve"))
        ada.age = 1

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            ada, *_ = await User.objects.range("red").unchecked()
            await outside.update("red", "ada", age=77)
            ada.age = 2

    assert (await User.objects.get("red", "ada")).age == 77


async def test_a_unit_that_changed_nothing_sends_nothing(db: kv.Database) -> None:
    """Reads alone are not verified, unless that is asked for."""
    await _users("ada")
    outside = User.objects.using(db, outside=True)

    with kv.budget(round_trips=1):
        async with db.unit_of_work():
            await User.objects.get("red", "ada")
    async with db.unit_of_work():
        await User.objects.get("red", "ada")
        await outside.update("red", "ada", age=1)

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work(verify=True):
            await User.objects.get("red", "ada")
            await outside.update("red", "ada", age=2)


async def test_add_wants_its_key_free_put_does_not(db: kv.Database) -> None:
    """add: AlreadyExists, at commit or as soon as it is known; put: whatever is there."""
    await _users("ada")

    with pytest.raises(kv.AlreadyExists):
        async with db.unit_of_work() as uow:
            uow.add(User("red", "ada"))
    async with db.unit_of_work() as uow:
        await User.objects.get("red", "ada")
        with pytest.raises(kv.AlreadyExists):
            uow.add(User("red", "ada"))
    async with db.unit_of_work() as uow:
        uow.put(User("red", "ada", age=1))

    assert (await User.objects.get("red", "ada")).age == 1


async def test_delete_then_add_replaces(db: kv.Database) -> None:
    """A key that this unit freed can be taken again by it; added and deleted comes to nothing."""
    await _users("ada")

    async with db.unit_of_work() as uow:
        ada = await User.objects.get("red", "ada")
        uow.delete(ada)
        assert await User.objects.find("red", "ada") is None
        assert not await User.objects.exists("red", "ada")
        uow.add(User("red", "ada", age=7))
        eve = User("red", "eve")
        uow.add(eve)
        uow.delete(eve)

    assert [(user.name, user.age) for user in await User.objects.range("red")] == [("ada", 7)]


async def test_objects_are_loaded_after_commit(db: kv.Database) -> None:
    """What was committed can be saved again at once; what was deleted is known to be."""
    await _users("bob")
    ada = User("red", "ada")

    async with db.unit_of_work() as uow:
        uow.add(ada)
        bob = await User.objects.get("red", "bob")
        uow.delete(bob)

    ada.age = 8
    await User.objects.save(ada)
    with pytest.raises(kv.Conflict):
        await User.objects.save(bob)
    assert kv.version(ada) == kv.version(await User.objects.get("red", "ada"))


async def test_a_loaded_object_from_outside_is_checked(db: kv.Database) -> None:
    """put of an object that was loaded before the unit relies on the version it was loaded at."""
    await _users("ada")
    ada = await User.objects.get("red", "ada")
    await User.objects.update("red", "ada", age=1)

    with pytest.raises(kv.Conflict):
        async with db.unit_of_work() as uow:
            ada.age = 2
            uow.put(ada)


async def test_expire_joins_the_unit(db: kv.Database, clock: Clock) -> None:
    """A new deadline is part of the commit, and the values stay."""
    await Session.objects.create(Session("t", "ada"))

    async with db.unit_of_work():
        await Session.objects.expire("t", expires_in=timedelta(seconds=5))
    clock.advance(6)

    assert await Session.objects.find("t") is None


async def test_update_of_a_frozen_model(db: kv.Database) -> None:
    """A frozen object is replaced in the unit, and written."""
    await Fixed.objects.create(Fixed("a", 1))

    async with db.unit_of_work():
        changed = await Fixed.objects.update("a", value=lambda value: value + 1)
        assert await Fixed.objects.get("a") is changed

    assert (await Fixed.objects.get("a")).value == 2


async def test_a_refused_update_changes_nothing(db: kv.Database) -> None:
    """An unknown field, or a key field, is refused before anything is touched."""
    await _users("ada")

    async with db.unit_of_work():
        for changes in ({"agee": 1}, {"name": "bob"}):
            with pytest.raises(kv.ValidationError):
                await User.objects.update("red", "ada", **changes)

    assert (await User.objects.get("red", "ada")).age == 30


async def test_what_no_unit_can_vouch_for_is_refused(db: kv.Database) -> None:
    """count, page, scan, save_many and Range.delete raise in a unit."""
    await _users("ada")

    async with db.unit_of_work():
        for attempt in (
            lambda: User.objects.range("red").count(),
            lambda: User.objects.range("red").page(1),
            lambda: User.objects.range("red").delete(),
            lambda: User.objects.save_many([]),
        ):
            with pytest.raises(kv.Unsupported):
                await attempt()
        with pytest.raises(kv.Unsupported):
            await User.objects.scan()


async def test_commit_while_a_call_is_pending_is_refused(db: kv.Database) -> None:
    """A read that is still under way would be left out of the commit."""
    unit = await db.unit_of_work().begin()
    unit._joined.pending += 1

    with pytest.raises(kv.Unsupported, match="under way"):
        await unit.commit()

    unit._joined.pending -= 1
    await unit.rollback()


async def test_by_hand(db: kv.Database) -> None:
    """begin makes the unit that of the task; commit and rollback end it and give the task back."""
    unit = await db.unit_of_work().begin()
    await User.objects.create(User("red", "ada"))
    await unit.commit()
    assert await User.objects.find("red", "ada") is not None

    unit = await db.unit_of_work().begin()
    await User.objects.create(User("red", "bob"))
    await unit.rollback()
    assert await User.objects.find("red", "bob") is None

    with pytest.raises(kv.Closed):
        await unit.commit()
    with pytest.raises(kv.Closed):
        await unit.begin()


async def test_ending_a_unit_inside_its_block(db: kv.Database) -> None:
    """commit in the block ends the unit; what comes behind it is refused, never committed by itself."""
    async with db.unit_of_work() as uow:
        uow.add(User("red", "ada"))
        await uow.commit()
        with pytest.raises(kv.Closed):
            uow.add(User("red", "bob"))
        with pytest.raises(kv.Closed):
            await User.objects.using(uow).create(User("red", "bob"))

    assert [user.name for user in await User.objects.range("red")] == ["ada"]


async def test_a_task_that_outlives_its_unit_gets_closed(db: kv.Database) -> None:
    """A task started in a unit belongs to it, and must not fall back to writing by itself."""
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        await User.objects.create(User("red", "late"))

    async with db.unit_of_work():
        task = asyncio.create_task(late())
    go.set()

    with pytest.raises(kv.Closed):
        await task
    assert await User.objects.find("red", "late") is None


async def test_nested_units_are_independent(db: kv.Database) -> None:
    """A unit inside another commits by itself; afterwards the outer one is joined again."""
    async with db.unit_of_work() as outer:
        async with db.unit_of_work():
            await User.objects.create(User("red", "inner"))
        await User.objects.create(User("red", "outer"))
        await outer.rollback()

    assert [user.name for user in await User.objects.range("red")] == ["inner"]


async def test_a_version_that_moves_between_two_reads_is_a_conflict(db: kv.Database) -> None:
    """One unit never sees two states of a record."""
    await _users("ada")
    async with db.unit_of_work() as uow:
        assert await User.objects.exists("red", "ada")
        await User.objects.using(db, outside=True).update("red", "ada", age=1)
        with pytest.raises(kv.Conflict):
            await User.objects.get("red", "ada")
        await uow.rollback()


async def test_changing_a_key_is_refused(db: kv.Database) -> None:
    """An object in a unit can't move to another key."""
    await _users("ada")

    with pytest.raises(kv.ValidationError, match="key"):
        async with db.unit_of_work():
            (await User.objects.get("red", "ada")).name = "eve"


async def test_transact_tries_again_after_a_lost_race(db: kv.Database) -> None:
    """A hundred increments from ten tasks arrive, all of them."""
    await Counter.objects.create(Counter("hits"))

    async def increment(_: kv.UnitOfWork) -> int:
        counter = await Counter.objects.get("hits")
        await asyncio.sleep(0)
        counter.value += 1
        return counter.value

    async def work() -> list[int]:
        return [await db.transact(increment) for _ in range(10)]

    results = await asyncio.gather(*(work() for _ in range(10)))

    assert (await Counter.objects.get("hits")).value == 100
    assert sorted(value for result in results for value in result) == list(range(1, 101))


async def test_transact_does_not_repeat_what_can_only_fail_again(db: kv.Database) -> None:
    """AlreadyExists is tried again only if the unit had read the key as absent."""
    await _users("ada")
    attempts = 0

    async def blind(uow: kv.UnitOfWork) -> None:
        nonlocal attempts
        attempts += 1
        uow.add(User("red", "ada"))

    async def looking(uow: kv.UnitOfWork) -> str:
        nonlocal attempts
        attempts += 1
        if await User.objects.find("red", "eve") is not None:
            return "seen"
        await User.objects.using(db, outside=True).create(User("red", "eve"))
        uow.add(User("red", "eve"))
        return "added"

    with pytest.raises(kv.AlreadyExists):
        await db.transact(blind)
    assert attempts == 1

    assert await db.transact(looking) == "seen"
    assert attempts == 3


async def test_transact_lets_other_errors_through(db: kv.Database) -> None:
    """An error of the function ends it, and nothing is written."""

    async def broken(uow: kv.UnitOfWork) -> None:
        uow.add(User("red", "ada"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await db.transact(broken)
    assert await User.objects.find("red", "ada") is None
