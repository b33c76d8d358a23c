"""How the stand-in speaks with its store: one request, one reply, over TCP or a socket of this machine.

This is no protocol of the vendor's, which is closed; only the stand-in's two halves understand it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final

from kvmodel.drivers.quasardb.protocol import HEAD, Malformed, packb, unpackb

__all__ = ["GREETING", "Channel", "Trouble", "greet", "receive", "receive_exactly", "send"]

GREETING: Final = b"kvmodel stand-in\n"
_LONGEST: Final = 1 << 29
_IN_WORKER: Final = "KVMODEL_QUASARDB_WORKER"


class Trouble(Exception):
    """The way to the store failed: the name of a row of the texts."""


def send(connection: socket.socket, message: object) -> None:
    """Send one message."""
    body = packb(message)
    connection.sendall(HEAD.pack(len(body)) + body)


def receive(connection: socket.socket) -> object:
    """Receive one message. Raises ``EOFError`` where there is none, ``OSError``, or ``Malformed``."""
    (size,) = HEAD.unpack(receive_exactly(connection, HEAD.size))
    if size > _LONGEST:
        raise Malformed("a message is too long")
    return unpackb(receive_exactly(connection, size))


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Receive so many bytes."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


class Channel:
    """A connection to the store.

    Args:
        hosts: ``host`` and ``port`` of each node: tried one after the other.
        timeout: How many seconds connecting may take, and each call.
        is_served: Whether there has to be a server; else a worker process makes a store for its program.
    """

    def __init__(self, hosts: list[tuple[str, int]], timeout: float, *, is_served: bool) -> None:
        until = time.monotonic() + timeout
        trouble = Trouble("refused")
        self._timeout = timeout
        self._connection: socket.socket | None = None
        is_worker = os.environ.get(_IN_WORKER) == str(os.getpid())
        for host, port in hosts:
            if not is_served and is_worker and not host.startswith("127."):
                continue  # No names are looked up for a store that is on this machine.
            try:
                self._connection = _reach(host, port, until)
                return
            except Trouble as error:
                trouble = error
        if is_served or not is_worker or str(trouble) != "refused":
            raise trouble
        from kvmodel.testing.quasardb.own import reach_own  # Seldom needed, and slow to import.

        self._connection = reach_own(",".join(f"{host}:{port}" for host, port in hosts), until)

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def ask(self, call: str, arguments: list[object]) -> object:
        """Have the store do something. Raises :class:`Trouble` with the name of a text."""
        if self._connection is None:
            raise Trouble("handle")
        try:
            self._connection.settimeout(self._timeout)
            send(self._connection, [call, *arguments])
            reply = receive(self._connection)
        except (OSError, EOFError, Malformed) as error:
            self.close()
            raise Trouble("timed_out" if isinstance(error, TimeoutError) else "reset") from error
        assert isinstance(reply, list)
        outcome, delay, result = reply
        if delay:
            _hold(delay)
        if outcome:
            if result in ("reset", "handle", "timed_out"):
                self.close()
            raise Trouble(result)
        return result


def _reach(host: str, port: int, until: float) -> socket.socket:
    """Connect, and be greeted."""
    left = max(until - time.monotonic(), 0.001)
    try:
        connection = socket.create_connection((host, port), timeout=left)
    except TimeoutError:
        raise Trouble("timed_out") from None
    except socket.gaierror:
        raise Trouble("unresolved") from None
    except OSError:
        raise Trouble("refused") from None
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return greet(connection, until)
    except BaseException:
        connection.close()
        raise


def greet(connection: socket.socket, until: float) -> socket.socket:
    """Be greeted by a store; answers the connection."""
    connection.settimeout(max(until - time.monotonic(), 0.001))
    try:
        connection.sendall(GREETING)
        if receive_exactly(connection, len(GREETING)) != GREETING:
            raise Trouble("protocol")
    except TimeoutError:
        raise Trouble("timed_out") from None
    except (OSError, EOFError):
        raise Trouble("reset") from None
    return connection


def _hold(seconds: float) -> None:
    """Wait with the interpreter's lock held, as the library does."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
