"""Where the records of a table lie in the store, and how what is relied on is kept beside them.

Rules.

* Under its key lies the record. Under ``00 'v'`` and its key lies its *head*: the record without its fields (format,
  stamp, deadline, schema number). Both are written and removed by the same sequence, always.
* The head is the version of a record: it never repeats, and it is a few bytes long however large the record is. Writes
  assert it; what needs no fields (existence, counts, expired records, range checks) reads heads and nothing else.
* In the plain layout there are no heads: the content itself is the version, and is what writes assert.
"""

from __future__ import annotations

from typing import Final

from kvmodel.drivers.base import Absent, Key, Row, Table
from kvmodel.drivers.formats.codec import ByteCodec
from kvmodel.drivers.formats.records import read_header
from kvmodel.errors import DecodingError

__all__ = ["HEADS", "TableLayout"]

HEADS: Final = b"\x00v"
"""What the keys of heads begin with. Keys of records never begin with 0x00."""

_NO_FIELDS: Final = b"\x80"
_LASTING: Final = 0x10
_SHORT: Final = slice(0, 13)


class TableLayout:
    """One table in the store.

    Attributes:
        codec: Encodes its keys and records.
        is_plain: Whether it has the plain layout.
        room: How many records a page may have, as far as their size is known.
    """

    __slots__ = ("codec", "is_plain", "room")

    def __init__(self, codec: ByteCodec, room: int) -> None:
        self.codec = codec
        self.is_plain = codec.table.layout == "plain"
        self.room = room

    @property
    def table(self) -> Table:
        """The table."""
        return self.codec.table

    def head_key(self, key: bytes) -> bytes:
        """Answer where the head of a record lies."""
        return key if self.is_plain else HEADS + key

    def key_of_head(self, head_key: bytes) -> bytes:
        """Undo :meth:`head_key`."""
        return head_key if self.is_plain else head_key[len(HEADS) :]

    def head(self, data: bytes) -> bytes:
        """Answer the head of a stored record. Raises ``ValueError`` or ``LookupError`` for what is none."""
        if self.is_plain:
            return data
        if data[0] == _LASTING:
            return data[_SHORT] + _NO_FIELDS
        return data[: read_header(data)[0]] + _NO_FIELDS

    def load(self, key: Key, data: bytes, now: int) -> Row | Absent:
        """Make a row of a record, in the version that its head is. Raises ``DecodingError``."""
        row = self.codec.load(key, data, now)
        if isinstance(row, Row):
            return Row(key, row.values, self.head(data), row.expires_at, row.schema_number)
        return Absent(key, self.head(data))

    def load_head(self, key: Key, head: bytes, now: int) -> Row | Absent:
        """Make a row without values of a head. Raises ``DecodingError``."""
        header = self.codec.peek_header(head, now)
        return Absent(key, head) if header is None else Row(key, {}, head, header[1])

    def is_alive(self, head: bytes | None, now: int) -> bool:
        """Whether a head is that of a live record. A damaged one counts as one."""
        if head is None:
            return False
        try:
            return self.codec.peek_header(head, now) is not None
        except DecodingError:
            return True
