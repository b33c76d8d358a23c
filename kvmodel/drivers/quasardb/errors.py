"""From the errors of the library to kvmodel's, in one table.

Rules.

* The library's errors carry no number: a class, which is missing now and then, and an English text. The class is looked
  at first, the text second, for every row.
* Of the text only what stands in this table goes on. What a row does not know is told by its words, less those that
  stand in the arguments of the call or in the credentials: keys and passwords don't get into messages of ours.
* For a write, a row says what is known of it: it was not done; it was refused for now; or nobody knows.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from kvmodel.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Conflict,
    DecodingError,
    KvModelError,
    NotFound,
    OutcomeUnknown,
    ProtocolError,
    StoreError,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
    ValidationError,
)

__all__ = [
    "FAULTS",
    "Effect",
    "Fault",
    "LibraryError",
    "classify",
    "error_of",
    "function_of",
    "outcome_unknown",
    "scrub",
]


class Effect(enum.Enum):
    """What an error says of the write that it ended."""

    UNDONE = "undone"
    AGAIN = "again"
    UNKNOWN = "unknown"


class Fault(NamedTuple):
    """One row of the table.

    Attributes:
        name: What the row is called between program and worker.
        classes: The library's classes that mean this, whatever the text.
        fragments: What its text contains, in any case of letters, where the class says nothing.
        error: What it becomes; ``OutcomeUnknown`` for a write of which nothing is known.
        text: What to do about it.
        effect: What it says of a write.
        reconnects: Whether the connection is to be made anew.
    """

    name: str
    classes: tuple[str, ...]
    fragments: tuple[str, ...]
    error: type[KvModelError]
    text: str
    effect: Effect = Effect.UNDONE
    reconnects: bool = False


_UNDONE, _AGAIN, _UNKNOWN = Effect.UNDONE, Effect.AGAIN, Effect.UNKNOWN

# The first row that fits counts: what is more particular comes first.
_ROWS: Final = (
    Fault("not_found", ("AliasNotFoundError",), ("cannot be found",), NotFound, "there is no entry of this name"),
    Fault("exists", ("AliasAlreadyExistsError",), ("already exists",), AlreadyExists, "there is an entry of this name"),
    Fault(
        "other_type",
        ("IncompatibleTypeError",),
        ("type incompatible", "incompatible type", "type is incompatible"),
        DecodingError,
        "the entry of this name is of another type: blobs, integers and tags share their names",
    ),
    Fault(
        "mismatch",
        (),
        ("content does not match",),
        Conflict,
        "the entry has another content and nothing was changed: read it again",
    ),
    Fault("timed_out", (), ("timed out",), TimedOut, "no answer in time: raise the timeout", _UNKNOWN, True),
    Fault(
        "refused",
        (),
        ("connection refused",),
        Unavailable,
        "no node of the cluster listens: check hosts and ports, and that it is running",
        _UNDONE,
        True,
    ),
    Fault(
        "reset",
        (),
        ("reset by peer", "network error", "broken pipe"),
        Unavailable,
        "the connection was lost: is the cluster well?",
        _UNKNOWN,
        True,
    ),
    Fault(
        "unresolved",
        (),
        ("cannot be resolved",),
        Unavailable,
        "a host can't be resolved, or hung up at once: check hosts and ports",
        _UNKNOWN,
        True,
    ),
    Fault(
        "handle",
        ("InvalidHandleError",),
        ("invalid handle",),
        Unavailable,
        "the connection to the cluster is gone: is it running?",
        _UNKNOWN,
        True,
    ),
    Fault("unstable", (), ("cluster is unstable",), Unavailable, "the ring has not settled: try again", _AGAIN),
    Fault("try_again", ("TryAgainError",), ("temporary error",), Unavailable, "the cluster is busy: try again", _AGAIN),
    Fault(
        "conflict",
        (),
        ("conflicts with another", "locked by another"),
        Conflict,
        "another operation on this entry came first and nothing was written: try again",
        _AGAIN,
    ),
    Fault("interrupted", (), ("interrupted",), Unavailable, "a signal interrupted the call: try again", _UNKNOWN),
    Fault(
        "credentials",
        (),
        ("cryptographic key", "unknown user", "login failed", "access denied"),
        AuthenticationFailed,
        "the credentials were refused: check user_name, the user's private key and the cluster's public key",
    ),
    Fault(
        "incomplete_credentials",
        (),
        ("security settings", "load_security_files"),
        ValidationError,
        "credentials are user_name, user_private_key and cluster_public_key, or the files of both keys",
    ),
    Fault(
        "too_long",
        (),
        ("too big alias", "too big prefix", "too big suffix", "too big tag", "too long"),
        ValidationError,
        "a name has at most 1024 bytes of UTF-8",
    ),
    Fault("reserved", (), ("is reserved",), ValidationError, "this name is reserved by the store: choose another one"),
    Fault("bad_query", ("InvalidQueryError",), ("query is invalid",), ValidationError, "the query can't be read"),
    Fault(
        "entry_too_large",
        (),
        ("larger than the allowed limit",),
        TooLarge,
        "the entry is larger than the server takes: split it",
    ),
    Fault(
        "reply_too_large",
        ("InputBufferTooSmallError",),
        ("buffer is too small", "input buffer"),
        TooLarge,
        "the answer is larger than is read: ask for less, or raise max_value_bytes",
    ),
    Fault(
        "overflow",
        (),
        ("overflow", "underflow"),
        ValidationError,
        "an integer has 64 bits, and the sum would need more",
    ),
    Fault(
        "switched_off",
        (),
        ("has been disabled", "not permitted", "operation is disabled"),
        Unsupported,
        "the cluster is configured to refuse this",
    ),
    Fault(
        "not_quasardb",
        (),
        ("protocol mismatch", "versions mismatch", "version mismatch", "invalid reply"),
        ProtocolError,
        "what answers there is no quasardb server of this version: check host and port",
        _UNKNOWN,
        True,
    ),
    Fault("no_space", (), ("no space left",), StoreError, "the cluster's disks are full"),
    Fault(
        "internal",
        ("InternalLocalError",),
        ("internal error", "system error", "memory"),
        StoreError,
        "the library or the cluster failed: its log tells why",
        _UNKNOWN,
        True,
    ),
    Fault(
        "not_offered",
        ("NotImplementedError",),
        ("not yet available", "not implemented"),
        Unsupported,
        "this version of quasardb does not do that",
    ),
    Fault(
        "bad_argument",
        (
            "InvalidArgumentError",
            "TypeError",
            "InvalidDatetimeError",
            "OutOfBoundsError",
            "DirectInstantiationError",
            "UninitializedError",
        ),
        ("argument is invalid", "got "),
        ValidationError,
        "the library refuses an argument: check URL, names and times (an expiry must not be in the past)",
    ),
    Fault(
        "missing_library",
        ("ModuleNotFoundError", "ImportError"),
        (),
        Unsupported,
        "the vendor's package can't be imported: pip install 'kvmodel[quasardb]'",
    ),
)
_STRANGE: Final = Fault(
    "strange", (), (), StoreError, "the library failed in a way that nobody knows: look at the cause", _UNKNOWN, True
)

FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in (*_ROWS, _STRANGE)}
"""All rows, by name."""

_BY_CLASS: Final = {name: fault for fault in _ROWS for name in fault.classes}
_FUNCTION: Final = re.compile(r"\bat (qdb_\w{1,60}): ?")
_LONGEST: Final = 300


def classify(kind: str, text: str) -> Fault:
    """Answer the row that an error belongs to, by the name of its class and by its text."""
    fault = _BY_CLASS.get(kind)
    # Python's own errors list the arguments, in which any text may stand.
    if fault is not None and (fault.name != "bad_argument" or not kind.startswith("Invalid")):
        return fault
    lower = text.lower()
    for row in _ROWS:
        if any(fragment in lower for fragment in row.fragments):
            return row
    return fault or _STRANGE


def function_of(text: str) -> str:
    """Answer the library's function that a text names, or nothing."""
    found = _FUNCTION.search(text)
    return found[1] if found else ""


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Answer the words of a text that stand in none of the secrets, as plain words and no more than a line."""
    hidden = [secret for secret in secrets if secret]
    words = []
    for word in _FUNCTION.sub("", text[:_LONGEST]).split():
        bare = word.strip("\"'`.,:;()[]{}<>")
        is_shown = bare.isascii() and bare.replace("-", "").replace("_", "").isalnum()
        is_secret = any(bare in secret or (len(secret) > 2 and secret in word) for secret in hidden)
        words.append("..." if not is_shown or is_secret else bare)
    return " ".join(words)


class LibraryError(Exception):
    """What the library raised, inside a worker: the cause of an error of kvmodel's.

    Attributes:
        kind: The library's class.
        function: The library's function, where its text named one.
        fault: The row of the table that it belongs to.
        sent: Whether the call was begun.
    """

    def __init__(self, fault: Fault, kind: str, function: str = "", words: str = "", *, sent: bool = True) -> None:
        said = words or next(iter(fault.fragments), fault.name)
        super().__init__(f"quasardb.{kind}: at {function}: {said}" if function else f"quasardb.{kind}: {said}")
        self.fault = fault
        self.kind = kind
        self.function = function
        self.sent = sent


def outcome_unknown(store: str, key: str | None = None) -> OutcomeUnknown:
    """Answer the error of a write of which nobody can say whether it was or will be done."""
    return OutcomeUnknown(
        "the answer was lost and the write may have happened: read again before going on",
        store=store,
        key=None if key is None else (key,),
    )


def error_of(cause: LibraryError, *, writes: bool, store: str, key: str | None = None) -> KvModelError:
    """Answer the error that a failed call is."""
    fault = cause.fault
    is_open = fault.effect is Effect.UNKNOWN or (fault.effect is Effect.AGAIN and fault.error is not Conflict)
    error: KvModelError
    if writes and cause.sent and is_open:
        error = outcome_unknown(store, key)
    else:
        error = _make(fault.error if cause.sent else _unsent(fault), fault.text, store, key)
    error.__cause__ = cause
    return error


def _unsent(fault: Fault) -> type[KvModelError]:
    """What an error becomes that came up while connecting: nothing was asked yet, so nothing can be missing."""
    return Unavailable if fault.error in (TimedOut, Conflict, NotFound, AlreadyExists) else fault.error


def _make(error: type[KvModelError], text: str, store: str, key: str | None) -> KvModelError:
    return error(text, store=store, key=None if key is None else (key,))
