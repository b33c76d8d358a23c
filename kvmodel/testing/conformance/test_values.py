"""Values: what was stored comes back equal and of the same type, and what this program does not know is kept."""

from __future__ import annotations

import enum
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import fits, refused

pytestmark = pytest.mark.asyncio


class Colour(enum.Enum):
    """Stored by value."""

    RED = "r"
    GREEN = "g"


@attrs.define
class Point:
    """A nested object."""

    x: int
    y: int = 0
    label: str | None = None


@attrs.define
class Line:
    """A nested object that holds others."""

    ends: list[Point]
    colour: Colour = Colour.RED


class Sample(kv.Model, table="samples"):
    """One field of every kind."""

    name: str = kv.partition_key()
    flag: bool | None = None
    number: int | None = None
    real: float | None = None
    text: str | None = None
    data: bytes | None = None
    exact: Decimal | None = None
    id: UUID | None = None
    moment: datetime | None = None
    day: date | None = None
    hour: time | None = None
    span: timedelta | None = None
    colour: Colour | None = None
    numbers: list[int] | None = None
    words: set[str] | None = None
    pair: tuple[int, str] | None = None
    row: tuple[float, ...] | None = None
    by_name: dict[str, int] | None = None
    by_day: dict[date, list[str]] | None = None
    line: Line | None = None
    shape: Point | Line | None = None


_UTC = timezone.utc
_VALUES: dict[str, list[Any]] = {
    "flag": [True, False],
    "number": [0, -1, 127, 128, -(2**63), 2**63, 2**64, -(2**64), 10**100, -(10**100)],
    "real": [0.0, 1.5, -1e308, 5e-324, math.inf, -math.inf],
    "text": ["", "a", "\0", "é\U0001f600", "\u2028\ufeff", "x" * 70_000],
    "data": [b"", b"\0\xff", bytes(range(256)), b"x" * 70_000],
    "exact": [Decimal(text) for text in ("0", "-0", "1.50", "1E+100", "-1E-100", "123456789012345678901234567890.1")],
    "id": [UUID(int=0), UUID(int=2**128 - 1)],
    "moment": [
        datetime(1, 1, 1, tzinfo=_UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=_UTC),
        datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=_UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=_UTC),
    ],
    "day": [date.min, date(1969, 12, 31), date.max],
    "hour": [time.min, time(23, 59, 59, 999999)],
    "span": [timedelta(0), timedelta.max, timedelta.min, timedelta(microseconds=-1)],
    "colour": list(Colour),
    "numbers": [[], [1, 2**70, -3], list(range(1000))],
    "words": [set(), {"a", "", "é"}],
    "pair": [(1, "a")],
    "row": [(), (1.0, 2.5)],
    "by_name": [{}, {"": 0, "a": 1, "_type": 2}],
    "by_day": [{date(2024, 1, 1): ["x"], date(1999, 1, 1): []}],
    "line": [Line([]), Line([Point(1), Point(2, 3, "end")], Colour.GREEN)],
    "shape": [Point(1, 2), Line([Point(0)])],
}


@pytest.mark.parametrize("field", list(_VALUES))
async def test_values_come_back_as_they_were(kv_db: kv.Database, field: str) -> None:
    """Equal, of the same type, and the same again after a second round. What a typed column can't hold is refused."""
    objects = Sample.objects.using(kv_db)
    await kv_db.prepare(Sample)
    room = kv_db.capabilities.max_value_bytes or 1 << 20
    for value in _VALUES[field]:
        if isinstance(value, str | bytes) and len(value) > room // 2:
            continue
        if not fits(kv_db, value):
            with refused(kv.ValidationError):
                await objects.save(Sample("a", **{field: value}))
            continue
        await objects.save(Sample("a", **{field: value}))

        found = await objects.get("a")
        assert getattr(found, field) == value
        assert type(getattr(found, field)) is type(value)
        assert found == Sample("a", **{field: value})
        await objects.save(found, force=True)
        assert await objects.get("a") == found


async def test_what_equality_does_not_show(kv_db: kv.Database) -> None:
    """NaN, the sign of zero, the exponent of a ``Decimal``, and the order of a mapping."""
    objects = Sample.objects.using(kv_db)
    if fits(kv_db, math.nan):
        await objects.save(Sample("nan", real=math.nan))
        assert str((await objects.get("nan")).real) == "nan"
    await objects.save(Sample("a", real=-0.0, exact=Decimal("1.500"), by_name={"b": 1, "a": 2}))

    found = await objects.get("a")

    assert str(found.real) == "-0.0"
    assert str(found.exact) == "1.500"
    assert list(found.by_name or {}) == ["b", "a"]


async def test_a_moment_comes_back_in_utc(kv_db: kv.Database) -> None:
    """The moment is the same, whatever time zone it was written in."""
    moment = datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    await Sample.objects.using(kv_db).save(Sample("a", moment=moment))

    found = (await Sample.objects.using(kv_db).get("a")).moment

    assert found == moment
    assert found is not None
    assert found.utcoffset() == timedelta(0)


async def test_equal_sets_are_stored_equal(kv_db: kv.Database) -> None:
    """So that a unit of work takes a set that was built in another order for unchanged."""
    if not kv_db.capabilities.conditional:
        pytest.skip("this store lacks the capability conditional")
    objects = Sample.objects.using(kv_db)
    words = [f"w{number}" for number in range(50)]
    version = kv.version(await objects.save(Sample("a", words=set(words))))

    async with kv_db.unit_of_work():
        sample = await objects.get("a")
        sample.words = {*words[25:], *words[:25]}

    assert kv.version(await objects.get("a")) == version


# --- fields that this program does not know ---------------------------------------------------------------------------


@attrs.define
class NewPoint:
    """``Point`` as a later program declares it."""

    x: int
    y: int = 0
    z: int = 0


class New(kv.Model, table="drawings"):
    """What a later program writes."""

    name: str = kv.partition_key()
    title: str = ""
    extra: list[int] = kv.field(factory=list)
    at: NewPoint = kv.field(factory=lambda: NewPoint(0))


@attrs.define
class OldPoint:
    """``Point`` as an earlier program declares it."""

    x: int
    y: int = 0


class Old(kv.Model, table="drawings"):
    """What an earlier program knows of it."""

    name: str = kv.partition_key()
    title: str = ""
    at: OldPoint = kv.field(factory=lambda: OldPoint(0))


async def test_unknown_fields_are_kept(kv_db: kv.Database) -> None:
    """An earlier program that saves what it loaded takes nothing away from a later one, nested objects included."""
    await New.objects.using(kv_db).save(New("a", "old", [1, 2], NewPoint(1, 2, 3)))

    drawing = await Old.objects.using(kv_db).get("a")
    drawing.title = "new"
    drawing.at.x = 9
    await Old.objects.using(kv_db).save(drawing, force=True)

    assert await New.objects.using(kv_db).get("a") == New("a", "new", [1, 2], NewPoint(9, 2, 3))


@pytest.mark.kv_requires("conditional")
async def test_unknown_fields_survive_updates_and_units(kv_db: kv.Database) -> None:
    """However the earlier program writes."""
    await New.objects.using(kv_db).save(New("a", "old", [1, 2], NewPoint(1, 2, 3)))
    objects = Old.objects.using(kv_db)

    await objects.update("a", title="second")
    async with kv_db.unit_of_work():
        (await objects.get("a")).title = "third"
    drawing = await objects.get("a")
    await objects.save(kv.replace(drawing, title="fourth"))

    assert await New.objects.using(kv_db).get("a") == New("a", "fourth", [1, 2], NewPoint(1, 2, 3))


async def test_a_new_object_brings_no_unknown_fields_back(kv_db: kv.Database) -> None:
    """What is written anew is what the object says."""
    await New.objects.using(kv_db).save(New("a", "old", [1, 2]))
    await Old.objects.using(kv_db).save(Old("a", "new"))

    assert (await New.objects.using(kv_db).get("a")).extra == []
