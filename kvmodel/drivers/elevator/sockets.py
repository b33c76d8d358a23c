"""Sockets of ZeroMQ on asyncio: one connection each, one request under way in each.

Rules.

* Replies carry no id. So a socket sends a request only when the last one was answered; it is closed when an answer did
  not come in time, when its caller was cancelled, when something came that nobody asked for, and when its connection
  ended. Closing it takes the answer that may still come with it.
* A socket never connects again by itself (ZeroMQ would send what is queued to whoever listens by then, which may be a
  server that was restarted). A request is handed over only while the connection stands: otherwise it was surely not
  sent, and the caller is told so.

Theory of operation. ZeroMQ's own thread does the work of the network; a socket's descriptor becomes readable when
something has changed, at the edge only, so everything that is there is taken whenever we look, and we look after each
send too. What becomes of the connection is told by a second socket, the monitor.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import zmq

from kvmodel.errors import TimedOut, Unavailable

__all__ = ["Lost", "Unsent", "Wire", "wait_until"]

T = TypeVar("T")

_EVENT: Final = struct.Struct("=HI")
# Plain numbers: the arithmetic of enumerations is ten times slower, and is done five times a request.
_READABLE: Final = int(zmq.POLLIN)
_AT_ONCE: Final = int(zmq.NOBLOCK)
_STANDS: Final = int(zmq.Event.HANDSHAKE_SUCCEEDED)
_ENDS: Final = int(
    zmq.Event.CLOSED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class Unsent(Exception):
    """The request was not handed over: the connection had ended before, or did not stand yet."""


class Lost(Exception):
    """The connection ended while an answer was awaited."""


class Wire:
    """One socket.

    Args:
        context: Where it is made.
        endpoint: Where it connects to, as ZeroMQ says it.
        store: The store's address, for messages.
        ended: Called when the connection ends, unless it was closed from here.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, store: str, ended: Callable[[], None]
    ) -> None:
        self._store = store
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._stands = self._loop.create_future()
        self._answer: asyncio.Future[list[bytes]] | None = None
        self.is_open = True
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._monitor = self._socket.get_monitor_socket(_STANDS | _ENDS)
        self._socket_fd = int(self._socket.getsockopt(zmq.FD))
        self._monitor_fd = int(self._monitor.getsockopt(zmq.FD))
        self._loop.add_reader(self._socket_fd, self._take_frames)
        self._loop.add_reader(self._monitor_fd, self._take_events)
        try:
            self._socket.connect(endpoint)
            self._take_events()
        except zmq.ZMQError as error:
            self.close()
            raise Unavailable(f"this address can't be connected to: {error}", store=store) from error

    async def wait(self, until: float) -> None:
        """Wait until the connection stands. Raises ``Unavailable``, and ``TimedOut`` where nobody can tell."""
        try:
            await wait_until(self._stands, until)
        except BaseException as error:
            self.close()
            if isinstance(error, Lost):
                raise Unavailable(
                    "no Elevator answers at this address: is the server running?", store=self._store
                ) from error
            if isinstance(error, TimeoutError):
                raise TimedOut(
                    "no connection in time, and nothing was sent: raise the timeout, or look at the server",
                    store=self._store,
                ) from error
            raise

    async def exchange(self, request: bytes, until: float) -> list[bytes]:
        """Send a request and answer the frames that come back.

        Raises ``Unsent`` if it was not sent, ``Lost`` and ``TimeoutError`` if no answer came. After any error, and
        after a cancellation, the socket is closed.
        """
        try:
            self._hand_over(request)
            assert self._answer is not None
            if self._answer.done():
                await asyncio.sleep(0)  # Others have their turn, even if answers are quicker than the event loop.
            return await wait_until(self._answer, until)
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None

    def _hand_over(self, request: bytes) -> None:
        self._take_events()
        self._take_frames()  # What is there before the request was sent is no answer to it.
        if not self.is_open:
            raise Unsent
        try:
            self._socket.send(request, _AT_ONCE)
        except zmq.ZMQError as error:
            raise Unsent from error
        self._answer = self._loop.create_future()
        self._take_frames()

    # --- what ZeroMQ tells --------------------------------------------------------------------------------------------

    def _take_frames(self) -> None:
        """Take everything that has come. What nobody asked for spoils the socket."""
        while self.is_open and int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE:
            frames = self._socket.recv_multipart(_AT_ONCE)
            if self._answer is None or self._answer.done():
                self.close()
            else:
                self._answer.set_result(frames)

    def _take_events(self) -> None:
        while self.is_open and int(self._monitor.getsockopt(zmq.EVENTS)) & _READABLE:
            (event, _) = _EVENT.unpack(self._monitor.recv_multipart(_AT_ONCE)[0])
            if event == _STANDS:
                if not self._stands.done():
                    self._stands.set_result(None)
            elif event & _ENDS:
                self._end()

    def _end(self) -> None:
        """The connection has ended. An answer that came before counts, if ZeroMQ still has it."""
        self._take_frames()
        self._ended()
        for future in (self._stands, self._answer):
            if future is not None and not future.done():
                future.set_exception(Lost())
        self.close()

    def close(self) -> None:
        """Let the connection go, with what is under way in it. Closing twice is allowed."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._socket_fd)
        self._loop.remove_reader(self._monitor_fd)
        with suppress(zmq.ZMQError):
            self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        if not self._stands.done():
            self._stands.set_exception(Lost())
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost())
        with suppress(asyncio.CancelledError):
            self._stands.exception()  # Nobody may be waiting for it any more, and then nobody has to know.


async def wait_until(future: asyncio.Future[T], until: float) -> T:
    """Await a future until a point in time. Raises ``TimeoutError``."""
    if not future.done():
        timer = future.get_loop().call_later(max(until - time.monotonic(), 0), _expire, future)
        try:
            return await future
        finally:
            timer.cancel()
    return future.result()


def _expire(future: asyncio.Future[T]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
