"""What a database says of itself, compared with what a table needs to be there.

The store can't compare before it writes, so a row that another program writes between the look and the write is not
noticed. A table that was looked at a while ago is therefore looked at again before its rows are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from kvmodel.drivers.base import Table
from kvmodel.drivers.elevator.client import ElevatorClient
from kvmodel.drivers.formats.catalogue import (
    MARKER_KEY,
    check_entry,
    check_marker,
    encode_entry,
    encode_marker,
    entry_key,
)
from kvmodel.errors import SchemaError

__all__ = ["Catalogue", "Pair"]

Pair = tuple[bytes, bytes]

_FRESH: Final = 1.0
"""For how many seconds a look counts as one right before a write."""


class _Missing(NamedTuple):
    """Rows that were not there, and when that was."""

    rows: list[Pair]
    seen_at: float


class Catalogue:
    """The tables of one connection, as its database describes them.

    Args:
        client: Who reads.
        store: The store's address, for messages.

    Attributes:
        recorded: The tables whose rows are there.
    """

    def __init__(self, client: ElevatorClient, store: str) -> None:
        self.recorded: set[Table] = set()
        self._client = client
        self._store = store
        self._missing: dict[Table, _Missing] = {}

    async def compare(self, table: Table, left: Callable[[], float]) -> None:
        """Compare a table with what the database says of it. Raises ``SchemaError`` where its keys are others.

        ``left`` tells how many seconds there still are, and raises ``TimedOut`` when there are none.
        """
        rows = await self._find_missing(table, left)
        if rows:
            self._missing[table] = _Missing(rows, time.monotonic())
        else:
            self.note_recorded([table])

    async def missing_rows(self, tables: Iterable[Table], left: Callable[[], float]) -> dict[Table, list[Pair]]:
        """Answer the rows that the first write to each of these tables takes along. Raises as :meth:`compare` does."""
        for table in tables:
            missing = self._missing.get(table)
            if missing is None or time.monotonic() - missing.seen_at > _FRESH:
                await self.compare(table, left)
        return {table: self._missing[table].rows for table in tables if table in self._missing}

    def note_recorded(self, tables: Iterable[Table]) -> None:
        """Remember that the rows of these tables are there."""
        for table in tables:
            self.recorded.add(table)
            self._missing.pop(table, None)

    async def _find_missing(self, table: Table, left: Callable[[], float]) -> list[Pair]:
        if table.layout == "plain":
            return []
        key = entry_key(table)
        marker, entry = await self._read(key, left)
        if marker is None and await self._client.slice(None, 1, include_value=False, timeout=left()):
            marker, entry = await self._read(key, left)  # Another program may just have begun to write.
            if marker is None:
                raise SchemaError(
                    "this database holds data that kvmodel did not write: connect to another one (?create=true makes "
                    'it), or declare the model with layout="plain" to work on that data',
                    table=table.name,
                    store=self._store,
                )
        if marker is not None:
            check_marker(marker, store=self._store)
        rows = [] if marker is not None else [(MARKER_KEY, encode_marker())]
        if entry is None or check_entry(table, entry, store=self._store):
            rows.append((key, encode_entry(table)))
        return rows

    async def _read(self, key: bytes, left: Callable[[], float]) -> Sequence[bytes | None]:
        """Answer the marker and a table's row. Only rows of other tables lie between them, so this is cheap."""
        return await self._client.mget([MARKER_KEY, key], timeout=left())
