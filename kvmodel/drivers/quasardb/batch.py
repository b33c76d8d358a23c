"""A batch: independent calls in one go, each of which may fail for itself."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from kvmodel.drivers.quasardb.checks import STORE
from kvmodel.errors import KvModelError, ValidationError

__all__ = ["BatchOperation", "BatchRequest", "BatchResult", "requests_of"]


class BatchOperation(enum.Enum):
    """What a batch can be made of."""

    GET = "get"
    PUT = "put"
    UPDATE = "update"
    REMOVE = "remove"
    REMOVE_IF = "remove_if"
    COMPARE_AND_SWAP = "compare_and_swap"
    GET_AND_UPDATE = "get_and_update"
    GET_AND_REMOVE = "get_and_remove"

    def __repr__(self) -> str:
        return self.name


def _operation(given: object) -> BatchOperation:
    try:
        return given if isinstance(given, BatchOperation) else BatchOperation(given)
    except ValueError:
        known = ", ".join(operation.value for operation in BatchOperation)
        raise ValidationError(
            f"a batch has no such operation. Known are: {known}", field="operation", store=STORE
        ) from None


@attrs.frozen
class BatchRequest:
    """One call of a batch.

    Args:
        operation: What to do: a :class:`BatchOperation`, or its name.
        key: With which entry.
        content: The content to write, where the operation writes one.
        comparand: The content to compare with, for ``compare_and_swap`` and ``remove_if``.
    """

    operation: BatchOperation = attrs.field(converter=_operation)
    key: str
    content: bytes | None = attrs.field(default=None, repr=False)
    comparand: bytes | None = attrs.field(default=None, repr=False)

    def arguments(self) -> list[bytes]:
        """Answer what follows the key, in order. Raises ``ValidationError`` for what lacks or is too much."""
        wanted = _ARGUMENTS[self.operation]
        given = {name: getattr(self, name) for name in ("content", "comparand")}
        for name, value in given.items():
            if (value is not None) != (name in wanted):
                verb = "takes a" if name in wanted else "takes no"
                raise ValidationError(f"{self.operation.value} {verb} {name}", field=name, store=STORE)
        return [given[name] for name in wanted]

    @classmethod
    def get(cls, key: str) -> BatchRequest:
        """Ask for content."""
        return cls(BatchOperation.GET, key)

    @classmethod
    def put(cls, key: str, content: bytes) -> BatchRequest:
        """Create an entry."""
        return cls(BatchOperation.PUT, key, content)

    @classmethod
    def update(cls, key: str, content: bytes) -> BatchRequest:
        """Create or replace an entry."""
        return cls(BatchOperation.UPDATE, key, content)

    @classmethod
    def remove(cls, key: str) -> BatchRequest:
        """Remove an entry."""
        return cls(BatchOperation.REMOVE, key)

    @classmethod
    def remove_if(cls, key: str, comparand: bytes) -> BatchRequest:
        """Remove an entry if its content is this."""
        return cls(BatchOperation.REMOVE_IF, key, None, comparand)

    @classmethod
    def compare_and_swap(cls, key: str, content: bytes, comparand: bytes) -> BatchRequest:
        """Replace content if it is ``comparand``."""
        return cls(BatchOperation.COMPARE_AND_SWAP, key, content, comparand)

    @classmethod
    def get_and_update(cls, key: str, content: bytes) -> BatchRequest:
        """Replace content, and ask for what was there."""
        return cls(BatchOperation.GET_AND_UPDATE, key, content)

    @classmethod
    def get_and_remove(cls, key: str) -> BatchRequest:
        """Remove an entry, and ask for what was there."""
        return cls(BatchOperation.GET_AND_REMOVE, key)


@attrs.frozen
class BatchResult:
    """How one call of a batch ended.

    Attributes:
        request: The call, as it was given.
        result: What the method of the same name answers.
        error: What the method of the same name would have raised; ``None`` when it went well.
    """

    request: BatchRequest | Sequence[object]
    result: bytes | None = attrs.field(default=None, repr=False)
    error: KvModelError | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it went well."""
        return self.error is None


_CONTENT: Final = ("content",)
_ARGUMENTS: Final[dict[BatchOperation, tuple[str, ...]]] = {
    BatchOperation.GET: (),
    BatchOperation.PUT: _CONTENT,
    BatchOperation.UPDATE: _CONTENT,
    BatchOperation.REMOVE: (),
    BatchOperation.REMOVE_IF: ("comparand",),
    BatchOperation.COMPARE_AND_SWAP: ("content", "comparand"),
    BatchOperation.GET_AND_UPDATE: _CONTENT,
    BatchOperation.GET_AND_REMOVE: (),
}


def requests_of(given: Iterable[object]) -> list[tuple[object, BatchRequest | ValidationError]]:
    """Answer each request as it was given, and as one; or why it is none.

    Besides :class:`BatchRequest` a sequence is taken: the operation's name and the arguments of the method.
    """
    return [(each, _request(each)) for each in given]


def _request(given: object) -> BatchRequest | ValidationError:
    if isinstance(given, BatchRequest):
        return given
    if isinstance(given, tuple | list) and len(given) >= 2:
        operation, key, *arguments = given
        try:
            wanted = _ARGUMENTS[_operation(operation)]
            return BatchRequest(operation, key, **dict(zip(wanted, arguments, strict=True)))
        except ValidationError as error:
            return error
        except ValueError:
            return ValidationError("an operation of a batch takes the arguments of its method", store=STORE)
    return ValidationError("a request is a BatchRequest, or (operation, key, arguments...)", store=STORE)
