"""What the server refuses, as errors: each is one of kvmodel's, under the name that the original client gave it."""

from __future__ import annotations

from kvmodel.errors import AuthenticationFailed, Conflict, StoreError

__all__ = [
    "AuthenticationFailedError",
    "CasError",
    "KvError",
    "Malformed",
    "TransactionCompletedError",
    "TransactionNotFoundError",
]


class Malformed(ValueError):
    """What the other side sent is not what the protocol says."""


class AuthenticationFailedError(AuthenticationFailed):
    """401: not logged in, or the token is refused."""


class CasError(Conflict):
    """409: the key has another version than the one that was named; nothing was written."""


class TransactionNotFoundError(Conflict):
    """410: the server knows no such transaction (any more): what was done in it is lost."""


class TransactionCompletedError(Conflict):
    """412: the transaction was committed or rolled back before."""


class KvError(StoreError):
    """Any other status than 200.

    Attributes:
        status: The HTTP status.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        table: str | None = None,
        key: tuple[object, ...] | None = None,
        field: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message, table=table, key=key, field=field, store=store)
        self.status = status
