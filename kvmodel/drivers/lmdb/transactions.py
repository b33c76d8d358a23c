"""LMDB transactions in the shape that byte stores share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import lmdb

from kvmodel.drivers.feed import Recorder
from kvmodel.errors import StoreError, Unavailable

__all__ = ["Database", "ReadView", "WriteView", "open_database"]

Database: TypeAlias = "lmdb._Database | None"
"""A handle of a named database; ``None`` is the main one."""


class ReadView:
    """One database inside a read transaction that was begun on it."""

    __slots__ = ("_db", "_handle", "_txn", "get")

    def __init__(self, handle: lmdb.Environment, txn: lmdb.Transaction[bytes], db: Database) -> None:
        self._handle = handle
        self._txn = txn
        self._db = db
        self.get: Callable[[bytes], bytes | None] = txn.get

    def iterate(self, start: bytes, stop: bytes, reverse: bool, /) -> Iterator[tuple[bytes, bytes]]:
        """Answer pairs from ``start`` on, or backwards from the last one below ``stop``."""
        cursor = self._txn.cursor(self._db)
        if not reverse:
            return cursor.iternext() if cursor.set_range(start) else iter(())
        # The cursor stands on the first key that is too far, or nowhere when all keys are below.
        found = cursor.prev() if cursor.set_range(stop) else cursor.last()
        return cursor.iterprev() if found else iter(())

    def is_empty(self) -> bool:
        """Whether the database holds no records. The main one also holds the names of the others."""
        names = frozenset(self._handle.dbs(self._txn)) if self._db is None else frozenset()
        return all(key in names for key in self._txn.cursor(self._db).iternext(values=False))


class WriteView(ReadView):
    """One database inside a write transaction, which may span several."""

    __slots__ = ("delete", "insert", "put")

    def __init__(self, handle: lmdb.Environment, txn: lmdb.Transaction[bytes], db: Database) -> None:
        super().__init__(handle, txn, db)
        self.insert: Callable[[bytes, bytes], bool] = partial(txn.put, overwrite=False, db=db)
        self.put: Callable[[bytes, bytes], bool] = txn.put
        self.delete: Callable[[bytes], bool] = txn.delete
        if db is not None:
            self.get = partial(txn.get, db=db)
            self.put = partial(txn.put, db=db)
            self.delete = partial(txn.delete, db=db)

    def record(self) -> Recorder:
        """Answer what will be changed through this view from now on."""
        recorder = Recorder(self)
        self.put, self.insert, self.delete = recorder.put, recorder.insert, recorder.delete
        return recorder

    def open_database(self, name: bytes, create: bool, store: str) -> Database:
        """Answer the handle of a named database, which is good once the transaction has been committed."""
        return open_database(self._handle, self._txn, name, create, store)


def open_database(
    handle: lmdb.Environment, txn: lmdb.Transaction[bytes] | None, name: bytes, create: bool, store: str
) -> Database:
    """Answer the handle of a named database. Without a transaction, the file has to be open to read only."""
    try:
        return handle.open_db(name, txn, create=create)
    except lmdb.NotFoundError as error:
        raise Unavailable("this file has no database of this name: correct it", store=store) from error
    except (lmdb.BadValsizeError, lmdb.IncompatibleError) as error:
        raise StoreError("this name can't be that of a database here: choose another", store=store) from error
