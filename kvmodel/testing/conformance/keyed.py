"""One model for each type of key component and each direction, with values of that type in order."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs

import kvmodel as kv

__all__ = ["CASES", "Case", "Level"]

_UTC = timezone.utc


class Level(enum.Enum):
    """Ordered by its values, not by declaration."""

    HIGH = 30
    LOW = 10
    MIDDLE = 20


class _Keyed(kv.Model, abstract=True):
    shelf: str = kv.partition_key()


class ByStr(_Keyed, table="by_str"):
    part: str = kv.clustering_key()


class ByStrDown(_Keyed, table="by_str_down"):
    part: str = kv.clustering_key(descending=True)


class ByBytes(_Keyed, table="by_bytes"):
    part: bytes = kv.clustering_key()


class ByBytesDown(_Keyed, table="by_bytes_down"):
    part: bytes = kv.clustering_key(descending=True)


class ByInt(_Keyed, table="by_int"):
    part: int = kv.clustering_key()


class ByIntDown(_Keyed, table="by_int_down"):
    part: int = kv.clustering_key(descending=True)


class ByFloat(_Keyed, table="by_float"):
    part: float = kv.clustering_key()


class ByFloatDown(_Keyed, table="by_float_down"):
    part: float = kv.clustering_key(descending=True)


class ByBool(_Keyed, table="by_bool"):
    part: bool = kv.clustering_key()


class ByBoolDown(_Keyed, table="by_bool_down"):
    part: bool = kv.clustering_key(descending=True)


class ByDecimal(_Keyed, table="by_decimal"):
    part: Decimal = kv.clustering_key()


class ByDecimalDown(_Keyed, table="by_decimal_down"):
    part: Decimal = kv.clustering_key(descending=True)


class ByUuid(_Keyed, table="by_uuid"):
    part: UUID = kv.clustering_key()


class ByUuidDown(_Keyed, table="by_uuid_down"):
    part: UUID = kv.clustering_key(descending=True)


class ByDatetime(_Keyed, table="by_datetime"):
    part: datetime = kv.clustering_key()


class ByDatetimeDown(_Keyed, table="by_datetime_down"):
    part: datetime = kv.clustering_key(descending=True)


class ByDate(_Keyed, table="by_date"):
    part: date = kv.clustering_key()


class ByDateDown(_Keyed, table="by_date_down"):
    part: date = kv.clustering_key(descending=True)


class ByEnum(_Keyed, table="by_enum"):
    part: Level = kv.clustering_key()


class ByEnumDown(_Keyed, table="by_enum_down"):
    part: Level = kv.clustering_key(descending=True)


class ByTuple(_Keyed, table="by_tuple"):
    part: tuple[str, int] = kv.clustering_key()


class ByTupleDown(_Keyed, table="by_tuple_down"):
    part: tuple[str, int] = kv.clustering_key(descending=True)


class ByPath(_Keyed, table="by_path"):
    part: tuple[str, ...] = kv.clustering_key()


class ByPathDown(_Keyed, table="by_path_down"):
    part: tuple[str, ...] = kv.clustering_key(descending=True)


@attrs.frozen
class Case:
    """A type of component.

    Attributes:
        up, down: Models with one clustering component of this type, ascending and descending.
        ordered: Values of the type, the smallest first.
    """

    up: type[Any]
    down: type[Any]
    ordered: tuple[Any, ...]


CASES = {
    "str": Case(
        ByStr,
        ByStrDown,
        (
            "",
            "\0",
            "\0\0",
            "\0\xff",
            "\1",
            "\1\2",
            " ",
            "A",
            "a",
            "a\0",
            "a\0b",
            "a\1",
            "a!",
            "aa",
            "b",
            "é",
            "\uffff",
            "😀",
        ),
    ),
    "bytes": Case(
        ByBytes,
        ByBytesDown,
        (
            b"",
            b"\0",
            b"\0\0",
            b"\0\xff",
            b"\1",
            b"a",
            b"a\0",
            b"a\0b",
            b"aa",
            b"\xfe\xff",
            b"\xff",
            b"\xff\0",
            b"\xff\xff",
        ),
    ),
    "int": Case(
        ByInt,
        ByIntDown,
        (
            *(-(10**40), -(2**64) - 1, -(2**64), -(2**63) - 1, -(2**63), -65536, -256, -255, -10, -9, -1),
            *(0, 1, 9, 10, 255, 256, 65535, 65536, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40),
        ),
    ),
    "float": Case(
        ByFloat,
        ByFloatDown,
        (float("-inf"), -1e308, -1.5, -1.0, -5e-324, 0.0, 5e-324, 1.0, 1.5, 1e308, float("inf")),
    ),
    "bool": Case(ByBool, ByBoolDown, (False, True)),
    "decimal": Case(
        ByDecimal,
        ByDecimalDown,
        tuple(
            map(
                Decimal,
                (
                    *("-Infinity", "-1E+30", "-10", "-9.99", "-1.5", "-1.49", "-0.01", "0"),
                    *("1E-30", "0.01", "1.49", "1.5", "9.99", "10", "1E+30", "Infinity"),
                ),
            )
        ),
    ),
    "uuid": Case(ByUuid, ByUuidDown, tuple(UUID(int=n) for n in (0, 1, 255, 256, 2**64, 2**127, 2**128 - 1))),
    "datetime": Case(
        ByDatetime,
        ByDatetimeDown,
        (
            datetime(1, 1, 1, tzinfo=_UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=_UTC),
            datetime(1970, 1, 1, tzinfo=_UTC),
            datetime(2024, 2, 29, 11, 0, 0, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime(2024, 2, 29, 10, 0, 0, 2, tzinfo=_UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=_UTC),
        ),
    ),
    "date": Case(ByDate, ByDateDown, (date.min, date(999, 1, 1), date(1970, 1, 1), date(2024, 2, 29), date.max)),
    "enum": Case(ByEnum, ByEnumDown, (Level.LOW, Level.MIDDLE, Level.HIGH)),
    "tuple": Case(ByTuple, ByTupleDown, (("", -1), ("", 0), ("a", 5), ("a\0", 1), ("a\0", 2), ("aa", 0), ("b", -7))),
    "path": Case(ByPath, ByPathDown, ((), ("",), ("", ""), ("a",), ("a", ""), ("a", "b"), ("a\0",), ("aa",), ("b",))),
}
