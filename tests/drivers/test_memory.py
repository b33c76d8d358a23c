"""The store in memory: sharing, order, and playing other stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmodel.drivers.base import (
    ABSENT,
    Atomicity,
    Check,
    CheckRange,
    Delete,
    Expiry,
    Mutation,
    Reverse,
    Slice,
)
from kvmodel.drivers.memory import MemoryDriver, Plan, SortedKeys
from kvmodel.drivers.meter import Meter, meter_variable
from kvmodel.errors import (
    Closed,
    Conflict,
    KvModelError,
    OutcomeUnknown,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
    ValidationError,
)
from tests.drivers.rows import FUTURE, NOW, RED, USERS, age, find, make_table, names, pages, put, until, write

P = TypeVar("P")
R = TypeVar("R")

ADA = ("red", "ada")


async def connect(url: str, **options: Any) -> MemoryDriver:
    """Open a driver the way a database does."""
    driver = MemoryDriver.from_url(urlsplit(url), options)
    await driver.open()
    return driver


# --- order ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4000)), max_size=300),
    st.integers(0, 5000),
    st.integers(0, 4001),
)
def test_sorted_keys(changes: list[tuple[bool, int]], filler: int, edge: int) -> None:
    """Keys stay in order through insertions and removals, and are found from any place in either direction."""
    keys = SortedKeys()
    model = set()
    for number in range(0, filler, 2):
        keys.add(b"%04d" % number)
        model.add(b"%04d" % number)
    for add, number in changes:
        key = b"%04d" % number
        if add and key not in model:
            keys.add(key)
            model.add(key)
        elif not add and key in model:
            keys.remove(key)
            model.remove(key)
    at = b"%04d" % edge

    assert list(keys.ascend(at)) == sorted(key for key in model if key >= at)
    assert list(keys.descend(at)) == sorted((key for key in model if key < at), reverse=True)


# --- sharing ----------------------------------------------------------------------------------------------------------


async def test_a_named_store_is_shared_while_open() -> None:
    """Connections that name a store see the same records, until the last one has gone."""
    first, second = await connect("memory://shared-store"), await connect("memory://shared-store")
    await write(first, put("ada", 1))
    await first.close()
    assert await age(second, "ada") == 1
    await second.close()

    third = await connect("memory://shared-store")
    assert await age(third, "ada") is None
    await third.close()


async def test_a_store_without_a_name_is_private() -> None:
    """Two connections to memory:// have nothing to do with each other."""
    first, second = await connect("memory://"), await connect("memory://")
    await write(first, put("ada", 1))

    assert await age(second, "ada") is None


async def test_a_closed_connection_says_so() -> None:
    """Every call after close raises Closed; closing twice is fine."""
    driver = await connect("memory://")
    await driver.close()
    await driver.close()

    with pytest.raises(Closed):
        await write(driver, put("ada"))
    with pytest.raises(Closed):
        await find(driver, "ada")
    with pytest.raises(Closed):
        driver.peeker(USERS)(ADA)
    with pytest.raises(Closed):
        await names(driver)


# --- playing other stores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traits", "mutations", "error"),
    [
        ({"conditional": False}, [put("ada", 1, ABSENT)], Unsupported),
        ({"conditional": False}, [Check(USERS, ADA, ABSENT)], Unsupported),
        ({"range_checks": False}, [put("ada"), CheckRange(USERS, RED, ())], Unsupported),
        ({"expiry": Expiry.NONE}, [put("ada", expires_at=FUTURE)], Unsupported),
        ({"atomicity": Atomicity.RECORD}, [put("ada"), put("bob")], Unsupported),
        ({"atomicity": Atomicity.RECORD}, [put("ada"), put("ada", table=make_table("x"))], Unsupported),
        ({"atomicity": Atomicity.PARTITION}, [put("ada"), put("bob", team="blue")], Unsupported),
        ({"atomicity": Atomicity.PARTITION}, [put("ada"), CheckRange(USERS, Slice(("blue",)), ())], Unsupported),
        ({"max_atomic_changes": 1}, [put("ada"), Delete(USERS, ("red", "bob"))], TooLarge),
        ({"max_atomic_checks": 1}, [put("ada", 1, ABSENT), Check(USERS, ("red", "bob"), ABSENT)], TooLarge),
        ({"max_request_bytes": 50}, [put("ada", note="x" * 50)], TooLarge),
    ],
)
async def test_what_is_not_claimed_is_refused(
    traits: dict[str, Any], mutations: list[Mutation], error: type[KvModelError]
) -> None:
    """A write beyond what is claimed is refused before anything changes, and goes through where it is claimed."""
    poor, rich = await connect("memory://", **traits), await connect("memory://")

    with pytest.raises(error):
        await write(poor, *mutations)
    assert len(poor.native) == 0
    await write(rich, *mutations)


@pytest.mark.parametrize(
    "mutations",
    [
        [put("ada"), put("bob"), put("cyd", table=make_table("others")), CheckRange(USERS, RED, ())],
        [Delete(USERS, ADA)],
    ],
)
async def test_one_partition_is_one_scope(mutations: list[Mutation]) -> None:
    """Records of several tables with equal partition values can be changed together."""
    driver = await connect("memory://", atomicity=Atomicity.PARTITION)

    await write(driver, *mutations)


async def test_limits_of_atomic_writes_do_not_bind_batches() -> None:
    """Independent writes need no common scope."""
    driver = await connect("memory://", atomicity=Atomicity.RECORD, max_atomic_changes=1, max_batch=2)
    meter = Meter()
    token = meter_variable.set(meter)

    await write(driver, put("ada"), put("bob"), put("cyd"), atomic=False)

    meter_variable.reset(token)
    assert meter.round_trips == 2
    assert await names(driver) == ["ada", "bob", "cyd"]


@pytest.mark.parametrize(
    ("traits", "slice"),
    [
        ({"scan_table": False}, Slice(None)),
        ({"ordered": False}, RED),
        ({"reverse": Reverse.NONE}, RED._replace(reverse=True)),
    ],
)
async def test_slices_that_are_not_claimed_are_refused(traits: dict[str, Any], slice: Slice) -> None:
    """A slice that the store could not read is refused, to read and to count."""
    driver = await connect("memory://", **traits)

    with pytest.raises(Unsupported):
        await pages(driver, slice)
    with pytest.raises(Unsupported):
        await driver.count(USERS, slice, now=NOW, until=until())


async def test_traits_from_a_url() -> None:
    """A URL's query can say all of it, in words; what is of the wrong type is refused."""
    words = {"atomicity": "record", "conditional": "no", "max_value_bytes": "1KiB", "reverse": "none"}
    parsed = {name: MemoryDriver.options[name](word) for name, word in words.items()}

    driver = await connect("memory://", **parsed)

    assert driver.capabilities.atomicity is Atomicity.RECORD
    assert (driver.capabilities.conditional, driver.capabilities.max_value_bytes) == (False, 1024)
    for wrong in ({"conditional": "no"}, {"max_batch": True}):
        with pytest.raises(ValidationError):
            await connect("memory://", **wrong)
    with pytest.raises(ValueError, match="keyword"):
        MemoryDriver.options["plan"]("x")


async def test_a_remote_store_takes_a_turn() -> None:
    """Reads that are not in place let other tasks run before they look."""
    driver = await connect("memory://", reads_in_place=False)
    await write(driver, put("ada", 1))
    read = asyncio.create_task(age(driver, "ada"))
    await write(driver, put("ada", 2))

    assert await read == 2
    assert driver.capabilities.reads_in_place is False


# --- plans ------------------------------------------------------------------------------------------------------------


class Script(Plan):
    """A plan that is one function."""

    def __init__(self, play: Callable[[str, Sequence[Any], Callable[[Sequence[Any]], Awaitable[Any]]], Awaitable[Any]]):
        self.play = play
        self.calls: list[str] = []

    async def carry(self, call: str, payload: Sequence[P], apply: Callable[[Sequence[P]], Awaitable[R]]) -> R:
        self.calls.append(call)
        result: R = await self.play(call, payload, apply)
        return result


async def test_a_plan_sees_every_request() -> None:
    """Nothing goes past the plan, so reads are not in place any more."""

    async def pass_on(call: str, payload: Sequence[Any], apply: Callable[[Sequence[Any]], Awaitable[Any]]) -> Any:
        return await apply(payload)

    plan = Script(pass_on)
    driver = await connect("memory://", plan=plan)
    await write(driver, put("ada", 1))
    await age(driver, "ada")
    await names(driver)
    await driver.count(USERS, RED, now=NOW, until=until())

    assert plan.calls == ["write", "read", "scan", "count"]
    assert driver.capabilities.reads_in_place is False


async def test_a_plan_can_lose_the_way_there_and_the_way_back() -> None:
    """A request may be lost before it is applied, or its reply afterwards, or be applied in part."""
    mode = "before"

    async def play(call: str, payload: Sequence[Any], apply: Callable[[Sequence[Any]], Awaitable[Any]]) -> Any:
        if call not in ("write", "batch"):
            return await apply(payload)
        if mode == "before":
            raise Unavailable("cut")
        await apply(payload[:1] if mode == "part" else payload)
        raise OutcomeUnknown("cut")

    driver = await connect("memory://", plan=Script(play))
    with pytest.raises(Unavailable):
        await write(driver, put("ada"))
    mode = "after"
    with pytest.raises(OutcomeUnknown):
        await write(driver, put("bob"))
    mode = "part"
    with pytest.raises(OutcomeUnknown):
        await write(driver, put("cyd"), put("dan"), atomic=False)

    assert await names(driver) == ["bob", "cyd"]


async def test_a_plan_that_never_answers_meets_the_time_limit() -> None:
    """A read without an answer is TimedOut, a write without one is OutcomeUnknown, also when it is cancelled."""

    async def hang(call: str, payload: Sequence[Any], apply: Callable[[Sequence[Any]], Awaitable[Any]]) -> Any:
        await asyncio.get_running_loop().create_future()

    driver = await connect("memory://", plan=Script(hang))
    with pytest.raises(TimedOut):
        await driver.read(USERS, [ADA], now=NOW, until=until(0.01))
    with pytest.raises(OutcomeUnknown):
        await write(driver, put("ada"), seconds=0.01)
    task = asyncio.create_task(write(driver, put("ada")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(OutcomeUnknown):
        await task


async def test_errors_of_the_store_pass_a_plan() -> None:
    """What the store itself says is not touched."""

    async def pass_on(call: str, payload: Sequence[Any], apply: Callable[[Sequence[Any]], Awaitable[Any]]) -> Any:
        return await apply(payload)

    driver = await connect("memory://", plan=Script(pass_on))
    await write(driver, put("ada"))

    with pytest.raises(Conflict):
        await write(driver, put("ada", 1, ABSENT))
