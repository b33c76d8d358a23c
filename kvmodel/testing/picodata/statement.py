"""A recognised statement."""

from __future__ import annotations

import attrs

from kvmodel.testing.picodata.tables import TableInfo

__all__ = ["Statement"]


@attrs.define(kw_only=True)
class Statement:
    """One statement.

    Attributes:
        kind: ``select insert update delete do create table ... nothing``.
        sql: For PostgreSQL; for what changes tables, without what only Picodata knows.
        tag: What is answered where PostgreSQL is not asked.
        table: The table that it is about.
        tables: All tables that it names.
        parameters: The numbers of its parameters.
        options: What its OPTION clause says.
        fixed: The columns that have to equal an operand: what a statement in a block has to give for the bucket.
        columns: Of an INSERT: its columns; of an UPDATE: those it sets.
        rows: Of an INSERT: the rows of VALUES, each as its operands and as SQL.
        on_conflict: Of an INSERT: ``fail nothing replace``.
        definition: Of CREATE TABLE: what it makes. Of ALTER TABLE ADD COLUMN: the column alone.
        parts: Of a block: its statements.
        returns: Whether rows come back.
        if_exists, if_not_exists: As it says.
        unique: Of CREATE INDEX.
    """

    kind: str
    sql: str = ""
    tag: str = ""
    table: str = ""
    tables: set[str] = attrs.field(factory=set)
    parameters: list[int] = attrs.field(factory=list)
    options: dict[str, int] = attrs.field(factory=dict)
    fixed: dict[str, str] = attrs.field(factory=dict)
    columns: list[str] = attrs.field(factory=list)
    rows: list[tuple[list[str | None], str]] = attrs.field(factory=list)
    on_conflict: str = "fail"
    definition: TableInfo | None = None
    parts: list[Statement] = attrs.field(factory=list)
    returns: bool = False
    if_exists: bool = False
    if_not_exists: bool = False
    unique: bool = False
