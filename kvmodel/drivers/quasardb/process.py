"""One worker process, as the program sees it: started, asked one thing at a time, killed when it is late.

Rules.

* A worker has one request under way at the most. Its reply is read even if nobody waits for it any more; until then the
  worker is not free.
* A request carries the point in time at which the worker is killed, by its process id. Nothing else ends a wait for a
  library that holds the interpreter's lock.
* A worker that died, for whatever reason, is never used again, and always waited for.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kvmodel.drivers.quasardb.protocol import (
    Argument,
    Framer,
    Malformed,
    Reply,
    Request,
    decode_reply,
    encode_request,
)
from kvmodel.drivers.quasardb.worker import BOOTSTRAP

__all__ = ["Late", "Lost", "Strange", "Worker"]

_HERE: Final = Path(__file__).parent
_PACKAGE: Final = _HERE.parents[1]
_BARE: Final = {
    "kvmodel": _PACKAGE,
    "kvmodel.drivers": _HERE.parent,
    "kvmodel.drivers.quasardb": _HERE,
    "kvmodel.testing": _PACKAGE / "testing",
}
_SPARING: Final = ("quasardb", "kvmodel.testing.")
_PATIENCE: Final = 5.0


class Lost(Exception):
    """The worker ended in mid-call: nobody knows how far the call had come."""


class Late(Exception):
    """Time was over, and the worker was killed in mid-call."""


class Strange(Exception):
    """The worker sent what is no reply, and was killed."""


class Worker(asyncio.Protocol):
    """One process. :meth:`start` makes it.

    Args:
        process: The process.
        max_bytes: The longest reply that is read.
        on_end: Is called when it has ended, or is about to: it wants to be waited for then.
    """

    def __init__(self, process: subprocess.Popen[bytes], max_bytes: int, on_end: Callable[[Worker], None]) -> None:
        self._process = process
        self._framer = Framer(max_bytes)
        self._on_end = on_end
        self._on_done: Callable[[], None] = _nothing
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._trouble: Exception = Lost()
        self._is_over = False

    # --- life ---------------------------------------------------------------------------------------------------------

    @classmethod
    async def start(cls, library: str, max_bytes: int, on_end: Callable[[Worker], None]) -> Worker:
        """Start a process. It has no connection yet. Raises ``OSError`` where there can be none."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.to_thread(_spawn, library, theirs)
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        _, worker = await loop.create_unix_connection(lambda: cls(process, max_bytes, on_end), sock=ours)
        return worker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._is_over

    def kill(self, trouble: Exception) -> None:
        """End it at once. Who waits for its reply gets ``trouble``."""
        if not self._is_over:
            self._trouble = trouble
            self._process.kill()
            if self._transport is not None:
                self._transport.abort()
            self._end()

    def dismiss(self) -> None:
        """Let an idle worker end: by itself at first."""
        if not self._is_over and self._transport is not None:
            self._transport.close()
            self._loop.call_later(_PATIENCE, self._process.kill)
            self._end()

    async def wait(self) -> None:
        """Wait for a process that is about to end."""
        await asyncio.to_thread(self._process.wait)

    # --- calls --------------------------------------------------------------------------------------------------------

    def ask(
        self, name: str, arguments: tuple[Argument, ...], until: float, on_done: Callable[[], None]
    ) -> asyncio.Future[Reply]:
        """Send a request to a free worker; it is killed if there is no reply by ``until``, on the loop's clock.

        ``on_done`` is called when the worker is free again, or has died, whether or not somebody still waits. The
        future ends in a reply, or in :class:`Lost`, :class:`Late` or :class:`Strange`. It may be cancelled: then the
        reply is dropped when it comes.
        """
        assert self._transport is not None
        assert self._request is None
        self._number += 1
        limit = max(int((until - self._loop.time()) * 1000), 0)
        request = Request(self._number, name, limit, arguments)
        data = encode_request(request)  # What can't be encoded must not leave the worker taken.
        self._request = request
        self._reply = self._loop.create_future()
        self._on_done = on_done
        self._timer = self._loop.call_at(until, self._expire)
        self._transport.write(data)
        return self._reply

    def _expire(self) -> None:
        self.kill(Late())

    def _settle(self, reply: Reply | Exception) -> None:
        """The request under way has ended."""
        if self._request is None:
            return
        future, self._reply, self._request = self._reply, None, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if future is not None and not future.done():
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
        self._on_done()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._settle(self._trouble)
            self._on_end(self)

    # --- the socket ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read a reply."""
        try:
            for body in self._framer.feed(data):
                if self._request is None:
                    raise Malformed("nobody asked")
                self._settle(decode_reply(body, self._request))
        except Malformed as error:
            strange = Strange()
            strange.__cause__ = error
            self.kill(strange)

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has ended, or was dismissed."""
        self._end()


def _nothing() -> None:
    """Nobody waits."""


def _spawn(library: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process; this takes some milliseconds."""
    bare = {name: str(path) for name, path in _BARE.items()} if library.startswith(_SPARING) else {}
    # No credentials here: every user of the machine can read a command line.
    argument = json.dumps([sys.path, bare])
    return subprocess.Popen(  # noqa: S603 - this interpreter, and code of ours
        [sys.executable, "-c", BOOTSTRAP, argument],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
