"""What a byte store says about itself: a marker with the versions of the formats, and one row for each table.

Specified in ``docs/spec/keys.md``. Both are written with the first write and compared once a connection, so that keys
of another declaration are an error that says what differs, and never data that cannot be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from kvmodel.drivers.base import KeyField, Primitive, Table, Values
from kvmodel.drivers.formats.keys import name_component, namespace_component
from kvmodel.drivers.formats.records import pack, unpack
from kvmodel.errors import DecodingError, SchemaError

__all__ = ["MARKER_KEY", "check_entry", "check_marker", "encode_entry", "encode_marker", "entry_key"]

MARKER_KEY: Final = b"\x00kvmodel"
"""The key of the marker. Every key of a record begins with a byte above 0x00."""

_ENTRY_HEAD: Final = b"\x00c"
_FORMATS: Final[dict[str, int]] = {"keys": 1, "records": 1}


def encode_marker() -> bytes:
    """Write the marker: the versions of the formats that this store is written in."""
    return pack(cast("Values", dict(_FORMATS)))


def check_marker(stored: bytes, *, store: str | None = None) -> None:
    """Raise ``SchemaError`` unless this program can read what the store holds."""
    _check_formats(_read(stored, None, store), None, store)


def entry_key(table: Table) -> bytes:
    """Answer the key of a table's row in the catalogue."""
    return _ENTRY_HEAD + namespace_component(table.namespace) + name_component(table.name)


def encode_entry(table: Table) -> bytes:
    """Write a table's row in the catalogue."""
    return pack(
        {
            "name": table.name,
            "partition": _described(table.partition),
            "clustering": _described(table.clustering),
            "number": table.schema_number,
            **_FORMATS,
        }
    )


def check_entry(table: Table, stored: bytes, *, store: str | None = None) -> bool:
    """Compare a table with its row in the catalogue; answer whether the row wants to be written again.

    Raises ``SchemaError`` that says what differs: where the row comes from a newer kvmodel or a newer version of the
    model, or where the keys that it describes are not those that the table would write.
    """
    row = _read(stored, table, store)
    _check_formats(row, table, store)
    number = row.get("number")
    if type(number) is not int:
        raise _damaged(table, store)
    if number > table.schema_number:
        raise SchemaError(
            f"this table was written by version {number} of its model, and this program has version"
            f" {table.schema_number}: upgrade the program",
            table=table.name,
            store=store,
        )
    renamed = [
        _compare(table, "partition", table.partition, row.get("partition"), store),
        _compare(table, "clustering", table.clustering, row.get("clustering"), store),
    ]
    return number < table.schema_number or any(renamed)


def _described(fields: Sequence[KeyField]) -> list[Primitive]:
    return [[field.name, str(field.type), field.descending] for field in fields]


def _read(stored: bytes, table: Table | None, store: str | None) -> Values:
    try:
        return unpack(stored)
    except DecodingError as error:
        raise _damaged(table, store) from error


def _damaged(table: Table | None, store: str | None) -> SchemaError:
    return SchemaError(
        "the store's own description of its data is damaged: restore the store from a copy",
        table=table.name if table else None,
        store=store,
    )


def _check_formats(row: Values, table: Table | None, store: str | None) -> None:
    for name, known in _FORMATS.items():
        version = row.get(name)
        if type(version) is not int or version < 1:
            raise _damaged(table, store)
        if version > known:
            raise SchemaError(
                f"the store's {name} are in format {version}, written by a newer kvmodel, and this one reads format"
                f" {known}: upgrade kvmodel",
                table=table.name if table else None,
                store=store,
            )


def _compare(table: Table, role: str, fields: Sequence[KeyField], stored: Primitive, store: str | None) -> bool:
    """Compare fields with what is stored of them; answer whether one was merely renamed."""
    if not isinstance(stored, list) or not all(map(_is_description, stored)):
        raise _damaged(table, store)
    rows = cast("list[tuple[str, str, bool]]", stored)
    if len(rows) != len(fields):
        raise _differs(table, f"it has {len(rows)} {role} fields, the model has {len(fields)}", None, store)
    old_names = [row[0] for row in rows]
    for field, (name, kind, descending) in zip(fields, rows, strict=True):
        if (kind, descending) != (str(field.type), field.descending):
            difference = (
                f"its {role} field {name!r} is {kind} {_direction(descending)}, the model says"
                f" {field.type} {_direction(field.descending)}"
            )
            raise _differs(table, difference, field.name, store)
        if name != field.name and field.name in old_names:
            difference = f"its {role} fields are in the order {', '.join(old_names)}"
            raise _differs(table, difference, field.name, store)
    return old_names != [field.name for field in fields]


def _is_description(row: Primitive) -> bool:
    return isinstance(row, list) and [type(item) for item in row] == [str, str, bool]


def _direction(descending: bool) -> str:
    return "descending" if descending else "ascending"


def _differs(table: Table, difference: str, field: str | None, store: str | None) -> SchemaError:
    return SchemaError(
        f"the store holds this table with another key, {difference}: declare the key as it was, or give the new model"
        " another table name and copy the records",
        table=table.name,
        field=field,
        store=store,
    )
