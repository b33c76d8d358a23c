"""Constraints hold on construction, on assignment, on what is stored and on what is loaded."""

from __future__ import annotations

from typing import Annotated, Any

import annotated_types as at
import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.base import Primitive, Row
from kvmodel.model import ModelType
from kvmodel.schema import schema_of


def declare(annotation: object) -> Any:
    """Declare a model with one value field."""
    body = {"__annotations__": {"id": str, "field": annotation}, "id": kv.partition_key(), "__module__": __name__}
    return ModelType("Thing", (kv.Model,), body, table="things")


def is_even(value: int) -> bool:
    """Tell whether a number is even."""
    return value % 2 == 0


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "path", "words"),
    [
        (Annotated[int, at.Gt(0)], 1, 0, "", "greater than 0"),
        (Annotated[int, at.Ge(0)], 0, -1, "", "at least 0"),
        (Annotated[int, at.Lt(0)], -1, 0, "", "less than 0"),
        (Annotated[int, at.Le(0)], 0, 1, "", "at most 0"),
        (Annotated[int, at.Interval(ge=0, lt=10)], 9, 10, "", "less than 10"),
        (Annotated[int, at.MultipleOf(3)], 9, 10, "", "multiple of 3"),
        (Annotated[str, at.MinLen(2)], "ab", "a", "", "length of at least 2"),
        (Annotated[str, at.MaxLen(2)], "ab", "abc", "", "length of at most 2"),
        (Annotated[list[int], at.Len(1, 2)], [1], [], "", "length of at least 1"),
        (Annotated[int, at.Predicate(is_even)], 2, 3, "", "is_even"),
        (Annotated[int, attrs.validators.in_([1, 2])], 2, 3, "", "must be in"),
        (Annotated[int, at.Gt(0), at.Lt(5)], 4, 5, "", "less than 5"),
        (Annotated[Annotated[int, at.Gt(0)], "a comment"], 4, 0, "", "greater than 0"),
        (Annotated[int, at.Gt(0)] | None, None, 0, "", "greater than 0"),
        (Annotated[int | None, at.Gt(0)], None, 0, "", "greater than 0"),
        (list[Annotated[int, at.Gt(0)]], [1], [1, 0], "[1]", "greater than 0"),
        (tuple[Annotated[int, at.Gt(0)], ...], (1,), (0,), "[0]", "greater than 0"),
        (tuple[str, Annotated[int, at.Gt(0)]], ("a", 1), ("a", 0), "[1]", "greater than 0"),
        (set[Annotated[int, at.Gt(0)]], {1}, {0}, "[0]", "greater than 0"),
        (dict[str, Annotated[int, at.Gt(0)]], {"a": 1}, {"a": 0}, "['a']", "greater than 0"),
        (dict[Annotated[int, at.Gt(0)], str], {1: "a"}, {0: "a"}, "[0]", "greater than 0"),
        (Annotated[int, at.Gt(0)] | str, "a", 0, "", "greater than 0"),
        (Annotated[Any, at.Gt(0)], 1, "a", "", "greater than 0"),
    ],
)
def test_a_constraint_holds(annotation: object, good: Any, bad: Any, path: str, words: str) -> None:
    """On construction and assignment, with the path of what is wrong; a stored value that breaks it is damaged."""
    model = declare(annotation)
    schema = schema_of(model)
    stored = schema.dump(model("a", good))

    for attempt in (lambda: model("a", bad), lambda: setattr(model("a", good), "field", bad)):
        with pytest.raises(kv.ValidationError, match=words) as caught:
            attempt()
        assert (caught.value.table, caught.value.field) == ("things", f"field{path}")

    assert schema.load(Row(("a",), stored, b"1")).field == good
    plain: Any = [*bad] if isinstance(bad, tuple | set) else [[0, "a"]] if bad == {0: "a"} else bad
    with pytest.raises(kv.DecodingError):
        schema.load(Row(("a",), {"field": plain}, b"1"))


def test_constraints_hold_after_changes_in_place() -> None:
    """A list that has outgrown its constraint is not stored, because it could not be loaded."""
    model = declare(Annotated[list[int], at.MaxLen(2)])
    obj = model("a", [1])
    obj.field += [2]
    obj.field.append(3)

    with pytest.raises(kv.ValidationError, match="at most 2") as caught:
        schema_of(model).dump(obj)

    assert caught.value.field == "field"


def test_constraints_hold_after_changes_of_sets_and_dicts() -> None:
    """The same for the other types that can change in place."""
    numbers: set[int] = set()
    names: dict[str, int] = {}
    nested: tuple[list[int]] = ([],)
    objects = [
        declare(Annotated[set[int], at.MaxLen(1)])("a", numbers),
        declare(Annotated[dict[str, int], at.MaxLen(1)])("a", names),
        declare(tuple[Annotated[list[int], at.MaxLen(1)]])("a", nested),
    ]
    numbers |= {1, 2}
    names |= {"a": 1, "b": 2}
    nested[0].extend([1, 2])

    for obj in objects:
        with pytest.raises(kv.ValidationError, match="at most 1"):
            schema_of(type(obj)).dump(obj)


def test_a_nested_validator_may_raise_our_own_error() -> None:
    """Its text and its field take their place in the path."""

    def refuse(obj: object, attribute: object, value: object) -> None:
        if value == "bad":
            raise kv.ValidationError("not today", field="weather")

    @attrs.define
    class Inner:
        text: Any = attrs.field(validator=refuse)

    schema = schema_of(declare(list[Inner]))

    with pytest.raises(kv.DecodingError, match="not today") as caught:
        schema.load(Row(("a",), {"field": [{"text": "bad"}]}, b"1"))

    assert caught.value.field == "field[0].weather"


def test_validators_of_attrs_name_the_field() -> None:
    """A validator's own error becomes a ``ValidationError``, which is a ``ValueError`` as well."""

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key(validator=attrs.validators.min_len(1))
        tags: list[str] = kv.field(factory=list, validator=attrs.validators.max_len(2))
        size: int = kv.field(default=1)

        @size.validator  # type: ignore[attr-defined, untyped-decorator]
        def _check_size(self, attribute: attrs.Attribute[int], value: int) -> None:
            if value > len(self.id):
                raise ValueError("larger than the name")

    with pytest.raises(kv.ValidationError) as caught:
        Thing("")
    assert caught.value.field == "id"
    with pytest.raises(kv.ValidationError, match="larger than the name") as caught:
        Thing("a", size=2)
    assert (caught.value.table, caught.value.field) == ("things", "size")

    thing = Thing("a", ["x"])
    thing.tags += ["y"]
    thing.tags.append("z")
    with pytest.raises(kv.ValidationError, match="Length of 'tags'"):
        schema_of(Thing).dump(thing)


def test_constraints_inside_of_nested_objects() -> None:
    """A nested class's constraints and validators hold when it is stored and when it is loaded."""

    @attrs.define
    class Address:
        code: Annotated[str, at.MinLen(2)]
        lines: list[str] = attrs.field(factory=list, validator=attrs.validators.max_len(1))

    class Person(kv.Model, table="people"):
        name: str = kv.partition_key()
        address: Address

    schema = schema_of(Person)

    with pytest.raises(kv.ValidationError, match="at least 2") as caught:
        schema.dump(Person("ada", Address("x")))
    assert caught.value.field == "address.code"

    address = Address("xy")
    address.lines.extend("ab")
    with pytest.raises(kv.ValidationError, match="Length of 'lines'") as caught:
        schema.dump(Person("ada", address))
    assert caught.value.field == "address"

    broken: list[Primitive] = [{"code": "x", "lines": []}, {"code": "xy", "lines": ["a", "b"]}]
    for stored in broken:
        with pytest.raises(kv.DecodingError):
            schema.load(Row(("ada",), {"address": stored}, b"1"))


def test_constraints_on_key_fields() -> None:
    """Key fields may be constrained like any other."""

    class Thing(kv.Model, table="things"):
        path: tuple[Annotated[str, at.MinLen(1)], ...] = kv.partition_key()

    with pytest.raises(kv.ValidationError) as caught:
        Thing(("a", ""))

    assert caught.value.field == "path[1]"


def test_a_validator_may_raise_our_own_error() -> None:
    """A ``ValidationError`` that a validator raises itself is left as it is."""

    def refuse(obj: object, attribute: object, value: object) -> None:
        raise kv.ValidationError("not today", field="weather")

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key(validator=refuse)

    with pytest.raises(kv.ValidationError, match="not today") as caught:
        Thing("a")

    assert (caught.value.table, caught.value.field) == (None, "weather")


class Waiting(kv.Model, table="waiting"):
    """Declared before the name that its constraint stands on."""

    id: str = kv.partition_key()
    size: Annotated[Later, at.Gt(0)] = 1


Later = int


def test_constraints_of_fields_that_wait_for_a_name() -> None:
    """A constraint behind a forward reference holds as soon as the name exists."""
    with pytest.raises(kv.ValidationError, match="greater than 0"):
        Waiting("a", 0)
