"""Keys as other programs write them: the table's name and the parts, as text, with a separator between them.

Specified in ``docs/spec/keys.md``. Such keys keep no order in general: digits do not sort, and a text may be followed
by a separator or by more text. A slice is answered where the order of bytes is the order of its keys, and refused with
``Unsupported`` where it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final, TypeAlias
from uuid import UUID

from kvmodel.drivers.base import Edge, Key, KeyField, KeyPart, Slice, Table
from kvmodel.drivers.formats.components import KINDS
from kvmodel.drivers.formats.text import decode_datetime, encode_datetime
from kvmodel.errors import DecodingError, SchemaError, Unsupported, ValidationError

__all__ = ["PlainKeys"]

Write: TypeAlias = Callable[..., bytes]
Read: TypeAlias = Callable[[bytes], KeyPart]

_REFUSALS: Final = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]*")
_LONGEST_INT: Final = 4000
_SHOWN: Final = 256
_LONGEST_KEY: Final = 1024


def _write_int(value: int) -> bytes:
    text = str(value)
    if len(text) > _LONGEST_INT:
        raise ValueError(f"an int in a key takes {_LONGEST_INT} digits at the most here")
    return text.encode()


def _read_int(data: bytes) -> int:
    if len(data) > _LONGEST_INT or _INTEGER.fullmatch(data) is None:
        raise ValueError("an int is written in decimal digits")
    return int(data)


def _read_uuid(data: bytes) -> UUID:
    text = data.decode("ascii")
    value = UUID(text)
    if str(value) != text:
        raise ValueError("a UUID is written in lower case, with hyphens")
    return value


def _read_date(data: bytes) -> date:
    text = data.decode("ascii")
    value = date.fromisoformat(text)
    if value.isoformat() != text:
        raise ValueError("a date is written as YYYY-MM-DD")
    return value


def _read_bool(data: bytes) -> bool:
    return {b"true": True, b"false": False}[data]


_KINDS: Final[dict[str, tuple[Write, Read]]] = {
    "str": (str.encode, bytes.decode),
    "bytes": (bytes, bytes),
    "int": (_write_int, _read_int),
    "uuid": (lambda value: str(value).encode(), _read_uuid),
    "date": (lambda value: value.isoformat().encode(), _read_date),
    "datetime": (lambda value: encode_datetime(value).encode(), lambda data: decode_datetime(data.decode("ascii"))),
    "bool": (lambda value: b"true" if value else b"false", _read_bool),
}
_CHARACTERS: Final = {
    "int": frozenset("0123456789"),
    "uuid": frozenset("0123456789abcdef-"),
    "date": frozenset("0123456789-"),
    "datetime": frozenset("0123456789-T:.Z"),
}
"""What stands in the texts of these kinds: such a separator would be found inside."""
_PREFIX_FREE: Final = frozenset(("uuid", "date", "datetime", "bool"))
"""Kinds none of whose texts begins another one: what follows them cannot disturb the order."""


class PlainKeys:
    """The keys of one table that has the plain layout.

    Attributes:
        table: The table.
        first, last: The half-open range of all its keys.
    """

    __slots__ = ("_head", "_limit", "_reads", "_separator", "_store", "_writes", "first", "last", "table")

    def __init__(self, table: Table, store: str, max_key_bytes: int | None) -> None:
        self.table = table
        self._store = store
        self._limit = max_key_bytes
        self._separator = self._option("separator", ":").encode()
        if not self._separator:
            raise SchemaError('the option "separator" must not be empty', table=table.name, store=store)
        self._check_fields()
        self._writes = tuple(_KINDS[field.type.kind][0] for field in table.key)
        self._reads = tuple(_KINDS[field.type.kind][1] for field in table.key)
        self._head = self._make_head()
        self.last = b"\xff" * (max_key_bytes or _LONGEST_KEY)
        # Without a head the table owns the whole store, but for the keys that kvmodel keeps for itself.
        self.first = self._head or b"\x01"
        if self._head:
            self.last = self._behind(self._head)

    # --- compiling

    def _option(self, name: str, default: str) -> str:
        value = self.table.options.get(self._store, {}).get(name, default)
        if not isinstance(value, str):
            raise SchemaError(f'the option "{name}" is a str', table=self.table.name, store=self._store)
        return value

    def _check_fields(self) -> None:
        separator = self._separator.decode()
        for field in self.table.key:
            kind = field.type.kind
            if kind not in _KINDS:
                raise self._unfit(field, f"a {kind} has no common text form: use the record layout, or a str")
            if field.descending:
                raise self._unfit(field, "plain keys cannot be turned around: read with reverse=True instead")
            is_last = field is self.table.key[-1]
            if not is_last and separator in _CHARACTERS.get(kind, ()):
                raise self._unfit(
                    field, f'its text holds the separator {separator!r}: set the option "separator" to another one'
                )

    def _unfit(self, field: KeyField, reason: str) -> SchemaError:
        return SchemaError(
            f"this field cannot stand in a key of the plain layout, {reason}",
            table=self.table.name,
            field=field.name,
            store=self._store,
        )

    def _make_head(self) -> bytes:
        separator = self._separator.decode()
        if any((part + separator).index(separator) != len(part) for part in self.table.namespace):
            raise SchemaError(
                f"with the plain layout, a namespace must not hold the separator {separator!r}",
                table=self.table.name,
                store=self._store,
            )
        space = "".join(part + separator for part in self.table.namespace)
        try:
            return (space + self._option("key_prefix", self.table.name + separator)).encode()
        except UnicodeEncodeError:
            raise SchemaError("namespace and key_prefix must be Unicode text", table=self.table.name) from None

    # --- whole keys

    def encode_key(self, key: Key) -> bytes:
        """Make the bytes of a full key. Raises ``ValidationError``."""
        if len(key) != len(self._writes):
            raise ValidationError("a key has all components that the model declares", table=self.table.name, key=key)
        data = self._prefix(key)
        if self._limit is not None and len(data) > self._limit:
            raise self._too_long(key, len(data))
        if data[:1] in (b"", b"\x00"):
            raise ValidationError(
                "a key with no prefix must not be empty or begin with NUL: such keys are kvmodel's own",
                table=self.table.name,
                key=key,
            )
        return data

    def decode_key(self, data: bytes) -> Key:
        """Undo :meth:`encode_key`. Raises ``DecodingError`` for all other bytes."""
        try:
            if not data.startswith(self._head) or data[:1] in (b"", b"\x00"):
                raise ValueError("it belongs to another table")
            texts = data[len(self._head) :].split(self._separator, len(self._reads) - 1)
            return tuple([read(text) for read, text in zip(self._reads, texts, strict=True)])
        except _REFUSALS as error:
            raise DecodingError(
                "stored bytes are no key of this table: check the separator and key_prefix options, and the types of"
                " the model's key fields, against what the other program writes",
                table=self.table.name,
                key=(data[:_SHOWN],),
            ) from error

    def _prefix(self, parts: Key) -> bytes:
        """Encode the head and the first components of a key; a separator follows where components do."""
        texts: list[bytes] = []
        for field, write, part in zip(self.table.key, self._writes, parts, strict=False):
            text = self._text(field, write, part, parts)
            if len(texts) < len(self._writes) - 1:
                text += self._separator
                if text.index(self._separator) != len(text) - len(self._separator):
                    raise ValidationError(
                        f"with the plain layout, only the last component may hold the separator"
                        f" {self._separator.decode()!r}: choose another one in the model's store options",
                        table=self.table.name,
                        field=field.name,
                        key=parts,
                    )
            texts.append(text)
        return self._head + b"".join(texts)

    def _text(self, field: KeyField, write: Write, part: KeyPart, parts: Key) -> bytes:
        try:
            if type(part) is not KINDS[field.type.kind]:
                raise TypeError(f"this key field wants {field.type}")
            return write(part)
        except UnicodeEncodeError:
            reason = "a str in a key must be Unicode text, without lone surrogates"
        except _REFUSALS as error:
            reason = str(error)
        raise ValidationError(reason, table=self.table.name, field=field.name, key=parts)

    def _too_long(self, key: Key, size: int) -> ValidationError:
        assert self._limit is not None
        room = max(self._limit - len(self._head), 0)
        return ValidationError(
            f"the key is too long, shorten its components: of the {self._limit} bytes that the store takes, {room}"
            f" remain after namespace and table, and this one needs {size - len(self._head)}",
            table=self.table.name,
            key=key,
            store=self._store,
        )

    # --- slices

    def bounds(self, slice: Slice) -> tuple[bytes, bytes]:
        """Answer the half-open range of bytes that holds the keys of a slice; it may be empty (start >= stop).

        Raises ``Unsupported`` where the order of bytes is not the order of the slice's keys.
        """
        if slice.partition is None:
            start, stop = self.first, self.last
        else:
            self._require_order(slice)
            start, stop = self._piece(slice, slice.partition)
        if slice.after is not None:
            key = self._prefix(slice.after)
            if slice.reverse:
                stop = min(stop, key)
            else:
                start = max(start, key + b"\x00")
        return self._clamp(start), self._clamp(stop)

    def _require_order(self, slice: Slice) -> None:
        varying = self.table.clustering[len(slice.prefix) :]
        for field in varying:
            kind = field.type.kind
            if kind == "int":
                reason = "an int in decimal digits does not sort"
            elif field is not varying[-1] and kind not in _PREFIX_FREE:
                reason = f"a {kind} before other components does not sort"
            else:
                continue
            raise Unsupported(
                f"this range has no order in the plain layout, {reason}: fix the component with prefix=(...), read the"
                " records by key, or use the record layout",
                table=self.table.name,
                field=field.name,
                store=self._store,
            )

    def _piece(self, slice: Slice, partition: Key) -> tuple[bytes, bytes]:
        parts = partition + slice.prefix
        start, stop = self._range(parts)
        if self._limit is not None and len(start) > self._limit and not slice.prefix:
            raise self._too_long(partition, len(start))
        if slice.starts is not None:
            start = self._prefix(parts) + self._beginning(slice.starts, parts)
            stop = self._behind(start)
        if slice.lower is not None:
            low, behind = self._edge(partition, slice.lower)
            start = max(start, low if slice.lower.inclusive else behind)
        if slice.upper is not None:
            low, behind = self._edge(partition, slice.upper)
            stop = min(stop, behind if slice.upper.inclusive else low)
        return start, stop

    def _edge(self, partition: Key, edge: Edge) -> tuple[bytes, bytes]:
        return self._range(partition + edge.parts)

    def _range(self, parts: Key) -> tuple[bytes, bytes]:
        """Answer the range of the keys that begin with some components."""
        data = self._prefix(parts)
        if not data:
            return self.first, self.last
        return data, data + b"\x00" if len(parts) == len(self._writes) else self._behind(data)

    def _beginning(self, text: str | bytes, parts: Key) -> bytes:
        field = self.table.key[len(parts)] if len(parts) < len(self.table.key) else None
        if field is None or type(text) is not KINDS[field.type.kind]:
            raise ValidationError(
                "starts() wants the beginning of a str or bytes component, as that one is declared",
                table=self.table.name,
                key=(*parts, text),
                field=field.name if field else None,
            )
        return self._text(field, _KINDS[field.type.kind][0], text, (*parts, text))

    def _behind(self, prefix: bytes) -> bytes:
        """Answer the first bytes behind everything that begins with ``prefix``."""
        kept = prefix.rstrip(b"\xff")
        return kept[:-1] + bytes((kept[-1] + 1,)) if kept else self.last

    def _clamp(self, bound: bytes) -> bytes:
        """Shorten a bound that is longer than any key, without letting a key change sides."""
        if self._limit is None or len(bound) <= self._limit:
            return bound
        return self._behind(bound[: self._limit])
