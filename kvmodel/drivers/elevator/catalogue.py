"""What a database says of itself, compared with what a table needs to be there."""

from __future__ import annotations

from collections.abc import Callable

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

__all__ = ["missing_rows"]


async def missing_rows(
    client: ElevatorClient, table: Table, left: Callable[[], float], store: str
) -> list[tuple[bytes, bytes]]:
    """Answer the rows that are still to be written for a table. Raises ``SchemaError`` where its keys are others.

    ``left`` tells how many seconds there still are, and raises ``TimedOut`` when there are none.
    """
    if table.layout == "plain":
        return []
    key = entry_key(table)
    # Between the two there is nothing but rows of the catalogue, so reading both at once is cheap.
    marker, entry = await client.mget([MARKER_KEY, key], timeout=left())
    if marker is not None:
        check_marker(marker, store=store)
    elif await client.slice(None, 1, include_value=False, timeout=left()):
        raise SchemaError(
            "this database holds data that kvmodel did not write: connect to another one (?create=true makes it), "
            'or declare the model with layout="plain" to work on that data',
            table=table.name,
            store=store,
        )
    rows = [] if marker is not None else [(MARKER_KEY, encode_marker())]
    if entry is None or check_entry(table, entry, store=store):
        rows.append((key, encode_entry(table)))
    return rows
