"""The codec of one table in a byte store: keys and records, in the table's layout, behind one set of names."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kvmodel.drivers.base import Absent, Key, Row, Slice, Table, Values, Version
from kvmodel.drivers.formats.keys import KeyCodec
from kvmodel.drivers.formats.plain import PlainRecords
from kvmodel.drivers.formats.plain_keys import PlainKeys
from kvmodel.drivers.formats.records import RecordCodec

__all__ = ["ByteCodec", "compile_codec"]


@attrs.frozen(eq=False)
class ByteCodec:
    """What a byte store needs of one table.

    Attributes:
        table: The table.
        first, last: The half-open range of all its keys.
        encode_key: Makes the bytes of a key. Raises ``ValidationError``, also when they are too many.
        decode_key: Undoes that. Raises ``DecodingError``.
        bounds: Gives the half-open range of bytes that holds a slice's keys, ``after`` and ``reverse`` applied; it may
            be empty (start >= stop). Raises ``ValidationError``, and ``Unsupported`` where bytes are not in order.
        dump: Makes stored bytes of values, a stamp and a deadline. Raises ``ValidationError`` and ``TooLarge``.
        load: Makes a row of a key, its stored bytes and the time; ``Absent``, with a token, when it has expired.
            Raises ``DecodingError``.
        peek_header: Reads version and deadline of stored bytes without decoding values; ``None`` when expired.
        version: Reads the version of stored bytes, expired or not.
    """

    table: Table
    first: bytes
    last: bytes
    encode_key: Callable[[Key], bytes]
    decode_key: Callable[[bytes], Key]
    bounds: Callable[[Slice], tuple[bytes, bytes]]
    dump: Callable[[Values, bytes, int | None], bytes]
    load: Callable[[Key, bytes, int], Row | Absent]
    peek_header: Callable[[bytes, int], tuple[Version, int | None] | None]
    version: Callable[[bytes], Version]

    def loader(self, values: bool) -> Callable[[Key, bytes, int], Row | Absent]:
        """Answer what makes rows: :attr:`load`, or what leaves values out and looks at the header alone."""
        return self.load if values else self._load_header

    def _load_header(self, key: Key, data: bytes, now: int) -> Row | Absent:
        header = self.peek_header(data, now)
        return Absent(key, self.version(data)) if header is None else Row(key, {}, header[0], header[1])


def compile_codec(
    table: Table, *, store: str, max_key_bytes: int | None = None, max_value_bytes: int | None = None
) -> ByteCodec:
    """Compile the codec of a table.

    Args:
        table: The table.
        store: The store's name: for messages, and for the table's options.
        max_key_bytes: The longest key that the store takes.
        max_value_bytes: The largest record that the store takes.

    Raises ``SchemaError`` where the table cannot be kept in its layout.
    """
    keys: KeyCodec | PlainKeys
    records: RecordCodec | PlainRecords
    if table.layout == "plain":
        keys = PlainKeys(table, store, max_key_bytes)
        records = PlainRecords(table, store, max_value_bytes)
    else:
        keys = KeyCodec(table, store, max_key_bytes)
        records = RecordCodec(table, store, max_value_bytes)
    return ByteCodec(
        table,
        keys.first,
        keys.last,
        keys.encode_key,
        keys.decode_key,
        keys.bounds,
        records.dump,
        records.load,
        records.peek_header,
        records.version,
    )
