"""A model is an attrs class: slots, defaults, inheritance, mixins, and what a class line can say."""

from __future__ import annotations

import copy
import gc
import traceback
import types
import weakref
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import pytest

import kvmodel as kv
from kvmodel._state import State, Status, get_state, set_state
from kvmodel.model import declared_models
from kvmodel.schema import schema_of


class User(kv.Model, table="users"):
    """The model of the README."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0
    email: str | None = None


def test_a_model_is_a_slotted_attrs_class() -> None:
    """Fields are slots, the constructor takes them in order, repr and equality show them and nothing else."""
    ada = User("red", "ada", age=36)

    assert not hasattr(ada, "__dict__")
    assert repr(ada) == "User(team='red', name='ada', age=36, email=None)"
    assert ada == User("red", "ada", 36)
    assert attrs.asdict(ada) == {"team": "red", "name": "ada", "age": 36, "email": None}
    assert [attribute.name for attribute in attrs.fields(User)] == ["team", "name", "age", "email"]
    assert attrs.fields(User).age.type is int
    with pytest.raises(AttributeError):
        ada.agee = 37  # type: ignore[attr-defined]


def test_state_is_never_seen() -> None:
    """The state of an object is in no repr, comparison, dict, attribute list or match."""
    new, stored = User("red", "ada"), User("red", "ada")
    set_state(stored, State(Status.LOADED, ("red", "ada"), b"1"))

    assert new == stored
    assert repr(new) == repr(stored)
    assert attrs.asdict(new) == attrs.asdict(stored)
    assert "_kv_state" not in {attribute.name for attribute in attrs.fields(User)}
    assert User.__match_args__ == ("team", "name", "age", "email")


def test_super_and_class_work_in_methods() -> None:
    """``super()`` and ``__class__`` mean the class that attrs made, although it was made twice."""

    class Loud(User, table="loud"):
        def __attrs_post_init__(self) -> None:
            self.email = __class__.__name__  # type: ignore[name-defined]

        def __str__(self) -> str:
            return super().__str__().upper()

    assert str(Loud("red", "ada")) == "LOUD(TEAM='RED', NAME='ADA', AGE=0, EMAIL='LOUD')"


def test_frozen_models_are_hashable_and_keep_a_state() -> None:
    """A frozen model refuses assignments, has a hash, and still takes a state."""

    class Point(kv.Model, table="points", frozen=True):
        x: int = kv.partition_key()
        y: int = 0

    point = Point(1)
    set_state(point, State(Status.LOADED, (1,), b"1"))

    assert hash(point) == hash(Point(1))
    assert get_state(point) is not None
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        point.y = 2  # type: ignore[misc]


def test_keyword_only_models() -> None:
    """``kw_only=True`` concerns the fields of its class, and a field may say otherwise."""

    class Base(kv.Model):
        first: str = kv.partition_key()

    class Row(Base, table="rows", kw_only=True):
        second: int
        third: int = attrs.field(kw_only=False)

    assert Row("a", 3, second=2) == Row("a", second=2, third=3)
    with pytest.raises(TypeError):
        Row("a", 2, 3)  # type: ignore[call-arg]


def test_mixins_of_fields_combine() -> None:
    """Abstract bases, with ``abstract=True`` or just without a table, are mixed freely, though models have slots."""

    class Stamped(kv.Model):
        created: int = kv.field(default=0, kw_only=True)

    class Owned(kv.Model, abstract=True):
        owner: str = kv.partition_key()

    class Doc(Owned, Stamped, table="docs"):
        name: str = kv.clustering_key()

    doc = Doc("ada", "notes", created=5)

    assert (doc.owner, doc.name, doc.created) == ("ada", "notes", 5)
    assert not hasattr(doc, "__dict__")
    assert schema_of(Doc).make_key("ada", "notes") == ("ada", "notes")


def test_defaults_of_bases_are_keyword_only() -> None:
    """A base class field with a default is keyword-only in a subclass, so that this can add mandatory ones."""

    class Admin(User, table="admins"):
        level: int  # type: ignore[misc]  # a type checker wants kw_only=True at the base's fields to know that

    make: Any = Admin

    assert make("red", "ada", 3, age=36).level == 3
    assert User("red", "ada", 36).age == 36
    with pytest.raises(TypeError):
        make("red", "ada", 3, 36)


def test_key_order_is_declaration_order_bases_first() -> None:
    """The partition fields in order, then the clustering fields in order, those of bases in front of each."""

    class Base(kv.Model):
        b: int = kv.clustering_key()
        a: str = kv.partition_key()

    class Full(Base, table="full"):
        c: str = kv.partition_key()
        d: int = kv.clustering_key(descending=True)

    schema = schema_of(Full)

    assert [field.name for field in schema.partition] == ["a", "c"]
    assert [(field.name, field.descending) for field in schema.clustering] == [("b", False), ("d", True)]
    assert schema.key_of(Full(1, "a", "c", 2)) == ("a", "c", 1, 2)


def test_a_field_that_is_declared_again_keeps_its_place() -> None:
    """Overriding changes a field, not the order of the constructor: as type checkers see it."""

    class Base(kv.Model):
        first: str = kv.partition_key()
        second: int
        third: int

    class Sub(Base, table="subs"):
        second: str  # type: ignore[assignment]

    assert Sub("a", "b", 3).second == "b"


def test_options_of_the_class_line_reach_the_table() -> None:
    """The driver's table says what the class line said."""

    class Session(
        kv.Model, table="sessions", expires_in=timedelta(hours=1), store_options={"picodata": {"engine": "vinyl"}}
    ):
        id: str = kv.partition_key()
        data: bytes = kv.field(default=b"", column="payload", options={"redis": {"compress": True}})

    schema = schema_of(Session)
    table = schema.make_table(("tenant",))

    assert schema.expires_in == timedelta(hours=1)
    assert (table.name, table.namespace, table.schema_number, table.layout) == ("sessions", ("tenant",), 1, "record")
    assert table.options == {"picodata": {"engine": "vinyl"}}
    assert schema_of(User).values[0].options == {}
    assert table.values[0].options == {"column": "payload", "redis": {"compress": True}}


def test_the_plain_layout_may_have_a_whole_value() -> None:
    """With the plain layout one field may stand for the whole stored value."""

    class Page(kv.Model, table="pages", layout="plain"):
        path: str = kv.partition_key()
        body: bytes = kv.field(whole_value=True)

    table = schema_of(Page).make_table()

    assert (table.layout, table.whole_value) == ("plain", "body")


def test_a_whole_value_stands_alone() -> None:
    """There is nothing for a second field to be stored under; the layout does not matter."""

    class Note(kv.Model, table="notes"):
        name: str = kv.partition_key()
        text: str = kv.field(whole_value=True)

    assert schema_of(Note).make_table().whole_value == "text"
    with pytest.raises(kv.SchemaError, match="only value field: Pair has 2"):

        class Pair(kv.Model, table="pairs", layout="plain"):
            name: str = kv.partition_key()
            text: str = kv.field(whole_value=True)
            other: int = 0


def test_attrs_field_stands_wherever_kv_field_does() -> None:
    """``attrs.field`` makes value fields: factories, converters, aliases, keyword-only and private ones."""

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        tags: list[str] = attrs.field(factory=list)
        size: int = attrs.field(converter=int, default="3")  # type: ignore[assignment]
        _hidden: int = attrs.field(default=1, alias="open")
        late: int = attrs.field(init=False, default=9)
        twice: int = attrs.field(default=attrs.Factory(lambda self: self.size * 2, takes_self=True))

    one, other = Thing("a"), Thing("a", open=2)

    assert one.tags is not other.tags
    assert (one.size, one.twice, one._hidden, other._hidden) == (3, 6, 1, 2)
    assert schema_of(Thing).dump(one) == {"tags": [], "size": 3, "_hidden": 1, "late": 9, "twice": 6}


def test_class_variables_and_methods_are_no_fields() -> None:
    """``ClassVar`` annotations, methods and plain attributes stay what they are."""

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        limit: ClassVar[int] = 3
        plain = "x"

        @property
        def double(self) -> str:
            return self.id * 2

    assert [field.name for field in attrs.fields(Thing)] == ["id"]
    assert (Thing.limit, Thing.plain, Thing("a").double) == (3, "x", "aa")


def test_objects_belongs_to_the_class_alone() -> None:
    """``User.objects`` is made once for each model, subclasses included; objects have no such attribute."""

    class Admin(User, table="admins"):
        pass

    assert User.objects is User.objects
    assert Admin.objects is not User.objects
    assert (User.objects.model, Admin.objects.model) == (User, Admin)
    with pytest.raises(AttributeError):
        User("red", "ada").objects  # type: ignore[arg-type]  # noqa: B018


def test_abstract_models_have_no_objects() -> None:
    """An abstract model can't be made, and has no schema and no queries."""

    class Base(kv.Model):
        id: str = kv.partition_key()

    with pytest.raises(kv.SchemaError, match="abstract"):
        Base("a")
    with pytest.raises(kv.SchemaError, match="table="):
        schema_of(Base)
    with pytest.raises(kv.SchemaError, match="table="):
        Base.objects  # noqa: B018


def test_declared_models_are_held_weakly() -> None:
    """The list of models holds concrete ones only, and keeps none of them alive."""

    def declare() -> weakref.ref[type]:
        class Brief(kv.Model, table="briefs"):
            id: str = kv.partition_key()

        assert Brief in set(declared_models())
        return weakref.ref(Brief)

    reference = declare()
    gc.collect()

    assert reference() is None
    assert User in set(declared_models())
    assert kv.Model not in set(declared_models())


def test_named_key_types() -> None:
    """``kv.Model[str, int]`` names the types of the key for type checkers; a subclass of it is as any model."""

    class Reading(kv.Model[str, int], table="readings"):
        sensor: str = kv.partition_key()
        at: int = kv.clustering_key()

    assert schema_of(Reading).make_key("a", 1) == ("a", 1)


def test_models_can_be_made_by_a_program() -> None:
    """A class made with ``types.new_class`` is a model like any other."""

    def body(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = {"id": str}
        namespace["id"] = kv.partition_key()

    made = types.new_class("Made", (kv.Model,), {"table": "made"}, body)

    assert repr(made("a")) == "Made(id='a')"


def test_a_class_body_releases_its_function() -> None:
    """Once its types are resolved, a model keeps no locals of the function that declared it alive."""

    class Big:
        pass

    def declare() -> tuple[type, weakref.ref[Big]]:
        big = Big()

        class Local(kv.Model, table="locals"):
            id: str = kv.partition_key()

        return Local, weakref.ref(big)

    model, reference = declare()
    gc.collect()

    assert reference() is None
    assert model is not None


def test_generated_lines_show_in_tracebacks() -> None:
    """The generated functions have source, so that a traceback or debugger shows their lines."""
    with pytest.raises(kv.ValidationError) as caught:
        schema_of(User).dump(User("red", "ada", age="x"))  # type: ignore[arg-type]

    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "raise dump_failed(error, obj) from cause_of(error)" in lines


def test_copies_of_the_class_machinery() -> None:
    """Copying an object twice gives equal objects of the same class."""
    ada = User("red", "ada", 36)

    assert copy.deepcopy(copy.copy(ada)) == ada
