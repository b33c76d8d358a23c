"""Many tasks on one connection: no answer goes astray, none is lost, and a task that is cancelled harms nobody."""

from __future__ import annotations

import asyncio
import random

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Bare, Item, names, refused
from kvmodel.testing.plugin import Connect

pytestmark = pytest.mark.asyncio

conditional = pytest.mark.kv_requires("conditional")


async def test_every_task_gets_its_own_answer(kv_db: kv.Database) -> None:
    """Hits and misses, reads of every kind, all at once."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", f"{number:03}", number) for number in range(0, 200, 2)])

    async def ask(number: int) -> None:
        key = ("s", f"{number:03}")
        there = number % 2 == 0
        found = await objects.find(*key)
        assert (found and found.count) == (number if there else None)
        assert await objects.exists(*key) is there
        if not there:
            with pytest.raises(kv.NotFound) as caught:
                await objects.get(*key)
            assert caught.value.key == key
        if kv_db.capabilities.ordered:
            assert names(await objects.range("s", first=key[1], last=key[1])) == [key[1]] * there

    await asyncio.gather(*map(ask, range(200)))


async def test_every_task_gets_an_object_of_its_own(kv_db: kv.Database) -> None:
    """However reads travel: what one task does to its object, inside its lists too, no other one sees."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", tags=["x"]))

    mine, yours, *_ = await asyncio.gather(*(objects.get("s", "a") for _ in range(4)))
    mine.tags.append("y")
    (listed, again) = await objects.get_many([("s", "a"), ("s", "a")])
    assert listed is not None
    listed.tags.append("z")

    assert yours == again == Item("s", "a", tags=["x"])


async def test_every_write_arrives(kv_db: kv.Database) -> None:
    """Writes of many tasks to many records."""
    objects = Bare.objects.using(kv_db)

    await asyncio.gather(*(objects.save(Bare(f"{number}", number)) for number in range(200)))

    found = await objects.get_many([f"{number}" for number in range(200)])
    assert [bare and bare.value for bare in found] == list(range(200))


@conditional
async def test_no_update_is_lost(kv_db: kv.Database) -> None:
    """A hundred tasks that add one to the same record add a hundred."""
    objects = Bare.objects.using(kv_db)
    await objects.create(Bare("hits"))

    with kv.timeout(60):
        await asyncio.gather(*(objects.update("hits", value=lambda value: value + 1) for _ in range(100)))

    assert (await objects.get("hits")).value == 100


@conditional
async def test_one_of_many_creates_wins(kv_db: kv.Database) -> None:
    """The others are told that the key is taken."""
    objects = Bare.objects.using(kv_db)

    results = await asyncio.gather(*(objects.create(Bare("a", number)) for number in range(50)), return_exceptions=True)

    winners = [result for result in results if isinstance(result, Bare)]
    assert len(winners) == 1
    assert all(isinstance(result, Bare | kv.AlreadyExists) for result in results)
    assert await objects.get("a") == winners[0]


@conditional
@pytest.mark.kv_requires(atomicity=kv.Atomicity.PARTITION)
async def test_money_is_neither_made_nor_lost(kv_db: kv.Database) -> None:
    """Transfers of many tasks keep the sum, and every reader that verifies sees that sum."""
    objects = Item.objects.using(kv_db)
    accounts = [f"{number}" for number in range(4)]
    await objects.save_many([Item("bank", name, 100) for name in accounts])
    draw = random.Random(3)  # noqa: S311 - repeatable on purpose

    async def transfer(between: list[str], amount: int) -> None:
        async def move(uow: kv.UnitOfWork) -> None:
            giver, taker = [await objects.get("bank", name) for name in between]
            await asyncio.sleep(0)
            giver.count -= amount
            taker.count += amount

        await kv_db.transact(move)

    async def audit() -> None:
        async def look(uow: kv.UnitOfWork) -> int:
            found = [await objects.get("bank", name) for name in accounts]
            uow.put(Item("bank", "audit", sum(item.count for item in found)))
            return sum(item.count for item in found)

        assert await kv_db.transact(look) == 400

    with kv.timeout(60):
        await asyncio.gather(
            *(transfer(draw.sample(accounts, 2), draw.randint(1, 20)) for _ in range(40)), *(audit() for _ in range(5))
        )

    assert sum([(await objects.get("bank", name)).count for name in accounts]) == 400


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_read_harms_nobody(kv_db: kv.Database, turns: int) -> None:
    """Whenever it is cancelled: the others get their own answers, and so does the next."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", f"{number}", number) for number in range(10)])
    tasks = [asyncio.ensure_future(objects.get("s", f"{number}")) for number in range(10)]
    for _ in range(turns):
        await asyncio.sleep(0)

    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks[1::2], return_exceptions=True)
    cancelled = await asyncio.gather(*tasks[::2], return_exceptions=True)

    assert [result.count for result in results if isinstance(result, Item)] == [1, 3, 5, 7, 9]
    assert all(isinstance(result, Item | asyncio.CancelledError) for result in cancelled)
    assert (await objects.get("s", "4")).count == 4


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_write_is_done_or_not_done(kv_db: kv.Database, turns: int) -> None:
    """Its caller is told that it was cancelled, or that nobody knows; later writes are not disturbed."""
    objects = Bare.objects.using(kv_db)
    await objects.save(Bare("a", 1))
    before = await objects.get("a")
    task = asyncio.ensure_future(objects.save(Bare("a", 2)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()

    (result,) = await asyncio.gather(task, return_exceptions=True)
    await objects.save(Bare("b", 3))

    assert isinstance(result, Bare | asyncio.CancelledError | kv.OutcomeUnknown)
    found = await objects.get("a")
    assert found == Bare("a", 2) if isinstance(result, Bare) else found in (before, Bare("a", 2))
    assert (await objects.get("b")).value == 3


@conditional
async def test_a_cancelled_commit_leaves_unknown_objects(kv_db: kv.Database) -> None:
    """What may have been written is not saved again by accident: it has to be read first."""
    objects = Bare.objects.using(kv_db)
    await objects.create(Bare("a", 1))

    for turns in range(1, 6):
        # Not a plain read: the write before may still be on its way.
        bare = await objects.update("a", value=lambda value: value + 1)
        task = asyncio.ensure_future(objects.save(bare))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(result, Bare):
            with refused(kv.Conflict):
                await objects.save(bare)


@pytest.mark.parametrize("seconds", [1e-9, 1e-4, 1e-3])
async def test_every_operation_ends(kv_db: kv.Database, seconds: float) -> None:
    """However short the time: reads in a result or ``TimedOut``, writes in one of these or in ``OutcomeUnknown``."""
    objects = Bare.objects.using(kv_db)
    await objects.save(Bare("a", 0))

    with kv.timeout(seconds):
        writes = await asyncio.gather(
            *(objects.save(Bare("a", number)) for number in range(1, 20)), return_exceptions=True
        )
        reads = await asyncio.gather(*(objects.find("a") for _ in range(20)), return_exceptions=True)

    assert all(isinstance(result, Bare | kv.TimedOut | kv.OutcomeUnknown) for result in writes)
    assert all(isinstance(result, Bare | kv.TimedOut) for result in reads)
    await objects.save(Bare("a", 77))
    assert (await objects.get("a")).value == 77


@conditional
async def test_two_connections_see_each_other(kv_connect: Connect) -> None:
    """What one has written, the other reads, and neither overwrites what the other did."""
    one, two = await kv_connect(), await kv_connect()
    mine = await Item.objects.using(one).create(Item("s", "a", 1))
    yours = await Item.objects.using(two).get("s", "a")
    yours.count = 2
    await Item.objects.using(two).save(yours)

    mine.count = 3
    with pytest.raises(kv.Conflict):
        await Item.objects.using(one).save(mine)
    with pytest.raises(kv.AlreadyExists):
        await Item.objects.using(one).create(Item("s", "a"))

    assert (await Item.objects.using(one).get("s", "a")).count == 2
