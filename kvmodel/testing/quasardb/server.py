"""The other half of the stand-in: it holds the data that all workers share. It is no database."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from kvmodel.drivers.quasardb.protocol import Malformed
from kvmodel.testing.quasardb.store import Refusal, Store
from kvmodel.testing.quasardb.wire import GREETING, receive, receive_exactly, send

__all__ = ["LocalServer", "Mishap", "serve_program"]

_LIBRARY: Final = "kvmodel.testing.quasardb.served"
_STORE_CALLS: Final = frozenset(
    (
        "get",
        "put",
        "update",
        "remove",
        "remove_if",
        "compare_and_swap",
        "get_and_update",
        "get_and_remove",
        "add",
        "kind_of",
        "expires_at",
        "get_expiry",
        "attach",
        "detach",
        "tags",
        "tagged",
        "find",
        "names",
        "count",
        "purge_all",
    )
)


class Mishap:
    """How one of the next calls goes wrong.

    Args:
        fault: The row of the texts that the library raises; ``None`` for none.
        call: Which call of the store: ``get``, ``put``, ``names``...; ``None`` for the next one, whatever it is.
        applies: Whether the call has its effect nevertheless.
        hold: How many seconds the library then keeps the interpreter's lock, inside the worker.
        hangs_up: Whether the server closes the connection instead of answering.
        skips: How many such calls go well before.
    """

    def __init__(
        self,
        fault: str | None = None,
        *,
        call: str | None = None,
        applies: bool = False,
        hold: float = 0.0,
        hangs_up: bool = False,
        skips: int = 0,
    ) -> None:
        self.fault = fault
        self.call = call
        self.applies = applies
        self.hold = hold
        self.hangs_up = hangs_up
        self.skips = skips


class Service:
    """Answers the calls of connections; each has a thread."""

    def __init__(self, store: Store, listener: socket.socket, where: str) -> None:
        self.store = store
        self.mishaps: list[Mishap] = []
        self.calls: list[str] = []
        self._listener = listener
        self._where = where
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def accept(self) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_closed:
                    connection.close()
                    return
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Close everything."""
        with self._lock:
            self._is_closed = True
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if receive_exactly(connection, len(GREETING)) == GREETING:
                    connection.sendall(GREETING)
                    while self._answer(connection, receive(connection)):
                        pass
        except (OSError, EOFError, Malformed, ValueError, TypeError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)

    def _answer(self, connection: socket.socket, message: object) -> bool:
        """Carry out a call. Answers whether the connection goes on."""
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise Malformed("no call")
        call, *arguments = message
        with self.store.lock:
            self.calls.append(call)
            mishap = self._next_mishap(call)
            if mishap is None or mishap.applies or mishap.fault is None:
                reply = self._do(call, arguments)
            else:
                reply = [1, 0, mishap.fault]
        if mishap is not None:
            if mishap.hangs_up:
                return False
            if mishap.fault is not None:
                reply = [1, 0, mishap.fault]
            reply[1] = mishap.hold
        send(connection, reply)
        return True

    def _next_mishap(self, call: str) -> Mishap | None:
        for mishap in self.mishaps:
            if mishap.call in (None, call):
                if mishap.skips:
                    mishap.skips -= 1
                    continue
                self.mishaps.remove(mishap)
                return mishap
        return None

    def _do(self, call: str, arguments: list[object]) -> list[object]:
        try:
            if call in _STORE_CALLS:
                return [0, 0, getattr(self.store, call)(*arguments)]
            if call == "node":
                return [0, 0, self._node(*map(str, arguments))]
            if call == "endpoints":
                return [0, 0, [self._where]]
        except Refusal as refusal:
            return [1, 0, str(refusal)]
        raise Malformed("no such call")

    def _node(self, what: str, node: str) -> dict[str, object]:
        address = node.removeprefix("qdb://")
        if what == "config":
            return {"global": {"cluster": {"replication_factor": 1}}, "local": {"network": {"listen_on": address}}}
        if what == "status":
            return {"overall": {"entries": {"count": len(self.store)}}, "node_id": "0-0-0-1", "listening": address}
        place = {"reference": "0-0-0-1", "endpoint": address}
        return {"predecessor": place, "center": place, "successor": place}


class LocalServer:
    """A stand-in's store on loopback, in threads of this process. ``with LocalServer() as server: server.url``.

    All is in memory, and gone when it stops. ``url`` names the library that a worker imports.

    Args:
        store: The data; by default a store of its own.
        port: Where to listen; 0 for any port.
    """

    def __init__(self, store: Store | None = None, *, port: int = 0) -> None:
        self.store = Store() if store is None else store
        self._port = port
        self._service: Service | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._service = Service(self.store, listener, self.address)
        self._thread = threading.Thread(target=self._service.accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and all connections; what is stored stays, for :meth:`start`."""
        service, self._service = self._service, None
        if service is not None and self._thread is not None:
            service.close()
            self._thread.join()

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where it listens: ``host:port``."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """What to connect with."""
        return f"qdb://{self.address}?library={_LIBRARY}"

    @property
    def mishaps(self) -> list[Mishap]:
        """What will go wrong next: append to it."""
        return self._running.mishaps

    @property
    def calls(self) -> list[str]:
        """The calls that came in, in order."""
        return self._running.calls

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._running.connections

    @property
    def _running(self) -> Service:
        assert self._service is not None, "start() it first"
        return self._service


def serve_program(path: str, program: int) -> None:
    """Serve the workers of one program at a socket of this machine, until the program ends."""
    mask = os.umask(0o077)
    try:
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
        except OSError:
            if not _is_stale(path):
                return  # Another worker was faster.
            Path(path).unlink(missing_ok=True)
            listener.bind(path)
        listener.listen()
    finally:
        os.umask(mask)
    try:
        service = Service(Store(), listener, "127.0.0.1:2836")
        threading.Thread(target=service.accept, daemon=True).start()
        _wait_for_end(program)
    finally:
        Path(path).unlink(missing_ok=True)


def _is_stale(path: str) -> bool:
    """Whether nobody listens at a socket that is there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return True
        return False


def _poll(program: int) -> None:
    while True:
        try:
            os.kill(program, 0)
        except OSError:
            return
        time.sleep(0.5)


def _wait_for_end(program: int) -> None:
    """Wait until a process has ended."""
    try:
        handle = os.pidfd_open(program)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        _poll(program)
        return
    select.select([handle], [], [])
