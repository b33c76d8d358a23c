"""One Redis server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis

from kvmodel.testing.children import start_child
from kvmodel.testing.redis.binary import find_binary

__all__ = ["RedisServer", "free_port", "wait_for"]

_ATTEMPTS: Final = 8
_STARTING_SECONDS: Final = 20.0
_PAUSE: Final = 0.01
_BUS: Final = 10_000
"""How far the port of the cluster's bus is from the server's own."""
_LONGEST_SOCKET: Final = 100
"""What a path of a socket may have everywhere."""


class RedisServer:
    """A server on ``127.0.0.1``, as a context manager or with :meth:`start` and :meth:`close`.

    On Linux it outlives nobody, however its owner ends.

    Args:
        port: Where it listens; 0 for any free port, which it keeps when it is started again.
        persistent: Whether every write is on the disk before it is acknowledged.
        options: Further settings, as in ``redis.conf``.
        directory: Where its files are; a temporary folder, that is removed at the end, if none is given.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        persistent: bool = False,
        options: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.binary = find_binary()
        self.port = port
        self._has_own_port = port != 0
        self._persistent = persistent
        self._options = dict(options or {})
        self._is_temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kvmodel-redis-"))
        self.socket_path = self.directory / "socket"
        if len(str(self.socket_path)) > _LONGEST_SOCKET:
            self.socket_path = Path("/tmp") / f"kvmodel-{secrets.token_hex(6)}.sock"  # noqa: S108
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<RedisServer {self.binary} on port {self.port}, process {self.pid}>"

    def __enter__(self) -> RedisServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What ``kv.connect`` takes."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """The same, over a socket."""
        return f"redis+unix://{self.socket_path}"

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def command(self, *words: object, timeout: float = 5.0) -> Any:
        """Ask it something, as redis-cli does. Raises ``redis.RedisError``."""
        with self.client(timeout) as client:
            return client.execute_command(*words)

    def client(self, timeout: float = 5.0) -> redis.Redis[bytes]:
        """Answer redis-py's client of it."""
        password = self._options.get("requirepass")
        return redis.Redis(
            unix_socket_path=str(self.socket_path), password=password, socket_timeout=timeout, decode_responses=False
        )

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until it answers. Raises ``RuntimeError`` with its last words where it does not."""
        for _ in range(_ATTEMPTS):
            if not self._has_own_port:
                self.port = free_port()
            with (self.directory / "log").open("ab") as log:
                self._process = start_child([self.binary.path, *self._arguments()], log)
            self._is_paused = False
            if wait_for(self._has_answered, _STARTING_SECONDS) and self.is_running:
                self._has_own_port = True
                return
            self._end()
            if "in use" not in self._last_words():
                break
        raise RuntimeError(f"redis-server did not start: {self._last_words()}")

    def _has_answered(self) -> bool:
        """Whether it serves, or has ended."""
        if not self.is_running:
            return True
        try:
            return bool(self.command("PING", timeout=1.0))
        except redis.exceptions.AuthenticationError:
            return True
        except (redis.RedisError, OSError):
            return False

    def _arguments(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket_path),
            "dir": str(self.directory),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._persistent else "no",
            "appendfsync": "always" if self._persistent else "everysec",
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
            **self._options,
        }
        return [word for name, value in settings.items() for word in (f"--{name}", *(_words(value)))]

    def stop(self) -> None:
        """End it in good order."""
        self.resume()
        if self._process is not None and self.is_running:
            self._process.terminate()
        self._end()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None and self.is_running:
            self._process.kill()
        self._end()

    def pause(self) -> None:
        """Let it hang: connections stay, and nobody answers."""
        if self.is_running and self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)
            self._is_paused = True

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        if self._is_paused and self.is_running and self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)
        self._is_paused = False

    def restart(self) -> None:
        """Kill it if it runs, and start it again with what it had on its disk."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it and remove what it left."""
        self.kill()
        self.socket_path.unlink(missing_ok=True)
        if self._is_temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "log").read_text(encoding="utf-8", errors="replace")[-500:]
        return ""


def _words(value: str) -> list[str]:
    """Take a setting apart that has several words; an empty one is a word too."""
    return value.split(" ") if value else [""]


def free_port() -> int:
    """Answer a port that is free, with the one of a cluster's bus. Somebody else may be faster: try again then."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port + _BUS >= 1 << 16:
                port -= 2 * _BUS
            try:
                with socket.socket() as again:
                    if port != first.getsockname()[1]:
                        again.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + _BUS))
            except OSError:
                continue
            return port


def wait_for(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; answer whether it does."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True
