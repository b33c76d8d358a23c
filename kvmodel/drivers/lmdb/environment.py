"""One open LMDB file, shared by all connections of this process.

Rules.

* Readers take no lock. Replacing the memory map invalidates the read transactions of other threads, which the binding
  reports as an error and never as wrong bytes; a reader that fails tries again behind ``gate``, which is held while
  the map is replaced.
* The writer thread waits inside LMDB for other processes to let go of the write lock, and the map can't be replaced
  meanwhile: ``entering`` says so, and readers who need a larger map wait a moment, then give up.
* A handle can be given up and opened again when LMDB has declared it broken. Connections therefore hold a
  :class:`Space`, whose ``begin`` is exchanged.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

import lmdb

from kvmodel.drivers.feed import Feed
from kvmodel.drivers.lmdb.faults import explain
from kvmodel.drivers.lmdb.files import Settings, open_handle
from kvmodel.drivers.lmdb.transactions import Database, ReadView
from kvmodel.errors import Closed, StoreError, Unavailable, ValidationError

__all__ = ["CLOSED", "Environment", "Space"]

T = TypeVar("T")

_ATTEMPTS = 5
_PATIENCE = 0.1
_PAUSE = 0.001
_MAP_UNIT = 1 << 16


class Space:
    """One database of an environment, as connections see it.

    Attributes:
        begin: Begins a read transaction on it; raises once it can't be used.
        db: Its handle, ``None`` for the main database.
        feed: Tells of changes, in their order: it is used by the writer thread.
    """

    __slots__ = ("begin", "db", "feed")

    def __init__(self) -> None:
        self.feed = Feed()
        self.db: Database = None
        self.begin: Callable[[], lmdb.Transaction[bytes]] = _raise_closed

    def attach(self, handle: lmdb.Environment, db: Database) -> None:
        """Take transactions from this handle from now on."""
        self.db = db
        self.begin = handle.begin if db is None else partial(handle.begin, db)


def _raise_closed() -> NoReturn:
    raise Closed("this connection is closed: connect again")


CLOSED = Space()
"""What a closed connection reads from."""


class Environment:
    """One open LMDB file.

    Attributes:
        handle: The binding's environment.
        turn: Held by the writer thread from before a transaction until after it.
        gate: Held while the map is replaced.
        entering: Whether the writer thread is waiting inside LMDB for the write lock.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.address = settings.address
        self.turn = threading.Lock()
        self.gate = threading.Lock()
        self.entering = False
        self._spaces: dict[bytes | None, Space] = {}
        self.handle = open_handle(settings, settings.map_size)
        self.attach(None, None)

    def check_same(self, settings: Settings) -> None:
        """Raise ``ValidationError`` where this file is open in another way than is wanted now."""
        for name in () if settings.readonly else ("readonly", "sync"):
            ours = getattr(self.settings, name)
            if getattr(settings, name) != ours:
                raise ValidationError(
                    f"this process has this file open with {name}={str(ours).lower()}: use the same, or close it first",
                    field=name,
                    store=self.address,
                )

    def space(self, name: bytes | None) -> Space | None:
        """Answer one of its databases, unless it has to be attached first."""
        return self._spaces.get(name)

    def attach(self, name: bytes | None, db: Database) -> Space:
        """Answer one of its databases, by the handle that it got in a transaction that has been committed."""
        space = self._spaces.setdefault(name, Space())
        space.attach(self.handle, db)
        return space

    # --- reading ------------------------------------------------------------------------------------------------------

    def look(self, space: Space, work: Callable[[ReadView], T]) -> T:
        """Run ``work`` in a read transaction; once more if the map was replaced meanwhile."""
        try:
            return self._look(space, work)
        except lmdb.Error:
            return self.look_again(space, work)

    def look_again(self, space: Space, work: Callable[[ReadView], T]) -> T:
        """Run ``work`` while nobody here replaces the map, after adopting one that another process has made larger."""
        patience = time.monotonic() + _PATIENCE
        attempts = 0
        while True:
            with self.gate:
                try:
                    return self._look(space, work)
                except lmdb.MapResizedError as error:
                    problem: lmdb.Error = error
                    if not self.entering and self._adopt():
                        continue
                except lmdb.Error as error:
                    attempts += 1
                    problem = error
            if isinstance(problem, lmdb.MapResizedError) and time.monotonic() > patience:
                raise Unavailable(
                    "another process made this file larger and keeps its write lock: try again", store=self.address
                ) from problem
            if attempts == _ATTEMPTS:
                raise explain(problem, self.address) from problem
            if isinstance(problem, lmdb.ReadersFullError):
                self.handle.reader_check()
            time.sleep(_PAUSE)

    def _adopt(self) -> bool:
        """Take over the map size that another process made. Answers whether that could be done now."""
        try:
            self.handle.set_mapsize(0)
        except lmdb.Error:
            return False  # The writer thread is inside a transaction, and so has taken it over already.
        return True

    def _look(self, space: Space, work: Callable[[ReadView], T]) -> T:
        txn = space.begin()
        try:
            return work(ReadView(self.handle, txn, space.db))
        finally:
            txn.abort()

    # --- writing, from the writer thread only -------------------------------------------------------------------------

    def begin_write(self) -> lmdb.Transaction[bytes]:
        """Begin a write transaction, as soon as no other process has one. Raises ``lmdb.Error``."""
        while True:
            with self.gate:
                self.entering = True
            try:
                return self.handle.begin(write=True)
            except lmdb.MapResizedError:
                pass
            finally:
                self.entering = False
            with self.gate:
                self.handle.set_mapsize(0)

    def grow(self, size: int) -> None:
        """Make the map larger, with room for ``size`` bytes more. Raises ``lmdb.Error``; the old size is kept then."""
        current = self.handle.info()["map_size"]
        wanted = max(2 * current, current + 4 * size)
        try:
            with self.gate:
                self.handle.set_mapsize(-(-wanted // _MAP_UNIT) * _MAP_UNIT)
        except lmdb.Error:
            # The old map is gone by now, and the handle with it.
            self._reopen(current)
            raise

    def mend(self) -> bool:
        """Exchange the handle if LMDB refuses to go on with it. Answers whether that was so."""
        try:
            self.handle.begin().abort()
        except lmdb.MapResizedError:
            return False
        except lmdb.Error:
            self._reopen(self.settings.map_size)
            return True
        return False

    def _reopen(self, map_size: int) -> None:
        self.detach(partial(_raise_lost, self.address))
        with self.gate:
            self.handle.close()
            try:
                self.handle = open_handle(self.settings, map_size)
            except StoreError:
                return  # The next write tries again.
            self.attach(None, None)
        # The binding opens other databases inside a write transaction only, and that may have to be waited for.
        with contextlib.suppress(lmdb.Error):
            txn = self.begin_write()
            opened = {name: self.handle.open_db(name, txn) for name in self._spaces if name is not None}
            txn.commit()
            for name, db in opened.items():
                self.attach(name, db)

    # --- the end ------------------------------------------------------------------------------------------------------

    def detach(self, begin: Callable[[], NoReturn] = _raise_closed) -> None:
        """Let every connection fail from now on, in the way given."""
        for space in self._spaces.values():
            space.begin = begin

    def close(self) -> None:
        """Close the file. Nobody may be using it."""
        self.detach()
        if not self.settings.sync and not self.settings.readonly:
            with contextlib.suppress(lmdb.Error):
                self.handle.sync(True)
        self.handle.close()


def _raise_lost(address: str) -> NoReturn:
    raise StoreError("this file failed and is being opened again: try again", store=address)
