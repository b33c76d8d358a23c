"""Strictness, both ways: a value of another type than declared is refused, never cast, and the path is named."""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections import OrderedDict
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NewType, Optional
from uuid import UUID

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.base import Primitive, Row, ValueType
from kvmodel.model import ModelType
from kvmodel.schema import Schema, schema_of
from tests.model.strategies import Color, Level, Note, Perm, Point, Tree

UTC = timezone.utc
UNSET = object()


UserId = NewType("UserId", int)


class Text(str):
    """A subclass of a type that is stored."""

    __slots__ = ()


def schema(annotation: object, default: object = attrs.NOTHING) -> Schema:
    """Declare a model with one value field."""
    body = {"__annotations__": {"id": str, "field": annotation}, "id": kv.partition_key(), "__module__": __name__}
    if default is not attrs.NOTHING:
        body["field"] = default
    return schema_of(ModelType("Thing", (kv.Model,), body, table="things"))


def dump(annotation: object, value: object) -> Primitive:
    """Dump one value."""
    made = schema(annotation)
    return made.dump(made.model("a", value))["field"]


def load(annotation: object, stored: Any, default: object = attrs.NOTHING) -> Any:
    """Load one value."""
    values = {} if stored is UNSET else {"field": stored}
    return schema(annotation, default).load(Row(("a",), values, b"1")).field


ID = UUID("6f0c7a3e-2f4b-4d55-9d0c-4a8f2b8d6c11")
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (int, 2**100, 2**100),
        (float, 3, 3.0),
        (Decimal, Decimal("1.50"), Decimal("1.50")),
        (datetime, datetime(2024, 5, 6, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
        (Color, Color.RED, "red"),
        (Level, Level.HIGH, 2),
        (Perm, Perm.READ | Perm.WRITE, 3),
        (Literal["a", 1, Color.RED, None], Color.RED, "red"),
        (set[str], {"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset[int | str], frozenset({"b", 2, 1}), [1, 2, "b"]),
        (tuple[int, str], (1, "a"), [1, "a"]),
        (dict[str, int], {"b": 1, "a": 2}, {"b": 1, "a": 2}),
        (dict[Color, int], {Color.RED: 1}, {"red": 1}),
        (dict[int, set[int]], {2: {2, 1}, 1: set()}, [[2, [1, 2]], [1, []]]),
        (Point, Point(1, 2.0), {"x": 1, "y": 2.0}),
        (Point | int | None, Point(1), {"x": 1, "y": 0.0}),
        (Point | Tree, Point(1), {"_type": "Point", "x": 1, "y": 0.0}),
        (list[Point | Note], [Note("x", {"b", "a"})], [{"_type": "Note", "text": "x", "tags": ["a", "b"]}]),
        (Tree, Tree("a", [Tree("b")]), {"name": "a", "children": [{"name": "b", "children": []}]}),
        (Any, {"a": [1, b"x", NOON, {"b": None}]}, {"a": [1, b"x", NOON, {"b": None}]}),
        (object, [1], [1]),
        (list, [1, "a"], [1, "a"]),
        (tuple, (1, "a"), [1, "a"]),
        (dict, {"a": [1]}, {"a": [1]}),
        (Optional[Any], {"a": 1}, {"a": 1}),  # noqa: UP045
        (UserId, UserId(3), 3),
        (list[UserId] | None, [UserId(3)], [3]),
        (None, None, None),
        (Optional[int], None, None),  # noqa: UP045
        (int | None, None, None),
        (float | str, 3, 3.0),
    ],
)
def test_what_is_stored(annotation: object, value: object, stored: Primitive) -> None:
    """Each type has one stored form, made of what the waist knows."""
    dumped = dump(annotation, value)

    assert dumped == stored
    assert type(dumped) is type(stored)
    assert load(annotation, stored) == value


BAD_EITHER_WAY: list[tuple[object, object, str]] = [
    (None, 1, ""),
    (int, True, ""),
    (int, 1.0, ""),
    (int, "1", ""),
    (float, True, ""),
    (float, 2**53 + 1, ""),
    (float, 10**400, ""),
    (bool, 1, ""),
    (str, b"a", ""),
    (str, None, ""),
    (str, Text("a"), ""),
    (bytes, bytearray(b"a"), ""),
    (Decimal, 1, ""),
    (UUID, str(ID), ""),
    (datetime, date(2024, 1, 1), ""),
    (datetime, datetime(2024, 1, 1), ""),  # noqa: DTZ001
    (date, NOON, ""),
    (time, time(1, tzinfo=UTC), ""),
    (timedelta, 3, ""),
    (time, 3, ""),
    (list[int], [1, "a"], "[1]"),
    (list[int | None], [None, "a"], "[1]"),
    (list[int], (1,), ""),
    (dict[str, int], {"a": 1, "b": "c"}, "['b']"),
    (Literal["a", 1], True, ""),
    (Literal["a"], "b", ""),
    (Literal["a"], ["a"], ""),
    (int | str, 1.0, ""),
    (Any, {"a": [1, (2,)]}, "['a'][1]"),
]


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        *BAD_EITHER_WAY,
        (str, "\ud800", ""),
        (list[str], ["a", "\ud800"], "[1]"),
        (dict[str, int], {"\ud800": 1}, "['\\ud800']"),
        (dict[str, int], {1: 1}, "[1]"),
        (Any, {"a": {1: 2}}, "['a']"),
        (Any, "\ud800", ""),
        (Color, "red", ""),
        (Literal[Color.RED], "red", ""),
        (tuple[int, str], (1, "a", 2), ""),
        (tuple[int, str], [1, "a"], ""),
        (tuple[int, str], (1, 2), "[1]"),
        (set[int], [1], ""),
        (dict[int, int], {1: 1, 2: "x"}, "[2]"),
        (dict[int, int], {"a": 1}, "['a']"),
        (Point, Tree("a"), ""),
        (Tree, Tree("a", [Tree("b"), Tree(3)]), ".children[1].name"),  # type: ignore[arg-type]
        (dict[str, list[Note]], {"k": [Note("a", {1})]}, "['k'][0].tags[0]"),  # type: ignore[arg-type]
        (Point | Tree, Tree(1), ".name"),  # type: ignore[arg-type]
        (datetime, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), ""),
        (dict[str, int], OrderedDict(a=1), ""),
        (dict[int, int], OrderedDict({1: 1}), ""),
    ],
)
def test_dumping_is_strict(annotation: object, value: object, path: str) -> None:
    """What could not be loaded again is not dumped: the error names table, key and the path inside of the field."""
    with pytest.raises(kv.ValidationError) as caught:
        dump(annotation, value)

    assert (caught.value.table, caught.value.key, caught.value.field) == ("things", ("a",), f"field{path}")


@pytest.mark.parametrize(
    ("annotation", "stored", "path"),
    [
        *(case for case in BAD_EITHER_WAY if case[0] is not Any),
        (Color, "green", ""),
        (Color, 1, ""),
        (Level, True, ""),
        (Perm, 64, ""),
        (tuple[int, str], [1], ""),
        (tuple[str, str], "ab", ""),
        (tuple[int, ...], [1, "a"], "[1]"),
        (set[int], [1, 1], ""),
        (set[Any], [[1]], ""),
        (set[str], "ab", ""),
        (dict[str, int], [["a", 1]], ""),
        (dict[int, int], [[1, 1], [1, 2]], "[1]"),
        (dict[int, int], [[1]], "[0]"),
        (dict[int, int], {"1": 1}, ""),
        (dict[int, int], [[1, "a"]], "[0]"),
        (Point, [1], ""),
        (Point, {"y": 1.0}, ".x"),
        (Tree, {"name": "a", "children": [{"name": "b", "children": 3}]}, ".children[0].children"),
        (Point | Tree, {"x": 1}, ""),
        (Point | Tree, {"_type": "Other"}, ""),
        (Point | Tree, {"_type": ["Point"]}, ""),
        (Point | Tree, {"_type": "Tree"}, ".name"),
        (int, UNSET, ""),
    ],
)
def test_loading_is_strict(annotation: object, stored: object, path: str) -> None:
    """Whatever is stored: a value of the declared type, or an error that names table, key and path."""
    with pytest.raises(kv.DecodingError) as caught:
        load(annotation, stored)

    assert (caught.value.table, caught.value.key, caught.value.field) == ("things", ("a",), f"field{path}")


def test_missing_fields_take_their_default() -> None:
    """A record that lacks a field gets the default or the factory's value, also inside of a nested object.

    One without a default is told apart from one of a wrong type.
    """
    with pytest.raises(kv.DecodingError, match="missing and has no default"):
        load(int, UNSET)
    assert load(int, UNSET, default=7) == 7
    assert load(list[int], UNSET, default=kv.field(factory=list)) == []
    assert load(Tree, {"name": "a"}) == Tree("a", [])
    assert load(Note, {"text": "a"}) == Note("a", set())
    assert load(Starred, {}) == Starred(3)


@dataclasses.dataclass
class Starred:
    """A dataclass with a plain default."""

    stars: int = 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type aliases came with Python 3.12")
def test_type_aliases_stand_for_their_types() -> None:
    """A ``type`` alias is the type that it names."""
    alias = getattr(typing, "TypeAliasType")("Ids", list[int])  # noqa: B009

    assert dump(alias, [1]) == [1]
    assert load(list[alias], [[1]]) == [[1]]  # type: ignore[valid-type]


def test_factories_make_a_new_value_for_each_record() -> None:
    """Two loaded objects don't share what a factory made."""
    made = schema(list[int], kv.field(factory=list))

    first, second = (made.load(Row(("a",), {}, b"1")) for _ in range(2))

    assert first.field is not second.field


def test_messages_speak_the_language_of_annotations() -> None:
    """The error names the types as an annotation does."""
    with pytest.raises(kv.ValidationError, match="expected int, not None: nothing is converted"):
        dump(int, None)
    with pytest.raises(kv.ValidationError, match=r"expected list\[str \| None\], not Text"):
        dump(list[str | None], Text("a"))
    with pytest.raises(kv.ValidationError, match=r"expected tuple\[int, \.\.\.\], not list"):
        dump(tuple[int, ...], [1])


def test_a_cycle_is_refused() -> None:
    """An object that contains itself is an error of the caller, not a crash."""
    tree = Tree("a")
    tree.children.append(tree)

    with pytest.raises(kv.ValidationError, match="nested too deeply"):
        dump(Tree, tree)


def test_converters_see_what_is_loaded() -> None:
    """An attrs converter runs in the constructor, on loaded values too."""
    assert load(str, "ABC", default=kv.field(converter=str.lower, default="")) == "abc"


def test_a_constructor_that_refuses_is_a_decoding_error() -> None:
    """What a class does not want to hold is a damaged record, for nested classes too."""

    class Even(kv.Model, table="evens"):
        id: int = kv.partition_key()
        half: int = 0

        def __attrs_post_init__(self) -> None:
            if self.half * 2 != self.id:
                raise ValueError("odd")

    with pytest.raises(kv.DecodingError) as caught:
        schema_of(Even).load(Row((3,), {"half": 1}, b"1"))

    assert isinstance(caught.value.__cause__, ValueError)


def test_running_out_of_memory_is_not_blamed_on_the_record() -> None:
    """A ``MemoryError`` stays what it is, whichever way the object goes."""

    class Heavy(kv.Model, table="heavy"):
        id: str = kv.partition_key()
        late: int = attrs.field(init=False)

        def __attrs_post_init__(self) -> None:
            if self.id == "huge":
                raise MemoryError

        def __getattr__(self, name: str) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        schema_of(Heavy).load(Row(("huge",), {"late": 1}, b"1"))
    with pytest.raises(MemoryError):
        schema_of(Heavy).dump(Heavy("a"))


def test_attributes_outside_of_the_constructor_are_stored() -> None:
    """A field with ``init=False`` is loaded as it was stored, and keeps its default where it was not."""

    class Counter(kv.Model, table="counters"):
        id: str = kv.partition_key()
        hits: int = attrs.field(init=False, default=0)

    made = schema_of(Counter)

    assert made.load(Row(("a",), {"hits": 5}, b"1")).hits == 5
    assert made.load(Row(("a",), {}, b"1")).hits == 0
    with pytest.raises(kv.DecodingError):
        made.load(Row(("a",), {"hits": "5"}, b"1"))


def test_an_unset_attribute_is_refused() -> None:
    """A field that was never set can't be stored."""

    class Lazy(kv.Model, table="lazy"):
        id: str = kv.partition_key()
        late: int = attrs.field(init=False)

    with pytest.raises(kv.ValidationError):
        schema_of(Lazy).dump(Lazy("a"))
    with pytest.raises(kv.DecodingError, match="missing"):
        schema_of(Lazy).load(Row(("a",), {}, b"1"))


def test_objects_of_other_classes_are_refused() -> None:
    """Neither a stranger nor a subclass is stored in a table that is not its own."""

    class Base(kv.Model, table="bases"):
        id: str = kv.partition_key()

    class Sub(Base, table="subs"):
        pass

    for stranger in (Sub("a"), Point(1), None):
        with pytest.raises(kv.ValidationError, match="expected an object of"):
            schema_of(Base).dump(stranger)
        with pytest.raises(kv.ValidationError, match="expected an object of"):
            schema_of(Base).key_of(stranger)


def test_value_types_describe_what_is_stored() -> None:
    """Drivers with typed columns see what each field holds; where a recursion begins again, anything may come."""

    class Kind(enum.Enum):
        A = "a"

    def type_of(annotation: object) -> ValueType:
        return schema(annotation).values[0].type

    text, number = ValueType("str"), ValueType("int")
    point = ValueType("object", (number, ValueType("float")), ("x", "y"))

    assert type_of(Kind | None) == ValueType("str", nullable=True)
    assert type_of(tuple[str, int]) == ValueType("list", (text, number), fixed=True)
    assert type_of(set[str]) == ValueType("list", (text,))
    assert type_of(dict[int, str]) == ValueType("pairs", (number, text))
    assert type_of(Point) == point
    assert type_of(Point | str | None) == ValueType("union", (point, text), nullable=True)
    children = ValueType("list", (ValueType("any", nullable=True),))
    assert type_of(Tree) == ValueType("object", (text, children), ("name", "children"))
    assert type_of(Literal["a", "b"]) == text
    assert type_of(Literal["a", 1]) == ValueType("union", (number, text))


def test_equal_sets_are_stored_alike() -> None:
    """Sets are sorted, whatever they hold, so that an unchanged set does not look changed."""
    points = [Point(x, y) for x in range(3) for y in (2.0, 1.0, float("-inf"))]
    mixed = [None, True, 2, 1.5, "a", b"b", Decimal("1.1"), ID, NOON, (1, "a")]

    assert dump(frozenset[Point], frozenset(points)) == dump(frozenset[Point], frozenset(reversed(points)))
    parts = [(None, 1), (1, "a"), ("a",), ()]
    kind = frozenset[tuple[int | str | None, ...]]
    assert dump(kind, frozenset(parts)) == dump(kind, frozenset(parts[::-1]))
    for number in (float, Decimal):
        numbers = [number(text) for text in ("nan", "2", "-inf", "1")]
        assert repr(dump(set[number], set(numbers))) == repr([numbers[index] for index in (2, 3, 1, 0)])  # type: ignore[valid-type]
    kinds = bool | int | float | str | bytes | Decimal | UUID | datetime | tuple[int, str] | None
    forwards = set(mixed)
    mixed.reverse()
    assert dump(set[kinds], forwards) == dump(set[kinds], set(mixed))
