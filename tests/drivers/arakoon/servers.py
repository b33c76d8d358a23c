"""Servers that say what they are told to, right or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from kvmodel.drivers.arakoon import ArakoonClient
from kvmodel.drivers.arakoon.protocol import (
    GET_CURRENT_STATE,
    WHO_MASTER,
    Prologue,
    Request,
    RequestParser,
    encode_reply,
)

Say = Callable[[Request], "bytes | None"]
"""Answers what to send, ``None`` to close without a word."""


class Late(bytes):
    """An answer that comes only together with the next one of the same connection."""


class Scripted(asyncio.Protocol):
    """Greets as a master does, and answers everything else by the script."""

    def __init__(self, say: Say, ends: bool) -> None:
        self.say = say
        self.ends = ends
        self.parser = RequestParser()
        self.transport: asyncio.Transport | None = None
        self.late = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.parser.feed(data)
        while (message := self.parser.next()) is not None:
            if isinstance(message, Prologue):
                continue
            if message.command is WHO_MASTER:
                self.transport.write(encode_reply(WHO_MASTER, b"node_0"))
            elif message.command is GET_CURRENT_STATE:
                self.transport.write(encode_reply(GET_CURRENT_STATE, b"Stable_master"))
            else:
                answer = self.say(message)
                if isinstance(answer, Late):
                    self.late += answer
                    continue
                self.transport.write(self.late + (answer or b""))
                if answer is None or self.ends:
                    self.transport.close()


@asynccontextmanager
async def scripted(say: Say, *, ends: bool = False, timeout: float = 5.0) -> AsyncIterator[ArakoonClient]:
    """A client of a server that answers by a script; ``ends``: and closes the connection behind every answer."""
    links: list[Scripted] = []

    def accept() -> Scripted:
        links.append(Scripted(say, ends))
        return links[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with ArakoonClient(f"127.0.0.1:{port}", "any", ["node_0"], timeout=timeout) as client:
            yield client
    finally:
        server.close()
        for link in links:
            if link.transport is not None:
                link.transport.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(0)
