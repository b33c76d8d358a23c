"""Random model classes, with objects of them: what the mapper must carry to a store and back unchanged."""

from __future__ import annotations

import dataclasses
import enum
import types
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union
from uuid import UUID

import annotated_types as at
import attrs
from hypothesis import strategies as st

import kvmodel as kv


class Color(enum.Enum):
    """Stored as text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Stored as numbers."""

    LOW = 1
    HIGH = 2


class Perm(enum.Flag):
    """Stored as numbers, those of combinations too."""

    READ = 1
    WRITE = 2


@attrs.frozen
class Point:
    """A nested object that is hashable."""

    x: int
    y: float = 0.0


@attrs.define
class Tree:
    """A nested object that holds others of its class."""

    name: str
    children: list[Tree] = attrs.field(factory=list)


@dataclasses.dataclass
class Note:
    """A dataclass."""

    text: str
    tags: set[str] = dataclasses.field(default_factory=set)


class Kind(NamedTuple):
    """An annotation, its values, and whether they are hashable."""

    annotation: Any
    values: st.SearchStrategy[Any]
    is_hashable: bool = True


ZONES = st.sampled_from([timezone.utc, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(allow_nan=False)
DATETIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)  # noqa: DTZ001
FINITE = st.decimals(allow_nan=False)

KEY_KINDS = [
    Kind(str, TEXT),
    Kind(bytes, st.binary(max_size=8)),
    Kind(int, st.integers()),
    Kind(float, FLOATS),
    Kind(bool, st.booleans()),
    Kind(Decimal, FINITE),
    Kind(UUID, st.uuids()),
    Kind(datetime, DATETIMES),
    Kind(date, st.dates()),
    Kind(Color, st.sampled_from(Color)),
    Kind(Level, st.sampled_from(Level)),
    Kind(tuple[str, Color], st.tuples(TEXT, st.sampled_from(Color))),
    Kind(tuple[int, ...], st.lists(st.integers(), max_size=3).map(tuple)),
    Kind(tuple[str | int | UUID, ...], st.lists(TEXT | st.integers() | st.uuids(), max_size=3).map(tuple)),
]

SCALAR_KINDS = [
    *KEY_KINDS[:11],
    Kind(time, st.times()),
    Kind(timedelta, st.timedeltas()),
    Kind(Perm, st.sampled_from([Perm.READ, Perm.WRITE, Perm.READ | Perm.WRITE])),
    Kind(Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    Kind(Annotated[int, at.Interval(ge=0, lt=100)], st.integers(0, 99)),
    Kind(Point, st.builds(Point, st.integers(), FLOATS)),
    Kind(Union[int, str, Point], st.integers() | TEXT | st.builds(Point, st.integers())),  # noqa: UP007
]

TREES: st.SearchStrategy[Tree] = st.recursive(
    st.builds(Tree, TEXT, st.just([])), lambda inner: st.builds(Tree, TEXT, st.lists(inner, max_size=2)), max_leaves=4
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | TEXT | st.integers() | FLOATS | st.binary(max_size=3) | FINITE,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)


NAMES = ["x", "y", "name", "children", "text", "tags", "_type"]
STORED: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(["a", "red", "Point", "Tree"]),
        TEXT,
        st.integers(-2, 3),
        st.integers(),
        st.floats(),
        st.binary(max_size=3),
        st.decimals(),
        st.uuids(),
        DATETIMES.map(_in_utc),
        st.dates(),
        st.times(),
        st.timedeltas(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(TEXT | st.sampled_from(NAMES), inner, max_size=3),
        st.builds(lambda x, y: {"x": x, "y": y}, st.integers(), st.floats()),
        st.builds(lambda tag, name: {"_type": tag, "name": name}, st.sampled_from(["Point", "Tree"]), inner),
        st.lists(st.tuples(inner, inner).map(list), max_size=2),
    ),
    max_leaves=6,
)
"""Anything that may come back from a store, right or wrong."""

OPEN_KINDS = [
    Kind(Tree, TREES, False),
    Kind(Note, st.builds(Note, TEXT, st.sets(TEXT, max_size=3)), False),
    Kind(Point | Tree | None, st.none() | st.builds(Point, st.integers()) | TREES, False),
    Kind(Any, PLAIN, False),
]


def _collections(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    hashable = inner.filter(lambda kind: kind.is_hashable)
    return st.one_of(
        inner.map(_optional),
        inner.map(_list),
        inner.map(_tuple),
        hashable.map(_set),
        st.tuples(inner, inner).map(_pair),
        st.tuples(hashable, inner).map(_dict),
    )


def _optional(kind: Kind) -> Kind:
    return Kind(Optional[kind.annotation], st.none() | kind.values, kind.is_hashable)  # noqa: UP045


def _list(kind: Kind) -> Kind:
    return Kind(GenericAlias(list, (kind.annotation,)), st.lists(kind.values, max_size=3), False)


def _tuple(kind: Kind) -> Kind:
    annotation = GenericAlias(tuple, (kind.annotation, ...))
    return Kind(annotation, st.lists(kind.values, max_size=3).map(tuple), kind.is_hashable)


def _set(kind: Kind) -> Kind:
    return Kind(GenericAlias(frozenset, (kind.annotation,)), st.frozensets(kind.values, max_size=3))


def _pair(kinds: tuple[Kind, Kind]) -> Kind:
    first, second = kinds
    annotation = GenericAlias(tuple, (first.annotation, second.annotation))
    return Kind(annotation, st.tuples(first.values, second.values), first.is_hashable and second.is_hashable)


def _dict(kinds: tuple[Kind, Kind]) -> Kind:
    key, value = kinds
    annotation = GenericAlias(dict, (key.annotation, value.annotation))
    return Kind(annotation, st.dictionaries(key.values, value.values, max_size=3), False)


VALUE_KINDS = st.recursive(st.sampled_from(SCALAR_KINDS + OPEN_KINDS), _collections, max_leaves=3)


@st.composite
def objects(draw: st.DrawFn) -> kv.Model:
    """Draw an object of a class of its own."""
    keys = draw(st.lists(st.tuples(st.sampled_from(KEY_KINDS), st.integers(0, 2)), min_size=1, max_size=3))
    values = draw(st.lists(VALUE_KINDS, max_size=4))
    namespace: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
    for index, (kind, way) in enumerate(keys):
        namespace["__annotations__"][f"key{index}"] = kind.annotation
        namespace[f"key{index}"] = kv.partition_key() if way == 0 else kv.clustering_key(descending=way == 1)
    for index, kind in enumerate(values):
        namespace["__annotations__"][f"field{index}"] = kind.annotation
    options = {"table": "random", "frozen": draw(st.booleans())}
    model = types.new_class("Random", (kv.Model,), options, lambda body: body.update(namespace))
    made: kv.Model = model(*(draw(kind.values) for kind, _ in keys), *(draw(kind.values) for kind in values))
    return made
