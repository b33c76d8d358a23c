"""Key components as bytes: ordered, prefix-free, self-describing. Specified in ``docs/spec/keys.md``.

Rules:

* the order of encodings is the order of values, whatever follows them;
* no encoding is the beginning of another one, so that no component can reach into its neighbour;
* equal values of a type have equal encodings, and a decoder accepts nothing else: what it takes, encodes to the same.

Encoders trust the type of what they get, since keys were checked above the waist; what they refuse beyond that (NaN,
lone surrogates, naive datetimes, sizes) is a ``ValueError`` whose text says what to do. Decoders raise ``ValueError``
or ``IndexError`` for any bytes that no encoder writes; :mod:`kvmodel.drivers.formats.keys` turns both into the errors
that users see.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final, TypeAlias
from uuid import UUID

from kvmodel.drivers.base import KeyPart, KeyType
from kvmodel.errors import SchemaError

__all__ = [
    "FLIP",
    "INT_LIMIT",
    "INT_SIZES",
    "INT_STARTS",
    "KINDS",
    "STR",
    "Decoder",
    "Encoder",
    "decode_int",
    "decode_str",
    "decoder_of",
    "encode_int",
    "encode_str",
    "encoder_of",
    "escape",
    "is_of_type",
    "successor",
]

Encoder: TypeAlias = Callable[[KeyPart], bytes]
Decoder: TypeAlias = Callable[[bytes, int], "tuple[KeyPart, int]"]
"""Takes the bytes and where the component begins; gives the value and where the next one begins."""

BYTES: Final = 0x01
STR: Final = 0x02
TUPLE: Final = 0x05
ZERO: Final = 0x14
BIG_POSITIVE: Final = 0x1D
BIG_NEGATIVE: Final = 0x0B
FLOAT: Final = 0x21
DECIMAL: Final = 0x23
FALSE: Final = 0x26
TRUE: Final = 0x27
UUID_: Final = 0x30
DATE: Final = 0x33
DATETIME: Final = 0x34
END: Final = 0x00

FLIP: Final = bytes(range(255, -1, -1))
"""``encoding.translate(FLIP)`` turns the order of a component around."""

KINDS: Final[dict[str, type]] = {
    "str": str,
    "bytes": bytes,
    "int": int,
    "float": float,
    "bool": bool,
    "decimal": Decimal,
    "uuid": UUID,
    "datetime": datetime,
    "date": date,
    "tuple": tuple,
}
"""The exact Python type of each kind of component."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_INSTANT: Final = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND
_FIRST_INSTANT: Final = (datetime.min.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND


def successor(prefix: bytes) -> bytes:
    """Answer the first bytes after everything that begins with ``prefix``, which must hold a byte below 0xFF."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))


# --- text and bytes ---------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Free a text from 0x00, which ends components, and keep the order."""
    return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")


_ESCAPED: Final = re.compile(rb"\x01(.?)", re.DOTALL)
_ORIGINALS: Final = {b"\x01": b"\x00", b"\x02": b"\x01"}


def _original(escaped: re.Match[bytes]) -> bytes:
    original = _ORIGINALS.get(escaped[1])
    if original is None:
        raise ValueError("0x01 begins something that is not an escape")
    return original


def encode_str(value: str) -> bytes:
    if value.isprintable():
        return f"\x02{value}\x00".encode()
    return f"\x02{escape(value)}\x00".encode()


def encode_bytes(value: bytes) -> bytes:
    return b"\x01%b\x00" % value.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")


def _content(data: bytes, at: int, code: int) -> tuple[bytes, int]:
    if data[at] != code:
        raise ValueError("the type code is another one than the table's")
    end = data.index(END, at)
    content = data[at + 1 : end]
    return (_ESCAPED.sub(_original, content) if 1 in content else content), end + 1


def decode_str(data: bytes, at: int) -> tuple[str, int]:
    content, end = _content(data, at, STR)
    return content.decode(), end


def decode_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    return _content(data, at, BYTES)


# --- int --------------------------------------------------------------------------------------------------------------

INT_LIMIT: Final = 1 << 64
INT_SIZES: Final = tuple((bits + 7) // 8 + 1 for bits in range(65))
INT_STARTS: Final = tuple((ZERO + (bits + 7) // 8) << 8 * ((bits + 7) // 8) for bits in range(65))
"""``n + INT_STARTS[n.bit_length()]`` is the whole encoding of a small ``n >= 0``, read as a number."""
_NEGATIVE_STARTS: Final = tuple(
    ((ZERO - (bits + 7) // 8) << 8 * ((bits + 7) // 8)) + (1 << 8 * ((bits + 7) // 8)) - 1 for bits in range(65)
)
_LONGEST_INT: Final = 0xFFFF


def encode_int(value: int) -> bytes:
    bits = value.bit_length()
    if bits <= 64:
        start = INT_STARTS[bits] if value >= 0 else _NEGATIVE_STARTS[bits]
        return (value + start).to_bytes(INT_SIZES[bits], "big")
    size = (bits + 7) // 8
    if size > _LONGEST_INT:
        raise ValueError("an int in a key takes 65535 bytes at the most")
    magnitude = size.to_bytes(2, "big") + abs(value).to_bytes(size, "big")
    return b"\x1d" + magnitude if value > 0 else b"\x0b" + magnitude.translate(FLIP)


def decode_int(data: bytes, at: int) -> tuple[int, int]:
    size = data[at] - ZERO
    if not -8 <= size <= 8:
        return _decode_big_int(data, at)
    end = at + 1 + abs(size)
    digits = data[at + 1 : end]
    value = int.from_bytes(digits, "big")
    if size < 0:
        value -= (1 << -8 * size) - 1
    if len(digits) != abs(size) or (value.bit_length() + 7) // 8 != abs(size):
        raise ValueError("an int is cut short or longer than need be")
    return value, end


def _decode_big_int(data: bytes, at: int) -> tuple[int, int]:
    code = data[at]
    if code != BIG_POSITIVE and code != BIG_NEGATIVE:
        raise ValueError("the type code is another one than the table's")
    head = data[at + 1 : at + 3]
    size = int.from_bytes(head if code == BIG_POSITIVE else head.translate(FLIP), "big")
    end = at + 3 + size
    digits = data[at + 3 : end]
    if code == BIG_NEGATIVE:
        digits = digits.translate(FLIP)
    if len(head) != 2 or size <= 8 or len(digits) != size or not digits[0]:
        raise ValueError("an int is cut short or longer than need be")
    value = int.from_bytes(digits, "big")
    return (value if code == BIG_POSITIVE else -value), end


# --- float and Decimal ------------------------------------------------------------------------------------------------

_pack_float: Final = struct.Struct(">d").pack
_pack_bits: Final = struct.Struct(">BQ").pack
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1


def float_bits(value: float) -> int:
    """Map a float to 64 bits that are ordered as the floats are."""
    if value != value:
        raise ValueError("NaN has no place in an order: leave it out of the key")
    bits = int.from_bytes(_pack_float(value + 0.0), "big")
    return bits ^ (_ALL if bits & _SIGN else _SIGN)


def float_of_bits(bits: int) -> float:
    """Undo :func:`float_bits`."""
    raw = bits ^ (_SIGN if bits & _SIGN else _ALL)
    (value,) = struct.unpack(">d", raw.to_bytes(8, "big"))
    assert isinstance(value, float)
    if float_bits(value) != bits:
        raise ValueError("-0.0 is written as 0.0 in keys")
    return value


def encode_float(value: float) -> bytes:
    return _pack_bits(FLOAT, float_bits(value))


def decode_float(data: bytes, at: int) -> tuple[float, int]:
    return float_of_bits(int.from_bytes(_fixed(data, at, FLOAT, 8), "big")), at + 9


def _fixed(data: bytes, at: int, code: int, size: int) -> bytes:
    if data[at] != code:
        raise ValueError("the type code is another one than the table's")
    content = data[at + 1 : at + 1 + size]
    if len(content) != size:
        raise ValueError("the key is cut short")
    return content


MINUS_INFINITY, NEGATIVE, NO_SIGN, POSITIVE, PLUS_INFINITY = range(5)
_EXPONENT_OFFSET: Final = 1 << 31
_LONGEST_PLAIN: Final = 28


def decimal_parts(value: Decimal) -> tuple[int, int, str]:
    """Take a Decimal apart: its class, its adjusted exponent and its digits without zeros at either end."""
    if not value.is_finite():
        if value.is_nan():
            raise ValueError("NaN has no place in an order: leave it out of the key")
        return (PLUS_INFINITY if value > 0 else MINUS_INFINITY), 0, ""
    if not value:
        return NO_SIGN, 0, ""
    sign, digits, _ = value.as_tuple()
    exponent = value.adjusted()
    if not -_EXPONENT_OFFSET <= exponent < _EXPONENT_OFFSET:
        raise ValueError("the exponent of a Decimal in a key must fit 32 bits")
    return (NEGATIVE if sign else POSITIVE), exponent, "".join(map(str, digits)).rstrip("0")


def decimal_of_parts(kind: int, exponent: int, digits: str) -> Decimal:
    """Undo :func:`decimal_parts`. Integers of up to 28 digits come out without an exponent."""
    if kind == NO_SIGN:
        return Decimal(0)
    if kind in (MINUS_INFINITY, PLUS_INFINITY):
        return Decimal("-Infinity" if kind == MINUS_INFINITY else "Infinity")
    if not (digits.isascii() and digits.isdigit()) or digits[0] == "0" or digits[-1] == "0":
        raise ValueError("a Decimal's digits are damaged")
    if len(digits) <= exponent + 1 <= _LONGEST_PLAIN:
        digits = digits.ljust(exponent + 1, "0")
    return Decimal(f"{'-' if kind == NEGATIVE else ''}{digits}E{exponent - len(digits) + 1}")


def encode_decimal(value: Decimal) -> bytes:
    kind, exponent, digits = decimal_parts(value)
    if not digits:
        return bytes((DECIMAL, kind))
    tail = b"%b%b\x00" % ((exponent + _EXPONENT_OFFSET).to_bytes(4, "big"), digits.encode())
    return bytes((DECIMAL, kind)) + (tail if kind == POSITIVE else tail.translate(FLIP))


def decode_decimal(data: bytes, at: int) -> tuple[Decimal, int]:
    kind = _fixed(data, at, DECIMAL, 1)[0]
    if kind not in (NEGATIVE, POSITIVE):
        if kind > PLUS_INFINITY:
            raise ValueError("a Decimal's class byte is damaged")
        return decimal_of_parts(kind, 0, ""), at + 2
    begin = at + 6
    end = data.index(END if kind == POSITIVE else 0xFF, begin)
    tail = data[at + 2 : end]
    if kind == NEGATIVE:
        tail = tail.translate(FLIP)
    exponent = int.from_bytes(tail[:4], "big") - _EXPONENT_OFFSET
    return decimal_of_parts(kind, exponent, tail[4:].decode("ascii")), end + 1


# --- bool, UUID, times ------------------------------------------------------------------------------------------------


def encode_bool(value: bool) -> bytes:
    return b"\x27" if value else b"\x26"


def decode_bool(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] not in (FALSE, TRUE):
        raise ValueError("the type code is another one than the table's")
    return data[at] == TRUE, at + 1


def encode_uuid(value: UUID) -> bytes:
    return b"\x30" + value.int.to_bytes(16, "big")


def decode_uuid(data: bytes, at: int) -> tuple[UUID, int]:
    return UUID(bytes=_fixed(data, at, UUID_, 16)), at + 17


def encode_date(value: date) -> bytes:
    return b"\x33" + value.toordinal().to_bytes(4, "big")


def decode_date(data: bytes, at: int) -> tuple[date, int]:
    return date.fromordinal(int.from_bytes(_fixed(data, at, DATE, 4), "big")), at + 5


def microseconds_of(value: datetime) -> int:
    """Answer the microseconds since the Unix epoch of an aware datetime that lies in the years 1 to 9999 of UTC."""
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError("a datetime in a key must be aware: give it a tzinfo")
    instant = (value - _EPOCH) // _MICROSECOND
    if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
        raise ValueError("a datetime in a key must lie in the years 1 to 9999 of UTC")
    return instant


def datetime_of(instant: int) -> datetime:
    """Undo :func:`microseconds_of`."""
    if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
        raise ValueError("a datetime is out of range")
    return _EPOCH + timedelta(microseconds=instant)


def encode_datetime(value: datetime) -> bytes:
    return _pack_bits(DATETIME, microseconds_of(value) + _SIGN)


def decode_datetime(data: bytes, at: int) -> tuple[datetime, int]:
    return datetime_of(int.from_bytes(_fixed(data, at, DATETIME, 8), "big") - _SIGN), at + 9


# --- by type ----------------------------------------------------------------------------------------------------------

_ENCODERS: Final[dict[str, Callable[..., bytes]]] = {
    "str": encode_str,
    "bytes": encode_bytes,
    "int": encode_int,
    "float": encode_float,
    "bool": encode_bool,
    "decimal": encode_decimal,
    "uuid": encode_uuid,
    "datetime": encode_datetime,
    "date": encode_date,
}
_DECODERS: Final[dict[str, Decoder]] = {
    "str": decode_str,
    "bytes": decode_bytes,
    "int": decode_int,
    "float": decode_float,
    "bool": decode_bool,
    "decimal": decode_decimal,
    "uuid": decode_uuid,
    "datetime": decode_datetime,
    "date": decode_date,
}
_CODES: Final[dict[str, frozenset[int]]] = {
    "str": frozenset((STR,)),
    "bytes": frozenset((BYTES,)),
    "int": frozenset(range(BIG_NEGATIVE, BIG_POSITIVE + 1)),
    "float": frozenset((FLOAT,)),
    "bool": frozenset((FALSE, TRUE)),
    "decimal": frozenset((DECIMAL,)),
    "uuid": frozenset((UUID_,)),
    "datetime": frozenset((DATETIME,)),
    "date": frozenset((DATE,)),
    "tuple": frozenset((TUPLE,)),
}


def encoder_of(declared: KeyType) -> Encoder:
    """Answer the encoder of a type of component."""
    if declared.kind == "tuple":
        return _variadic_encoder(declared.items[0]) if declared.variadic else _tuple_encoder(declared)
    if declared.kind == "union":
        return _union_encoder(declared)
    return _ENCODERS[declared.kind]


def decoder_of(declared: KeyType) -> Decoder:
    """Answer the decoder of a type of component."""
    if declared.kind == "tuple":
        return _variadic_decoder(declared.items[0]) if declared.variadic else _tuple_decoder(declared)
    if declared.kind == "union":
        return _union_decoder(declared)
    return _DECODERS[declared.kind]


def is_of_type(value: object, declared: KeyType) -> bool:
    """Tell whether a component has exactly the type that was declared, elements included."""
    if declared.kind == "union":
        return any(is_of_type(value, item) for item in declared.items)
    if type(value) is not KINDS[declared.kind]:
        return False
    if not isinstance(value, tuple):
        return True
    if declared.variadic:
        return all(is_of_type(element, declared.items[0]) for element in value)
    return len(value) == len(declared.items) and all(map(is_of_type, value, declared.items))


def _variadic_encoder(item: KeyType) -> Encoder:
    each = encoder_of(item)

    def encode(value: KeyPart) -> bytes:
        assert isinstance(value, tuple)
        return b"\x05%b\x00" % b"".join(map(each, value))

    return encode


def _tuple_encoder(declared: KeyType) -> Encoder:
    encoders = tuple(map(encoder_of, declared.items))

    def encode(value: KeyPart) -> bytes:
        assert isinstance(value, tuple)
        return b"\x05%b\x00" % b"".join([encoder(element) for encoder, element in zip(encoders, value, strict=True)])

    return encode


def _tuple_decoder(declared: KeyType) -> Decoder:
    decoders = tuple(map(decoder_of, declared.items))

    def decode(data: bytes, at: int) -> tuple[KeyPart, int]:
        if data[at] != TUPLE:
            raise ValueError("the type code is another one than the table's")
        at += 1
        elements = []
        for decoder in decoders:
            element, at = decoder(data, at)
            elements.append(element)
        if data[at] != END:
            raise ValueError("a tuple has more elements than the table's")
        return tuple(elements), at + 1

    return decode


def _variadic_decoder(item: KeyType) -> Decoder:
    decoder = decoder_of(item)
    takes_text = "str" in {one.kind for one in (item.items if item.kind == "union" else (item,))}

    def decode(data: bytes, at: int) -> tuple[KeyPart, int]:
        if data[at] != TUPLE:
            raise ValueError("the type code is another one than the table's")
        at += 1
        if takes_text and data[at] == STR:
            end = data.find(b"\x00\x00", at)
            body = data[at + 1 : end] if end > 0 else b"\x01"
            if 1 not in body and body.count(b"\x00") == body.count(b"\x00\x02"):  # Nothing but plain texts.
                return tuple(body.decode().split("\x00\x02")), end + 2
        elements = []
        while data[at] != END:
            element, at = decoder(data, at)
            elements.append(element)
        return tuple(elements), at + 1

    return decode


def _union_encoder(union: KeyType) -> Encoder:
    if len({item.kind for item in union.items}) != len(union.items):
        raise SchemaError("a union of two tuple types has no order: use one of them")
    encoders = {KINDS[item.kind]: encoder_of(item) for item in union.items}

    def encode(value: KeyPart) -> bytes:
        return encoders[type(value)](value)

    return encode


def _union_decoder(union: KeyType) -> Decoder:
    decoders = {code: decoder_of(item) for item in union.items for code in _CODES[item.kind]}

    def decode(data: bytes, at: int) -> tuple[KeyPart, int]:
        decoder = decoders.get(data[at])
        if decoder is None:
            raise ValueError("the type code is another one than the table's")
        return decoder(data, at)

    return decode
