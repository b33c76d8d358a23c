"""Carries requests and replies over HTTP, with aiohttp, and tells what is known when that fails.

Rules.

* A path goes out as it was encoded: nothing normalises it.
* Nothing is sent twice. aiohttp repeats a PUT by itself when a connection that was kept open turns out to be closed,
  and the first one may have arrived; so a second attempt of anything but a read is refused.
* A reply is read as far as ``max_reply_bytes``. One that announces more, or goes beyond, is not read on.
* A connection whose exchange was not finished is closed.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from types import SimpleNamespace
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

__all__ = ["Http", "Lost", "Reply", "TooLong", "Unsent"]

_SMALL: Final = 1 << 16
_AT_ONCE: Final = 1 << 20
_KEPT: Final = 15.0


class Unsent(Exception):
    """The request did not go out; the cause says why."""


class Lost(Exception):
    """The request may have arrived, and no whole reply came; the cause says why, a time-out or cancellation too."""


class TooLong(Lost):
    """The reply is longer than what is read."""


class Reply(NamedTuple):
    """A reply. The body of one whose status is not 200 is not for reading."""

    status: int
    body: bytes


class _Attempt:
    """What is known of one request.

    Attributes:
        repeats: Whether it may be sent again.
        sent: Whether it has begun to go out.
    """

    __slots__ = ("repeats", "sent")

    def __init__(self, *, repeats: bool) -> None:
        self.repeats = repeats
        self.sent = False


class _Repeated(Exception):
    """The library was about to send something again."""


class Http:
    """The connections to one server.

    Args:
        host, port: Where the server is.
        tls: How to encrypt; ``None`` for not at all.
        connections: How many connections at the most, and so how many requests at once; those apart do not count.
        max_reply_bytes: The longest reply that is read.
    """

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, connections: int, max_reply_bytes: int
    ) -> None:
        scheme = "http" if tls is None else "https"
        self._base = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        self._tls = tls
        self._connections = connections
        self._max_reply_bytes = max_reply_bytes
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def send(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None,
        headers: dict[str, str],
        seconds: float,
        repeats: bool,
        apart: bool = False,
    ) -> Reply:
        """Send a request and read its reply.

        Args:
            method: The method.
            target: Raw path and query.
            body: What to send, if anything.
            headers: Headers besides those that every request has.
            seconds: How long it may take.
            repeats: Whether it does no harm to send it twice.
            apart: Whether it neither takes a connection from the others nor waits for one: the server is asked to take
                its time, or the others may wait for just this, as for the end of a transaction that has locks.

        Raises:
            Unsent: It did not go out.
            Lost: It may have arrived.
        """
        attempt = _Attempt(repeats=repeats)
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(method, target, body, headers, attempt, apart)
        except (TimeoutError, asyncio.CancelledError, aiohttp.ClientError, OSError, _Repeated) as error:
            raise (Lost if attempt.sent else Unsent) from error

    async def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], attempt: _Attempt, apart: bool
    ) -> Reply:
        async with self._session(apart).request(
            method,
            URL(self._base + target, encoded=True),
            # The library warns of longer bytes, which it would write in one go.
            data=body if body is None or len(body) <= _AT_ONCE else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=attempt,
        ) as response:
            length = response.content_length
            if response.status != 200:
                if length is not None and length <= _SMALL:
                    await response.read()  # So that the connection can be used again.
                return Reply(response.status, b"")
            if length is not None and length <= self._max_reply_bytes:
                return Reply(200, await response.read())
            if length is not None:
                response.close()
                raise TooLong
            return Reply(200, await self._read_stream(response))

    async def _read_stream(self, response: aiohttp.ClientResponse) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > self._max_reply_bytes:
                response.close()
                raise TooLong
            pieces.append(piece)
        return b"".join(pieces)

    def _session(self, apart: bool) -> aiohttp.ClientSession:
        """Answer the pool for ordinary requests, or the one for those apart, which has no limit."""
        session = self._sessions.get(apart)
        if session is None:
            session = self._sessions[apart] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0 if apart else self._connections,
                    keepalive_timeout=_KEPT,
                    ssl=True if self._tls is None else self._tls,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "kvmodel"},
                trace_configs=[_watching()],
            )
        return session

    async def close(self) -> None:
        """Close all connections."""
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()


def _watching() -> aiohttp.TraceConfig:
    """Have each attempt noticed."""
    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(_note_sent)
    config.on_connection_create_start.append(_refuse_repeating)
    config.on_connection_reuseconn.append(_refuse_repeating)
    return config


async def _note_sent(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.sent = True


async def _refuse_repeating(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    attempt = context.trace_request_ctx
    if attempt.sent and not attempt.repeats:
        raise _Repeated
