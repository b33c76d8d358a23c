"""What is looked at before anything is sent: names, contents, times and integers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Final

from kvmodel.errors import TooLarge, ValidationError

__all__ = [
    "MAX_NAME_BYTES",
    "STORE",
    "check_content",
    "check_integer",
    "check_name",
    "check_text",
    "microseconds_at",
    "microseconds_of",
    "moment_of",
]

STORE: Final = "quasardb"
MAX_NAME_BYTES: Final = 1024
"""How long a name may be, in bytes of UTF-8. The library's own message speaks of characters."""

_RESERVED: Final = "$"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND_YEAR: Final = datetime(1971, 1, 1, tzinfo=timezone.utc)
_LAST: Final = datetime.max.replace(tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_WIDEST: Final = 1 << 63


def check_text(text: object, what: str) -> str:
    """Answer a text that the library takes as it is. It cuts what it is given at a NUL, and tells nobody."""
    if not isinstance(text, str) or not text:
        raise ValidationError(f"a {what} is a str that is not empty", field=what, store=STORE)
    if "\0" in text:
        raise ValidationError(f"a {what} must not hold NUL: the library would cut it there", field=what, store=STORE)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValidationError(
            f"a {what} must be Unicode text, without lone surrogates", field=what, store=STORE
        ) from None
    if size > MAX_NAME_BYTES:
        raise ValidationError(
            f"a {what} has at most {MAX_NAME_BYTES} bytes of UTF-8, and this one has {size}: shorten it",
            field=what,
            store=STORE,
        )
    return text


def check_name(name: object) -> str:
    """Answer a name that an entry may have."""
    text = check_text(name, "key")
    if text.startswith(_RESERVED):
        raise ValidationError(
            "names that begin with $ are the store's own: choose another one", field="key", store=STORE
        )
    return text


def check_content(content: object, limit: int, what: str = "content") -> bytes:
    """Answer content that is ``bytes``, and not too much of it."""
    if not isinstance(content, bytes):
        raise ValidationError(f"{what} is bytes, not {type(content).__name__}: encode it", field=what, store=STORE)
    if len(content) > limit:
        raise TooLarge(
            f"{what} is larger than max_value_bytes: split it, or raise the option",
            size=len(content),
            limit=limit,
            store=STORE,
        )
    return content


def check_integer(number: object) -> int:
    """Answer an integer of 64 bits."""
    if isinstance(number, bool) or not isinstance(number, int) or not -_WIDEST <= number < _WIDEST:
        raise ValidationError(
            "an integer here is a Python int of at most 64 bits, signed", field="integer", store=STORE
        )
    return number


def microseconds_at(moment: object) -> int | None:
    """Answer a point in time as microseconds since 1970; ``None`` stays ``None``, for never."""
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise ValidationError("an expiry is an aware datetime, or None for never", field="moment", store=STORE)
    if moment.utcoffset() is None:
        raise ValidationError(
            "an expiry needs a time zone, datetime.now(timezone.utc) has one: the library would take a naive datetime"
            " for local time",
            field="moment",
            store=STORE,
        )
    # In UTC, the ends of the calendar may lie outside of it: astimezone would overflow.
    if not _SECOND_YEAR <= moment <= _LAST:
        raise ValidationError(
            "an expiry lies between the years 1971 and 9999: 1970 means 'never' to the store, give None for that",
            field="moment",
            store=STORE,
        )
    return (moment - _EPOCH) // _MICROSECOND


def microseconds_of(span: object) -> int:
    """Answer a span of time in microseconds: a ``timedelta``, or a number of seconds."""
    if isinstance(span, int | float) and not isinstance(span, bool):
        try:
            span = timedelta(seconds=span)
        except (OverflowError, ValueError):
            span = None
    if not isinstance(span, timedelta) or span <= timedelta():
        raise ValidationError("give a timedelta above zero, or a number of seconds", field="span", store=STORE)
    if span > _LAST - datetime.now(timezone.utc):
        raise ValidationError(
            "this would end behind the year 9999: give a shorter one, or None to expires_at for never",
            field="span",
            store=STORE,
        )
    return span // _MICROSECOND


def moment_of(microseconds: int | None) -> datetime | None:
    """Undo :func:`microseconds_at`."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
