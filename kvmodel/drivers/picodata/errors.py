"""What the server and asyncpg say, as errors of kvmodel: nearly all of them have one code, so that words decide."""

from __future__ import annotations

import re
from typing import Final

import asyncpg

from kvmodel.errors import AuthenticationFailed, KvModelError, SchemaError, StoreError, TooLarge, Unavailable

__all__ = ["LOST", "is_division", "is_limit", "is_stale", "server_error"]

LOST: Final = (OSError, EOFError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
"""What asyncpg raises when a connection is gone."""

_STALE: Final = "42999"
_AUTHENTICATION: Final = frozenset(("28P01", "28000"))
_LIMIT: Final = re.compile(
    r"exceeded maximum number of rows|reached a limit on max executed vdbe opcodes", re.IGNORECASE
)
_DIVISION: Final = re.compile(r"division by zero", re.IGNORECASE)
_MISSING: Final = re.compile(r"table .*not found|space .*not found|table .*does not exist", re.IGNORECASE | re.DOTALL)
_LARGE: Final = re.compile(
    r"tuple .*too large|too large.*tuple|failed to allocate .* tuple|index row size", re.IGNORECASE | re.DOTALL
)
_DENIED: Final = re.compile(r"access .*denied", re.IGNORECASE | re.DOTALL)
_ROUTE: Final = re.compile(r"storage schema version different from router", re.IGNORECASE)
_AWAY: Final = re.compile(r"read-?only|no route|not the leader|isn't a master|dispatch", re.IGNORECASE)


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", "") or "")


def is_stale(error: BaseException) -> bool:
    """Whether a statement was refused before it ran, because the schema has changed: prepare it again."""
    return isinstance(error, asyncpg.PostgresError) and (
        _state(error) == _STALE or _ROUTE.search(str(error)) is not None
    )


def is_limit(error: BaseException) -> bool:
    """Whether a statement had more rows or steps than the server grants."""
    return isinstance(error, asyncpg.PostgresError) and _LIMIT.search(str(error)) is not None


def is_division(error: BaseException) -> bool:
    """Whether a guard of a block failed."""
    return isinstance(error, asyncpg.PostgresError) and _DIVISION.search(str(error)) is not None


def is_refused_login(error: BaseException) -> bool:
    """Whether the server refused user or password: trying again would lock the account."""
    return _state(error) in _AUTHENTICATION


def server_error(error: asyncpg.PostgresError, store: str) -> KvModelError:
    """Answer the error for what the server said; its words are to be the cause."""
    words = str(error)
    if is_refused_login(error):
        return AuthenticationFailed(
            "the server refused these credentials: check user and password; after four attempts it locks the user",
            store=store,
        )
    if _MISSING.search(words):
        return SchemaError("the store has no such table: db.prepare(Model) creates it", store=store)
    if _LARGE.search(words):
        return TooLarge("the row is larger than the server takes: split the record", store=store)
    if _DENIED.search(words):
        return StoreError("the user lacks a right, which its cause names: let an administrator grant it", store=store)
    if _AWAY.search(words):
        return Unavailable("the cluster can't carry this out now: retry", store=store)
    return StoreError("the server refused a statement: look at the cause", store=store)
