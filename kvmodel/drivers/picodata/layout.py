"""How a table of the mapper lies in columns: what its class line says, and what the store has of it.

A :class:`Layout` is made of a table alone, to create it, or of a table and what the store holds under its name
(:class:`Found`), to map that as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import attrs

from kvmodel.drivers.base import KeyField, Table, ValueField
from kvmodel.drivers.picodata.forms import Form, key_form, raw_form, value_form
from kvmodel.drivers.picodata.names import EXPIRES, PARTITION, RESERVED, SCHEMA, VERSION, is_name, quote, table_name
from kvmodel.errors import SchemaError

__all__ = ["Column", "Found", "FoundColumn", "Layout", "StoreOptions", "layout_of", "store_options"]

_ENGINES: Final = ("memtx", "vinyl")
_INTEGERS: Final = frozenset(("INTEGER", "UNSIGNED"))


@attrs.frozen
class StoreOptions:
    """What ``store_options={"picodata": {...}}`` says in the class line.

    Attributes:
        engine: ``memtx`` or ``vinyl``; ``None`` where it is not said: ``memtx`` for new tables.
        tier: Which tier a new table goes to; ``None`` for the default one.
        ddl_timeout: How many seconds the cluster may take to apply a change of the schema; ``None`` for as long as the
            operation may take.
        version_column: The column that holds the mapper's stamp.
        expires_column: The column that holds the deadline.
        columns: What fields are called in the store, where not as in the model.
    """

    engine: str | None = None
    tier: str | None = None
    ddl_timeout: float | None = None
    version_column: str | None = None
    expires_column: str | None = None
    columns: Mapping[str, str] = attrs.field(factory=dict)


def store_options(table: Table) -> StoreOptions:
    """Read a table's options. Raises ``SchemaError`` for what is unknown or makes no sense."""
    given = table.options.get("picodata", {})
    known = [field.name for field in attrs.fields(StoreOptions)]
    for name, value in given.items():
        if name not in known:
            raise SchemaError(
                f"there is no option {name!r} of picodata. Known are: {', '.join(known)}", table=table.name
            )
        _check_option(table, name, value)
    return StoreOptions(**cast("dict[str, Any]", dict(given)))


def _check_option(table: Table, name: str, value: object) -> None:
    if name == "engine":
        fine, wanted = value in _ENGINES, "memtx or vinyl"
    elif name == "ddl_timeout":
        fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
        wanted = "a positive number of seconds"
    elif name == "columns":
        fields = {*(key.name for key in table.key), *(field.name for field in table.values)}
        fine = isinstance(value, Mapping) and fields.issuperset(value) and all(map(is_name, value.values()))
        wanted = "a mapping from fields of the model to names of columns"
    else:
        fine, wanted = is_name(value), "a name of letters, digits and underscores"
    if not fine:
        raise SchemaError(f"the option {name!r} of picodata is {wanted}, not {value!r}", table=table.name)


# --- what the store has -----------------------------------------------------------------------------------------------


@attrs.frozen
class FoundColumn:
    """A column that the store has; ``nullable`` is ``None`` where that can't be seen."""

    name: str
    type: str
    nullable: bool | None = None


@attrs.frozen
class Found:
    """A table that the store has; what its tables of tables don't show to this user is ``None``.

    Attributes:
        sharding: The columns of DISTRIBUTED BY; empty for a global table.
        key: The columns of the primary key, and whether each is descending.
    """

    columns: tuple[FoundColumn, ...]
    sharding: tuple[str, ...] | None = None
    key: tuple[tuple[str, bool], ...] | None = None
    engine: str | None = None
    tier: str | None = None

    def column(self, name: str) -> FoundColumn | None:
        """Answer a column by its name."""
        return next((column for column in self.columns if column.name == name), None)


# --- the layout -------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Column:
    """One column, and the field that it holds.

    Attributes:
        sql: The quoted name.
        field: The field; for an unmapped column, its own name.
        nullable: Whether the model's field may be ``None``.
        takes_null: Whether the store's column takes NULL.
    """

    name: str
    sql: str
    field: str
    form: Form
    nullable: bool = False
    takes_null: bool = True
    descending: bool = False


@attrs.frozen(eq=False, kw_only=True)
class Layout:
    """Where the fields of one table lie.

    Attributes:
        table: The table.
        name, sql: What it is called in the store, and that in quotes.
        has_constant: Whether a generated constant column comes first in the key, for a model without partition fields.
        keys: The columns of the model's key.
        values: The columns of its other fields.
        extras: Columns that no field is mapped to, in a table of our own: the mapper carries them along.
        others: The names of columns that no field is mapped to, in a table that others made.
        required: Those of ``others`` that take no NULL: rows can't be inserted without them.
        version: The column of the stamp, ``None`` where the version is the content.
        expires: The column of the deadline.
        has_schema: Whether there is a column for the schema's number: then the table is of our own making.
        engine, tier: Where the store keeps it.
    """

    table: Table
    name: str
    sql: str
    has_constant: bool
    keys: tuple[Column, ...]
    values: tuple[Column, ...]
    extras: tuple[Column, ...] = ()
    others: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    version: Column | None = None
    expires: Column | None = None
    has_schema: bool = False
    engine: str = "memtx"
    tier: str | None = None
    options: StoreOptions = attrs.field(factory=StoreOptions)

    @property
    def partition_count(self) -> int:
        """How many of ``keys`` choose the partition."""
        return len(self.table.partition)

    @property
    def is_whole(self) -> bool:
        """Whether a row can be replaced as a whole: there is nothing in it that is to be left alone."""
        return not self.others

    @property
    def mapped(self) -> tuple[Column, ...]:
        """The columns of all fields."""
        return self.keys + self.values


def layout_of(table: Table, found: Found | None = None) -> Layout:
    """Make the layout of a table. Raises ``SchemaError``, with all differences in words, where it can't be mapped."""
    options = store_options(table)
    try:
        name = table_name(table)
        keys = tuple(_key_column(table, options, field, found) for field in table.key)
        values = tuple(_value_column(table, options, field, found) for field in table.values)
    except SchemaError as error:
        error.table, error.store = table.name, "picodata"
        raise
    own = Layout(
        table=table,
        name=name,
        sql=quote(name),
        has_constant=not table.partition,
        keys=keys,
        values=values,
        engine=options.engine or "memtx",
        tier=options.tier,
        options=options,
    )
    _check_names(own)
    return _planned(own) if found is None else _mapped(own, found)


def _check_names(layout: Layout) -> None:
    names = [column.name for column in layout.mapped]
    taken = {*RESERVED, layout.options.version_column, layout.options.expires_column}
    for name in names:
        if name in taken or names.count(name) > 1:
            raise SchemaError(
                f"the column {name!r} is taken: call the field something else, or say what it is called in the store by"
                ' the option "columns"',
                table=layout.table.name,
                store="picodata",
            )


def _planned(layout: Layout) -> Layout:
    """Add the columns that a new table gets beside the model's own."""
    if layout.table.layout == "plain":
        return layout
    return attrs.evolve(
        layout,
        version=_plain_column(layout.options.version_column or VERSION, "TEXT", takes_null=False),
        expires=_plain_column(layout.options.expires_column or EXPIRES, "INTEGER", takes_null=False),
        has_schema=True,
    )


def _mapped(layout: Layout, found: Found) -> Layout:
    """Map the columns that the store has."""
    options = layout.options
    version = expires = None
    if layout.table.layout == "record" or options.version_column:
        version = _found_column(found, options.version_column or VERSION)
    if layout.table.layout == "record" or options.expires_column:
        expires = _found_column(found, options.expires_column or EXPIRES)
    has_schema = layout.table.layout == "record" and version is not None and found.column(SCHEMA) is not None
    known = {column.name for column in layout.mapped} | {SCHEMA if has_schema else "", "bucket_id"}
    known |= {column.name for column in (version, expires) if column is not None}
    if layout.has_constant:
        known.add(PARTITION)
    rest = [column for column in found.columns if column.name not in known]
    carried = has_schema and all(is_name(column.name) and column.nullable is not False for column in rest)
    return attrs.evolve(
        layout,
        version=version,
        expires=expires,
        has_schema=has_schema,
        extras=tuple(_plain_column(column.name, column.type) for column in rest) if carried else (),
        others=() if carried else tuple(column.name for column in rest),
        required=tuple(column.name for column in rest if column.nullable is False),
        engine=found.engine or layout.engine,
        tier=found.tier or layout.tier,
    )


def _plain_column(name: str, type: str, *, takes_null: bool = True) -> Column:
    return Column(name, quote(name), name, raw_form(type), nullable=takes_null, takes_null=takes_null)


def _found_column(found: Found, name: str) -> Column | None:
    column = found.column(name)
    if column is None:
        return None
    return _plain_column(name, column.type, takes_null=column.nullable is not False)


def _key_column(table: Table, options: StoreOptions, field: KeyField, found: Found | None) -> Column:
    name = options.columns.get(field.name, field.name)
    type = _integer_type(name, found) if field.type.kind == "int" else None
    form = key_form(field.type, text=_is_text(field), type=type)
    return Column(name, quote(name), field.name, form, takes_null=False, descending=field.descending)


def _value_column(table: Table, options: StoreOptions, field: ValueField, found: Found | None) -> Column:
    name = options.columns.get(field.name, field.name)
    type = _integer_type(name, found) if field.type.kind == "int" else None
    form = value_form(field.type, field.name, text=_is_text(field), type=type)
    there = None if found is None else found.column(name)
    takes_null = there is None or there.nullable is not False
    nullable = field.type.nullable or field.type.kind == "any"
    return Column(name, quote(name), field.name, form, nullable=nullable, takes_null=takes_null)


def _integer_type(name: str, found: Found | None) -> str | None:
    """An existing UNSIGNED column holds ints too, if not all of them."""
    there = None if found is None else found.column(name)
    return there.type if there is not None and there.type in _INTEGERS else None


def _is_text(field: KeyField | ValueField) -> bool:
    chosen = field.options.get("column")
    if chosen is None:
        return False
    if chosen != "text":
        raise SchemaError(
            f'column= is "text" for this store, not {chosen!r}: what a field is called there is said by the option'
            ' "columns" of store_options',
            field=field.name,
        )
    return True


# --- differences ------------------------------------------------------------------------------------------------------


def differences(layout: Layout, found: Found) -> list[str]:
    """Say in words what keeps a model from being mapped to the table that is there."""
    return [
        *_column_differences(layout, found),
        *_key_differences(layout, found),
        *_place_differences(layout, found),
        *_own_differences(layout, found),
    ]


def missing_columns(layout: Layout, found: Found) -> list[Column]:
    """Answer the columns of fields outside the key that a table of our own lacks."""
    if layout.table.layout == "plain" or not layout.has_schema:
        return []
    return [column for column in layout.values if found.column(column.name) is None]


def _column_differences(layout: Layout, found: Found) -> Iterator[str]:
    addable = {column.name for column in missing_columns(layout, found)}
    for column in layout.mapped:
        there = found.column(column.name)
        if there is None:
            if column.name not in addable:
                yield f"it has no column {column.name!r} for the field {column.field!r}"
        elif there.type != column.form.type:
            yield _type_difference(column, there)
    if layout.has_constant and found.column(PARTITION) is None:
        yield f"it has no column {PARTITION!r}, which a model without partition fields needs"


def _type_difference(column: Column, there: FoundColumn) -> str:
    if there.type == "JSON":
        return f"the column {column.name!r} is JSON, which takes no parameters: leave the field out of the model"
    wanted = f"{column.form.type}, for {column.form.kind}" if column.form.is_native else "TEXT"
    return f"the column {column.name!r} is {there.type}, and the model wants {wanted}"


def _key_differences(layout: Layout, found: Found) -> Iterator[str]:
    constant = [PARTITION] if layout.has_constant else []
    wanted = constant + [column.name for column in layout.keys]
    partition = constant or wanted[: layout.partition_count]
    if found.key is not None:
        there = [name for name, _ in found.key if name != "bucket_id"]
        if sorted(there) != sorted(wanted):
            yield f"its primary key is ({', '.join(there)}), and the model's ({', '.join(wanted)})"
        elif layout.has_schema:
            yield from _direction_differences(layout, found.key)
    if found.sharding is not None:
        if not found.sharding:
            yield "it is DISTRIBUTED GLOBALLY, where no write can rely on what is there: use db.native for it"
        elif list(found.sharding) != partition:
            yield (
                f"it is distributed by ({', '.join(found.sharding)}), and the model's partition is"
                f" ({', '.join(partition)})"
            )


def _direction_differences(layout: Layout, key: tuple[tuple[str, bool], ...]) -> Iterator[str]:
    directions = dict(key)
    for column in layout.keys:
        if directions[column.name] != column.descending and any(directions.values()):
            way = "descending" if directions[column.name] else "ascending"
            yield f"the column {column.name!r} is {way} in its primary key, and not so in the model"


def _place_differences(layout: Layout, found: Found) -> Iterator[str]:
    options = layout.options
    if options.engine is not None and found.engine not in (None, options.engine):
        yield f"its engine is {found.engine}, and store_options say {options.engine}"
    if options.tier is not None and found.tier not in (None, options.tier):
        yield f"it is in the tier {found.tier}, and store_options say {options.tier}"


def _own_differences(layout: Layout, found: Found) -> Iterator[str]:
    """What is wrong with the columns of stamp and deadline."""
    options = layout.options
    for option, name, types in (
        ("version_column", options.version_column or VERSION, ("TEXT", "INTEGER", "UNSIGNED")),
        ("expires_column", options.expires_column or EXPIRES, ("INTEGER", "UNSIGNED", "DATETIME")),
    ):
        there = found.column(name)
        if there is None:
            if getattr(options, option) is not None:
                yield f"it has no column {name!r}, which the option {option} names"
        elif there.type not in types and (layout.table.layout == "record" or getattr(options, option) is not None):
            yield f"the column {name!r} is {there.type}, and {option} has to be {' or '.join(types)}"
