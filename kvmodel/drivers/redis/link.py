"""One connection to one server: opened by redis-py, parsed by hiredis, used for one exchange after the other.

Rules.

* An exchange is some commands and as many replies. One that was cut short, by whatever, leaves a connection that is
  dropped and never used again: nobody gets a reply to somebody else's command.
* redis-py is given no timeouts and no retries: when to give up, and what may be sent again, is decided above.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import attrs
import hiredis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import InvalidResponse, RedisError

__all__ = ["Address", "Link", "LinkLost", "Reply", "Settings", "Unreachable", "open_link", "pool_arguments"]

Reply: TypeAlias = Any
"""A reply as redis-py parses it; a refusal is a ``RedisError``."""

_pack = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)

Words: TypeAlias = "Sequence[bytes | str | int]"
"""One command."""

_MISSING: Final = object()


class Unreachable(Exception):
    """There is no connection to be had; nothing was sent. The cause tells why."""


class LinkLost(Exception):
    """The connection broke during an exchange; what was sent may have been carried out."""


@attrs.frozen(order=True)
class Address:
    """Where a server listens: a host and a port, or the path of a socket."""

    host: str
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _ContextConnection(SSLConnection):
    """A connection that is encrypted as an ``ssl.SSLContext`` says."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, object]:
        arguments = dict(cast("Any", super())._connection_arguments())
        arguments["ssl"] = self._context
        return arguments


@attrs.frozen(kw_only=True, repr=False)
class Settings:
    """How to connect.

    Attributes:
        username, password: The credentials, if any are needed.
        database: The number of the database.
        client_name: What ``CLIENT LIST`` is to show.
        connect_timeout: How many seconds a connection may take.
        tls: How to encrypt, if at all.
    """

    username: str | None = None
    password: str | None = None
    database: int = 0
    client_name: str | None = None
    connect_timeout: float = 5.0
    tls: ssl.SSLContext | None = None

    def arguments(self) -> dict[str, Any]:
        """Answer what redis-py's connections take."""
        return {
            "username": self.username,
            "password": self.password,
            "db": self.database,
            "client_name": self.client_name,
            "socket_connect_timeout": self.connect_timeout,
            "socket_timeout": None,
            "protocol": 2,
        }


class Link(asyncio.Protocol):
    """A connection that is open.

    redis-py has opened it: encryption, credentials, database and name are settled. From then on what comes is parsed
    here, by hiredis, many replies at once.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = connection._writer.transport
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=type(connection._parser).parse_error, notEnoughData=_MISSING
        )
        self._waiting: asyncio.Future[list[Reply]] | None = None
        self._replies: list[Reply] = []
        self._wanted = 0
        self._broken: Exception | None = None
        self._transport.set_protocol(self)

    @property
    def is_usable(self) -> bool:
        """Whether the other side has neither closed it nor said anything unasked."""
        return self._broken is None and not self._replies and not self._transport.is_closing()

    async def exchange(self, commands: Sequence[Words], until: float) -> list[Reply]:
        """Send commands and read as many replies. Raises ``LinkLost`` and ``TimeoutError``."""
        if len(commands) == 1:
            self._transport.write(_pack(tuple(commands[0])))
        else:
            self._transport.write(b"".join([_pack(tuple(words)) for words in commands]))
        timer = self._loop.call_at(self._loop.time() + until - time.monotonic(), self._expire)
        try:
            return await self._take(len(commands))
        finally:
            timer.cancel()

    async def receive(self) -> Reply:
        """Wait for what the server says unasked, however long that takes. Raises ``LinkLost``."""
        return (await self._take(1))[0]

    async def _take(self, count: int) -> list[Reply]:
        if len(self._replies) < count:
            if self._broken is not None:
                raise LinkLost("the connection broke") from self._broken
            self._wanted = count
            self._waiting = self._loop.create_future()
            try:
                return await self._waiting
            finally:
                self._waiting = None
        taken, self._replies = self._replies[:count], self._replies[count:]
        return taken

    def abort(self) -> None:
        """Close it at once; what was not sent yet is not sent any more."""
        self._transport.abort()
        self._connection._close()  # Else redis-py takes it for forgotten.

    # --- called by the transport --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MISSING:
                self._replies.append(reply)
        except RedisError as error:
            self._fail(error)
            self._transport.abort()
            return
        waiting = self._waiting
        if waiting is not None and len(self._replies) >= self._wanted and not waiting.done():
            taken, self._replies = self._replies[: self._wanted], self._replies[self._wanted :]
            waiting.set_result(taken)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._fail(exc or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._broken is None:
            self._broken = error
        if self._waiting is not None and not self._waiting.done():
            lost = LinkLost("the connection broke")
            lost.__cause__ = error
            self._waiting.set_exception(lost)

    def _expire(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(TimeoutError("no answer in time"))


async def open_link(address: Address, settings: Settings) -> Link:
    """Connect. Raises ``Unreachable``, whose cause is redis-py's error."""
    connection = _make(address, settings)
    try:
        await connection.connect()
    except (RedisError, OSError) as error:
        _give_up(connection)
        raise Unreachable("no connection") from error
    except BaseException:
        _give_up(connection)
        raise
    return Link(connection)


def _make(address: Address, settings: Settings) -> Any:
    options = pool_arguments(address, settings)
    return options.pop("connection_class")(**options)


def pool_arguments(address: Address, settings: Settings) -> dict[str, Any]:
    """Answer what redis-py's pools take to make such connections."""
    options = settings.arguments()
    if not address.port:
        return {"connection_class": UnixDomainSocketConnection, "path": address.host, **options}
    options |= {"host": address.host, "port": address.port}
    if settings.tls is None:
        return {"connection_class": Connection, **options}
    return {"connection_class": _ContextConnection, "context": settings.tls, **options}


def _give_up(connection: Any) -> None:
    writer = getattr(connection, "_writer", None)
    if writer is not None:
        writer.transport.abort()
    connection._close()
