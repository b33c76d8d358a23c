"""What the mapper remembers about an object: where it stands with its store.

Rules. The state lives in one slot that attrs does not know, so that it is never in a repr, a comparison or ``asdict``.
An object without a state is new. A state is replaced, never changed; copies of an object may share it.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

from kvmodel.drivers.base import Key, Values, Version
from kvmodel.errors import ValidationError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NEVER_ENDING: Final = datetime.max.replace(tzinfo=timezone.utc)


class Status(enum.Enum):
    """Where an object stands that is not new."""

    LOADED = "loaded"
    DELETED = "deleted"
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return self.name


class State(NamedTuple):
    """What is known of an object's record.

    ``version`` is what the store held when the object was read or written last. ``raw`` are the stored values, upgraded
    to the model's schema number; they are kept only if they hold fields that the model doesn't know.
    """

    status: Status
    key: Key
    version: Version | None
    expires_at: int | None = None
    raw: Values | None = None


class Stateful:
    """The slot."""

    __slots__ = ("__weakref__", "_kv_state")

    # Loading an object leaves the bare tuple of a State here: naming its parts would cost a tenth of the whole.
    _kv_state: State | None


set_state: Final[Callable[[object, State | None], None]] = Stateful.__dict__["_kv_state"].__set__
"""Give an object its state; frozen ones too, which is why this goes to the slot itself."""


def get_state(obj: object) -> State | None:
    """Answer an object's state, ``None`` for a new one."""
    state: State | None = getattr(obj, "_kv_state", None)
    return state if state is None or type(state) is State else State(*state)


def version(obj: object) -> str:
    """Answer the version that an object was loaded or saved at, as a text token.

    A token is for equality only; it fits an ETag, and ``save(obj, if_version=token)`` takes it. Raises
    ``ValidationError`` for an object that has no version, because it was never stored or is gone.
    """
    state = get_state(obj)
    if state is None or state.version is None or state.status is not Status.LOADED:
        raise ValidationError("this object has no version: load or save it first")
    return format_version(state.version)


def format_version(value: Version) -> str:
    """Write a version as text."""
    if isinstance(value, bytes):
        return "b" + base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
    return f"i{value}" if isinstance(value, int) else "s" + value


def decode_version(token: str) -> Version:
    """Read a version from text; ``ValidationError`` for what :func:`format_version` can't have written."""
    try:
        value = _decode_version(token)
    except (ValueError, TypeError, IndexError, binascii.Error):
        value = None
    if value is None or format_version(value) != token:
        raise ValidationError("this is not a version token: pass what kv.version() gave")
    return value


def _decode_version(token: str) -> Version | None:
    kind, text = token[0], token[1:]
    if kind == "b":
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if kind == "i":
        return int(text)
    return text if kind == "s" else None


def expires_at(obj: object) -> datetime | None:
    """Answer when an object's record expires, as it was loaded or saved last; ``None`` for never, or not stored."""
    state = get_state(obj)
    if state is None or state.expires_at is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=state.expires_at)
    except OverflowError:
        return _NEVER_ENDING
