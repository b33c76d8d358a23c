"""The marker and the catalogue in the cluster: compared once a connection, written before the first record.

Rules.

* Other programs may have data in the same cluster. Theirs is left alone; only a table whose place is taken by names
  that nobody described is refused.
* An entry of its own can't be written together with a record. So what is missing is written first, and only if it is
  still missing: two programs that begin at once agree. If the record then fails, the row stays, and does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvmodel.drivers.base import Table
from kvmodel.drivers.formats.catalogue import check_entry, check_marker, encode_entry, encode_marker
from kvmodel.drivers.quasardb.client import QuasardbClient
from kvmodel.drivers.quasardb.names import MARKER_NAME, Place, entry_name
from kvmodel.errors import AlreadyExists, OutcomeUnknown, SchemaError

__all__ = ["Catalogue"]


class Catalogue:
    """What this connection knows of the store's description of itself."""

    def __init__(self, client: QuasardbClient) -> None:
        self._client = client
        self._store = client.store
        self._compared: set[Table] = set()
        self._recorded: set[Table] = set()

    async def compare(self, place: Place, until: float) -> None:
        """Read what the store says of a table. Raises ``SchemaError``."""
        if place.is_plain:
            return
        table = place.table
        marker, entry = await self._client.fetch([MARKER_NAME, entry_name(table)], until)
        if marker is not None:
            check_marker(marker, store=self._store)
        if entry is None and await self._client.call("prefix_get", place.codec.first.decode(), 1, until=until):
            raise SchemaError(
                "there are names in the place of this table, and the store does not say what they are: give the table"
                " another name or namespace",
                table=table.name,
                store=self._store,
            )
        is_old = entry is None or check_entry(table, entry, store=self._store)
        self._compared.add(table)
        if marker is not None and not is_old:
            self._recorded.add(table)

    async def ready(self, places: Sequence[Place], until: float) -> None:
        """Write what is missing for some tables, into which records are about to be put. Raises ``SchemaError``."""
        for place in places:
            if place.is_plain or place.table in self._recorded:
                continue
            if place.table not in self._compared:
                await self.compare(place, until)
            await self._write_missing(place.table, until)
            self._recorded.add(place.table)

    async def _write_missing(self, table: Table, until: float) -> None:
        marker = await self._write(MARKER_NAME, encode_marker(), until)
        check_marker(marker, store=self._store)
        name, row = entry_name(table), encode_entry(table)
        found = await self._write(name, row, until)
        while found != row and check_entry(table, found, store=self._store):
            # A field was renamed, or the model has a newer number: the row is written again.
            swapped = await self._client.call("compare_and_swap", name, row, found, key=name, until=until)
            if swapped is None:
                return
            assert isinstance(swapped, bytes)
            found = swapped

    async def _write(self, name: str, row: bytes, until: float) -> bytes:
        """Write a row unless there is one, and answer what is there then."""
        try:
            await self._client.call("put", name, row, key=name, until=until)
        except (AlreadyExists, OutcomeUnknown):
            # The same row whoever writes it: it is enough to see it there.
            found = await self._client.call("get", name, key=name, until=until)
            assert isinstance(found, bytes)
            return found
        return row
