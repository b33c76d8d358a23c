"""Every error that kvmodel raises.

The tree (the closest built-in in brackets)::

    KvModelError
    ├── SchemaError            [TypeError]       a class was declared, or meets a store, in a way that cannot work
    ├── ValidationError        [ValueError]      a value, key, bound or option was refused before anything was sent
    │   └── TooLarge           [ValueError]      over a limit of the store, told before anything was sent
    ├── NotFound               [LookupError]     no record under this key
    ├── Conflict               [RuntimeError]    somebody else wrote first; nothing was written
    │   └── AlreadyExists      [RuntimeError]    the key was to be free and is not
    ├── BatchError             [RuntimeError]    part of a batch failed; ``outcomes`` tells which
    ├── DecodingError          [ValueError]      stored bytes are not a record of this model
    ├── Unsupported            [NotImplementedError]  the store cannot do this; nothing was sent
    ├── NoDatabase             [LookupError]     no open database, or several and no choice made
    ├── Closed                 [RuntimeError]    a database or unit of work is over, or belongs elsewhere
    ├── BudgetExceeded         [RuntimeError]    more was spent than ``kv.budget`` allows
    ├── WatchLost              [RuntimeError]    a watch can't go on from its position
    └── StoreError             [OSError]         the store, or the way to it, failed
        ├── Unavailable        [ConnectionError] it can't be reached; nothing was done
        ├── TimedOut           [TimeoutError]    a read, or a write that was surely not sent, ran out of time
        ├── OutcomeUnknown     [OSError]         a write may or may not have happened: re-read before going on
        ├── AuthenticationFailed [PermissionError]
        └── ProtocolError      [OSError]         the other side broke the protocol; the connection was dropped

Rules. The text is static and says what to do next; facts are attributes and are appended to the text in a fixed
order, so that messages can be searched and grouped. What the store itself said is the ``__cause__``. No error holds
a password: addresses are stored without their user information.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmodel.drivers.base import Outcome

__all__ = [
    "AlreadyExists",
    "AuthenticationFailed",
    "BatchError",
    "BudgetExceeded",
    "Closed",
    "Conflict",
    "DecodingError",
    "KvModelError",
    "NoDatabase",
    "NotFound",
    "OutcomeUnknown",
    "ProtocolError",
    "SchemaError",
    "StoreError",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "Unsupported",
    "ValidationError",
    "WatchLost",
]


_SHOWN = 500


class KvModelError(Exception):
    """The root of all errors that kvmodel raises.

    Args:
        message: Static text that says what to do next.
        table: Name of the table concerned, if one is.
        key: The key concerned: its components in declaration order.
        field: Name (or dotted path) of the field concerned.
        store: Name of the store concerned, without credentials.
    """

    def __init__(
        self,
        message: str,
        *,
        table: str | None = None,
        key: tuple[object, ...] | None = None,
        field: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.table = table
        self.key = key
        self.field = field
        self.store = store

    def __str__(self) -> str:
        facts = [
            f"{name}={_show(value)}"
            for name, value in (
                ("table", self.table),
                ("key", self.key),
                ("field", self.field),
                ("store", self.store),
            )
            if value is not None
        ]
        return f"{self.message} [{', '.join(facts)}]" if facts else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _show(value: object) -> str:
    """A fact as text, never so long that it buries the message."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than a few thousand digits.
        return "(too long to show)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _rebuild(cls: type[KvModelError], args: tuple[object, ...], state: dict[str, object]) -> KvModelError:
    """Make an error that crossed a process boundary again; keyword-only facts defeat the default way."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class SchemaError(KvModelError, TypeError):
    """A model was declared, or meets what a store holds, in a way that cannot work."""


class ValidationError(KvModelError, ValueError):
    """A value, key, bound or option was refused; nothing was sent."""


class TooLarge(ValidationError):
    """A record, batch or request is over a limit of the store; nothing was sent.

    Attributes:
        size: What it would take, in the unit that the message names; ``None`` where that is not known.
        limit: What the store takes at most, in the same unit.
    """

    def __init__(
        self,
        message: str,
        *,
        size: int | None = None,
        limit: int | None = None,
        table: str | None = None,
        key: tuple[object, ...] | None = None,
        field: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message, table=table, key=key, field=field, store=store)
        self.size = size
        self.limit = limit


class NotFound(KvModelError, LookupError):
    """No record has this key (an expired one counts as none)."""


class Conflict(KvModelError, RuntimeError):
    """What this write relied on is no longer so; nothing was written. Read again and retry.

    Attributes:
        keys: ``(table name, key)`` pairs of the records that the store named, maybe none.
    """

    def __init__(
        self,
        message: str,
        *,
        keys: Sequence[tuple[str, tuple[object, ...]]] = (),
        table: str | None = None,
        key: tuple[object, ...] | None = None,
        field: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message, table=table, key=key, field=field, store=store)
        self.keys = tuple(keys)


class AlreadyExists(Conflict):
    """A record was to be created under a key that is taken; nothing was written."""


class BatchError(KvModelError, RuntimeError):
    """Some writes of a batch failed; the others are done.

    Attributes:
        outcomes: One for each object of the batch that failed, in order.
        done: How many objects were written in all, earlier batches included.
        remaining: What to send again, in order: the objects of the failing batch that were not written, then
            whatever of the input had not been looked at yet. It can be iterated once.
    """

    def __init__(
        self,
        message: str,
        *,
        outcomes: Sequence[Outcome],
        done: int,
        remaining: Iterable[object] | AsyncIterable[object] = (),
        table: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message, table=table, store=store)
        self.outcomes = tuple(outcomes)
        self.done = done
        self.remaining = remaining


class DecodingError(KvModelError, ValueError):
    """What is stored under a key is not a record of this model; nothing was changed."""


class Unsupported(KvModelError, NotImplementedError):
    """The store, as it is connected now, cannot do this; nothing was sent."""


class NoDatabase(KvModelError, LookupError):
    """No database is open, or several are and none was chosen."""


class Closed(KvModelError, RuntimeError):
    """A database or unit of work is over, or belongs to another event loop or process."""


class BudgetExceeded(KvModelError, RuntimeError):
    """A block spent more than its ``kv.budget``.

    Attributes:
        spent: What was spent, the request that broke the budget included.
        limit: What was allowed.
        unit: ``"round_trips"`` or ``"keys"``.
    """

    def __init__(self, message: str, *, spent: int, limit: int, unit: str) -> None:
        super().__init__(message)
        self.spent = spent
        self.limit = limit
        self.unit = unit

    def __str__(self) -> str:
        return f"{self.message} [unit={self.unit!r}, spent={self.spent}, limit={self.limit}]"


class WatchLost(KvModelError, RuntimeError):
    """The store no longer holds the changes since this position: read again, then watch from now."""


class StoreError(KvModelError, OSError):
    """The store, or the way to it, failed."""


class Unavailable(StoreError, ConnectionError):
    """The store can't be reached; nothing was done."""


class TimedOut(StoreError, TimeoutError):
    """Time ran out for a read, or for a write that was surely not sent."""


class OutcomeUnknown(StoreError):
    """A write may or may not have happened, now or later. Re-read before you go on."""


class AuthenticationFailed(StoreError, PermissionError):
    """The store refused the credentials."""


class ProtocolError(StoreError):
    """The other side broke the protocol; the connection was dropped."""
