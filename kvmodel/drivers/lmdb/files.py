"""Files of LMDB: finding, creating, opening and refusing them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TypeAlias

import attrs
import lmdb

from kvmodel.drivers.lmdb.faults import unusable
from kvmodel.errors import StoreError, ValidationError

__all__ = ["MAP_SIZE", "Identity", "Settings", "find", "open_handle"]

MAP_SIZE = 1 << 30
"""How much address space a file gets at first. It costs neither memory nor disk."""

_MAX_DATABASES = 32
_MAX_READERS = 1024

Identity: TypeAlias = tuple[int, int]
"""Device and inode: the same for every path that leads to a file."""


@attrs.frozen
class Settings:
    """How a file is to be opened."""

    path: str
    sync: bool = True
    readonly: bool = False
    map_size: int = MAP_SIZE

    @property
    def address(self) -> str:
        """The file's address, for messages."""
        return f"lmdb://{self.path}"


def find(settings: Settings) -> Identity:
    """Answer which file or directory a path leads to. A directory that is missing is created, unless to read only."""
    path = Path(settings.path)
    try:
        if not settings.readonly and not path.exists():
            path.mkdir(parents=True, exist_ok=True)
        found = path.stat()
    except (OSError, ValueError) as error:
        raise unusable(error, settings.address, readonly=settings.readonly) from error
    if stat.S_ISREG(found.st_mode) and path.name == "data.mdb":
        # Its lock file would be another one than that of those who open the directory.
        raise ValidationError("give the directory that data.mdb is in", field="url", store=settings.address)
    return found.st_dev, found.st_ino


def open_handle(settings: Settings, map_size: int) -> lmdb.Environment:
    """Open a file. Raises ``Unavailable`` and ``StoreError``."""
    subdir = Path(settings.path).is_dir()
    try:
        handle = lmdb.open(
            settings.path,
            map_size=map_size,
            subdir=subdir,
            readonly=settings.readonly,
            sync=settings.sync,
            create=False,
            max_dbs=_MAX_DATABASES,
            max_readers=_MAX_READERS,
            # One idle read transaction is kept for the next reader, which saves a quarter of a short read.
            max_spare_txns=1,
        )
    except (lmdb.Error, OSError) as error:
        raise unusable(error, settings.address, readonly=settings.readonly) from error
    try:
        _refuse_truncated(handle, settings, subdir)
        handle.reader_check()
    except BaseException:
        handle.close()
        raise
    return handle


def _refuse_truncated(handle: lmdb.Environment, settings: Settings, subdir: bool) -> None:
    """Refuse a file that was cut off: reading the part that is missing would kill the process."""
    pages = handle.info()["last_pgno"] + 1
    path = Path(settings.path)
    data = path / "data.mdb" if subdir else path
    if data.stat().st_size >= pages * handle.stat()["psize"]:
        return
    # Pages at the end that were never used need not be there. Only now is it worth looking at all of them.
    from lmdb.verify import verify

    problems: list[str] = verify(settings.path, subdir)  # type: ignore[no-untyped-call]
    if problems:
        raise StoreError(
            "this file is damaged, a part of it is missing: restore it from a copy (python -m lmdb verify tells more)",
            store=settings.address,
        ) from ValueError(problems[0])
