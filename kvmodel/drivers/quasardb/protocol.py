"""Messages between the program and its worker processes: bytes in, messages out, and back. No sockets here.

Rules.

* A message is a length of four bytes, big-endian, and that many bytes of msgpack. A reader that is told of a longer one
  than it takes refuses it before it has read it.
* A request is ``[number, operation, milliseconds, *arguments]``. Operations are those of :data:`OPERATIONS`, with
  arguments of the types that stand there; nothing else can be asked of a worker.
* A reply carries the number of its request: ``[number, 0, result]``, or ``[number, 1, fault, class, function, words,
  sent]``. The fault is a row of the table in :mod:`~kvmodel.drivers.quasardb.errors`; the library's own text does not
  cross.
* Neither side builds anything but plain data out of what it reads, whatever it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    # Lengths inside are limited by the length of ``data``.
    def packb(value: object) -> bytes: ...
    def unpackb(data: bytes) -> object: ...

    class UnpackException(Exception):
        """Some errors of the library, which are not all ``ValueError``."""
else:
    from msgpack import UnpackException, packb, unpackb

__all__ = [
    "OPERATIONS",
    "Argument",
    "Failure",
    "Framer",
    "Malformed",
    "Operation",
    "Reply",
    "Request",
    "decode_reply",
    "decode_request",
    "encode_failure",
    "encode_reply",
    "encode_request",
]

Argument: TypeAlias = "str | bytes | int | bool | None | list[str] | list[bytes | None]"
"""What crosses, either way."""

HEAD: Final = struct.Struct(">I")
_REFUSALS: Final = (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError, UnpackException)


class Malformed(ValueError):
    """The other side sent what is no message."""


# --- operations -------------------------------------------------------------------------------------------------------


def _is_int(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _is_list(value: object, *kinds: type) -> bool:
    return type(value) is list and all(type(item) in kinds for item in value)


_NONE: Final = type(None)
_KINDS: Final[dict[str, Callable[[object], bool]]] = {
    "none": lambda value: value is None,
    "text": lambda value: type(value) is str,
    "bytes": lambda value: type(value) is bytes,
    "bytes?": lambda value: type(value) in (bytes, _NONE),
    "int": _is_int,
    "int?": lambda value: value is None or _is_int(value),
    "bool": lambda value: type(value) is bool,
    "texts": lambda value: _is_list(value, str),
    "contents": lambda value: _is_list(value, bytes, _NONE),
}


class Operation(NamedTuple):
    """What a worker can be asked to do.

    Attributes:
        arguments: The kinds of its arguments, in order.
        result: The kind of its result.
        writes: Whether it may change something.
    """

    arguments: tuple[str, ...]
    result: str
    writes: bool = False


_KEY: Final = ("text",)
_READ: Final = Operation(_KEY, "text")
_LIST: Final = Operation(("text", "int"), "texts")

OPERATIONS: Final[dict[str, Operation]] = {
    # The library's module, the URI, the user's name and key, the cluster's key, the files of both keys, the library's
    # timeout in milliseconds, encryption, compression, parallelism, the longest message.
    "connect": Operation((*["text"] * 7, "int", "bool", "text", "int", "int"), "none"),
    "get": Operation(_KEY, "bytes"),
    "get_many": Operation(("texts", "int"), "contents"),
    "put": Operation(("text", "bytes"), "none", writes=True),
    "update": Operation(("text", "bytes"), "none", writes=True),
    "remove": Operation(_KEY, "none", writes=True),
    "remove_if": Operation(("text", "bytes"), "none", writes=True),
    "compare_and_swap": Operation(("text", "bytes", "bytes"), "bytes?", writes=True),
    "get_and_update": Operation(("text", "bytes"), "bytes", writes=True),
    "get_and_remove": Operation(_KEY, "bytes", writes=True),
    "exists": Operation(_KEY, "bool"),
    "expires_at": Operation(("text", "int?"), "none", writes=True),
    "expires_from_now": Operation(("text", "int"), "none", writes=True),
    "get_expiry_time": Operation(_KEY, "int?"),
    "get_integer": Operation(_KEY, "int"),
    "put_integer": Operation(("text", "int"), "none", writes=True),
    "update_integer": Operation(("text", "int"), "none", writes=True),
    "add_integer": Operation(("text", "int"), "int", writes=True),
    "attach_tag": Operation(("text", "text"), "bool", writes=True),
    "detach_tag": Operation(("text", "text"), "bool", writes=True),
    "get_tags": Operation(_KEY, "texts"),
    "get_tagged": Operation(_KEY, "texts"),
    "find": Operation(_KEY, "texts"),
    "prefix_get": _LIST,
    "prefix_count": Operation(_KEY, "int"),
    "suffix_get": _LIST,
    "suffix_count": Operation(_KEY, "int"),
    "node_config": _READ,
    "node_status": _READ,
    "node_topology": _READ,
    "endpoints": Operation((), "texts"),
    "purge_all": Operation(("int",), "none", writes=True),
    "version": Operation((), "text"),
    "build": Operation((), "text"),
}
"""Everything that can be asked, and how it is answered. Times are in microseconds, as in the rest of kvmodel."""


# --- messages ---------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """One call. ``limit`` is how many milliseconds it may take: a worker that takes longer ends itself."""

    number: int
    name: str
    limit: int
    arguments: tuple[Argument, ...]


class Failure(NamedTuple):
    """Why a call came to nothing.

    Attributes:
        fault: The row of the table of faults.
        kind: The library's class.
        function: The library's function, as far as its text named one.
        words: What else may be said of the text: nothing where the row says it all.
        sent: Whether the call was begun, so that it may have had an effect.
    """

    fault: str
    kind: str
    function: str
    words: str
    sent: bool


class Reply(NamedTuple):
    """How a call ended."""

    number: int
    result: Argument
    failure: Failure | None = None


def encode_request(request: Request) -> bytes:
    """Write a request, with its length."""
    return _frame([request.number, request.name, request.limit, *request.arguments])


def decode_request(body: bytes) -> Request:
    """Read a request. Raises :class:`Malformed` for what is none, or asks for what is not on the list."""
    number, name, limit, *arguments = _unpack(body, 3)
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None or not isinstance(name, str):
        raise Malformed("no such operation")
    if not (_is_count(number) and _is_count(limit)) or len(arguments) != len(operation.arguments):
        raise Malformed("a request has a number, a limit and the arguments of its operation")
    for kind, argument in zip(operation.arguments, arguments, strict=True):
        if not _KINDS[kind](argument):
            raise Malformed("an argument has another type than its operation takes")
    return Request(_count(number), name, _count(limit), tuple(map(_plain, arguments)))


def encode_reply(number: int, result: Argument) -> bytes:
    """Write the reply to a call that went well, with its length."""
    return _frame([number, 0, result])


def encode_failure(number: int, failure: Failure) -> bytes:
    """Write the reply to a call that failed, with its length."""
    return _frame([number, 1, *failure])


def decode_reply(body: bytes, request: Request) -> Reply:
    """Read the reply to a request. Raises :class:`Malformed` for what is none, or answers another request."""
    number, outcome, *rest = _unpack(body, 3)
    if number != request.number or type(number) is not int:
        raise Malformed("the reply belongs to another request")
    if outcome == 0 and len(rest) == 1 and _KINDS[OPERATIONS[request.name].result](rest[0]):
        return Reply(number, _plain(rest[0]))
    if outcome == 1 and len(rest) == 5:
        fault, kind, function, words, sent = rest
        if (
            isinstance(fault, str)
            and isinstance(kind, str)
            and isinstance(function, str)
            and isinstance(words, str)
            and isinstance(sent, bool)
        ):
            return Reply(number, None, Failure(fault, kind, function, words, sent))
    raise Malformed("the reply has another form than its operation's")


def _frame(message: list[object]) -> bytes:
    body = packb(message)
    return HEAD.pack(len(body)) + body


def _unpack(body: bytes, least: int) -> list[object]:
    try:
        message = unpackb(body)
    except _REFUSALS as error:
        raise Malformed("the bytes are no message") from error
    if not isinstance(message, list) or len(message) < least:
        raise Malformed("a message is a list")
    return message


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _count(value: object) -> int:
    assert isinstance(value, int)
    return value


def _plain(value: object) -> Argument:
    """What was looked at already, as its type."""
    assert value is None or isinstance(value, str | bytes | int | list)
    return value


class Framer:
    """Cuts a stream of bytes into the bodies of messages."""

    __slots__ = ("_buffer", "_limit", "_wanted")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._wanted = HEAD.size

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes, and answer the messages that are complete now. Raises :class:`Malformed` for one too long."""
        self._buffer += data
        return self._cut()

    def _cut(self) -> Iterator[bytes]:
        buffer = self._buffer
        while len(buffer) >= self._wanted:
            (size,) = HEAD.unpack_from(buffer)
            if size > self._limit:
                raise Malformed("a message is longer than any that was agreed on")
            self._wanted = HEAD.size + size
            if len(buffer) >= self._wanted:
                body = bytes(buffer[HEAD.size : self._wanted])
                del buffer[: self._wanted]
                self._wanted = HEAD.size
                yield body
