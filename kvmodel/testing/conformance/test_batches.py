"""Many writes at once: independent of each other, each with an outcome, in any number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Bare, Item, Lease, names, refused

pytestmark = pytest.mark.asyncio

conditional = pytest.mark.kv_requires("conditional")


async def _stored(db: kv.Database, wanted: list[str]) -> list[str]:
    """Answer which of these names are stored."""
    found = await Item.objects.using(db).get_many([("s", name) for name in wanted])
    return [item.name for item in found if item is not None]


@pytest.mark.parametrize("count", [0, 1, 999, 2500])
async def test_any_number_is_saved(kv_db: kv.Database, count: int) -> None:
    """``save_many`` takes an iterable of any length, and answers how many it wrote."""
    objects = Item.objects.using(kv_db)

    assert await objects.save_many(Item("s", f"{number:05}", number) for number in range(count)) == count

    sample = range(0, count, 97)
    found = await objects.get_many([("s", f"{number:05}") for number in sample])
    assert [item and item.count for item in found] == list(sample)


async def test_an_asynchronous_iterable_is_saved(kv_db: kv.Database) -> None:
    """Its objects are taken as they come."""

    async def items() -> AsyncIterator[Item]:
        for number in range(1200):
            yield Item("s", f"{number:05}", number)

    assert await Item.objects.using(kv_db).save_many(items()) == 1200
    assert await Item.objects.using(kv_db).exists("s", "01199")


async def test_no_more_is_taken_than_is_sent(kv_db: kv.Database) -> None:
    """However long the input is, it is not read far ahead: memory stays bounded."""
    taken = 0

    def items() -> Iterator[Item]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield Item("s", f"{number:05}")

    with pytest.raises(kv.BudgetExceeded), kv.budget(keys=5000):
        await Item.objects.using(kv_db).save_many(items())

    assert taken <= 10_000


async def test_the_last_of_two_objects_with_one_key_stays(kv_db: kv.Database) -> None:
    """A key that comes again is written again, in the order given."""
    objects = Item.objects.using(kv_db)

    assert await objects.save_many([Item("s", "a", number) for number in range(3)]) == 3

    assert (await objects.get("s", "a")).count == 2


async def test_saved_objects_are_loaded(kv_db: kv.Database) -> None:
    """Each has the version that it was stored at."""
    objects = Item.objects.using(kv_db)
    items = [Item("s", name) for name in "abc"]
    await objects.save_many(items)

    assert [kv.version(item) for item in items] == [kv.version(await objects.get("s", item.name)) for item in items]


@conditional
async def test_one_lost_race_leaves_the_others_written(kv_db: kv.Database) -> None:
    """``BatchError`` tells what became of each, how many are done, and what to send again."""
    objects = Item.objects.using(kv_db)
    stale = await objects.create(Item("s", "b"))
    await objects.update("s", "b", count=7)

    with pytest.raises(kv.BatchError) as caught:
        await objects.save_many([Item("s", "a"), stale, Item("s", "c")])

    error = caught.value
    assert [outcome.status for outcome in error.outcomes] == [
        kv.Status.WRITTEN,
        kv.Status.CONFLICT,
        kv.Status.WRITTEN,
    ]
    assert error.done == 2
    assert list(error.remaining) == [stale]  # type: ignore[arg-type]
    assert await _stored(kv_db, ["a", "b", "c"]) == ["a", "b", "c"]
    assert (await objects.get("s", "b")).count == 7


@conditional
async def test_what_remains_can_be_sent_again(kv_db: kv.Database) -> None:
    """Nothing of the input is lost, were it read from a generator."""
    objects = Item.objects.using(kv_db)
    stale = await objects.create(Item("s", "01500"))
    await objects.update("s", "01500", count=7)
    stream = (stale if number == 1500 else Item("s", f"{number:05}", number) for number in range(3000))

    with pytest.raises(kv.BatchError) as caught:
        await objects.save_many(stream)
    remaining = [item for item in caught.value.remaining if item is not stale]  # type: ignore[union-attr]
    written = await objects.save_many(remaining)  # type: ignore[arg-type]

    assert caught.value.done + written == 2999
    assert len(await _stored(kv_db, [f"{number:05}" for number in range(3000)])) == 3000


async def test_a_batch_goes_out_at_its_end(kv_db: kv.Database) -> None:
    """Writes to several tables and partitions travel together; a block that ends by an exception sends nothing."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("t", "gone"))

    async with kv_db.batch() as batch:
        batch.put(Item("s", "a"), Item("t", "b"), Bare("c", 5))
        batch.delete(Item("t", "gone"), force=True)
        assert not await objects.exists("s", "a")
    await _fail_in_batch(kv_db)

    assert names(await objects.get_many([("s", "a"), ("t", "b"), ("t", "gone"), ("s", "never")])) == [
        "a",
        "b",
        None,
        None,
    ]
    assert (await Bare.objects.using(kv_db).get("c")).value == 5


async def _fail_in_batch(db: kv.Database) -> None:
    with suppress(ZeroDivisionError):
        async with db.batch() as batch:
            batch.put(Item("s", "never"))
            _ = 1 / 0


@conditional
async def test_a_batch_checks_each_write_by_itself(kv_db: kv.Database) -> None:
    """``add`` wants its key free, ``put`` and ``delete`` of loaded objects what was loaded."""
    objects = Item.objects.using(kv_db)
    stale = await objects.create(Item("s", "stale"))
    await objects.update("s", "stale", count=1)
    fresh = await objects.create(Item("s", "fresh"))
    batch = kv_db.batch()
    batch.add(Item("s", "fresh2"), Item("s", "stale2"))
    batch.delete(stale, fresh)

    with pytest.raises(kv.BatchError) as caught:
        await batch.send()

    statuses = [outcome.status for outcome in caught.value.outcomes]
    assert statuses == [kv.Status.WRITTEN, kv.Status.WRITTEN, kv.Status.CONFLICT, kv.Status.WRITTEN]
    assert await _stored(kv_db, ["stale", "fresh", "fresh2", "stale2"]) == ["stale", "fresh2", "stale2"]


async def test_a_batch_takes_one_write_a_record(kv_db: kv.Database) -> None:
    """Two would have no order."""
    batch = kv_db.batch()
    batch.put(Item("s", "a"))

    with pytest.raises(kv.ValidationError):
        batch.put(Item("s", "a", 2))


@pytest.mark.kv_requires("expiry")
async def test_bulk_writes_keep_default_deadlines(kv_db: kv.Database) -> None:
    """New objects of a model that expires get its deadline, however they are written."""
    await Lease.objects.using(kv_db).save_many([Lease("s", "a")])
    async with kv_db.batch() as batch:
        batch.put(Lease("s", "b"))

    for name in "ab":
        assert kv.expires_at(await Lease.objects.using(kv_db).get("s", name)) is not None


@pytest.mark.kv_denied("conditional")
async def test_a_batch_without_conditions_is_refused(kv_db: kv.Database) -> None:
    """Where the store compares nothing, neither does a batch."""
    await kv_db.prepare(Item)
    batch = kv_db.batch()
    batch.add(Item("s", "a"))

    with refused():
        await batch.send()
