"""Where everything lies in Redis. Documented for users of redis-cli in ``docs/stores/redis.md``.

Rules.

* A record is a string under ``kv:{TAG}TABLE:CLUSTERING``. TAG is the encoded partition, preceded by ``@`` and the
  namespace where there is one, so that the records of all tables of a partition share a slot; it is ``-`` where there
  is neither. No encoded partition begins with one of these characters, nor with a letter.
* A table with clustering fields has a sorted set for each partition, ``kv:{TAG}TABLE``: its members are the encoded
  clustering components, all with score 0, so that they stand in the order of their bytes.
* ``kv:partitions:TABLE`` is a sorted set of the encoded partitions that have records, for reading whole tables. In a
  cluster there is one for each slot, ``kv:partitions:{NUMBER}TABLE``, in that very slot, so that it changes in the same
  step as the records. NUMBER is the smallest one whose digits lead to the slot.
* ``kv:watched:TABLE`` is there while somebody watches a table, outside a cluster; changes are published under its name.
* ``kv:{catalogue}TABLE`` describes the keys of a table, ``kv:{catalogue}`` the formats.
* Tables with ``layout="plain"`` have none of this: their keys are as other programs write them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from kvmodel.drivers.base import Key, Slice, Table
from kvmodel.drivers.formats.codec import compile_codec
from kvmodel.drivers.redis.slots import slot_names, slot_of
from kvmodel.errors import Unsupported

__all__ = ["MARKER_KEY", "MAX_KEY_BYTES", "MAX_VALUE_BYTES", "Area", "Place", "Spot", "catalogue_key"]

MAX_VALUE_BYTES: Final = 512 << 20
"""What a string of Redis may have: ``proto-max-bulk-len``, by default."""
MAX_KEY_BYTES: Final = MAX_VALUE_BYTES - (1 << 16)
"""Leaves room for what surrounds the components."""

MARKER_KEY: Final = b"kv:{catalogue}"
_RECORD: Final = b"kv:{"
_PARTITIONS: Final = b"kv:partitions:"
_WATCHED: Final = b"kv:watched:"
_NOTHING: Final = b"-"
_KEPT_AREAS: Final = 4096


class Area(NamedTuple):
    """One partition of one table.

    Attributes:
        partition: The encoded partition.
        index_key: The key of its sorted set; what records' keys begin with, but for the colon.
        directory: The key of the sorted set that lists the partition.
        slot: The slot of all these.
    """

    partition: bytes
    index_key: bytes
    directory: bytes
    slot: int


class Spot(NamedTuple):
    """One record: its key, and in its area the name that the sorted set has for it. Plain records have no area."""

    key: bytes
    name: bytes
    area: Area | None
    slot: int


class Bounds(NamedTuple):
    """A piece of an area's sorted set, in the words of ``ZRANGEBYLEX``."""

    area: Area
    low: bytes
    high: bytes
    is_empty: bool


class Place:
    """One table in the store.

    Args:
        table: The table.
        store: The driver's name.
        in_cluster: Whether keys are spread over slots.

    Attributes:
        codec: Encodes its keys and records.
        is_plain: Whether it has the plain layout.
        has_index: Whether its partitions have sorted sets.
        left, right: What stands before and behind an encoded partition in the key of the area's sorted set, or, where
            there is none, in the key of the one record.
    """

    def __init__(self, table: Table, store: str, *, in_cluster: bool) -> None:
        self.table = table
        self.codec = compile_codec(table, store=store, max_key_bytes=MAX_KEY_BYTES, max_value_bytes=MAX_VALUE_BYTES)
        self.is_plain = table.layout == "plain"
        self.has_index = bool(table.clustering)
        self._in_cluster = in_cluster
        self._areas: dict[bytes, Area] = {}
        if self.is_plain:
            return
        self._width = len(table.partition)
        self._root = compile_codec(attrs.evolve(table, clustering=(), values=(), whole_value=None), store=store)
        self._head = len(self.codec.first)
        self._name = table.name.encode()
        self.left = _RECORD + _space(table.namespace)
        self.right = b"}" + self._name + (b"" if self.has_index else b":")

    @property
    def channel(self) -> bytes:
        """Where changes are published, and the key that says that somebody listens."""
        return _WATCHED + _space(self.table.namespace) + self._name

    # --- keys

    def locate(self, key: Key) -> Spot:
        """Answer where a record lies. Raises ``ValidationError``."""
        whole = self.codec.encode_key(key)
        if self.is_plain:
            return Spot(whole, b"", None, slot_of(whole) if self._in_cluster else 0)
        root = self._root.encode_key(key[: self._width])
        area = self.area(root[self._head :])
        name = whole[len(root) :]
        return Spot(b"%b:%b" % (area.index_key, name), name, area, area.slot)

    def area(self, partition: bytes) -> Area:
        """Answer where an encoded partition lies."""
        area = self._areas.get(partition)
        if area is None:
            if len(self._areas) >= _KEPT_AREAS:
                self._areas.clear()
            index = b"%b%b}%b" % (self.left, partition or (_NOTHING if self.left == _RECORD else b""), self._name)
            slot = slot_of(index) if self._in_cluster else 0
            area = self._areas[partition] = Area(partition, index, self.directory(slot), slot)
        return area

    def directory(self, slot: int) -> bytes:
        """Answer the key of the sorted set that lists the partitions of a slot, or all of them outside a cluster."""
        tag = b"{%b}" % slot_names()[slot] if self._in_cluster else b""
        return _PARTITIONS + tag + _space(self.table.namespace) + self._name

    def directory_parts(self) -> tuple[bytes, bytes]:
        """Answer what stands before and behind the number in the key of a directory of a cluster."""
        return _PARTITIONS + b"{", b"}" + _space(self.table.namespace) + self._name

    def decode(self, partition: bytes, name: bytes) -> Key:
        """Answer the key of a record. Raises ``DecodingError``."""
        return self.codec.decode_key(self.codec.first + partition + name)

    # --- slices

    def bounds(self, slice: Slice) -> Bounds:
        """Answer which piece of which sorted set a slice of one partition is."""
        if self.is_plain:
            raise Unsupported(
                "what other programs write has no order in Redis: read the records by key, or use the record layout",
                table=self.table.name,
                store="redis",
            )
        assert slice.partition is not None
        start, stop = self.codec.bounds(slice)
        root = self._root.encode_key(slice.partition)
        low = b"-" if start <= root else b"[" + start[len(root) :]
        high = b"(" + stop[len(root) :] if stop.startswith(root) else b"+"
        return Bounds(self.area(root[self._head :]), low, high, start >= stop)

    def behind(self, after: Key) -> tuple[bytes, bytes]:
        """Answer the encoded partition and the name of a record, to go on behind it."""
        spot = self.locate(after)
        assert spot.area is not None
        return spot.area.partition, spot.name


def catalogue_key(table: Table) -> bytes:
    """Answer the key of a table's row in the catalogue."""
    return MARKER_KEY + _space(table.namespace) + table.name.encode()


def _space(namespace: tuple[str, ...]) -> bytes:
    return b"@%b\x00" % "/".join(namespace).encode() if namespace else b""
