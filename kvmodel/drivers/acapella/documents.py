"""Values as AcapellaDB keeps them: a JSON object of the model's fields, or one field as it stands.

There is no envelope, and so no stamp and no deadline. A table with a schema number other than 1 has it in the member
``$schema``, which is no name of a field; the plain layout does without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import attrs

from kvmodel.drivers.acapella.protocol import Json
from kvmodel.drivers.base import Key, Primitive, Row, Table, Values, ValueType, Version
from kvmodel.drivers.formats.json_values import WIDE_INT, dump_json, form_of
from kvmodel.drivers.formats.records import MAX_DEPTH, examine
from kvmodel.errors import DecodingError, KvModelError, SchemaError, TooLarge, ValidationError

__all__ = ["Documents"]

_REFUSALS: Final = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
_SCHEMA: Final = "$schema"

Convert = Callable[[Primitive], Primitive]


class Documents:
    """The values of one table."""

    __slots__ = ("_limit", "_number", "_readers", "_store", "_table", "_whole", "_writers")

    def __init__(self, table: Table, store: str, max_value_bytes: int) -> None:
        self._table = table
        self._store = store
        self._limit = max_value_bytes
        self._whole = table.whole_value
        self._number = table.schema_number if table.layout == "record" else 1
        self._writers: dict[str, Convert] = {}
        self._readers: dict[str, Convert] = {}
        for field in table.values:
            self._compile(field.name, field.type)

    def _compile(self, name: str, declared: ValueType) -> None:
        try:
            form = form_of(_widened(declared), name)
            if self._whole is not None and declared.nullable:
                raise SchemaError(
                    "a whole value can't be None here, as that removes the record: leave out '| None'", field=name
                )
        except SchemaError as error:
            error.table, error.store = self._table.name, self._store
            raise
        if form.write is not None:
            self._writers[name] = form.write
        if form.read is not None:
            self._readers[name] = form.read

    # --- writing ------------------------------------------------------------------------------------------------------

    def dump(self, values: Values) -> bytes:
        """Make JSON of values. Raises ``ValidationError`` and ``TooLarge``."""
        document = dict(values)
        for name, write in self._writers.items():
            if name in document:
                try:
                    document[name] = write(document[name])
                except _REFUSALS as error:
                    raise self._unwritable(error, name) from None
        if self._number != 1:
            document[_SCHEMA] = self._number
        try:
            data = _bounded(document if self._whole is None else document[self._whole])
        except _REFUSALS as error:
            raise self._first_unwritable(document, error) from None
        if len(data) > self._limit:
            raise TooLarge(
                "the record has more bytes than are sent at once: split it, or keep its bulk elsewhere",
                size=len(data),
                limit=self._limit,
                table=self._table.name,
                store=self._store,
            )
        return data

    def _first_unwritable(self, document: Values, error: Exception) -> ValidationError:
        for name, value in document.items():
            try:
                _bounded([value])
            except _REFUSALS as reason:
                return self._unwritable(reason, name)
        return self._unwritable(error, None)

    def _unwritable(self, reason: Exception, field: str | None) -> ValidationError:
        text = reason.message if isinstance(reason, KvModelError) else str(reason)
        if isinstance(reason, UnicodeEncodeError):
            text = "a str must be Unicode text, without lone surrogates"
        return ValidationError(f"this value cannot be stored: {text}", table=self._table.name, field=field)

    # --- reading ------------------------------------------------------------------------------------------------------

    def load(self, key: Key, value: Json, version: Version) -> Row:
        """Make a row of a value that was read, which is used up. Raises ``DecodingError``."""
        number = 1
        if self._whole is not None:
            values: Values = {self._whole: cast("Primitive", value)}
        elif isinstance(value, dict):
            values = cast("Values", value)
            if _SCHEMA in value and self._table.layout == "record":
                number = self._read_number(key, value.pop(_SCHEMA))
        else:
            raise self._unreadable(key, None)
        try:
            examine(values)
        except _REFUSALS as error:
            raise self._unreadable(key, None) from error
        for name, read in self._readers.items():
            if name in values:
                try:
                    values[name] = read(values[name])
                except _REFUSALS as error:
                    raise self._unreadable(key, name) from error
        return Row(key, values, version, None, number)

    def _read_number(self, key: Key, value: Json) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._unreadable(key, _SCHEMA)
        return value

    def _unreadable(self, key: Key, field: str | None) -> DecodingError:
        return DecodingError(
            "the stored value is none of this table: check the types of the model's fields against what other programs"
            " write",
            table=self._table.name,
            key=key,
            field=field,
            store=self._store,
        )


def _bounded(value: Primitive) -> bytes:
    data = dump_json(value)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        examine(value if isinstance(value, list | dict) else [value])
    return data


def _widened(declared: ValueType) -> ValueType:
    """Have an int be a text where a float would not be exact; not in unions, where texts mean something already."""
    if declared.kind == "int":
        return attrs.evolve(declared, kind=WIDE_INT)
    if declared.kind == "union" or not declared.items:
        return declared
    return attrs.evolve(declared, items=tuple(map(_widened, declared.items)))
