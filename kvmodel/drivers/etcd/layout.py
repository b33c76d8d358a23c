"""Where a table's records lie, how they are read, and what their versions are.

Rules.

* A version is the revision in which the record was written, which never comes back, and behind it the record's
  deadline, if it has one: so that a version that has expired is known to be so without reading anything.
* A record with a deadline always has a lease, and one without has none. So a key without a lease is alive, and says so
  without its value.
"""

from __future__ import annotations

from typing import Final

import attrs

from kvmodel.drivers.base import Absent, Key, Row, Version
from kvmodel.drivers.etcd.messages import KeyValue
from kvmodel.drivers.formats.codec import ByteCodec
from kvmodel.errors import DecodingError

__all__ = ["Place", "make_version", "read_version"]

_REVISION: Final = 8


def make_version(revision: int, expires_at: int | None) -> bytes:
    """Make the version of a record."""
    version = revision.to_bytes(_REVISION, "big")
    return version if expires_at is None else version + expires_at.to_bytes(_REVISION, "big")


def read_version(version: Version) -> tuple[int, int | None] | None:
    """Answer the revision and the deadline; ``None`` for what is no version of this store's."""
    if not isinstance(version, bytes) or len(version) not in (_REVISION, 2 * _REVISION):
        return None
    expires_at = int.from_bytes(version[_REVISION:], "big") if len(version) > _REVISION else None
    return int.from_bytes(version[:_REVISION], "big"), expires_at


@attrs.define(eq=False)
class Place:
    """One table.

    Attributes:
        codec: Its keys and records as bytes.
        room: How many records fit a page, by what was seen of their sizes.
    """

    codec: ByteCodec
    room: int

    @property
    def is_plain(self) -> bool:
        """Whether its records carry neither stamp nor deadline."""
        return self.codec.table.layout == "plain"

    def load(self, key: Key, kv: KeyValue, now: int) -> Row | Absent:
        """Make a row. Raises ``DecodingError``."""
        row = self.codec.load(key, kv.value, now)
        if isinstance(row, Row):
            return row._replace(version=make_version(kv.mod_revision, row.expires_at))
        return Absent(key, make_version(kv.mod_revision, self.deadline(kv)))

    def load_head(self, key: Key, kv: KeyValue, now: int) -> Row | Absent:
        """Make a row without values, of a key that has no lease or whose value was read."""
        expires_at = self.deadline(kv) if kv.lease else None
        version = make_version(kv.mod_revision, expires_at)
        if expires_at is not None and expires_at <= now:
            return Absent(key, version)
        return Row(key, {}, version, expires_at)

    def deadline(self, kv: KeyValue) -> int | None:
        """Read the deadline of a stored record. Raises ``DecodingError``."""
        header = self.codec.peek_header(kv.value, 0)
        return None if header is None else header[1]

    def is_alive(self, kv: KeyValue, now: int) -> bool:
        """Whether a stored record has not expired; a damaged one has not."""
        if not kv.lease:
            return True
        try:
            return self.codec.peek_header(kv.value, now) is not None
        except DecodingError:
            return True

    def has_stamp(self, kv: KeyValue, stamp: bytes) -> bool:
        """Whether this very write made what is stored."""
        try:
            return self.codec.version(kv.value) == stamp
        except DecodingError:
            return False
