"""What all transactional byte stores share, tried on the store in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import pytest

from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Absent,
    Check,
    CheckRange,
    Delete,
    Expectation,
    Key,
    Mutation,
    Row,
    Slice,
    Status,
)
from kvmodel.drivers.bytestore import FIRST_PAGE, PAGE, Change
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.drivers.meter import Meter, meter_variable
from kvmodel.errors import (
    AlreadyExists,
    Closed,
    Conflict,
    DecodingError,
    KvModelError,
    OutcomeUnknown,
    SchemaError,
    TimedOut,
    TooLarge,
    ValidationError,
)
from tests.drivers.rows import (
    FUTURE,
    NOW,
    PAST,
    RED,
    USERS,
    age,
    find,
    make_table,
    names,
    pages,
    put,
    until,
    version,
    write,
)

T = TypeVar("T")

ADA: Key = ("red", "ada")


def corrupt(driver: MemoryDriver, key: Key) -> None:
    """Put bytes in a record's place that are none."""
    driver.native.put(driver.codec(USERS).encode_key(key), b"\xff\xff")


async def seen(driver: MemoryDriver, slice: Slice = RED) -> CheckRange:
    """Read a slice, and answer the check that it has not changed."""
    rows = [row for page in await pages(driver, slice, values=False) for row in page]
    return CheckRange(USERS, slice, tuple((row.key, row.version) for row in rows))


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_reads_answer_in_the_order_asked(memory: MemoryDriver) -> None:
    """Every key gets its place in the answer, repeated and missing ones too."""
    await write(memory, put("ada", 1), put("bob", 2))
    asked = [("red", "bob"), ("red", "nobody"), ("red", "ada"), ("red", "bob")]

    rows = await memory.read(USERS, asked, now=NOW, until=until())

    assert asked == [row.key for row in rows]
    assert [row.values["age"] if isinstance(row, Row) else None for row in rows] == [2, None, 1, 2]


async def test_more_keys_than_one_request_takes(memory: MemoryDriver) -> None:
    """A read of many keys is several requests, and nothing is lost between them."""
    await write(memory, *(put(f"{i:04}", i) for i in range(3 * PAGE)), atomic=False)
    meter = Meter()
    token = meter_variable.set(meter)

    rows = await memory.read(USERS, [("red", f"{i:04}") for i in range(3 * PAGE)], now=NOW, until=until())

    meter_variable.reset(token)
    assert list(range(3 * PAGE)) == [row.values["age"] for row in rows if isinstance(row, Row)]
    assert (meter.round_trips, meter.keys) == (3, 3 * PAGE)


async def test_all_keys_are_checked_before_the_first_request() -> None:
    """An over-long key behind a full request keeps that from being sent."""
    driver = MemoryDriver(max_key_bytes=40, max_read_batch=1)
    await driver.open()
    meter = Meter()
    token = meter_variable.set(meter)

    with pytest.raises(ValidationError):
        await driver.read(USERS, [ADA, ("red", "b" * 50)], now=NOW, until=until())
    meter_variable.reset(token)

    assert meter.round_trips == 0


async def test_headers_alone(memory: MemoryDriver) -> None:
    """A read without values tells presence, version and deadline all the same."""
    await write(memory, put("ada", 1, expires_at=FUTURE))

    (row,) = await memory.read(USERS, [ADA], values=False, now=NOW, until=until())

    assert Row(ADA, {}, await version(memory, "ada"), FUTURE) == row


async def test_peek_answers_what_is_stored(memory: MemoryDriver) -> None:
    """A record that lives is what read answers; expired ones are left to the caller to judge."""
    await write(memory, put("ada", 1), put("old", 1, expires_at=PAST))
    peek = memory.peeker(USERS)

    for name in ("ada", "nobody"):
        assert await find(memory, name) == peek(("red", name))
    old = peek(("red", "old"))
    assert isinstance(old, Row)
    assert old.expires_at == PAST


async def test_expired_records_are_absent_with_a_token(memory: MemoryDriver) -> None:
    """What has expired is not shown, but said to be there still."""
    await write(memory, put("ada", 1, expires_at=FUTURE))
    old = await version(memory, "ada")

    assert Absent(ADA, old) == await find(memory, "ada", now=FUTURE)


async def test_a_page_is_bounded_by_records(memory: MemoryDriver) -> None:
    """The first page is small, so that the first record comes at once; the others are larger; all are there once."""
    total = FIRST_PAGE + PAGE + 10
    await write(memory, *(put(f"{i:04}", i) for i in range(total)), atomic=False)

    found = await pages(memory)

    assert [len(page) for page in found] == [FIRST_PAGE, PAGE, 10]
    assert list(range(total)) == [row.values["age"] for page in found for row in page]


async def test_a_page_is_bounded_by_bytes(memory: MemoryDriver) -> None:
    """Large records fill a page before its number of records does."""
    await write(memory, *(put(f"{i}", note="x" * 400_000) for i in range(8)), atomic=False)

    found = await pages(memory)

    assert max(len(page) for page in found) <= 4
    assert [f"{i}" for i in range(8)] == [row.key[-1] for page in found for row in page]


async def test_pages_backwards(memory: MemoryDriver) -> None:
    """A slice read backwards goes on from page to page too."""
    total = FIRST_PAGE + PAGE + 10
    await write(memory, *(put(f"{i:04}") for i in range(total)), atomic=False)

    assert [f"{i:04}" for i in reversed(range(total))] == await names(memory, RED._replace(reverse=True))


async def test_a_limited_slice_is_one_page(memory: MemoryDriver) -> None:
    """A slice with a limit that fits into a page costs one exchange, and no record more than asked."""
    await write(memory, *(put(f"{i:04}") for i in range(PAGE + 1)), atomic=False)
    meter = Meter()
    token = meter_variable.set(meter)

    page = await memory.scan(USERS, RED._replace(limit=PAGE - 1), now=NOW, until=until())

    meter_variable.reset(token)
    assert (len(page.rows), page.resume) == (PAGE - 1, None)
    assert (meter.round_trips, meter.keys) == (1, PAGE - 1)


async def test_limits_count_live_records(memory: MemoryDriver) -> None:
    """Expired records take no place in a limit."""
    await write(memory, put("a", expires_at=PAST), put("b"), put("c", expires_at=PAST), put("d"), put("e"))

    assert await names(memory, RED._replace(limit=2)) == ["b", "d"]


async def test_a_page_may_be_empty_and_not_the_last(memory: MemoryDriver) -> None:
    """Many expired records in a row do not make one call look at all of them."""
    await write(memory, *(put(f"{i:04}", expires_at=PAST) for i in range(3 * PAGE)), put("z"), atomic=False)

    first = await memory.scan(USERS, RED, now=NOW, until=until())

    assert first.rows == []
    assert first.resume is not None
    assert await names(memory) == ["z"]


@pytest.mark.parametrize("limit", [0, 3])
async def test_an_empty_slice(memory: MemoryDriver, limit: int) -> None:
    """A slice without room or without records is empty and at its end."""
    page = await memory.scan(USERS, RED._replace(limit=limit), now=NOW, until=until())

    assert page == ([], None)


async def test_partitions_and_tables_keep_apart(memory: MemoryDriver) -> None:
    """A slice shows its own partition, a whole table shows all of its own, and neither shows what lies beside it."""
    other = make_table("others")
    await write(memory, put("ada"), put("bob", team="re"), put("cyd", team="redd"), put("dan", table=other))

    assert await names(memory) == ["ada"]
    assert {"ada", "bob", "cyd"} == set(await names(memory, Slice(None)))


async def test_counting(memory: MemoryDriver) -> None:
    """A count leaves out what has expired, and stops at the limit."""
    await write(memory, *(put(f"{i:04}", expires_at=PAST if i % 2 else None) for i in range(10_000)), atomic=False)

    assert await memory.count(USERS, RED, now=NOW, until=until()) == 5_000
    assert await memory.count(USERS, RED._replace(limit=7), now=NOW, until=until()) == 7
    assert await memory.count(USERS, Slice(("blue",)), now=NOW, until=until()) == 0


async def test_a_damaged_record_is_reported(memory: MemoryDriver) -> None:
    """Bytes that are no record raise, and nothing is guessed."""
    await write(memory, put("ada"), put("bob"))
    corrupt(memory, ADA)

    with pytest.raises(DecodingError):
        await find(memory, "ada")
    with pytest.raises(DecodingError):
        await pages(memory)
    assert await age(memory, "bob") == 0


# --- expectations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["absent", "live", "expired", "damaged"])
@pytest.mark.parametrize(
    ("expect", "fine"),
    [
        (ANYTHING, {"absent", "live", "expired", "damaged"}),
        (ABSENT, {"absent", "expired"}),
        (PRESENT, {"live", "damaged"}),
        ("this", {"live"}),
        ("another", set()),
    ],
)
@pytest.mark.parametrize("kind", ["put", "delete", "check"])
@pytest.mark.parametrize("companion", [False, True])
async def test_expectations(
    memory: MemoryDriver, state: str, expect: Expectation, fine: set[str], kind: str, companion: bool
) -> None:
    """A mutation goes through when its expectation holds, alone or among others, and changes nothing when not."""
    if state != "absent":
        await write(memory, put("ada", 1, expires_at=PAST if state == "expired" else None))
    stored = memory.native.get(memory.codec(USERS).encode_key(ADA))
    if expect == "this":
        expect = b"no such version" if stored is None else memory.codec(USERS).version(stored)
    elif expect == "another":
        expect = b"another version"
    if state == "damaged":
        corrupt(memory, ADA)
    mutations: dict[str, Mutation] = {
        "put": put("ada", 2, expect),
        "delete": Delete(USERS, ADA, expect),
        "check": Check(USERS, ADA, expect),
    }
    mutation = mutations[kind]
    before = memory.native.get(memory.codec(USERS).encode_key(ADA))

    if state in fine:
        outcome = (await write(memory, mutation, *([put("bob")] if companion else [])))[0]
        assert outcome.status is Status.WRITTEN
        # A lone put that minds nothing does not look at what is there.
        blind = kind == "put" and expect is ANYTHING and not companion
        assert outcome.existed is (None if blind else state in ("live", "damaged"))
        if kind == "put":
            assert outcome.version == await version(memory, "ada")
    else:
        with pytest.raises(Conflict) as caught:
            await write(memory, mutation, *([put("bob")] if companion else []))
        assert caught.value.keys == (("users", ADA),)
        assert isinstance(caught.value, AlreadyExists) is (kind == "put" and expect is ABSENT)
        assert before == memory.native.get(memory.codec(USERS).encode_key(ADA))
        assert await age(memory, "bob") is None


async def test_an_atomic_write_names_all_that_failed(memory: MemoryDriver) -> None:
    """One failed expectation keeps everything out, and each failure is named."""
    await write(memory, put("ada", 1), put("bob", 1))

    with pytest.raises(Conflict) as caught:
        await write(memory, put("new", 2), put("ada", 2, ABSENT), put("bob", 2, b"stale"))

    assert {("users", ("red", "ada")), ("users", ("red", "bob"))} == set(caught.value.keys)
    assert type(caught.value) is Conflict
    assert [await age(memory, name) for name in ("ada", "bob", "new")] == [1, 1, None]


async def test_taken_keys_are_told_apart(memory: MemoryDriver) -> None:
    """When all that failed was meant to be free, the error says so."""
    await write(memory, put("ada"), put("bob"))

    with pytest.raises(AlreadyExists):
        await write(memory, put("ada", 2, ABSENT), put("bob", 2, ABSENT), put("new"))


async def test_a_batch_has_an_outcome_for_each(memory: MemoryDriver) -> None:
    """Independent writes fail one by one."""
    await write(memory, put("ada", 1))

    outcomes = await write(memory, put("ada", 2, ABSENT), put("bob", 2), Delete(USERS, ("red", "nobody")), atomic=False)

    assert [outcome.status for outcome in outcomes] == [Status.CONFLICT, Status.WRITTEN, Status.WRITTEN]
    assert [outcome.existed for outcome in outcomes] == [None, None, False]
    assert isinstance(outcomes[0].error, AlreadyExists)
    assert [await age(memory, name) for name in ("ada", "bob")] == [1, 2]


async def test_versions_never_repeat(memory: MemoryDriver) -> None:
    """A version from before a delete and a re-creation does not match afterwards."""
    await write(memory, put("ada", 1))
    old = await version(memory, "ada")
    await write(memory, Delete(USERS, ADA))
    await write(memory, put("ada", 1))

    with pytest.raises(Conflict):
        await write(memory, put("ada", 2, old))


@pytest.mark.parametrize(
    ("change", "culprits"),
    [
        (put("bb"), ["bb"]),
        (put("b", 5), ["b"]),
        (Delete(USERS, ("red", "b")), ["b"]),
        (put("c", expires_at=PAST), ["c"]),
        (put("blue", team="blue"), []),
        (Delete(USERS, ("red", "dead")), []),
        (put("dead", 1), ["dead"]),
    ],
)
async def test_ranges_are_checked(memory: MemoryDriver, change: Mutation, culprits: list[str]) -> None:
    """What enters, leaves or changes in a range that was read is named; what happens elsewhere does not matter."""
    await write(memory, put("a"), put("b"), put("c"), put("dead", expires_at=PAST))
    check = await seen(memory)
    await write(memory, change)

    if not culprits:
        await write(memory, put("z"), check)
    else:
        with pytest.raises(Conflict) as caught:
            await write(memory, put("z"), check)
        assert culprits == [key[-1] for _, key in caught.value.keys]
        assert not isinstance(caught.value, AlreadyExists)
        assert await age(memory, "z") is None


@pytest.mark.parametrize(
    ("slice", "harmless", "harmful"),
    [
        (RED._replace(limit=2), "c", "ab"),
        (RED._replace(limit=2, reverse=True), "ab", "d"),
        (RED._replace(prefix=(), starts="a"), "b", "ab"),
    ],
)
async def test_only_what_was_read_of_a_range_is_checked(
    memory: MemoryDriver, slice: Slice, harmless: str, harmful: str
) -> None:
    """Behind the limit of a range, or outside its bounds, anything may happen."""
    await write(memory, put("a"), put("b"), put("bb"), put("cc"))
    check = await seen(memory, slice)

    await write(memory, put(harmless, 7))
    await write(memory, check)
    await write(memory, put(harmful, 7))

    with pytest.raises(Conflict):
        await write(memory, check)


async def test_a_range_is_checked_as_it_was_before_the_write(memory: MemoryDriver) -> None:
    """A write may change what it checks: it is compared with the state before it."""
    await write(memory, put("a"), put("b"))
    check = await seen(memory)

    await write(memory, put("c"), Delete(USERS, ("red", "a")), check)

    assert await names(memory) == ["b", "c"]


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (TimedOut("not taken in time"), Status.UNSENT),
        (Closed("gone"), Status.UNSENT),
        (OutcomeUnknown("taken, and no answer"), Status.UNKNOWN),
    ],
)
async def test_a_batch_of_several_requests_that_breaks(error: KvModelError, ended: Status) -> None:
    """The first requests are written and said to be, the one under way is what its error says, the rest is unsent."""

    class Breaking(MemoryDriver):
        left = 1

        async def change(self, change: Change[T], *, size: int, until: float) -> T:
            self.left -= 1
            if self.left < 0:
                raise error
            return await super().change(change, size=size, until=until)

    driver = Breaking(max_batch=2)
    await driver.open()

    outcomes = await write(driver, *(put(name) for name in "abcde"), atomic=False)

    assert [outcome.status for outcome in outcomes] == [Status.WRITTEN] * 2 + [ended] * 2 + [Status.UNSENT]
    assert [outcome.error for outcome in outcomes] == [None] * 2 + [error] * 3
    assert await names(driver) == ["a", "b"]
    with pytest.raises(type(error)):  # Of a write whose first request fails there is nothing to tell.
        await write(driver, *(put(name) for name in "xyz"), atomic=False)


# --- refusals before anything happens ---------------------------------------------------------------------------------


async def test_too_large_comes_before_anything() -> None:
    """One record over the limit keeps a whole call out, batch or not, and is named."""
    driver = MemoryDriver(max_value_bytes=100)
    await driver.open()

    for atomic in (True, False):
        with pytest.raises(TooLarge) as caught:
            await write(driver, put("ada"), put("bob", note="x" * 200), atomic=atomic)
        assert (caught.value.table, caught.value.key) == ("users", ("red", "bob"))
    assert await age(driver, "ada") is None


async def test_a_key_over_the_limit_comes_before_anything() -> None:
    """An over-long key is refused, and what stood before it in the same call is not written."""
    driver = MemoryDriver(max_key_bytes=40)
    await driver.open()

    with pytest.raises(ValidationError) as caught:
        await write(driver, put("ada"), put("b" * 50), atomic=False)

    assert caught.value.key == ("red", "b" * 50)
    assert await age(driver, "ada") is None


# --- purge ------------------------------------------------------------------------------------------------------------


async def test_purge_removes_what_has_expired(memory: MemoryDriver) -> None:
    """Dead records go, live ones and damaged ones stay, step by step."""
    await write(memory, *(put(f"{i:02}", expires_at=PAST if i % 2 else FUTURE) for i in range(20)), atomic=False)
    corrupt(memory, ("red", "00"))
    total, after = 0, None
    for _ in range(10):
        step = await memory.purge(USERS, limit=3, after=after, now=NOW, until=until())
        assert step.removed <= 3
        total, after = total + step.removed, step.resume
        if after is None:
            break

    assert (total, after) == (10, None)
    memory.native.delete(memory.codec(USERS).encode_key(("red", "00")))
    assert [f"{i:02}" for i in range(2, 20, 2)] == await names(memory)


async def test_purge_removes_only_what_it_saw() -> None:
    """A record that came to life again between look and removal is not touched."""

    class Racing(MemoryDriver):
        async def change(self, change: Change[T], *, size: int, until: float) -> T:
            if armed:
                self.native.put(*revived)
            return await super().change(change, size=size, until=until)

    armed = False
    driver = Racing()
    await driver.open()
    codec = driver.codec(USERS)
    fresh = put("ada", 2)
    revived = codec.encode_key(ADA), codec.dump(fresh.values, fresh.stamp, None)
    await write(driver, put("ada", 1, expires_at=PAST), put("bob", 1, expires_at=PAST))

    armed = True
    step = await driver.purge(USERS, limit=10, after=None, now=NOW, until=until())

    assert step == (1, None)
    assert await age(driver, "ada") == 2


# --- marker and catalogue ---------------------------------------------------------------------------------------------


@pytest.fixture
async def second(memory: MemoryDriver) -> Callable[[], MemoryDriver]:
    """Answers further connections to the store in memory."""

    def connect() -> MemoryDriver:
        driver = MemoryDriver()
        driver._store = memory.native
        return driver

    return connect


async def test_a_table_that_was_declared_otherwise_is_refused(
    memory: MemoryDriver, second: Callable[[], MemoryDriver]
) -> None:
    """Another key type under the same name would be invisible data: it is refused when prepared and when written."""
    await write(memory, put("ada"))
    changed = make_table(key="bytes")

    with pytest.raises(SchemaError):
        await second().prepare(changed, now=NOW, until=until())
    with pytest.raises(SchemaError):
        await write(second(), put("x")._replace(table=changed, key=("red", b"x")))
    await second().prepare(make_table(), now=NOW, until=until())


async def test_a_newer_schema_number_is_recorded(memory: MemoryDriver, second: Callable[[], MemoryDriver]) -> None:
    """The first write of a newer version of a model says so in the store, and the older one is refused from then on."""
    await write(memory, put("ada"))
    newer = attrs.evolve(USERS, schema_number=2)

    await second().prepare(newer, now=NOW, until=until())
    await second().prepare(USERS, now=NOW, until=until())
    await write(second(), put("bob")._replace(table=newer))

    with pytest.raises(SchemaError):
        await second().prepare(USERS, now=NOW, until=until())


async def test_nothing_is_written_before_the_first_write(memory: MemoryDriver) -> None:
    """Preparing and reading leave an empty store empty; so does a write that is refused."""
    await memory.prepare(USERS, now=NOW, until=until())
    await find(memory, "ada")
    with pytest.raises(Conflict):
        await write(memory, put("ada", 1, PRESENT), put("bob"))

    assert len(memory.native) == 0


async def test_the_store_is_marked_by_the_first_write(memory: MemoryDriver) -> None:
    """A store holds a marker, one row for each table, and the records; nothing else."""
    await write(memory, put("ada"))
    await write(memory, put("bob"))
    assert len(memory.native) == 4

    await write(memory, put("cyd", table=make_table("others")))
    assert len(memory.native) == 6


async def test_foreign_data_is_left_alone(memory: MemoryDriver) -> None:
    """A store that others filled takes no records of ours, and the message says what to do."""
    memory.native.put(b"theirs", b"1")

    with pytest.raises(SchemaError, match="another path"):
        await memory.prepare(USERS, now=NOW, until=until())
    with pytest.raises(SchemaError, match="plain"):
        await write(memory, put("ada"))
    assert len(memory.native) == 1


async def test_plain_tables_need_no_marker(memory: MemoryDriver) -> None:
    """A table with layout="plain" works beside foreign data, and leaves no trace but its records."""
    memory.native.put(b"theirs", b"1")
    table = make_table(layout="plain")

    await memory.prepare(table, now=NOW, until=until())
    await write(memory, put("ada", 1, table=table))

    assert await age(memory, "ada", table=table) == 1
    assert len(memory.native) == 2
    assert await memory.purge(table, limit=1, after=None, now=NOW, until=until()) == (0, None)


async def test_a_limited_count_looks_at_no_more_than_it_needs(memory: MemoryDriver) -> None:
    """Counting up to two of a hundred records touches two."""
    await write(memory, *(put(f"{i:03}") for i in range(100)))

    meter = Meter()
    token = meter_variable.set(meter)
    assert await memory.count(USERS, RED._replace(limit=2), now=NOW, until=until()) == 2
    meter_variable.reset(token)

    assert meter.keys == 2
