"""Stores without order: no range is answered, and none is sent."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, Log, gather_all, names, refused

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_denied("ordered")]


async def test_ranges_are_refused(kv_db: kv.Database) -> None:
    """Every way of asking for a slice of a partition is refused, whatever its bounds."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a"))

    for query in (objects.range("s"), objects.range("s", prefix="a"), objects.range("s", first="a", limit=1)):
        with refused():
            await query
        with refused():
            await gather_all(query)
        with refused():
            await query.first()
        with refused():
            await query.count()
        with refused():
            await query.delete()
    with refused():
        await objects.range("s").page(10)
    await kv_db.prepare(Log)
    with refused():
        await Log.objects.using(kv_db).range()


async def test_ranges_are_refused_in_a_unit(kv_db: kv.Database) -> None:
    """Neither are they answered from what a unit of work knows."""
    objects = Item.objects.using(kv_db)
    await kv_db.prepare(Item)

    async with kv_db.unit_of_work():
        with refused():
            await objects.range("s")
        with refused():
            await objects.range("s").unchecked()


async def test_what_can_be_named_can_be_read(kv_db: kv.Database) -> None:
    """Records are still read by key, many at once too."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", name) for name in "abc"])

    assert names(await objects.get_many([("s", "c"), ("s", "x"), ("s", "a")])) == ["c", None, "a"]
