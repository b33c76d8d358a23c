"""Values as other programs write them: one field as it stands, or the fields as one document.

Specified in ``docs/spec/records.md``. There is no envelope, and so no deadline and no stamp: the version of a record is
its content.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from kvmodel.drivers.base import Absent, Key, Primitive, Row, Table, Values, ValueType, Version
from kvmodel.drivers.formats.json_values import TEXTS, dump_json, form_of, load_json
from kvmodel.drivers.formats.records import MAX_DEPTH, examine, pack, unpack
from kvmodel.errors import DecodingError, KvModelError, SchemaError, TooLarge, ValidationError

__all__ = ["PlainRecords"]

Write: TypeAlias = Callable[[Values], bytes]
Read: TypeAlias = Callable[[bytes], Values]

_REFUSALS: Final = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError, MemoryError)
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]*")
_NUMBER: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?([Ee][+-]?[0-9]+)?")
_LONGEST_INT: Final = 4000
_WORDS: Final = {b"NaN": math.nan, b"Infinity": math.inf, b"-Infinity": -math.inf}


class _AtField(Exception):
    """Carries the name of the field that failed, beside the reason."""

    def __init__(self, field: str, reason: Exception) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


class PlainRecords:
    """The values of one table that has the plain layout.

    The same names as :class:`~kvmodel.drivers.formats.records.RecordCodec`.
    """

    __slots__ = ("_limit", "_read", "_store", "_table", "_write")

    def __init__(self, table: Table, store: str, max_value_bytes: int | None) -> None:
        self._table = table
        self._store = store
        self._limit = max_value_bytes
        try:
            self._write, self._read = self._compile()
        except SchemaError as error:
            error.table, error.store = table.name, store
            raise

    def _compile(self) -> tuple[Write, Read]:
        table = self._table
        if table.whole_value is not None:
            (declared,) = (field.type for field in table.values if field.name == table.whole_value)
            return _whole(table.whole_value, declared)
        document = table.options.get(self._store, {}).get("document", "json")
        if document == "json":
            return _json_document(table)
        if document == "msgpack":
            return pack, unpack
        raise SchemaError('the option "document" is "json" or "msgpack"')

    def dump(self, values: Values, stamp: bytes, expires_at: int | None) -> bytes:
        """Make stored bytes of values. Raises ``ValidationError`` and ``TooLarge``."""
        if expires_at is not None:
            raise ValidationError(
                "the plain layout has no place for a deadline: leave expires_in and expires_at out, or use the record"
                " layout",
                table=self._table.name,
            )
        try:
            data = self._write(values)
        except ValidationError as error:
            error.table = self._table.name
            raise
        except _AtField as error:
            raise self._unwritable(error.reason, error.field) from None
        if self._limit is not None and len(data) > self._limit:
            raise TooLarge(
                "the record has more bytes than the store takes: split it, or keep its bulk elsewhere",
                size=len(data),
                limit=self._limit,
                table=self._table.name,
                store=self._store,
            )
        return data

    def load(self, key: Key, data: bytes, now: int) -> Row | Absent:
        """Make a row of stored bytes. Raises ``DecodingError``."""
        try:
            values = self._read(data)
        except _AtField as error:
            raise self._unreadable(key, error.field) from error.reason
        except _REFUSALS as error:
            raise self._unreadable(key, None) from error
        return Row(key, values, data)

    def peek_header(self, data: bytes, now: int) -> tuple[Version, int | None] | None:
        """Answer the version, which is the content; plain records have no deadline."""
        return data, None

    def version(self, data: bytes) -> Version:
        """Answer the version, which is the content."""
        return data

    def _unwritable(self, reason: Exception, field: str) -> ValidationError:
        text = reason.message if isinstance(reason, KvModelError) else str(reason)
        if isinstance(reason, UnicodeEncodeError):
            text = "a str must be Unicode text, without lone surrogates"
        return ValidationError(f"this value cannot be stored: {text}", table=self._table.name, field=field)

    def _unreadable(self, key: Key, field: str | None) -> DecodingError:
        return DecodingError(
            "stored bytes are no plain record of this table: check the types of the model's fields, and the layout"
            " options, against what the other program writes",
            table=self._table.name,
            key=key,
            field=field,
        )


# --- documents --------------------------------------------------------------------------------------------------------


def _json_document(table: Table) -> tuple[Write, Read]:
    forms = {field.name: form_of(field.type, field.name) for field in table.values}
    writers = [(name, form.write) for name, form in forms.items() if form.write]
    readers = [(name, form.read) for name, form in forms.items() if form.read]

    def write(values: Values) -> bytes:
        name = ""
        document = dict(values)
        try:
            for name, convert in writers:
                if name in document:
                    document[name] = convert(document[name])
        except _REFUSALS as error:
            raise _AtField(name, error) from None
        try:
            return _bounded_json(document)
        except _REFUSALS as error:
            raise _first_unwritable(document, error) from None

    def read(data: bytes) -> Values:
        document = load_json(data)
        if not isinstance(document, dict):
            raise ValueError("a document is a JSON object")
        _examine_json(data, document)
        name = ""
        try:
            for name, convert in readers:
                if name in document:
                    document[name] = convert(document[name])
        except _REFUSALS as error:
            raise _AtField(name, error) from None
        return document

    return write, read


def _bounded_json(value: Primitive) -> bytes:
    data = dump_json(value)
    _examine_json(data, value)
    return data


def _examine_json(data: bytes, value: Primitive) -> None:
    """Refuse what is nested too deeply; no level can do without a bracket."""
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        examine(value if isinstance(value, list | dict) else [value])


def _first_unwritable(document: Values, error: Exception) -> _AtField:
    for name, value in document.items():
        try:
            _bounded_json([value])
        except _REFUSALS as reason:
            return _AtField(name, reason)
    return _AtField("", error)


# --- one field --------------------------------------------------------------------------------------------------------


def _whole(name: str, declared: ValueType) -> tuple[Write, Read]:
    """Answer how one field is the whole value: bytes, texts and numbers as they are, all else as JSON."""
    convert_out, convert_in = _SCALARS.get(declared.kind) or _json_value(name, declared)
    if declared.nullable and declared.kind in _SCALARS:
        raise SchemaError(
            "a whole value of this type cannot be None, since every text already means something: leave out '| None'",
            field=name,
        )

    def write(values: Values) -> bytes:
        try:
            return convert_out(values[name])
        except _REFUSALS as error:
            raise _AtField(name, error) from None

    def read(data: bytes) -> Values:
        try:
            return {name: convert_in(data)}
        except _REFUSALS as error:
            raise _AtField(name, error) from None

    return write, read


def _json_value(name: str, declared: ValueType) -> tuple[Callable[..., bytes], Callable[[bytes], Primitive]]:
    form = form_of(declared, name)
    convert_out, convert_in = form.write, form.read

    def write(value: Primitive) -> bytes:
        return _bounded_json(convert_out(value) if convert_out else value)

    def read(data: bytes) -> Primitive:
        value = load_json(data)
        _examine_json(data, value)
        return convert_in(value) if convert_in else value

    return write, read


def _write_int(value: int) -> bytes:
    text = str(value)
    if len(text) > _LONGEST_INT:
        raise ValueError(f"an int takes {_LONGEST_INT} digits at the most here")
    return text.encode()


def _read_int(data: bytes) -> int:
    if len(data) > _LONGEST_INT or _INTEGER.fullmatch(data) is None:
        raise ValueError("an int is written in decimal digits")
    return int(data)


def _write_float(value: float) -> bytes:
    if math.isfinite(value):
        return repr(value).encode()
    return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"


def _read_float(data: bytes) -> float:
    if data in _WORDS:
        return _WORDS[data]
    if len(data) > _LONGEST_INT or _NUMBER.fullmatch(data) is None:
        raise ValueError("a float is written as a number")
    value = float(data)
    if math.isinf(value):
        raise ValueError("a number is beyond all floats")
    return value


def _text_scalar(kind: str) -> tuple[Callable[..., bytes], Callable[[bytes], Primitive]]:
    write, read = TEXTS[kind]
    return (lambda value: write(value).encode()), (lambda data: read(data.decode()))


_SCALARS: Final[dict[str, tuple[Callable[..., bytes], Callable[[bytes], Primitive]]]] = {
    **{kind: _text_scalar(kind) for kind in TEXTS if kind != "bytes"},
    "bytes": (bytes, cast("Callable[[bytes], Primitive]", bytes)),
    "str": (str.encode, bytes.decode),
    "int": (_write_int, _read_int),
    "float": (_write_float, _read_float),
    "bool": (lambda value: b"true" if value else b"false", lambda data: {b"true": True, b"false": False}[data]),
}
