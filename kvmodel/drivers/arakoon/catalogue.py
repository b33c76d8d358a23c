"""The marker and the catalogue in an Arakoon cluster: compared once a connection, written with the first write.

Rules.

* Other programs may have data in the same cluster. Theirs is left alone; only a table in whose place
  there are keys that nobody described is refused.
* What was compared is asserted by the sequence that writes what was missing, so that two programs that begin at once
  can't both believe to be the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from kvmodel.drivers.arakoon.steps import Assert, Set, Step, size_of
from kvmodel.drivers.base import Table
from kvmodel.drivers.formats.catalogue import (
    MARKER_KEY,
    check_entry,
    check_marker,
    encode_entry,
    encode_marker,
    entry_key,
)
from kvmodel.errors import SchemaError

__all__ = ["Catalogue"]

Fetch = Callable[[Sequence[bytes], float], Awaitable["list[bytes | None]"]]
FirstKey = Callable[[Table, float], Awaitable["bytes | None"]]


class Catalogue:
    """What this connection knows of the store's description of itself."""

    def __init__(self, fetch: Fetch, first_key: FirstKey, store: str) -> None:
        self._fetch = fetch
        self._first_key = first_key
        self._store = store
        self._marker: bytes | None = None
        self._entries: dict[Table, bytes | None] = {}
        self._recorded: set[Table] = set()

    async def compare(self, table: Table, until: float) -> None:
        """Read what the store says of a table. Raises ``SchemaError``."""
        if table.layout == "plain":
            return
        marker, entry = await self._fetch([MARKER_KEY, entry_key(table)], until)
        if marker is not None:
            check_marker(marker, store=self._store)
        if entry is None and await self._first_key(table, until) is not None:
            raise SchemaError(
                "there are keys in the place of this table, and the store does not say what they are: give the table"
                " another name or namespace",
                table=table.name,
                store=self._store,
            )
        is_old = entry is None or check_entry(table, entry, store=self._store)
        self._marker = marker
        self._entries[table] = entry
        if marker is not None and not is_old:
            self._recorded.add(table)

    async def ready(self, tables: Iterable[Table], until: float) -> None:
        """Compare the tables that were not compared yet."""
        for table in tables:
            if table not in self._entries:
                await self.compare(table, until)

    async def look_again(self, tables: Iterable[Table], until: float) -> None:
        """Compare the tables that are not recorded yet once more: somebody else may have recorded them."""
        for table in tables:
            if table not in self._recorded:
                await self.compare(table, until)

    def steps(self, tables: Iterable[Table]) -> tuple[list[Step], list[Step]]:
        """Answer what has to hold, and what has to be written, with the first record of these tables."""
        missing = [table for table in tables if table not in self._recorded]
        if not missing:
            return [], []
        asserted: list[Step] = [Assert(MARKER_KEY, self._marker)]
        written: list[Step] = [] if self._marker is not None else [Set(MARKER_KEY, encode_marker())]
        for table in missing:
            asserted.append(Assert(entry_key(table), self._entries.get(table)))
            written.append(Set(entry_key(table), encode_entry(table)))
        return asserted, written

    def room(self, tables: Iterable[Table]) -> int:
        """Answer how many bytes these steps have."""
        return sum(map(size_of, self.steps(tables)))

    def done(self, tables: Iterable[Table]) -> None:
        """These are recorded now."""
        done = [table for table in tables if table not in self._recorded]
        self._recorded.update(done)
        if done and self._marker is None:
            self._marker = encode_marker()
