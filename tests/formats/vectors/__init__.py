"""Reads the golden vectors: how values are written in their JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import cast
from uuid import UUID

from kvmodel.drivers.base import Key, KeyField, KeyPart, KeyType, Primitive, Table

__all__ = ["key_of", "key_type_of", "part_of", "primitive_of"]

_READERS: dict[str, Callable[[str], KeyPart]] = {
    "str": str,
    "bytes": bytes.fromhex,
    "int": int,
    "float": float,
    "bool": lambda text: {"true": True, "false": False}[text],
    "decimal": Decimal,
    "uuid": UUID,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


def key_type_of(text: str | list[object]) -> KeyType:
    """Read a type: a kind, or ``["tuple", ...]``, ``["tuple*", item]``, ``["union", ...]``."""
    if isinstance(text, str):
        return KeyType(text)
    kind, *items = cast("list[str]", text)
    return KeyType(kind.rstrip("*"), tuple(map(key_type_of, items)), variadic=kind.endswith("*"))


def part_of(declared: KeyType, written: object) -> KeyPart:
    """Read a value; elements of unions are written as ``[type, value]``."""
    if declared.kind == "union":
        kind, inner = cast("tuple[str, object]", written)
        return part_of(key_type_of(kind), inner)
    if declared.kind == "tuple":
        elements = cast("list[object]", written)
        items = declared.items * len(elements) if declared.variadic else declared.items
        return tuple(map(part_of, items, elements))
    return _READERS[declared.kind](cast("str", written))


def key_of(vector: dict[str, object]) -> tuple[Table, Key]:
    """Read a table and a key of it. A field is ``[name, type]``, a descending one ``[name, type, true]``."""
    written = cast("list[list[object]]", vector["fields"])
    fields = tuple(
        KeyField(cast("str", name), key_type_of(cast("str", kind)), bool(descending))
        for name, kind, *descending in written
    )
    table = Table(
        cast("str", vector["table"]),
        fields[:1],
        fields[1:],
        (),
        namespace=tuple(cast("list[str]", vector["namespace"])),
    )
    return table, tuple(map(part_of, (field.type for field in fields), cast("list[object]", vector["key"])))


_TAGGED: dict[str, Callable[[str], Primitive]] = {
    "$int": int,
    "$float": float,
    "$bytes": bytes.fromhex,
    "$decimal": Decimal,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda text: timedelta(microseconds=int(text)),
    "$uuid": UUID,
}


def primitive_of(written: object) -> Primitive:
    """Read a stored value: JSON as it stands, and ``{"$kind": "text"}`` for what JSON lacks."""
    if isinstance(written, list):
        return list(map(primitive_of, written))
    if isinstance(written, dict):
        if len(written) == 1:
            ((tag, text),) = written.items()
            if tag in _TAGGED:
                return _TAGGED[tag](text)
        return {name: primitive_of(value) for name, value in written.items()}
    return cast("Primitive", written)
