"""What a server's refusal means, and which error of kvmodel it becomes.

Rules.

* A command that was refused was not carried out: our scripts check everything before they change anything.
* What the server said is the error's cause.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final, NamedTuple

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from kvmodel.drivers.redis.link import Address
from kvmodel.errors import (
    AuthenticationFailed,
    DecodingError,
    KvModelError,
    OutcomeUnknown,
    StoreError,
    Unavailable,
)

__all__ = ["Verdict", "Way", "error_of", "is_final", "judge", "outcome_unknown", "unreachable"]


class Verdict(enum.Enum):
    """What to do about a refusal."""

    MOVED = "moved"
    ASK = "ask"
    LOAD = "load"
    WAIT = "wait"
    STEP_DOWN = "step down"
    REPLICAS = "replicas"
    FINAL = "final"


class Way(NamedTuple):
    """A verdict, and where it leads."""

    verdict: Verdict
    slot: int = -1
    host: str = ""
    port: int = 0


_WAITING: Final = (TryAgainError, ClusterDownError, MasterDownError, BusyLoadingError)
_FINAL: Final = Way(Verdict.FINAL)
_FORBIDDEN: Final = ("NOPERM", "can't run this command", "can't access at least one of the keys")
"""What access lists say of commands, by themselves and inside scripts."""


def judge(refusal: RedisError) -> Way:
    """Say what to do about a refusal."""
    if isinstance(refusal, (AskError, MovedError)):
        verdict = Verdict.MOVED if isinstance(refusal, MovedError) else Verdict.ASK
        return Way(verdict, int(refusal.slot_id), str(refusal.host), int(refusal.port))
    if isinstance(refusal, NoScriptError):
        return Way(Verdict.LOAD)
    if isinstance(refusal, _WAITING):
        return Way(Verdict.WAIT)
    if isinstance(refusal, ReadOnlyError):
        return Way(Verdict.STEP_DOWN)
    text = str(refusal)
    if text.startswith(("BUSY ", "LOADING")) or "non local key" in text:
        return Way(Verdict.WAIT)
    if "READONLY" in text:
        return Way(Verdict.STEP_DOWN)
    return Way(Verdict.REPLICAS) if "NOREPLICAS" in text else _FINAL


def error_of(refusal: RedisError, store: str) -> KvModelError:
    """Answer the error that a refusal becomes in the end."""
    error = _error_of(refusal, store)
    error.__cause__ = refusal
    return error


def _error_of(refusal: RedisError, store: str) -> KvModelError:
    text = str(refusal)
    if isinstance(refusal, (AuthenticationError, NoPermissionError)) or any(words in text for words in _FORBIDDEN):
        return AuthenticationFailed(
            "the server refuses these credentials, or what this user asks for: check the user's name, password and ACL",
            store=store,
        )
    if text.startswith("WRONGTYPE") or "WRONGTYPE" in text:
        return DecodingError(
            "something of another type lies under a key of this table: another program wrote it; move it away",
            store=store,
        )
    if "OOM" in text or "maxmemory" in text:
        return StoreError(
            "the server has no memory left and nothing was written: raise maxmemory, or remove records", store=store
        )
    if "MISCONF" in text:
        return StoreError("the server can't save to its disk and takes no writes: its log tells why", store=store)
    if "NOREPLICAS" in text:
        return Unavailable(
            "too few replicas are connected, as min-replicas-to-write has it; nothing was written", store=store
        )
    if isinstance(refusal, (*_WAITING, ReadOnlyError)) or judge(refusal).verdict is not Verdict.FINAL:
        return Unavailable("the server can't serve this now, and did not until time ran out", store=store)
    return StoreError("the server refused this request; nothing was done", store=store)


def is_final(trouble: BaseException | None) -> bool:
    """Whether a server does answer, but will not have this program, so that trying again is of no use."""
    cause = trouble if isinstance(trouble, RedisError) or trouble is None else trouble.__cause__
    return isinstance(cause, AuthenticationError) or (isinstance(cause, RedisError) and "DB index" in str(cause))


def unreachable(cause: BaseException | None, address: Address | None, store: str) -> StoreError:
    """Answer the error of a server that there is no connection to."""
    error: StoreError
    if isinstance(cause, AuthenticationError):
        error = AuthenticationFailed(
            "the server refuses these credentials: check user name and password in the URL", store=store
        )
    elif isinstance(cause, RedisError) and "DB index" in str(cause):
        error = StoreError("the server has no database of this number: choose another one", store=store)
    else:
        where = "" if address is None or str(address) in store else f" ({address})"
        error = Unavailable(
            f"the server can't be reached{where}: check host and port, TLS, and that it is running", store=store
        )
    error.__cause__ = cause
    return error


def outcome_unknown(store: str, cause: BaseException) -> OutcomeUnknown:
    """Answer the error of a write whose fate nobody knows."""
    reason = "it was cancelled" if isinstance(cause, asyncio.CancelledError) else "its answer was lost"
    error = OutcomeUnknown(f"this write may have happened, {reason}: read again before going on", store=store)
    error.__cause__ = cause
    return error
