"""The parts of msgpack and LZ4 that are used here, with types, which the libraries themselves do not publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:

    class LZ4BlockError(Exception):
        """A block that is none."""

    class UnpackException(Exception):
        """Some errors of msgpack, which are not all ``ValueError``."""

    class Unpacker:
        """A reader of a stream."""

        def __init__(self, *, max_buffer_size: int, strict_map_key: bool) -> None: ...
        def feed(self, data: bytes) -> None: ...
        def skip(self) -> None: ...

    def packb(value: object, *, use_bin_type: bool) -> bytes: ...

    def unpackb(
        data: bytes, *, raw: bool, strict_map_key: bool, ext_hook: Callable[[int, bytes], object]
    ) -> object: ...

    def compress(data: bytes) -> bytes: ...

    def decompress(block: bytes, *, uncompressed_size: int) -> bytes: ...
else:
    from lz4.block import LZ4BlockError, compress, decompress
    from msgpack import Unpacker, UnpackException, packb, unpackb

__all__ = ["LZ4BlockError", "UnpackException", "Unpacker", "compress", "decompress", "packb", "unpackb"]
