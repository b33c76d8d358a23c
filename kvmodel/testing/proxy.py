"""A TCP proxy on loopback that spoils connections: what a driver over a network is tested with.

Theory of operation. Every connection to the proxy opens one to the server and pumps bytes both ways, piece by piece as
they come. Trouble is set on the proxy at any time and holds for the pieces that follow, of all connections, each way
(:class:`Way`) by itself. ``async with`` starts the proxy and ends everything it started.

Known limits. Pieces are what the operating system hands over: their borders mean nothing. A round trip is counted when
a client speaks after the server did, or first; several requests that a client sends without waiting are one.
"""

from __future__ import annotations

import asyncio
import enum
import random
from contextlib import suppress
from types import TracebackType

__all__ = ["Proxy", "Way"]

_PIECE = 1 << 16


class Way(enum.Enum):
    """A direction."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"

    def __repr__(self) -> str:
        return self.name


_BOTH = (Way.TO_SERVER, Way.TO_CLIENT)


class Proxy:
    """Stands between clients and one server.

    Args:
        host: Where the server is.
        port: The server's port.
        seed: What :meth:`corrupt` draws from.

    Attributes:
        port: Where clients connect to, on ``127.0.0.1``.
        connections: How many were accepted.
        refused: How many were turned away.
        round_trips: How often a client spoke after the server did, or first.
        passed: How many bytes went through, each way.
        single_bytes: Whether every byte is sent by itself.
        delay: For how many seconds each piece is kept, each way.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self._server_host = host
        self._server_port = port
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepts = True
        self._cut_at: dict[Way, int] = {}
        self._corruption: dict[Way, float] = {}
        self._open = {way: asyncio.Event() for way in _BOTH}
        self.port = 0
        self.connections = 0
        self.refused = 0
        self.round_trips = 0
        self.passed = dict.fromkeys(_BOTH, 0)
        self.single_bytes = False
        self.delay = 0.0
        self.resume()

    def __repr__(self) -> str:
        return f"<Proxy on port {self.port}, {len(self._links)} connections, {self.round_trips} round trips>"

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    # --- trouble ------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break all connections, at once and without a farewell. New ones are accepted."""
        for link in list(self._links):
            link.cut()

    def cut_after(self, count: int, way: Way = Way.TO_CLIENT) -> None:
        """Break a connection when ``count`` more bytes went through this way; what is behind them never arrives."""
        self._cut_at[way] = self.passed[way] + count

    def refuse(self) -> None:
        """Turn new connections away. Those that are open stay."""
        self._accepts = False

    def accept(self) -> None:
        """Take new connections again."""
        self._accepts = True

    def stall(self, *ways: Way) -> None:
        """Keep everything that comes, this way (both ways if none is named), until :meth:`resume`."""
        for way in ways or _BOTH:
            self._open[way].clear()

    def resume(self) -> None:
        """Let everything through that was kept."""
        for event in self._open.values():
            event.set()

    def corrupt(self, chance: float, way: Way = Way.TO_CLIENT) -> None:
        """Change each byte that goes this way with this chance; 0 ends that."""
        self._corruption[way] = chance

    # --- pumping ------------------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # The proxy is closing. asyncio would report a server's task that ends as cancelled.
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._accepts:
            self.refused += 1
            return
        try:
            upstream, server = await asyncio.open_connection(self._server_host, self._server_port)
        except OSError:
            self.refused += 1
            return
        self.connections += 1
        link = _Link(writer, server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, Way.TO_SERVER, reader, server), self._pump(link, Way.TO_CLIENT, upstream, writer)
            )
        finally:
            self._links.discard(link)
            link.cut()

    async def _pump(self, link: _Link, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes one way, until that side says no more or the connection breaks."""
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                self._count(link, way)
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open[way].wait()
                if not await self._pass_on(way, piece, writer):
                    link.cut()
                    return
            if not link.is_cut and writer.can_write_eof():
                writer.write_eof()
            return
        link.cut()

    def _count(self, link: _Link, way: Way) -> None:
        if way is Way.TO_SERVER and link.spoke_last is not Way.TO_SERVER:
            self.round_trips += 1
        link.spoke_last = way

    async def _pass_on(self, way: Way, piece: bytes, writer: asyncio.StreamWriter) -> bool:
        """Send a piece. Answers ``False`` when the connection is to break behind it."""
        room = self._cut_at.get(way, self.passed[way] + len(piece) + 1) - self.passed[way]
        kept = self._corrupted(way, piece[: max(room, 0)])
        size = 1 if self.single_bytes else len(kept)
        for start in range(0, len(kept), max(size, 1)):
            writer.write(kept[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        self.passed[way] += len(kept)
        if room > len(piece):
            return True
        del self._cut_at[way]
        return False

    def _corrupted(self, way: Way, piece: bytes) -> bytes:
        chance = self._corruption.get(way, 0.0)
        if not chance:
            return piece
        return bytes(byte ^ self._random.randint(1, 255) if self._random.random() < chance else byte for byte in piece)


class _Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        for end in self._ends:
            end.transport.set_write_buffer_limits(0)  # What was drained has left: cutting takes nothing of it back.
        self.spoke_last: Way | None = None
        self.is_cut = False

    def cut(self) -> None:
        """Break both."""
        self.is_cut = True
        for end in self._ends:
            end.transport.abort()
