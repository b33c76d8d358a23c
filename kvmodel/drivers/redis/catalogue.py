"""The marker and the catalogue in Redis: compared once a connection, written with the first write.

Rules.

* Other programs may have data in the same server. Theirs is left alone: all keys of ours begin with ``kv:``.
* On a single server the rows are written by the very script that writes the first record. In a cluster they are in
  another slot: the script that writes them travels along with the first record. Of two programs that begin a table at
  the same moment, with different keys, one is told so when its first record is there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kvmodel.drivers.base import Table
from kvmodel.drivers.formats.catalogue import check_entry, check_marker, encode_entry, encode_marker
from kvmodel.drivers.redis.courier import Courier, Request, call
from kvmodel.drivers.redis.layout import MARKER_KEY, Place, catalogue_key
from kvmodel.drivers.redis.scripts import REGISTER
from kvmodel.drivers.redis.slots import slot_of
from kvmodel.errors import SchemaError

__all__ = ["Catalogue", "CatalogueRow"]


class CatalogueRow(NamedTuple):
    """One row: what it was when it was compared (empty for nothing), and what it has to be."""

    key: bytes
    old: bytes
    new: bytes


class Catalogue:
    """What this connection knows of the store's description of itself."""

    def __init__(self, courier: Courier, *, in_cluster: bool) -> None:
        self._courier = courier
        self._in_cluster = in_cluster
        self._slot = slot_of(MARKER_KEY) if in_cluster else 0
        self._marker = b""
        self._rows: dict[Table, CatalogueRow] = {}
        self._recorded: set[Table] = set()

    async def compare(self, place: Place, until: float) -> None:
        """Read what the store says of a table. Raises ``SchemaError``."""
        table = place.table
        if place.is_plain:
            return
        store = self._courier.store
        key = catalogue_key(table)
        requests = [Request(self._slot, (b"MGET", MARKER_KEY, key))]
        if self._in_cluster:
            single = b"kv:partitions:" + key.removeprefix(MARKER_KEY)
            requests.append(Request(slot_of(single), (b"EXISTS", single)))
        (marker, entry), *others = await self._courier.ask(requests, until)
        if others and others[0]:
            raise SchemaError(
                "this table was written to a single server, and lacks what reading it whole needs in a cluster: copy"
                " its records with scan() and save_many() instead of their keys",
                table=table.name,
                store=store,
            )
        if marker is not None:
            check_marker(marker, store=store)
            self._marker = marker
        is_old = entry is None or check_entry(table, entry, store=store)
        self._rows[table] = CatalogueRow(key, entry or b"", encode_entry(table) if is_old else entry)
        if marker is not None and not is_old:
            self._recorded.add(table)

    async def missing(self, places: Iterable[Place], until: float) -> list[CatalogueRow]:
        """Answer the rows that are still to be written, with the first record of these tables."""
        rows: list[CatalogueRow] = []
        for place in places:
            if place.is_plain or place.table in self._recorded:
                continue
            if place.table not in self._rows:
                await self.compare(place, until)
            if place.table not in self._recorded:
                rows.append(self._rows[place.table])
        if rows:
            rows.append(CatalogueRow(MARKER_KEY, self._marker, self._marker or encode_marker()))
        return rows

    def request(self, rows: Sequence[CatalogueRow]) -> Request:
        """Answer what writes rows, in a cluster; it answers whether it did."""
        contents = [content for row in rows for content in row[1:]]
        return call(REGISTER, self._slot, [row.key for row in rows], contents)

    async def look_again(self, places: Iterable[Place], until: float) -> None:
        """Somebody else has written a row meanwhile: compare again. Raises ``SchemaError``."""
        for place in places:
            if place.table not in self._recorded:
                await self.compare(place, until)

    def done(self, places: Iterable[Place]) -> None:
        """The rows of these tables are written."""
        for place in places:
            if not place.is_plain:
                self._recorded.add(place.table)
                self._marker = self._marker or encode_marker()
