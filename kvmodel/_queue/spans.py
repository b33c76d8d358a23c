"""Spans of time, as a caller writes them: seconds, or a ``timedelta``."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Final, TypeAlias

from kvmodel.errors import ValidationError

__all__ = ["Span", "micros_of", "moment_of", "positive", "when"]

Span: TypeAlias = "float | timedelta"
"""Seconds, or a ``timedelta``."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_NEVER_ENDING: Final = datetime.max.replace(tzinfo=timezone.utc)
_LONGEST: Final = timedelta(days=365_000) // _MICROSECOND


def micros_of(span: Span, name: str) -> int:
    """Answer a span of zero or more in microseconds. Raises ``ValidationError``, which names the argument."""
    if isinstance(span, timedelta):
        micros = span // _MICROSECOND
    elif isinstance(span, bool) or not isinstance(span, int | float) or not math.isfinite(span):
        raise _refused(span, name)
    else:
        micros = round(span * 1_000_000)
    if not 0 <= micros <= _LONGEST:
        raise _refused(span, name)
    return micros


def positive(span: Span, name: str) -> int:
    """Answer a span above zero in microseconds."""
    micros = micros_of(span, name)
    if not micros:
        raise _refused(span, name)
    return micros


def moment_of(moment: datetime, name: str) -> int:
    """Answer a moment in microseconds since the epoch."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ValidationError(f"{name} takes a datetime that knows its time zone, not {moment!r}")
    return (moment - _EPOCH) // _MICROSECOND


def when(micros: int) -> datetime:
    """Answer a moment as a ``datetime``, the last one there is where it is too far off."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return _NEVER_ENDING


def _refused(span: object, name: str) -> ValidationError:
    return ValidationError(
        f"{name} takes seconds or a timedelta, zero at the least and no more than ages, not {span!r}"
    )
