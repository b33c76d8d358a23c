"""Elevator's protocol: requests and replies to frames and back, both sides.

Rules.

* No sockets, no clock, no waiting: frames go in, messages come out, and the other way round.
* What frames cannot mean is ``Malformed``, whatever they are: never another exception, and never more memory than is in
  proportion to what came.
* Whether a reply is a failure is told by its status, never by its code: errors of type have the code 0.
* A content is compressed if, and only if, the header of the same reply says ``true`` itself. Failures never are.

Theory of operation. A request is one frame: a map of the command, its positional arguments, the uid of a database
(``nil`` for none) and options. A reply is two frames, a header and a content, each a map. Everything is msgpack in its
old form, which knows one kind of string; a compressed content is four bytes of length (little-endian) and one LZ4
block. Nothing ties a reply to its request, so a socket may have one request under way, and what a reply has to look
like is known to the one who asked.

Known limits. What a server at fault does (it says nothing, for ever) is the emulator's business. The later rewrite of
the store, whose replies are single frames, speaks another protocol: it is recognised, not spoken.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import attrs

from kvmodel.drivers.elevator._packing import (
    LZ4BlockError,
    Unpacker,
    UnpackException,
    compress,
    decompress,
    packb,
    unpackb,
)

__all__ = [
    "ABSENT",
    "Code",
    "Data",
    "Malformed",
    "Reply",
    "Request",
    "Status",
    "Value",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "is_new_msgpack",
]

Value: TypeAlias = "None | bool | int | float | bytes | list[Value] | dict[Value, Value]"
"""What a request may hold. The keys of maps are scalars."""

Data: TypeAlias = "None | bool | list[Value] | dict[Value, Value]"
"""What a content holds: ``None`` for nothing, ``False`` bare, a list, or an empty map (with code 8 only)."""

_SIZE: Final = struct.Struct("<I")
_MOST_EXPANSION: Final = 255
"""How many bytes one byte of an LZ4 block can stand for, at most."""
_ERRORS: Final = (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError, UnpackException)


class Malformed(Exception):
    """Frames that mean nothing."""


class Status(enum.IntEnum):
    """How a request ended. A warning is a success in which something was missing."""

    SUCCESS = 1
    FAILURE = -1
    WARNING = -2


class Code(enum.IntEnum):
    """Why a request failed."""

    TYPE = 0
    KEY = 1
    VALUE = 2
    INDEX = 3
    RUNTIME = 4
    OS = 5
    DATABASE = 6
    SIGNAL = 7
    REQUEST = 8


class _Absent(enum.Enum):
    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent.ABSENT
"""Stands for a part of a request that is not there, which is not the same as ``None``."""

Part: TypeAlias = "Value | _Absent"


@attrs.frozen
class Request:
    """A request as a server gets it, however odd its parts are.

    Attributes:
        command: The command's name, in upper case.
        args: Its positional arguments.
        uid: The database; ``None`` for none.
        meta: Options.
    """

    command: Part = ABSENT
    args: Part = ABSENT
    uid: Part = ABSENT
    meta: Part = ABSENT


@attrs.frozen
class Reply:
    """A reply.

    Attributes:
        status: How the request ended.
        data: What it brought.
        code: Why it failed; ``None`` unless it did.
        text: The server's words for that.
        compression: What the header says of the content: ``True`` if it is compressed, else whatever was asked for.
    """

    status: Status
    data: Data = None
    code: int | None = None
    text: bytes | None = None
    compression: Value = False


# --- requests ---------------------------------------------------------------------------------------------------------


def encode_request(command: bytes, args: Value, uid: bytes | None = None, *, compression: bool = False) -> bytes:
    """Write the frame of a request.

    Args:
        command: The command's name.
        args: A list of arguments; an empty map means the same as an empty list.
        uid: The database.
        compression: Whether the content of the reply is to be compressed.
    """
    message = {b"cmd": command, b"meta": {b"compression": compression}, b"uid": uid, b"args": args}
    return packb(message, use_bin_type=False)


def decode_request(frames: Sequence[bytes]) -> Request:
    """Read the frames of a request. Raises ``Malformed`` for those that are none, in any way."""
    if len(frames) != 1:
        raise Malformed("a request is one frame")
    message = _unpack(frames[0])
    if not isinstance(message, dict):
        raise Malformed("a request is a map")
    parts = cast("dict[Value, Value]", message)
    return Request(*(parts.get(name, ABSENT) for name in (b"cmd", b"args", b"uid", b"meta")))


def _unpack(data: bytes) -> object:
    """Read one object of any shape.

    It is skipped over first, which takes no memory: a list that announces more than there is ends there.
    """
    try:
        reader = Unpacker(max_buffer_size=max(len(data), 1), strict_map_key=False)
        reader.feed(data)
        reader.skip()
        return unpackb(data, raw=True, strict_map_key=False, ext_hook=_refuse_extension)
    except _ERRORS as error:
        raise Malformed("not one msgpack object") from error


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError("extension types have no meaning here")


# --- replies ----------------------------------------------------------------------------------------------------------


def encode_reply(reply: Reply) -> list[bytes]:
    """Write the frames of a reply."""
    header = {
        b"status": int(reply.status),
        b"err_msg": reply.text,
        b"compression": reply.compression,
        b"err_code": reply.code,
    }
    content = packb({b"datas": reply.data}, use_bin_type=False)
    if reply.compression is True:
        content = compress(content)
    return [packb(header, use_bin_type=False), content]


def decode_reply(frames: Sequence[bytes]) -> Reply:
    """Read the frames of a reply. Raises ``Malformed`` for those that are none."""
    if len(frames) == 1:
        raise Malformed("a reply in one frame is that of the store's later rewrite, or of another program")
    if len(frames) != 2:
        raise Malformed("a reply is two frames")
    header = _read_map(frames[0])
    status, code, text = header.get(b"status"), header.get(b"err_code"), header.get(b"err_msg")
    if type(status) is not int or status not in _STATUSES:
        raise Malformed("a header without a status that is known")
    if not (code is None or type(code) is int) or not (text is None or isinstance(text, bytes)):
        raise Malformed("a header with a code or a text of another type")
    compression = header.get(b"compression", False)
    content = _decompress(frames[1]) if compression is True else frames[1]
    return Reply(_STATUSES[status], _read_content(content), code, text, compression)


_STATUSES: Final = {int(status): status for status in Status}


def is_new_msgpack(frames: Sequence[bytes]) -> bool:
    """Whether a reply that holds one uid was written in msgpack's new form: such a server takes bytes for text."""
    return len(frames) == 2 and any(tag + b"\x24" in frames[1] for tag in (b"\xd9", b"\xc4"))


def _read_map(frame: bytes) -> dict[Value, Value]:
    message = _unpack(frame)
    if not isinstance(message, dict):
        raise Malformed("both frames of a reply are maps")
    return cast("dict[Value, Value]", message)


def _decompress(frame: bytes) -> bytes:
    """Undo the compression. The length that the frame claims is not believed before it is possible."""
    if len(frame) < _SIZE.size:
        raise Malformed("a compressed content without its length")
    (size,) = _SIZE.unpack_from(frame)
    if size > (len(frame) - _SIZE.size) * _MOST_EXPANSION:
        raise Malformed("a compressed content that claims more than it can hold")
    try:
        content = decompress(frame[_SIZE.size :], uncompressed_size=size)
    except (LZ4BlockError, *_ERRORS) as error:
        raise Malformed("a compressed content that is no LZ4 block") from error
    if len(content) != size:
        raise Malformed("a compressed content of another length than it claims")
    return content


def _read_content(content: bytes) -> Data:
    message = _read_map(content)
    data = message.get(b"datas", ABSENT)
    if len(message) != 1 or data is ABSENT:
        raise Malformed("a content without its data")
    if data is None or data is False or isinstance(data, list) or data == {}:
        return cast("Data", data)
    raise Malformed("data that are no list")
