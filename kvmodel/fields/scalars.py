"""Values that the waist knows: they are stored as they are, once their type is right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, wrong_type

UTC: Final = timezone.utc


class ScalarCodec(Codec):
    """A type of the waist. ``slow_load`` and ``slow_dump`` look closer at what the guards did not let through."""

    __slots__ = ("slow_dump", "slow_load")

    def __init__(
        self,
        python_type: type,
        kind: str,
        *,
        load_guard: str | None = None,
        dump_guard: str | None = None,
        slow: Callable[[Any], Any] | None = None,
        slow_load: Callable[[Any], Any] | None = None,
    ) -> None:
        name = python_type.__name__
        super().__init__(name, ValueType(kind), accepts={python_type}, stored={python_type})
        self.load_guard = load_guard or f"type({{v}}) is {name}"
        self.dump_guard = dump_guard or f"type({{v}}) is {name}"
        self.load_types = None if load_guard else self.stored
        self.dump_types = None if dump_guard else self.accepts
        self.slow_dump = slow or exactly(python_type)
        self.slow_load = slow_load or self.slow_dump

    def load(self, value: Any, note: Note) -> Any:
        return self.slow_load(value)

    def dump(self, value: Any) -> Primitive:
        dumped: Primitive = self.slow_dump(value)
        return dumped


def exactly(python_type: type) -> Callable[[Any], Any]:
    """Make a function that lets through the values of one exact type."""
    name = python_type.__name__

    def take(value: Any) -> Any:
        if type(value) is not python_type:
            raise wrong_type(name, value)
        return value

    return take


def take_text(value: Any) -> str:
    """Let through text that UTF-8 can carry."""
    if type(value) is not str:
        raise wrong_type("str", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Mismatch("text with a lone surrogate can't be stored: clean it first, or store bytes") from None
    return value


def take_float(value: Any) -> float:
    """Let through a float, or an int that a float can carry exactly: type checkers take an ``int`` for a ``float``."""
    if type(value) is float:
        return value
    if type(value) is not int:
        raise wrong_type("float", value)
    try:
        as_float = float(value)
    except OverflowError:
        as_float = float("nan")
    if as_float != value:
        raise Mismatch("this int has no exact float: convert it first")
    return as_float


def take_datetime(value: Any) -> datetime:
    """Let through an aware datetime, in UTC."""
    if type(value) is not datetime:
        raise wrong_type("datetime", value)
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise Mismatch("a naive datetime can't be stored: give it a tzinfo, such as datetime.timezone.utc")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Mismatch("this datetime is out of range in UTC") from None


def take_time(value: Any) -> time:
    """Let through a time without a zone."""
    if type(value) is not time:
        raise wrong_type("time", value)
    if value.tzinfo is not None:
        raise Mismatch("a time with a tzinfo can't be stored: store an aware datetime, or remove the tzinfo")
    return value


_TEXT: Final = "type({v}) is str and {v}.isascii()"
_AWARE: Final = "type({v}) is datetime and {v}.tzinfo is UTC"
_NAIVE: Final = "type({v}) is time and {v}.tzinfo is None"

SCALARS: Final[dict[type, ScalarCodec]] = {
    bool: ScalarCodec(bool, "bool"),
    int: ScalarCodec(int, "int"),
    float: ScalarCodec(float, "float", slow=take_float),
    str: ScalarCodec(str, "str", dump_guard=_TEXT, slow=take_text, slow_load=exactly(str)),
    bytes: ScalarCodec(bytes, "bytes"),
    Decimal: ScalarCodec(Decimal, "decimal"),
    UUID: ScalarCodec(UUID, "uuid"),
    datetime: ScalarCodec(datetime, "datetime", load_guard=_AWARE, dump_guard=_AWARE, slow=take_datetime),
    date: ScalarCodec(date, "date"),
    time: ScalarCodec(time, "time", load_guard=_NAIVE, dump_guard=_NAIVE, slow=take_time),
    timedelta: ScalarCodec(timedelta, "timedelta"),
}

GUARD_NAMES: Final[dict[str, object]] = {
    **{python_type.__name__: python_type for python_type in SCALARS},
    "UTC": UTC,
}
"""What the guards refer to."""
