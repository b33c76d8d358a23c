"""What a failed exchange means to the caller, by what the request would have done."""

from __future__ import annotations

from typing import Any

from kvmodel.drivers.acapella.errors import (
    AuthenticationFailedError,
    CasError,
    KvError,
    TransactionCompletedError,
    TransactionNotFoundError,
)
from kvmodel.drivers.acapella.protocol import Call, Effect
from kvmodel.errors import KvModelError, OutcomeUnknown, ProtocolError, TimedOut, Unavailable

__all__ = ["failure_of", "lost_reply", "not_sent", "unreadable"]


def failure_of(call: Call[Any], status: int, store: str) -> KvModelError:
    """Answer the error that a status is.

    What the server refuses (4xx) it has not done. After 408, and after what nobody can read as a refusal, a write may
    have happened.
    """
    cause = KvError(f"the server answered with status {status}", status=status, store=store)
    if status == 401:
        return AuthenticationFailedError("log in: the server wants an account, or refuses this one", store=store)
    if status == 409:
        return CasError("the key has another version: nothing was written, read again", store=store)
    if status == 410:
        return TransactionNotFoundError("the server has given this transaction up: run it again", store=store)
    if status == 412:
        return TransactionCompletedError("this transaction is over already: begin another one", store=store)
    is_refusal = 400 <= status < 500 and status != 408
    if not is_refusal and call.effect is Effect.WRITE:
        return _caused(_unknown(store), cause)
    if status == 408:
        return _caused(TimedOut("the server ran out of time: try again, or raise the timeout", store=store), cause)
    if status >= 500:
        return _caused(Unavailable("the server failed: try again later", store=store), cause)
    if status == 404:
        cause.message = "the server does not know this path: check the prefix of the API, which is the URL's path"
    return cause


def not_sent(store: str, cause: BaseException | None) -> KvModelError:
    """Answer the error for what did not go out."""
    if isinstance(cause, TimeoutError):
        return TimedOut("time ran out before anything was sent: raise the timeout", store=store)
    return Unavailable("the server can't be reached: check the address, and that it runs", store=store)


def lost_reply(call: Call[Any], store: str, cause: BaseException | None) -> KvModelError:
    """Answer the error for a request that may have arrived."""
    if call.effect is Effect.WRITE:
        return _unknown(store)
    if isinstance(cause, TimeoutError):
        return TimedOut("no answer in time: raise the timeout", store=store)
    return Unavailable("the connection was lost before the reply: try again", store=store)


def unreadable(call: Call[Any], store: str, reason: str) -> KvModelError:
    """Answer the error for a reply that came and can't be read."""
    if call.effect is Effect.WRITE:
        return _unknown(store)
    return ProtocolError(f"{reason}: check that an AcapellaDB server is at this address", store=store)


def _unknown(store: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        "no clear answer came and the write may have happened: read again before going on", store=store
    )


def _caused(error: KvModelError, cause: BaseException) -> KvModelError:
    error.__cause__ = cause
    return error
