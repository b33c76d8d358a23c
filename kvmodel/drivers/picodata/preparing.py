"""Getting tables ready: looking at what the store has, creating what it lacks, refusing what differs."""

from __future__ import annotations

import time
from typing import Any, Protocol

import asyncpg

from kvmodel.drivers.base import Table
from kvmodel.drivers.meter import spend
from kvmodel.drivers.picodata.ddl import (
    FIND_INDEX,
    FIND_TABLE,
    add_column,
    create_table,
    describe,
    found_by_types,
    read_found,
)
from kvmodel.drivers.picodata.layout import Found, Layout, differences, layout_of, missing_columns
from kvmodel.drivers.picodata.place import Place
from kvmodel.drivers.picodata.pool import PicodataPool
from kvmodel.errors import OutcomeUnknown, SchemaError, StoreError, TimedOut, Unavailable

__all__ = ["Preparing"]


class _Owner(Protocol):
    """What this needs of the driver."""

    capabilities: Any

    @property
    def address(self) -> str: ...
    @property
    def pool(self) -> PicodataPool: ...
    @property
    def sorts_keys(self) -> bool: ...


class Preparing:
    """The tables of one connection."""

    def __init__(self, owner: _Owner) -> None:
        self._owner = owner
        self._places: dict[Table, Place] = {}
        self._planned: dict[Table, Place] = {}

    def is_placed(self, table: Table) -> bool:
        """Whether it is known where a table's records lie."""
        return table in self._places

    def known(self, table: Table) -> Place:
        """Answer where a table's records lie, or would lie if it were to be created now. Raises ``SchemaError``."""
        place = self._places.get(table) or self._planned.get(table)
        if place is None:
            place = self._planned[table] = self._make(layout_of(table))
        return place

    async def place(self, table: Table, until: float) -> Place:
        """Answer where a table's records lie; looks at the store if need be, and creates nothing."""
        place = self._places.get(table)
        if place is not None:
            return place
        layout = layout_of(table)
        found = await self._find(layout, until)
        if found is None:
            raise SchemaError(
                "the store has no such table: db.prepare(Model) creates it",
                table=table.name,
                store=self._owner.address,
            )
        return self._settle(table, self._compare(layout_of(table, found), found))

    async def prepare(self, table: Table, until: float) -> None:
        """Create a table, or the columns of new fields, and wait until all nodes have them."""
        planned = layout_of(table)
        found = await self._find(planned, until)
        if found is None:
            await self._define(planned, until, self._creation)
            # Somebody else may have created it meanwhile, by another declaration.
            found = await self._find(planned, until)
            if found is None:
                raise Unavailable("the new table can't be seen yet: prepare again", store=self._owner.address)
        layout = self._compare(layout_of(table, found), found)
        missing = missing_columns(layout, found)
        for column in missing:
            await self._define(layout, until, lambda layout, timeout, column=column: add_column(layout, column))
        if missing:
            found = await self._find(layout, until) or found
            layout = self._compare(layout_of(table, found), found)
        self._settle(table, layout)

    def _creation(self, layout: Layout, timeout: float) -> str:
        return create_table(layout, sorts=self._owner.sorts_keys, timeout=timeout)

    def _compare(self, layout: Layout, found: Found) -> Layout:
        different = differences(layout, found)
        if different:
            raise SchemaError(
                f"the table {layout.name!r} differs from the model: {'; '.join(different)}",
                table=layout.table.name,
                store=self._owner.address,
            )
        return layout

    def _settle(self, table: Table, layout: Layout) -> Place:
        place = self._places[table] = self._make(layout)
        self._planned.pop(table, None)
        return place

    def _make(self, layout: Layout) -> Place:
        return Place(layout, self._owner.address, self._owner.capabilities.max_value_bytes)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _find(self, layout: Layout, until: float) -> Found | None:
        """Answer what the store has under a table's name, as far as this user may see it."""
        try:
            spend(1)
            rows = await self._run(lambda link: link.fetch(FIND_TABLE, layout.name), until)
        except StoreError as error:
            if not isinstance(error.__cause__, asyncpg.PostgresError):
                raise
            return await self._describe(layout, until)
        if not rows:
            return None
        (row,) = rows
        try:
            spend(1)
            parts = await self._run(lambda link: link.fetch(FIND_INDEX, row["id"], 0), until)
        except StoreError as error:
            if not isinstance(error.__cause__, asyncpg.PostgresError):
                raise
            parts = []
        return read_found(row, parts[0]["parts"] if parts else None)

    async def _describe(self, layout: Layout, until: float) -> Found | None:
        """This user may not read the tables of tables: the columns' types are what is left."""
        sql = describe(layout)

        async def prepare(link: Any) -> Any:
            statement = await link.prepare(sql)
            return statement.get_attributes()

        try:
            spend(1)
            return found_by_types(await self._run(prepare, until))
        except SchemaError:
            return None

    async def _define(self, layout: Layout, until: float, text: Any) -> None:
        """Change the schema, and wait for it."""
        left = max(until - time.monotonic(), 0.001)
        timeout = layout.options.ddl_timeout
        sql = text(layout, min(left, timeout or left))
        spend(1)
        await self._run(lambda link: link.execute(sql), until)

    async def _run(self, work: Any, until: float) -> Any:
        try:
            return await self._owner.pool.run(work, until)
        except OutcomeUnknown as error:
            raise TimedOut(
                "the table is not ready yet, the cluster may still be at it: prepare again",
                store=self._owner.address,
            ) from error.__cause__
