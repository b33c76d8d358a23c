"""Deadlines: past its own, a record is gone from everywhere at once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.conformance.models import Item, Lease, gather_all, names, refused

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_requires("expiry")]

conditional = pytest.mark.kv_requires("conditional")
_TEN = timedelta(seconds=10)
_MICROSECOND = timedelta(microseconds=1)


async def _two(db: kv.Database) -> None:
    """Store one record that expires in ten seconds, and one that does not."""
    await Item.objects.using(db).save(Item("s", "mortal"), expires_in=_TEN)
    await Item.objects.using(db).save(Item("s", "lasting"))


async def test_a_deadline_is_exact(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """A record is there until the microsecond before its deadline, and gone at it."""
    await _two(kv_db)
    objects = Item.objects.using(kv_db)

    kv_clock.advance(_TEN - _MICROSECOND)
    assert await objects.exists("s", "mortal")
    assert (await objects.get("s", "mortal")).name == "mortal"
    kv_clock.advance(_MICROSECOND)
    assert not await objects.exists("s", "mortal")
    assert await objects.find("s", "mortal") is None
    assert names(await objects.get_many([("s", "mortal"), ("s", "lasting")])) == [None, "lasting"]


@pytest.mark.kv_requires("ordered")
async def test_ranges_do_not_show_what_expired(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """Lists, streams, counts and pages; a limit counts the living."""
    objects = Item.objects.using(kv_db)
    await _two(kv_db)
    for number in range(5):
        await objects.save(Item("s", f"a{number}"), expires_in=_TEN)
    kv_clock.advance(_TEN)
    query = objects.range("s")

    assert names(await query) == ["lasting"]
    assert names(await objects.range("s", limit=1)) == ["lasting"]
    assert names(await gather_all(query)) == ["lasting"]
    assert await query.count() == 1
    page = await query.page(1)
    assert (names(page.items), page.next_token) == (["lasting"], None)
    assert await query.first() == Item("s", "lasting")
    assert await query.delete() == 1


@pytest.mark.kv_requires("scan_table")
async def test_a_scan_does_not_show_what_expired(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """Neither does it count it."""
    await _two(kv_db)
    kv_clock.advance(_TEN)

    assert names(await gather_all(Item.objects.using(kv_db).scan())) == ["lasting"]
    assert await Item.objects.using(kv_db).scan().count() == 1


@conditional
async def test_expired_is_absent_for_writes(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """Its key is free, and nobody updates, replaces or deletes it."""
    objects = Item.objects.using(kv_db)
    await _two(kv_db)
    loaded = await objects.get("s", "mortal")
    token = kv.version(loaded)
    kv_clock.advance(_TEN)

    with pytest.raises(kv.NotFound):
        await objects.update("s", "mortal", count=1)
    with pytest.raises(kv.NotFound):
        await objects.expire("s", "mortal", expires_at=None)
    with pytest.raises(kv.Conflict):
        await objects.save(loaded)
    with pytest.raises(kv.Conflict):
        await objects.save(Item("s", "mortal"), if_version=token)
    with pytest.raises(kv.Conflict):
        await objects.delete(loaded)
    assert await objects.delete("s", "mortal") in (False, None)
    await objects.create(Item("s", "mortal", 2))

    assert (await objects.get("s", "mortal")).count == 2


@conditional
async def test_a_key_is_taken_again_after_expiry(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """``create`` over what expired works once: then the key is taken."""
    objects = Item.objects.using(kv_db)
    await _two(kv_db)
    kv_clock.advance(_TEN)
    await objects.create(Item("s", "mortal", 1))

    with pytest.raises(kv.AlreadyExists):
        await objects.create(Item("s", "mortal", 2))

    assert kv.expires_at(await objects.get("s", "mortal")) is None


async def test_a_deadline_comes_back_as_it_was(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """In UTC, to the microsecond, as a span or as a moment in any time zone."""
    objects = Item.objects.using(kv_db)
    moment = (kv_clock.now + timedelta(days=3, microseconds=1)).astimezone(timezone(timedelta(hours=5)))

    await objects.save(Item("s", "a"), expires_in=timedelta(microseconds=1_234_567))
    await objects.save(Item("s", "b"), expires_at=moment)

    assert kv.expires_at(await objects.get("s", "a")) == kv_clock.now + timedelta(microseconds=1_234_567)
    assert kv.expires_at(await objects.get("s", "b")) == moment


@conditional
async def test_a_loaded_object_keeps_its_deadline(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """``save`` and ``update`` leave it alone, unless told otherwise."""
    objects = Item.objects.using(kv_db)
    await _two(kv_db)
    until = kv_clock.now + _TEN
    kv_clock.advance(5)

    await objects.save(await objects.get("s", "mortal"))
    await objects.update("s", "mortal", count=1)
    assert kv.expires_at(await objects.get("s", "mortal")) == until
    await objects.save(await objects.get("s", "mortal"), expires_in=_TEN)
    assert kv.expires_at(await objects.get("s", "mortal")) == kv_clock.now + _TEN
    await objects.save(await objects.get("s", "mortal"), expires_at=None)
    kv_clock.advance(100)
    assert await objects.exists("s", "mortal")


@conditional
async def test_expire_changes_the_deadline_alone(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """The fields stay; ``None`` takes the deadline away; an absent record is ``NotFound``."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 7, tags=["x"]))

    await objects.expire("s", "a", expires_in=_TEN)
    assert await objects.get("s", "a") == Item("s", "a", 7, tags=["x"])
    assert kv.expires_at(await objects.get("s", "a")) == kv_clock.now + _TEN
    await objects.expire("s", "a", expires_at=None)
    kv_clock.advance(60)
    assert await objects.exists("s", "a")
    with pytest.raises(kv.NotFound):
        await objects.expire("s", "b", expires_in=_TEN)


async def test_a_model_may_expire_by_default(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """Its new objects have its deadline, unless they are given one, or none."""
    objects = Lease.objects.using(kv_db)
    await objects.save(Lease("s", "default"))
    await objects.save(Lease("s", "short"), expires_in=_TEN)
    await objects.save(Lease("s", "never"), expires_in=None)

    kv_clock.advance(_TEN)
    assert [await objects.exists("s", name) for name in ("default", "short", "never")] == [True, False, True]
    kv_clock.advance(3600)
    assert [await objects.exists("s", name) for name in ("default", "short", "never")] == [False, False, True]


@pytest.mark.parametrize(
    "options",
    [
        {"expires_in": timedelta(0)},
        {"expires_in": -_TEN},
        {"expires_in": 10},
        {"expires_at": datetime(2000, 1, 1, tzinfo=timezone.utc)},
        {"expires_at": datetime(2200, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"expires_in": _TEN, "expires_at": None},
    ],
    ids=str,
)
async def test_a_deadline_that_makes_no_sense_is_refused(kv_db: kv.Database, options: dict[str, Any]) -> None:
    """Past, naive, doubled or of another type; nothing is sent."""
    await kv_db.prepare(Item)

    with refused(kv.ValidationError):
        await Item.objects.using(kv_db).save(Item("s", "a"), **options)


@pytest.mark.kv_requires(expiry=kv.Expiry.EMULATED)
async def test_purge_removes_what_expired_and_nothing_else(kv_db: kv.Database, kv_clock: VirtualClock) -> None:
    """It answers how many records it removed; once they are removed there is nothing left to do."""
    objects = Item.objects.using(kv_db)
    await _two(kv_db)
    for number in range(300):
        await objects.save(Item("t", f"{number:03}"), expires_in=timedelta(seconds=number + 1))
    await Lease.objects.using(kv_db).save(Lease("s", "a"))

    # Where the store can't compare versions it has to be forced: here nobody else writes.
    force = not kv_db.capabilities.conditional
    assert await kv_db.purge_expired(force=force) == 0
    kv_clock.advance(150)
    assert await kv_db.purge_expired(Lease, force=force) == 0
    assert await kv_db.purge_expired(Item, force=force) == 151
    assert await kv_db.purge_expired(force=force) == 0

    found = await objects.get_many([("t", f"{number:03}") for number in range(300)])
    assert names(found)[149:151] == [None, "150"]
    assert await Lease.objects.using(kv_db).exists("s", "a")
