"""Units of work: what they show, what they send, and how far one commit reaches."""

from __future__ import annotations

from contextlib import suppress

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.conformance.models import Bare, Item, Lease, Reading, gather_all, names, refused

pytestmark = pytest.mark.asyncio

conditional = pytest.mark.kv_requires("conditional")
by_partition = pytest.mark.kv_requires(atomicity=kv.Atomicity.PARTITION)
by_store = pytest.mark.kv_requires(atomicity=kv.Atomicity.STORE)


# --- what a commit does -----------------------------------------------------------------------------------------------


@conditional
async def test_one_record_is_changed(kv_db: kv.Database) -> None:
    """Every store can do that: nothing is sent before the end, and one write at it."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1))

    async with kv_db.unit_of_work():
        item = await objects.get("s", "a")
        item.count = 2
        item.tags.append("x")
        assert (await Item.objects.using(kv_db, outside=True).get("s", "a")).count == 1
        with kv.budget(round_trips=0):
            assert await objects.get("s", "a") is item

    assert await objects.get("s", "a") == Item("s", "a", 2, tags=["x"])


@conditional
@by_partition
async def test_a_commit_is_one_write(kv_db: kv.Database) -> None:
    """Changes, additions and deletions in one partition, of two tables, cost one exchange and are seen together."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", "change", 1), Item("s", "delete"), Item("s", "keep")])
    await kv_db.prepare(Reading)
    uow = await kv_db.unit_of_work().begin()
    (await objects.get("s", "change")).count = 2
    uow.delete(await objects.get("s", "delete"))
    uow.add(Reading("s", "x", 1))

    with kv.budget(round_trips=1 if kv_db.capabilities.shared_partitions else None):
        await uow.commit()

    found = await objects.get_many([("s", "change"), ("s", "delete"), ("s", "keep")])
    assert [item and item.count for item in found] == [2, None, 0]
    assert await Reading.objects.using(kv_db).exists("s", "x", 1)


@conditional
@by_store
async def test_a_commit_spans_the_store(kv_db: kv.Database) -> None:
    """Partitions and tables without limit."""
    async with kv_db.unit_of_work() as uow:
        uow.add(*(Item(f"shelf {number}", "a") for number in range(5)))
        uow.add(Bare("b"), Reading("t", "c", 1))

    assert (
        names(await Item.objects.using(kv_db).get_many([(f"shelf {number}", "a") for number in range(5)])) == ["a"] * 5
    )
    assert await Bare.objects.using(kv_db).exists("b")
    assert await Reading.objects.using(kv_db).exists("t", "c", 1)


@conditional
@by_partition
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_all_or_nothing(kv_db: kv.Database, place: int) -> None:
    """Whichever write fails, none is done, and the objects' records are what they were."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", f"{place}", 7))
    uow = await kv_db.unit_of_work().begin()
    uow.add(*(Item("s", f"{number}") for number in range(3)))

    with pytest.raises(kv.AlreadyExists) as caught:
        await uow.commit()

    assert set(caught.value.keys) <= {("items", ("s", f"{place}"))}
    found = await objects.get_many([("s", f"{number}") for number in range(3)])
    assert [item and item.count for item in found] == [7 if number == place else None for number in range(3)]


@conditional
async def test_an_exception_leaves_the_store_untouched(kv_db: kv.Database) -> None:
    """Nothing is sent when the block ends by one, nor after a rollback."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1))

    with suppress(ZeroDivisionError):
        async with kv_db.unit_of_work():
            (await objects.get("s", "a")).count = 2
            _ = 1 / 0
    async with kv_db.unit_of_work() as uow:
        (await objects.get("s", "a")).count = 3
        with kv.budget(round_trips=0):
            await uow.rollback()

    assert (await objects.get("s", "a")).count == 1


@conditional
async def test_a_unit_that_changed_nothing_sends_nothing(kv_db: kv.Database) -> None:
    """Reading is no change, and neither is a change back."""
    objects = Item.objects.using(kv_db)
    version = kv.version(await objects.create(Item("s", "a", 1)))
    uow = await kv_db.unit_of_work().begin()
    item = await objects.get("s", "a")
    item.count = 2
    item.count = 1

    with kv.budget(round_trips=0):
        await uow.commit()

    assert kv.version(await objects.get("s", "a")) == version


# --- what a unit shows ------------------------------------------------------------------------------------------------


@conditional
@by_partition
async def test_a_unit_sees_its_own_changes(kv_db: kv.Database) -> None:
    """By key: added, deleted, changed; nobody else sees any of it."""
    objects, outside = Item.objects.using(kv_db), Item.objects.using(kv_db, outside=True)
    await objects.save_many([Item("s", "a", 1), Item("s", "b", 1)])
    uow = await kv_db.unit_of_work().begin()

    uow.add(Item("s", "new"))
    assert await objects.delete("s", "a") is True
    await objects.update("s", "b", count=5)

    assert await objects.exists("s", "new")
    assert not await objects.exists("s", "a")
    assert await objects.find("s", "a") is None
    assert names(await objects.get_many([("s", "a"), ("s", "b"), ("s", "new")])) == [None, "b", "new"]
    with pytest.raises(kv.AlreadyExists):
        uow.add(Item("s", "new"))
    assert names(await outside.get_many([("s", "a"), ("s", "b"), ("s", "new")])) == ["a", "b", None]
    await uow.rollback()


@conditional
@by_partition
@pytest.mark.kv_requires("ordered", "range_checks")
async def test_a_range_sees_the_units_own_changes(kv_db: kv.Database) -> None:
    """What was put into it is in it, what was deleted is not, in order and within the limit."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", name) for name in "bdfh"])

    async with kv_db.unit_of_work() as uow:
        uow.add(Item("s", "a"), Item("s", "e"), Item("t", "c"))
        await objects.delete("s", "b")
        item = await objects.get("s", "d")

        assert names(await objects.range("s")) == ["a", "d", "e", "f", "h"]
        assert names(await objects.range("s", limit=3)) == ["a", "d", "e"]
        assert names(await objects.range("s", after="d", before="h")) == ["e", "f"]
        assert names(await gather_all(objects.range("s", limit=2))) == ["a", "d"]
        assert (await objects.range("s", first="d", limit=1))[0] is item
        if kv_db.capabilities.reverse is kv.Reverse.NATIVE:
            assert names(await objects.range("s", reverse=True, limit=4)) == ["h", "f", "e", "d"]
        await uow.rollback()


@conditional
@pytest.mark.kv_requires("expiry")
async def test_deadlines_join(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """``expire``, and writes with a deadline, take effect at the commit."""
    objects = Lease.objects.using(kv_db)
    await objects.create(Lease("s", "a"))

    async with kv_db.unit_of_work():
        await objects.expire("s", "a", expires_at=None)
    assert kv.expires_at(await objects.get("s", "a")) is None
    async with kv_db.unit_of_work():
        lease = await objects.get("s", "a")
        lease.holder = "me"
        await objects.save(lease, expires_at=kv_clock.now.replace(year=2300))
    assert kv.expires_at(await objects.get("s", "a")) == kv_clock.now.replace(year=2300)


@conditional
async def test_what_cannot_join_is_refused(kv_db: kv.Database) -> None:
    """Calls that a unit could not vouch for are refused before anything is sent."""
    objects = Item.objects.using(kv_db)
    await kv_db.prepare(Item)

    async with kv_db.unit_of_work():
        with refused():
            await objects.save_many([Item("s", "a")])
        if kv_db.capabilities.ordered:
            with refused():
                await objects.range("s").count()
            with refused():
                await objects.range("s").page(1)
            with refused():
                await objects.range("s").delete()
        with refused():
            await objects.scan()


@conditional
async def test_a_unit_is_over_when_it_is_over(kv_db: kv.Database) -> None:
    """After its end nothing joins it, and nothing is written by itself."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1))
    async with kv_db.unit_of_work() as uow:
        item = await objects.get("s", "a")

    item.count = 2
    for late in (uow.commit, uow.rollback, uow.begin):
        with pytest.raises(kv.Closed):
            await late()
    with pytest.raises(kv.Closed):
        uow.add(Item("s", "b"))
    with pytest.raises(kv.Closed):
        await Item.objects.using(uow).find("s", "a")

    assert (await objects.get("s", "a")).count == 1


# --- denied -----------------------------------------------------------------------------------------------------------


@conditional
@pytest.mark.kv_denied(atomicity=kv.Atomicity.PARTITION)
async def test_two_records_are_refused_beyond_record_atomicity(kv_db: kv.Database) -> None:
    """Two changes, or one and a check of what was read beside it: refused at commit, and nothing is sent."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a"))

    uow = await kv_db.unit_of_work().begin()
    uow.add(Item("s", "b"), Item("s", "c"))
    with refused():
        await uow.commit()
    uow = await kv_db.unit_of_work().begin()
    await objects.get("s", "a")
    uow.add(Item("s", "b"))
    with refused():
        await uow.commit()

    assert names(await objects.get_many([("s", "b"), ("s", "c")])) == [None, None]


@conditional
@by_partition
@pytest.mark.kv_denied(atomicity=kv.Atomicity.STORE)
async def test_two_partitions_are_refused_beyond_partition_atomicity(kv_db: kv.Database) -> None:
    """And nothing is sent."""
    await kv_db.prepare(Item)
    uow = await kv_db.unit_of_work().begin()
    uow.add(Item("s", "a"), Item("t", "a"))

    with refused():
        await uow.commit()

    assert names(await Item.objects.using(kv_db).get_many([("s", "a"), ("t", "a")])) == [None, None]


@pytest.mark.kv_requires("ordered")
@pytest.mark.kv_denied("range_checks")
async def test_ranges_that_cannot_be_checked_are_refused(kv_db: kv.Database) -> None:
    """At the read, unless the program says that it does not rely on them."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", "a"), Item("s", "b")])

    async with kv_db.unit_of_work():
        with refused():
            await objects.range("s")
        with refused():
            await objects.range("s", limit=1).first()
        with refused():
            await gather_all(objects.range("s"))
        assert names(await objects.range("s").unchecked()) == ["a", "b"]


@pytest.mark.kv_denied("conditional")
async def test_reads_that_cannot_be_checked_are_refused(kv_db: kv.Database) -> None:
    """A unit that reads on a store without conditions would promise what nobody keeps; blind writes it can do."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a"))

    async with kv_db.unit_of_work() as uow:
        with refused():
            await objects.get("s", "a")
        with refused():
            await objects.exists("s", "a")
        with refused():
            await objects.get_many([("s", "a")])
        with refused():
            await objects.update("s", "a", count=1)
        uow.put(Item("s", "b", 5))
    uow = await kv_db.unit_of_work().begin()
    uow.add(Item("s", "c"))
    with refused():
        await uow.commit()

    assert (await objects.get("s", "b")).count == 5
    assert not await objects.exists("s", "c")
