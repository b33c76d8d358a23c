"""Annotations may name what does not exist yet; they are resolved at the first use of the model."""

from __future__ import annotations

import enum

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.base import Row
from kvmodel.schema import schema_of


class Early(kv.Model, table="early"):
    """Declared before what it holds."""

    id: str = kv.partition_key()
    later: Later | None = None
    more: list[Later] = kv.field(factory=list)


@attrs.define
class Later:
    """Declared after what holds it, and holds objects of its own class."""

    name: str
    next: Later | None = None


def test_names_of_the_module_that_come_later() -> None:
    """A name that is defined further down in the module is found when the schema is needed."""
    schema = schema_of(Early)
    early = Early("a", Later("b", Later("c")), [Later("d")])

    values = schema.dump(early)

    assert attrs.fields(Early).later.type == "Later | None"
    assert values["later"] == {"name": "b", "next": {"name": "c", "next": None}}
    assert schema.load(Row(("a",), values, b"1")) == early


def test_names_of_a_function() -> None:
    """Classes of a function see its locals, also those that come later and nested classes' own."""

    @attrs.define
    class Leaf:
        size: int

    @attrs.define
    class Branch:
        leaves: list[Leaf]

    class Plant(kv.Model, table="plants"):
        id: str = kv.partition_key()
        branches: list[Branch]
        root: Root | None = None

    @attrs.define
    class Root:
        depth: int

    schema = schema_of(Plant)
    plant = Plant("a", [Branch([Leaf(1)])], Root(3))

    assert schema.load(Row(("a",), schema.dump(plant), b"1")) == plant


def test_forward_references_in_abstract_bases() -> None:
    """An abstract base may wait for a name too."""

    class Base(kv.Model):
        id: tuple[Kind, ...] = kv.partition_key()

    class Kind(enum.Enum):
        A = "a"

    class Sub(Base, table="subs"):
        pass

    assert schema_of(Sub).make_key((Kind.A,)) == (("a",),)


def test_what_can_be_judged_is_judged_at_once() -> None:
    """A field that waits for a name does not hide what is wrong with another."""
    with pytest.raises(kv.SchemaError) as caught:

        class Thing(kv.Model, table="things"):
            id: str = kv.partition_key()
            waiting: NotYet  # type: ignore[name-defined]  # noqa: F821
            wrong: complex

    assert caught.value.field == "Thing.wrong"


def test_a_name_that_never_comes() -> None:
    """At the first use of the model, the error names class and field and what is missing."""

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        waiting: list[NeverDefined]  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(kv.SchemaError, match="NeverDefined") as caught:
        schema_of(Thing)
    assert caught.value.field == "Thing.waiting"
    with pytest.raises(kv.SchemaError, match="NeverDefined"):
        Thing.objects  # noqa: B018


def test_what_is_wrong_behind_a_forward_reference() -> None:
    """What could not be judged at first is judged at the first use, in the same words."""

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        waiting: Unknowable | None = None

    class Unknowable:
        pass

    with pytest.raises(kv.SchemaError, match="nothing knows how Unknowable is stored") as caught:
        schema_of(Thing)
    assert caught.value.field == "Thing.waiting"


def test_named_key_types_are_checked_late_too() -> None:
    """``kv.Model[...]`` is compared with the key fields once these are known."""

    class Thing(kv.Model[int], table="things"):
        id: Kind = kv.partition_key()

    class Kind(enum.Enum):
        A = "a"

    with pytest.raises(kv.SchemaError, match="make them agree"):
        schema_of(Thing)
