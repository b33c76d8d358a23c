"""One connection to one node.

Rules.

* One exchange at a time: whoever has the connection has it for himself.
* An exchange that does not end in a complete reply (cancelled, out of time, malformed) ends the connection. So does a
  byte that nobody asked for. It is then never used again, and no reply reaches a request that is not its own.
* A connection is handed out only after the node has answered on it once: a wrong cluster id, a full server and a
  stranger that speaks another protocol are noticed before a request is at stake.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, TypeVar, cast

import attrs

from kvmodel.drivers.arakoon.protocol import STAYS_OPEN, WHO_MASTER, Call, Refusal, ReplyParser, encode_prologue
from kvmodel.drivers.arakoon.wire import Limits, Malformed

__all__ = ["Address", "Connection", "ConnectionLost", "Endpoint", "Unreachable", "connect", "ends", "greet"]

R = TypeVar("R")


@attrs.frozen
class Address:
    """Where a node is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen(kw_only=True)
class Endpoint:
    """How to speak to the nodes of a cluster.

    Attributes:
        cluster_id: What every node has to have.
        limits: The largest messages.
        tls: How to encrypt; ``None`` for plain TCP.
    """

    cluster_id: bytes
    limits: Limits = attrs.field(factory=Limits)
    tls: ssl.SSLContext | None = None


class ConnectionLost(Exception):
    """The connection ended before the reply was complete."""


class Unreachable(Exception):
    """No connection could be made that is of use; nothing was asked."""


class Connection(asyncio.Protocol):
    """An open connection. Made by :func:`connect`.

    Attributes:
        is_open: Whether another exchange may be tried.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: ReplyParser[Any] | None = None
        self._reply: asyncio.Future[None] | None = None
        self._early = b""
        self._was_asked = False
        self.is_open = False

    # --- called by the event loop -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        reply, parser = self._reply, self._parser
        if reply is None or parser is None or reply.done():
            self._take_unasked(data)
            return
        try:
            if not parser.feed(data):
                return
            if parser.rest:
                raise Malformed("there are bytes behind the reply")
        except Malformed as error:
            self.abort()
            reply.set_exception(error)
        else:
            reply.set_result(None)

    def _take_unasked(self, data: bytes) -> None:
        """A full server says so before it is asked anything. Nothing else may come unasked."""
        if self._was_asked:
            self.abort()
        else:
            self._early += data

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self.is_open = False
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionLost(str(error or "the other side closed the connection")))

    # --- called by whoever has the connection -------------------------------------------------------------------------

    async def exchange(self, call: Call[R], until: float, *, prologue: bytes = b"") -> R:
        """Send a request and answer its result. Only one exchange may be under way.

        Args:
            call: What to ask.
            until: When time runs out, on the monotonic clock.
            prologue: What to send before, in the same packet.

        Raises:
            Refusal: The server said no.
            ConnectionLost: The connection ended first.
            Malformed: The reply was none.
            TimeoutError: Time ran out.
        """
        if self._transport is None or not (self.is_open or self._early):
            raise ConnectionLost("the connection is closed")
        data = prologue + call.encode()
        self._was_asked = True
        parser = self._parser = ReplyParser(call.command.result, self._limits)
        reply = self._reply = self._loop.create_future()
        timer = self._loop.call_later(max(until - time.monotonic(), 0), _expire, reply)
        try:
            if self._early:
                self._read_early(reply)
            else:
                self._transport.write(data)
            await reply
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._reply = self._parser = None
        if parser.refusal is not None:
            if ends(parser.refusal):
                self.abort()
            raise parser.refusal
        return cast("R", parser.result)

    def _read_early(self, reply: asyncio.Future[None]) -> None:
        """Take what the server said before it was asked for its answer. It closes the connection behind it."""
        self.data_received(self._early)
        self.abort()
        if not reply.done():
            reply.set_exception(ConnectionLost("the server ended the connection before it was asked"))

    def abort(self) -> None:
        """End the connection, at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()


def ends(refusal: Refusal) -> bool:
    """Whether the server closes the connection behind this."""
    return refusal.code not in STAYS_OPEN or refusal.text.endswith(b": command not found")


def _expire(reply: asyncio.Future[None]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError("no answer in time"))


async def connect(address: Address, endpoint: Endpoint, until: float) -> Connection:
    """Connect. Raises ``Unreachable`` or ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(max(until - time.monotonic(), 0)):
            _, connection = await loop.create_connection(
                lambda: Connection(endpoint.limits), address.host, address.port, ssl=endpoint.tls
            )
    except TimeoutError:
        raise
    except (OSError, UnicodeError) as error:  # A name that no host can have is a UnicodeError.
        raise Unreachable(f"{address}: {error}") from error
    return connection


async def greet(connection: Connection, address: Address, endpoint: Endpoint, until: float) -> None:
    """Hear a node answer once. Raises ``Unreachable``, ``Malformed`` or ``TimeoutError``; then it is closed."""
    try:
        await connection.exchange(WHO_MASTER(), until, prologue=encode_prologue(endpoint.cluster_id))
    except ConnectionLost as error:
        raise Unreachable(f"{address}: closed before it answered anything, is the cluster id right?") from error
    except Refusal as refusal:
        connection.abort()
        raise Unreachable(f"{address}: {refusal}") from refusal
