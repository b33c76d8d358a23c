"""Values that msgpack lacks, as its extension types. Specified in ``docs/spec/records.md``.

Every extension has one form for each value; readers refuse all others. Sizes are bounded, so that no few bytes ask
for much work: integers and Decimals hold 65535 bytes at the most.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Final
from uuid import UUID

from kvmodel.drivers.formats._msgpack import ExtType

__all__ = ["STORED_TYPES", "decode_extension", "encode_extension"]

BIG_INT, DECIMAL, DATETIME, DATE, TIME, TIMEDELTA, UUID_CODE = range(1, 8)
LONGEST: Final = 0xFFFF
STORED_TYPES: Final = frozenset(
    (type(None), bool, int, float, str, bytes, Decimal, UUID, datetime, date, time, timedelta, list, dict)
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = 86_400_000_000
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,19}")


def encode_extension(value: object) -> ExtType:
    """Turn what msgpack cannot hold into an extension. Raises ``ValueError`` or ``TypeError``."""
    encode = _ENCODERS.get(type(value))
    if encode is None:
        raise TypeError("its type is none that records hold")
    return encode(value)


def decode_extension(code: int, data: bytes) -> object:
    """Undo :func:`encode_extension`. Raises ``ValueError``, ``ArithmeticError`` or ``LookupError``."""
    return _DECODERS[code](data)


def _encode_int(value: int) -> ExtType:
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    if size > LONGEST:
        raise ValueError("an int takes 65535 bytes at the most")
    return ExtType(BIG_INT, value.to_bytes(size, "big", signed=True))


def _decode_int(data: bytes) -> int:
    value = int.from_bytes(data, "big", signed=True)
    if -(1 << 63) <= value < 1 << 64 or _encode_int(value).data != data:
        raise ValueError("a big int has another form than the canonical one")
    return value


def _encode_decimal(value: Decimal) -> ExtType:
    text = str(value).encode()
    if len(text) > LONGEST:
        raise ValueError("a Decimal takes 65535 characters at the most")
    return ExtType(DECIMAL, text)


def _decode_decimal(data: bytes) -> Decimal:
    if len(data) > LONGEST:
        raise ValueError("a Decimal is too long")
    text = data.decode("ascii")
    value = Decimal(text)
    if str(value) != text:
        raise ValueError("a Decimal has another form than the canonical one")
    return value


def _encode_datetime(value: datetime) -> ExtType:
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError("a datetime must be aware: give it a tzinfo")
    instant = (value - _EPOCH) // _MICROSECOND
    return ExtType(DATETIME, instant.to_bytes(8, "big", signed=True))


def _decode_datetime(data: bytes) -> datetime:
    _sized(data, 8)
    return _EPOCH + timedelta(microseconds=int.from_bytes(data, "big", signed=True))


def _encode_date(value: date) -> ExtType:
    return ExtType(DATE, value.toordinal().to_bytes(4, "big"))


def _decode_date(data: bytes) -> date:
    _sized(data, 4)
    return date.fromordinal(int.from_bytes(data, "big"))


def _encode_time(value: time) -> ExtType:
    if value.tzinfo is not None:
        raise ValueError("a time must be naive: keep its zone in a field of its own")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return ExtType(TIME, (seconds * 1_000_000 + value.microsecond).to_bytes(8, "big"))


def _decode_time(data: bytes) -> time:
    _sized(data, 8)
    seconds, microsecond = divmod(int.from_bytes(data, "big"), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return time(hour, minute, second, microsecond)


def _encode_timedelta(value: timedelta) -> ExtType:
    return ExtType(TIMEDELTA, b"%d" % (value // _MICROSECOND))


def _decode_timedelta(data: bytes) -> timedelta:
    if _INTEGER.fullmatch(data) is None:
        raise ValueError("a timedelta has another form than the canonical one")
    return timedelta(microseconds=int(data))


def _encode_uuid(value: UUID) -> ExtType:
    return ExtType(UUID_CODE, value.bytes)


def _decode_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _sized(data: bytes, size: int) -> None:
    if len(data) != size:
        raise ValueError("an extension has another length than its type")


_ENCODERS: Final[dict[type, Callable[..., ExtType]]] = {
    int: _encode_int,
    Decimal: _encode_decimal,
    datetime: _encode_datetime,
    date: _encode_date,
    time: _encode_time,
    timedelta: _encode_timedelta,
    UUID: _encode_uuid,
}
_DECODERS: Final[dict[int, Callable[[bytes], object]]] = {
    BIG_INT: _decode_int,
    DECIMAL: _decode_decimal,
    DATETIME: _decode_datetime,
    DATE: _decode_date,
    TIME: _decode_time,
    TIMEDELTA: _decode_timedelta,
    UUID_CODE: _decode_uuid,
}
