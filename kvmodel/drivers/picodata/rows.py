"""Rows of the mapper from records of the store, and the other way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final, cast

from kvmodel.drivers.base import Absent, Key, KeyPart, Primitive, Put, Row, Values, Version
from kvmodel.drivers.formats.records import pack, unpack
from kvmodel.drivers.picodata.bounds import encode_key
from kvmodel.drivers.picodata.forms import INT_MAX, REFUSALS, Wire, changes
from kvmodel.drivers.picodata.layout import Column, Layout
from kvmodel.drivers.picodata.names import SCHEMA, quote
from kvmodel.errors import DecodingError, KvModelError, SchemaError, TooLarge, ValidationError

__all__ = ["NEVER", "RowCodec", "Stored"]

NEVER: Final = INT_MAX
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNVERSIONED: Final = b""
_FIXED: Final = 9
"""About how many bytes a number, a UUID, a time and the head of anything else takes in a row."""


class Stored:
    """A put, encoded: the columns that it gives, what stands in them, and the version that the record gets."""

    __slots__ = ("columns", "version", "wires")

    def __init__(self, columns: list[str], wires: list[Wire], version: Version) -> None:
        self.columns = columns
        self.wires = wires
        self.version = version


class RowCodec:
    """Encodes and decodes the rows of one layout."""

    def __init__(self, layout: Layout, store: str, max_value_bytes: int | None) -> None:
        self._layout = layout
        self._store = store
        self._limit = max_value_bytes
        self._first = 1 if layout.has_constant else 0
        self._head = self._first + len(layout.keys)
        self._body = (
            self._head + (layout.version is not None) + (layout.expires is not None) + (1 if layout.has_schema else 0)
        )
        self._turns_keys = any(changes(column.form.decode) for column in layout.keys)
        self._readers = [
            (column.field, column.form.decode if changes(column.form.decode) else None, column.nullable)
            for column in layout.values
        ]
        self._compared = [*layout.values, *([layout.expires] if layout.expires is not None else [])]
        self._extras = {column.field: column for column in layout.extras}

    # --- reading ------------------------------------------------------------------------------------------------------

    def key_wires(self, record: Sequence[Wire]) -> tuple[Wire, ...]:
        """Answer what stands in the columns of the primary key."""
        return tuple(record[: self._head])

    def key(self, record: Sequence[Wire]) -> Key:
        """Answer the key of a record. Raises ``DecodingError``."""
        wires = record[self._first : self._head]
        if not self._turns_keys:
            return cast("Key", tuple(wires))
        parts: list[KeyPart] = []
        for column, wire in zip(self._layout.keys, wires, strict=True):
            try:
                parts.append(cast("KeyPart", column.form.decode(wire)))
            except REFUSALS as error:
                raise self._undecodable(tuple(parts), column) from error
        return tuple(parts)

    def load(self, record: Sequence[Wire], now: int, *, values: bool = True) -> Row | Absent:
        """Make a row of a record. Raises ``DecodingError``."""
        key = self.key(record)
        version = self.version(record)
        expires_at = self.deadline(record)
        if expires_at is not None and expires_at <= now:
            return Absent(key, version)
        number = self._layout.table.schema_number
        if self._layout.has_schema:
            number = cast("int | None", record[self._body - 1]) or 1
        return Row(key, self.values(key, record) if values else {}, version, expires_at, number)

    def version(self, record: Sequence[Wire]) -> Version:
        """Answer the version: the stamp, or the content of all mapped columns."""
        if self._layout.version is not None:
            found = record[self._head]
            return _UNVERSIONED if found is None else cast("Version", found)
        compared = self._compared
        wires = record[self._body : self._body + len(self._layout.values)]
        if self._layout.expires is not None:
            wires = [*wires, record[self._head]]
        return pack({column.name: cast("Primitive", wire) for column, wire in zip(compared, wires, strict=True)})

    def deadline(self, record: Sequence[Wire]) -> int | None:
        """Answer the deadline in microseconds, ``None`` for never."""
        if self._layout.expires is None:
            return None
        found = record[self._head + (self._layout.version is not None)]
        if isinstance(found, datetime):
            return None if found >= _END else (found - _EPOCH) // _MICROSECOND
        return None if found is None or found == NEVER else cast("int", found)

    def values(self, key: Key, record: Sequence[Wire]) -> Values:
        """Answer the fields. NULL is ``None`` where the field takes it, and a missing field where it does not."""
        found: Values = {}
        at = self._body
        for name, decode, is_nullable in self._readers:
            wire = record[at]
            at += 1
            if wire is None:
                if is_nullable:
                    found[name] = None
            elif decode is None:
                found[name] = cast("Primitive", wire)
            else:
                try:
                    found[name] = decode(wire)
                except REFUSALS as error:
                    raise self._undecodable(key, self._layout.values[at - self._body - 1]) from error
        for column in self._layout.extras:
            if record[at] is not None:
                found[column.field] = column.form.decode(record[at])
            at += 1
        return found

    def _undecodable(self, key: Key, column: Column) -> DecodingError:
        return DecodingError(
            "what stands in this column is no value of the field: check what other programs write there",
            table=self._layout.table.name,
            key=key,
            field=column.field,
            store=self._store,
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    def moment(self, at: int) -> Wire:
        """Answer a time as the column of deadlines holds it."""
        expires = self._layout.expires
        if expires is not None and expires.form.type == "DATETIME":
            return _EPOCH + timedelta(microseconds=at)
        return at

    def dump(self, put: Put) -> Stored:
        """Encode a put. Raises ``ValidationError``, ``TooLarge`` and ``SchemaError``."""
        layout = self._layout
        columns: list[str] = []
        wires: list[Wire] = []
        version: Version = _UNVERSIONED
        if layout.version is not None:
            version = _stamp(put.stamp, layout.version)
            columns.append(layout.version.sql)
            wires.append(cast("Wire", version))
        if layout.expires is not None:
            columns.append(layout.expires.sql)
            wires.append(self._deadline_out(layout.expires, put.expires_at))
        elif put.expires_at is not None:
            raise self._no_deadline(put)
        if layout.has_schema:
            columns.append(quote(SCHEMA))
            wires.append(layout.table.schema_number)
        begin = len(wires)
        for column in layout.values:
            columns.append(column.sql)
            wires.append(self._value_out(column, put))
        if layout.version is None:
            content = [*wires[begin:], *wires[:begin]]
            pairs = zip(self._compared, content, strict=True)
            version = pack({column.name: cast("Primitive", wire) for column, wire in pairs})
        for name, column in self._extras.items():
            if name in put.values:
                columns.append(column.sql)
                wires.append(cast("Wire", put.values[name]))
        self._check_size(put, wires)
        return Stored(columns, wires, version)

    def _value_out(self, column: Column, put: Put) -> Wire:
        value = put.values.get(column.field)
        if value is None:
            if not column.takes_null:
                raise self._refused(put, column, "this column is NOT NULL: give the field a value")
            return None
        try:
            return column.form.encode(value)
        except UnicodeEncodeError:
            raise self._refused(put, column, "a str must be Unicode text, without lone surrogates") from None
        except REFUSALS as error:
            text = error.message if isinstance(error, KvModelError) else str(error)
            raise self._refused(put, column, f"this value cannot be stored: {text}") from None

    def _refused(self, put: Put, column: Column, text: str) -> ValidationError:
        return ValidationError(text, table=put.table.name, key=put.key, field=column.field)

    def _deadline_out(self, column: Column, expires_at: int | None) -> Wire:
        if expires_at is not None:
            return self.moment(expires_at)
        if column.takes_null:
            return None
        return _END if column.form.type == "DATETIME" else NEVER

    def _no_deadline(self, put: Put) -> KvModelError:
        if put.table.layout == "plain":
            return ValidationError(
                "the plain layout has no place for a deadline: leave expires_in and expires_at out, or use the record"
                " layout",
                table=put.table.name,
                key=put.key,
            )
        return SchemaError(
            "this table has no column for deadlines: name one by the option expires_column, or leave expires_in and"
            " expires_at out",
            table=put.table.name,
            key=put.key,
            store=self._store,
        )

    def _check_size(self, put: Put, wires: Sequence[Wire]) -> None:
        limit = self._limit
        if limit is None:
            return
        whole = [*wires, *encode_key(self._layout, put.key)]
        texts = [wire for wire in whole if isinstance(wire, str)]
        fixed = _FIXED * (2 * len(whole) - len(texts))
        if 4 * sum(map(len, texts)) + fixed <= limit:
            return
        size = sum(len(text.encode()) for text in texts) + fixed
        if size > limit:
            raise TooLarge(
                "the record has more bytes than the store takes: split it, or keep its bulk elsewhere",
                size=size,
                limit=limit,
                table=put.table.name,
                key=put.key,
                store=self._store,
            )

    def expectation(self, version: Version) -> tuple[list[Column], list[Wire]] | None:
        """Answer the columns that tell a version, and what has to stand in them; ``None`` if no record can have it."""
        layout = self._layout
        if layout.version is not None:
            if version == _UNVERSIONED:
                return [layout.version], [None]
            if type(version) is not (str if layout.version.form.type == "TEXT" else int):
                return None
            return [layout.version], [cast("Wire", version)]
        try:
            content = unpack(cast("bytes", version))
        except (DecodingError, *REFUSALS):
            return None
        if list(content) != [column.name for column in self._compared]:
            return None
        return self._compared, [cast("Wire", wire) for wire in content.values()]


def _stamp(stamp: bytes, column: Column) -> Version:
    """Answer a stamp as its column holds it."""
    if column.form.type == "TEXT":
        return stamp.hex()
    return int.from_bytes(stamp, "big") & INT_MAX
