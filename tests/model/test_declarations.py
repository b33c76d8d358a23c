"""A wrong declaration fails when the class is made, with a message that names class, field and remedy."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import annotated_types as at
import attrs
import pytest

import kvmodel as kv
from kvmodel.model import ModelType


class Opaque:
    """A type that nothing knows."""


class Mixed(enum.Enum):
    """Values of two types."""

    A = 1
    B = "b"


class Letter(enum.Enum):
    """Stored as text."""

    A = "a"


@attrs.define
class Holder:
    """Holds what can't be stored."""

    inner: Opaque


@attrs.define
class Plain:
    """A nested class."""

    x: int = 0


@attrs.define
class Other:
    """Another nested class."""

    y: int = 0


Untyped = attrs.make_class("Untyped", ["x"])
"""A nested class without types."""


@attrs.define(init=False)
class OwnInit:
    """Can't be made from its fields."""

    x: int

    def __init__(self) -> None:
        self.x = 1


class Stored(kv.Model, table="stored"):
    """A model."""

    id: str = kv.partition_key()


def declare(annotation: object, definition: object = attrs.NOTHING, **options: Any) -> type:
    """Declare a model with one value field."""
    body: dict[str, Any] = {"__annotations__": {"id": str, "field": annotation}, "__module__": __name__}
    body |= {"id": kv.partition_key()} | ({} if definition is attrs.NOTHING else {"field": definition})
    return ModelType("Thing", (kv.Model,), body, table="things", **options)


@pytest.mark.parametrize(
    ("annotation", "definition", "words"),
    [
        (Opaque, attrs.NOTHING, "register hooks"),
        (list[Opaque], attrs.NOTHING, "nothing knows how Opaque is stored"),
        (Sequence[str], attrs.NOTHING, "declare a list or a tuple"),
        (complex, attrs.NOTHING, "nothing knows how complex is stored"),
        (Stored, attrs.NOTHING, "store its key"),
        (OwnInit, attrs.NOTHING, "__init__ of its own"),
        (Mixed, attrs.NOTHING, "values of one simple type"),
        (set[list[int]], attrs.NOTHING, "not hashable"),
        (dict[Plain, int], attrs.NOTHING, "not hashable"),
        (list[int] | tuple[int, ...], attrs.NOTHING, "can't be told apart"),
        (Plain | dict[str, int], attrs.NOTHING, "can't be told apart"),
        (Plain | Other | dict[str, int], attrs.NOTHING, "can't be told apart"),
        (Annotated[Decimal, at.Timezone(None)], attrs.NOTHING, "can't check"),
        (Literal["a", Letter.A], attrs.NOTHING, "stored alike"),
        (int, None, "the default does not fit the type"),
        (Annotated[int, at.Gt(0)], 0, "greater than 0"),
        (list[int], [], "write factory=list"),
        (int, kv.field(stored_as=str), "types of your own"),
        (Opaque, kv.field(stored_as=str), "register them with kv.converter"),
        (float, kv.clustering_key(default=float("nan")), "NaN"),
        (Opaque, kv.clustering_key(stored_as=str), "nobody registered hooks for Opaque"),
        (Opaque, kv.clustering_key(stored_as=list), "stored_as=list can't be in a key"),
        ("1 +", attrs.NOTHING, "can't be read"),
    ],
)
def test_a_field_that_cannot_work(annotation: object, definition: object, words: str) -> None:
    """Every field is judged at once; the error names class and field."""
    with pytest.raises(kv.SchemaError, match=words) as caught:
        declare(annotation, definition)

    assert caught.value.field == "Thing.field"


def test_the_path_leads_into_nested_classes() -> None:
    """What is wrong inside of a nested class is named with the whole path."""
    with pytest.raises(kv.SchemaError, match="Opaque") as caught:
        declare(list[Holder] | None)

    assert caught.value.field == "Thing.field.inner"
    with pytest.raises(kv.SchemaError, match="needs an annotation") as caught:
        declare(Untyped)

    assert caught.value.field == "Thing.field.x"


@pytest.mark.parametrize(
    "annotation",
    [
        list[int],
        Mixed,
        tuple[Mixed, ...],
        dict[str, int],
        str | None,
        Plain,
        Opaque,
        timedelta,
        tuple[()],
        tuple[int | float, ...],
        str | int,
        Any,
    ],
)
def test_types_that_cannot_be_keys(annotation: object) -> None:
    """A key field has a type with an order; the error tells which there are, or what to change."""
    with pytest.raises(kv.SchemaError, match="can't be in a key") as caught:
        declare(annotation, kv.clustering_key())

    assert caught.value.field == "Thing.field"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"table": "1st"}, r"table='1st'"),
        ({"table": "1st"}, "letters, digits and underscores"),
        ({"table": "a" * 64}, "1 to 63"),
        ({"table": "naïve"}, "ASCII"),
        ({"table": ""}, "1 to 63"),
        ({"table": 7}, "1 to 63"),
        ({"table": "_kvmodel_catalogue"}, "choose another"),
        ({"table": "t", "abstract": True}, "remove table="),
        ({"table": "t", "tabel": "x"}, "known are: table, abstract"),
        ({"table": "t", "schema": 0}, "schema="),
        ({"table": "t", "schema": True}, "schema="),
        ({"table": "t", "schema": 2}, "kv.upgrade step for each of"),
        ({"table": "t", "layout": "json"}, "layout="),
        ({"table": "t", "layout": "plain", "expires_in": timedelta(1)}, "remove expires_in="),
        ({"table": "t", "expires_in": timedelta(0)}, "above zero"),
        ({"table": "t", "expires_in": 3}, "timedelta"),
        ({"table": "t", "store_options": {"redis": 1}}, "store_options="),
        ({"table": "t", "frozen": "yes"}, "True or False"),
        ({"expires_in": timedelta(1)}, "add table="),
        ({"schema": 1}, "add table="),
    ],
)
def test_a_class_line_that_cannot_work(options: dict[str, Any], words: str) -> None:
    """Options are checked, and an unknown one is answered with those that there are."""
    body = {"__annotations__": {"id": str}, "id": kv.partition_key(), "__module__": __name__}

    with pytest.raises(kv.SchemaError, match=words) as caught:
        ModelType("Thing", (kv.Model,), body, **options)

    assert "Thing" in str(caught.value)


def test_a_model_needs_a_key() -> None:
    """A concrete model has a partition or clustering field."""
    with pytest.raises(kv.SchemaError, match="has no key: declare a field with") as caught:

        class Thing(kv.Model, table="things"):
            x: int

    assert caught.value.table == "things"


def test_a_subclass_of_a_model_names_its_own_table() -> None:
    """Records of a subclass never land in its base's table by oversight; an abstract subclass is allowed."""

    class Base(Stored, abstract=True):
        x: int = 0

    class Sub(Base, table="subs"):
        pass

    assert Sub("a", x=1).x == 1
    with pytest.raises(kv.SchemaError, match="needs its own: add table="):

        class Wrong(Stored):
            pass


@pytest.mark.parametrize("name", ["objects", "_kv_state", "__mangled"])
def test_names_that_are_taken(name: str) -> None:
    """A field can't hide what kvmodel puts on every model."""
    body = {"__annotations__": {"id": str, name: int}, "id": kv.partition_key(), "__module__": __name__}

    with pytest.raises(kv.SchemaError, match="choose another") as caught:
        ModelType("Thing", (kv.Model,), body, table="things")

    assert caught.value.field == f"Thing.{name}"


@pytest.mark.parametrize(("name", "value"), [("objects", 1), ("__init__", 1), ("__slots__", ())])
def test_attributes_that_are_taken(name: str, value: object) -> None:
    """Neither can a method or attribute of the class body."""
    body = {"__annotations__": {"id": str}, "id": kv.partition_key(), "__module__": __name__, name: value}

    with pytest.raises(kv.SchemaError):
        ModelType("Thing", (kv.Model,), body, table="things")


def test_a_field_needs_an_annotation() -> None:
    """A specifier without a type is no field, which would be easy to overlook."""
    with pytest.raises(kv.SchemaError, match="annotation") as caught:

        class Thing(kv.Model, table="things"):
            id: str = kv.partition_key()
            x = kv.field(default=1)

    assert caught.value.field == "Thing.x"


def test_a_default_and_a_factory_are_one_too_many() -> None:
    """Of two sources of a value one would be ignored."""
    with pytest.raises(kv.SchemaError, match="either a default or a factory"):
        kv.field(default=1, factory=int)  # type: ignore[call-overload]


@pytest.mark.parametrize("base", [Plain, dataclasses.make_dataclass("Data", ["x"])])
def test_fields_of_other_classes_are_not_lost(base: type) -> None:
    """A base that is no model has fields that nobody would store: it is refused instead."""
    body = {"__annotations__": {"id": str}, "id": kv.partition_key(), "__module__": __name__}

    with pytest.raises(kv.SchemaError, match="make that an abstract model"):
        ModelType("Thing", (kv.Model, base), body, table="things")


def test_what_attrs_refuses_is_a_schema_error_too() -> None:
    """A mandatory field after one with a default, for instance."""
    with pytest.raises(kv.SchemaError, match="attrs can't make this class"):

        class Thing(kv.Model, table="things"):
            id: str = kv.partition_key()
            x: int = 0
            y: int  # type: ignore[misc]

    with pytest.raises(kv.SchemaError, match="attrs can't make this class"):

        class Twice(kv.Model, table="twice"):
            id: str = kv.partition_key()
            _id: int


def test_named_key_types_must_agree() -> None:
    """The types in ``kv.Model[...]`` are those of the key fields, in key order."""
    with pytest.raises(kv.SchemaError, match="make them agree"):

        class Thing(kv.Model[int, str], table="things"):
            id: str = kv.partition_key()
            at: int = kv.clustering_key()

    class Base(kv.Model[str]):
        id: str = kv.partition_key()

    with pytest.raises(kv.SchemaError, match="make them agree"):

        class Sub(Base, table="subs"):
            at: int = kv.clustering_key()


def test_classes_of_a_union_need_different_names() -> None:
    """The tag of a union is the class's name, so two classes can't share it."""
    twin = attrs.make_class("Plain", {"y": attrs.field(type=str)})

    with pytest.raises(kv.SchemaError, match="same name"):
        declare(Plain | twin)
