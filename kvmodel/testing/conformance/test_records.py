"""Single records: written, read, changed and deleted, each call by its own rules."""

from __future__ import annotations

from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, names, refused

pytestmark = pytest.mark.asyncio

conditional = pytest.mark.kv_requires("conditional")


async def test_what_was_written_is_read(kv_db: kv.Database) -> None:
    """All fields come back; a key that is not there is ``NotFound``, or ``None``."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 3, "note", ["x", "y"]))

    assert await objects.get("s", "a") == Item("s", "a", 3, "note", ["x", "y"])
    assert await objects.find("s", "a") == Item("s", "a", 3, "note", ["x", "y"])
    assert await objects.exists("s", "a")
    assert await objects.find("s", "b") is None
    assert not await objects.exists("s", "b")
    with pytest.raises(kv.NotFound) as caught:
        await objects.get("s", "b")
    assert (caught.value.table, caught.value.key) == ("items", ("s", "b"))


async def test_many_are_read_in_the_order_asked(kv_db: kv.Database) -> None:
    """One answer a key, repetitions and gaps included, however many keys there are."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", f"{number:04}", number) for number in range(300)])
    wanted = [f"{number:04}" for number in (299, 0, 5, 5, 999, *range(0, 300, 2))]

    found = await objects.get_many([("s", name) for name in wanted])

    assert names(found) == [None if name == "0999" else name for name in wanted]
    assert await objects.get_many([]) == []


async def test_a_new_object_is_saved_whatever_is_there(kv_db: kv.Database) -> None:
    """No read comes before, and no check."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1))
    await kv_db.prepare(Item)

    with kv.budget(round_trips=1):
        await objects.save(Item("s", "a", 2))

    assert (await objects.get("s", "a")).count == 2


@conditional
async def test_create_wants_its_key_free(kv_db: kv.Database) -> None:
    """A taken key is ``AlreadyExists``, a kind of ``Conflict``, and what was there stays."""
    objects = Item.objects.using(kv_db)
    created = await objects.create(Item("s", "a", 1))

    with pytest.raises(kv.AlreadyExists) as caught:
        await objects.create(Item("s", "a", 2))

    assert isinstance(caught.value, kv.Conflict)
    assert set(caught.value.keys) <= {("items", ("s", "a"))}
    assert await objects.get("s", "a") == created == Item("s", "a", 1)


@conditional
async def test_a_loaded_object_replaces_what_was_loaded(kv_db: kv.Database) -> None:
    """Anything else there is a ``Conflict`` and stays; ``force`` skips the check."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a"))
    mine, yours = await objects.get("s", "a"), await objects.get("s", "a")
    yours.count = 1
    await objects.save(yours)

    mine.count = 2
    with pytest.raises(kv.Conflict):
        await objects.save(mine)
    assert (await objects.get("s", "a")).count == 1
    await objects.save(mine, force=True)
    assert (await objects.get("s", "a")).count == 2
    mine.count = 3
    await objects.save(mine)
    assert (await objects.get("s", "a")).count == 3


@conditional
async def test_a_loaded_object_does_not_come_back_to_life(kv_db: kv.Database) -> None:
    """Saving what was deleted meanwhile is a ``Conflict``."""
    objects = Item.objects.using(kv_db)
    item = await objects.create(Item("s", "a"))
    await objects.delete("s", "a")

    with pytest.raises(kv.Conflict):
        await objects.save(item)

    assert not await objects.exists("s", "a")


@conditional
async def test_versions_never_repeat(kv_db: kv.Database) -> None:
    """The same content again, after a change back, a deletion or an expiry, is another version."""
    objects = Item.objects.using(kv_db)
    seen = [kv.version(await objects.create(Item("s", "a")))]
    stale = await objects.get("s", "a")

    for _ in range(3):
        seen.append(kv.version(await objects.update("s", "a", count=1)))
        seen.append(kv.version(await objects.update("s", "a", count=0)))
        await objects.delete("s", "a")
        seen.append(kv.version(await objects.create(Item("s", "a"))))

    assert len(set(seen)) == len(seen)
    assert kv.version(await objects.get("s", "a")) == seen[-1]
    with pytest.raises(kv.Conflict):
        await objects.save(stale)
    with pytest.raises(kv.Conflict):
        await objects.delete(stale)


@conditional
async def test_a_version_token_stands_for_its_version(kv_db: kv.Database) -> None:
    """``if_version`` compares, whatever the object knows."""
    objects = Item.objects.using(kv_db)
    token = kv.version(await objects.create(Item("s", "a")))

    await objects.save(Item("s", "a", 1), if_version=token)
    with pytest.raises(kv.Conflict):
        await objects.save(Item("s", "a", 2), if_version=token)
    await objects.delete("s", "a")
    with pytest.raises(kv.Conflict):
        await objects.save(Item("s", "a", 3), if_version=token)

    assert not await objects.exists("s", "a")


@conditional
async def test_update_changes_what_is_there(kv_db: kv.Database) -> None:
    """Values and callables of the old value; ``NotFound`` where nothing is."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1, "old", ["x"]))

    changed = await objects.update("s", "a", count=lambda count: count + 1, note=None)

    assert changed == await objects.get("s", "a") == Item("s", "a", 2, None, ["x"])
    with pytest.raises(kv.NotFound):
        await objects.update("s", "b", count=1)
    assert not await objects.exists("s", "b")


@pytest.mark.parametrize("changes", [{"cuont": 1}, {"name": "b"}, {"count": "1"}, {"tags": [1]}], ids=str)
@conditional
async def test_a_refused_update_writes_nothing(kv_db: kv.Database, changes: dict[str, Any]) -> None:
    """Unknown fields, key fields and wrong types."""
    objects = Item.objects.using(kv_db)
    await objects.create(Item("s", "a", 1))

    with pytest.raises(kv.ValidationError):
        await objects.update("s", "a", **changes)

    assert await objects.get("s", "a") == Item("s", "a", 1)


async def test_delete_by_key(kv_db: kv.Database) -> None:
    """It answers whether anything was there, or ``None`` where the store does not tell."""
    objects = Item.objects.using(kv_db)
    await objects.save_many([Item("s", "a"), Item("s", "b")])

    assert await objects.delete("s", "a") in (True, None)
    assert await objects.delete("s", "a") in (False, None)

    assert names(await objects.get_many([("s", "a"), ("s", "b")])) == [None, "b"]


@conditional
async def test_delete_of_a_loaded_object_is_checked(kv_db: kv.Database) -> None:
    """It goes only if it is what was loaded; ``force`` skips the check."""
    objects = Item.objects.using(kv_db)
    item = await objects.create(Item("s", "a"))
    await objects.update("s", "a", count=1)

    with pytest.raises(kv.Conflict):
        await objects.delete(item)
    assert await objects.exists("s", "a")
    await objects.delete(item, force=True)
    assert not await objects.exists("s", "a")


async def test_refresh_reads_in_place(kv_db: kv.Database) -> None:
    """The object has what is stored now; ``NotFound`` when that is nothing."""
    objects = Item.objects.using(kv_db)
    item = await objects.save(Item("s", "a"))
    await objects.save(Item("s", "a", 5, tags=["z"]))

    await objects.refresh(item)

    assert item == Item("s", "a", 5, tags=["z"])
    await objects.delete("s", "a")
    with pytest.raises(kv.NotFound):
        await objects.refresh(item)


async def test_a_refused_value_is_not_sent(kv_db: kv.Database) -> None:
    """What could not be read back is a ``ValidationError`` that names the field."""
    await kv_db.prepare(Item)
    wrong: Any = "three"

    with refused(kv.ValidationError):
        await Item.objects.using(kv_db).save(Item("s", "a", wrong))


# --- denied -----------------------------------------------------------------------------------------------------------


@pytest.mark.kv_denied("conditional")
async def test_conditions_are_refused(kv_db: kv.Database) -> None:
    """Whatever relies on what is there is refused up front; a weaker write is never done in its place."""
    objects = Item.objects.using(kv_db)
    item = await objects.save(Item("s", "a", 1))

    with refused():
        await objects.create(Item("s", "b"))
    with refused():
        await objects.save(item)
    with refused():
        await objects.delete(item)
    with refused():
        await objects.save(Item("s", "a"), if_version=kv.version(item))

    assert await objects.get("s", "a") == Item("s", "a", 1)
    assert not await objects.exists("s", "b")


@pytest.mark.kv_denied("conditional")
async def test_an_update_without_conditions_writes_nothing(kv_db: kv.Database) -> None:
    """``update`` and ``expire`` would lose what others write meanwhile: refused before the read, too."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a", 1))

    with refused():
        await objects.update("s", "a", count=2)
    with refused():
        await objects.expire("s", "a", expires_at=None)

    assert await objects.get("s", "a") == Item("s", "a", 1)


@pytest.mark.kv_denied("conditional")
async def test_what_needs_no_condition_works(kv_db: kv.Database) -> None:
    """Writes of new objects, forced ones and deletes by key."""
    objects = Item.objects.using(kv_db)
    item = await objects.save(Item("s", "a", 1))
    item.count = 2

    await objects.save(item, force=True)
    assert (await objects.get("s", "a")).count == 2
    await objects.delete(item, force=True)
    assert not await objects.exists("s", "a")
