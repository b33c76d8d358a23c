"""What is asked of the store about its tables, and what creates them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from kvmodel.drivers.picodata.layout import Column, Found, FoundColumn, Layout
from kvmodel.drivers.picodata.names import PARTITION, SCHEMA, quote

__all__ = ["FIND_INDEX", "FIND_TABLE", "add_column", "create_table", "describe", "found_by_types", "read_found"]

FIND_TABLE: Final = 'SELECT "id", "format", "distribution", "engine" FROM "_pico_table" WHERE "name" = $1'
FIND_INDEX: Final = 'SELECT "parts" FROM "_pico_index" WHERE "table_id" = $1 AND "id" = $2'
VERSION: Final = "SELECT version()"

_FIELD_TYPES: Final = {
    "string": "TEXT",
    "text": "TEXT",
    "integer": "INTEGER",
    "unsigned": "UNSIGNED",
    "decimal": "DECIMAL",
    "number": "DECIMAL",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "datetime": "DATETIME",
    "uuid": "UUID",
    "map": "JSON",
    "json": "JSON",
    "any": "JSON",
    "array": "ARRAY",
}
_OIDS: Final = {
    16: "BOOLEAN",
    20: "INTEGER",
    25: "TEXT",
    114: "JSON",
    701: "DOUBLE",
    1184: "DATETIME",
    1700: "DECIMAL",
    2950: "UUID",
}


def describe(layout: Layout) -> str:
    """Answer a statement that is prepared, and not run: for the types of its columns, where no more can be seen."""
    return f"SELECT * FROM {layout.sql}"


def found_by_types(attributes: Sequence[Any]) -> Found:
    """Answer what the description of a statement shows of its table."""
    return Found(tuple(FoundColumn(each.name, _OIDS.get(each.type.oid, "ARRAY")) for each in attributes))


def read_found(table: asyncpg.Record | Mapping[str, object], parts: object) -> Found:
    """Answer what the tables of tables say."""
    columns = tuple(
        FoundColumn(str(field["name"]), _FIELD_TYPES.get(str(field["field_type"]), "ARRAY"), bool(field["is_nullable"]))
        for field in _loaded(table["format"])
        if field["name"] != "bucket_id"
    )
    sharding, tier = _distribution(_loaded(table["distribution"]))
    engine = str(table["engine"]) if table["engine"] else None
    return Found(columns, sharding, _key(_loaded(parts)), engine, tier)


def _loaded(value: object) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _distribution(value: Any) -> tuple[tuple[str, ...] | None, str | None]:
    """Read ``{"ShardedImplicitly": [["a"], "murmur3", "default"]}``, or ``"Global"``."""
    if value == "Global" or (isinstance(value, dict) and "Global" in value):
        return (), None
    if isinstance(value, dict) and "ShardedImplicitly" in value:
        columns, _, tier = [*value["ShardedImplicitly"], None, None][:3]
        return tuple(columns), tier
    return None, None


def _key(parts: Any) -> tuple[tuple[str, bool], ...] | None:
    """Read the parts of an index: ``["a", "integer", ...]`` each, or a mapping."""
    if not isinstance(parts, list):
        return None
    found = []
    for part in parts:
        if isinstance(part, dict):
            name, rest = part.get("field") or part.get("name"), list(part.values())
        else:
            name, rest = (part, []) if isinstance(part, str) else (part[0], part[1:])
        found.append((str(name), any(isinstance(each, str) and each.lower() == "desc" for each in rest)))
    return tuple(found)


# --- creating ---------------------------------------------------------------------------------------------------------


def create_table(layout: Layout, *, sorts: bool, timeout: float) -> str:
    """Answer what creates a table, on all nodes before it answers.

    Args:
        layout: Where its fields lie.
        sorts: Whether this version knows descending parts of a key.
        timeout: How many seconds the cluster may take.
    """
    columns = [_definition(column, null=False) for column in layout.keys]
    key = [f"{column.sql} DESC" if sorts and column.descending else column.sql for column in layout.keys]
    sharding = [column.sql for column in layout.keys[: layout.partition_count]]
    if layout.has_constant:
        constant = quote(PARTITION)
        columns.insert(0, f"{constant} INTEGER NOT NULL")
        key.insert(0, constant)
        sharding = [constant]
    # Fields come and go, and rows without one stay: so there is no NOT NULL for them.
    columns += [_definition(column, null=True) for column in layout.values]
    columns += [_definition(column, null=False) for column in (layout.version, layout.expires) if column is not None]
    if layout.has_schema:
        columns.append(f"{quote(SCHEMA)} INTEGER NULL")
    tier = f" IN TIER {quote(layout.tier)}" if layout.tier else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {layout.sql} ({', '.join(columns)}, PRIMARY KEY ({', '.join(key)}))"
        f" USING {layout.engine} DISTRIBUTED BY ({', '.join(sharding)}){tier}"
        f" WAIT APPLIED GLOBALLY OPTION (TIMEOUT = {timeout:.3f})"
    )


def add_column(layout: Layout, column: Column) -> str:
    """Answer what adds the column of a new field to a table of our own."""
    return f"ALTER TABLE {layout.sql} ADD COLUMN {_definition(column, null=True)}"


def _definition(column: Column, *, null: bool) -> str:
    return f"{column.sql} {column.form.type} {'NULL' if null else 'NOT NULL'}"
