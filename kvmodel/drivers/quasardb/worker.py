"""A worker process: it imports the library, and carries out one call after the other.

Theory of operation. The library holds the interpreter's lock for as long as a call lasts, up to minutes. In here that
stops nobody. Requests come in over a socket that is this process's standard input, and replies go back over it. The
program that started the worker kills it when a call takes too long. A worker does not depend on that:

* When the socket ends, the program has ended, and so does the worker. While it waits for a request it is told so by
  the socket; inside a call, with the interpreter's lock held, by a signal that the kernel sends when the other end
  hangs up, and whose default is to end the process.
* A timer ends it a moment after the time that the request gave to its call.

Rules. Nothing is printed, and no text of the library leaves the worker: see :mod:`~kvmodel.drivers.quasardb.errors`.
This module and what it imports load next to nothing of kvmodel, since a worker is to start quickly.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from kvmodel.drivers.quasardb.errors import classify, function_of, scrub
from kvmodel.drivers.quasardb.protocol import (
    Argument,
    Failure,
    Framer,
    Malformed,
    Request,
    decode_request,
    encode_failure,
    encode_reply,
)

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["BOOTSTRAP", "Session", "main"]

BOOTSTRAP: Final = """\
import json, sys, types
paths, packages = json.loads(sys.argv[1])
sys.path[:] = paths
for name, path in packages.items():
    package = types.ModuleType(name)
    package.__path__ = [path]
    sys.modules[name] = package
from kvmodel.drivers.quasardb.worker import main
main()
"""
"""What a worker's interpreter runs: with the paths of the program; and with bare packages in place of those whose
``__init__`` would load what a worker does not need."""

IN_WORKER: Final = "KVMODEL_QUASARDB_WORKER"
"""The variable of the environment that holds a worker's process id, inside of it."""

_GRACE: Final = 2.0
_LOOK_UP: Final = 5.0
_CHUNK: Final = 1 << 18
_FIRST_LIMIT: Final = 1 << 16
_ROOM_OF_HEADS: Final = 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Settings(NamedTuple):
    """How to connect; the arguments of the operation ``connect``."""

    library: str
    uri: str
    user_name: str
    user_private_key: str
    cluster_public_key: str
    user_security_file: str
    cluster_public_key_file: str
    timeout: int
    encrypts: bool
    compression: str
    parallelism: int
    max_bytes: int


class Session:
    """One connection to the cluster, made anew when it is lost."""

    def __init__(self) -> None:
        self.max_bytes = _FIRST_LIMIT
        self._settings: Settings | None = None
        self._library: ModuleType | None = None
        self._cluster: Any = None

    def answer(self, request: Request) -> bytes:
        """Carry out a request, and answer the reply."""
        sent = False
        try:
            if request.name == "connect":
                self._configure(Settings(*cast("tuple[Any, ...]", request.arguments)))
            cluster = self._connected()
            sent = request.name != "connect"
            result = _CALLS[request.name](self, cluster, *request.arguments) if sent else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the program is to be told
            return encode_failure(request.number, self._failure(error, request, sent))
        reply = encode_reply(request.number, result)
        if len(reply) > self.max_bytes:
            failure = Failure("reply_too_large", "InputBufferTooSmallError", "", "", sent)
            return encode_failure(request.number, failure)
        return reply

    @property
    def library(self) -> ModuleType:
        """The vendor's package, or what stands in for it."""
        assert self._settings is not None
        if self._library is None:
            self._library = importlib.import_module(self._settings.library)
        return self._library

    def _configure(self, settings: Settings) -> None:
        self.close()
        self._settings = settings
        self.max_bytes = settings.max_bytes

    def _connected(self) -> Any:
        if self._cluster is not None:
            return self._cluster
        library, settings = self.library, self._settings
        assert settings is not None
        given = {
            name: value
            for name, value in settings._asdict().items()
            if value and name.startswith(("user_", "cluster_"))
        }
        self._cluster = library.Cluster(
            settings.uri,
            **given,
            timeout=timedelta(milliseconds=settings.timeout),
            enable_encryption=settings.encrypts,
            compression_mode=getattr(library.Options.Compression, settings.compression),
            client_max_parallelism=settings.parallelism,
        )
        return self._cluster

    def close(self) -> None:
        """Let the connection go."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with contextlib.suppress(Exception):  # It was to be thrown away.
                cluster.close()

    def _failure(self, error: Exception, request: Request, sent: bool) -> Failure:
        kind, text = type(error).__name__, str(error)
        fault = classify(kind, text)
        if fault.reconnects:
            self.close()
        words = "" if fault.fragments or fault.classes else scrub(text, self._secrets(request))
        return Failure(fault.name, kind, function_of(text), words, sent)

    def _secrets(self, request: Request) -> list[str]:
        """All texts that must not be shown: arguments and credentials."""
        found: list[str] = []
        for argument in (*request.arguments, *(self._settings or ())):
            for item in argument if isinstance(argument, list) else [argument]:
                if isinstance(item, bytes):
                    found.append(item[:_ROOM_OF_HEADS].decode("utf-8", "replace"))
                elif isinstance(item, str):
                    found.append(item)
        return found


# --- calls ------------------------------------------------------------------------------------------------------------


def _get_many(session: Session, cluster: Any, names: Sequence[str], room: int) -> list[bytes | None]:
    """Get one entry after the other, until ``room`` bytes are found. What fails is left to be asked for again."""
    found: list[bytes | None] = []
    size = 0
    for name in names:
        try:
            content = cluster.blob(name).get()
        except Exception as error:
            if classify(type(error).__name__, str(error)).name == "not_found":
                found.append(None)
                continue
            if found:
                return found
            raise
        size += len(content)
        if found and size > room:
            return found
        found.append(content)
    return found


def _expires_at(session: Session, cluster: Any, name: str, moment: int | None) -> None:
    when = session.library.never_expires if moment is None else _EPOCH + timedelta(microseconds=moment)
    cluster.blob(name).expires_at(when)


def _get_expiry_time(session: Session, cluster: Any, name: str) -> int | None:
    when = cluster.blob(name).get_expiry_time()
    return None if when.year == _EPOCH.year else (when - _EPOCH) // timedelta(microseconds=1)


def _swap(session: Session, cluster: Any, name: str, new: bytes, old: bytes) -> bytes | None:
    return cluster.blob(name).compare_and_swap(new, old) or None


_Call = Callable[..., Argument]

_CALLS: Final[dict[str, _Call]] = {
    "get": lambda session, cluster, name: cluster.blob(name).get(),
    "get_many": _get_many,
    "put": lambda session, cluster, name, data: cluster.blob(name).put(data),
    "update": lambda session, cluster, name, data: cluster.blob(name).update(data),
    "remove": lambda session, cluster, name: cluster.blob(name).remove(),
    "remove_if": lambda session, cluster, name, data: cluster.blob(name).remove_if(data),
    "compare_and_swap": _swap,
    "get_and_update": lambda session, cluster, name, data: cluster.blob(name).get_and_update(data),
    "get_and_remove": lambda session, cluster, name: cluster.blob(name).get_and_remove(),
    "exists": lambda session, cluster, name: cluster.blob(name).exists(),
    "expires_at": _expires_at,
    "expires_from_now": lambda session, cluster, name, span: cluster.blob(name).expires_from_now(
        timedelta(microseconds=span)
    ),
    "get_expiry_time": _get_expiry_time,
    "get_integer": lambda session, cluster, name: cluster.integer(name).get(),
    "put_integer": lambda session, cluster, name, number: cluster.integer(name).put(number),
    "update_integer": lambda session, cluster, name, number: cluster.integer(name).update(number),
    "add_integer": lambda session, cluster, name, number: cluster.integer(name).add(number),
    "attach_tag": lambda session, cluster, name, tag: cluster.blob(name).attach_tag(tag),
    "detach_tag": lambda session, cluster, name, tag: cluster.blob(name).detach_tag(tag),
    "get_tags": lambda session, cluster, name: cluster.blob(name).get_tags(),
    "get_tagged": lambda session, cluster, tag: cluster.tag(tag).get_entries(),
    "find": lambda session, cluster, query: cluster.find(query),
    "prefix_get": lambda session, cluster, prefix, count: cluster.prefix_get(prefix, count),
    "prefix_count": lambda session, cluster, prefix: cluster.prefix_count(prefix),
    "suffix_get": lambda session, cluster, suffix, count: cluster.suffix_get(suffix, count),
    "suffix_count": lambda session, cluster, suffix: cluster.suffix_count(suffix),
    "node_config": lambda session, cluster, uri: json.dumps(cluster.node_config(uri)),
    "node_status": lambda session, cluster, uri: json.dumps(cluster.node_status(uri)),
    "node_topology": lambda session, cluster, uri: json.dumps(cluster.node_topology(uri)),
    "endpoints": lambda session, cluster: cluster.endpoints(),
    "purge_all": lambda session, cluster, span: cluster.purge_all(timedelta(microseconds=span)),
    "version": lambda session, cluster: session.library.version(),
    "build": lambda session, cluster: session.library.build(),
}


# --- the process ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Serve the socket that is standard input, until it ends."""
    connection = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    os.environ[IN_WORKER] = str(os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends it to all; the program decides.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    _serve(connection)


def _serve(connection: socket.socket) -> None:
    session = Session()
    program = os.getppid()
    framer = Framer(_FIRST_LIMIT)
    connection.settimeout(_LOOK_UP)
    while True:
        try:
            data = connection.recv(_CHUNK)
        except TimeoutError:
            if os.getppid() != program:
                sys.exit()
            continue
        except OSError:
            sys.exit()
        if not data:
            session.close()
            sys.exit()
        try:
            for body in framer.feed(data):
                request = decode_request(body)
                reply = _carry_out(session, request)
                connection.settimeout(None)
                connection.sendall(reply)
                connection.settimeout(_LOOK_UP)
                if request.name == "connect":
                    framer = Framer(session.max_bytes)
        except (Malformed, OSError):
            sys.exit(1)


def _carry_out(session: Session, request: Request) -> bytes:
    """Carry out a request; end with the program, or when the time is over, though the interpreter be blocked."""
    signal.setitimer(signal.ITIMER_REAL, request.limit / 1000 + _GRACE)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        return session.answer(request)
    finally:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
