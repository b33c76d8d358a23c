"""What LMDB's errors mean to a user, and what to do about each."""

from __future__ import annotations

import errno

import lmdb

from kvmodel.errors import KvModelError, StoreError, TooLarge, Unavailable

__all__ = ["explain", "unusable"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def explain(error: lmdb.Error, store: str) -> KvModelError:
    """Answer the error to raise, from this one, when a request failed and nothing was written."""
    text: str
    code = getattr(error, "code", 0)
    if code in _FULL:
        text = "the disk is full, or the file may not grow any further: make room and try again; nothing was written"
    elif code == errno.EIO:
        # LMDB reports a write that was cut short like this, too: the usual sign of a disk that is full.
        text = "the disk failed, or was full in the middle of a write: make room, or mend it; nothing was written"
    elif code in _REFUSED:
        text = "the disk does not let this file be written: look at mount options and permissions; nothing was written"
    elif isinstance(error, lmdb.MemoryError):
        text = "there is no address space for a larger map: raise this process's limit (ulimit -v); nothing was written"
    elif isinstance(error, lmdb.ReadersFullError):
        return Unavailable("too many processes and threads read this file: close some of them", store=store)
    elif isinstance(error, lmdb.TxnFullError):
        return TooLarge("this is more than LMDB changes at once: split it into several writes", store=store)
    elif isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        text = "this file is damaged: restore it from a copy; python -m lmdb verify tells more"
    else:
        text = "LMDB could not do this, and nothing was written: its own words are this error's cause"
    return StoreError(text, store=store)


def unusable(error: Exception, store: str, *, readonly: bool) -> StoreError:
    """Answer the error to raise, from this one, when a path could not be opened."""
    if isinstance(error, lmdb.VersionMismatchError) or "data format" in str(error):
        return StoreError("this file was written by a newer LMDB: upgrade the lmdb package to open it", store=store)
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError)):
        return StoreError(
            "this file is not an LMDB file, or its first pages are damaged: choose another path, or restore a copy",
            store=store,
        )
    if "already open" in str(error):
        return StoreError(
            "this file is already open in this process, and not by kvmodel: close that lmdb.Environment first; "
            "in a forked process, connect in the parent only while no other thread uses the file",
            store=store,
        )
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    if code == errno.ENOENT:
        return Unavailable("nothing is at this path, and readonly=true creates nothing: correct the path", store=store)
    if code in _REFUSED and readonly:
        return Unavailable(
            "this path may not be read, or its lock file not be written, which readers do too: look at the permissions "
            "of data.mdb and of lock.mdb, or read a copy",
            store=store,
        )
    if code in _REFUSED:
        return Unavailable(
            "this path may not be used: look at its permissions, or connect with readonly=true to only read",
            store=store,
        )
    if code in _FULL:
        return Unavailable("the disk is full: make room and connect again", store=store)
    if code == errno.ENOMEM:
        return Unavailable(
            "there is no room for this map: connect with a smaller map_size, it grows by itself", store=store
        )
    return Unavailable("this path can't be opened: the system's own words are this error's cause", store=store)
