"""The exception classes of the package, flat under ``Error``, and its texts."""

from __future__ import annotations

from typing import Final

__all__ = [
    "AliasAlreadyExistsError",
    "AliasNotFoundError",
    "AsyncPipelineFullError",
    "DirectInstantiationError",
    "Error",
    "IncompatibleTypeError",
    "InputBufferTooSmallError",
    "InternalLocalError",
    "InvalidArgumentError",
    "InvalidDatetimeError",
    "InvalidHandleError",
    "InvalidQueryError",
    "NotImplementedError",
    "OutOfBoundsError",
    "TryAgainError",
    "UninitializedError",
]


class Error(RuntimeError):
    """The root; what has no class of its own is told apart by its text."""


class AliasAlreadyExistsError(Error):
    """An entry has this alias."""


class AliasNotFoundError(Error):
    """No entry has this alias."""


class AsyncPipelineFullError(Error):
    """Tables only."""


class DirectInstantiationError(Error):
    """Entries are made by connections."""


class IncompatibleTypeError(Error):
    """The entry is of another type."""


class InputBufferTooSmallError(Error):
    """The reply is larger than the client's buffer."""


class InternalLocalError(Error):
    """The library failed."""


class InvalidArgumentError(Error):
    """An argument is wrong."""


class InvalidDatetimeError(Error):
    """Tables only."""


class InvalidHandleError(Error):
    """The connection is closed, or lost."""


class InvalidQueryError(Error):
    """A query can't be read."""


class NotImplementedError(Error):
    """Not offered yet."""


class OutOfBoundsError(Error):
    """Tables only."""


class TryAgainError(Error):
    """The cluster is busy."""


class UninitializedError(Error):
    """Tables only."""


TEXTS: Final[dict[str, tuple[str, str]]] = {
    "not_found": ("AliasNotFoundError", "An entry matching the provided alias cannot be found."),
    "exists": ("AliasAlreadyExistsError", "An entry matching the provided alias already exists."),
    "other_type": ("IncompatibleTypeError", "The alias has a type incompatible for this operation."),
    "mismatch": ("Error", "The provided content does not match the content of the entry."),
    "timed_out": ("Error", "The operation timed out."),
    "refused": ("Error", "Connection refused."),
    "reset": ("Error", "Connection reset by peer."),
    "handle": ("InvalidHandleError", "Invalid handle."),
    "unstable": ("Error", "The cluster is unstable."),
    "try_again": ("TryAgainError", "A temporary error has occurred."),
    "conflict": ("Error", "The operation conflicts with another operation."),
    "locked": ("Error", "The entry is locked by another operation."),
    "interrupted": ("Error", "The call was interrupted."),
    "not_found_without_class": ("Error", "An entry matching the provided alias cannot be found."),
    "reserved": ("Error", "The provided alias is reserved."),
    "too_large": ("Error", "The entry is larger than the allowed limit."),
    "buffer": ("InputBufferTooSmallError", "The input buffer is too small."),
    "overflow": ("Error", "The operation has resulted in an overflow."),
    "underflow": ("Error", "The operation has resulted in an underflow."),
    "disabled": ("Error", "The operation has been disabled."),
    "invalid": ("InvalidArgumentError", "The argument is invalid."),
    "bad_query": ("InvalidQueryError", "The query is invalid."),
    "protocol": ("Error", "The remote host and Client API protocol mismatches."),
    "unresolved": ("Error", "The remote host cannot be resolved."),
    "no_space": ("Error", "No space left on device."),
    "internal": ("InternalLocalError", "An internal error occurred."),
    "strange": ("Error", "Something that nobody has heard of."),
}
"""Class and cause of each fault, as far as they are known; in the last row a text that no table knows."""
