"""Records as bytes: a fixed header, then the fields as msgpack. Specified in ``docs/spec/records.md``.

Rules:

* version and deadline stand at fixed places, so that they can be read without decoding a value;
* the same values give the same bytes, so that bytes can be compared to notice changes;
* whatever bytes are given to a reader, it answers a record or raises ``DecodingError``, in time and memory in
  proportion to their length.

msgpack's own limits keep a single length from being believed. What remains is guarded here: the depth of nesting, and
lists inside lists that each announce more elements than there are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, cast

from kvmodel.drivers.base import Absent, Key, Row, Table, Values, Version
from kvmodel.drivers.formats import extensions
from kvmodel.drivers.formats._msgpack import Packer, Unpacker, UnpackException, unpackb
from kvmodel.drivers.formats.extensions import decode_extension, encode_extension
from kvmodel.errors import DecodingError, KvModelError, TooLarge, ValidationError

__all__ = ["STAMP_BYTES", "RecordCodec", "pack", "unpack"]

BASE: Final = 0x10
DEADLINE: Final = 0x01
NUMBER: Final = 0x02
STAMP_BYTES: Final = 12
MAX_DEPTH: Final = 100
_LASTING: Final = bytes((BASE,))

_BODY: Final = 1 + STAMP_BYTES
# Slices made once: writing them out costs a new one each time.
_STAMP: Final = slice(1, _BODY)
_REST: Final = slice(_BODY, None)
_RESERVED: Final = {0x20: "compressed", 0x30: "split", 0x40: "encrypted"}
_TIMESTAMP: Final = 0xFF
"""The code of msgpack's own extension, which its reader turns into an object that is no primitive."""
_CONTAINERS: Final = bytes((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
_SMALL: Final = 1024
_ROOM: Final = 1 << 22
_REFUSALS: Final = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    UnpackException,
)
_SCALARS: Final = frozenset(
    ("bool", "int", "float", "str", "bytes", "decimal", "uuid", "datetime", "date", "time", "timedelta")
)
_pack_number: Final = struct.Struct(">I").pack
_pack_deadline: Final = struct.Struct(">Q").pack


class _NotARecord(ValueError):
    """What is wrong with stored bytes, in words."""


# --- the body ---------------------------------------------------------------------------------------------------------


def pack(values: Values) -> bytes:
    """Write fields as one msgpack map: the same fields in the same order give the same bytes.

    Raises ``ValidationError`` naming the field that cannot be stored.
    """
    try:
        body = Packer(default=encode_extension, strict_types=True).pack(values)
        if len(body) > MAX_DEPTH and _containers(body) > MAX_DEPTH:
            examine(values)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _unpackable(values, error) from None
    return body


def unpack(body: bytes) -> Values:
    """Read what :func:`pack` wrote. Raises ``DecodingError`` for all other bytes."""
    try:
        if len(body) > _SMALL:
            survey(body)
        values = unpackb(body, ext_hook=decode_extension)
        examine_fields(values)
    except _REFUSALS as error:
        raise undecodable(None, None, error) from error
    return cast("Values", values)


def survey(body: bytes) -> None:
    """Refuse lists inside lists that announce more than there is.

    A reader makes room for a list when it meets its header. Where the headers that may be there could together ask
    for much more than the bytes justify, the structure is first run through without building anything.
    """
    headers = body.count(0xDC) + body.count(0xDD)
    if headers * len(body) > _ROOM:
        reader = Unpacker(max_buffer_size=len(body), strict_map_key=False)
        reader.feed(body)
        reader.skip()


def examine_fields(values: object) -> None:
    """Refuse what is no map of fields, or holds what :func:`examine` refuses."""
    if type(values) is not dict:
        raise _NotARecord("the body is no map of fields")
    examine(values)


def examine(values: object) -> None:
    """Refuse what is nested too deeply, map keys that are not ``str``, and values that are no primitives."""
    level: list[object] = [values]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for node in level:
            if isinstance(node, dict):
                if not set(map(type, node)) <= _STR_ONLY:
                    raise _NotARecord("a map has a key that is not a str")
                children = list(node.values())
            else:
                children = cast("list[object]", node)
            kinds = set(map(type, children))
            if not kinds <= extensions.STORED_TYPES:
                raise _NotARecord("a value has a type that records do not hold")
            if not kinds.isdisjoint(_NESTING):
                deeper += [child for child in children if type(child) in _NESTING]
        if not deeper:
            return
        level = deeper
    raise _NotARecord(f"values are nested more than {MAX_DEPTH} levels deep")


_STR_ONLY: Final = frozenset((str,))
_NESTING: Final = frozenset((dict, list))


def _containers(body: bytes) -> int:
    """Count the bytes that could begin a list or a map: never fewer than there are levels."""
    return len(body) - len(body.translate(None, _CONTAINERS))


# --- whole records ----------------------------------------------------------------------------------------------------


class RecordCodec:
    """The records of one table.

    Attributes:
        dump: Makes stored bytes of values, a stamp and a deadline. Raises ``ValidationError`` and ``TooLarge``.
        load: Makes a row of stored bytes, or ``Absent`` when they have expired. Raises ``DecodingError``.
    """

    __slots__ = ("_limit", "_store", "_table", "dump", "load")

    dump: Callable[[Values, bytes, int | None], bytes]
    load: Callable[[Key, bytes, int], Row | Absent]

    def __init__(self, table: Table, store: str, max_value_bytes: int | None) -> None:
        self._table = table
        self._store = store
        self._limit = max_value_bytes
        self.dump = _dumper(table, store, max_value_bytes)
        self.load = _loader(table)

    def peek_header(self, data: bytes, now: int) -> tuple[Version, int | None] | None:
        """Read version and deadline, without decoding a value; ``None`` when the record has expired."""
        if data[:1] == _LASTING and len(data) > _BODY:
            return data[_STAMP], None
        try:
            _, expires_at, _ = read_header(data)
        except _REFUSALS as error:
            raise undecodable(self._table, None, error) from error
        if expires_at is not None and expires_at <= now:
            return None
        return data[_STAMP], expires_at

    def version(self, data: bytes) -> Version:
        """Read the version, be the record expired or not."""
        if data[:1] == _LASTING and len(data) > _BODY:
            return data[_STAMP]
        try:
            read_header(data)
        except _REFUSALS as error:
            raise undecodable(self._table, None, error) from error
        return data[_STAMP]


def _dumper(table: Table, store: str, limit: int | None) -> Callable[[Values, bytes, int | None], bytes]:
    number = _pack_number(table.schema_number) if table.schema_number != 1 else b""
    lasting = bytes((BASE | (NUMBER if number else 0),))
    expiring = bytes((lasting[0] | DEADLINE,))
    name = table.name

    def dump(values: Values, stamp: bytes, expires_at: int | None) -> bytes:
        try:
            body = Packer(default=encode_extension, strict_types=True).pack(values)
            if len(body) > MAX_DEPTH and _containers(body) > MAX_DEPTH:
                examine(values)
            if expires_at is None:
                data = lasting + stamp + number + body
            else:
                data = expiring + stamp + _pack_deadline(expires_at) + number + body
        except (ValueError, TypeError, OverflowError, RecursionError, struct.error) as error:
            raise _undumpable(table, values, expires_at, error) from None
        if len(stamp) != STAMP_BYTES:
            raise ValidationError(f"a stamp is {STAMP_BYTES} bytes long", table=name)
        if limit is not None and len(data) > limit:
            raise TooLarge(
                "the record has more bytes than the store takes: split it, or keep its bulk elsewhere",
                size=len(data),
                limit=limit,
                table=name,
                store=store,
            )
        return data

    return dump


def _loader(table: Table) -> Callable[[Key, bytes, int], Row | Absent]:
    # Where no field holds lists or maps, the names alone tell that there is nothing inside to be looked at. A map in
    # the place of a scalar is then refused by the mapper, which knows the types.
    flat = all(field.type.kind in _SCALARS for field in table.values)
    has_all_of = frozenset(field.name for field in table.values if flat).issuperset
    new: Callable[[type[Row], tuple[object, ...]], Row] = tuple.__new__
    row = Row

    def load(key: Key, data: bytes, now: int) -> Row | Absent:
        try:
            if data[0] == BASE:
                body = data[_REST]
                expires_at = None
                number = 1
            else:
                at, expires_at, number = read_header(data)
                if expires_at is not None and expires_at <= now:
                    return Absent(key, data[_STAMP])
                body = data[at:]
            size = len(body)
            if size > _SMALL:
                survey(body)
            values = unpackb(body, ext_hook=decode_extension)
            if not (
                type(values) is dict
                and has_all_of(values)
                and _TIMESTAMP not in body
                and (size <= MAX_DEPTH or _containers(body) <= MAX_DEPTH)
            ):
                examine_fields(values)
        except _REFUSALS as error:
            raise undecodable(table, key, error) from error
        return new(row, (key, values, data[_STAMP], expires_at, number))

    return load


def read_header(data: bytes) -> tuple[int, int | None, int]:
    """Answer where the body begins, the deadline and the schema number. Raises ``ValueError`` or ``LookupError``."""
    form = data[0]
    if form & 0xFC != BASE:
        if form & 0xF0 in _RESERVED:
            raise _NotARecord(f"it is {_RESERVED[form & 0xF0]}, written by a newer kvmodel: upgrade this program")
        raise _NotARecord("the format byte is none of kvmodel's: data of other programs wants layout='plain'")
    at = _BODY
    expires_at = None
    number = 1
    if form & DEADLINE:
        expires_at = int.from_bytes(data[at : at + 8], "big")
        at += 8
    if form & NUMBER:
        number = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if number < 2:
            raise _NotARecord("the schema number is damaged")
    if len(data) <= at:
        raise _NotARecord("it is cut short")
    return at, expires_at, number


# --- errors -----------------------------------------------------------------------------------------------------------


def undecodable(table: Table | None, key: Key | None, error: BaseException) -> DecodingError:
    """Say why stored bytes are not a record."""
    reason = str(error) if isinstance(error, _NotARecord) else "it is damaged, or another program wrote it"
    return DecodingError(
        f"stored bytes are no record of this table: {reason}. Restore or delete the record",
        table=table.name if table else None,
        key=key,
    )


def _undumpable(table: Table, values: Values, expires_at: int | None, error: BaseException) -> ValidationError:
    if isinstance(error, struct.error):
        return ValidationError(
            f"a deadline is in microseconds since 1970, below 2 to the 64th, not {expires_at}", table=table.name
        )
    refusal = _unpackable(values, error)
    refusal.table = table.name
    return refusal


def _unpackable(values: Values, error: BaseException) -> ValidationError:
    """Find the field that cannot be stored."""
    for name, value in values.items():
        try:
            Packer(default=encode_extension, strict_types=True).pack(value)
            examine([value])
        except UnicodeEncodeError:
            return ValidationError("a str must be Unicode text, without lone surrogates", field=name)
        except (ValueError, TypeError, OverflowError, RecursionError) as reason:
            text = reason.message if isinstance(reason, KvModelError) else str(reason)
            return ValidationError(f"this value cannot be stored: {text}", field=name)
    return ValidationError(f"the values cannot be stored: {error}")
