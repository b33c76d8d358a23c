"""Tables that kvmodel creates: what SQL users see of them."""

from __future__ import annotations

import asyncio
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.picodata import LocalPicodata, Mishap
from tests.drivers.picodata.helpers import Item, forget, native, statements
from tests.drivers.rows import condition


class Log(kv.Model, table="logs"):
    """No partition fields."""

    number: int = kv.clustering_key()
    text: str = ""


class Texts(kv.Model, table="texts"):
    """Everything as text."""

    id: str = kv.partition_key(column="text")
    at: int = kv.clustering_key(column="text")
    word: str | None = kv.field(default=None, column="text")
    number: int | None = kv.field(default=None, column="text")
    exact: Decimal | None = kv.field(default=None, column="text")
    real: float | None = kv.field(default=None, column="text")
    data: bytes | None = None
    day: date | None = None
    hour: time | None = None
    span: timedelta | None = None


async def test_a_model_is_a_table_with_typed_columns(db: kv.Database, cluster: LocalPicodata) -> None:
    """One column a field, partition fields alone in DISTRIBUTED BY, partition and clustering fields the primary key."""
    await Item.objects.create(Item("red", "ada", 36))

    (row,) = await native(db).fetch('SELECT "shelf", "name", "count", "note" FROM items')
    assert tuple(row) == ("red", "ada", 36, None)
    table = cluster.catalogue.tables["items"]
    assert table.sharding == ["shelf"]
    assert table.key_names == ["shelf", "name"]
    assert [(column.name, column.field_type, column.nullable) for column in table.columns] == [
        ("shelf", "string", False),
        ("name", "string", False),
        ("count", "integer", True),
        ("note", "string", True),
        ("kv_version", "string", False),
        ("kv_expires", "integer", False),
        ("kv_schema", "integer", True),
    ]


async def test_a_model_without_partition_fields_has_a_constant_column(db: kv.Database, cluster: LocalPicodata) -> None:
    """First in the primary key, and alone in DISTRIBUTED BY."""
    await Log.objects.save_many([Log(3), Log(1), Log(2)])

    table = cluster.catalogue.tables["logs"]
    assert table.sharding == ["kv_partition"]
    assert table.key_names == ["kv_partition", "number"]
    assert [log.number for log in await Log.objects.range(first=2)] == [2, 3]
    assert {row[0] for row in await native(db).fetch('SELECT "kv_partition" FROM logs')} == {0}
    async with db.unit_of_work():
        (await Log.objects.get(1)).text = "x"
        (await Log.objects.get(2)).text = "y"


async def test_the_version_is_the_stamp(db: kv.Database) -> None:
    """It does not come back when a record is deleted and made again."""
    versions = set()
    for _ in range(3):
        versions.add(kv.version(await Item.objects.create(Item("s", "a"))))
        await Item.objects.delete("s", "a")
    assert len(versions) == 3
    await Item.objects.create(Item("s", "a"))
    (row,) = await native(db).fetch("SELECT kv_version FROM items")
    assert len(row[0]) == 24


async def test_text_columns_hold_what_native_ones_refuse(db: kv.Database) -> None:
    """U+0000, ints of any size, NaN, Decimals of any size: in keys and values, in order."""
    values = [
        Texts("a\0", -(2**70), "\0\1x", 10**40, Decimal("1E+50"), float("nan")),
        Texts("a\0", 5, "", -(10**40), Decimal("-0"), -0.0),
        Texts("a\0", 2**70, None, 0, Decimal("NaN"), float("-inf")),
    ]
    await Texts.objects.save_many(values)

    found = await Texts.objects.range("a\0")
    assert [each.at for each in found] == [-(2**70), 5, 2**70]
    assert [repr(each) for each in found] == [repr(each) for each in values]
    assert [each.at for each in await Texts.objects.range("a\0", after=4)] == [5, 2**70]


async def test_texts_keep_the_order_of_values(db: kv.Database) -> None:
    """SQL may sort by them: those of other types without a native column too."""
    rows = [
        Texts("s", number, "a" + "\0" * number, number - 10**number, Decimal(number) - 1, number - 1.5)
        for number in range(4)
    ]
    for number, row in enumerate(rows):
        row.data, row.day = b"\0" * number, date(2024, 1, number + 1)
        row.hour, row.span = time(number), timedelta(hours=number - 2)
    await Texts.objects.save_many(rows)

    for name in ("word", "number", "exact", "real", "data", "day", "hour", "span"):
        found = [row[0] for row in await native(db).fetch(f'SELECT "at" FROM texts ORDER BY "{name}"')]
        expected = [row.at for row in sorted(rows, key=lambda row: getattr(row, name))]
        assert [(await Texts.objects.range("s"))[index].at for index in range(4)] == [0, 1, 2, 3]
        assert found == [f"pa{at}" for at in expected], name
    assert await Texts.objects.range("s") == rows


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 2**63}, "64 bits"),
        ({"count": -(2**63) - 1}, "64 bits"),
        ({"note": "a\0"}, r"U\+0000"),
        ({"name": "a\0"}, r"U\+0000"),
    ],
    ids=str,
)
async def test_native_columns_refuse(
    db: kv.Database, cluster: LocalPicodata, changes: dict[str, object], words: str
) -> None:
    """What they can't hold, with the remedy, before anything is sent."""
    await db.prepare(Item)
    forget(cluster)

    with pytest.raises(kv.ValidationError, match=words) as caught:
        await Item.objects.save(kv.replace(Item("s", "a"), **changes) if "name" not in changes else Item("s", "a\0"))

    assert 'column="text"' in caught.value.message
    assert caught.value.table == "items"
    assert statements(cluster) == []


async def test_decimal_keys_are_never_rounded(db: kv.Database) -> None:
    """28 digits fit, one more is refused; equal ones are one key, however they are written."""

    class Priced(kv.Model, table="priced"):
        price: Decimal = kv.partition_key()
        name: str = ""

    objects = Priced.objects.using(db)
    longest = Decimal("1234567890123456789012345.678")
    await objects.save(Priced(longest))
    assert (await objects.get(longest)).price == longest
    for refused in (Decimal(12345678901234567890123456789), Decimal("1E-29"), Decimal("1E+28"), Decimal("Infinity")):
        with pytest.raises(kv.ValidationError):
            await objects.save(Priced(refused))
    await objects.save(Priced(Decimal("1.50"), "x"))
    assert (await objects.get(Decimal("1.5"))).name == "x"
    assert await native(db).fetch('SELECT "price" FROM "priced" WHERE "name" = $1', "x") == [(Decimal("1.5"),)]


async def test_another_word_for_a_column_is_refused(db: kv.Database) -> None:
    """``column=`` is ``"text"``; what a column is called is said elsewhere."""

    class Odd(kv.Model, table="odd"):
        id: int = kv.partition_key()
        text: str = kv.field(default="", column="payload")

    with pytest.raises(kv.SchemaError, match="columns"):
        await db.prepare(Odd)


@pytest.mark.parametrize("name", ["kv_version", "bucket_id", "kv_partition"])
async def test_columns_of_ours_are_taken(db: kv.Database, name: str) -> None:
    """A field of that name is refused."""
    options = {"picodata": {"columns": {"number": name}}}

    class Taken(kv.Model, table="taken", store_options=options):
        id: int = kv.partition_key()
        number: int = 0

    with pytest.raises(kv.SchemaError, match=name):
        await db.prepare(Taken)


# --- preparing --------------------------------------------------------------------------------------------------------


async def test_preparing_twice_creates_once(db: kv.Database, cluster: LocalPicodata) -> None:
    """And a second connection finds the table as it should be."""
    await db.prepare(Item)
    await db.prepare(Item)
    async with kv.connect(cluster.url) as other:
        await other.prepare(Item)
    assert sum(text.startswith("CREATE TABLE") for text in statements(cluster)) == 1


async def test_two_programs_prepare_at_once(cluster: LocalPicodata) -> None:
    """Both succeed, whoever creates the table."""
    async with kv.connect(cluster.url) as one, kv.connect(cluster.url) as two:
        await asyncio.gather(one.prepare(Item), two.prepare(Item))
        await Item.objects.using(one).save(Item("s", "a"))
        assert await Item.objects.using(two).exists("s", "a")


async def test_the_column_of_a_new_field_is_added(cluster: LocalPicodata, db: kv.Database) -> None:
    """To a table of our own; the rows that are there lack it, and its default stands in."""
    await Item.objects.using(db).save(Item("s", "a", 3))

    class Later(kv.Model, table="items"):
        shelf: str = kv.partition_key()
        name: str = kv.clustering_key()
        count: int = 0
        colour: str = "grey"

    async with kv.connect(cluster.url) as other:
        assert await Later.objects.using(other).get("s", "a") == Later("s", "a", 3)
        await Later.objects.using(other).save(Later("s", "b", 4, "red"))
    await Item.objects.using(db).update("s", "b", count=5)
    async with kv.connect(cluster.url) as other:
        assert await Later.objects.using(other).get("s", "b") == Later("s", "b", 5, "red")


async def test_statements_prepared_before_a_change_are_prepared_again(cluster: LocalPicodata, db: kv.Database) -> None:
    """The server refuses them with a code of its own, before they run."""
    await Item.objects.using(db).save(Item("s", "a", 1))
    for _ in range(5):
        await Item.objects.using(db).get("s", "a")
    await native(db).execute('ALTER TABLE "items" ADD COLUMN "more" TEXT')

    for _ in range(5):
        await Item.objects.using(db).update("s", "a", count=lambda count: count + 1)
    assert (await Item.objects.using(db).get("s", "a")).count == 6


async def test_without_preparing_nothing_is_created(cluster: LocalPicodata) -> None:
    """``prepare=never``: a missing table is an error that says what to do, and an existing one is used."""
    async with kv.connect(cluster.url, prepare="never") as db:
        with pytest.raises(kv.SchemaError, match="prepare"):
            await Item.objects.using(db).get("s", "a")
        assert not any(text.startswith("CREATE") for text in statements(cluster))
        await db.prepare(Item)
        await Item.objects.using(db).save(Item("s", "a"))
    async with kv.connect(cluster.url, prepare="never") as db:
        assert await Item.objects.using(db).exists("s", "a")


async def test_a_cluster_that_does_not_apply_in_time(cluster: LocalPicodata, db: kv.Database) -> None:
    """``TimedOut``: it may still be at it; preparing again is what helps."""
    held = asyncio.Event()
    for node in cluster.nodes:
        node.mishaps.append(Mishap(hold=held, matches="CREATE TABLE"))
    with kv.timeout(0.2), pytest.raises(kv.TimedOut, match="prepare again"):
        await db.prepare(Item)
    held.set()
    await db.prepare(Item)


async def test_namespaces_are_tables_of_their_own(db: kv.Database, cluster: LocalPicodata) -> None:
    """Named after the table and a digest of the namespace, however long that is."""
    for name in ("a", "b", "a/b", "é" * 100):
        await Item.objects.using(db.namespace(name)).save(Item("s", name[:3]))
    await condition(lambda: True)

    names = [name for name in cluster.catalogue.tables if name.startswith("items_ns_")]
    assert len(set(names)) == 4
    assert all(len(name) <= 63 for name in names)

    class Reserved(kv.Model, table=names[0]):
        id: int = kv.partition_key()

    with pytest.raises(kv.SchemaError, match="namespaces"):
        await db.prepare(Reserved)


async def test_schema_numbers(db: kv.Database, cluster: LocalPicodata) -> None:
    """Each row says by which number it was written, so that older ones are upgraded."""
    await Item.objects.using(db).save(Item("s", "a", 3))

    class Second(kv.Model, table="items", schema=2):
        shelf: str = kv.partition_key()
        name: str = kv.clustering_key()
        count: int = 0
        note: str | None = None

        @kv.upgrade(1)
        @staticmethod
        def _double(values: dict[str, Any]) -> dict[str, Any]:
            return {**values, "count": values["count"] * 2}

    objects = Second.objects.using(db)
    assert (await objects.get("s", "a")).count == 6
    await objects.save(await objects.get("s", "a"))
    assert (await objects.get("s", "a")).count == 6
