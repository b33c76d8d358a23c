"""The LMDB files that this process has open.

LMDB forbids opening a file twice in one process, so connections to the same file share it, and the last one closes it.

After a fork the child may use nothing that it inherited. Its connections raise ``Closed``. The inherited handle has to
be closed there all the same, or the child could not open the file for itself; that is safe only while no transaction is
alive in it, because ending one would take away what the parent's own transaction relies on. So the fork waits for the
writer thread to be between two transactions, and takes the idle read transaction that the binding keeps out of the
handle. Where that can't be had (another process keeps the write lock, or another thread of the parent may be reading)
the child leaves the handle alone for good, and cannot open this file.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import NoReturn

import attrs
import lmdb

from kvmodel.drivers.lmdb.environment import Environment
from kvmodel.drivers.lmdb.files import Identity, Settings, find
from kvmodel.drivers.lmdb.writer import Writer
from kvmodel.errors import Closed

__all__ = ["Shared", "acquire", "release"]

_GRACE = 5.0
"""How long closing waits for a writer thread that another process keeps waiting, in seconds."""

_FORK_PATIENCE = 1.0


@attrs.define(eq=False)
class Shared:
    """One open file, and who uses it.

    Attributes:
        users: The connections, and the threads that their event loops run in.
        forked: Whether it was inherited from a parent process.
    """

    environment: Environment
    identity: Identity
    writer: Writer = attrs.field(init=False)
    users: dict[object, int] = attrs.field(factory=dict)
    waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = attrs.field(factory=list)
    forked: bool = False

    def __attrs_post_init__(self) -> None:
        self.writer = Writer(self.environment, self._finish)

    def _finish(self) -> bool:
        """Close the file from its writer thread, unless somebody has come to use it again."""
        with _lock:
            unused = not self.users
            if unused:
                with self.environment.turn:
                    _discard(self)
            waiting, self.waiting = self.waiting, []
        for loop, closed in waiting:
            _tell(loop, closed)
        return unused


_lock = threading.Lock()
_files: dict[Identity, Shared] = {}


def acquire(settings: Settings, user: object) -> Shared:
    """Open a file, or share it. Every call has to be followed by one of :func:`release`.

    Raises:
        Unavailable: The path can't be used.
        StoreError: What is there is damaged, or no LMDB file.
        ValidationError: This process has the file open with other options.
    """
    with _lock:
        identity = find(settings)
        shared = _files.get(identity)
        if shared is None:
            shared = _files[identity] = Shared(Environment(settings), identity)
        else:
            shared.environment.check_same(settings)
        shared.users[user] = threading.get_ident()
        return shared


async def release(shared: Shared, user: object) -> None:
    """Let a file go. The last one waits until it is closed, but not for longer than a few seconds.

    After that it is closed by its writer thread, as soon as the process that keeps that waiting lets go.
    """
    if shared.forked:
        return
    loop = asyncio.get_running_loop()
    with _lock:
        shared.users.pop(user, None)
        if shared.users:
            return
        if not shared.writer.is_running:
            _discard(shared)
            return
        closed = loop.create_future()
        shared.waiting.append((loop, closed))
    shared.writer.stop()
    await asyncio.wait([closed], timeout=_GRACE)


def _discard(shared: Shared) -> None:
    del _files[shared.identity]
    shared.environment.close()


def _tell(loop: asyncio.AbstractEventLoop, closed: asyncio.Future[None]) -> None:
    def settle() -> None:
        if not closed.done():
            closed.set_result(None)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # The loop has been closed, so nobody waits.


# --- fork -------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Inherited:
    """A file at the moment of a fork, with the transaction that was taken out of its handle, if it is quiet."""

    shared: Shared
    idle: lmdb.Transaction[bytes] | None
    turn: bool


_forking: list[_Inherited] = []


def _before_fork() -> None:
    for shared in list(_files.values()):
        environment = shared.environment
        turn = environment.turn.acquire(timeout=_FORK_PATIENCE)
        idle = None
        if turn and set(shared.users.values()) <= {threading.get_ident()}:
            try:
                idle = environment.handle.begin()
            except lmdb.Error:
                idle = None
        _forking.append(_Inherited(shared, idle, turn))


def _after_fork_in_parent() -> None:
    while _forking:
        file = _forking.pop()
        if file.idle is not None:
            file.idle.abort()
        if file.turn:
            file.shared.environment.turn.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _files.clear()
    while _forking:
        file = _forking.pop()
        file.shared.forked = True
        environment = file.shared.environment
        environment.gate = threading.Lock()
        environment.detach(_raise_forked)
        quiet = file.idle is not None
        # The binding does not touch LMDB when a transaction of another process goes.
        file.idle = None
        if quiet:
            environment.handle.close()
        # Otherwise the transactions of threads that this process does not have keep the handle for ever.


def _raise_forked() -> NoReturn:
    raise Closed("this connection belongs to the parent process: connect again in this one")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
