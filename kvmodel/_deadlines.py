"""Deadlines of records, from what a caller says to microseconds since the epoch."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta, timezone
from typing import Final, TypeAlias

from kvmodel.errors import ValidationError

__all__ = ["KEEP", "Deadline", "Keep", "deadline"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class Keep(enum.Enum):
    """Stands for 'not said': a loaded object keeps its deadline, a new one takes its model's."""

    KEEP = "keep"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep.KEEP

Deadline: TypeAlias = "int | None | Keep"
"""Microseconds since the epoch; ``None`` for never; ``KEEP`` for what it was."""


def deadline(expires_in: timedelta | None | Keep, expires_at: datetime | None | Keep, now: int) -> Deadline:
    """Answer the deadline that a caller asked for.

    Raises:
        ValidationError: Both were given, the moment is naive, or it is not in the future.
    """
    if expires_in is not KEEP and expires_at is not KEEP:
        raise ValidationError("give either expires_in or expires_at, not both")
    if expires_in is not KEEP:
        return None if expires_in is None else _after(now, expires_in)
    if expires_at is not KEEP:
        return None if expires_at is None else _at(expires_at, now)
    return KEEP


def _after(now: int, expires_in: timedelta) -> int:
    if not isinstance(expires_in, timedelta):
        raise ValidationError(f"expires_in takes a timedelta, or None for never, not {expires_in!r}")
    if expires_in <= timedelta(0):
        raise ValidationError(f"expires_in has to be in the future, not {expires_in!r}")
    return now + expires_in // _MICROSECOND


def _at(expires_at: datetime, now: int) -> int:
    if not isinstance(expires_at, datetime):
        raise ValidationError(f"expires_at takes a datetime, or None for never, not {expires_at!r}")
    if expires_at.tzinfo is None or expires_at.utcoffset() is None:
        raise ValidationError(f"expires_at has to know its time zone: {expires_at!r} is naive")
    moment = (expires_at - _EPOCH) // _MICROSECOND
    if moment <= now:
        raise ValidationError(f"expires_at has to be in the future, not {expires_at!r}")
    return moment
