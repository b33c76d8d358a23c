"""Watching: what etcd adds to what the suite proves of every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.etcd import TO_THE_END, EtcdClient, EtcdDriver, Place, streams, watches
from kvmodel.drivers.etcd import messages as m
from kvmodel.drivers.etcd.streams import WatchStream
from kvmodel.drivers.etcd.watches import EtcdWatch, Told
from kvmodel.testing.etcd import EtcdCluster
from kvmodel.testing.proxy import Proxy
from tests.drivers.rows import condition


class Step(kv.Model, table="steps"):
    """A record."""

    name: str = kv.clustering_key()
    number: int = 0


@pytest.fixture
async def db(client: EtcdClient, server: EtcdCluster) -> AsyncIterator[kv.Database]:
    """A connection to an empty store."""
    async with kv.connect(server.url) as db:
        yield db


@asynccontextmanager
async def two(client: EtcdClient, proxy: Proxy) -> AsyncIterator[tuple[kv.Database, kv.Changes[Step]]]:
    """A connection that writes, and a watch on another one, which passes through a proxy."""
    async with (
        kv.connect(f"etcd://127.0.0.1:{proxy.port}") as db,
        kv.connect(client.store) as writer,
        Step.objects.using(db).watch() as changes,
    ):
        yield writer, changes


async def numbers(changes: kv.Changes[Step], count: int) -> list[int]:
    """What the next changes are about."""
    async with asyncio.timeout(20):
        found = [await anext(changes) for _ in range(count)]
    return [-1 if change.new is None else change.new.number for change in found]


# --- positions --------------------------------------------------------------------------------------------------------


async def test_compacted_changes_are_lost(db: kv.Database, client: EtcdClient) -> None:
    """A position whose changes the store has forgotten is told when the watch begins; one behind them still works."""
    async with Step.objects.watch() as changes:
        for number in range(5):
            await Step.objects.save(Step("a", number))
        seen = [await anext(changes) for _ in range(5)]
    assert seen[3].new is not None
    stored = await client.get(_key(db, "a"))
    assert stored is not None
    await client.compact(stored.mod_revision - 1)

    for change in seen[:2]:
        with pytest.raises(kv.WatchLost, match="read again"):
            async with Step.objects.watch(position=change.position):
                pass
    async with Step.objects.watch(position=seen[3].position) as changes:
        assert await numbers(changes, 1) == [4]


def _key(db: kv.Database, name: str) -> bytes:
    driver = db._connection.driver
    assert isinstance(driver, EtcdDriver)
    return driver.layout_of(next(iter(db._tables.values())).table).codec.encode_key((name,))


async def test_deletions_in_the_revision_of_a_compaction(client: EtcdClient) -> None:
    """Servers drop them, although that revision can still be read: a watch that needs them is lost, not silent."""
    await client.put("a", "1")
    async with client.watch("a", "c") as changes:
        before = changes.place
        deletion = m.RequestOp(request_delete_range=m.DeleteRangeRequest(b"a"))
        answer = await client.txn((), [deletion, m.RequestOp(request_put=m.PutRequest(b"b", b"1"))])
        await anext(changes)
        middle = changes.place
        await anext(changes)
        behind = changes.place
    assert answer.header is not None
    await client.compact(answer.header.revision)

    for place in (before, middle):
        with pytest.raises(kv.WatchLost):
            async with client.watch("a", "c", place=place):
                pass
    async with client.watch("a", "c", place=behind) as changes, asyncio.timeout(20):
        await client.put("b", "2")
        event = await anext(changes)
    assert event.kv is not None
    assert event.kv.value == b"2"


async def test_a_watch_that_breaks_before_a_compaction(client: EtcdClient, proxy: Proxy) -> None:
    """It says so itself when a deletion that it has not told is in the revision of the compaction."""
    await client.put("a", "1")
    async with EtcdClient(f"127.0.0.1:{proxy.port}") as watcher, watcher.watch("a") as changes, asyncio.timeout(30):
        proxy.refuse()
        proxy.cut()
        answer = await client.delete_range("a")
        assert answer.header is not None
        await client.compact(answer.header.revision)
        proxy.accept()
        with pytest.raises(kv.WatchLost):
            await anext(changes)


@pytest.mark.parametrize("reason", ["etcdserver: invalid auth token", ""])
async def test_a_watch_that_the_node_ends(client: EtcdClient, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """When it begins, or later, and for no reason that lasts: it is put in place again, and tells everything."""
    ended = m.WatchResponse(m.Header(revision=1), created=True, canceled=True, cancel_reason=reason)
    original = WatchStream.begin
    answers = [ended]
    begun: list[WatchStream] = []

    async def begin(self: WatchStream, until: float) -> m.WatchResponse:
        begun.append(self)
        response = await original(self, until)
        return answers.pop() if answers else response

    monkeypatch.setattr(WatchStream, "begin", begin)
    async with client.watch("a") as changes, asyncio.timeout(20):
        stream = changes._stream
        assert stream is not None
        assert begun == [begun[0], stream]

        async def read() -> m.WatchResponse:
            return ended

        monkeypatch.setattr(stream, "read", read)
        await client.put("a", "1")
        event = await anext(changes)
    assert event.kv is not None
    assert event.kv.value == b"1"
    assert len(begun) == 3


async def test_a_reader_that_is_compacted_away(client: EtcdClient, proxy: Proxy) -> None:
    """A watch that broke, and could not be put in place again before the store forgot where it was."""
    async with two(client, proxy) as (writer, changes):
        await Step.objects.using(writer).save(Step("a", 1))
        assert await numbers(changes, 1) == [1]
        proxy.refuse()
        proxy.cut()
        for number in range(5):
            await Step.objects.using(writer).save(Step("a", number))
        stored = await client.get(_key(writer, "a"))
        assert stored is not None
        await client.compact(stored.mod_revision)
        proxy.accept()
        for _ in range(2):
            with pytest.raises(kv.WatchLost):
                await anext(changes)


async def test_a_position_that_is_ahead_of_the_store(db: kv.Database, client: EtcdClient) -> None:
    """It is another store, or one that was restored from a copy: silence would be wrong."""
    async with client.watch("\1", TO_THE_END) as changes:
        place = changes.place
    for ahead in (1, 1000):
        with pytest.raises(kv.WatchLost, match="another one"):
            async with client.watch("a", place=Place(place.revision + ahead)):
                pass
    async with client.watch("a", place=place):
        pass


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "-1.0", "1.0.0", "a.b", "1.1e3", "²³.0", "9" * 19 + ".0"])
def test_places_that_are_none(text: str) -> None:
    """They are refused."""
    with pytest.raises(kv.ValidationError):
        Place.parse(text)


def test_places() -> None:
    """They come back."""
    assert Place.parse(Place(12, 3).text) == Place(12, 3)


async def test_every_place_is_one_to_go_on_from(client: EtcdClient) -> None:
    """Of large transactions, too, and of those that touch other keys: nothing is missing, nothing comes twice."""

    def puts(names: list[str]) -> list[m.RequestOp]:
        return [m.RequestOp(request_put=m.PutRequest(name.encode(), b"x")) for name in names]

    async with client.watch("b", "d") as changes:
        start = changes.place
        for names in (["a", "b", "c", "d"], ["a"], ["b"], ["c", "b", "ca", "cb"], ["d"]):
            await client.txn((), puts(names))
        events = [(await anext(changes), changes.place) for _ in range(7)]
    told = [event.kv.key for event, _ in events if event.kv]
    assert (sorted(told[:2]), told[2], sorted(told[3:])) == ([b"b", b"c"], b"b", [b"b", b"c", b"ca", b"cb"])
    for number, place in enumerate([start, *(place for _, place in events)]):
        async with client.watch("b", "d", place=place) as changes:
            await client.put("b", "end")
            rest = [await anext(changes) for _ in range(len(told) - number + 1)]
        assert [event.kv.key for event in rest if event.kv][: len(told) - number] == told[number:]


async def test_progress_moves_the_position(client: EtcdClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """News without changes: everything up to there was told, so that a quiet watch keeps a position that lives."""
    async with client.watch("a") as changes:
        await client.put("a", "1")
        await anext(changes)
        before = changes.place
        stream = changes._stream
        assert stream is not None

        async def progress() -> m.WatchResponse:
            monkeypatch.undo()
            return m.WatchResponse(m.Header(revision=before.revision + 50))

        monkeypatch.setattr(stream, "read", progress)
        assert await changes.next() == []
        assert changes.place == Place(before.revision + 51)


async def test_requested_progress_is_not_believed(client: EtcdClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers tell it ahead of the changes: it shows that the node lives, and nothing else."""
    monkeypatch.setattr(streams, "QUIET", 0.05)
    asked = 0
    original = WatchStream._write

    async def write(self: WatchStream, request: m.WatchRequest) -> None:
        nonlocal asked
        asked += request.progress_request is not None
        await original(self, request)

    monkeypatch.setattr(WatchStream, "_write", write)
    async with client.watch("a") as changes:
        before = changes.place
        waiting = asyncio.create_task(anext(changes))
        async with asyncio.timeout(10):
            while asked < 3:
                await client.put("b", "x")
        assert changes.place == before
        await client.put("a", "1")
        event = await waiting
        assert event.kv is not None
        assert event.kv.value == b"1"


# --- broken streams ---------------------------------------------------------------------------------------------------


async def test_it_goes_on_after_a_cut(client: EtcdClient, proxy: Proxy) -> None:
    """Whatever was written meanwhile is told, once."""
    async with two(client, proxy) as (writer, changes):
        objects = Step.objects.using(writer)
        for number in range(10):
            proxy.cut()
            await objects.save(Step("a", number))
        assert await numbers(changes, 10) == list(range(10))
        await objects.save(Step("a", 10))
        assert await numbers(changes, 1) == [10]


async def test_a_node_that_falls_silent(client: EtcdClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked whether it is still there, and left when it does not say so."""
    monkeypatch.setattr(streams, "QUIET", 0.1)
    monkeypatch.setattr(streams, "SILENT", 0.2)
    async with EtcdClient(f"127.0.0.1:{proxy.port}") as reader, reader.watch("a") as changes:
        silent = changes._stream
        proxy.stall()
        await client.put("a", "1")
        waiting = asyncio.create_task(anext(changes))
        await condition(lambda: changes._stream is not silent)
        proxy.resume()
        event = await waiting
    assert event.kv is not None
    assert event.kv.value == b"1"


async def test_a_store_that_stays_away(client: EtcdClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is told in the end, and can go on when it is back."""
    monkeypatch.setattr(watches, "RETRIES", 0.3)
    async with two(client, proxy) as (writer, changes):
        proxy.refuse()
        proxy.cut()
        for _ in range(2):
            with pytest.raises(kv.Unavailable):
                await anext(changes)
        await Step.objects.using(writer).save(Step("a", 1))
        proxy.accept()
        monkeypatch.undo()
        assert await numbers(changes, 1) == [1]


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_old_records_are_told(db: kv.Database) -> None:
    """What was there before a change and a deletion, with its version."""
    async with Step.objects.watch("a") as changes:
        await Step.objects.save(Step("a", 1))
        first = await Step.objects.get("a")
        await Step.objects.save(Step("a", 2))
        await Step.objects.delete("a")
        created, changed, deleted = [await anext(changes) for _ in range(3)]
    assert (created.old, changed.old, deleted.old) == (None, Step("a", 1), Step("a", 2))
    assert changed.old is not None
    assert kv.version(changed.old) == kv.version(first)


async def test_what_was_compacted_away_is_changed_all_the_same(
    db: kv.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old record can't be told any more; that there was one can."""
    await Step.objects.save(Step("a", 1))
    original = EtcdWatch.next

    async def forgetful(self: EtcdWatch) -> list[Told]:
        found = await original(self)
        return [Told(attrs.evolve(event, prev_kv=None), place) for event, place in found]

    monkeypatch.setattr(EtcdWatch, "next", forgetful)
    async with Step.objects.watch("a") as changes:
        await Step.objects.save(Step("a", 2))
        change = await anext(changes)
    assert (change.kind, change.new, change.old) == (kv.ChangeKind.CHANGED, Step("a", 2), None)


async def test_records_that_their_lease_removes(db: kv.Database, client: EtcdClient) -> None:
    """They are deleted then."""
    await Step.objects.save(Step("a", 1), expires_in=timedelta(hours=1))
    async with Step.objects.watch() as changes:
        for lease in await client.leases():
            await client.lease_revoke(lease)
        change = await anext(changes)
    assert (change.kind, change.old) == (kv.ChangeKind.DELETED, Step("a", 1))


async def test_large_units_come_in_pieces(db: kv.Database) -> None:
    """A unit as large as may be, and many of them, to a reader that comes late."""
    async with Step.objects.watch() as changes:
        for number in range(20):
            async with db.unit_of_work() as uow:
                for name in range(100):
                    uow.put(Step(f"{name:03}-{'x' * 500}", number))
        assert await numbers(changes, 2000) == [number for number in range(20) for _ in range(100)]


async def test_damaged_records(db: kv.Database, client: EtcdClient) -> None:
    """An error for each, and the watch goes on; other programs' keys among them are errors too."""
    await Step.objects.save(Step("a", 1))
    async with Step.objects.watch() as changes:
        await client.put(_key(db, "a"), "damage")
        await client.put(_key(db, "a") + b"\xff", "a key that is none")
        await Step.objects.save(Step("a", 2), force=True)
        for _ in range(2):
            with pytest.raises(kv.DecodingError):
                await anext(changes)
        change = await anext(changes)
    assert (change.kind, change.new, change.old) == (kv.ChangeKind.CHANGED, Step("a", 2), None)
