"""Statements that change tables: recognised clause by clause, in the fixed order of Picodata's grammar."""

from __future__ import annotations

from typing import Final

from kvmodel.testing.picodata.expressions import Words
from kvmodel.testing.picodata.statement import Statement
from kvmodel.testing.picodata.tables import COLUMN_TYPES, FIELD_TYPES, ColumnInfo, TableInfo
from kvmodel.testing.picodata.tokens import Refusal, syntax_error

__all__ = ["alter", "create", "drop", "ignored", "truncate"]

_ENGINES: Final = ("memtx", "vinyl")


def create(words: Words) -> Statement:
    """Read CREATE TABLE, INDEX or SCHEMA."""
    if words.take("schema"):
        return ignored(words, "CREATE SCHEMA")
    if words.take("table"):
        return _create_table(words)
    unique = words.take("unique")
    words.want("index")
    return _create_index(words, unique)


def _create_table(words: Words) -> Statement:
    exists = _if_not_exists(words)
    table = TableInfo(words.table(), [], [], None)
    words.want("(")
    while not words.at("primary"):
        table.columns.append(_column(words, table))
        if not words.take(","):
            break
    if words.take("primary", "key"):
        if table.key:
            raise syntax_error("two primary keys")
        table.key = _key(words)
    words.want(")")
    if not table.key:
        raise Refusal("XX000", "sbroad: a table needs a primary key")
    missing = [name for name in table.key_names if table.column(name) is None and name != "bucket_id"]
    if missing:
        raise Refusal("XX000", f'sbroad: primary key column "{missing[0]}" not found')
    table.sharding = table.key_names
    if words.take("using"):
        table.engine = words.next().value
        if table.engine not in _ENGINES:
            raise syntax_error(f"no engine {table.engine}")
    if words.take("distributed"):
        _distribution(words, table)
    _waiting(words)
    sql = ", ".join(
        f'"{column.name}" {column.type}{"" if column.nullable else " NOT NULL"}'
        + (f' CHECK ("{column.name}" >= 0)' if column.field_type == "unsigned" else "")
        for column in table.columns
    )
    keys = ", ".join(f'"{name}"' for name in table.key_names if name != "bucket_id")
    return Statement(
        kind="create table",
        sql=f'CREATE TABLE "{table.name}" ({sql}, PRIMARY KEY ({keys}))',
        tag="CREATE TABLE",
        table=table.name,
        definition=table,
        if_not_exists=exists,
    )


def _column(words: Words, table: TableInfo) -> ColumnInfo:
    name = words.name()
    token = words.next()
    if token.kind != "name" or token.value not in COLUMN_TYPES:
        raise syntax_error(f"no type {token.text}")
    if words.take("("):
        if token.value not in ("varchar", "decimal", "numeric", "number"):
            raise syntax_error(f"{token.text} takes no size")
        words.integer()
        if words.take(","):
            words.integer()
        words.want(")")
    spelt = COLUMN_TYPES[token.value]
    column = ColumnInfo(name, spelt, "unsigned" if token.value == "unsigned" else FIELD_TYPES[spelt])
    if words.take("not"):
        words.want("null")
        column.nullable = False
    else:
        words.take("null")
    if words.take("primary", "key"):
        column.nullable = False
        table.key = [(name, False)]
    if table.column(name) is not None:
        raise Refusal("XX000", f'sbroad: column "{name}" specified more than once')
    return column


def _key(words: Words) -> list[tuple[str, bool]]:
    words.want("(")
    parts = []
    while True:
        name = words.name()
        descending = words.take("desc")
        if not descending:
            words.take("asc")
        parts.append((name, descending))
        if not words.take(","):
            break
    words.want(")")
    return parts


def _distribution(words: Words, table: TableInfo) -> None:
    if words.take("globally"):
        table.sharding = None
        return
    words.want("by")
    table.sharding = words.names()
    for name in table.sharding:
        if table.column(name) is None:
            raise Refusal("XX000", f'sbroad: sharding column "{name}" not found')
    if words.take("in"):
        words.want("tier")
        table.tier = words.name()


def _waiting(words: Words) -> None:
    """Read WAIT APPLIED and OPTION (TIMEOUT = seconds)."""
    if words.take("wait"):
        words.want("applied")
        if not words.take("globally"):
            words.want("locally")
    if words.take("option"):
        words.want("(")
        words.want("timeout")
        words.want("=")
        token = words.next()
        if token.kind != "number":
            raise syntax_error("TIMEOUT takes a number")
        words.want(")")


def _if_not_exists(words: Words) -> bool:
    return words.take("if", "not", "exists")


def _create_index(words: Words, unique: bool) -> Statement:
    exists = _if_not_exists(words)
    name = words.name()
    words.want("on")
    table = words.table()
    if words.take("using"):
        kind = words.next().value
        if kind not in ("tree", "hash", "rtree", "bitset"):
            raise syntax_error(f"no index of type {kind}")
    columns = words.names()
    _waiting(words)
    listed = ", ".join(f'"{column}"' for column in columns)
    return Statement(
        kind="create index",
        sql=f'CREATE {"UNIQUE " if unique else ""}INDEX "{name}" ON "{table}" ({listed})',
        tag="CREATE INDEX",
        table=table,
        columns=columns,
        if_not_exists=exists,
        unique=unique,
    )


def drop(words: Words) -> Statement:
    """Read DROP TABLE, INDEX or SCHEMA."""
    if words.take("schema"):
        return ignored(words, "DROP SCHEMA")
    what = "table" if words.take("table") else "index"
    if what == "index":
        words.want("index")
    exists = words.take("if", "exists")
    name = words.table()
    _waiting(words)
    return Statement(
        kind=f"drop {what}",
        sql=f'DROP {what.upper()} {"IF EXISTS " if exists else ""}"{name}"',
        tag=f"DROP {what.upper()}",
        table=name,
        if_exists=exists,
    )


def truncate(words: Words) -> Statement:
    """Read TRUNCATE."""
    words.take("table")
    name = words.table()
    _waiting(words)
    return Statement(kind="truncate", sql=f'TRUNCATE TABLE "{name}"', tag="TRUNCATE TABLE", table=name)


def alter(words: Words) -> Statement:
    """Read ALTER TABLE ... ADD COLUMN."""
    words.want("table")
    name = words.table()
    if not words.take("add"):
        raise Refusal("XX000", "sbroad: only ADD COLUMN is known here")
    words.want("column")
    exists = _if_not_exists(words)
    table = TableInfo(name, [], [], None)
    column = _column(words, table)
    if table.key:
        raise syntax_error("a new column is no key")
    table.columns = [column]
    _waiting(words)
    null = "" if column.nullable else " NOT NULL"
    return Statement(
        kind="alter table",
        sql=f'ALTER TABLE "{name}" ADD COLUMN "{column.name}" {column.type}{null}',
        tag="ALTER TABLE",
        table=name,
        definition=table,
        if_not_exists=exists,
    )


def ignored(words: Words, tag: str) -> Statement:
    """Read what is answered, and not done."""
    while words.here.kind != "end":
        words.next()
    return Statement(kind="nothing", tag=tag)
