"""Files of any size, in slices: what the old client's manual had as an example.

Theory of operation. A file goes into slices of 10 MiB, each an entry of its own. When all of them are there, one more
entry is made under the document's key: the head, which says how long the file is, how many slices it has, and under
which names they lie. So a document is there from one moment to the next, or not at all: an upload that broke off left
slices that nobody can download. Every upload names its slices anew, so that two of them can't mix.

The manual's own layout is read as well: slices under the key and their number, from 0 on, up to the first that is
absent. Whether such an upload was complete, nobody can tell. A head is no slice: ``report-10`` is another document than
``report-1``, not a part of it.

Rules. At no time is more than one slice in memory, in each process. Files are read and written in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from abc import abstractmethod
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import attrs

from kvmodel.drivers.formats.records import pack, unpack
from kvmodel.drivers.quasardb.checks import MAX_NAME_BYTES, check_name
from kvmodel.errors import AlreadyExists, DecodingError, KvModelError, NotFound, TooLarge, ValidationError

__all__ = ["SLICE_BYTES", "Documents", "File"]

SLICE_BYTES: Final = 10 << 20
PREFIX: Final = "document-"

File: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""A path, or a file that is open in binary mode."""

_MAGIC: Final = b"kvmodel document\n"
_SLICE: Final = re.compile(r"/[0-9a-f]{24}/[0-9]{1,9}")
_ROOM: Final = 36


@attrs.frozen
class _Head:
    """What a document's head says."""

    token: str
    size: int
    slices: int

    def encode(self) -> bytes:
        return _MAGIC + pack({"token": self.token, "size": self.size, "slices": self.slices})

    @classmethod
    def decode(cls, key: str, content: bytes) -> _Head:
        if content.startswith(_MAGIC):
            values = unpack(content[len(_MAGIC) :])
            token, size, slices = values.get("token"), values.get("size"), values.get("slices")
            if isinstance(token, str) and type(size) is int and type(slices) is int and size >= 0 and slices >= 0:
                return cls(token, size, slices)
        raise DecodingError("the entry of this name is no document", key=(key,))

    def names(self, key: str) -> list[str]:
        return [f"{key}/{self.token}/{number}" for number in range(self.slices)]


class Documents:
    """Documents, as a part of :class:`~kvmodel.drivers.quasardb.QuasardbClient`."""

    max_value_bytes: int
    store: str

    @abstractmethod
    async def get(self, key: str) -> bytes: ...
    @abstractmethod
    async def put(self, key: str, content: bytes) -> None: ...
    @abstractmethod
    async def remove(self, key: str) -> None: ...
    @abstractmethod
    async def remove_if(self, key: str, comparand: bytes) -> None: ...
    @abstractmethod
    async def exists(self, key: str) -> bool: ...
    @abstractmethod
    async def expires_at(self, key: str, moment: datetime | None) -> None: ...
    @abstractmethod
    async def prefix_get(self, prefix: str, max_count: int | None = None) -> list[str]: ...

    async def upload(self, file: File, key: str | None = None) -> str:
        """Store a file, and answer its key.

        Each slice has the time of a call. When it fails, slices that were stored are removed as far as that is
        possible; the document is not there in any case.

        Args:
            file: A path, or a file open in binary mode, which is read from where it stands to its end.
            key: Where to; without it, a new key that begins with ``document-``.

        Raises:
            AlreadyExists: There is an entry of this key.
        """
        key = PREFIX + secrets.token_hex(12) if key is None else _document_key(key)
        if await self.exists(key) or await self._is_old_slice(f"{key}0"):
            raise AlreadyExists("there is a document of this key: delete it first", key=(key,), store=self.store)
        if not isinstance(file, str | os.PathLike):
            return await self._store(file, key)
        source = await asyncio.to_thread(Path(file).open, "rb")
        try:
            return await self._store(source, key)
        finally:
            await asyncio.to_thread(source.close)

    async def _store(self, source: BinaryIO, key: str) -> str:
        token = secrets.token_hex(12)
        stored: list[str] = []
        head = b""
        size = 0
        try:
            while slice := await asyncio.to_thread(_read_slice, source, min(SLICE_BYTES, self.max_value_bytes)):
                stored.append(f"{key}/{token}/{len(stored)}")
                await self.put(stored[-1], slice)
                size += len(slice)
            head = _Head(token, size, len(stored)).encode()
            await self.put(key, head)
        except Exception:
            if head:  # It may be there, if only the answer was lost; and if so, nobody else's is like it.
                with contextlib.suppress(KvModelError):
                    await self.remove_if(key, head)
            for name in stored:
                with contextlib.suppress(KvModelError):
                    await self.remove(name)
            raise
        return key

    async def download(self, key: str, file: File) -> int:
        """Write a document into a file, and answer its size.

        A path is written beside and put in its place when it is complete; a file that is open gets slice after slice.

        Raises:
            NotFound: There is no such document.
            DecodingError: A slice is gone or damaged, or the entry of this key is something else.
        """
        _document_key(key)
        head = await self._head(key)
        if not isinstance(file, str | os.PathLike):
            return await self._fetch(key, head, file)
        target = Path(file)
        beside = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        sink = await asyncio.to_thread(beside.open, "xb")
        try:
            try:
                size = await self._fetch(key, head, sink)
            finally:
                await asyncio.to_thread(sink.close)
            await asyncio.to_thread(beside.replace, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return size

    async def _head(self, key: str) -> _Head | None:
        """Answer a document's head, ``None`` if it has the manual's layout. Raises ``NotFound``."""
        try:
            return _Head.decode(key, await self.get(key))
        except NotFound:
            if await self._is_old_slice(f"{key}0"):
                return None
            raise NotFound("there is no document of this key", key=(key,), store=self.store) from None

    async def _fetch(self, key: str, head: _Head | None, sink: BinaryIO) -> int:
        size = number = 0
        names = None if head is None else head.names(key)
        while names is None or number < len(names):
            try:
                slice = await self.get(f"{key}{number}" if names is None else names[number])
            except NotFound as error:
                if names is None and number:
                    break
                raise DecodingError(
                    "a slice of this document is gone: was it deleted meanwhile?", key=(key,), store=self.store
                ) from error
            if names is None and slice.startswith(_MAGIC):
                break  # Another document, of which the key goes on with this number.
            await asyncio.to_thread(_write_all, sink, slice)
            size += len(slice)
            number += 1
        if head is not None and size != head.size:
            raise DecodingError("the slices of this document are damaged", key=(key,), store=self.store)
        return size

    async def delete_document(self, key: str) -> None:
        """Remove a document and all of its slices, those that uploads to this key have left behind too.

        The head goes first, so that nobody finds half a document. Called again, it goes on where it was interrupted;
        but for one in the manual's layout, of which the first slice goes first: ``prefix_get`` finds what is left.

        Raises:
            NotFound: Nothing of it was there.
        """
        _document_key(key)
        try:
            head = await self._head(key)
        except NotFound:
            names = []
        else:
            names = await self._slices_of_old(key) if head is None else [key]
        found = [name for name in await self.prefix_get(f"{key}/") if _SLICE.fullmatch(name, len(key))]
        if not names and not found:
            raise NotFound("there is no document of this key", key=(key,), store=self.store)
        for name in [*names, *found]:
            with contextlib.suppress(NotFound):
                await self.remove(name)

    async def _slices_of_old(self, key: str) -> list[str]:
        names: list[str] = []
        while await self._is_old_slice(f"{key}{len(names)}"):
            names.append(f"{key}{len(names)}")
        return names

    async def _is_old_slice(self, name: str) -> bool:
        """Whether a name is that of a slice in the manual's layout, and not of a document by itself."""
        try:
            return not (await self.get(name)).startswith(_MAGIC)
        except TooLarge:
            return True
        except (NotFound, DecodingError):
            return False

    async def expire_document(self, key: str, moment: datetime | None) -> None:
        """Let a document expire at an aware point in time, or never (``None``): the head first, then all slices.

        Not in one step. If it breaks off, call it again; from ``moment`` on the document is not found in any case.

        Raises:
            NotFound: There is no such document.
        """
        _document_key(key)
        head = await self._head(key)
        for name in await self._slices_of_old(key) if head is None else [key, *head.names(key)]:
            await self.expires_at(name, moment)

    async def list_documents(self, prefix: str = PREFIX) -> list[str]:
        """Answer the keys below a prefix that are no slices, sorted. Documents in the manual's layout are not told."""
        return [name for name in await self.prefix_get(prefix) if not re.search(_SLICE.pattern + "$", name)]


def _document_key(key: str) -> str:
    """Answer a key that leaves room for the names of slices."""
    if len(check_name(key).encode()) > MAX_NAME_BYTES - _ROOM:
        raise ValidationError(
            f"a document's key has at most {MAX_NAME_BYTES - _ROOM} bytes: its slices have longer ones", field="key"
        )
    return key


def _read_slice(source: BinaryIO, size: int) -> bytes:
    """Read a slice; a pipe may give less than was asked for."""
    pieces: list[bytes] = []
    while size:
        piece: object = source.read(size)
        if not isinstance(piece, bytes):
            raise ValidationError("open the file in binary mode", field="file")
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_all(sink: BinaryIO, data: bytes) -> None:
    """Write all of it; a raw file may take less than it was given."""
    view = memoryview(data)
    while view:
        view = view[sink.write(view) :]
