"""What versions of Picodata can do: what one can't is refused, and single statements do the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.picodata import LocalPicodata, PostgresServer
from tests.drivers.picodata.helpers import Item, forget, native, statements


class Cold(kv.Model, table="cold", store_options={"picodata": {"engine": "vinyl"}}):
    """On disk."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0


class Down(kv.Model, table="down"):
    """A key that counts downwards."""

    shelf: str = kv.partition_key()
    at: int = kv.clustering_key(descending=True)


@asynccontextmanager
async def playing(version: str, postgres: PostgresServer) -> AsyncIterator[tuple[LocalPicodata, kv.Database]]:
    """A node of this version, and a database on it."""
    async with (
        LocalPicodata(1, version=version, postgres=postgres) as cluster,
        kv.connect(cluster.url, clock=VirtualClock()) as db,
    ):
        yield cluster, db


@pytest.mark.parametrize("version", ["24.6.1", "25.4.1", "25.5.0"])
async def test_versions_whose_reads_may_be_old_are_refused(version: str, postgres: PostgresServer) -> None:
    """Up to 25.5.0 a replica may answer that lags behind."""
    async with LocalPicodata(1, version=version, postgres=postgres) as cluster:
        with pytest.raises(kv.Unsupported, match=r"25\.5\.1"):
            await kv.connect(cluster.url)


@pytest.mark.parametrize("version", ["25.5.1", "26.1.1", "26.1.2-5-gabcdef"])
async def test_without_blocks_a_write_reaches_one_record(version: str, postgres: PostgresServer) -> None:
    """``RECORD``: several records are refused before anything is sent; one record has all of its conditions."""
    async with playing(version, postgres) as (cluster, db):
        assert db.capabilities.atomicity is kv.Atomicity.RECORD
        assert type(native(db)).__name__ == "PicodataPool"
        await _use_one_record(db)
        forget(cluster)
        with pytest.raises(kv.Unsupported):
            async with db.unit_of_work() as uow:
                uow.add(Item("s", "x"))
                uow.add(Item("s", "y"))
        assert statements(cluster) == []
        assert not any("DO $$" in text for text in statements(cluster))


async def _use_one_record(db: kv.Database) -> None:
    objects = Item.objects.using(db)
    await objects.create(Item("s", "a", 1))
    with pytest.raises(kv.AlreadyExists):
        await objects.create(Item("s", "a", 2))
    one, two = await objects.get("s", "a"), await objects.get("s", "a")
    one.count = 5
    await objects.save(one)
    with pytest.raises(kv.Conflict):
        await objects.save(two)
    with pytest.raises(kv.Conflict):
        await objects.delete(two)
    assert await objects.delete("s", "a") is True
    assert await objects.delete("s", "a") is False
    await objects.save_many([Item("s", "a"), Item("t", "b")])
    async with db.batch() as batch:
        batch.add(Item("s", "c"))
        batch.delete(await objects.get("s", "a"))
    assert [item.name for item in await objects.scan()] == ["c", "b"]


@pytest.mark.parametrize("version", ["25.5.3", "26.1.3", "26.2.1"])
async def test_expired_records_are_absent_in_every_version(version: str, postgres: PostgresServer) -> None:
    """Their keys are free, and purging removes them."""
    clock = VirtualClock()
    async with (
        LocalPicodata(1, version=version, postgres=postgres) as cluster,
        kv.connect(cluster.url, clock=clock) as db,
    ):
        objects = Item.objects.using(db)
        for name in "abc":
            await objects.save(Item("s", name), expires_in=timedelta(seconds=1))
        loaded = await objects.get("s", "b")
        clock.advance(1)
        await objects.create(Item("s", "a", 2))
        with pytest.raises(kv.Conflict):
            await objects.save(loaded)
        assert await objects.delete("s", "c") is False
        assert await db.purge_expired(Item) in (1, 2)
        assert [item.name for item in await objects.range("s")] == ["a"]


async def test_vinyl_needs_blocks_for_conditions(postgres: PostgresServer) -> None:
    """Without them two writers could both find the version they rely on: refused before anything is sent."""
    async with playing("25.5.1", postgres) as (cluster, db):
        objects = Cold.objects.using(db)
        await objects.create(Cold("s", "a"))
        loaded = await objects.get("s", "a")
        forget(cluster)
        with pytest.raises(kv.Unsupported, match="vinyl"):
            await objects.save(loaded)
        with pytest.raises(kv.Unsupported, match="vinyl"):
            await objects.delete(loaded)
        assert statements(cluster) == []
        await objects.save(Cold("s", "a", 7))
        assert (await objects.get("s", "a")).count == 7


async def test_vinyl_with_blocks(postgres: PostgresServer) -> None:
    """Then it does what memtx does; one block touches one engine."""
    async with playing("26.1.3", postgres) as (_, db):
        objects = Cold.objects.using(db)
        loaded = await objects.create(Cold("s", "a"))
        loaded.count = 1
        await objects.save(loaded)
        async with db.unit_of_work() as uow:
            uow.add(Cold("s", "b"))
            uow.add(Cold("s", "c"))
        assert await objects.range("s").count() == 3
        with pytest.raises(kv.Unsupported):
            async with db.unit_of_work() as uow:
                uow.add(Cold("s", "d"))
                uow.add(Item("s", "d"))


@pytest.mark.parametrize(("version", "sorts"), [("26.1.3", False), ("26.2.1", True)])
async def test_descending_parts_of_a_key(version: str, sorts: bool, postgres: PostgresServer) -> None:
    """From 26.2 on the index counts downwards; before, the store sorts. What is read is the same."""
    async with playing(version, postgres) as (cluster, db):
        await Down.objects.using(db).save_many([Down("s", number) for number in range(5)])
        created = next(text for text in statements(cluster) if text.startswith("CREATE TABLE"))
        assert ('"at" DESC' in created) is sorts
        assert [each.at for each in await Down.objects.using(db).range("s", first=3, limit=2)] == [3, 2]
        assert [each.at for each in await Down.objects.using(db).range("s", reverse=True, limit=2)] == [0, 1]
        async with kv.connect(cluster.url) as other:
            await other.prepare(Down)


async def test_engine_and_tier_are_chosen_in_the_class_line(postgres: PostgresServer) -> None:
    """``memtx`` in the default tier, unless said otherwise; the time for the cluster to apply it too."""

    class There(kv.Model, table="there", store_options={"picodata": {"tier": "cold", "ddl_timeout": 3.0}}):
        id: int = kv.partition_key()

    async with playing("26.1.3", postgres) as (cluster, db):
        await db.prepare(There, Item, Cold)
        texts = [text for text in statements(cluster) if text.startswith("CREATE")]
        assert (
            'USING memtx DISTRIBUTED BY ("id") IN TIER "cold" WAIT APPLIED GLOBALLY OPTION (TIMEOUT = 3.000)'
            in texts[0]
        )
        assert 'USING memtx DISTRIBUTED BY ("shelf") WAIT APPLIED GLOBALLY' in texts[1]
        assert "USING vinyl" in texts[2]
        tables = cluster.catalogue.tables
        assert (tables["there"].tier, tables["items"].engine, tables["cold"].engine) == ("cold", "memtx", "vinyl")


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "innodb"},
        {"ddl_timeout": 0},
        {"ddl_timeout": "3"},
        {"tier": 'a"b'},
        {"colour": "red"},
        {"columns": {"nothing": "x"}},
        {"columns": {"id": 'x"y'}},
        {"version_column": "a b"},
    ],
    ids=str,
)
async def test_options_that_make_no_sense_are_refused(options: dict[str, object], db: kv.Database) -> None:
    """``SchemaError`` names the option."""

    class Wrong(kv.Model, table="wrong", store_options={"picodata": options}):
        id: int = kv.partition_key()

    with pytest.raises(kv.SchemaError, match=next(iter(options))):
        await db.prepare(Wrong)


async def test_a_version_beside_that_of_postgresql(postgres: PostgresServer) -> None:
    """The text may also name the PostgreSQL that the server speaks like."""
    async with LocalPicodata(1, version="26.1.3", postgres=postgres) as cluster:
        cluster.version_text = "PostgreSQL 15.0 (Picodata 26.1.3-0-gabcdef)"
        async with kv.connect(cluster.url) as db:
            assert db.capabilities.atomicity is kv.Atomicity.PARTITION
        cluster.version_text = "something"
        with pytest.raises(kv.StoreError, match="version"):
            await kv.connect(cluster.url)
