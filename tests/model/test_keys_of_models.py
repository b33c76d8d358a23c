"""Keys: what a user may pass, what becomes of it, and what is refused before anything is sent."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.base import KeyPart, Row
from kvmodel.model import ModelType
from kvmodel.schema import Schema, schema_of
from tests.model.strategies import Color, Level

UTC = timezone.utc


def schema(*annotations: object) -> Schema:
    """Declare a model with these partition fields."""
    names = [f"key{index}" for index in range(len(annotations))]
    body: dict[str, Any] = {"__annotations__": dict(zip(names, annotations, strict=True)), "__module__": __name__}
    body |= {name: kv.partition_key() for name in names}
    return schema_of(ModelType("Thing", (kv.Model,), body, table="things"))


@pytest.mark.parametrize(
    ("annotation", "value", "part"),
    [
        (float, -0.0, 0.0),
        (float, 3, 3.0),
        (float, float("inf"), float("inf")),
        (Decimal, Decimal("1.500"), Decimal("1.5")),
        (Decimal, Decimal(1200), Decimal("12E+2")),
        (Decimal, Decimal("-0.00"), Decimal(0)),
        (Decimal, Decimal("-Infinity"), Decimal("-Infinity")),
        (datetime, datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 1, 1, tzinfo=UTC)),
        (Color, Color.RED, "red"),
        (Level, Level.LOW, 1),
        (tuple[str, ...], (), ()),
        (tuple[Color | int | bytes, ...], (Color.BLUE, 1, b"\0"), ("blue", 1, b"\0")),
        (tuple[str, ...], ("ä", ""), ("ä", "")),
        (tuple[Color, float], (Color.BLUE, -0.0), ("blue", 0.0)),
        (tuple[tuple[int, ...], str], ((1, 2), "a"), ((1, 2), "a")),
    ],
)
def test_equal_values_become_equal_parts(annotation: object, value: object, part: KeyPart) -> None:
    """Key components are canonical: one representation for all values that are equal."""
    made = schema(annotation)

    (key,) = made.make_key(value)

    assert (repr(key), type(key)) == (repr(part), type(part))
    assert made.key_of(made.model(value)) == (part,)
    assert made.load(Row((part,), {}, b"1")).key0 == value


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (int, True, "key0"),
        (int, 1.0, "key0"),
        (str, b"a", "key0"),
        (str, "\ud800", "key0"),
        (str, None, "key0"),
        (float, float("nan"), "key0"),
        (float, 2**53 + 1, "key0"),
        (Decimal, Decimal("NaN"), "key0"),
        (Decimal, Decimal("sNaN"), "key0"),
        (Decimal, 1, "key0"),
        (datetime, datetime(2024, 1, 1), "key0"),  # noqa: DTZ001
        (date, datetime(2024, 1, 1, tzinfo=UTC), "key0"),
        (Color, "red", "key0"),
        (tuple[str, int], ("a",), "key0"),
        (tuple[str, int], ["a", 1], "key0"),
        (tuple[str, ...], ("a", 1), "key0[1]"),
        (tuple[str, ...], ("a", "\ud800"), "key0[1]"),
        (tuple[int, ...], (1, True), "key0[1]"),
        (tuple[str | int, ...], ("a", b""), "key0[1]"),
        (tuple[tuple[str, ...], ...], (("a",), ("b", "\ud800")), "key0[1][1]"),
    ],
)
def test_what_a_key_refuses(annotation: object, value: object, path: str) -> None:
    """Wrong types, and values without a place in the order, are refused with the field's name."""
    made = schema(annotation)

    with pytest.raises(kv.ValidationError) as caught:
        made.make_key(value)
    assert (caught.value.table, caught.value.key, caught.value.field) == ("things", (value,), path)

    with pytest.raises(kv.ValidationError):
        made.key_of(made.model(value))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_arity_is_checked(count: int) -> None:
    """Too few or too many key values are answered with the names of the fields."""
    with pytest.raises(kv.ValidationError, match=r"needs 2 key values \(key0, key1\)"):
        schema(str, str).make_key(*("a",) * count)


def test_clustering_parts() -> None:
    """Bounds give the first components of a clustering key, and not more than there are."""

    class Event(kv.Model, table="events"):
        queue: str = kv.partition_key()
        day: date = kv.clustering_key()
        color: Color = kv.clustering_key()

    made = schema_of(Event)
    day = date(2024, 1, 1)

    assert made.make_clustering(()) == ()
    assert made.make_clustering((day,)) == (day,)
    assert made.make_clustering((day, Color.RED)) == (day, "red")
    assert made.make_partition("q") == ("q",)
    with pytest.raises(kv.ValidationError, match="needs 2 key values"):
        made.make_clustering((day, Color.RED, 1))
    with pytest.raises(kv.ValidationError, match="expected Color"):
        made.make_clustering((day, "red"))
    with pytest.raises(kv.ValidationError, match="needs 1 key values"):
        made.make_partition()


def test_a_model_without_partition_fields() -> None:
    """All its records are in one partition, which takes no values."""

    class Word(kv.Model, table="words"):
        text: str = kv.clustering_key()

    made = schema_of(Word)

    assert made.make_partition() == ()
    assert made.make_key("a") == ("a",)


def test_defaults_of_key_fields() -> None:
    """A key field may have a default or a factory."""

    class Job(kv.Model, table="jobs"):
        kind: str = kv.partition_key(default="mail")
        id: Any = attrs.field(factory=uuid4)
        number: int = kv.clustering_key(factory=lambda: 7, kw_only=True)

    assert schema_of(Job).key_of(Job()) == ("mail", 7)


def test_a_key_that_no_member_stands_for() -> None:
    """A stored key that is no value of the enumeration is a damaged record."""
    with pytest.raises(kv.DecodingError) as caught:
        schema(Color).load(Row(("green",), {}, b"1"))

    assert caught.value.field == "key0"


def test_a_key_of_another_length_is_a_decoding_error() -> None:
    """So is one with other components than the model has."""
    with pytest.raises(kv.DecodingError):
        schema(str).load(Row(("a", "b"), {}, b"1"))


def test_changes_of_a_record() -> None:
    """``update`` takes known fields outside of the key."""

    class User(kv.Model, table="users"):
        name: str = kv.partition_key()
        age: int = 0

    made = schema_of(User)
    made.check_changes({"age": 1})

    with pytest.raises(kv.ValidationError, match="there are: age") as caught:
        made.check_changes({"aeg": 1})
    assert caught.value.field == "aeg"
    with pytest.raises(kv.ValidationError, match="key field"):
        made.check_changes({"name": "b"})
