"""Slices as conditions, spelt out column by column: the dialect's comparison of rows gives wrong rows."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Final, NamedTuple

import attrs

from kvmodel.drivers.base import Edge, Key, KeyPart, Slice
from kvmodel.drivers.formats.components import is_of_type
from kvmodel.drivers.picodata.forms import INT_MAX, INT_MIN, MOMENTS, REFUSALS, Wire
from kvmodel.drivers.picodata.layout import Column, Layout
from kvmodel.errors import ValidationError

__all__ = ["Params", "encode_key", "encode_parts", "order_by", "slice_condition"]


class Params:
    """The parameters of a statement, in order."""

    def __init__(self) -> None:
        self.values: list[Wire] = []
        self._shared: dict[object, str] = {}

    def share(self, name: object, value: Wire) -> str:
        """Answer the placeholder of a value that is used in several places, always as the same type."""
        placeholder = self._shared.get(name)
        if placeholder is None:
            placeholder = self._shared[name] = self.add(value)
        return placeholder

    def add(self, value: Wire) -> str:
        """Add a value; answer its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"


# --- keys -------------------------------------------------------------------------------------------------------------


def encode_key(layout: Layout, key: Key) -> list[Wire]:
    """Answer what stands in the columns of a key, the constant column included. Raises ``ValidationError``."""
    columns = layout.keys
    if len(key) != len(columns):
        raise ValidationError("a key is a tuple of the components that the model declares", table=layout.table.name)
    parts = encode_parts(layout, key, 0)
    return [0, *parts] if layout.has_constant else parts


def encode_parts(layout: Layout, parts: Key, at: int) -> list[Wire]:
    """Answer what stands in the columns from ``at`` on. Raises ``ValidationError``."""
    fields = layout.table.key
    found: list[Wire] = []
    for place, part in enumerate(parts, at):
        column, field = layout.keys[place], fields[place]
        if not is_of_type(part, field.type):
            raise _refused(layout, parts, column, f"this key field wants {field.type}")
        try:
            found.append(column.form.encode(part))
        except UnicodeEncodeError:
            text = "a str in a key must be Unicode text, without lone surrogates"
            raise _refused(layout, parts, column, text) from None
        except REFUSALS as error:
            raise _refused(layout, parts, column, str(error)) from None
    return found


def _refused(layout: Layout, key: Key, column: Column, text: str) -> ValidationError:
    return ValidationError(text, table=layout.table.name, key=key, field=column.field)


# --- bounds -----------------------------------------------------------------------------------------------------------


class _Where(enum.Enum):
    """Where a bound stands, as the column sees it."""

    AT = 0
    """At the value."""
    ABOVE = 1
    """Just above the value: no stored value lies between."""
    LOWEST = 2
    """Below all values."""
    HIGHEST = 3
    """Above all values."""


class _Bound(NamedTuple):
    where: _Where
    value: Wire = None


def _bound(layout: Layout, place: int, part: KeyPart) -> _Bound:
    """Answer where a value stands among those that the column can hold. It need not be one of them."""
    column, field = layout.keys[place], layout.table.key[place]
    if column.form.is_native and is_of_type(part, field.type):
        if isinstance(part, str) and "\0" in part:
            (beginning,) = encode_parts(layout, (part.partition("\0")[0],), place)
            return _Bound(_Where.ABOVE, beginning)
        if column.form.kind == "int" and isinstance(part, int):
            lowest = 0 if column.form.type == "UNSIGNED" else INT_MIN
            if not lowest <= part <= INT_MAX:
                return _Bound(_Where.LOWEST if part < lowest else _Where.HIGHEST)
        if isinstance(part, Decimal) and part.is_infinite():
            return _Bound(_Where.LOWEST if part < 0 else _Where.HIGHEST)
        if isinstance(part, datetime) and part in _ENDS:
            return _Bound(_Where.LOWEST if part == _ENDS[0] else _Where.HIGHEST)
    (value,) = encode_parts(layout, (part,), place)
    return _Bound(_Where.AT, value)


_ENDS: Final = tuple(moment.replace(tzinfo=timezone.utc) for moment in MOMENTS)
_NEVER: Final = None
_ALWAYS: Final = ""
_Condition = str | None
"""SQL; empty for what always holds, ``None`` for what never does."""


def _strictly(column: Column, bound: _Bound, up: bool, params: Params) -> _Condition:
    """Answer the condition that a column lies strictly beyond a bound: upwards or downwards, as values count."""
    if bound.where is _Where.LOWEST:
        return _ALWAYS if up else _NEVER
    if bound.where is _Where.HIGHEST:
        return _NEVER if up else _ALWAYS
    sign = ">" if up else "<=" if bound.where is _Where.ABOVE else "<"
    return f"{column.sql} {sign} {params.add(bound.value)}"


def _beyond(
    columns: Sequence[Column], bounds: Sequence[_Bound], up: bool, inclusive: bool, params: Params
) -> _Condition:
    """Answer the condition that the columns lie beyond a bound in clustering order.

    ``(a, b) > (1, 2)`` is spelt ``a >= 1 AND (a > 1 OR (a = 1 AND b > 2))``; the first part serves the index.
    """
    column, bound = columns[0], bounds[0]
    upwards = up is not column.descending
    if len(bounds) == 1 and bound.where is _Where.AT and inclusive:
        return f"{column.sql} {'>=' if upwards else '<='} {params.add(bound.value)}"
    if len(bounds) == 1 or bound.where is not _Where.AT:
        return _strictly(column, bound, upwards, params)
    here = params.add(bound.value)
    strict = f"{column.sql} {'>' if upwards else '<'} {here}"
    rest = _beyond(columns[1:], bounds[1:], up, inclusive, params)
    if rest is _NEVER:
        return strict
    loose = f"{column.sql} {'>=' if upwards else '<='} {here}"
    if rest == _ALWAYS:
        return loose
    return f"{loose} AND ({strict} OR ({column.sql} = {here} AND {rest}))"


@attrs.define
class _Conditions:
    """Conditions that all have to hold."""

    parts: list[str] = attrs.field(factory=list)
    is_empty: bool = False

    def add(self, condition: _Condition) -> None:
        if condition is _NEVER:
            self.is_empty = True
        elif condition:
            self.parts.append(condition)


def slice_condition(layout: Layout, slice: Slice, params: Params, constant: str) -> str | None:
    """Answer the condition that a row lies in a slice, empty for all rows; ``None`` where none can.

    ``constant`` is the quoted name of the constant column. Raises ``ValidationError``.
    """
    found = _Conditions()
    count = layout.partition_count
    if slice.partition is not None:
        if layout.has_constant:
            found.add(f"{constant} = {params.add(0)}")
        wires = encode_parts(layout, slice.partition, 0)
        for column, wire in zip(layout.keys, wires, strict=False):
            found.add(f"{column.sql} = {params.add(wire)}")
        _add_bounds(layout, slice, count, found, params)
    if slice.after is not None:
        _add_position(layout, slice, found, params)
    return None if found.is_empty else " AND ".join(found.parts)


def _add_bounds(layout: Layout, slice: Slice, count: int, found: _Conditions, params: Params) -> None:
    columns = layout.keys[count:]
    for place, part in enumerate(slice.prefix):
        bound = _bound(layout, count + place, part)
        found.add(f"{columns[place].sql} = {params.add(bound.value)}" if bound.where is _Where.AT else _NEVER)
    if slice.starts is not None:
        _add_beginning(layout, count + len(slice.prefix), slice, found, params)
    for edge, up in ((slice.lower, True), (slice.upper, False)):
        if edge is not None:
            _add_edge(layout, edge, up, count, found, params)


def _add_edge(layout: Layout, edge: Edge, up: bool, count: int, found: _Conditions, params: Params) -> None:
    columns = layout.keys[count:]
    if not edge.parts:
        found.add(_ALWAYS if edge.inclusive else _NEVER)
        return
    if len(edge.parts) > len(columns):
        raise ValidationError("a bound has at most the components of the clustering key", table=layout.table.name)
    bounds = [_bound(layout, count + place, part) for place, part in enumerate(edge.parts)]
    found.add(_beyond(columns, bounds, up, edge.inclusive, params))


def _add_position(layout: Layout, slice: Slice, found: _Conditions, params: Params) -> None:
    """Go on behind a key, in the direction of reading."""
    assert slice.after is not None
    at = 0 if slice.partition is None else layout.partition_count
    wires = encode_parts(layout, slice.after, 0)[at:]
    bounds = [_Bound(_Where.AT, wire) for wire in wires]
    found.add(_beyond(layout.keys[at:], bounds, not slice.reverse, False, params))


def _add_beginning(layout: Layout, place: int, slice: Slice, found: _Conditions, params: Params) -> None:
    """Let in the texts, or bytes, that begin like this."""
    starts = slice.starts
    field = layout.table.key[place] if place < len(layout.table.key) else None
    if field is None or field.type.kind != type(starts).__name__:
        raise ValidationError(
            "starts() wants the beginning of a str or bytes component, as that one is declared",
            table=layout.table.name,
            field=field.name if field else None,
        )
    bound = _bound(layout, place, starts)  # type: ignore[arg-type]  # it has just been looked at
    column = layout.keys[place]
    if bound.where is not _Where.AT:
        found.add(_NEVER)
        return
    beginning = bound.value
    assert isinstance(beginning, str)
    if beginning:
        found.add(f"{column.sql} >= {params.add(beginning)}")
        beyond = _successor(beginning)
        if beyond is not None:
            found.add(f"{column.sql} < {params.add(beyond)}")


def _successor(text: str) -> str | None:
    """Answer the first text behind all that begin like this one; ``None`` where there is none."""
    while text:
        code = ord(text[-1]) + 1
        text = text[:-1]
        if code <= 0x10FFFF:
            return text + chr(0xE000 if code == 0xD800 else code)
    return None


# --- order ------------------------------------------------------------------------------------------------------------


def order_by(layout: Layout, slice: Slice) -> str:
    """Answer the ORDER BY clause of a slice: in a whole table, the partitions come in the order of their values."""
    columns = layout.keys if slice.partition is None else layout.keys[layout.partition_count :]
    if not columns:
        return ""
    parts = [f"{column.sql}{' DESC' if column.descending is not slice.reverse else ''}" for column in columns]
    return f" ORDER BY {', '.join(parts)}"
