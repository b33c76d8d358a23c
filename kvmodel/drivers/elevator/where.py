"""Where a URL leads: ``elevator://host:port/database`` or ``elevator+ipc://%2Fpath%2Fof%2Fsocket/database``."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import SplitResult, unquote

from kvmodel.drivers.elevator.session import DEFAULT_PORT
from kvmodel.errors import ValidationError

__all__ = ["Where", "parse_url"]


class Where(NamedTuple):
    """What a URL says.

    Attributes:
        endpoint: Where the server is, as ZeroMQ says it.
        address: The URL without options, for messages.
        database: The database; empty where the URL names none.
    """

    endpoint: str
    address: str
    database: str


def parse_url(url: SplitResult) -> Where:
    """Take a URL apart. Raises ``ValidationError``."""
    if url.fragment:
        raise ValidationError("a # in the path of a URL has to be written %23", field="url")
    if url.username or url.password:
        raise ValidationError("Elevator knows no users: leave user name and password out", field="url")
    if url.scheme == "elevator+ipc" and not url.netloc:  # The whole path is the socket's, not the database's.
        return Where(_ipc(unquote(url.path)), f"{url.scheme}://{url.path}", "")
    database = _database(url.path[1:])
    if url.scheme == "elevator+ipc":
        return Where(_ipc(unquote(url.netloc)), f"{url.scheme}://{url.netloc}{url.path}", database)
    host = url.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    port = url.port or DEFAULT_PORT
    return Where(f"tcp://{host}:{port}", f"{url.scheme}://{host}:{port}{url.path}", database)


def _database(path: str) -> str:
    if "/" in path:
        raise ValidationError(
            "a database's name has no slash; a path on the server's disk is written with %2F: "
            "elevator://host:port/%2Fsrv%2Fdata",
            field="url",
        )
    return unquote(path)


def _ipc(path: str) -> str:
    if not path or "\0" in path:
        raise ValidationError("give the socket's path: elevator+ipc://%2Frun%2Felevator.sock/database", field="url")
    return f"ipc://{path}"
