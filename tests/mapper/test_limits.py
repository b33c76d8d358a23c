"""Budgets, time limits, and reads that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import kvmodel as kv
from kvmodel._aio import TaskSet
from kvmodel.database import Connection, Database
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.testing.faults import Fault, FaultPlan
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


async def test_a_damaged_record_does_not_touch_the_others(remote: Database) -> None:
    """Of the reads that travel together, only the one that asked for it gets the DecodingError."""
    objects = Counter.objects.using(remote)
    await objects.save_many([Counter("a", 1), Counter("b", 2), Counter("c", 3)])
    _damage(remote, "b")

    one, two, three = await asyncio.gather(*(objects.get(name) for name in "abc"), return_exceptions=True)

    assert (one, three) == (Counter("a", 1), Counter("c", 3))
    assert isinstance(two, kv.DecodingError)
    with pytest.raises(kv.DecodingError):
        await objects.get("b")


async def test_a_refused_key_does_not_touch_the_others() -> None:
    """Of the reads that travel together, only the one whose key is too long is refused."""
    async with kv.connect("memory://?reads_in_place=false&max_read_batch=16&max_key_bytes=120") as db:
        objects = Counter.objects.using(db)
        await objects.save_many([Counter("a", 1), Counter("c", 3)])

        one, two, three = await asyncio.gather(
            *(objects.get(name) for name in ("a", "b" * 200, "c")), return_exceptions=True
        )

        assert (one, three) == (Counter("a", 1), Counter("c", 3))
        assert isinstance(two, kv.ValidationError)


def _damage(db: Database, name: str) -> None:
    """Put bytes that are no record under a counter's key."""
    driver = db._connection.driver
    assert isinstance(driver, MemoryDriver)
    bound = Counter.objects.using(db)._where()[0]
    driver.native.put(driver.codec(bound.table).encode_key((name,)), b"\xff")


async def test_an_error_of_the_store_reaches_every_caller() -> None:
    """Nobody waits for an answer that will not come; the next request is another one."""
    plan = FaultPlan(calls=["read"], script=[Fault.CUT_BEFORE])
    async with kv.connect("memory://", plan=plan):
        await Counter.objects.save_many([Counter(f"{n}", n) for n in range(3)])

        found = await asyncio.gather(*(Counter.objects.get(f"{n}") for n in range(3)), return_exceptions=True)
        assert [type(each) for each in found] == [kv.Unavailable] * 3
        assert (await Counter.objects.get("1")).value == 1


async def test_callers_with_different_budgets_do_not_share_a_request(remote: Database) -> None:
    """Each pays for its own; without a budget nothing is counted."""
    objects = Counter.objects.using(remote)
    await objects.save_many([Counter(f"{n}", n) for n in range(4)])

    async def read(limit: int, *names: str) -> tuple[int, int]:
        with kv.budget(round_trips=limit) as spent:
            await asyncio.gather(*map(objects.get, names))
        return spent.round_trips, spent.keys

    one, two, free = await asyncio.gather(read(1, "0", "1"), read(1, "2"), objects.get("3"))
    assert (one, two) == ((1, 2), (1, 1))
    assert free.value == 3
    with pytest.raises(kv.BudgetExceeded):
        await read(0, "0")


async def test_all_callers_of_a_request_may_be_cancelled() -> None:
    """Nothing is sent for nobody."""
    plan = FaultPlan()
    async with kv.connect("memory://", plan=plan) as db:
        await db.prepare(Counter)
        tasks = [asyncio.create_task(Counter.objects.find(name)) for name in "ab"]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)

        assert plan.log == []


async def test_one_key_asked_for_twice_costs_one(remote: Database) -> None:
    """Both get an object of their own, lists inside them too."""
    objects = User.objects.using(remote)
    await objects.create(User("red", "ada", tags=["a"]))

    with kv.budget(keys=1):
        one, two = await asyncio.gather(objects.get("red", "ada"), objects.get("red", "ada"))
    one.tags.append("b")

    assert two.tags == ["a"]


async def test_what_needs_conditional_writes_is_refused() -> None:
    """update and expire would lose what others write meanwhile; the message says what would do."""
    async with kv.connect("memory://", conditional=False):
        await Counter.objects.save(Counter("a"), force=True)
        with kv.budget(round_trips=0):
            with pytest.raises(kv.Unsupported, match="force=True"):
                await Counter.objects.update("a", value=1)
            with pytest.raises(kv.Unsupported, match="force=True"):
                await Counter.objects.expire("a", expires_at=None)
            with pytest.raises(kv.Unsupported):
                await Counter.objects.create(Counter("b"))


async def test_many_keys_travel_in_requests_of_the_size_the_store_takes() -> None:
    """get_many of 250 keys in requests of 100."""
    async with kv.connect("memory://", reads_in_place=False, max_read_batch=100):
        await Counter.objects.save_many([Counter(f"{n}", n) for n in range(250)])

        with kv.budget(round_trips=3, keys=250):
            found = await Counter.objects.get_many([f"{n}" for n in range(250)])

    assert [counter and counter.value for counter in found] == list(range(250))


def test_the_package_shows_its_names() -> None:
    """All of them, whether imported yet or not, and no others."""
    assert set(kv.__all__) <= set(dir(kv))
    assert kv.Database.__module__ == kv.connect.__module__ == "kvmodel"
    with pytest.raises(AttributeError, match="no attribute"):
        _ = kv.nothing_of_this_name  # type: ignore[attr-defined]
