"""How values stand in columns: in a native type where there is one, else as text. Specified in the store's page.

Rules. What a native type cannot hold exactly is refused, never rounded or cut. Texts of scalars keep the order of the
values; lists, mappings and nested objects are JSON. Decoders take what other programs may have written into a native
column, and of texts only what the encoder writes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import attrs

from kvmodel.drivers.base import KeyField, KeyType, Primitive, ValueType
from kvmodel.drivers.formats import components
from kvmodel.drivers.formats.json_values import TEXTS, dump_json, form_of, load_json
from kvmodel.drivers.formats.records import examine
from kvmodel.drivers.formats.text import text_decoder, text_encoder

__all__ = ["NATIVE", "REFUSALS", "Form", "Wire", "changes", "key_form", "raw_form", "value_form"]

Wire: TypeAlias = "None | bool | int | float | str | Decimal | UUID | datetime"
"""What goes over the wire, and comes back."""

REFUSALS: Final = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError, AssertionError)

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
_DIGITS: Final = 28
_MICROSECOND: Final = timedelta(microseconds=1)
MOMENTS: Final = (datetime.min, datetime.max)  # noqa: DTZ901 - their zone is UTC
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_MAX_DEPTH_BRACKETS: Final = 100

NATIVE: Final = {
    "bool": "BOOLEAN",
    "int": "INTEGER",
    "float": "DOUBLE",
    "str": "TEXT",
    "decimal": "DECIMAL",
    "uuid": "UUID",
    "datetime": "DATETIME",
}
"""From a kind of value to the type of its column."""


@attrs.frozen(eq=False)
class Form:
    """One way to keep a type in a column.

    Attributes:
        type: The column's type.
        encode: From a value, not ``None``, to what goes over the wire. Raises one of :data:`REFUSALS`.
        decode: The way back. Raises one of :data:`REFUSALS`.
        kind: The kind of value.
        is_native: Whether the column's type is the value's own.
    """

    type: str
    encode: Callable[[Any], Wire]
    decode: Callable[[Any], Primitive]
    kind: str
    is_native: bool


def raw_form(type: str) -> Form:
    """Answer the form of a column that no field is mapped to: as it stands."""
    return Form(type, _same, _from_wire, "any", is_native=True)


def _from_wire(value: Wire) -> Primitive:
    return UUID(int=value.int) if isinstance(value, UUID) else value


# --- native types -----------------------------------------------------------------------------------------------------


def _int_out(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError('an int has 64 bits in this store: declare the field with column="text" for larger ones')
    return value


def _unsigned_out(value: int) -> int:
    if not 0 <= value <= INT_MAX:
        raise ValueError("this column is UNSIGNED: it takes 0 to 2**63 - 1")
    return value


def _str_out(value: str) -> str:
    if "\0" in value:
        raise ValueError('a str cannot hold U+0000 in this store: declare the field with column="text" to keep it')
    value.encode()  # refuses lone surrogates
    return value


def _float_out(value: float) -> float:
    if value != value:
        raise ValueError('this store turns NaN into NULL: declare the field with column="text" to keep it')
    return value


def _decimal_out(value: Decimal) -> Decimal:
    """Answer an equal Decimal that the store keeps digit by digit."""
    if not value.is_finite():
        raise ValueError('a DECIMAL is finite: declare the field with column="text" for NaN and infinities')
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if len(digits) + max(exponent, 0) > _DIGITS or -exponent > _DIGITS:
        raise ValueError(
            f"a DECIMAL is sent with {_DIGITS} digits at the most, and as many behind the point: round it yourself, or"
            ' declare the field with column="text"'
        )
    if not value:
        return Decimal((0, (0,), min(exponent, 0)))
    if exponent > 0:
        return Decimal((sign, (*digits, *[0] * exponent), 0))
    return value


def _decimal_key_out(value: Decimal) -> Decimal:
    """Answer the one Decimal that stands for all equal ones: the bucket depends on how it is written."""
    kind, exponent, digits = components.decimal_parts(value)
    return _decimal_out(components.decimal_of_parts(kind, exponent, digits))


def _datetime_out(value: datetime) -> datetime:
    components.microseconds_of(value)
    moment = value.astimezone(timezone.utc)
    if moment.replace(tzinfo=None) in MOMENTS:
        raise ValueError(
            "the first and the last moment that datetime knows stand for infinities on the wire: take the microsecond"
            ' beside them, or declare the field with column="text"'
        )
    return moment


def _datetime_in(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("this moment is infinite")
    return value.astimezone(timezone.utc)


def _float_key_out(value: float) -> float:
    components.float_bits(value)
    return value + 0.0


def _uuid_in(value: UUID) -> UUID:
    return UUID(int=value.int)  # asyncpg has a class of its own


def _same(value: Any) -> Any:
    return value


def changes(decode: Callable[[Any], Primitive]) -> bool:
    """Whether a decoder does anything."""
    return decode is not _same


_OUT: Final[dict[str, Callable[[Any], Wire]]] = {
    "bool": _same,
    "int": _int_out,
    "float": _float_out,
    "str": _str_out,
    "decimal": _decimal_out,
    "uuid": _same,
    "datetime": _datetime_out,
}
_KEY_OUT: Final[dict[str, Callable[[Any], Wire]]] = {**_OUT, "float": _float_key_out, "decimal": _decimal_key_out}
_IN: Final[dict[str, Callable[[Any], Primitive]]] = {
    **dict.fromkeys(_OUT, _same),
    "uuid": _uuid_in,
    "datetime": _datetime_in,
}


def _decimal_key_in(value: Decimal) -> Decimal:
    return components.decimal_of_parts(*components.decimal_parts(value))


# --- texts ------------------------------------------------------------------------------------------------------------


def _text_str_out(value: str) -> str:
    value.encode()
    return components.escape(value)


def _text_str_in(text: str) -> str:
    value = text.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")
    if components.escape(value) != text:
        raise ValueError("the text is not what is written for a str")
    return value


def _text_key(declared: KeyType) -> tuple[Callable[[Any], str], Callable[[str], Primitive]]:
    if declared.kind == "str":
        return _text_str_out, _text_str_in
    field = KeyField("", declared)
    return text_encoder(field), cast("Callable[[str], Primitive]", text_decoder(field))


def _text_float_out(value: float) -> str:
    """As in keys, but for NaN, which comes last, and -0.0, which comes just before 0.0."""
    if value != value:
        return "ffffffffffffffff"
    bits = int.from_bytes(struct.pack(">d", value), "big")
    return f"{bits ^ (_ALL if bits & _SIGN else _SIGN):016x}"


def _text_float_in(text: str) -> float:
    if text == "ffffffffffffffff":
        return math.nan
    bits = int(text, 16)
    (value,) = struct.unpack(">d", (bits ^ (_SIGN if bits & _SIGN else _ALL)).to_bytes(8, "big"))
    if _text_float_out(value) != text:
        raise ValueError("the text is not what is written for a float")
    return cast("float", value)


_plain_decimal = _text_key(KeyType("decimal"))
_plain_int = _text_key(KeyType("int"))


def _text_decimal_out(value: Decimal) -> str:
    """As in keys, and the Decimal as Python writes it behind that, where the key does not show all of it."""
    if value.is_nan():
        return f"9 {value}"
    text = _plain_decimal[0](value)
    return text if str(_plain_decimal[1](text)) == str(value) else f"{text} {value}"


def _text_decimal_in(text: str) -> Decimal:
    order, space, spelt = text.partition(" ")
    value = Decimal(spelt) if space else cast("Decimal", _plain_decimal[1](order))
    if _text_decimal_out(value) != text:
        raise ValueError("the text is not what is written for a Decimal")
    return value


def _text_timedelta_out(value: timedelta) -> str:
    return _plain_int[0](value // _MICROSECOND)


def _text_timedelta_in(text: str) -> timedelta:
    return timedelta(microseconds=cast("int", _plain_int[1](text)))


_TEXT_VALUES: Final[dict[str, tuple[Callable[[Any], str], Callable[[str], Primitive]]]] = {
    **{kind: _text_key(KeyType(kind)) for kind in ("str", "bytes", "int", "bool", "uuid", "datetime", "date")},
    "float": (_text_float_out, _text_float_in),
    "decimal": (_text_decimal_out, _text_decimal_in),
    "time": cast("tuple[Callable[[Any], str], Callable[[str], Primitive]]", TEXTS["time"]),
    "timedelta": (_text_timedelta_out, _text_timedelta_in),
}


def _json_form(declared: ValueType, path: str) -> Form:
    form = form_of(declared, path)
    write, read = form.write, form.read

    def encode(value: Primitive) -> Wire:
        converted = write(value) if write else value
        data = dump_json(converted)
        _examine(data, converted)
        return data.decode()

    def decode(text: Any) -> Primitive:
        data = text.encode()
        value = load_json(data)
        _examine(data, value)
        return read(value) if read else value

    return Form("TEXT", encode, decode, declared.kind, is_native=False)


def _examine(data: bytes, value: Primitive) -> None:
    """Refuse what is nested too deeply; no level can do without a bracket."""
    if data.count(b"[") + data.count(b"{") > _MAX_DEPTH_BRACKETS:
        examine(value if isinstance(value, list | dict) else [value])


# --- by field ---------------------------------------------------------------------------------------------------------


def key_form(declared: KeyType, *, text: bool = False, type: str | None = None) -> Form:
    """Answer how a component of a key is kept; ``type`` is what an existing column has."""
    kind = declared.kind
    if text or kind not in NATIVE:
        out, back = _text_key(declared)
        return Form("TEXT", out, back, kind, is_native=False)
    decode = _decimal_key_in if kind == "decimal" else _IN[kind]
    encode: Callable[[Any], Wire] = _unsigned_out if type == "UNSIGNED" else _KEY_OUT[kind]
    return Form(type or NATIVE[kind], encode, decode, kind, is_native=True)


def value_form(declared: ValueType, path: str, *, text: bool = False, type: str | None = None) -> Form:
    """Answer how a field outside the key is kept. Raises ``SchemaError`` naming ``path``."""
    kind = declared.kind
    if kind in _TEXT_VALUES and (text or kind not in NATIVE):
        out, back = _TEXT_VALUES[kind]
        return Form("TEXT", out, back, kind, is_native=False)
    if kind in NATIVE:
        encode: Callable[[Any], Wire] = _unsigned_out if type == "UNSIGNED" else _OUT[kind]
        return Form(type or NATIVE[kind], encode, _IN[kind], kind, is_native=True)
    return _json_form(declared, path)
