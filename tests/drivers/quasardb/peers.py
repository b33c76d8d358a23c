"""Loopback ports behind which something is wrong, as the recorded observations name them."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType

_GARBAGE = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + b"\0" * 512


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Peer:
    """Accepts connections, and is odd in one way: silent, close, readclose, reset or garbage."""

    def __init__(self, oddity: str) -> None:
        self._oddity = oddity
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._kept: list[socket.socket] = []
        self.accepted = 0
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._kept:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            # The library opens several connections at once, and may say nothing on some of them.
            threading.Thread(target=self._try, args=(connection,), daemon=True).start()

    def _try(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self._be_odd(connection)

    def _be_odd(self, connection: socket.socket) -> None:
        if self._oddity == "silent":
            self._kept.append(connection)
            return
        if self._oddity == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with connection:
            if self._oddity == "readclose":
                connection.recv(1)
            if self._oddity == "garbage":
                connection.recv(1)
                connection.sendall(_GARBAGE)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(1)
                while connection.recv(4096):
                    pass


ODDITIES = ("silent", "close", "readclose", "reset", "garbage")


@contextmanager
def odd_ports() -> Iterator[dict[str, int]]:
    """A port for each oddity, and a closed one.

    They are served by another process: a library that keeps this one's lock would keep its peers from answering.
    """
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()  # It ends when its input does, however this process ends.


def main() -> None:
    """Serve until standard input ends."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(Peer(name)).port for name in ODDITIES}
        print(json.dumps(ports | {"closed": closed_port()}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
