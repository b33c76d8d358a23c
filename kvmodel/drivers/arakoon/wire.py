"""The types that Arakoon's messages are made of: how each is written, and how each is read from bytes that trickle in.

Rules.

* Nothing here does I/O, knows a command or tells the client's side from the server's.
* All integers are little-endian. There is no alignment, and no tag but what a type's own encoding has.
* A reader believes no length: what is longer than its limits, or cannot fit into what a message may have, is
  :class:`Malformed` at once, before room is made for it.
* What is not there yet is :class:`Incomplete`. Reading then starts again from the last mark when enough has come; a
  list sets a mark behind every element, so that a long one is read once, however it is cut into pieces.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

__all__ = [
    "BOOL",
    "CONSISTENCY",
    "CONSISTENT",
    "FLOAT",
    "INT32",
    "INT64",
    "NO_GUARANTEES",
    "STRING",
    "UNIT",
    "AtLeast",
    "Consistency",
    "Freshness",
    "Incomplete",
    "Limits",
    "ListOf",
    "Malformed",
    "Option",
    "Reader",
    "Shape",
    "TooLong",
    "TupleOf",
    "inside",
]

T = TypeVar("T")

_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")
_FLOAT: Final = struct.Struct("<d")


class Incomplete(Exception):
    """More bytes are needed."""


class Malformed(ValueError):
    """Bytes that no such message has.

    Attributes:
        answered: Whether a server tells its client so before it closes the connection; most often it just closes.
    """

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


class TooLong(Malformed):
    """A message that has more bytes than the reader takes."""


@attrs.frozen
class Limits:
    """What a reader takes.

    Attributes:
        string: The longest string, in bytes.
        message: The longest message, in bytes.
    """

    string: int = 48 << 20
    message: int = 64 << 20


class Reader:
    """Takes bytes as they come, and answers values from their front."""

    __slots__ = ("_at", "_data", "_mark", "_wanted", "limits")

    def __init__(self, limits: Limits, data: bytes = b"") -> None:
        self.limits = limits
        self._data = bytearray(data)
        self._at = 0
        self._mark = 0
        self._wanted = 0

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._data += data

    @property
    def left(self) -> int:
        """How many bytes were not read yet."""
        return len(self._data) - self._at

    @property
    def is_hungry(self) -> bool:
        """Whether it is known that what is there does not suffice."""
        return len(self._data) < self._wanted

    def mark(self) -> None:
        """What was read up to here is read for good."""
        self._mark = self._at

    def rewind(self) -> None:
        """Start again from the last mark."""
        self._at = self._mark

    def discard(self) -> None:
        """Forget what was read."""
        del self._data[: self._at]
        self._at = self._mark = self._wanted = 0

    def rest(self) -> bytes:
        """Read all that is there."""
        return self.take(self.left)

    def take(self, size: int) -> bytes:
        """Read so many bytes."""
        end = self._at + size
        if end > len(self._data):
            self._wanted = end
            if end > self.limits.message:
                raise TooLong(f"a message has more than {self.limits.message} bytes")
            raise Incomplete
        data = bytes(self._data[self._at : end])
        self._at = end
        return data

    def int32(self) -> int:
        """Read a 32-bit integer."""
        value: int = _INT32.unpack(self.take(4))[0]
        return value

    def string(self) -> bytes:
        """Read a string."""
        size = self.int32()
        if not 0 <= size <= self.limits.string:
            raise Malformed(f"a string says that it has {size} bytes, {self.limits.string} is the limit")
        return self.take(size)

    def count(self, smallest: int) -> int:
        """Read how many elements follow, none of which has fewer bytes than ``smallest``."""
        count = self.int32()
        if count < 0 or count * smallest > self.limits.message:
            raise Malformed(f"a list says that it has {count} elements")
        return count


@attrs.frozen(eq=False)
class Shape(Generic[T]):
    """One type.

    Attributes:
        name: What it is, for messages.
        write: Makes the bytes of a value.
        read: Reads a value.
        smallest: The fewest bytes that a value has.
    """

    name: str
    write: Callable[[T], bytes]
    read: Callable[[Reader], T]
    smallest: int

    def __repr__(self) -> str:
        return self.name


def _write_string(value: bytes) -> bytes:
    return _INT32.pack(len(value)) + value


def _read_int64(reader: Reader) -> int:
    value: int = _INT64.unpack(reader.take(8))[0]
    return value


def _read_float(reader: Reader) -> float:
    value: float = _FLOAT.unpack(reader.take(8))[0]
    return value


def _read_bool(reader: Reader) -> bool:
    byte = reader.take(1)[0]
    if byte > 1:
        raise Malformed(f"a bool is 0 or 1, not {byte}")
    return byte == 1


UNIT: Final[Shape[None]] = Shape("unit", lambda _: b"", lambda _: None, 0)
INT32: Final[Shape[int]] = Shape("int32", _INT32.pack, Reader.int32, 4)
INT64: Final[Shape[int]] = Shape("int64", _INT64.pack, _read_int64, 8)
FLOAT: Final[Shape[float]] = Shape("float", _FLOAT.pack, _read_float, 8)
BOOL: Final[Shape[bool]] = Shape("bool", lambda value: b"\x01" if value else b"\x00", _read_bool, 1)
STRING: Final[Shape[bytes]] = Shape("string", _write_string, Reader.string, 4)


class Option(Shape["T | None"], Generic[T]):
    """A value, or none."""

    def __init__(self, item: Shape[T]) -> None:
        def write(value: T | None) -> bytes:
            return b"\x00" if value is None else b"\x01" + item.write(value)

        def read(reader: Reader) -> T | None:
            byte = reader.take(1)[0]
            if byte > 1:
                raise Malformed(f"an option begins with 0 or 1, not {byte}", answered=True)
            return item.read(reader) if byte else None

        super().__init__(f"option {item}", write, read, 1)


class TupleOf(Shape[tuple[Any, ...]]):
    """Values one after the other."""

    def __init__(self, *items: Shape[Any]) -> None:
        def write(values: tuple[Any, ...]) -> bytes:
            return b"".join([item.write(value) for item, value in zip(items, values, strict=True)])

        def read(reader: Reader) -> tuple[Any, ...]:
            return tuple([item.read(reader) for item in items])

        super().__init__(f"({', '.join(map(repr, items))})", write, read, sum(item.smallest for item in items))


class ListOf(Shape["list[T]"], Generic[T]):
    """A list.

    Args:
        item: What it holds.
        backwards: Whether the last element is written first, as the server writes most of its lists.
    """

    def __init__(self, item: Shape[T], *, backwards: bool = False) -> None:
        def write(values: Sequence[T]) -> bytes:
            ordered = reversed(values) if backwards else values
            return _INT32.pack(len(values)) + b"".join(map(item.write, ordered))

        def read(reader: Reader) -> list[T]:
            return self.turned([item.read(reader) for _ in range(reader.count(item.smallest))])

        super().__init__(f"list {item}", write, read, 4)
        object.__setattr__(self, "item", item)
        object.__setattr__(self, "backwards", backwards)

    item: Shape[T]
    backwards: bool

    def turned(self, values: list[T]) -> list[T]:
        """Bring elements, as they were read, into the order that is meant."""
        return values[::-1] if self.backwards else values


def inside(shape: Shape[T]) -> Shape[T]:
    """Answer the shape of a string that holds one value of another shape, and nothing else."""

    def read(reader: Reader) -> T:
        inner = Reader(reader.limits, reader.string())
        try:
            value = shape.read(inner)
        except Incomplete:
            raise Malformed(f"a string is too short for the {shape} in it", answered=True) from None
        if inner.left:
            raise Malformed(f"a string is too long for the {shape} in it", answered=True)
        return value

    return Shape(f"string of {shape}", lambda value: STRING.write(shape.write(value)), read, 4)


# --- consistency ------------------------------------------------------------------------------------------------------


class Freshness(enum.Enum):
    """How fresh a read has to be."""

    CONSISTENT = 0
    NO_GUARANTEES = 1

    def __repr__(self) -> str:
        return self.name


@attrs.frozen
class AtLeast:
    """Any node may answer a read that has reached this stamp: a position in the log, as ``get_tx_id`` tells it."""

    stamp: int


Consistency: TypeAlias = "Freshness | AtLeast"

CONSISTENT: Final = Freshness.CONSISTENT
"""The master answers."""
NO_GUARANTEES: Final = Freshness.NO_GUARANTEES
"""Any node answers at once, and what it has may be stale."""


def _write_consistency(value: Consistency) -> bytes:
    return b"\x02" + _INT64.pack(value.stamp) if isinstance(value, AtLeast) else bytes((value.value,))


def _read_consistency(reader: Reader) -> Consistency:
    code = reader.take(1)[0]
    if code == 2:
        return AtLeast(_read_int64(reader))
    if code > 2:
        raise Malformed(f"there is no consistency {code}")
    return Freshness(code)


CONSISTENCY: Final[Shape[Consistency]] = Shape("consistency", _write_consistency, _read_consistency, 1)
