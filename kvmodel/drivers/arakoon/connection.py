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
from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

import attrs

from kvmodel.drivers.arakoon.protocol import STAYS_OPEN, WHO_MASTER, Call, Refusal, ReplyParser, encode_prologue
from kvmodel.drivers.arakoon.wire import Limits, Malformed

__all__ = ["Address", "Connection", "Endpoint", "Lost", "Unreachable", "open_connection"]

R = TypeVar("R")

_EARLY: Final = 4096


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


class Lost(Exception):
    """The connection ended before the reply was complete."""


class Unreachable(Exception):
    """No connection could be made that is of use; nothing was asked."""


class Connection(asyncio.Protocol):
    """An open connection. Made by :func:`open_connection`.

    Attributes:
        is_open: Whether another exchange may be tried.
        master: The name that the node gave as the master's when the connection was made.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parsers: list[ReplyParser[Any]] = []
        self._answered = 0
        self._reply: asyncio.Future[None] | None = None
        self._early = b""
        self.is_open = False
        self.master: bytes | None = None

    # --- called by the event loop -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        reply = self._reply
        if reply is None or reply.done():
            self._take_unasked(data)
            return
        try:
            while data:
                if self._answered == len(self._parsers):
                    raise Malformed("there are bytes behind the reply")
                parser = self._parsers[self._answered]
                if not parser.feed(data):
                    return
                data = parser.rest
                self._answered += 1
        except Malformed as error:
            self.abort()
            reply.set_exception(error)
            return
        if self._answered == len(self._parsers):
            reply.set_result(None)

    def _take_unasked(self, data: bytes) -> None:
        """A full server says so before it is asked anything. Nothing else may come unasked."""
        self._early += data
        if self._parsers or self._early.startswith(bytes(4)) or len(self._early) > _EARLY:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self.is_open = False
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(Lost(str(error or "the other side closed the connection")))

    # --- called by whoever has the connection -------------------------------------------------------------------------

    async def exchange(self, call: Call[R], until: float) -> R:
        """Send a request and answer its result.

        Raises:
            Refusal: The server said no.
            Lost: The connection ended first.
            Malformed: The reply was none.
            TimeoutError: Time ran out.
        """
        (parser,) = await self.exchange_all([call], call.encode(), until)
        if parser.refusal is not None:
            raise parser.refusal
        return cast("R", parser.result)

    async def exchange_all(self, calls: Sequence[Call[Any]], data: bytes, until: float) -> list[ReplyParser[Any]]:
        """Send requests at once and answer all replies; a refusal that ends the connection ends the list."""
        if self._transport is None or not (self.is_open or self._early):
            raise Lost("the connection is closed")
        self._parsers = parsers = [ReplyParser(call.command.result, self._limits) for call in calls]
        self._answered = 0
        reply = self._reply = self._loop.create_future()
        timer = self._loop.call_later(max(until - time.monotonic(), 0), _expire, reply)
        if self._early:
            self.data_received(self._early)
            self.abort()
            if not reply.done():
                reply.set_exception(Lost("the server ended the connection before it was asked"))
        else:
            self._transport.write(data)
        try:
            await reply
        except Lost:
            if not self._answered:
                raise
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._reply = None
        answered = parsers[: self._answered]
        if any(parser.refusal is not None and ends(parser.refusal) for parser in answered):
            self.abort()
        return answered

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


async def open_connection(address: Address, endpoint: Endpoint, until: float) -> Connection:
    """Connect, and ask the node for the master's name. Raises ``Unreachable``, ``Malformed`` or ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(max(until - time.monotonic(), 0)):
            _, connection = await loop.create_connection(
                lambda: Connection(endpoint.limits), address.host, address.port, ssl=endpoint.tls
            )
    except TimeoutError:
        raise
    except OSError as error:
        raise Unreachable(f"{address}: {error}") from error
    hail = WHO_MASTER()
    try:
        (parser,) = await connection.exchange_all([hail], encode_prologue(endpoint.cluster_id) + hail.encode(), until)
    except Lost as error:
        raise Unreachable(f"{address}: closed before it answered anything, is the cluster id right?") from error
    if parser.refusal is not None:
        connection.abort()
        raise Unreachable(f"{address}: {parser.refusal}") from parser.refusal
    connection.master = parser.result
    return connection
