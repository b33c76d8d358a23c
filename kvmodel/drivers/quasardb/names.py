"""The names of entries: where the records of a table lie, and what a slice of them looks like among the names.

Rules.

* A record's name is ``kv``, the namespace, the table and the key's components as text, joined as ``docs/spec/keys.md``
  says: the order of names by code point, which is that of their UTF-8, is the order of keys, and no name holds NUL.
* In the plain layout it is what the table's options say, as long as that is text.
* Bounds are UTF-8. All of a slice's names begin with :func:`common_prefix` of its bounds, which is what is listed.
"""

from __future__ import annotations

from typing import Final

from kvmodel.drivers.base import Key, Slice, Table
from kvmodel.drivers.formats.codec import ByteCodec
from kvmodel.drivers.formats.components import successor
from kvmodel.drivers.formats.plain import PlainRecords
from kvmodel.drivers.formats.plain_keys import PlainKeys
from kvmodel.drivers.formats.records import RecordCodec
from kvmodel.drivers.formats.text import TextKeys, join, split
from kvmodel.drivers.quasardb.checks import MAX_NAME_BYTES, STORE, check_name
from kvmodel.errors import DecodingError, SchemaError, ValidationError

__all__ = ["MARKER_NAME", "Place", "common_prefix", "entry_name"]

_WORD: Final = "kv"
MARKER_NAME: Final = "kv.formats"
"""The name of the marker. The names of records begin with ``kv`` and a space."""

_ENTRY: Final = "kv.table"
_SHOWN: Final = 256


def entry_name(table: Table) -> str:
    """Answer the name of a table's row in the catalogue."""
    return join([_ENTRY, join(table.namespace), table.name])


def common_prefix(start: bytes, stop: bytes) -> str:
    """Answer the longest text that everything from ``start`` on, and below ``stop``, begins with."""
    # The last text below stop, as far as it matters: followed by bytes above all others.
    last = stop[:-1] + bytes((stop[-1] - 1,)) if stop[-1] else stop[:-1]
    size = 0
    for one, other in zip(start, last, strict=False):
        if one != other:
            break
        size += 1
    # Half a character at the end is let go.
    return start[: min(size, MAX_NAME_BYTES)].decode("utf-8", "ignore")


class NameKeys:
    """The names of one table's records, in UTF-8.

    Attributes:
        first, last: The half-open range of all of them.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._keys = TextKeys(table)
        head = join([_WORD, join(table.namespace), table.name])
        try:
            self.first = head.encode()
            entry = entry_name(table).encode()
        except UnicodeEncodeError:
            raise SchemaError(
                "a namespace must be Unicode text, without lone surrogates", table=table.name, store=STORE
            ) from None
        if max(len(self.first), len(entry)) >= MAX_NAME_BYTES:
            raise SchemaError(
                "namespace and table name leave no room for keys: shorten them", table=table.name, store=STORE
            )
        self.last = successor(self.first)
        self._head = head

    def encode_key(self, key: Key) -> bytes:
        """Make the name of a record. Raises ``ValidationError``."""
        if len(key) != len(self._table.key):
            raise ValidationError("a key has all components that the model declares", table=self._table.name, key=key)
        name = self._name(key)
        if len(name) > MAX_NAME_BYTES:
            raise self._too_long(key, len(name))
        return name

    def decode_key(self, name: bytes) -> Key:
        """Undo :meth:`encode_key`. Raises ``DecodingError``."""
        try:
            parts = split(name[len(self.first) :].decode())
        except ValueError as error:
            raise DecodingError(
                "a name is none of this table's: check that only kvmodel writes there",
                table=self._table.name,
                key=(name[:_SHOWN],),
            ) from error
        return self._keys.key(parts)

    def bounds(self, slice: Slice) -> tuple[bytes, bytes]:
        """Answer the half-open range of a slice's names; it may be empty (start >= stop)."""
        if slice.partition is None:
            start, stop = self.first, self.last
        else:
            start, stop = self._piece(slice, slice.partition)
        if slice.after is not None:
            name = self._name(slice.after)
            if slice.reverse:
                stop = min(stop, name)
            else:
                start = max(start, name + b"\0")
        return start, stop

    def _piece(self, slice: Slice, partition: Key) -> tuple[bytes, bytes]:
        base = self._name(partition + slice.prefix)
        if not slice.prefix and len(base) > MAX_NAME_BYTES:
            raise self._too_long(partition, len(base))
        if slice.starts is not None:
            base += self._beginning(partition + slice.prefix, slice.starts)
        start, stop = base, successor(base)
        if slice.lower is not None:
            edge = self._name(partition + slice.lower.parts)
            start = max(start, edge if slice.lower.inclusive else successor(edge))
        if slice.upper is not None:
            edge = self._name(partition + slice.upper.parts)
            stop = min(stop, successor(edge) if slice.upper.inclusive else edge)
        return start, stop

    def _name(self, parts: Key) -> bytes:
        if len(parts) > len(self._table.key):
            raise ValidationError("a key has no more components than the model declares", table=self._table.name)
        return (self._head + join(self._keys.parts(parts))).encode()

    def _beginning(self, parts: Key, text: str | bytes) -> bytes:
        """Answer how the component behind some others begins: what it would be, without what ends it."""
        field = self._table.key[len(parts)] if len(parts) < len(self._table.key) else None
        if field is None or field.type.kind != type(text).__name__:
            raise ValidationError(
                "starts() wants the beginning of a str or bytes component, as that one is declared",
                table=self._table.name,
                key=(*parts, text),
                field=field.name if field else None,
            )
        name = self._name((*parts, text))[len(self._name(parts)) : -1]
        # A descending one ends in a sign of its own.
        return name[:-1] if field.descending else name

    def _too_long(self, key: Key, size: int) -> ValidationError:
        room = MAX_NAME_BYTES - len(self.first)
        return ValidationError(
            f"the key is too long, shorten its components: of the {MAX_NAME_BYTES} bytes that the store takes, {room}"
            f" remain after namespace and table, and this one needs {size - len(self.first)}",
            table=self._table.name,
            key=key,
            store=STORE,
        )


class _PlainNames(PlainKeys):
    """The names of a table in the plain layout: only those that the library takes as they are."""

    def encode_key(self, key: Key) -> bytes:
        """Make the name of a record. Raises ``ValidationError``."""
        name = super().encode_key(key)
        try:
            check_name(name.decode())
        except UnicodeDecodeError:
            raise ValidationError(
                "names here are text: this component is not UTF-8", table=self.table.name, key=key, store=STORE
            ) from None
        except ValidationError as error:
            error.table, error.key, error.field = self.table.name, key, None
            raise
        return name


class Place:
    """One table in the store.

    Attributes:
        codec: Encodes its keys, as UTF-8, and its records.
        is_plain: Whether it has the plain layout.
        names: How many names to ask for when it is listed next.
        room: How many records to read at once, as far as their size is known.
    """

    __slots__ = ("codec", "is_plain", "names", "room")

    def __init__(self, table: Table, max_value_bytes: int) -> None:
        self.is_plain = table.layout == "plain"
        keys: NameKeys | PlainKeys
        records: RecordCodec | PlainRecords
        if self.is_plain:
            keys = _PlainNames(table, STORE, MAX_NAME_BYTES)
            records = PlainRecords(table, STORE, max_value_bytes)
        else:
            keys = NameKeys(table)
            records = RecordCodec(table, STORE, max_value_bytes)
        self.codec = ByteCodec(
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
        self.names = 1024
        self.room = 64

    @property
    def table(self) -> Table:
        """The table."""
        return self.codec.table

    def is_alive(self, content: bytes, now: int) -> bool:
        """Whether a content is that of a live record. A damaged one counts as one."""
        try:
            return self.codec.peek_header(content, now) is not None
        except DecodingError:
            return True

    def version(self, content: bytes, now: int) -> object:
        """Answer the version of a live record; ``None`` for a dead one, what equals nothing for a damaged one."""
        try:
            header = self.codec.peek_header(content, now)
        except DecodingError:
            return _DAMAGED
        return None if header is None else header[0]


class _Damaged:
    """The version of a record that can't be read."""


_DAMAGED: Final = _Damaged()
