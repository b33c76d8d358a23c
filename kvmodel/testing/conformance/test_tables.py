"""Tables and namespaces: whole tables can be read, and none shows through in another."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Bare, Item, Log, Reading, gather_all, names, refused
from kvmodel.testing.plugin import Connect

pytestmark = pytest.mark.asyncio

scannable = pytest.mark.kv_requires("scan_table")


# --- whole tables -----------------------------------------------------------------------------------------------------


@scannable
async def test_scan_reads_every_partition(kv_db: kv.Database) -> None:
    """Every record once, in an order of the store's own choice that is the same from page to page."""
    objects = Item.objects.using(kv_db)
    keys = {(f"shelf {number % 7}", f"{number:04}") for number in range(700)}
    await objects.save_many(Item(*key) for key in keys)
    await Reading.objects.using(kv_db).save(Reading("shelf 1", "0001", 1))

    found = [(item.shelf, item.name) async for item in objects.scan()]

    assert len(found) == len(keys)
    assert set(found) == keys
    assert await objects.scan().count() == len(keys)
    assert [(item.shelf, item.name) for item in await objects.scan()] == found


@scannable
async def test_scan_takes_a_limit(kv_db: kv.Database) -> None:
    """And answers the same records with it as without."""
    objects = Item.objects.using(kv_db)
    await objects.save_many(Item(f"{number % 3}", f"{number:03}") for number in range(300))
    everything = await objects.scan()

    for limit in (0, 1, 150, 299, 300, 301):
        assert await objects.scan(limit=limit) == everything[:limit]
        assert await gather_all(objects.scan(limit=limit)) == everything[:limit]
    with pytest.raises(kv.ValidationError):
        objects.scan(limit=-1)


@scannable
async def test_scan_of_an_empty_table(kv_db: kv.Database) -> None:
    """Its neighbours in the store are none of its records."""
    await Item.objects.using(kv_db).save(Item("s", "a"))

    assert await Bare.objects.using(kv_db).scan() == []
    assert await Log.objects.using(kv_db).scan().count() == 0


@scannable
async def test_a_scan_is_deleted_page_by_page(kv_db: kv.Database) -> None:
    """Of this table, every partition; of others, nothing."""
    await Item.objects.using(kv_db).save_many(Item(f"{number % 3}", f"{number:03}") for number in range(300))
    await Bare.objects.using(kv_db).save(Bare("a"))

    assert await Item.objects.using(kv_db).scan().delete() == 300
    assert await Item.objects.using(kv_db).scan() == []
    assert await Bare.objects.using(kv_db).exists("a")


@pytest.mark.kv_denied("scan_table")
async def test_scans_are_refused(kv_db: kv.Database) -> None:
    """Every way of asking for a whole table."""
    objects = Item.objects.using(kv_db)
    await objects.save(Item("s", "a"))

    for query in (objects.scan(), objects.scan(limit=1)):
        with refused():
            await query
        with refused():
            await gather_all(query)
        with refused():
            await query.count()
        with refused():
            await query.first()
        with refused():
            await query.delete()


# --- namespaces -------------------------------------------------------------------------------------------------------


async def test_namespaces_are_apart(kv_db: kv.Database) -> None:
    """The same key is another record in each, below and beside each other; what one deletes the others keep."""
    views = [kv_db, kv_db.namespace("a"), kv_db.namespace("ab"), kv_db.namespace("a/b"), kv_db.namespace("b")]
    for place, view in enumerate(views):
        await Item.objects.using(view).save(Item("s", "x", place))
        await Item.objects.using(view).save(Item("s", f"only {place}", place))

    for place, view in enumerate(views):
        objects = Item.objects.using(view)
        assert (await objects.get("s", "x")).count == place
        if kv_db.capabilities.ordered:
            assert names(await objects.range("s")) == [f"only {place}", "x"]
        if kv_db.capabilities.scan_table:
            assert len(await objects.scan()) == 2
    await Item.objects.using(views[1]).delete("s", "x")
    assert [await Item.objects.using(view).exists("s", "x") for view in views] == [True, False, True, True, True]


async def test_a_view_is_the_same_wherever_it_is_made(kv_db: kv.Database) -> None:
    """A path of names is the path of views."""
    await Item.objects.using(kv_db.namespace("a").namespace("b")).save(Item("s", "x"))

    assert await Item.objects.using(kv_db.namespace("a/b")).exists("s", "x")


@pytest.mark.parametrize("name", ["", "/", "a//b", "a\0", "a\n", "x" * 300])
async def test_a_namespace_has_a_printable_name(kv_db: kv.Database, name: str) -> None:
    """Anything else is refused when the view is made."""
    with pytest.raises(kv.ValidationError):
        kv_db.namespace(name)


# --- what the store knows of a table ----------------------------------------------------------------------------------


class _ByNumber(kv.Model, table="items"):
    """The table of ``Item``, with a clustering key of another type."""

    shelf: str = kv.partition_key()
    name: int = kv.clustering_key()


class _Downwards(kv.Model, table="items"):
    """The table of ``Item``, in the other direction."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key(descending=True)


class _Longer(kv.Model, table="items"):
    """The table of ``Item``, with one more component."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    more: str = kv.clustering_key()


class _Wider(kv.Model, table="items"):
    """The table of ``Item``, with partitions of two components."""

    shelf: str = kv.partition_key()
    name: str = kv.partition_key()


class _Later(kv.Model, table="items"):
    """The table of ``Item`` as a later program declares it: other values, same key."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    colour: str = "grey"


@pytest.mark.kv_requires("catalogue")
@pytest.mark.parametrize("some", [_ByNumber("s", 1), _Downwards("s", "x"), _Longer("s", "x", "y"), _Wider("s", "x")])
async def test_another_declaration_of_the_key_is_refused(kv_connect: Connect, some: kv.Model) -> None:
    """Its keys would be found by nobody: ``SchemaError`` for every other connection, before anything is written."""
    db, other = await kv_connect(), await kv_connect()
    await Item.objects.using(db).save(Item("s", "a"))
    if isinstance(some, _Downwards) and db.capabilities.typed_columns:
        pytest.skip("columns can be read in either direction, so that this is the same table")

    with pytest.raises(kv.SchemaError):
        await other.prepare(type(some))
    with pytest.raises(kv.SchemaError):
        await type(some).objects.using(other).save(some)

    assert await Item.objects.using(db).exists("s", "a")


async def test_other_values_are_no_other_table(kv_connect: Connect) -> None:
    """Fields outside the key come and go: missing ones take their default."""
    db, other = await kv_connect(), await kv_connect()
    await Item.objects.using(db).save(Item("s", "a", 3))

    assert await _Later.objects.using(other).get("s", "a") == _Later("s", "a", 3)


async def test_another_namespace_has_tables_of_its_own(kv_db: kv.Database) -> None:
    """What one namespace declares binds no other."""
    await Item.objects.using(kv_db).save(Item("s", "a"))

    await _ByNumber.objects.using(kv_db.namespace("other")).save(_ByNumber("s", 1))

    assert await _ByNumber.objects.using(kv_db.namespace("other")).exists("s", 1)
