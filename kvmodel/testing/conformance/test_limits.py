"""Limits: what fits is stored, what does not is refused before anything is sent, and requests carry what they may."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, names, refused

pytestmark = pytest.mark.asyncio

_REACH = 32 << 20
"""Limits beyond this are taken on trust: it would take long to reach them."""


def _limit(db: kv.Database, name: str) -> int:
    """Answer a limit, or skip the test."""
    limit: int | None = getattr(db.capabilities, name)
    if limit is None or limit > _REACH:
        pytest.skip(f"this store has no {name} within reach")
    return limit


async def _largest(fits: Callable[[int], Awaitable[None]], beyond: int) -> int:
    """Answer the largest size that is taken, below one that is not. What is refused is refused before it is sent."""
    size = 0
    while beyond - size > 1:
        middle = (size + beyond) // 2
        with kv.budget(round_trips=1) as spent:
            try:
                await fits(middle)
            except kv.ValidationError:
                assert spent.round_trips == 0
                beyond = middle
            else:
                size = middle
    return size


# --- sizes ------------------------------------------------------------------------------------------------------------


async def test_the_longest_key_works_and_a_longer_one_is_refused(kv_db: kv.Database) -> None:
    """To the byte, for every call that takes a key."""
    limit = _limit(kv_db, "max_key_bytes")
    objects = Item.objects.using(kv_db)
    await objects.save(Item("t", "a"))  # The first write may bring what describes the table.

    async def fits(size: int) -> None:
        await objects.save(Item("s", "x" * size, size))

    size = await _largest(fits, limit + 1)

    assert size >= limit // 2
    assert (await objects.get("s", "x" * size)).count == size
    if kv_db.capabilities.ordered:
        assert names(await objects.range("s", last="x" * (size + 1), first="x" * size)) == ["x" * size]
    longer = "x" * (size + 1)
    for call in (objects.find, objects.exists, objects.delete):
        with refused(kv.ValidationError):
            await call("s", longer)
    with refused(kv.ValidationError):
        await objects.get_many([("s", "a"), ("s", longer)])


async def test_a_long_key_is_told_what_remains(kv_db: kv.Database) -> None:
    """The error names the record, and how many bytes namespace and table leave."""
    limit = _limit(kv_db, "max_key_bytes")
    await kv_db.prepare(Item)

    with pytest.raises(kv.ValidationError, match=r"remain") as caught:
        await Item.objects.using(kv_db).save(Item("s", "x" * limit))

    assert caught.value.table == "items"
    assert caught.value.key == ("s", "x" * limit)


async def test_the_largest_record_works_and_a_larger_one_is_refused(kv_db: kv.Database) -> None:
    """``TooLarge`` says how large it is and what the limit is."""
    limit = _limit(kv_db, "max_value_bytes")
    objects = Item.objects.using(kv_db)
    await objects.save(Item("t", "a"))  # The first write may bring what describes the table.

    async def fits(size: int) -> None:
        await objects.save(Item("s", "a", note="x" * size))

    size = await _largest(fits, limit + 1)

    assert size >= limit // 2
    await fits(size)
    assert len((await objects.get("s", "a")).note or "") == size
    with pytest.raises(kv.TooLarge) as caught, kv.budget(round_trips=0):
        await fits(limit + 1)
    assert caught.value.limit == limit
    assert (caught.value.size or 0) > limit
    assert caught.value.key == ("s", "a")


async def test_one_record_too_large_is_named(kv_db: kv.Database) -> None:
    """Of a batch it is the one that has to be mended."""
    limit = _limit(kv_db, "max_value_bytes")
    objects = Item.objects.using(kv_db)
    items = [Item("s", "a"), Item("s", "b", note="x" * limit), Item("s", "c")]

    with pytest.raises(kv.BatchError) as caught:
        await objects.save_many(items)
    remaining = [item for item in caught.value.remaining if item is not items[1]]  # type: ignore[union-attr]
    await objects.save_many(remaining)  # type: ignore[arg-type]

    statuses = [outcome.status for outcome in caught.value.outcomes]
    assert statuses[1] is kv.Status.TOO_LARGE
    assert names(await objects.get_many([("s", name) for name in "abc"])) == ["a", None, "c"]


@pytest.mark.kv_requires(atomicity=kv.Atomicity.PARTITION)
async def test_a_commit_that_is_too_large_is_refused(kv_db: kv.Database) -> None:
    """A request over the limit is not sent, and cannot be sent in two."""
    limit = _limit(kv_db, "max_request_bytes")
    room = kv_db.capabilities.max_value_bytes or limit
    await kv_db.prepare(Item)
    uow = await kv_db.unit_of_work().begin()
    for number in range(2 * limit // room + 2):
        uow.put(Item("s", f"{number}", note="x" * (room * 9 // 10 - 500)))

    with refused(kv.TooLarge):
        await uow.commit()

    assert not await Item.objects.using(kv_db).exists("s", "0")


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.kv_requires("conditional", atomicity=kv.Atomicity.PARTITION)
@pytest.mark.parametrize("over", [0, 1])
async def test_changes_of_one_commit(kv_db: kv.Database, over: int) -> None:
    """As many as the store takes are taken; one more is ``TooLarge``, and nothing is sent."""
    limit = _limit(kv_db, "max_atomic_changes")
    await kv_db.prepare(Item)
    uow = await kv_db.unit_of_work().begin()
    uow.put(*(Item("s", f"{number:05}") for number in range(limit + over)))

    if over:
        with refused(kv.TooLarge):
            await uow.commit()
    else:
        await uow.commit()

    assert await Item.objects.using(kv_db).exists("s", "00000") is not bool(over)


@pytest.mark.kv_requires("conditional", atomicity=kv.Atomicity.PARTITION)
@pytest.mark.parametrize("over", [0, 1])
async def test_checks_of_one_commit(kv_db: kv.Database, over: int) -> None:
    """The same for what a commit relies on."""
    limit = _limit(kv_db, "max_atomic_checks")
    objects = Item.objects.using(kv_db)
    await kv_db.prepare(Item)
    uow = await kv_db.unit_of_work().begin()
    await objects.get_many([("s", f"{number:05}") for number in range(limit + over)])
    uow.add(Item("s", "00000"))

    if over:
        with refused(kv.TooLarge):
            await uow.commit()
    else:
        await uow.commit()

    assert await objects.exists("s", "00000") is not bool(over)


@pytest.mark.parametrize("count", [1, 16, 17, 500])
async def test_many_keys_cost_few_round_trips(kv_db: kv.Database, count: int) -> None:
    """``get_many`` sends ``max_read_batch`` keys at once."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", f"{number:04}") for number in range(count)])
    trips = -(-count // max(kv_db.capabilities.max_read_batch, 1))

    with kv.budget(round_trips=trips, keys=count):
        found = await objects.get_many([("s", f"{number:04}") for number in range(count)])

    assert len([item for item in found if item is not None]) == count


async def test_concurrent_gets_travel_together(kv_db: kv.Database) -> None:
    """Gathered ``get`` calls cost as few round trips as ``get_many``; each gets its own answer."""
    capabilities = kv_db.capabilities
    if capabilities.reads_in_place or capabilities.max_read_batch < 2:
        pytest.skip("this store reads in place, or one key at once")
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", f"{number:04}", number) for number in range(300)])

    with kv.budget(round_trips=-(-300 // capabilities.max_read_batch)):
        found = await asyncio.gather(*(objects.get("s", f"{number:04}") for number in range(300)))

    assert [item.count for item in found] == list(range(300))


async def test_a_batch_is_sent_in_pieces(kv_db: kv.Database) -> None:
    """``max_batch`` writes to a request, and no more requests than that takes."""
    limit = _limit(kv_db, "max_batch")
    count = min(3 * limit + 1, 3000)
    await kv_db.prepare(Item)

    with kv.budget(round_trips=-(-count // limit), keys=count):
        await Item.objects.using(kv_db).save_many(Item("s", f"{number:05}") for number in range(count))

    assert await Item.objects.using(kv_db).exists("s", f"{count - 1:05}")
