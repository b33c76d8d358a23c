"""A user's own types are stored through the hooks of ``kv.converter``."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NewType

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.base import KeyType, Row, ValueType
from kvmodel.fields import own
from kvmodel.schema import schema_of


class Money:
    """An amount; attrs knows nothing of it."""

    def __init__(self, amount: int, currency: str) -> None:
        self.amount = amount
        self.currency = currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and (self.amount, self.currency) == (other.amount, other.currency)

    def __hash__(self) -> int:
        return hash((self.amount, self.currency))


@attrs.frozen
class Span:
    """An attrs class with hooks: these go before its fields."""

    start: int
    end: int


UserId = NewType("UserId", int)


def to_text(value: Money) -> str:
    """Write an amount."""
    return f"{value.amount:06d} {value.currency}"


def from_text(value: Any, _: object) -> Money:
    """Read an amount."""
    amount, currency = value.split()
    return Money(int(amount), currency)


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the hooks with a converter that lives as long as the test."""
    converter = own.Converter()
    monkeypatch.setattr(own, "converter", converter)
    monkeypatch.setattr("kvmodel.fields.select.converter", converter)
    converter.register_unstructure_hook(Money, to_text)
    converter.register_structure_hook(Money, from_text)
    converter.register_unstructure_hook(Span, lambda span: [span.start, span.end])
    converter.register_structure_hook(Span, lambda value, _: Span(*value))
    yield
    assert kv.converter is not converter


def test_own_types_are_stored_as_their_hooks_say() -> None:
    """At the top, in collections and as optional values; an attrs class with hooks too."""

    class Order(kv.Model, table="orders"):
        id: str = kv.partition_key()
        total: Money
        parts: list[Money] = kv.field(factory=list)
        tip: Money | None = None
        span: Span = Span(1, 2)

    schema = schema_of(Order)
    order = Order("a", Money(5, "EUR"), [Money(2, "EUR")], span=Span(3, 4))

    values = schema.dump(order)

    assert values == {"total": "000005 EUR", "parts": ["000002 EUR"], "tip": None, "span": [3, 4]}
    assert schema.load(Row(("a",), values, b"1")) == order
    assert schema.values[0].type == ValueType("any", nullable=True)


def test_stored_as_names_the_stored_type() -> None:
    """With ``stored_as`` a type may be in a key, and drivers see what is stored."""

    class Price(kv.Model, table="prices"):
        money: Money = kv.clustering_key(stored_as=str)
        limit: Money = kv.field(stored_as=str)

    schema = schema_of(Price)
    price = Price(Money(5, "EUR"), Money(6, "EUR"))

    assert schema.clustering[0].type == KeyType("str")
    assert schema.values[0].type == ValueType("str")
    assert schema.make_key(Money(5, "EUR")) == schema.key_of(price) == ("000005 EUR",)
    assert schema.load(Row(("000005 EUR",), {"limit": "000006 EUR"}, b"1")) == price
    with pytest.raises(kv.ValidationError, match="expected Money"):
        schema.make_key("000005 EUR")


def test_hooks_may_be_registered_for_new_types_and_predicates() -> None:
    """A ``NewType`` may have hooks of its own, and a predicate may stand for many types."""
    own.converter.register_unstructure_hook(UserId, lambda value: f"user-{value}")
    own.converter.register_structure_hook(UserId, lambda value, _: UserId(int(value[5:])))
    own.converter.register_unstructure_hook_func(lambda kind: kind is complex, lambda value: [value.real, value.imag])
    own.converter.register_structure_hook_func(lambda kind: kind is complex, lambda value, _: complex(*value))

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        user: UserId
        number: complex

    schema = schema_of(Thing)
    thing = Thing("a", UserId(7), 1 + 2j)

    assert schema.dump(thing) == {"user": "user-7", "number": [1.0, 2.0]}
    assert schema.load(Row(("a",), schema.dump(thing), b"1")) == thing


def test_both_hooks_are_needed() -> None:
    """A type that could be stored but not loaded is refused when the class is made."""
    own.converter.register_unstructure_hook(complex, str)

    with pytest.raises(kv.SchemaError, match="register_structure_hook"):

        class Thing(kv.Model, table="things"):
            id: str = kv.partition_key()
            number: complex


def test_what_hooks_do_wrong_is_told() -> None:
    """A hook that raises, or gives what can't be stored, is named in the error, with its own words as the cause."""

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        money: Money | None = None

    schema = schema_of(Thing)

    with pytest.raises(kv.DecodingError, match="structures Money") as caught:
        schema.load(Row(("a",), {"money": "broken"}, b"1"))
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(kv.ValidationError, match="expected Money"):
        schema.dump(Thing("a", "000005 EUR"))  # type: ignore[arg-type]
    with pytest.raises(kv.ValidationError, match="unstructures Money") as failed:
        schema.dump(Thing("a", Money("x", "EUR")))  # type: ignore[arg-type]
    assert (failed.value.field, type(failed.value.__cause__)) == ("money", ValueError)


@pytest.mark.parametrize("plain", [(1, 2), {1: 2}, float, "\ud800"])
def test_hooks_give_plain_values(plain: object) -> None:
    """What a hook gives must be plain data: otherwise it would come back as something else."""
    own.converter.register_unstructure_hook(Decimal | str, lambda value: plain)
    own.converter.register_unstructure_hook(Money, lambda value: plain)

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        money: Money

    with pytest.raises(kv.ValidationError, match="gave what can't be stored"):
        schema_of(Thing).dump(Thing("a", Money(1, "EUR")))


def test_an_optional_own_type_is_never_stored_as_none() -> None:
    """``None`` stands for no value there: a hook that gives it would make a value vanish."""
    own.converter.register_unstructure_hook(Money, lambda value: None)

    class Thing(kv.Model, table="things"):
        id: str = kv.partition_key()
        money: Money | None = None

    with pytest.raises(kv.ValidationError, match="stands for no value"):
        schema_of(Thing).dump(Thing("a", Money(1, "EUR")))


def test_an_own_type_in_a_union_needs_to_be_told_apart() -> None:
    """Nobody can know what a hook stores, so a union with another type is refused."""
    with pytest.raises(kv.SchemaError, match="can't be told apart"):

        class Thing(kv.Model, table="things"):
            id: str = kv.partition_key()
            either: Money | int
