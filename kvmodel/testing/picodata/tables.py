"""What the emulator knows of its tables, and what their types become in PostgreSQL."""

from __future__ import annotations

from typing import Final

import attrs

from kvmodel.testing.picodata.tokens import Refusal

__all__ = ["CASTS", "COLUMN_TYPES", "FIELD_TYPES", "Catalogue", "ColumnInfo", "TableInfo"]

_TEXT: Final = 'text COLLATE "C"'

COLUMN_TYPES: Final = {
    **dict.fromkeys(("text", "string", "varchar"), _TEXT),
    **dict.fromkeys(("integer", "int", "int2", "int4", "int8", "smallint", "bigint"), "bigint"),
    "unsigned": "bigint",
    **dict.fromkeys(("decimal", "numeric", "number"), "numeric"),
    "double": "double precision",
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    "datetime": "timestamptz",
    "uuid": "uuid",
    "json": "json",
}
"""From a type as Picodata spells it to PostgreSQL's."""

CASTS: Final = {
    **{name: spelt.removesuffix(' COLLATE "C"') for name, spelt in COLUMN_TYPES.items() if name != "unsigned"},
}
"""The types that casts may name."""

FIELD_TYPES: Final = {
    _TEXT: "string",
    "bigint": "integer",
    "numeric": "decimal",
    "double precision": "double",
    "boolean": "boolean",
    "timestamptz": "datetime",
    "uuid": "uuid",
    "json": "map",
}
"""From PostgreSQL's type to what the table of tables calls it."""


@attrs.define
class ColumnInfo:
    """One column: its name, its type in PostgreSQL, what ``_pico_table`` calls that, and whether it takes NULL."""

    name: str
    type: str
    field_type: str
    nullable: bool = True


@attrs.define(eq=False)
class TableInfo:
    """One table.

    Attributes:
        key: The columns of the primary key, and whether each is descending.
        sharding: The columns that choose the bucket; ``None`` for a global table.
        number: Counts up with every change of the schema.
    """

    name: str
    columns: list[ColumnInfo]
    key: list[tuple[str, bool]]
    sharding: list[str] | None
    engine: str = "memtx"
    tier: str = "default"
    number: int = 0
    id: int = 0

    @property
    def key_names(self) -> list[str]:
        """The names of the key's columns."""
        return [name for name, _ in self.key]

    def column(self, name: str) -> ColumnInfo | None:
        """Answer a column by its name."""
        return next((column for column in self.columns if column.name == name), None)


@attrs.define(eq=False)
class Catalogue:
    """All tables of a cluster."""

    tables: dict[str, TableInfo] = attrs.field(factory=dict)
    numbers: int = 0

    def find(self, name: str) -> TableInfo:
        """Answer a table. Raises :class:`Refusal`."""
        table = self.tables.get(name)
        if table is None:
            raise Refusal("XX000", f'sbroad: table with name "{name}" not found')
        return table

    def touch(self, table: TableInfo) -> None:
        """Note a change of its schema."""
        self.numbers += 1
        table.number = self.numbers
        table.id = table.id or 1000 + self.numbers
