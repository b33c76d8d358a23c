"""The text of every statement that reads and writes records: nothing here but names, placeholders and literal limits.

Values are parameters, always. The dialect is Picodata's: ``LIMIT`` takes a literal, conditions name one column each,
and rows are compared by ``IN`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmodel.drivers.picodata.bounds import Params
from kvmodel.drivers.picodata.forms import Wire
from kvmodel.drivers.picodata.layout import Column, Layout
from kvmodel.drivers.picodata.names import PARTITION, SCHEMA, quote

__all__ = ["UNLIMITED", "Statement", "Texts", "padded"]

UNLIMITED: Final = " OPTION (sql_vdbe_opcode_max = 0, sql_motion_row_max = 0)"
"""For what may touch more rows than a statement is granted."""

_CONSTANT: Final = quote(PARTITION)
_CASTS: Final = {
    "TEXT": "text",
    "INTEGER": "int",
    "UNSIGNED": "int",
    "DOUBLE": "double",
    "DECIMAL": "decimal",
    "BOOLEAN": "bool",
    "UUID": "uuid",
    "DATETIME": "datetime",
}


class Statement(NamedTuple):
    """SQL and its parameters."""

    sql: str
    args: Sequence[Wire]


def padded(count: int) -> int:
    """Answer how long a list is written: powers of two, as each text is planned and kept by itself."""
    length = 1
    while length < count:
        length *= 2
    return length


class Texts:
    """The statements of one table.

    Attributes:
        layout: Where its fields lie.
        key: The quoted columns of the primary key, the constant column first where there is one.
        head: The quoted columns that tell version and deadline.
        columns: The quoted columns of a whole row: key, fields, what is carried along, head.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.constant = _CONSTANT
        self.key = ([_CONSTANT] if layout.has_constant else []) + [column.sql for column in layout.keys]
        self._casts = (["int"] if layout.has_constant else []) + [_CASTS[column.form.type] for column in layout.keys]
        self.head = [column.sql for column in (layout.version, layout.expires) if column is not None]
        if layout.has_schema:
            self.head.append(quote(SCHEMA))
        body = [column.sql for column in (*layout.values, *layout.extras)]
        self.columns = [*self.key, *self.head, *body]
        self.brief = [*self.key, *self.head] if layout.version is not None else self.columns
        """What is read where values are not wanted: where the version is the content, all of it."""

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[Sequence[Wire]], *, values: bool = True) -> Statement:
        """Read rows by key."""
        params = Params()
        if len(keys) == 1:
            where = self.at(keys[0], params)
        else:
            wanted = [*keys, *[keys[-1]] * (padded(len(keys)) - len(keys))]
            where = self.among(wanted, params)
        return Statement(f"SELECT {self.chosen(values)} FROM {self.layout.sql} WHERE {where}", params.values)

    def chosen(self, values: bool) -> str:
        """Answer the columns to read."""
        return ", ".join(self.columns if values else self.brief)

    def at(self, key: Sequence[Wire], params: Params) -> str:
        """Answer the condition that names one row."""
        return " AND ".join(f"{sql} = {params.add(wire)}" for sql, wire in zip(self.key, key, strict=True))

    def among(self, keys: Sequence[Sequence[Wire]], params: Params, more: Column | None = None) -> str:
        """Answer the condition that names several rows, by their keys and maybe one more column.

        Types of parameters are inferred from the columns that they stand beside; in a list it is safer to tell them.
        """
        columns = self.key if more is None else [*self.key, more.sql]
        casts = self._casts if more is None else [*self._casts, _CASTS[more.form.type]]
        rows = [", ".join(f"{params.add(wire)}::{cast}" for wire, cast in zip(key, casts, strict=True)) for key in keys]
        if len(columns) == 1:
            return f"{columns[0]} IN ({', '.join(rows)})"
        return f"({', '.join(columns)}) IN ({', '.join(f'({row})' for row in rows)})"

    def page(
        self, where: str, order: str, limit: int, params: Params, *, values: bool = True, unlimited: bool = False
    ) -> Statement:
        """Read a page of rows."""
        condition = f" WHERE {where}" if where else ""
        option = UNLIMITED if unlimited else ""
        sql = f"SELECT {self.chosen(values)} FROM {self.layout.sql}{condition}{order} LIMIT {limit}{option}"
        return Statement(sql, params.values)

    def count(self, where: str, params: Params) -> Statement:
        """Count rows."""
        condition = f" WHERE {where}" if where else ""
        return Statement(f"SELECT count(*) FROM {self.layout.sql}{condition}{UNLIMITED}", params.values)

    # --- conditions ---------------------------------------------------------------------------------------------------

    def live(self, now: Wire, params: Params) -> str:
        """Answer the condition that a row lives, with AND in front; empty where rows don't expire."""
        expires = self.layout.expires
        if expires is None:
            return ""
        moment = params.share(("now", expires.form.type), now)
        if expires.takes_null:
            return f" AND ({expires.sql} > {moment} OR {expires.sql} IS NULL)"
        return f" AND {expires.sql} > {moment}"

    def dead(self, now: Wire, params: Params) -> str:
        """Answer the condition that a row has expired."""
        expires = self.layout.expires
        assert expires is not None
        return f"{expires.sql} <= {params.share(('now', expires.form.type), now)}"

    def equal(self, columns: Sequence[Column], wires: Sequence[Wire], params: Params) -> str:
        """Answer the condition that columns hold these values, NULL included, with AND in front."""
        parts = [
            f"{column.sql} IS NULL" if wire is None else f"{column.sql} = {params.add(wire)}"
            for column, wire in zip(columns, wires, strict=True)
        ]
        return "".join(f" AND {part}" for part in parts)

    # --- writing ------------------------------------------------------------------------------------------------------

    def insert(self, columns: Sequence[str], rows: Sequence[Sequence[Wire]], conflict: str, params: Params) -> str:
        """Insert rows; ``conflict`` is NOTHING or REPLACE."""
        listed = ", ".join(f"({', '.join(map(params.add, row))})" for row in rows)
        return f"INSERT INTO {self.layout.sql} ({', '.join(columns)}) VALUES {listed} ON CONFLICT DO {conflict}"

    def update(self, columns: Sequence[str], row: Sequence[Wire], where: str, params: Params) -> str:
        """Change one row."""
        settings = ", ".join(f"{sql} = {params.add(wire)}" for sql, wire in zip(columns, row, strict=True))
        return f"UPDATE {self.layout.sql} SET {settings} WHERE {where}"

    def delete(self, where: str) -> str:
        """Remove rows."""
        return f"DELETE FROM {self.layout.sql} WHERE {where}"


def block(reads: Sequence[str], changes: Sequence[str]) -> str:
    """Answer a block: its reads, then its changes, all of them or none."""
    queries = "".join(f" RETURN QUERY {read};" for read in reads)
    return f"DO $$ BEGIN{queries}{''.join(f' {change};' for change in changes)} END $$"
