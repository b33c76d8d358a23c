"""Whatever a model declares: what was dumped is loaded again, and only plain data crosses."""

from __future__ import annotations

import copy
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel._state import Status, get_state
from kvmodel.drivers.base import KeyPart, KeyType, Primitive, Row, ValueType
from kvmodel.schema import schema_of
from tests.model.strategies import STORED, objects

SCALARS: dict[str, type] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "decimal": Decimal,
    "uuid": UUID,
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
}


def fits(value: Primitive, declared: ValueType) -> bool:
    """Tell whether a stored value is what its declared type says."""
    if value is None:
        return declared.nullable
    match declared.kind:
        case "any":
            return type(value) in {*SCALARS.values(), list, dict}
        case "union":
            return any(fits(value, item) for item in declared.items)
        case "list" if declared.fixed:
            if not isinstance(value, list) or len(value) != len(declared.items):
                return False
            return all(fits(item, of) for item, of in zip(value, declared.items, strict=True))
        case "list":
            return isinstance(value, list) and all(fits(item, declared.items[0]) for item in value)
        case "dict":
            return isinstance(value, dict) and all(fits(item, declared.items[0]) for item in value.values())
        case "pairs":
            pair = ValueType("list", declared.items, fixed=True)
            return isinstance(value, list) and all(fits(item, pair) for item in value)
        case "object":
            types = dict(zip(declared.names, declared.items, strict=True))
            return (
                isinstance(value, dict)
                and set(types) <= set(value)
                and all(fits(value[name], of) for name, of in types.items())
            )
        case kind:
            return type(value) is SCALARS[kind] and getattr(value, "tzinfo", None) in (None, timezone.utc)


def fits_key(part: KeyPart, declared: KeyType) -> bool:
    """Tell whether a key component is what its declared type says."""
    match declared.kind:
        case "union":
            return any(fits_key(part, item) for item in declared.items)
        case "tuple":
            items = declared.items * len(part) if declared.variadic and isinstance(part, tuple) else declared.items
            return isinstance(part, tuple) and all(fits_key(one, of) for one, of in zip(part, items, strict=True))
        case kind:
            return type(part) is SCALARS[kind]


@settings(max_examples=200)
@given(objects())
def test_what_is_dumped_is_loaded_again(obj: kv.Model) -> None:
    """A loaded object equals the one that was stored, and is dumped to the same values and key again."""
    schema = schema_of(type(obj))
    key, values = schema.key_of(obj), schema.dump(obj)

    loaded = schema.load(Row(key, copy.deepcopy(values), b"v", 7, schema.number))

    assert loaded == obj
    assert (schema.key_of(loaded), schema.dump(loaded)) == (key, values)
    state = get_state(loaded)
    assert state is not None
    assert state == (Status.LOADED, key, b"v", 7, None)


@settings(max_examples=150)
@given(objects())
def test_what_crosses_is_what_the_schema_says(obj: kv.Model) -> None:
    """Values and key components are plain data of exactly the types that the schema tells the drivers."""
    schema = schema_of(type(obj))
    key, values = schema.key_of(obj), schema.dump(obj)

    assert list(values) == [field.name for field in schema.values]
    assert all(fits(values[field.name], field.type) for field in schema.values)
    assert all(fits_key(part, field.type) for part, field in zip(key, schema.key_fields, strict=True))


@settings(max_examples=200)
@given(objects(), st.data())
def test_anything_else_is_a_decoding_error(obj: kv.Model, data: st.DataObject) -> None:
    """Whatever a store gives back: an object that can be stored again and gives an equal one, or ``DecodingError``."""
    schema = schema_of(type(obj))
    key, values = schema.key_of(obj), schema.dump(obj)
    names = [field.name for field in schema.values]
    values |= data.draw(st.dictionaries(st.sampled_from([*names, "unknown"]), STORED, max_size=2))
    number = data.draw(st.sampled_from([1, 1, 1, 0, 2]))

    try:
        loaded = schema.load(Row(key, copy.deepcopy(values), b"v", None, number))
    except kv.DecodingError:
        return

    again = schema.dump(loaded)
    assert repr(schema.dump(schema.load(Row(key, copy.deepcopy(again), b"v")))) == repr(again)
    assert set(again) == set(values)


@settings(max_examples=80)
@given(objects())
def test_what_is_dumped_shares_nothing_with_the_object(obj: kv.Model) -> None:
    """Dumped values are a copy: changing them afterwards does not reach the object."""
    schema = schema_of(type(obj))
    before = copy.deepcopy(obj)

    for value in schema.dump(obj).values():
        if isinstance(value, list | dict):
            value.clear()

    assert obj == before


@settings(max_examples=80)
@given(objects())
def test_keys_come_from_arguments_as_from_objects(obj: kv.Model) -> None:
    """The key made from a user's arguments is that of the object, whole and in parts."""
    schema = schema_of(type(obj))
    parts = tuple(getattr(obj, field.name) for field in schema.key_fields)
    count = len(schema.partition)

    key = schema.key_of(obj)

    assert schema.make_key(*parts) == key
    assert schema.make_partition(*parts[:count]) == key[:count]
    for length in range(len(schema.clustering) + 1):
        assert schema.make_clustering(parts[count : count + length]) == key[count : count + length]
