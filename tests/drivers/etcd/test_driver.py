"""What the driver makes of etcd: requests, limits, leases, range checks, lost answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Check,
    CheckRange,
    Delete,
    Edge,
    Expectation,
    Key,
    Mutation,
    Row,
    Slice,
    Status,
    Version,
)
from kvmodel.drivers.etcd import TO_THE_END, EtcdClient, EtcdDriver, prefix_end
from kvmodel.drivers.etcd import messages as m
from kvmodel.drivers.etcd.calls import Calls
from kvmodel.drivers.etcd.commands import TXN
from kvmodel.drivers.etcd.layout import make_version, read_version
from kvmodel.drivers.etcd.messages import KeyValue
from kvmodel.drivers.etcd.wire import Message
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.etcd import EtcdCluster
from kvmodel.testing.proxy import Proxy, Way
from tests.drivers.rows import NOW, RED, USERS, age, condition, keys, names, pages, put, until, version, write

LATER = NOW + 3600_000_000


async def rows(driver: EtcdDriver, slice: Slice = RED) -> tuple[tuple[Key, Version], ...]:
    """What a unit of work remembers of a slice."""
    return tuple((row.key, row.version) for page in await pages(driver, slice) for row in page)


@contextmanager
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Message]]]:
    """What is sent in this block."""
    sent: list[tuple[str, Message]] = []
    original = Calls.call
    kinds: dict[str, type[Message]] = {"Range": m.RangeRequest, "Txn": m.TxnRequest, "LeaseGrant": m.LeaseGrantRequest}

    async def spy(self: Calls, method: object, request: object, **options: object) -> object:
        name = method.path.rpartition("/")[2]  # type: ignore[attr-defined]
        sent.append((name, kinds[name].decode(request) if isinstance(request, bytes) else request))  # type: ignore[arg-type]
        return await original(self, method, request, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Calls, "call", spy)
        yield sent


# --- requests ---------------------------------------------------------------------------------------------------------


async def test_costs(driver: EtcdDriver) -> None:
    """One round trip each, but for the first deadline, which takes a lease."""
    await write(driver, put("a", 1), put("b", 1))
    seen = await version(driver, "a")
    with kv.budget(round_trips=1):
        await write(driver, put("a", 2, seen), put("c", 1, ABSENT))
    with kv.budget(round_trips=1), pytest.raises(kv.Conflict):
        await write(driver, put("a", 3, seen))
    with kv.budget(round_trips=1):
        await write(driver, Delete(USERS, ("red", "c")))
    with kv.budget(round_trips=2):
        await write(driver, put("d", 1, expires_at=LATER))
    with kv.budget(round_trips=1):
        await write(driver, put("e", 1, expires_at=LATER + 1))
    with kv.budget(round_trips=1):
        await write(driver, *(put(f"f{number}") for number in range(100)), atomic=False)
    with kv.budget(round_trips=1):
        assert len((await driver.scan(USERS, RED._replace(limit=2), now=NOW, until=until())).rows) == 2


async def test_no_sort_order_is_ever_sent(driver: EtcdDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Least of all together with a limit; the limit of a page is one."""
    await write(driver, *(put(f"{number:04}") for number in range(120)), atomic=False)
    with requests(monkeypatch) as sent:
        assert await names(driver, RED._replace(limit=3)) == ["0000", "0001", "0002"]
        assert await names(driver, RED._replace(limit=3, reverse=True)) == ["0119", "0118", "0117"]
        backwards = await names(driver, RED._replace(reverse=True))
        await driver.count(USERS, RED, now=NOW, until=until())
    assert backwards == [f"{number:04}" for number in reversed(range(120))]
    ranges = [request for _, request in sent if isinstance(request, m.RangeRequest)]
    ranges += [op.request_range for _, r in sent if isinstance(r, m.TxnRequest) for op in r.success if op.request_range]
    assert ranges
    assert {request.sort_order for request in ranges} == {0}
    assert all(request.limit for request in ranges if request.range_end)
    assert not any(request.serializable for request in ranges)


async def test_backwards_is_costly(driver: EtcdDriver) -> None:
    """It has to be allowed, and reads all keys."""

    class User(kv.Model, table="users"):
        team: str = kv.partition_key()
        name: str = kv.clustering_key()
        age: int = 0

    async with kv.connect(driver.address):
        await User.objects.save_many(User("red", f"{number:03}") for number in range(50))
        with pytest.raises(kv.Unsupported, match="allow_costly"), kv.budget(round_trips=0):
            await User.objects.range("red", reverse=True, limit=1)
        with pytest.raises(kv.BudgetExceeded), kv.budget(keys=40):
            await User.objects.range("red", reverse=True, limit=1, allow_costly=True)
        plan = User.objects.range("red", reverse=True, limit=1, allow_costly=True).explain()
        assert "all keys" in str(plan)
        assert plan.keys is None
        (last,) = await User.objects.range("red", reverse=True, limit=1, allow_costly=True)
        assert last.name == "049"


async def test_large_records_make_small_pages(driver: EtcdDriver, server: EtcdCluster) -> None:
    """No answer is longer than it may be, whatever the sizes; and none is asked for twice afterwards."""
    small = EtcdDriver(server.nodes[0].address, max_reply_bytes=1 << 20)
    await small.open()
    try:
        text = "x" * 400_000
        for number in range(8):
            await write(driver, put(str(number), number, note=text))
        found = await pages(small)
        assert [row.values["age"] for page in found for row in page] == list(range(8))
        read = await small.read(USERS, [("red", str(number)) for number in range(8)], now=NOW, until=until())
        assert [row.values["age"] for row in read if isinstance(row, Row)] == list(range(8))
        assert await small.count(USERS, RED, now=NOW, until=until()) == 8
    finally:
        await small.close()


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_limits_are_told_and_kept(driver: EtcdDriver) -> None:
    """What is over one of them is refused before anything is sent; at it, it works."""
    limits = driver.capabilities
    assert (limits.max_atomic_changes, limits.max_atomic_checks, limits.max_request_bytes) == (128, 128, 3 << 19)
    await write(driver, put("x"))
    full: list[Mutation] = [put(str(number), 0, ABSENT) for number in range(128)]
    await write(driver, *full)
    over: list[tuple[type[kv.KvModelError], list[Mutation]]] = [
        (kv.TooLarge, [put(f"a{number}") for number in range(129)]),
        (kv.TooLarge, [Check(USERS, ("red", str(number)), PRESENT) for number in range(129)]),
        (kv.TooLarge, [put("a", note="x" * (3 << 19))]),
        (kv.TooLarge, [put(f"a{number}", note="x" * (1 << 19)) for number in range(3)]),
        (kv.ValidationError, [put("k" * (1 << 16))]),
    ]
    for error, mutations in over:
        with pytest.raises(error) as caught, kv.budget(round_trips=0):
            await write(driver, *mutations)
        assert type(caught.value) is error
    assert limits.max_value_bytes is not None
    await write(driver, put("k" * 65_000, note="x" * (limits.max_value_bytes - 100)))


async def test_a_first_write_as_long_as_may_be(client: EtcdClient, server: EtcdCluster) -> None:
    """Where there is no room for the table's description, that goes first."""
    driver = EtcdDriver(server.nodes[0].address)
    await driver.open()
    try:
        await write(driver, *(put(str(number), 0, ABSENT) for number in range(128)))
        assert len(await keys(driver)) == 128
        other = attrs.evolve(USERS, name="other")
        await write(driver, *(put(str(number), 0, ABSENT, table=other) for number in range(127)))
        assert len(await keys(driver, table=other)) == 127
    finally:
        await driver.close()


async def test_a_server_that_is_told_otherwise(client: EtcdClient) -> None:
    """Options say what it takes."""
    with EtcdCluster(options=("--max-txn-ops", "16", "--max-request-bytes", str(3 << 20))) as small:
        async with kv.connect(f"{small.url}?max_txn_ops=16&max_request_bytes=3MiB") as db:
            driver = db._connection.driver
            assert isinstance(driver, EtcdDriver)
            assert db.capabilities.max_atomic_changes == 16
            outcomes = await write(driver, *(put(str(number)) for number in range(100)), atomic=False)
            assert {outcome.status for outcome in outcomes} == {Status.WRITTEN}
            await write(driver, put("large", note="x" * (2 << 20)))
            with pytest.raises(kv.TooLarge):
                await write(driver, *(put(str(number)) for number in range(17)))


async def test_batches_are_cut_to_fit(driver: EtcdDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, by size and where a key comes again; each write has its own outcome, in order."""
    await write(driver, put("taken", 1), put("gone", 1))
    gone = await version(driver, "gone")
    await write(driver, Delete(USERS, ("red", "gone"), gone))
    mutations: list[Mutation] = [put(f"{number:03}", number) for number in range(200)]
    mutations += [put("taken", 2, ABSENT), put("gone", 2, gone), put("000", 7), Delete(USERS, ("red", "001"))]
    mutations += [put("new", 3, ABSENT), put("taken", 4, PRESENT), Check(USERS, ("red", "taken"), PRESENT)]
    mutations += [put(f"large{number}", note="x" * (1 << 19)) for number in range(5)]

    with requests(monkeypatch) as sent:
        outcomes = await write(driver, *mutations, atomic=False)

    conflicts = [number for number, outcome in enumerate(outcomes) if outcome.status is Status.CONFLICT]
    assert conflicts == [200, 201]
    assert {outcome.status for outcome in outcomes} == {Status.CONFLICT, Status.WRITTEN}
    assert isinstance(outcomes[200].error, kv.AlreadyExists)
    assert (outcomes[203].existed, outcomes[204].existed, outcomes[205].existed) == (True, False, True)
    assert [await age(driver, name) for name in ("000", "001", "taken", "new", "large4")] == [7, None, 4, 3, 0]
    for _, request in sent:
        assert len(request.encode()) < 3 << 19
        assert not isinstance(request, m.TxnRequest) or len(request.success) <= 128
    assert len(sent) <= 12


async def test_range_checks_that_are_too_long_are_refused(driver: EtcdDriver) -> None:
    """Each row takes a comparison: past 127, before anything is sent."""
    await write(driver, *(put(f"{number:03}") for number in range(130)), atomic=False)
    seen = await rows(driver)

    with pytest.raises(kv.TooLarge, match="unchecked"), kv.budget(round_trips=0):
        await write(driver, put("x"), CheckRange(USERS, RED, seen))
    limited = RED._replace(limit=127)
    await write(driver, put("x"), CheckRange(USERS, limited, seen[:127]))
    with pytest.raises(kv.Conflict):
        await write(driver, put("000", 9))
        await write(driver, put("x"), CheckRange(USERS, limited, seen[:127]))


# --- range checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 5, 63, 64, 100])
async def test_nothing_slips_through_a_range_check(driver: EtcdDriver, count: int) -> None:
    """Whoever enters, leaves or changes, at the ends and in the middle: few rows take one request, many take two."""
    people = [f"{number:03}5" for number in range(count)]
    await write(driver, *(put(name) for name in [*people, "outside"]), atomic=False)
    slice = RED._replace(prefix=(), starts=None, upper=Edge(("9",), False))
    seen = await rows(driver, slice)
    assert len(seen) == count
    check = CheckRange(USERS, slice, seen)

    with kv.budget(round_trips=1 if count <= 63 else 2):
        await write(driver, put("outside", 1), check)
    places = {0, count // 2, count}
    changes: list[list[Mutation]] = [[put(f"{max(place - 1, 0):03}{9 if place else 1}")] for place in places]
    changes += [[put(people[place], 9)] for place in places if place < count]
    changes += [[Delete(USERS, ("red", people[place]))] for place in places if place < count]
    for change in changes:
        await write(driver, *change)
        with pytest.raises(kv.Conflict) as caught:
            await write(driver, put("outside", 2), check)
        first = change[0]
        assert not isinstance(first, CheckRange)
        assert ("users", first.key) in caught.value.keys
        await write(driver, *(Delete(USERS, key) for key in await keys(driver, slice)), atomic=False)
        await write(driver, *(put(name) for name in people), atomic=False)
        check = CheckRange(USERS, slice, await rows(driver, slice))
    assert await age(driver, "outside") == 1


@pytest.mark.parametrize("limit", [None, 70])
async def test_a_race_between_looking_and_writing(driver: EtcdDriver, limit: int | None) -> None:
    """A long range is read once more before it is checked: who enters behind that look is seen by the store itself."""
    await write(driver, *(put(f"{number:03}") for number in range(70)), atomic=False)
    slice = RED._replace(limit=limit)
    check = CheckRange(USERS, slice, await rows(driver, slice))
    original = driver.reader.heads

    async def race(*arguments: Any) -> Any:
        found = await original(*arguments)
        driver.reader.heads = original  # type: ignore[method-assign]
        await write(driver, put("0355"))
        return found

    driver.reader.heads = race  # type: ignore[assignment, method-assign]
    with pytest.raises(kv.Conflict) as caught:
        await write(driver, put("x", team="blue"), check)
    assert caught.value.keys[0] == ("users", ("red", "0355"))
    assert await age(driver, "x", team="blue") is None


async def test_expired_rows_in_a_checked_range(driver: EtcdDriver) -> None:
    """They are not there: neither their presence nor their removal fails it; that one comes to life does."""
    await write(driver, put("a", 1), put("b", 1, expires_at=NOW), put("c", 1))
    check = CheckRange(USERS, RED, await rows(driver))
    assert len(check.rows) == 2

    await write(driver, put("x", team="blue"), check)
    await driver.purge(USERS, limit=10, after=None, now=NOW, until=until())
    await write(driver, put("x", team="blue"), check)
    await write(driver, put("b", 2))
    with pytest.raises(kv.Conflict):
        await write(driver, put("x", team="blue"), check)


async def test_rows_that_expire_after_they_were_read(driver: EtcdDriver) -> None:
    """A row that was alive and is dead at commit has left the range, without any change in the store."""
    await write(driver, put("a", 1, expires_at=NOW + 10))
    check = CheckRange(USERS, RED, await rows(driver))
    await driver.write([put("x", team="blue"), check], atomic=True, now=NOW + 9, until=until())

    with pytest.raises(kv.Conflict):
        await driver.write([put("x", team="blue"), check], atomic=True, now=NOW + 10, until=until())


async def test_a_race_between_pages(driver: EtcdDriver) -> None:
    """What entered the first page while the second one was read is seen, though later rows are newer than it."""
    await write(driver, put("a"), put("b"), put("y"), put("z"))
    first = await driver.scan(USERS, RED._replace(limit=2), now=NOW, until=until())
    await write(driver, put("aa"))
    await write(driver, put("z", 2))
    second = await driver.scan(USERS, RED._replace(after=("red", "b")), now=NOW, until=until())
    seen = tuple((row.key, row.version) for row in [*first.rows, *second.rows])

    with pytest.raises(kv.Conflict) as caught:
        await write(driver, put("x", team="blue"), CheckRange(USERS, RED, seen))
    assert caught.value.keys == (("users", ("red", "aa")),)


# --- versions and deadlines -------------------------------------------------------------------------------------------


def test_versions() -> None:
    """A revision, and a deadline; nothing else is one."""
    assert read_version(make_version(7, None)) == (7, None)
    assert read_version(make_version(7, 9)) == (7, 9)
    for wrong in (b"", b"x" * 12, 7, "7", b"x" * 24):
        assert read_version(wrong) is None


@pytest.mark.parametrize("wrong", [b"x" * 12, 7, "7", make_version(1 << 40, None)])
async def test_versions_of_another_store(driver: EtcdDriver, wrong: Expectation) -> None:
    """They are nobody's."""
    await write(driver, put("a", 1))
    with pytest.raises(kv.Conflict):
        await write(driver, put("a", 2, wrong))


async def test_an_expired_version_is_refused_without_a_request(driver: EtcdDriver) -> None:
    """It says itself that it is over."""
    await write(driver, put("a", 1, expires_at=NOW + 5))
    seen = await version(driver, "a")
    with pytest.raises(kv.Conflict), kv.budget(round_trips=0):
        await driver.write([put("a", 2, seen)], atomic=True, now=NOW + 5, until=until())


async def test_expectations_about_records_with_deadlines(driver: EtcdDriver) -> None:
    """Absent and present go by the deadline, not by what lies in the store."""
    for alive in (True, False):
        moment = NOW if alive else LATER
        await write(driver, put("a", 1, expires_at=LATER))
        good, bad = (PRESENT, ABSENT) if alive else (ABSENT, PRESENT)
        with pytest.raises(kv.Conflict):
            await driver.write([put("a", 2, bad)], atomic=True, now=moment, until=until())
        (outcome,) = await driver.write([put("a", 2, good)], atomic=False, now=moment, until=until())
        assert (outcome.status, outcome.existed) == (Status.WRITTEN, alive)
        (outcome,) = await driver.write([Delete(USERS, ("red", "a"))], atomic=True, now=moment, until=until())
        assert outcome.existed is True


async def test_leases_are_shared(driver: EtcdDriver, client: EtcdClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records with deadlines near each other go with one; it ends behind the last of them, and not much later."""
    wall = int(time.time() * 1e6)
    with requests(monkeypatch) as sent:
        for number in range(50):
            record = put(str(number), expires_at=wall + 3600_000_000 + number // 2 * 1_000_000)
            await driver.write([record], atomic=True, now=wall, until=until())
        last = [put("day", expires_at=wall + 86_400_000_000), put("never")]
        await driver.write(last, atomic=True, now=wall, until=until())
    assert [name for name, _ in sent].count("LeaseGrant") == 2
    stored = (await client.range("\1", prefix_end("\xff"), keys_only=True)).kvs
    leases = {kv.lease for kv in stored if kv.lease}
    assert len(leases) == 2
    assert sum(kv.lease == 0 for kv in stored) == 1
    lasts = sorted([(await client.lease_time_to_live(lease)).granted_ttl for lease in leases])
    assert 3600 + 24 < lasts[0] < 3600 * 1.2
    assert 86_400 < lasts[1] < 86_400 * 1.2


async def test_leases_go_by_the_clock_of_the_program(driver: EtcdDriver, client: EtcdClient) -> None:
    """One whose clock is behind keeps its records as long as it thinks."""
    await write(driver, put("a", expires_at=NOW + 3600_000_000))
    stored = await client.get(_key(driver, "a"))
    assert stored is not None
    assert 3600 < (await client.lease_time_to_live(stored.lease)).granted_ttl < 3600 * 1.2


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_that_vanishes_while_it_is_read(
    driver: EtcdDriver, client: EtcdClient, monkeypatch: pytest.MonkeyPatch, reverse: bool
) -> None:
    """Its records go with their lease between their keys and their values are read: the pages behind it are read."""
    names = [f"{number:02}" for number in range(10)]
    gone, kept = (names[5:], names[:5]) if reverse else (names[:5], names[5:])
    await write(driver, *(put(name, expires_at=LATER) for name in gone), *(put(name) for name in kept))
    stored = await client.get(_key(driver, gone[0]))
    assert stored is not None
    original = driver.reader.fetch

    async def fetch(keys: Sequence[bytes], end: float, *, keys_only: bool = False) -> list[KeyValue | None]:
        monkeypatch.undo()
        await client.lease_revoke(stored.lease)
        return await original(keys, end, keys_only=keys_only)

    monkeypatch.setattr(driver.reader, "fetch", fetch)
    page = await driver.scan(USERS, RED._replace(limit=3, reverse=reverse), values=reverse, now=NOW, until=until())
    assert [row.key[1] for row in page.rows] == (kept[:1:-1] if reverse else kept[:3])


async def test_a_lease_that_ended_early(driver: EtcdDriver, client: EtcdClient) -> None:
    """Somebody revoked it: its records are gone, and the next write makes another one."""
    await write(driver, put("a", 1, expires_at=LATER))
    for lease in await client.leases():
        await client.lease_revoke(lease)
    assert await age(driver, "a") is None

    await write(driver, put("a", 2, expires_at=LATER), put("b", 2))
    (outcome,) = await write(driver, put("c", 3, ABSENT, expires_at=LATER), atomic=False)
    for lease in await client.leases():
        await client.lease_revoke(lease)
    outcomes = await write(driver, put("d", 3, expires_at=LATER), put("e", 4, ABSENT), atomic=False)
    assert {each.status for each in [outcome, *outcomes]} == {Status.WRITTEN}
    assert [await age(driver, name) for name in "abcde"] == [None, 2, None, 3, 4]


async def test_taking_a_deadline_away_keeps_the_record(driver: EtcdDriver, client: EtcdClient) -> None:
    """It has no lease any more, so that nothing removes it."""
    await write(driver, put("a", 1, expires_at=LATER))
    await write(driver, put("a", 2))
    for lease in await client.leases():
        await client.lease_revoke(lease)
    assert await age(driver, "a") == 2


async def test_the_store_removes_what_has_expired(driver: EtcdDriver, client: EtcdClient, server: EtcdCluster) -> None:
    """When its lease ends, without anybody asking: here, one that ends soon."""
    lease = (await client.lease_grant(1)).id
    driver.leases.find = lambda expires_at, now, end: _answer(lease)  # type: ignore[assignment, method-assign]
    await write(driver, put("a", 1, expires_at=LATER))
    async with client.watch("\1", prefix_end("\xfe")) as changes, asyncio.timeout(30):
        assert (await anext(changes)).type == m.EventType.DELETE
    assert await keys(driver) == []


async def _answer(lease: int) -> int:
    return lease


async def test_existence_moves_no_values(driver: EtcdDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of those that may have expired the value is read: it holds the deadline."""
    await write(driver, put("a", note="x" * 1000), put("b", expires_at=LATER), put("c", expires_at=NOW))
    with requests(monkeypatch) as sent:
        found = await driver.read(USERS, [("red", name) for name in "abcd"], values=False, now=NOW, until=until())
    assert [isinstance(row, Row) for row in found] == [True, True, False, False]
    assert [request for _, request in sent][1:] == [
        m.TxnRequest((), [m.RequestOp(request_range=m.RangeRequest(_key(driver, name))) for name in "bc"])
    ]


def _key(driver: EtcdDriver, name: str) -> bytes:
    return driver.layout_of(USERS).codec.encode_key(("red", name))


async def test_purging(driver: EtcdDriver) -> None:
    """What has expired goes before its lease ends, page by page, and nothing else."""
    await write(driver, *(put(f"{number:03}", expires_at=NOW + number) for number in range(150)), atomic=False)
    await write(driver, put("lasting"))
    removed, after = 0, None
    while True:
        step = await driver.purge(USERS, limit=40, after=after, now=NOW + 99, until=until())
        removed, after = removed + step.removed, step.resume
        if after is None:
            break
    assert removed == 100
    assert await names(driver) == [f"{number:03}" for number in range(100, 150)] + ["lasting"]


# --- what others have written -----------------------------------------------------------------------------------------


async def test_keys_that_nobody_described(client: EtcdClient, server: EtcdCluster) -> None:
    """In a table's place they are refused; elsewhere they do not matter."""
    await client.put("some other program's", "data")
    driver = EtcdDriver(server.nodes[0].address)
    await driver.open()
    try:
        await client.put(_key(driver, "a"), "data")
        with pytest.raises(kv.SchemaError, match="does not say what they are"):
            await driver.prepare(USERS, now=NOW, until=until())
        await client.delete_range(_key(driver, "a"))
        await driver.prepare(USERS, now=NOW, until=until())
        await write(driver, put("a"))
    finally:
        await driver.close()
    assert await client.get("some other program's") is not None


async def test_two_programs_that_begin_at_once(client: EtcdClient, server: EtcdCluster) -> None:
    """Only one of them describes the table; both write."""
    drivers = [EtcdDriver(server.nodes[0].address) for _ in range(4)]
    for driver in drivers:
        await driver.open()
        await driver.prepare(USERS, now=NOW, until=until())
    try:
        await asyncio.gather(
            *(write(driver, put(f"{number}"), atomic=number % 2 == 0) for number, driver in enumerate(drivers))
        )
        assert len(await keys(drivers[0])) == 4
        described = (await client.range("\0", "\1")).kvs
        assert [kv.version for kv in described] == [1, 1]
        await client.delete_range("\0", TO_THE_END)
        tables = [attrs.evolve(USERS, name=f"table_{number}") for number in range(4)]
        fresh = [EtcdDriver(server.nodes[0].address) for _ in range(4)]
        for driver, table in zip(fresh, tables, strict=True):
            await driver.open()
            await driver.prepare(table, now=NOW, until=until())
        drivers += fresh
        await asyncio.gather(*(write(each, put("a", table=table)) for each, table in zip(fresh, tables, strict=True)))
        described = (await client.range("\0", "\1")).kvs
        assert [kv.version for kv in described] == [1] * 5
    finally:
        for driver in drivers:
            await driver.close()


# --- lost answers -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answers_are_lost(proxy: Proxy, client: EtcdClient) -> AsyncIterator[None]:
    """What is written in this block is done, and its answer never arrives."""
    before = await _revision(client)

    async def cut() -> None:
        async with asyncio.timeout(10):
            while await _revision(client) == before:
                pass
        proxy.cut()
        proxy.resume()

    proxy.stall(Way.TO_CLIENT)
    cutting = asyncio.create_task(cut())
    yield
    await cutting


async def _revision(client: EtcdClient) -> int:
    header = (await client.range("a", count_only=True)).header
    assert header is not None
    return header.revision


@pytest.mark.parametrize("expect", [ANYTHING, ABSENT, None], ids=["anything", "absent", "version"])
async def test_a_write_that_was_done_is_found(
    proxied: EtcdDriver, proxy: Proxy, client: EtcdClient, expect: Expectation | None
) -> None:
    """By its stamp: its caller gets the version."""
    await write(proxied, put("x"))
    if expect is None:
        await write(proxied, put("a", 1), put("b", 1))
        expect = await version(proxied, "a")
    async with answers_are_lost(proxy, client):
        outcome, _ = await write(proxied, put("a", 2, expect), put("b", 2))

    assert outcome.status is Status.WRITTEN
    assert outcome.version == await version(proxied, "a")
    assert await age(proxied, "a") == await age(proxied, "b") == 2


async def test_a_guarded_write_that_was_not_done_is_sent_again(proxied: EtcdDriver, proxy: Proxy) -> None:
    """It relies on a revision of what it changes, which is still there: it can be done only once."""
    await write(proxied, put("a", 1))
    seen = await version(proxied, "a")
    proxy.cut_after(1, Way.TO_SERVER)

    (outcome,) = await write(proxied, put("a", 2, seen))

    assert outcome.version == await version(proxied, "a")
    assert await age(proxied, "a") == 2


async def test_a_second_try_that_fails_leaves_the_first_one_open(
    proxied: EtcdDriver, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request may still be done: that the second one was never sent does not mean that nothing was."""
    await write(proxied, put("a", 1))
    seen = await version(proxied, "a")
    original = proxied.reader.fetch

    async def fetch(keys: Sequence[bytes], end: float, *, keys_only: bool = False) -> list[KeyValue | None]:
        found = await original(keys, end, keys_only=keys_only)
        monkeypatch.setattr(proxied.calls, "call", unreachable)
        return found

    async def unreachable(*_: object, **__: object) -> None:
        raise kv.Unavailable("gone", store=proxied.address)

    monkeypatch.setattr(proxied.reader, "fetch", fetch)
    proxy.cut_after(1, Way.TO_SERVER)
    with pytest.raises(kv.OutcomeUnknown):
        await write(proxied, put("a", 2, seen))


async def test_cancelled_while_it_is_looked_up(
    proxied: EtcdDriver, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write whose answer was lost stays unknown."""
    await write(proxied, put("a", 1))
    looking = asyncio.Event()

    async def fetch(*_: object, **__: object) -> list[KeyValue | None]:
        looking.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(proxied.reader, "fetch", fetch)
    proxy.cut_after(1, Way.TO_SERVER)
    task = asyncio.create_task(write(proxied, put("a", 2)))
    await looking.wait()
    task.cancel()
    with pytest.raises(kv.OutcomeUnknown):
        await task


async def test_a_batch_that_breaks_off_tells_what_was_written(
    proxied: EtcdDriver, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged before stays written; only the rest was not sent."""
    await write(proxied, put("dead", 1, expires_at=NOW + 1))

    async def fetch(*_: object, **__: object) -> list[KeyValue | None]:
        raise kv.Unavailable("gone", store=proxied.address)

    monkeypatch.setattr(proxied.reader, "fetch", fetch)
    written, left = await proxied.write([put("a", 1), put("dead", 2, ABSENT)], atomic=False, now=NOW + 2, until=until())
    assert (written.status, left.status) == (Status.WRITTEN, Status.UNSENT)
    assert isinstance(left.error, kv.Unavailable)


async def test_a_guarded_deletion(proxied: EtcdDriver, proxy: Proxy, client: EtcdClient) -> None:
    """Not done, it is sent again; done, it has left no stamp to be found by."""
    await write(proxied, put("a", 1))
    proxy.cut_after(1, Way.TO_SERVER)
    await write(proxied, Delete(USERS, ("red", "a"), await version(proxied, "a")))
    assert await age(proxied, "a") is None
    await write(proxied, put("a", 1))
    seen = await version(proxied, "a")
    with pytest.raises(kv.OutcomeUnknown):
        async with answers_are_lost(proxy, client):
            await write(proxied, Delete(USERS, ("red", "a"), seen))
    proxy.resume()


@pytest.mark.parametrize("expect", [ANYTHING, ABSENT])
async def test_an_unguarded_write_that_was_not_found_is_unknown(
    proxied: EtcdDriver, proxy: Proxy, expect: Expectation
) -> None:
    """It might be done later, over what somebody else writes meanwhile: it is not sent again."""
    await write(proxied, put("x"))
    proxy.cut_after(1, Way.TO_SERVER)

    with pytest.raises(kv.OutcomeUnknown):
        await write(proxied, put("a", 2, expect))
    assert await age(proxied, "a") is None


async def test_lost_batches(proxied: EtcdDriver, proxy: Proxy, client: EtcdClient) -> None:
    """Those parts that are found were written; where none is, nobody knows."""
    await write(proxied, put("x"), put("taken"))
    async with answers_are_lost(proxy, client):
        outcomes = await write(proxied, put("a", 1), put("taken", 1, ABSENT), put("b", 1, ABSENT), atomic=False)
    assert [outcome.status for outcome in outcomes] == [Status.WRITTEN, Status.UNKNOWN, Status.WRITTEN]
    assert outcomes[0].version == await version(proxied, "a")

    proxy.cut_after(1, Way.TO_SERVER)
    with pytest.raises(kv.OutcomeUnknown):
        await write(proxied, put("c"), put("d"), atomic=False)


async def test_a_cancelled_write_is_unknown(proxied: EtcdDriver, proxy: Proxy, client: EtcdClient) -> None:
    """Once it was sent."""
    await write(proxied, put("x"))
    proxy.stall(Way.TO_CLIENT)
    task = asyncio.create_task(write(proxied, put("a", 1)))
    passed = proxy.passed[Way.TO_SERVER]
    await condition(lambda: proxy.passed[Way.TO_SERVER] > passed)
    task.cancel()

    with pytest.raises(kv.OutcomeUnknown):
        await task


async def test_looking_up_keeps_the_budget(proxied: EtcdDriver, proxy: Proxy, client: EtcdClient) -> None:
    """A budget that forbids to look up leaves an unknown outcome, not the word that nothing was done."""
    await write(proxied, put("x"))
    async with answers_are_lost(proxy, client):
        with pytest.raises(kv.OutcomeUnknown), kv.budget(round_trips=1):
            await write(proxied, put("a"))


async def test_a_server_that_hangs(proxied: EtcdDriver, proxy: Proxy) -> None:
    """Every operation ends in time; when the server goes on, so does the program."""
    await write(proxied, put("a", 1))
    proxy.stall()
    end = time.monotonic() + 0.5
    results = await asyncio.gather(
        proxied.read(USERS, [("red", "a")], now=NOW, until=end),
        proxied.scan(USERS, RED, now=NOW, until=end),
        proxied.count(USERS, RED, now=NOW, until=end),
        proxied.write([put("b")], atomic=True, now=NOW, until=end),
        proxied.write([put("c", expires_at=LATER)], atomic=True, now=NOW, until=end),
        proxied.purge(USERS, limit=5, after=None, now=NOW, until=end),
        proxied.watch(USERS, RED, None, clock=lambda: NOW, until=end),
        return_exceptions=True,
    )
    assert time.monotonic() < end + 1
    assert [type(result) for result in results] == [
        *(kv.TimedOut, kv.TimedOut, kv.TimedOut, kv.OutcomeUnknown, kv.TimedOut, kv.TimedOut, kv.TimedOut)
    ]
    proxy.resume()
    assert await age(proxied, "a") == 1


# --- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "etcd://h/path",
        "etcd://h#part",
        "etcd://:secret@h",
        "etcd://h?max_txn_ops=2",
        "etcd://h?max_request_bytes=1KiB",
        "etcd://h?nonsense=1",
        "etcd://",
    ],
)
async def test_urls_that_make_no_sense(url: str) -> None:
    """They are refused, before anything is sent, and show no password."""
    with pytest.raises(kv.ValidationError) as caught:
        await kv.connect(url)
    assert "secret" not in str(caught.value)


async def test_the_claims(driver: EtcdDriver) -> None:
    """What the documentation prints is what a connection says."""
    assert driver.capabilities == type(driver).capabilities
    assert driver.native is driver._client
    assert TXN.writes


async def test_deadlines_of_a_program(driver: EtcdDriver) -> None:
    """Through the mapper, with a clock that stands still: leases go by the real time, what is seen by the clock."""

    class Session(kv.Model, table="sessions", expires_in=timedelta(minutes=5)):
        name: str = kv.partition_key()

    clock = VirtualClock()
    async with kv.connect(driver.address, clock=clock):
        await Session.objects.save(Session("a"))
        clock.advance(299)
        assert await Session.objects.exists("a")
        clock.advance(1)
        assert await Session.objects.find("a") is None
