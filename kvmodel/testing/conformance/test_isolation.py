"""Isolation: a unit of work commits as if it had been alone, or not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.conformance.models import Item, names

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_requires("conditional")]

by_partition = pytest.mark.kv_requires(atomicity=kv.Atomicity.PARTITION)
checks_ranges = pytest.mark.kv_requires("ordered", "range_checks", atomicity=kv.Atomicity.PARTITION)


async def test_a_lost_update_is_a_conflict(kv_db: kv.Database) -> None:
    """Of two units that read and change one record, the second one fails, and a fresh one sees the first."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 10))
    one, two = await kv_db.unit_of_work().begin(), await kv_db.unit_of_work().begin()
    for unit in (one, two):
        (await Item.objects.using(unit).get("s", "a")).count += 1

    await one.commit()
    with pytest.raises(kv.Conflict):
        await two.commit()

    assert (await objects.get("s", "a")).count == 11


@by_partition
async def test_what_was_only_read_is_checked(kv_db: kv.Database) -> None:
    """A unit that writes relies on everything that it read, present or absent."""
    objects = Item.objects.using(kv_db)
    for name in ("changed", "deleted", "recreated", "created"):
        if name != "created":
            await objects.create(Item("s", name))
        unit = await kv_db.unit_of_work().begin()
        await Item.objects.using(unit).find("s", name)
        unit.add(Item("s", f"because of {name}"))

        if name == "changed":
            await Item.objects.using(kv_db, outside=True).update("s", name, count=1)
        if name in ("deleted", "recreated"):
            await Item.objects.using(kv_db, outside=True).delete("s", name)
        if name in ("created", "recreated"):
            await Item.objects.using(kv_db, outside=True).create(Item("s", name))
        with pytest.raises(kv.Conflict) as caught:
            await unit.commit()

        assert set(caught.value.keys) <= {("items", ("s", name))}
        assert not await objects.exists("s", f"because of {name}")


@by_partition
async def test_write_skew_is_a_conflict(kv_db: kv.Database) -> None:
    """Two units that read both records and change one each cannot both commit."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", "a", 1), Item("s", "b", 1)])
    one, two = await kv_db.unit_of_work().begin(), await kv_db.unit_of_work().begin()
    for unit, mine in ((one, "a"), (two, "b")):
        on_duty = [await Item.objects.using(unit).get("s", name) for name in "ab"]
        if sum(item.count for item in on_duty) > 1:
            (await Item.objects.using(unit).get("s", mine)).count = 0

    await one.commit()
    with pytest.raises(kv.Conflict):
        await two.commit()

    assert [(await objects.get("s", name)).count for name in "ab"] == [0, 1]


@checks_ranges
@pytest.mark.parametrize("change", ["enters", "leaves", "changes"])
async def test_phantoms_are_conflicts(kv_db: kv.Database, change: str) -> None:
    """A range that was read is relied on: nothing may enter it, leave it or change in it."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", name) for name in "bdf"])
    unit = await kv_db.unit_of_work().begin()
    found = await Item.objects.using(unit).range("s", first="b", last="f")
    unit.add(Item("s", "total", len(found)))

    outside = Item.objects.using(kv_db, outside=True)
    if change == "enters":
        await outside.create(Item("s", "c"))
    elif change == "leaves":
        await outside.delete("s", "d")
    else:
        await outside.update("s", "d", count=1)
    with pytest.raises(kv.Conflict):
        await unit.commit()

    assert not await objects.exists("s", "total")


@checks_ranges
async def test_two_units_that_count_and_add_exclude_each_other(kv_db: kv.Database) -> None:
    """The write skew of ranges: each adds what the other one's range would have shown."""
    one, two = await kv_db.unit_of_work().begin(), await kv_db.unit_of_work().begin()
    for unit, name in ((one, "a"), (two, "b")):
        assert await Item.objects.using(unit).range("s") == []
        unit.add(Item("s", name))

    await one.commit()
    with pytest.raises(kv.Conflict):
        await two.commit()

    assert names(await Item.objects.using(kv_db).range("s")) == ["a"]


@checks_ranges
async def test_changes_beside_a_range_do_no_harm(kv_db: kv.Database) -> None:
    """Other keys, other partitions, and what lies behind the end of a range with a limit."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", name) for name in "bdf"])
    unit = await kv_db.unit_of_work().begin()
    assert names(await Item.objects.using(unit).range("s", first="b", limit=2)) == ["b", "d"]
    unit.put(Item("s", "total", 2))

    outside = Item.objects.using(kv_db, outside=True)
    await outside.create(Item("s", "a"))
    await outside.create(Item("s", "e"))
    await outside.create(Item("t", "c"))
    await unit.commit()

    assert (await objects.get("s", "total")).count == 2


@checks_ranges
async def test_an_unchecked_range_protects_nothing(kv_db: kv.Database) -> None:
    """Neither its rows nor against newcomers; what the unit changes of it is still protected."""
    objects, outside = Item.objects.using(kv_db), Item.objects.using(kv_db, outside=True)
    await objects.save_many([Item("s", name) for name in "bdf"])

    async with kv_db.unit_of_work() as unit:
        first, *_ = await objects.range("s").unchecked()
        unit.add(Item("s", "x"))
        await outside.update("s", "d", count=1)
        await outside.create(Item("s", "c"))
        first.count = 5
    assert (await objects.get("s", "b")).count == 5
    unit = await kv_db.unit_of_work().begin()
    first, *_ = await Item.objects.using(unit).range("s").unchecked()
    await outside.update("s", "b", count=6)
    first.count = 7
    with pytest.raises(kv.Conflict):
        await unit.commit()

    assert (await objects.get("s", "b")).count == 6


async def test_reads_alone_are_not_checked(kv_db: kv.Database) -> None:
    """A unit that changed nothing commits, unless it is told to verify what it read."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a"))

    for verify in (False, True):
        unit = await kv_db.unit_of_work(verify=verify).begin()
        await Item.objects.using(unit).get("s", "a")
        await Item.objects.using(kv_db, outside=True).update("s", "a", count=lambda count: count + 1)
        if verify:
            with pytest.raises(kv.Conflict):
                await unit.commit()
        else:
            await unit.commit()


@checks_ranges
async def test_ranges_are_verified_too(kv_db: kv.Database) -> None:
    """With ``verify`` a unit that only read a range notices a newcomer."""
    unit = await kv_db.unit_of_work(verify=True).begin()
    assert await Item.objects.using(unit).range("s") == []
    await Item.objects.using(kv_db, outside=True).create(Item("s", "a"))

    with pytest.raises(kv.Conflict):
        await unit.commit()


async def test_a_unit_does_not_see_two_states_of_one_record(kv_db: kv.Database) -> None:
    """What it read stays what it read, whatever others write, until it ends."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1))
    unit = await kv_db.unit_of_work().begin()
    inside = Item.objects.using(unit)
    assert (await inside.get("s", "a")).count == 1
    assert await inside.find("s", "b") is None

    await Item.objects.using(kv_db, outside=True).update("s", "a", count=2)
    await Item.objects.using(kv_db, outside=True).create(Item("s", "b"))

    assert (await inside.get("s", "a")).count == 1
    assert await inside.find("s", "b") is None
    await unit.rollback()


@pytest.mark.kv_requires("expiry")
async def test_expiry_counts_as_absence_in_the_same_step(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """A record that expired since it was read is gone for the commit, and its key is free."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a"), expires_in=timedelta(seconds=10))
    unit = await kv_db.unit_of_work().begin()
    (await Item.objects.using(unit).get("s", "a")).count = 1
    kv_clock.advance(10)

    with pytest.raises(kv.Conflict):
        await unit.commit()
    async with kv_db.unit_of_work() as unit:
        unit.add(Item("s", "a", 2))

    assert (await objects.get("s", "a")).count == 2


@by_partition
async def test_transact_runs_until_it_wins(kv_db: kv.Database) -> None:
    """A lost race is run again in a fresh unit; the result of the one that won is answered."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", "a", 10), Item("s", "b", 0)])
    attempts = 0

    async def move(uow: kv.UnitOfWork) -> int:
        nonlocal attempts
        attempts += 1
        source, target = await objects.get("s", "a"), await objects.get("s", "b")
        if attempts < 3:
            await Item.objects.using(kv_db, outside=True).update("s", "a", count=lambda count: count + 100)
        source.count -= 1
        target.count += 1
        return source.count

    assert await kv_db.transact(move) == 209
    assert attempts == 3
    assert [(await objects.get("s", name)).count for name in "ab"] == [209, 1]


async def test_transact_hands_other_errors_on(kv_db: kv.Database) -> None:
    """At once, with nothing written."""
    attempts = 0

    async def fail(uow: kv.UnitOfWork) -> Any:
        nonlocal attempts
        attempts += 1
        uow.add(Item("s", "a"))
        _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await kv_db.transact(fail)

    assert attempts == 1
    assert not await Item.objects.using(kv_db).exists("s", "a")
