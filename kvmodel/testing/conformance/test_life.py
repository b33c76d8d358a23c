"""Connections: what they claim, where they may be used, and what is left when they are closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import attrs
import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, gather_all, names
from kvmodel.testing.plugin import Connect

pytestmark = pytest.mark.asyncio


async def test_capabilities_are_consistent(kv_db: kv.Database) -> None:
    """Limits are positive, and what builds on something else is not claimed without it."""
    capabilities = kv_db.capabilities

    limits = {name: value for name, value in attrs.asdict(capabilities).items() if name.startswith("max_")}
    assert [name for name, value in limits.items() if value is not None and value < 1] == []
    assert capabilities.max_read_batch >= 1
    assert capabilities.store
    assert not capabilities.range_checks or (capabilities.ordered and capabilities.conditional)
    assert capabilities.ordered or capabilities.reverse is kv.Reverse.NONE
    assert capabilities.watch is not kv.Watch.NONE or not capabilities.watch_resumes


async def test_capabilities_are_the_connections_own(kv_db: kv.Database) -> None:
    """A view of another namespace can do the same."""
    assert kv_db.namespace("a").capabilities == kv_db.capabilities


@pytest.mark.kv_requires("reads_in_place")
async def test_reads_in_place_wait_for_nothing(kv_db: kv.Database) -> None:
    """A ``get`` ends at once, without giving way to the event loop."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1))

    reading = objects.get("s", "a")
    with pytest.raises(StopIteration) as ended:
        reading.send(None)

    assert ended.value.value == Item("s", "a", 1)


async def test_a_closed_database_is_closed(kv_db: kv.Database) -> None:
    """Every call says so, from every view and for what was made before; closing again is allowed."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a"))
    view = kv_db.namespace("v")
    item = await objects.get("s", "a")
    unit = await kv_db.unit_of_work().begin()
    inside = Item.objects.using(unit)
    query = objects.range("s")

    await kv_db.close()
    await kv_db.close()

    outside = Item.objects.using(kv_db, outside=True)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: outside.get("s", "a"),
        lambda: outside.find("s", "a"),
        lambda: outside.exists("s", "a"),
        lambda: outside.get_many([("s", "a")]),
        lambda: outside.save(Item("s", "b")),
        lambda: outside.save(item, force=True),
        lambda: outside.delete("s", "a"),
        lambda: outside.save_many([Item("s", "b")]),
        lambda: Item.objects.using(view, outside=True).find("s", "a"),
        lambda: inside.find("s", "a"),
        unit.commit,
        lambda: kv_db.prepare(Item),
        lambda: kv_db.purge_expired(Item),
        lambda: kv_db.unit_of_work().begin(),
    ]
    if kv_db.capabilities.conditional:
        calls.append(lambda: outside.expire("s", "a", expires_in=timedelta(days=1)))
    if kv_db.capabilities.ordered:
        calls += [lambda: outside.range("s").count(), query.first, lambda: gather_all(outside.range("s"))]
    for call in calls:
        with pytest.raises(kv.Closed):
            await call()


async def test_a_database_belongs_to_its_event_loop(kv_db: kv.Database) -> None:
    """In another one every call says so, and the loop that it belongs to is not disturbed."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1))

    async def elsewhere() -> None:
        with pytest.raises(kv.Closed):
            await objects.find("s", "a")
        with pytest.raises(kv.Closed):
            await objects.save(Item("s", "a", 2))
        with pytest.raises(kv.Closed):
            await kv_db.unit_of_work().begin()

    await asyncio.to_thread(asyncio.run, elsewhere())

    assert (await objects.get("s", "a")).count == 1


async def test_closing_finishes_what_is_under_way(kv_connect: Connect) -> None:
    """Writes end as done, as not done or as unknown, and what was acknowledged is there."""
    db, other = await kv_connect(), await kv_connect()
    await db.prepare(Item)
    tasks = [asyncio.ensure_future(Item.objects.using(db).save(Item("s", f"{number}"))) for number in range(20)]
    await asyncio.sleep(0)

    await db.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    allowed = Item | kv.Closed | kv.OutcomeUnknown | kv.Unavailable | kv.TimedOut
    assert [result for result in results if not isinstance(result, allowed)] == []
    written = [result.name for result in results if isinstance(result, Item)]
    assert names(await Item.objects.using(other).get_many([("s", name) for name in written])) == written


@pytest.mark.kv_requires(durability=kv.Durability.PROCESS)
async def test_what_was_acknowledged_is_there_after_closing(kv_db: kv.Database, kv_connect: Connect) -> None:
    """A connection that is made later finds it."""
    await Item.objects.using(kv_db).save_many([Item("s", name) for name in "abc"])
    await kv_db.close()

    again = await kv_connect()

    assert names(await Item.objects.using(again).get_many([("s", name) for name in "abc"])) == ["a", "b", "c"]
