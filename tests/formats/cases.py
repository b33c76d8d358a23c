"""Random key types, keys and values, and an order of keys that shares no code with the formats."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st

from kvmodel.drivers.base import (
    Key,
    KeyField,
    KeyPart,
    KeyType,
    Primitive,
    Slice,
    Table,
    ValueField,
    ValueType,
)

RANKS = ("bytes", "str", "tuple", "int", "float", "decimal", "bool", "uuid", "date", "datetime")
"""The order of types inside unions, as the specification gives it."""

PYTHON_TYPES: dict[str, type] = {
    "bytes": bytes,
    "str": str,
    "tuple": tuple,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "bool": bool,
    "uuid": UUID,
    "date": date,
    "datetime": datetime,
}

texts = st.one_of(st.text(alphabet="\x00\x01\x02ab\x7f\x80\u00ff\uffff\U00010000", max_size=4), st.text(max_size=6))
blobs = st.one_of(st.lists(st.sampled_from([0, 1, 2, 0x61, 0xFE, 0xFF]), max_size=4).map(bytes), st.binary(max_size=6))
integers = st.one_of(
    st.integers(-300, 300),
    st.integers(),
    st.builds(
        lambda bits, near, sign: sign * ((1 << bits) + near),
        st.integers(0, 200),
        st.integers(-1, 1),
        st.sampled_from([1, -1]),
    ),
)
floats = st.floats(allow_nan=False)
decimals = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=True),
    st.builds(
        lambda sign, digits, exponent: Decimal((sign, tuple(map(int, digits)), exponent)),
        st.sampled_from([0, 1]),
        st.text(alphabet="019", min_size=1, max_size=4),
        st.integers(-4, 4),
    ),
)
instants = st.datetimes(timezones=st.just(timezone.utc))
scalars: dict[str, st.SearchStrategy[KeyPart]] = {
    "str": texts,
    "bytes": blobs,
    "int": integers,
    "float": floats,
    "bool": st.booleans(),
    "decimal": decimals,
    "uuid": st.uuids(),
    "datetime": instants,
    "date": st.dates(),
}

scalar_types = st.sampled_from(sorted(scalars)).map(KeyType)


def _tuples(items: st.SearchStrategy[KeyType]) -> st.SearchStrategy[KeyType]:
    unions = st.lists(items, min_size=2, max_size=4, unique_by=lambda item: item.kind).map(
        lambda members: KeyType("union", tuple(members))
    )
    elements = st.one_of(items, unions)
    return st.one_of(
        st.lists(elements, max_size=3).map(lambda found: KeyType("tuple", tuple(found))),
        elements.map(lambda item: KeyType("tuple", (item,), variadic=True)),
    )


key_types = st.one_of(scalar_types, _tuples(st.one_of(scalar_types, _tuples(scalar_types))))


@functools.lru_cache(maxsize=4096)
def values_of(declared: KeyType) -> st.SearchStrategy[KeyPart]:
    """Components of a type."""
    if declared.kind == "union":
        return st.one_of([values_of(item) for item in declared.items])
    if declared.kind == "tuple" and declared.variadic:
        return st.lists(values_of(declared.items[0]), max_size=3).map(tuple)
    if declared.kind == "tuple":
        return st.tuples(*map(values_of, declared.items))
    return scalars[declared.kind]


def compare(left: object, right: object) -> int:
    """Compare two components the way the specification says in words: -1, 0 or 1."""
    ranks = [RANKS.index(next(name for name in RANKS if type(value) is PYTHON_TYPES[name])) for value in (left, right)]
    if ranks[0] != ranks[1]:
        return -1 if ranks[0] < ranks[1] else 1
    if isinstance(left, tuple) and isinstance(right, tuple):
        for ours, theirs in zip(left, right, strict=False):
            found = compare(ours, theirs)
            if found:
                return found
        return (len(left) > len(right)) - (len(left) < len(right))
    return bool(left > right) - bool(left < right)  # type: ignore[operator]


def compare_keys(fields: tuple[KeyField, ...], left: Key, right: Key) -> int:
    """Compare two keys, or leading parts of equal length, in the order that their fields declare."""
    for field, ours, theirs in zip(fields, left, right, strict=False):
        found = compare(ours, theirs)
        if found:
            return -found if field.descending else found
    return 0


def inside(table: Table, slice: Slice, key: Key) -> bool:
    """Tell by its components whether a key belongs to a slice."""
    if slice.partition is None:
        parts, fields = key, table.key
    else:
        count = len(table.partition)
        if key[:count] != slice.partition:
            return False
        parts, fields = key[count:], table.clustering
        if parts[: len(slice.prefix)] != slice.prefix:
            return False
        if slice.starts is not None:
            part = parts[len(slice.prefix)]
            assert isinstance(part, str | bytes)
            if not part.startswith(slice.starts):  # type: ignore[arg-type]
                return False
    if slice.lower is not None:
        found = compare_keys(fields, parts, slice.lower.parts)
        if found < 0 or (found == 0 and not slice.lower.inclusive):
            return False
    if slice.upper is not None:
        found = compare_keys(fields, parts, slice.upper.parts)
        if found > 0 or (found == 0 and not slice.upper.inclusive):
            return False
    if slice.after is not None:
        found = compare_keys(table.key, key, slice.after)
        return found < 0 if slice.reverse else found > 0
    return True


def fields_of(*declared: KeyType | str | tuple[KeyType | str, bool]) -> tuple[KeyField, ...]:
    """Key fields ``k0``, ``k1``, ... of these types; a pair says ``(type, descending)``."""
    fields = []
    for index, item in enumerate(declared):
        found, descending = item if isinstance(item, tuple) else (item, False)
        fields.append(KeyField(f"k{index}", KeyType(found) if isinstance(found, str) else found, descending))
    return tuple(fields)


def table_of(
    partition: tuple[KeyField, ...] = (),
    clustering: tuple[KeyField, ...] = (),
    *values: ValueField,
    name: str = "things",
    namespace: tuple[str, ...] = (),
    **more: object,
) -> Table:
    """A table with these fields."""
    make: Callable[..., Table] = Table
    return make(name=name, namespace=namespace, partition=partition, clustering=clustering, values=values, **more)


def value_field(name: str, kind: str, **more: object) -> ValueField:
    """A value field of this kind."""
    make: Callable[..., ValueType] = ValueType
    return ValueField(name, make(kind, **more))


times = st.times()
durations = st.timedeltas()
stored_decimals = st.one_of(decimals, st.decimals(allow_nan=True))
stored_scalars: st.SearchStrategy[Primitive] = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    st.text(max_size=6),
    st.binary(max_size=6),
    stored_decimals,
    st.uuids(),
    instants,
    st.dates(),
    times,
    durations,
)
primitives: st.SearchStrategy[Primitive] = st.recursive(
    stored_scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


def same(left: object, right: object) -> bool:
    """Equal in value, type and form: NaN is itself, 1 is not True, 1.0 is not 1.00, -0.0 is not 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, Decimal):
        return str(left) == str(right)
    return left == right


def plain_table(
    key: tuple[KeyField, ...],
    clustering: tuple[KeyField, ...] = (),
    *values: ValueField,
    namespace: tuple[str, ...] = (),
    whole: str | None = None,
    options: Mapping[str, object] | None = None,
) -> Table:
    """A table ``users`` in the plain layout, with these options for the store that the tests name."""
    return table_of(
        key,
        clustering,
        *values,
        name="users",
        namespace=namespace,
        layout="plain",
        whole_value=whole,
        options={"teststore": options or {}, "other": {"separator": 5}},
    )
