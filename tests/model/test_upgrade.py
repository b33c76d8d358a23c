"""Records of an older schema number are brought forward when they are read."""

from __future__ import annotations

from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.base import Row, Values
from kvmodel.schema import schema_of


class Person(kv.Model, table="people", schema=3):
    """Its first form had one name, its second two, its third a list of them."""

    id: str = kv.partition_key()
    names: list[str]

    @kv.upgrade(1)
    @staticmethod
    def _(values: dict[str, Any]) -> dict[str, Any]:
        first, _, last = values.pop("name").partition(" ")
        return {"first": first, "last": last, **values}

    @kv.upgrade(2)
    @staticmethod
    def _(values: dict[str, Any]) -> dict[str, Any]:
        return {"names": [values.pop("first"), values.pop("last")], **values}


def load(number: int, **values: Any) -> Person:
    """Load a person that was stored with a schema number."""
    person: Person = schema_of(Person).load(Row(("a",), values, b"1", None, number))
    return person


@pytest.mark.parametrize(
    ("number", "values"),
    [(1, {"name": "Ada Lovelace"}), (2, {"first": "Ada", "last": "Lovelace"}), (3, {"names": ["Ada", "Lovelace"]})],
)
def test_every_older_form_is_read(number: int, values: Values) -> None:
    """The steps run in order, from the record's number to the model's."""
    assert load(number, **values) == Person("a", ["Ada", "Lovelace"])


def test_the_table_says_the_number() -> None:
    """What is stored from now on carries the model's own number."""
    assert schema_of(Person).make_table().schema_number == 3


def test_unknown_fields_pass_through_the_steps() -> None:
    """What a step leaves is kept, in the new form."""
    person = load(1, name="Ada Lovelace", born=1815)

    assert schema_of(Person).dump(person) == {"names": ["Ada", "Lovelace"], "born": 1815}


def test_a_newer_record_asks_for_a_newer_program() -> None:
    """A record that a later program wrote is not guessed at."""
    with pytest.raises(kv.DecodingError, match="update the program"):
        load(4, names=[])


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_that_cannot_be(number: int) -> None:
    """There are no records before the first."""
    with pytest.raises(kv.DecodingError, match="no valid schema number"):
        load(number, names=[])


def test_a_step_that_fails_is_a_decoding_error() -> None:
    """The step's own error is the cause; the message says which step."""
    with pytest.raises(kv.DecodingError, match="step from schema number 1") as caught:
        load(1, nome="Ada")

    assert isinstance(caught.value.__cause__, KeyError)


def test_a_step_gives_the_values() -> None:
    """A step that forgets to return is told so."""

    class Thing(kv.Model, table="things", schema=2):
        id: str = kv.partition_key()

        @kv.upgrade(1)
        @staticmethod
        def _(values: dict[str, Any]) -> None:
            values.clear()

    with pytest.raises(kv.DecodingError, match="let it return the values"):
        schema_of(Thing).load(Row(("a",), {}, b"1"))


@pytest.mark.parametrize("numbers", [[], [1], [1, 3], [1, 2, 2], [1, 2, 3], ["1", 2]])
def test_there_is_one_step_for_every_number(numbers: list[Any]) -> None:
    """A missing, doubled or superfluous step is found when the class is made."""
    with pytest.raises(kv.SchemaError, match=r"one kv\.upgrade step for each of"):

        class Thing(kv.Model, table="things", schema=3):
            id: str = kv.partition_key()
            for number in numbers:
                step = kv.upgrade(number)(lambda values: values)


def test_a_step_may_be_a_bare_function() -> None:
    """``@staticmethod`` is for type checkers: without it a step works the same."""

    class Thing(kv.Model, table="things", schema=2):
        id: str = kv.partition_key()
        size: int

        @kv.upgrade(1)
        def grow(values: dict[str, Any]) -> dict[str, Any]:  # type: ignore[misc]  # noqa: N805
            return {"size": 1}

    assert schema_of(Thing).load(Row(("a",), {}, b"1")).size == 1


def test_steps_are_no_attributes() -> None:
    """A step is not left on the class, where it would be taken for a method."""
    assert not hasattr(Person, "_")


def test_steps_are_not_inherited() -> None:
    """A subclass has a table, and so a history, of its own."""

    class Other(Person, table="others"):
        pass

    assert schema_of(Other).number == 1
