"""The part of msgpack that is used here, with types, which the library itself does not publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:

    class ExtType(NamedTuple):
        """A value of an extension type."""

        code: int
        data: bytes

    class UnpackException(Exception):
        """Some errors of the library, which are not all ``ValueError``."""

    class Packer:
        """A writer, with a buffer of its own."""

        def __init__(self, *, default: Callable[[object], ExtType], strict_types: bool) -> None: ...
        def pack(self, value: object) -> bytes: ...

    class Unpacker:
        """A reader of a stream."""

        def __init__(self, *, max_buffer_size: int, strict_map_key: bool) -> None: ...
        def feed(self, data: bytes) -> None: ...
        def skip(self) -> None: ...

    def unpackb(data: bytes, *, ext_hook: Callable[[int, bytes], object]) -> object:
        """Read one value. Lengths inside are limited by the length of ``data``."""
else:
    from msgpack import ExtType, Packer, Unpacker, UnpackException, unpackb

__all__ = ["ExtType", "Packer", "UnpackException", "Unpacker", "unpackb"]
