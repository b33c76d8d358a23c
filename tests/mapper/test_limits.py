"""Budgets, time limits, and reads that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import kvmodel as kv
from kvmodel._aio import TaskSet
from kvmodel.database import Connection, Database
from kvmodel.drivers.memory import MemoryDriver
from tests.mapper.models import Counter, User


@pytest.fixture
async def remote() -> AsyncIterator[Database]:
    """A database whose driver takes a hundred keys in one request."""
    driver = MemoryDriver(reads_in_place=False, max_read_batch=100)
    await driver.open()
    db = Database(Connection(driver))
    yield db
    await db.close()


async def test_concurrent_gets_travel_together(remote: Database) -> None:
    """A thousand gets cost ten round trips, and each gets its own answer."""
    objects = Counter.objects.using(remote)
    await objects.save_many([Counter(f"{n:04}", n) for n in range(1000)])

    with kv.budget(round_trips=10) as spent:
        counters = await asyncio.gather(*(objects.get(f"{n:04}") for n in range(1000)))

    assert [counter.value for counter in counters] == list(range(1000))
    assert spent.round_trips == 10


async def test_absent_records_do_not_touch_the_others(remote: Database) -> None:
    """NotFound goes to the one who asked."""
    objects = Counter.objects.using(remote)
    await objects.create(Counter("a", 1))

    found = await asyncio.gather(objects.get("a"), objects.get("b"), objects.get("a"), return_exceptions=True)

    assert isinstance(found[1], kv.NotFound)
    assert found[0] == found[2] == Counter("a", 1)
    assert found[0] is not found[2]


async def test_a_cancelled_caller_does_not_touch_the_others(remote: Database) -> None:
    """One task's cancellation is its own."""
    objects = Counter.objects.using(remote)
    await objects.save_many([Counter("a", 1), Counter("b", 2)])
    one, two = asyncio.create_task(objects.get("a")), asyncio.create_task(objects.get("b"))
    await asyncio.sleep(0)
    one.cancel()

    assert (await two).value == 2
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_budget_counts_and_fails(remote: Database) -> None:
    """More than the budget is BudgetExceeded, with the facts; inner blocks count for outer ones."""
    objects = Counter.objects.using(remote)
    await objects.save_many([Counter(f"{n}", n) for n in range(10)])

    with pytest.raises(kv.BudgetExceeded) as caught, kv.budget(round_trips=2):
        for n in range(3):
            await objects.get(f"{n}")
    assert (caught.value.spent, caught.value.limit, caught.value.unit) == (3, 2, "round_trips")

    with pytest.raises(kv.BudgetExceeded), kv.budget(keys=3):
        await objects.get_many([f"{n}" for n in range(4)])
    with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=2):
        for n in range(3):
            with kv.budget(round_trips=1):
                await objects.get(f"{n}")
    with kv.budget(round_trips=1, keys=10) as spent:
        await objects.get_many([f"{n}" for n in range(10)])
    assert (spent.round_trips, spent.keys) == (1, 10)


async def test_a_write_over_its_budget_is_not_sent(remote: Database) -> None:
    """The budget fails before the exchange, not after it."""
    objects = Counter.objects.using(remote)
    await remote.prepare(Counter)

    with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=0):
        await objects.create(Counter("a"))

    assert await objects.find("a") is None


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", True, None])
def test_a_timeout_is_a_positive_number(seconds: object) -> None:
    """Anything else is refused when the block is entered."""
    with pytest.raises(kv.ValidationError), kv.timeout(seconds):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("limits", [{"round_trips": -1}, {"keys": 1.5}, {"keys": True}])
def test_a_budget_is_a_number(limits: dict[str, int]) -> None:
    """Anything else is refused when the block is entered."""
    with pytest.raises(kv.ValidationError), kv.budget(**limits):
        pass


async def test_the_block_sets_the_time_limit(remote: Database) -> None:
    """kv.timeout changes the limit for a block, and for the tasks started in it."""
    connection = remote._connection
    loop = asyncio.get_running_loop()

    async def remaining() -> float:
        return connection.until() - loop.time()

    assert 9 < await remaining() <= 10
    with kv.timeout(60):
        assert 59 < await asyncio.create_task(remaining()) <= 60
        with kv.timeout(1):
            assert await remaining() <= 1
    assert await remaining() <= 10


async def test_tasks_end_with_their_owner() -> None:
    """Closing a connection leaves no task behind."""
    tasks = TaskSet()
    ended = asyncio.Event()

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.start(run())
    await asyncio.sleep(0)
    await tasks.close()

    assert ended.is_set()


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        ({"range_checks": False}, "unchecked"),
        ({"conditional": False}, "batch"),
    ],
)
async def test_what_a_unit_could_not_verify_is_refused_at_the_read(capabilities: dict[str, bool], words: str) -> None:
    """A store that can't check says so at the read, and the message names the way out."""
    driver = MemoryDriver(**capabilities)  # type: ignore[arg-type]
    await driver.open()
    db = Database(Connection(driver))
    await User.objects.using(db).save(User("red", "ada"), force=True)

    async with db.unit_of_work():
        with pytest.raises(kv.Unsupported, match=words):
            await User.objects.using(db).range("red")
    await db.close()
