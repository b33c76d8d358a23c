"""From the status of a call to kvmodel's errors, in one table.

Rules.

* What matters most of a failed write is whether it was surely not done. Only where the server says so before it
  proposes a write to the cluster, or refuses to apply it, is that certain. Everything else is
  :class:`~kvmodel.OutcomeUnknown`.
* A read that failed on the way, or met a cluster between two leaders, is sent again.
* What the server said is the error's cause. Its words hold no credentials.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import attrs
import grpc

from kvmodel.errors import (
    AlreadyExists,
    AuthenticationFailed,
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

__all__ = ["GARBLED", "Fault", "Then", "fault_of", "outcome_unknown"]


class Then(enum.Enum):
    """What can be done after a failed attempt."""

    GIVE_UP = "give up"
    AGAIN = "surely not done: again, whatever it is"
    RENEW = "surely not done: again with a new token"
    AGAIN_IF_READ = "again, if it is a read; nobody knows, if it is a write"
    UNKNOWN_IF_WRITE = "give up; nobody knows, if it is a write"


@attrs.frozen
class Fault:
    """One row of the table.

    Attributes:
        error: What it becomes.
        text: What to do about it.
        then: What can be done next.
    """

    error: Callable[..., KvModelError]
    text: str
    then: Then = Then.GIVE_UP

    def make(self, cause: BaseException, store: str) -> KvModelError:
        """Answer the error."""
        error = self.error(self.text, store=store)
        error.__cause__ = cause
        return error


_ELECTION: Final = Fault(
    Unavailable, "the cluster has no leader at the moment: look at its nodes, or try again", Then.AGAIN_IF_READ
)
_REFUSED: Final = Fault(
    AuthenticationFailed, "the store refused the user's name or password: check them in the URL, percent-encoded"
)
_EXISTS: Final = Fault(AlreadyExists, "there is one of this name already")

_LATE: Final = Fault(
    TimedOut, "no answer in time: raise the timeout, or look at the store's load", Then.UNKNOWN_IF_WRITE
)

_BY_TEXT: Final[dict[str, Fault]] = {
    # The server gave up when the time that it was told was over.
    "context deadline exceeded": _LATE,
    "etcdserver: no leader": attrs.evolve(_ELECTION, then=Then.AGAIN),
    "etcdserver: leader changed": _ELECTION,
    "etcdserver: request timed out": _ELECTION,
    "etcdserver: request timed out, possibly due to previous leader failure": _ELECTION,
    "etcdserver: request timed out, possibly due to connection lost": _ELECTION,
    "etcdserver: too many requests": Fault(Unavailable, "the store has too much to do: try again later", Then.AGAIN),
    "etcdserver: mvcc: database space exceeded": Fault(
        StoreError, "the store is full: compact and defragment it, raise its quota, then disarm the NOSPACE alarm"
    ),
    "etcdserver: request is too large": Fault(
        TooLarge, "the server takes no request as large as this: split it, or tell max_request_bytes= in the URL"
    ),
    "etcdserver: too many operations in txn request": Fault(
        TooLarge, "the server takes no transaction as long as this: split it, or tell max_txn_ops= in the URL"
    ),
    "etcdserver: duplicate key given in txn request": Fault(
        ValidationError, "a transaction changes each key once at the most: merge the changes"
    ),
    "etcdserver: invalid auth token": Fault(
        AuthenticationFailed, "the store took none of the tokens that it gave", Then.RENEW
    ),
    "etcdserver: revision of auth store is old": Fault(
        AuthenticationFailed, "the store's users change all the time: try again", Then.RENEW
    ),
    "etcdserver: authentication failed, invalid user ID or password": _REFUSED,
    "etcdserver: user name is empty": Fault(
        AuthenticationFailed, "the store wants a user: etcd://user:password@host:port"
    ),
    "etcdserver: permission denied": Fault(
        AuthenticationFailed, "this user may not do that with these keys: grant it a role that may"
    ),
    "etcdserver: authentication is not enabled": Fault(Unsupported, "the store has authentication switched off"),
    "etcdserver: mvcc: required revision has been compacted": Fault(
        NotFound, "the store has forgotten this revision: read without revision="
    ),
    "etcdserver: mvcc: required revision is a future revision": Fault(
        ValidationError, "the store has not come to this revision yet: is it another cluster's?"
    ),
    "etcdserver: requested lease not found": Fault(NotFound, "there is no such lease, or it has ended"),
    "etcdserver: lease already exists": _EXISTS,
    "etcdserver: user name already exists": _EXISTS,
    "etcdserver: role name already exists": _EXISTS,
    "etcdserver: user name not found": Fault(NotFound, "there is no such user"),
    "etcdserver: role name not found": Fault(NotFound, "there is no such role"),
    "etcdserver: member not found": Fault(NotFound, "there is no such member"),
}

_BY_CODE: Final[dict[grpc.StatusCode, Fault]] = {
    grpc.StatusCode.UNAVAILABLE: Fault(
        Unavailable, "the connection broke: look at the store's nodes, or try again", Then.AGAIN_IF_READ
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: _LATE,
    grpc.StatusCode.INVALID_ARGUMENT: Fault(ValidationError, "the store refuses the request: look at the cause"),
    grpc.StatusCode.FAILED_PRECONDITION: Fault(StoreError, "the store is in no state for this: look at the cause"),
    grpc.StatusCode.NOT_FOUND: Fault(NotFound, "there is nothing of this name"),
    grpc.StatusCode.ALREADY_EXISTS: _EXISTS,
    grpc.StatusCode.PERMISSION_DENIED: Fault(AuthenticationFailed, "the store does not allow that: look at the cause"),
    grpc.StatusCode.UNAUTHENTICATED: Fault(
        AuthenticationFailed, "the store does not believe who asks: look at the cause", Then.RENEW
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: Fault(
        TooLarge, "this is more than the store, or this program, takes at once: split it", Then.UNKNOWN_IF_WRITE
    ),
    grpc.StatusCode.UNIMPLEMENTED: Fault(Unsupported, "this version of the store does not know that call"),
    grpc.StatusCode.OUT_OF_RANGE: Fault(ValidationError, "the store refuses a number: look at the cause"),
}

_STRANGE: Final = Fault(StoreError, "the store failed: look at the cause and at its log", Then.UNKNOWN_IF_WRITE)
GARBLED: Final = Fault(
    ProtocolError, "the other side does not answer as an etcd server does: check host and port", Then.UNKNOWN_IF_WRITE
)


def fault_of(error: grpc.aio.AioRpcError) -> Fault:
    """Answer the row for a failed call."""
    text = error.details() or ""
    if text.startswith("grpc: received message larger"):  # It was turned away at the server's door.
        return _BY_TEXT["etcdserver: request is too large"]
    return _BY_TEXT.get(text) or _BY_CODE.get(error.code(), _STRANGE)


def outcome_unknown(store: str) -> OutcomeUnknown:
    """Answer the error of a write of which nobody can say whether it was or will be done."""
    return OutcomeUnknown(
        "the answer was lost and the write may have happened: read again before going on", store=store
    )
