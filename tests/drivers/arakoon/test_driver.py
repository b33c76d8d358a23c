"""The driver: what it sends, what it relies on, and what it makes of what is there already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.arakoon import ArakoonClient, ArakoonDriver, steps
from kvmodel.drivers.arakoon import protocol as p
from kvmodel.drivers.arakoon.layout import HEADS
from kvmodel.drivers.arakoon.operations import cover
from kvmodel.drivers.arakoon.wire import Limits, Reader
from kvmodel.drivers.base import (
    ABSENT,
    ANYTHING,
    PRESENT,
    Absent,
    Check,
    CheckRange,
    Delete,
    Edge,
    Row,
    Slice,
    Status,
    Version,
)
from kvmodel.drivers.formats.catalogue import MARKER_KEY, encode_marker
from kvmodel.testing.arakoon import Answer, LocalCluster, Mishap, Node
from tests.drivers.arakoon.conftest import driver_of
from tests.drivers.rows import (
    FUTURE,
    NOW,
    PAST,
    RED,
    USERS,
    age,
    find,
    keys,
    make_table,
    names,
    pages,
    put,
    until,
    version,
    write,
)


class Sent:
    """The sequences that a node was sent."""

    def __init__(self, node: Node) -> None:
        self.sequences: list[tuple[steps.Step, ...]] = []
        original = node.answer

        def answer(request: Any) -> Any:
            if request.command is p.SEQUENCE:
                self.sequences.append(steps.decode_sequence(Reader(Limits(), request.values[0])).steps)
            return original(request)

        node.answer = answer  # type: ignore[method-assign]

    def kinds(self) -> list[str]:
        """The kinds of steps of the last one."""
        return [type(step).__name__ for step in self.sequences[-1]]


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_a_write_is_one_sequence(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Its assertions first, then its changes, whatever order the mutations have; one round trip."""
    await write(driver, put("a"), put("b"), put("d"))
    seen = await version(driver, "b")
    sent = Sent(cluster.nodes[0])
    check = CheckRange(USERS, Slice(("blue",)), ())

    with kv.budget(round_trips=1):
        await write(
            driver,
            put("c", expect=ABSENT),
            Delete(USERS, ("red", "a")),
            put("b", expect=seen),
            Check(USERS, ("red", "e"), ABSENT),
            check,
        )

    kinds = sent.kinds()
    asserts = [kind for kind in kinds if kind.startswith("Assert")]
    assert sorted(asserts) == ["Assert", "Assert", "Assert", "AssertRange"]
    assert kinds[: len(asserts)] == asserts
    assert set(kinds[len(asserts) :]) == {"Set", "Replace"}
    assert await names(driver) == ["b", "c", "d"]


async def test_a_hundred_objects_are_one_round_trip(driver: ArakoonDriver) -> None:
    """Whatever the size of a write, all of it relied upon."""
    await write(driver, *(put(f"{number}") for number in range(100)))
    rows = (await pages(driver))[0]
    again = [put(str(row.key[1]), 1, row.version) for row in rows]

    with kv.budget(round_trips=1, keys=100):
        await write(driver, *again)

    assert [row.values["age"] for row in (await pages(driver))[0]] == [1] * 100


async def test_steps_that_are_not_undone_are_never_sent(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Nor those that may stop the server."""
    sent = Sent(cluster.nodes[0])
    await write(driver, put("a"))
    await write(driver, put("a", expect=await version(driver, "a")), Delete(USERS, ("red", "b")))
    await write(driver, Delete(USERS, ("red", "a")))
    await write(driver, put("x", expires_at=FUTURE), atomic=False)
    await driver.purge(USERS, limit=10, after=None, now=FUTURE + 1, until=until())

    allowed = {"Assert", "AssertRange", "Set", "Replace"}
    assert {type(step).__name__ for sequence in sent.sequences for step in sequence} <= allowed
    assert len(sent.sequences) == 5


async def test_an_update_relies_on_few_bytes(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """However large the record: the head is asserted, not the content, and it takes no more than a few bytes."""
    await write(driver, put("a", note="x" * 1_000_000))
    seen = await version(driver, "a")
    sent = Sent(cluster.nodes[0])

    await write(driver, put("a", expect=seen))

    (assertion,) = (step for step in sent.sequences[-1] if isinstance(step, steps.Assert))
    assert assertion.value == seen
    assert isinstance(seen, bytes)
    assert len(seen) < 30


async def test_records_and_heads_go_together(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Each record has its head, and none is left behind: after puts, deletes and purges."""
    await write(driver, put("a"), put("b", expires_at=FUTURE), put("c", expires_at=FUTURE), put("d"))
    await write(driver, put("a", expires_at=FUTURE, expect=await version(driver, "a")), atomic=False)
    await write(driver, Delete(USERS, ("red", "b")))
    await write(driver, Delete(USERS, ("red", "d")), put("e"), atomic=False)
    await driver.purge(USERS, limit=10, after=None, now=FUTURE + 1, until=until())

    stored = [key for key in cluster.contents().with_prefix(b"") if key != MARKER_KEY and not key.startswith(b"\0c")]
    heads = [key for key in stored if key.startswith(HEADS)]
    assert [HEADS + key for key in stored if not key.startswith(HEADS)] == heads
    assert len(heads) == 1


async def test_what_needs_no_fields_moves_none(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Existence, counts and deletions read heads only."""
    await write(driver, *(put(f"{number}", note="x" * 100_000) for number in range(5)))
    rows = await driver.read(USERS, [("red", "0"), ("red", "x")], values=False, now=NOW, until=until())
    page = await driver.scan(USERS, RED, values=False, now=NOW, until=until())
    count = await driver.count(USERS, RED, now=NOW, until=until())

    assert isinstance(rows[0], Row)
    assert rows[0].version == await version(driver, "0")
    assert rows[1] == Absent(("red", "x"))
    assert [row.values for row in page.rows] == [{}] * 5
    assert page.rows[0].version == rows[0].version
    assert count == 5
    assert len(cluster.contents().get(HEADS + driver.layout_of(USERS).codec.encode_key(("red", "0"))) or b"") < 30


async def test_pages_follow_the_size_of_records(cluster: LocalCluster) -> None:
    """A reply that would be too long is asked for again in parts, and the pages after it are shorter."""
    driver = ArakoonDriver(cluster.address("node_0"), cluster.cluster_id, max_reply_bytes=5_000_000)
    await driver.open()
    for number in range(40):
        await write(driver, put(f"{number:02}", note="x" * 1_000_000))

    found = await pages(driver)
    read = await driver.read(USERS, [("red", f"{number:02}") for number in range(40)], now=NOW, until=until())

    assert sum(map(len, found)) == 40
    assert 1 < max(map(len, found)) < 5
    assert all(isinstance(row, Row) for row in read)
    await driver.close()


async def test_backwards(driver: ArakoonDriver) -> None:
    """From the high end, as many as are wanted, and on from there."""
    await write(driver, *(put(f"{number:03}") for number in range(300)))

    assert await names(driver, Slice(("red",), reverse=True, limit=2)) == ["299", "298"]
    assert await names(driver, RED._replace(reverse=True)) == [f"{number:03}" for number in reversed(range(300))]
    bounded = Slice(("red",), Edge(("010",), True), Edge(("012",), False), reverse=True)
    assert await names(driver, bounded) == ["011", "010"]
    with kv.budget(round_trips=1, keys=2):
        await keys(driver, Slice(("red",), reverse=True, limit=2))


async def test_concurrent_gets_travel_together(cluster: LocalCluster) -> None:
    """A hundred of one turn are one request, each with its own answer."""

    class Item(kv.Model, table="items"):
        name: str = kv.clustering_key()

    async with kv.connect(cluster.url) as db:
        items = Item.objects.using(db)
        await items.save_many(Item(f"{number:03}") for number in range(100))
        with kv.budget(round_trips=1):
            found = await asyncio.gather(*(items.find(f"{number:03}") for number in range(1, 101)))

    assert [item and item.name for item in found] == [f"{number:03}" for number in range(1, 100)] + [None]


# --- what is relied on ------------------------------------------------------------------------------------------------


async def test_absent_meets_an_expired_record(driver: ArakoonDriver) -> None:
    """It counts as absent, inside the same atomic step; a live one does not."""
    await write(driver, put("a", 1, expires_at=PAST), put("b", 1, expires_at=FUTURE))

    (outcome,) = await write(driver, put("a", 2, ABSENT))
    with pytest.raises(kv.AlreadyExists) as caught:
        await write(driver, put("b", 2, ABSENT), put("c", 2, ABSENT))

    assert outcome.existed is False
    assert caught.value.keys == (("users", ("red", "b")),)
    assert await age(driver, "a") == 2
    assert await age(driver, "c") is None


async def test_a_version_that_expired_is_gone(driver: ArakoonDriver) -> None:
    """It conflicts before anything is sent, as its deadline is part of it."""
    await write(driver, put("a", 1, expires_at=FUTURE))
    seen = await version(driver, "a")

    with pytest.raises(kv.Conflict), kv.budget(round_trips=0):
        await driver.write([put("a", 2, seen)], atomic=True, now=FUTURE + 1, until=until())


@pytest.mark.parametrize("bad", [b"", b"x", b"\x10" * 14, "text", 7])
async def test_versions_that_are_none(driver: ArakoonDriver, bad: Version) -> None:
    """A forged version is a conflict, like any that is not there."""
    await write(driver, put("a", 1))

    with pytest.raises(kv.Conflict):
        await write(driver, put("a", 2, bad))
    (outcome,) = await write(driver, put("a", 2, bad), atomic=False)

    assert outcome.status is Status.CONFLICT


async def test_present(driver: ArakoonDriver) -> None:
    """Whatever version it has; expired is not present."""
    await write(driver, put("a", 1), put("b", 1, expires_at=PAST))

    await write(driver, put("a", 2, PRESENT), Check(USERS, ("red", "a2"), ABSENT))
    for name in ("b", "c"):
        with pytest.raises(kv.Conflict):
            await write(driver, put(name, 2, PRESENT))

    assert await age(driver, "a") == 2


async def test_all_conflicts_are_named(driver: ArakoonDriver) -> None:
    """Where absence fails, all that failed are told; a lost version is told as the store names it."""
    await write(driver, put("a"), put("b"))
    with pytest.raises(kv.AlreadyExists) as exists:
        await write(driver, put("a", 1, ABSENT), put("b", 1, ABSENT), put("c", 1, ABSENT))
    seen = await version(driver, "a")
    await write(driver, put("a"))
    with pytest.raises(kv.Conflict) as conflict:
        await write(driver, put("a", 1, seen), put("d", 1, ABSENT))

    assert [key for _, key in exists.value.keys] == [("red", "a"), ("red", "b")]
    assert [key for _, key in conflict.value.keys] == [("red", "a")]


async def test_deletions_tell_what_was_there(driver: ArakoonDriver) -> None:
    """By key alone: a live record, an expired one, none."""
    await write(driver, put("a"), put("b", expires_at=PAST))

    told = [(await write(driver, Delete(USERS, ("red", name))))[0].existed for name in "abca"]

    assert told == [True, False, False, False]


async def test_batches(driver: ArakoonDriver) -> None:
    """Independent writes in few requests, with an outcome for each."""
    await write(driver, *(put(f"{number:03}", 1) for number in range(0, 500, 2)), atomic=False)
    seen = await version(driver, "000")
    mutations = [put(f"{number:03}", 2, ABSENT) for number in range(1, 500)]

    with kv.budget(round_trips=8):
        outcomes = await write(driver, put("000", 3, seen), *mutations, atomic=False)

    statuses = [outcome.status for outcome in outcomes]
    assert statuses[0] is Status.WRITTEN
    assert statuses[1:] == [Status.WRITTEN if number % 2 else Status.CONFLICT for number in range(1, 500)]
    assert all(outcome.error is not None for outcome in outcomes if outcome.status is Status.CONFLICT)


# --- ranges -----------------------------------------------------------------------------------------------------------


def check(slice: Slice, rows: list[Row]) -> CheckRange:
    """A check of what was read."""
    return CheckRange(USERS, slice, tuple((row.key, row.version) for row in rows))


SLICES = {
    "all": RED,
    "starts": Slice(("red",), starts="b"),
    "first": Slice(("red",), Edge(("b",), True)),
    "between": Slice(("red",), Edge(("b",), False), Edge(("d",), True)),
    "limit": Slice(("red",), limit=2),
    "last": Slice(("red",), reverse=True, limit=2),
    "more": Slice(("red",), limit=50),
    "none": Slice(("red",), starts="z"),
    "zero": Slice(("red",), limit=0),
}
NEIGHBOURS = ["a", "b", "b1", "c", "d", "e"]


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.parametrize("change", [*NEIGHBOURS, "a5", "b5", "c5", "z", None])
@pytest.mark.parametrize("deletes", [False, True])
async def test_ranges_have_no_phantoms(driver: ArakoonDriver, name: str, change: str | None, deletes: bool) -> None:
    """What came into, left or changed in the slice is a conflict; what did so beside it is none."""
    await write(driver, *(put(each) for each in NEIGHBOURS), put("c3", expires_at=PAST), put("x", team="blue"))
    slice = SLICES[name]
    before = (await driver.scan(USERS, slice, now=NOW, until=until())).rows
    if change is not None:
        await write(driver, Delete(USERS, ("red", change)) if deletes else put(change, 9))
    after = (await driver.scan(USERS, slice, now=NOW, until=until())).rows

    mutations = (check(slice, before), put("x", 7, team="blue"))
    if [(row.key, row.version) for row in before] == [(row.key, row.version) for row in after]:
        await write(driver, *mutations)
        assert await age(driver, "x", team="blue") == 7
    else:
        with pytest.raises(kv.Conflict) as caught:
            await write(driver, *mutations)
        assert {key for _, key in caught.value.keys} <= {("red", each) for each in (*NEIGHBOURS, change)}
        assert await age(driver, "x", team="blue") == 0


async def test_a_checked_range_costs_what_it_must(driver: ArakoonDriver) -> None:
    """What a prefix says is one round trip; anything else is read once more before it is asserted."""
    await write(driver, *(put(each) for each in NEIGHBOURS))
    for name, trips in (("all", 1), ("starts", 1), ("first", 2), ("limit", 2)):
        rows = (await driver.scan(USERS, SLICES[name], now=NOW, until=until())).rows
        with kv.budget(round_trips=trips):
            await write(driver, check(SLICES[name], rows), put("x", team="blue"))


async def test_a_check_that_names_too_much_is_not_sent(cluster: LocalCluster) -> None:
    """How many neighbours it has to name is known late: too large is too large all the same, and nothing is done."""
    driver = ArakoonDriver(cluster.address("node_0"), cluster.cluster_id, max_update_bytes=2000)
    await driver.open()
    for number in range(80):
        await write(driver, put(f"{number:03}"))
    slice = Slice(("red",), limit=1)
    rows = (await driver.scan(USERS, slice, now=NOW, until=until())).rows
    sent = cluster.nodes[0].requests["sequence"]

    with pytest.raises(kv.TooLarge) as caught:
        await write(driver, check(slice, rows), put("x", team="blue"))

    assert caught.value.limit == 2000
    assert cluster.nodes[0].requests["sequence"] == sent
    await driver.close()


async def test_a_batch_is_measured_before_any_of_it_is_sent(cluster: LocalCluster) -> None:
    """One record that is too large refuses all of it, whatever request it would travel in."""
    driver = ArakoonDriver(cluster.address("node_0"), cluster.cluster_id, max_update_bytes=2000)
    await driver.open()
    puts = [put(f"{number:03}") for number in range(40)]

    with pytest.raises(kv.TooLarge):
        await write(driver, *puts, put("large", note="x" * 5000), atomic=False)

    assert cluster.nodes[0].requests["sequence"] == 0
    await driver.close()


async def test_an_expired_record_that_comes_back_is_a_phantom(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Between the reading and the writing of one commit too: the same keys are there, but one of them lives again."""
    await write(driver, put("a"), put("b", expires_at=PAST))
    rows = (await driver.scan(USERS, RED, now=NOW, until=until())).rows
    other = driver_of(cluster)
    await other.open()
    original = driver.list_heads

    async def race(prefix: bytes, limit: int, end: float) -> list[tuple[bytes, bytes]]:
        listed = await original(prefix, limit, end)
        await write(other, put("b", 5))
        return listed

    driver.list_heads = race  # type: ignore[method-assign, assignment]
    with pytest.raises(kv.Conflict):
        await write(driver, check(RED, rows), put("x", team="blue"))
    await other.close()


async def test_too_many_keys_to_name(driver: ArakoonDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that only a long list of keys could check is refused."""
    monkeypatch.setattr("kvmodel.drivers.arakoon.operations.MAX_LISTED", 3)
    await write(driver, *(put(each) for each in NEIGHBOURS))
    rows = (await driver.scan(USERS, SLICES["first"], now=NOW, until=until())).rows

    with pytest.raises(kv.Unsupported):
        await write(driver, check(SLICES["first"], rows), put("x"))


@pytest.mark.parametrize(
    ("start", "stop", "covered"),
    [
        (b"ab", b"ac", (b"ab", True)),
        (b"ab", b"ad", (b"a", False)),
        (b"ab\0", b"ac", (b"a", False)),
        (b"abc", b"abd\0", (b"ab", False)),
        (b"a\xff", b"b", (b"", False)),
    ],
)
def test_covers(start: bytes, stop: bytes, covered: tuple[bytes, bool]) -> None:
    """The longest prefix that holds all of a range."""
    assert cover(start, stop) == covered


# --- the catalogue ----------------------------------------------------------------------------------------------------


async def test_the_first_write_describes_the_table(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """In the same sequence; later ones have nothing to add."""
    sent = Sent(cluster.nodes[0])
    await driver.prepare(USERS, now=NOW, until=until())
    assert cluster.contents().with_prefix(b"") == []
    await write(driver, put("a"))
    await write(driver, put("b"))

    assert len(sent.sequences[0]) == 6
    assert len(sent.sequences[1]) == 2
    assert cluster.contents().get(MARKER_KEY) == encode_marker()


async def test_two_first_writers(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Both have compared, one is first: the other one compares again, and goes on or is refused."""
    second, third = driver_of(cluster), driver_of(cluster)
    wrong = make_table(key="int")
    for each, table in ((driver, USERS), (second, USERS), (third, wrong)):
        await each.open()
        await each.prepare(table, now=NOW, until=until())
    await write(driver, put("a"))
    await write(second, put("b"))
    with pytest.raises(kv.SchemaError):
        await write(third, put("a", table=wrong)._replace(key=("red", 1)))

    assert await names(driver) == ["a", "b"]
    await second.close()
    await third.close()


async def test_a_store_of_another_format_is_refused(driver: ArakoonDriver) -> None:
    """Its marker says that it is not for this version to read."""
    marker = encode_marker()
    await driver.native.set(MARKER_KEY, marker[:-1] + bytes((marker[-1] ^ 0x7F,)))

    with pytest.raises(kv.SchemaError):
        await driver.prepare(USERS, now=NOW, until=until())


async def test_other_data_is_left_alone(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Keys of other programs in the same cluster do not matter; in the place of a table they do."""
    await driver.native.set("theirs", "1")
    await driver.prepare(USERS, now=NOW, until=until())
    await write(driver, put("a"))
    cuckoo = make_table("cuckoos")
    await driver.native.set(driver.layout_of(cuckoo).codec.encode_key(("red", "a")), "1")

    with pytest.raises(kv.SchemaError):
        await driver.prepare(cuckoo, now=NOW, until=until())
    assert await driver.native.get("theirs") == b"1"


async def test_a_damaged_record_is_an_error(driver: ArakoonDriver) -> None:
    """For its reader; it does not stop others, and can be overwritten."""
    await write(driver, put("a"), put("b"))
    key = driver.layout_of(USERS).codec.encode_key(("red", "a"))
    for damaged in (b"", b"\x10", b"\xff" * 40):
        await driver.native.sequence([steps.Set(key, damaged), steps.Set(HEADS + key, damaged)])
        with pytest.raises(kv.DecodingError):
            await find(driver, "a")
        with pytest.raises(kv.Conflict):
            await write(driver, put("a", 1, ABSENT))
        assert await driver.purge(USERS, limit=9, after=None, now=NOW, until=until())
    await write(driver, put("a", 5, ANYTHING))
    assert await age(driver, "a") == 5


# --- data of others ---------------------------------------------------------------------------------------------------


class Setting(
    kv.Model, table="settings", layout="plain", store_options={"arakoon": {"key_prefix": "app/", "separator": "/"}}
):
    """What an existing program keeps: ``app/<section>/<name>`` and a text."""

    section: str = kv.partition_key()
    name: str = kv.clustering_key()
    text: str = kv.field(whole_value=True)


async def test_plain_data_is_read_and_written_as_it_is(cluster: LocalCluster) -> None:
    """The bytes of the original client, both ways; nothing else is added to the store."""
    async with kv.connect(cluster.url) as db:
        native = db.native
        assert isinstance(native, ArakoonClient)
        await native.set("app/net/host", "localhost")
        await native.set("app/net/port", "80")
        await native.set("application", "1")

        port = await Setting.objects.get("net", "port")
        port.text = "81"
        await Setting.objects.save(port)
        await Setting.objects.create(Setting("net", "tls", "yes"))
        async with db.unit_of_work() as uow:
            host = await Setting.objects.get("net", "host")
            host.text += "!"
            uow.add(Setting("log", "level", "info"))

        assert [each.name for each in await Setting.objects.range("net")] == ["host", "port", "tls"]
        assert await Setting.objects.range("net").count() == 3
        await native.set("app/net/port", "82")
        port.text = "83"
        with pytest.raises(kv.Conflict):
            await Setting.objects.save(port)
        assert await Setting.objects.delete("net", "tls") is True
        assert await Setting.objects.delete("net", "tls") is False
        assert await native.range_entries(None, True, None, True) == [
            (b"app/log/level", b"info"),
            (b"app/net/host", b"localhost!"),
            (b"app/net/port", b"82"),
            (b"application", b"1"),
        ]


# --- what must end ----------------------------------------------------------------------------------------------------


async def test_reads_and_writes_end_in_time(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """A write that is never answered is unknown when its time is over."""
    await write(driver, put("a"))
    cluster.nodes[0].mishaps.append(Mishap(Answer.NEVER, False))

    with pytest.raises(kv.OutcomeUnknown):
        await write(driver, put("a", 1), seconds=0.1)
    with pytest.raises(kv.TimedOut):
        await write(driver, put("a", 1), seconds=0)
    with pytest.raises(kv.TimedOut):
        await driver.read(USERS, [("red", "a")], now=NOW, until=until(-1))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("arakoon://h", "cluster"),
        ("arakoon://h/path?cluster=c", "url"),
        ("arakoon://user:secret@h?cluster=c", "url"),
        ("arakoon://h?cluster=c&nodes=a,b", "nodes"),
        ("arakoon://h:x?cluster=c", None),
        ("arakoon://h?cluster=c&connections=0", "connections"),
        ("arakoon://h?cluster=c&nobody=1", "nobody"),
    ],
)
async def test_urls_that_are_refused(url: str, what: str | None) -> None:
    """Before anything is sent, saying which part, and without a password in the text."""
    with pytest.raises(kv.ValidationError) as caught:
        await kv.connect(url)

    assert caught.value.field == what
    assert "secret" not in str(caught.value)


async def test_connecting_to_nobody(cluster: LocalCluster) -> None:
    """Told at once."""
    url = cluster.url
    await cluster.stop()
    start = asyncio.get_running_loop().time()

    with pytest.raises(kv.Unavailable):
        await kv.connect(url)

    assert asyncio.get_running_loop().time() - start < 2
