"""A PostgreSQL server of one's own, on loopback: found, set up in a temporary directory, and ended with its user."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from kvmodel.testing.picodata.wire import startup

__all__ = ["MissingPostgres", "PostgresServer", "find_postgres"]

_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "logging_collector": "off",
    "log_min_messages": "panic",
    "log_min_error_statement": "panic",
    "timezone": "UTC",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "dynamic_shared_memory_type": "mmap",
    "max_wal_senders": "0",
    "wal_level": "minimal",
}
_PATIENCE = 60.0


class MissingPostgres(RuntimeError):
    """There is no PostgreSQL here, or no user that may run it."""


def find_postgres() -> Path:
    """Answer the directory of ``initdb`` and ``postgres``. Raises :class:`MissingPostgres`."""
    for directory in _candidates():
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise MissingPostgres("no PostgreSQL: install it (Debian: apt-get install postgresql), or put initdb into the PATH")


def _candidates() -> Iterator[Path]:
    found = shutil.which("initdb")
    if found is not None:
        yield Path(found).parent
        yield Path(found).resolve().parent
    told = shutil.which("pg_config")
    if told is not None:
        done = subprocess.run([told, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - PostgreSQL
        if done.returncode == 0:
            yield Path(done.stdout.strip())
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin"):
        yield from sorted(Path("/").glob(pattern), reverse=True)


class PostgresServer:
    """A server for one program, with a fresh and empty data directory; ``with`` starts and ends it.

    It trusts whoever connects over loopback, and keeps nothing: for tests only.

    Attributes:
        port: Where it listens, on ``127.0.0.1``.
    """

    def __init__(self) -> None:
        self.binaries = find_postgres()
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Set up the directory, and start the server. Raises :class:`MissingPostgres`."""
        owner = self._owner()
        self._directory = Path(tempfile.mkdtemp(prefix="kvmodel-picodata-"))
        atexit.register(self.stop)  # Whoever fails to end it does not leave it behind.
        try:
            if owner is not None:
                shutil.chown(self._directory, owner)
            data = self._directory / "data"
            command = [str(self.binaries / "initdb"), "-D", str(data), "-U", "kvmodel", "-A", "trust", "-E", "UTF8"]
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
                [*self._prefix(owner), *command, "--no-locale", "--no-sync", "--no-instructions"],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                env=_environment(),
            )
            if done.returncode != 0:
                raise MissingPostgres(f"initdb failed: {done.stderr.strip()[:500]}")
            self._launch(owner, data)
        except BaseException:
            self.stop()
            raise

    def _launch(self, owner: str | None, data: Path) -> None:
        for _ in range(5):  # Somebody may take the port before the server does.
            self.port = _free_port()
            settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
            self._process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
                [
                    *self._prefix(owner),
                    str(self.binaries / "postgres"),
                    "-D",
                    str(data),
                    "-p",
                    str(self.port),
                    *settings,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
            if self._wait():
                return
            self._end()
        raise MissingPostgres("postgres did not come up")

    def _wait(self) -> bool:
        """Wait until the server answers. Whether it does."""
        assert self._process is not None
        until = time.monotonic() + _PATIENCE
        greeting = startup({"user": "kvmodel", "database": "postgres"})
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
                    link.sendall(greeting)
                    if link.recv(1) == b"R":
                        return True
            except OSError:
                pass
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        """End the server, and remove its directory. Stopping twice is allowed."""
        self._end()
        atexit.unregister(self.stop)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(3)  # SIGQUIT: at once. There is nothing that is worth a checkpoint.
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _prefix(self, owner: str | None) -> list[str]:
        """Answer what stands before a command: it changes the user, and lets the server die with this process."""
        tool = shutil.which("setpriv")
        if tool is not None:
            user = [] if owner is None else [f"--reuid={owner}", f"--regid={_group(owner)}", "--clear-groups"]
            return [tool, *user, "--pdeathsig=QUIT"]
        if owner is None:
            return []
        runner = shutil.which("runuser")
        if runner is None:
            raise MissingPostgres("PostgreSQL refuses to run as root, and there is neither setpriv nor runuser")
        return [runner, "-u", owner, "--"]

    def _owner(self) -> str | None:
        """Answer who has to run the server: PostgreSQL refuses to run as root."""
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            return None
        import pwd

        known = {entry.pw_name for entry in pwd.getpwall()}
        for name in ("postgres", "nobody"):
            if name in known:
                return name
        raise MissingPostgres("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _group(owner: str) -> int:
    import pwd

    return pwd.getpwnam(owner).pw_gid


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
