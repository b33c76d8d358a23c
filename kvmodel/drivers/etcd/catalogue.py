"""The marker and the catalogue in an etcd cluster: compared once a connection, written with the first write.

Rules.

* Other programs may have data in the same cluster. Theirs is left alone; only a table whose place is taken by keys that
  nobody described is refused.
* What was compared is compared again by the transaction that writes what was missing, so that two programs that begin
  at once can't both believe to be the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from kvmodel.drivers.base import Table
from kvmodel.drivers.etcd.messages import Compare, KeyValue, PutRequest, RequestOp, Result, Target
from kvmodel.drivers.formats.catalogue import (
    MARKER_KEY,
    check_entry,
    check_marker,
    encode_entry,
    encode_marker,
    entry_key,
)
from kvmodel.errors import SchemaError

__all__ = ["Catalogue", "unchanged"]

Fetch = Callable[[Sequence[bytes], float], Awaitable["list[KeyValue | None]"]]
HasKeys = Callable[[Table, float], Awaitable[bool]]


def unchanged(key: bytes, revision: int) -> Compare:
    """Compare a key with the revision it was changed in; 0 for an absent one."""
    return Compare(Result.EQUAL, Target.MOD, key, mod_revision=revision)


class Catalogue:
    """What this connection knows of the store's description of itself."""

    def __init__(self, fetch: Fetch, has_keys: HasKeys, store: str) -> None:
        self._fetch = fetch
        self._has_keys = has_keys
        self._store = store
        self._marker = 0
        self._entries: dict[Table, int] = {}
        self._recorded: set[Table] = set()

    async def compare(self, table: Table, until: float) -> None:
        """Read what the store says of a table. Raises ``SchemaError``."""
        if table.layout == "plain":
            return
        marker, entry = await self._fetch([MARKER_KEY, entry_key(table)], until)
        if marker is not None:
            check_marker(marker.value, store=self._store)
        if entry is None and await self._has_keys(table, until):
            raise SchemaError(
                "there are keys in the place of this table, and the store does not say what they are: give the table"
                " another name or namespace",
                table=table.name,
                store=self._store,
            )
        is_old = entry is None or check_entry(table, entry.value, store=self._store)
        self._marker = 0 if marker is None else marker.mod_revision
        self._entries[table] = 0 if entry is None else entry.mod_revision
        if marker is not None and not is_old:
            self._recorded.add(table)

    async def ready(self, tables: Iterable[Table], until: float) -> None:
        """Compare the tables that were not compared yet."""
        for table in tables:
            if table not in self._entries and table.layout != "plain":
                await self.compare(table, until)

    async def look_again(self, tables: Iterable[Table], until: float) -> None:
        """Compare the tables that are not recorded yet once more: somebody else may have recorded them."""
        for table in tables:
            if table not in self._recorded:
                await self.compare(table, until)

    def missing(self, tables: Iterable[Table]) -> list[Table]:
        """Answer which tables the store does not describe yet."""
        return [table for table in tables if table not in self._recorded and table.layout != "plain"]

    def steps(self, missing: Sequence[Table]) -> tuple[list[Compare], list[RequestOp]]:
        """Answer what has to hold, and what has to be written, with the first record of these tables."""
        if not missing:
            return [], []
        compares = [unchanged(MARKER_KEY, self._marker)]
        puts = [] if self._marker else [PutRequest(MARKER_KEY, encode_marker())]
        for table in missing:
            compares.append(unchanged(entry_key(table), self._entries.get(table, 0)))
            puts.append(PutRequest(entry_key(table), encode_entry(table)))
        return compares, [RequestOp(request_put=put) for put in puts]

    def done(self, missing: Sequence[Table], revision: int) -> None:
        """These were recorded, in this revision."""
        self._recorded.update(missing)
        if missing and not self._marker:
            self._marker = revision
