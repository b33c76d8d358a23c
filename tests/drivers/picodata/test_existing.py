"""Tables that were created by SQL are mapped as they are."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.picodata import LocalPicodata
from tests.drivers.picodata.helpers import Item, forget, native, statements

_UTC = timezone.utc

WAREHOUSE = """
CREATE TABLE warehouse (id INTEGER NOT NULL, item TEXT NOT NULL, type TEXT, PRIMARY KEY (id))
    USING memtx DISTRIBUTED BY (id)
"""
SECTIONS = """
CREATE TABLE sections (id INTEGER NOT NULL, section TEXT NOT NULL, item TEXT, amount UNSIGNED, secret TEXT,
    PRIMARY KEY (section, id)) USING memtx DISTRIBUTED BY (section)
"""


class Warehouse(kv.Model, table="warehouse"):
    """The manual's table."""

    id: int = kv.partition_key()
    item: str
    type: str | None = None


class Section(kv.Model, table="sections"):
    """A table with a column that the model lacks."""

    section: str = kv.partition_key()
    id: int = kv.clustering_key()
    item: str | None = None
    amount: int | None = None


@pytest.fixture
async def old(db: kv.Database) -> kv.Database:
    """A database in which these tables are."""
    await native(db).execute(WAREHOUSE)
    await native(db).execute(SECTIONS)
    return db


async def test_rows_of_sql_are_objects(old: kv.Database) -> None:
    """What SQL wrote is read by get and scan, and what is written is a row that SQL reads."""
    insert = "INSERT INTO warehouse (id, item, type) VALUES ($1, $2, $3)"
    await native(old).execute(insert, 1, "bricks", "heavy")
    await native(old).execute(insert, 2, "pots", None)

    assert await Warehouse.objects.get(1) == Warehouse(1, "bricks", "heavy")
    assert await Warehouse.objects.get(2) == Warehouse(2, "pots")
    await Warehouse.objects.create(Warehouse(3, "bees", "light"))
    assert [each.id for each in await Warehouse.objects.scan()] == [1, 2, 3]
    rows = await native(old).fetch("SELECT * FROM warehouse WHERE id = $1", 3)
    assert [dict(row) for row in rows] == [{"id": 3, "item": "bees", "type": "light"}]


async def test_the_content_is_the_version(old: kv.Database) -> None:
    """Without a column for it: all mapped columns are compared, NULL among them."""
    await Warehouse.objects.create(Warehouse(1, "bricks"))
    mine, same = await Warehouse.objects.get(1), await Warehouse.objects.get(1)
    assert kv.version(mine) == kv.version(same)
    mine.type = "heavy"
    await Warehouse.objects.save(mine)

    same.item = "stones"
    with pytest.raises(kv.Conflict):
        await Warehouse.objects.save(same)
    with pytest.raises(kv.Conflict):
        await Warehouse.objects.delete(same)
    await native(old).execute("UPDATE warehouse SET type = NULL WHERE id = $1", 1)
    with pytest.raises(kv.Conflict):
        await Warehouse.objects.save(mine)
    await Warehouse.objects.save(same)  # Its content is that of the row again.
    assert await Warehouse.objects.get(1) == Warehouse(1, "stones")
    with pytest.raises(kv.Conflict):
        await Warehouse.objects.save(Warehouse(1, "x"), if_version=kv.version(mine))


async def test_columns_that_the_model_lacks_are_left_alone(old: kv.Database) -> None:
    """However a row is written: saved, saved by force, replaced, updated, in a unit of work or in a batch."""
    insert = "INSERT INTO sections (section, id, item, amount, secret) VALUES ($1, $2, $3, $4, $5)"
    for number in range(4):
        await native(old).execute(insert, "a", number, "x", 1, "kept")
    objects = Section.objects

    loaded = await objects.get("a", 0)
    loaded.item = "saved"
    await objects.save(loaded)
    await objects.save(loaded, force=True)
    await objects.save(Section("a", 1, "replaced"))
    await objects.update("a", 1, amount=2)
    await objects.save_many([Section("a", 2, "batch"), Section("a", 9, "new")])
    async with old.unit_of_work() as uow:
        uow.put(Section("a", 3, "unit"))

    rows = await native(old).fetch("SELECT id, item, amount, secret FROM sections ORDER BY id")
    assert [tuple(row) for row in rows] == [
        (0, "saved", 1, "kept"),
        (1, "replaced", 2, "kept"),
        (2, "batch", None, "kept"),
        (3, "unit", None, "kept"),
        (9, "new", None, None),
    ]


async def test_nothing_relies_on_what_is_not_mapped(old: kv.Database) -> None:
    """A change of a column that the model lacks is no conflict."""
    await Section.objects.create(Section("a", 1, "x"))
    loaded = await Section.objects.get("a", 1)
    await native(old).execute("UPDATE sections SET secret = $1 WHERE section = $2 AND id = $3", "new", "a", 1)

    loaded.item = "y"
    await Section.objects.save(loaded)


async def test_ranges_of_an_existing_table(old: kv.Database) -> None:
    """Keyed by section and id, distributed by section."""
    await Section.objects.save_many([Section(shelf, number) for shelf in "ab" for number in range(5)])

    assert [each.id for each in await Section.objects.range("a", first=2, limit=2)] == [2, 3]
    assert [each.id for each in await Section.objects.range("b", before=2, reverse=True)] == [1, 0]


async def test_expiry_without_a_column_is_an_error(old: kv.Database, cluster: LocalPicodata) -> None:
    """``SchemaError``, before anything is sent, with the option that names one."""
    await old.prepare(Warehouse)
    forget(cluster)

    with pytest.raises(kv.SchemaError, match="expires_column"):
        await Warehouse.objects.save(Warehouse(1, "x"), expires_in=timedelta(seconds=1))

    assert statements(cluster) == []


async def test_unsigned_columns_take_no_negative_numbers(old: kv.Database, cluster: LocalPicodata) -> None:
    """Refused before anything is sent."""
    await old.prepare(Section)
    forget(cluster)

    with pytest.raises(kv.ValidationError, match="UNSIGNED"):
        await Section.objects.save(Section("a", 1, amount=-1))

    assert statements(cluster) == []


async def test_none_in_a_column_that_is_not_null(db: kv.Database) -> None:
    """Refused by the mapper, not by the server; NULL in a field that is not nullable is a missing one."""
    await native(db).execute(
        'CREATE TABLE "strict" ("id" INTEGER NOT NULL, "a" TEXT NOT NULL, "b" TEXT, PRIMARY KEY ("id"))'
    )

    class Strict(kv.Model, table="strict"):
        id: int = kv.partition_key()
        a: str | None = None
        b: str = "default"

    with pytest.raises(kv.ValidationError, match="NOT NULL"):
        await Strict.objects.using(db).save(Strict(1))
    await native(db).execute('INSERT INTO "strict" ("id", "a") VALUES ($1, $2)', 1, "x")
    assert await Strict.objects.using(db).get(1) == Strict(1, "x", "default")


async def test_required_columns_that_the_model_lacks(db: kv.Database, cluster: LocalPicodata) -> None:
    """Rows can be changed and not inserted: told before anything is sent."""
    await native(db).execute(
        'CREATE TABLE "r" ("id" INTEGER NOT NULL, "a" TEXT, "must" TEXT NOT NULL, PRIMARY KEY ("id"))'
    )
    await native(db).execute('INSERT INTO "r" ("id", "a", "must") VALUES ($1, $2, $3)', 1, "x", "y")

    class Required(kv.Model, table="r"):
        id: int = kv.partition_key()
        a: str | None = None

    objects = Required.objects.using(db)
    await objects.update(1, a="z")
    forget(cluster)
    with pytest.raises(kv.SchemaError, match="must"):
        await objects.create(Required(2))
    assert statements(cluster) == []


# --- columns for version and deadline ---------------------------------------------------------------------------------


async def test_existing_columns_for_version_and_deadline(db: kv.Database, cluster: LocalPicodata) -> None:
    """Named by the class line; the version may be text or a number, the deadline a number or a moment."""
    for name, version, expires in (
        ("one", "TEXT", "INTEGER"),
        ("two", "INTEGER NOT NULL", "DATETIME"),
        ("three", "TEXT NOT NULL", "DATETIME NOT NULL"),
        ("four", "TEXT", "INTEGER NOT NULL"),
    ):
        await native(db).execute(
            f'CREATE TABLE "{name}" ("id" INTEGER NOT NULL, "a" TEXT, "ver" {version}, "until" {expires},'
            ' PRIMARY KEY ("id"))'
        )
        options = {"picodata": {"version_column": "ver", "expires_column": "until"}}

        class Row(kv.Model, table=name, store_options=options):
            id: int = kv.partition_key()
            a: str = ""

        clock = VirtualClock()
        async with kv.connect(cluster.url, clock=clock) as mine:
            await _use_both(Row.objects.using(mine), Row, clock)
            assert await mine.purge_expired(Row) == 1
            assert await mine.purge_expired(Row) == 0


async def _use_both(objects: Any, row: Any, clock: VirtualClock) -> None:
    first = await objects.create(row(1, "x"), expires_in=timedelta(seconds=10))
    assert kv.version(await objects.get(1)) == kv.version(first)
    assert kv.expires_at(await objects.get(1)) == clock.now + timedelta(seconds=10)
    await objects.update(1, a="y")
    with pytest.raises(kv.Conflict):
        await objects.save(first)
    await objects.save(row(2, "lasting"))
    assert kv.expires_at(await objects.get(2)) is None
    clock.advance(10)
    assert await objects.find(1) is None
    assert [each.id for each in await objects.scan()] == [2]
    assert await objects.scan().count() == 1
    await objects.create(row(1, "again"))
    await objects.save(row(3), expires_in=timedelta(seconds=1))
    clock.advance(1)


async def test_a_row_without_a_version_is_compared_as_null(db: kv.Database) -> None:
    """Rows that SQL inserted beside the stamp: the first of two writers wins."""
    await native(db).execute('CREATE TABLE "v" ("id" INTEGER NOT NULL, "a" TEXT, "ver" TEXT, PRIMARY KEY ("id"))')
    await native(db).execute('INSERT INTO "v" ("id", "a") VALUES ($1, $2)', 1, "x")

    class Versioned(kv.Model, table="v", store_options={"picodata": {"version_column": "ver"}}):
        id: int = kv.partition_key()
        a: str = ""

    objects = Versioned.objects.using(db)
    one, two = await objects.get(1), await objects.get(1)
    one.a, two.a = "one", "two"
    await objects.save(one)
    with pytest.raises(kv.Conflict):
        await objects.save(two)


# --- types ------------------------------------------------------------------------------------------------------------


class Typed(kv.Model, table="typed"):
    """One field for each native type."""

    id: UUID = kv.partition_key()
    number: int = 0
    text: str = ""
    exact: Decimal = Decimal(0)
    real: float = 0.0
    flag: bool = False
    moment: datetime = datetime(2024, 1, 1, tzinfo=_UTC)


async def test_native_types(db: kv.Database) -> None:
    """Each field is a column of its type, as SQL sees it and as SQL writes it."""
    await native(db).execute(
        'CREATE TABLE "typed" ("id" UUID NOT NULL, "number" INT, "text" VARCHAR(10), "exact" DECIMAL, "real" DOUBLE,'
        ' "flag" BOOL, "moment" DATETIME, PRIMARY KEY ("id"))'
    )
    moment = datetime(2025, 2, 3, 4, 5, 6, 7, tzinfo=_UTC)
    made = Typed(UUID(int=5), -7, "é", Decimal("1.50"), 2.5, True, moment)
    await Typed.objects.using(db).create(made)

    (row,) = await native(db).fetch('SELECT "id", "number", "text", "exact", "real", "flag", "moment" FROM "typed"')
    assert tuple(row) == (UUID(int=5), -7, "é", Decimal("1.50"), 2.5, True, moment)
    assert await Typed.objects.using(db).get(UUID(int=5)) == made


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ('"shelf" TEXT NOT NULL, "name" TEXT NOT NULL, "count" TEXT, "note" TEXT', "'count' is TEXT.*INTEGER"),
        ('"shelf" TEXT NOT NULL, "name" TEXT NOT NULL, "count" INTEGER', "no column 'note'"),
        ('"shelf" TEXT NOT NULL, "name" TEXT NOT NULL, "count" JSON, "note" TEXT', "'count' is JSON.*no parameters"),
        ('"shelf" INTEGER NOT NULL, "name" TEXT NOT NULL, "count" INTEGER, "note" TEXT', "'shelf' is INTEGER.*TEXT"),
    ],
)
async def test_a_table_that_differs_is_refused_in_words(db: kv.Database, definition: str, words: str) -> None:
    """``SchemaError`` says which column differs, and how."""
    await native(db).execute(
        f'CREATE TABLE "items" ({definition}, PRIMARY KEY ("shelf", "name")) DISTRIBUTED BY ("shelf")'
    )

    with pytest.raises(kv.SchemaError, match=words):
        await db.prepare(Item)
    with pytest.raises(kv.SchemaError, match=words):
        await Item.objects.using(db).get("a", "b")


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (
            'PRIMARY KEY ("shelf", "count")) DISTRIBUTED BY ("shelf")',
            r"primary key is \(shelf, count\).*\(shelf, name\)",
        ),
        ('PRIMARY KEY ("shelf", "name"))', r"distributed by \(shelf, name\).*partition is \(shelf\)"),
        ('PRIMARY KEY ("shelf", "name")) DISTRIBUTED BY ("name")', r"distributed by \(name\)"),
        ('PRIMARY KEY ("shelf", "name")) DISTRIBUTED GLOBALLY', r"GLOBALLY"),
    ],
)
async def test_keys_that_differ_are_refused_in_words(db: kv.Database, ending: str, words: str) -> None:
    """Key and distribution are compared too."""
    columns = '"shelf" TEXT NOT NULL, "name" TEXT NOT NULL, "count" INTEGER NOT NULL, "note" TEXT'
    await native(db).execute(f'CREATE TABLE "items" ({columns}, {ending}')

    with pytest.raises(kv.SchemaError, match=words):
        await db.prepare(Item)


async def test_all_differences_are_told_at_once(db: kv.Database) -> None:
    """So that one look is enough."""
    await native(db).execute(
        'CREATE TABLE "items" ("shelf" TEXT NOT NULL, "count" DOUBLE, PRIMARY KEY ("shelf")) USING vinyl'
    )

    class Differs(kv.Model, table="items", store_options={"picodata": {"engine": "memtx", "expires_column": "gone"}}):
        shelf: str = kv.partition_key()
        name: str = kv.clustering_key()
        count: int = 0

    with pytest.raises(kv.SchemaError) as caught:
        await db.prepare(Differs)
    for words in ("'name'", "DOUBLE", "vinyl", "'gone'", "primary key"):
        assert words in caught.value.message


async def test_columns_by_other_names(db: kv.Database) -> None:
    """The option ``columns`` says what a field is called in the store, in the key too."""
    await native(db).execute('CREATE TABLE "renamed" ("Id" INTEGER NOT NULL, "class" TEXT, PRIMARY KEY ("Id"))')

    class Renamed(kv.Model, table="renamed", store_options={"picodata": {"columns": {"id": "Id", "kind": "class"}}}):
        id: int = kv.partition_key()
        kind: str = ""

    await Renamed.objects.using(db).save(Renamed(1, "x"))
    assert await Renamed.objects.using(db).get(1) == Renamed(1, "x")
    assert await native(db).fetch('SELECT "class" FROM "renamed" WHERE "Id" = $1', 1) == [("x",)]


async def test_a_user_without_rights_on_the_tables_of_tables(cluster: LocalPicodata, db: kv.Database) -> None:
    """Types of columns are compared all the same; what can't be seen is taken on trust."""
    await native(db).execute(WAREHOUSE)
    await native(db).execute('CREATE TABLE "items" ("shelf" INTEGER NOT NULL, PRIMARY KEY ("shelf"))')
    cluster.readable_catalogue = False
    async with kv.connect(cluster.url) as plain:
        await Warehouse.objects.using(plain).create(Warehouse(1, "x"))
        assert await Warehouse.objects.using(plain).get(1) == Warehouse(1, "x")
        with pytest.raises(kv.SchemaError, match="'shelf' is INTEGER"):
            await plain.prepare(Item)


async def test_plain_tables_have_the_columns_of_the_model_alone(db: kv.Database) -> None:
    """``layout="plain"`` creates what an SQL user would, and never looks for columns of the mapper's own."""

    class Plain(kv.Model, table="plain", layout="plain"):
        id: int = kv.partition_key()
        text: str = ""

    await Plain.objects.using(db).create(Plain(1, "x"))
    (row,) = await native(db).fetch('SELECT * FROM "plain"')
    assert dict(row) == {"id": 1, "text": "x"}
    await Plain.objects.using(db).update(1, text="y")
