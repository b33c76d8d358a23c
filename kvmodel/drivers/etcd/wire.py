"""Protocol buffers, as far as etcd's API needs them: messages of integers, flags, bytes, text and other messages.

Rules.

* A message is an attrs class whose fields say their number: ``key: bytes = data(1)``. What has its default value is not
  written, but for members of a choice (``None`` there means: another one).
* Reading is strict about the form of what it is given and lenient about what it does not know: unknown fields are
  skipped, as newer servers have more of them. Whatever bytes come, it answers a message or raises :class:`Malformed`.

This is written by hand so that nothing depends on the release of a code generator: the numbers of the fields are all
that a client and a server have to agree upon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

import attrs

__all__ = [
    "Malformed",
    "Message",
    "choice",
    "data",
    "datas",
    "flag",
    "integer",
    "integers",
    "message",
    "messages",
    "number",
    "secret",
    "text",
    "texts",
]

M = TypeVar("M", bound="Message")

_VARINT: Final = 0
_LENGTH: Final = 2
_FIXED: Final = {1: 8, 5: 4}
_UNSIGNED: Final = 1 << 64
_SIGN: Final = 1 << 63
_MAX_DEPTH: Final = 32


class Malformed(ValueError):
    """Bytes that are no message."""


# --- varints ----------------------------------------------------------------------------------------------------------


def write_varint(value: int) -> bytes:
    """Write an integer; a negative one as its two's complement of 64 bits."""
    if 0 <= value < 128:
        return _SMALL[value]
    value %= _UNSIGNED
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL: Final = [bytes((value,)) for value in range(128)]


def read_varint(buffer: bytes, at: int, end: int) -> tuple[int, int]:
    """Read an unsigned integer; answer it, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = buffer[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value % _UNSIGNED, at
        shift += 7
    raise Malformed("a number is cut short")


# --- kinds of fields --------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """How a value is written behind its tag, and read: from a buffer between two places."""

    wire: int
    write: Callable[[Any], bytes]
    read: Callable[[bytes, int, int, int], Any]


def _signed(buffer: bytes, at: int, value: int, depth: int) -> int:
    return value - _UNSIGNED if value >= _SIGN else value


_INT: Final = _Kind(_VARINT, write_varint, _signed)
_UINT: Final = _Kind(_VARINT, write_varint, lambda buffer, at, value, depth: value)
_BOOL: Final = _Kind(_VARINT, write_varint, lambda buffer, at, value, depth: value != 0)
_BYTES: Final = _Kind(
    _LENGTH, lambda value: write_varint(len(value)) + value, lambda buffer, at, end, depth: buffer[at:end]
)


def _write_text(value: str) -> bytes:
    encoded = value.encode()
    return write_varint(len(encoded)) + encoded


def _read_text(buffer: bytes, at: int, end: int, depth: int) -> str:
    try:
        return buffer[at:end].decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text is not in UTF-8") from error


_TEXT: Final = _Kind(_LENGTH, _write_text, _read_text)


def _message_kind(cls: Callable[[], type[Message]]) -> _Kind:
    def write(value: Message) -> bytes:
        encoded = value.encode()
        return write_varint(len(encoded)) + encoded

    def read(buffer: bytes, at: int, end: int, depth: int) -> Message:
        return _decode(cls(), buffer, at, end, depth + 1)

    return _Kind(_LENGTH, write, read)


# --- fields -----------------------------------------------------------------------------------------------------------

_META: Final = "kvmodel.etcd"


def _field(number: int, kind: _Kind, default: Any, *, repeated: bool = False, shown: bool = True) -> Any:
    converter = tuple if repeated else None
    return attrs.field(default=default, repr=shown, converter=converter, metadata={_META: (number, kind, repeated)})


def integer(number: int, default: int = 0) -> int:
    """Declare a signed integer."""
    return cast("int", _field(number, _INT, default))


def number(number: int) -> int:
    """Declare an unsigned integer."""
    return cast("int", _field(number, _UINT, 0))


def flag(number: int) -> bool:
    """Declare a flag."""
    return cast("bool", _field(number, _BOOL, False))


def data(number: int) -> bytes:
    """Declare bytes."""
    return cast("bytes", _field(number, _BYTES, b""))


def text(number: int) -> str:
    """Declare text."""
    return cast("str", _field(number, _TEXT, ""))


def secret(number: int) -> str:
    """Declare text that is never shown."""
    return cast("str", _field(number, _TEXT, "", shown=False))


def message(number: int, cls: Callable[[], type[M]]) -> M | None:
    """Declare another message, or none. Its class is named in a function, as it may be declared later."""
    return cast("M | None", _field(number, _message_kind(cls), None))


def messages(number: int, cls: Callable[[], type[M]]) -> Sequence[M]:
    """Declare a list of messages."""
    return cast("Sequence[M]", _field(number, _message_kind(cls), (), repeated=True))


def integers(number: int) -> Sequence[int]:
    """Declare a list of integers."""
    return cast("Sequence[int]", _field(number, _INT, (), repeated=True))


def datas(number: int) -> Sequence[bytes]:
    """Declare a list of bytes."""
    return cast("Sequence[bytes]", _field(number, _BYTES, (), repeated=True))


def texts(number: int) -> Sequence[str]:
    """Declare a list of texts."""
    return cast("Sequence[str]", _field(number, _TEXT, (), repeated=True))


def choice(number: int, kind: type[int] | type[bytes]) -> Any:
    """Declare a member of a choice: an integer or bytes, or ``None``."""
    return _field(number, _INT if kind is int else _BYTES, None)


# --- messages ---------------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    name: str
    tag: bytes
    kind: _Kind
    repeated: bool
    default: Any


_known: dict[type[Message], tuple[tuple[_Field, ...], dict[int, _Field]]] = {}


def _fields(cls: type[Message]) -> tuple[tuple[_Field, ...], dict[int, _Field]]:
    """Answer the fields of a message: in order, and by the tag that stands before them."""
    known = _known.get(cls)
    if known is not None:
        return known
    found = []
    by_tag = {}
    for attribute in attrs.fields(cast("type[Any]", cls)):
        place, kind, repeated = attribute.metadata[_META]
        field = _Field(attribute.name, write_varint(place << 3 | kind.wire), kind, repeated, attribute.default)
        found.append(field)
        by_tag[place << 3 | kind.wire] = field
        if repeated and kind.wire == _VARINT:
            by_tag[place << 3 | _LENGTH] = field._replace(kind=_PACKED)
    _known[cls] = tuple(found), by_tag
    return _known[cls]


def _read_packed(buffer: bytes, at: int, end: int, depth: int) -> list[int]:
    values = []
    while at < end:
        value, at = read_varint(buffer, at, end)
        values.append(_signed(buffer, at, value, depth))
    return values


_PACKED: Final = _Kind(_LENGTH, write_varint, _read_packed)


class Message:
    """One message."""

    def encode(self) -> bytes:
        """Write it."""
        out: list[bytes] = []
        for name, tag, kind, repeated, default in _fields(type(self))[0]:
            value = getattr(self, name)
            if repeated:
                for each in value:
                    out += (tag, kind.write(each))
            elif value != default:
                out += (tag, kind.write(value))
        return b"".join(out)

    @classmethod
    def decode(cls, buffer: bytes) -> Self:
        """Read it. Raises :class:`Malformed`."""
        return _decode(cls, buffer, 0, len(buffer), 0)


def _decode(cls: type[M], buffer: bytes, at: int, end: int, depth: int) -> M:
    if depth > _MAX_DEPTH:
        raise Malformed("messages are nested too deeply")
    by_tag = _fields(cls)[1]
    values: dict[str, Any] = {}
    while at < end:
        # Most tags and lengths are one byte: not calling a function for them saves a third of the time.
        tag = buffer[at]
        if tag < 128:
            at += 1
        else:
            tag, at = read_varint(buffer, at, end)
        field = by_tag.get(tag)
        if field is None:
            at = _skip(buffer, at, end, tag)
            continue
        name, _, (wire, _, read), repeated, _ = field
        if at < end and buffer[at] < 128:
            size = buffer[at]
            at += 1
        else:
            size, at = read_varint(buffer, at, end)
        if wire == _VARINT:
            value = read(buffer, at, size, depth)
        else:
            start, at = at, at + size
            if at > end:
                raise Malformed("a field is cut short")
            value = read(buffer, start, at, depth)
        if not repeated:
            values[name] = value
        elif read is _read_packed:
            values.setdefault(name, []).extend(value)
        elif name in values:
            values[name].append(value)
        else:
            values[name] = [value]
    return cls(**values)


def _skip(buffer: bytes, at: int, end: int, tag: int) -> int:
    """Answer where a field that is not known ends."""
    wire = tag & 7
    if wire == _VARINT:
        return read_varint(buffer, at, end)[1]
    if wire == _LENGTH:
        size, at = read_varint(buffer, at, end)
    elif wire in _FIXED:
        size = _FIXED[wire]
    else:
        raise Malformed("a field has no known form")
    if at + size > end:
        raise Malformed("a field is cut short")
    return at + size
