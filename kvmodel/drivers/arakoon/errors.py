"""From the codes of the server to kvmodel's errors, in one table.

Rules.

* A refused write is an error that says 'not done' only where the code is proof of it. Where it is none, the write is
  :class:`~kvmodel.OutcomeUnknown`, whatever a read would get for the same code.
* What the server said is the error's cause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from kvmodel.drivers.arakoon.protocol import Call, Code, Refusal
from kvmodel.errors import (
    Conflict,
    KvModelError,
    NotFound,
    OutcomeUnknown,
    ProtocolError,
    StoreError,
    Unavailable,
    Unsupported,
    ValidationError,
)

__all__ = ["ERRORS", "MOVED", "ErrorRow", "error_of", "outcome_unknown"]


@attrs.frozen
class ErrorRow:
    """One row of the table.

    Attributes:
        error: What it becomes.
        text: What to do about it.
        proves_undone: Whether a write that is answered so was certainly not done.
    """

    error: Callable[..., KvModelError]
    text: str
    proves_undone: bool = True


_STRANGE: Final = ErrorRow(
    ProtocolError, "the server answered with a code that nobody knows: is this an Arakoon server?", proves_undone=False
)

ERRORS: Final[dict[int, ErrorRow]] = {
    Code.NO_MAGIC: ErrorRow(ProtocolError, "the server took the request for another protocol's: check host and port"),
    Code.TOO_MANY_DEAD_NODES: ErrorRow(
        Unavailable, "too many nodes of the cluster are down: start them again", proves_undone=False
    ),
    Code.NO_HELLO: ErrorRow(ProtocolError, "the server wants another protocol: is it an older version of Arakoon?"),
    Code.NOT_MASTER: ErrorRow(Unavailable, "this node is not the master: ask the cluster instead of one node"),
    Code.NOT_FOUND: ErrorRow(NotFound, "there is nothing under this key or name"),
    Code.WRONG_CLUSTER: ErrorRow(Unavailable, "the server belongs to another cluster: check cluster= in the URL"),
    Code.ASSERTION_FAILED: ErrorRow(Conflict, "an assertion does not hold and nothing was written: read again"),
    Code.READ_ONLY: ErrorRow(Unsupported, "this node is configured to be read only: connect to another cluster"),
    Code.OUTSIDE_INTERVAL: ErrorRow(
        Unsupported, "another cluster of the nursery holds this key: get_nursery_config() tells which one"
    ),
    Code.GOING_DOWN: ErrorRow(Unavailable, "the node is shutting down: try again", proves_undone=False),
    Code.NOT_SUPPORTED: ErrorRow(Unsupported, "this node, in its present role, does not do that"),
    Code.NO_LONGER_MASTER: ErrorRow(Unavailable, "the node lost the master role meanwhile", proves_undone=False),
    Code.BAD_INPUT: ErrorRow(
        ValidationError, "the server refuses the input: too large an update, or an unknown function"
    ),
    Code.INCONSISTENT_READ: ErrorRow(Unavailable, "no node that was asked has reached this stamp yet: try again later"),
    Code.USER_FUNCTION_FAILURE: ErrorRow(StoreError, "the user function failed, and what it had written stays written"),
    Code.USER_HOOK_NOT_FOUND: ErrorRow(Unsupported, "no user hook of this name is loaded into the server"),
    Code.MAX_CONNECTIONS: ErrorRow(
        Unavailable, "the server has too many connections: use fewer of them, or raise its open-file limit"
    ),
    Code.UNKNOWN_FAILURE: ErrorRow(StoreError, "the server failed: its log tells why", proves_undone=False),
}
"""What each code becomes."""

MOVED: Final = frozenset((Code.NOT_MASTER, Code.GOING_DOWN, Code.NO_LONGER_MASTER, Code.MAX_CONNECTIONS))
"""Codes after which a read is sent again, to whoever is the master then."""

_PLAIN_CAUSES: Final = (b"should have been a sequence",)


def error_of(call: Call[object], refusal: Refusal, store: str) -> KvModelError:
    """Answer the error that a refusal of this call is."""
    row = ERRORS.get(refusal.code, _STRANGE)
    undone = row.proves_undone or refusal.text in _PLAIN_CAUSES
    if call.command.writes and not undone:
        error: KvModelError = outcome_unknown(store)
    elif row.error is Conflict:
        error = Conflict(row.text, keys=[("", (refusal.text,))], key=(refusal.text,), store=store)
    elif row.error is NotFound:
        error = NotFound(row.text, key=_key_of(call, refusal), store=store)
    else:
        error = row.error(row.text, store=store)
    error.__cause__ = refusal
    return error


def _key_of(call: Call[object], refusal: Refusal) -> tuple[object, ...] | None:
    """The key that was not found: the message names it, but for a get."""
    if refusal.text != b"Not_found":
        return (refusal.text,)
    return (call.values[1],) if call.command.name == "get" else None


def outcome_unknown(store: str) -> OutcomeUnknown:
    """Answer the error of a write of which nobody can say whether it was or will be done."""
    return OutcomeUnknown(
        "the answer was lost and the write may have happened: read again before going on", store=store
    )
