"""Where and how the records of a table lie: as rows, or as the nodes of trees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, cast

from kvmodel.drivers.acapella import protocol
from kvmodel.drivers.acapella.documents import Documents
from kvmodel.drivers.acapella.keys import Address, TableKeys
from kvmodel.drivers.acapella.protocol import Call, Found, Json, Node, Quorum, RowItem
from kvmodel.drivers.acapella.slices import Span
from kvmodel.drivers.acapella.tree_keys import TreeKeys
from kvmodel.drivers.base import Absent, Key, Row, Table, Version
from kvmodel.drivers.formats.json_values import load_json
from kvmodel.errors import SchemaError

__all__ = ["MAX_KEY_BYTES", "MAX_VALUE_BYTES", "PAGE", "Place", "TreePlace"]

MAX_KEY_BYTES: Final = 1024
MAX_VALUE_BYTES: Final = 16 << 20
PAGE: Final = 512


class Place:
    """A table kept as rows: each partition of the model is a partition of the store.

    Attributes:
        table: The table.
        keys: What encodes its keys.
        documents: What encodes its values.
        quorum: Replicas and confirmations.
        room: How many records one page asks for, going by those that were seen.
        reindexes: Whether writes bring the keyspace's indexes up to date.
    """

    is_tree = False

    def __init__(self, table: Table, quorum: Quorum, *, store: str, max_value_bytes: int, page_bytes: int) -> None:
        self.table = table
        self.keys: TableKeys = self._make_keys(table)
        self.documents = Documents(table, store, max_value_bytes)
        self.quorum = quorum
        self.width = len(table.clustering)
        self.room = PAGE
        self.reindexes = _flag(table, store, "reindex")
        self._page_bytes = page_bytes

    def _make_keys(self, table: Table) -> TableKeys:
        return TableKeys(table, MAX_KEY_BYTES)

    def address(self, key: Key) -> Address:
        """Answer where the record of a full key lies. Raises ``ValidationError``."""
        return self.keys.address(key)

    def load(self, key: Key, found: Found, values: bool) -> Row | Absent:
        """Make a row of what was read under its key. Raises ``DecodingError``."""
        if found.value is None:
            return Absent(key, found.version or None)
        version = self.version(found)
        if not values:
            return Row(key, {}, version)
        return self.documents.load(key, found.value, version)

    def version(self, found: Found) -> Version:
        """Answer the version of a record that was read: the store's own number."""
        return found.version

    def version_written(self, number: int, body: bytes) -> Version:
        """Answer the version of a record that was written: what the store answered."""
        return number

    # --- requests -----------------------------------------------------------------------------------------------------

    def get_call(self, address: Address, *, transaction: int | None = None, watch: bool = False) -> Call[Found]:
        """Read one record; ``watch`` locks it for the transaction."""
        return protocol.get(*address, self.quorum, transaction=transaction, watch=watch)

    def put_call(
        self, address: Address, body: bytes | None, *, old_version: int | None = None, transaction: int | None = None
    ) -> Call[int]:
        """Write one record, or remove it."""
        return protocol.put(
            *address,
            body,
            self.quorum,
            old_version=old_version,
            transaction=transaction,
            reindex=self.reindexes,
        )

    def range_call(self, partition: tuple[str, ...], span: Span, limit: int) -> Call[Sequence[RowItem | Node]]:
        """Read a page of a range."""
        return protocol.rows(partition, self.quorum, after=span.after, last=span.last, limit=limit, prefix=span.prefix)

    def measure(self, records: int, size: int) -> None:
        """Take down how much a page brought: the next ones are not to be much larger than is handy."""
        if records:
            self.room = max(1, min(PAGE, self._page_bytes // (size // records + 1)))


class TreePlace(Place):
    """A table kept in trees: each partition of the model is a tree, its path the key of a node.

    Nodes have no versions; what stands for one is a digest of the value.
    """

    is_tree = True

    def _make_keys(self, table: Table) -> TableKeys:
        return TreeKeys(table, MAX_KEY_BYTES)

    def version(self, found: Found) -> Version:
        """Answer the digest of a value."""
        return _digest(found.value)

    def version_written(self, number: int, body: bytes) -> Version:
        """Answer the digest of what was written."""
        return _digest(cast("Json", load_json(body)))

    def get_call(self, address: Address, *, transaction: int | None = None, watch: bool = False) -> Call[Found]:
        """Read one node."""
        call = protocol.tree_get(*address, self.quorum, transaction=transaction)
        read = call.read
        return Call(call.method, call.path, lambda body: Found(0, read(body)), call.query, effect=call.effect)

    def put_call(
        self, address: Address, body: bytes | None, *, old_version: int | None = None, transaction: int | None = None
    ) -> Call[int]:
        """Write one node, or remove it."""
        call = protocol.tree_put(*address, body, self.quorum, transaction=transaction)
        return Call(call.method, call.path, lambda body: 0, call.query, body=call.body, effect=call.effect)

    def range_call(self, partition: tuple[str, ...], span: Span, limit: int) -> Call[Sequence[RowItem | Node]]:
        """Read a page of a range."""
        return protocol.tree_rows(partition, self.quorum, after=span.after, last=span.last, limit=limit)


def _flag(table: Table, store: str, name: str) -> bool:
    value = table.options.get(store, {}).get(name, False)
    if not isinstance(value, bool):
        raise SchemaError(f'the option "{name}" is True or False', table=table.name, store=store)
    return value


def _digest(value: Json) -> bytes:
    """Answer what stands for the version of a value that has none; the order of members does not matter."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).digest()
