"""The proxy: each kind of trouble is what it says, and an untroubled connection passes everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from kvmodel.testing import Proxy, Way
from tests.faults.waiting import until


class Echo:
    """A server that sends every line back, in capitals."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.pieces = 0
        self.broken = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = b""
        try:
            while piece := await reader.read(1 << 16):
                self.heard += piece
                self.pieces += 1
                line += piece
                *whole, line = line.split(b"\n")
                for each in whole:
                    writer.write(each.upper() + b"\n")
        except ConnectionError:
            self.broken += 1
        finally:
            writer.close()


class Client:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, line: bytes) -> bytes:
        self.writer.write(line + b"\n")
        return await self.reader.readline()

    async def is_broken(self) -> bool:
        """Wait for the end of the connection."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with asyncio.timeout(20), Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


Connect = Callable[[Proxy], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients = []

    async def connect(proxy: Proxy) -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.transport.abort()


@pytest.fixture
async def client(proxy: Proxy, connect: Connect) -> Client:
    return await connect(proxy)


async def test_everything_passes(proxy: Proxy, client: Client) -> None:
    """Both ways, unchanged, counted."""
    data = bytes(range(11, 256)) * 5000

    assert await client.ask(b"hello") == b"HELLO\n"
    client.writer.write(data + b"\n")
    assert await client.reader.readexactly(len(data) + 1) == data.upper() + b"\n"

    assert proxy.connections == 1
    assert proxy.passed == {Way.TO_SERVER: len(data) + 7, Way.TO_CLIENT: len(data) + 7}


async def test_round_trips_are_counted(proxy: Proxy, client: Client, connect: Connect) -> None:
    """What is sent without waiting is one; another connection counts for itself."""
    for _ in range(3):
        await client.ask(b"a")
    assert proxy.round_trips == 3

    client.writer.write(b"a\nb\nc\n")
    assert await client.reader.readexactly(6) == b"A\nB\nC\n"
    assert proxy.round_trips == 4
    other = await connect(proxy)
    await other.ask(b"x")
    assert proxy.round_trips == 5


async def test_the_end_of_one_side_passes(client: Client) -> None:
    """A client that has said all still hears the rest."""
    client.writer.write(b"last\n")
    client.writer.write_eof()

    assert await client.reader.read() == b"LAST\n"


async def test_a_cut_breaks_open_connections(proxy: Proxy, client: Client, echo: Echo, connect: Connect) -> None:
    """Both sides see it; a new connection works."""
    await client.ask(b"a")
    proxy.cut()

    assert await client.is_broken()
    again = await connect(proxy)
    assert await again.ask(b"b") == b"B\n"
    assert bytes(echo.heard) == b"a\nb\n"


@pytest.mark.parametrize("count", [0, 1, 5, 6])
async def test_a_reply_is_cut_in_the_middle(proxy: Proxy, client: Client, echo: Echo, count: int) -> None:
    """The request arrives as a whole, of the reply so many bytes."""
    await client.ask(b"a")
    proxy.cut_after(count)
    client.writer.write(b"hello\n")

    received = b""
    try:
        while piece := await client.reader.read(100):
            received += piece
    except ConnectionError:
        pass

    assert received == b"HELLO\n"[:count]
    assert bytes(echo.heard) == b"a\nhello\n"


async def test_a_request_is_cut_in_the_middle(proxy: Proxy, client: Client, echo: Echo, connect: Connect) -> None:
    """The server hears so many bytes of it."""
    proxy.cut_after(3, Way.TO_SERVER)
    client.writer.write(b"hello\n")

    assert await client.is_broken()
    await until(lambda: len(echo.heard) >= 3)
    assert bytes(echo.heard) == b"hel"
    assert await (await connect(proxy)).ask(b"again") == b"AGAIN\n"


async def test_connections_are_refused(proxy: Proxy, client: Client, connect: Connect) -> None:
    """New ones are, the open one is not; until they are accepted again."""
    proxy.refuse()

    assert await (await connect(proxy)).is_broken()
    assert proxy.refused == 1
    assert await client.ask(b"a") == b"A\n"
    proxy.accept()
    assert await (await connect(proxy)).ask(b"b") == b"B\n"


async def test_a_server_that_is_not_there(echo: Echo, connect: Connect) -> None:
    """The client is turned away, as by the server itself."""
    async with Proxy("127.0.0.1", 1) as proxy:
        assert await (await connect(proxy)).is_broken()
        assert proxy.refused == 1


async def test_a_stall_keeps_everything(proxy: Proxy, client: Client, echo: Echo) -> None:
    """Nothing passes until it is resumed, then all of it does, in order."""
    await client.ask(b"a")
    proxy.stall(Way.TO_CLIENT)
    client.writer.write(b"b\n")
    await until(lambda: len(echo.heard) >= 4)
    reply = asyncio.ensure_future(client.reader.readline())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not reply.done()

    proxy.resume()
    assert await reply == b"B\n"

    proxy.stall()
    client.writer.write(b"c\n")
    for _ in range(100):
        await asyncio.sleep(0)
    assert bytes(echo.heard) == b"a\nb\n"
    proxy.resume()
    assert await client.reader.readline() == b"C\n"


async def test_a_stalled_connection_can_be_cut(proxy: Proxy, client: Client) -> None:
    """And the proxy ends, though nobody resumes it."""
    proxy.stall()
    client.writer.write(b"a\n")
    for _ in range(20):
        await asyncio.sleep(0)
    proxy.cut()

    assert await client.is_broken()


async def test_bytes_come_one_by_one(proxy: Proxy, client: Client, echo: Echo) -> None:
    """Each is sent by itself; nothing else changes."""
    proxy.single_bytes = True

    assert await client.ask(b"a long line of many bytes") == b"A LONG LINE OF MANY BYTES\n"
    assert echo.pieces > 5


async def test_bytes_are_corrupted(proxy: Proxy, client: Client) -> None:
    """As many as come, other ones than were sent; the same seed changes the same ones."""
    line = bytes(range(32, 127))
    proxy.corrupt(0.5)

    client.writer.write(line + b"\n")
    received = await client.reader.readexactly(len(line) + 1)
    proxy.corrupt(0)

    changed = sum(one != other for one, other in zip(received, line.upper() + b"\n", strict=True))
    assert 20 < changed < 80
    assert await client.ask(b"a") == b"A\n"


async def test_a_delay_holds_every_piece(proxy: Proxy, client: Client) -> None:
    """Each way."""
    loop = asyncio.get_running_loop()
    proxy.delay = 0.02
    before = loop.time()

    assert await client.ask(b"a") == b"A\n"

    assert loop.time() - before >= 0.04


async def test_it_ends_everything_it_started(echo: Echo, connect: Connect) -> None:
    """Connections, and tasks."""
    tasks = len(asyncio.all_tasks())
    async with Proxy("127.0.0.1", echo.port) as proxy:
        clients = [await connect(proxy) for _ in range(5)]
        for client in clients:
            await client.ask(b"a")

    assert all([await client.is_broken() for client in clients])
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= tasks
    with pytest.raises(ConnectionError):
        await connect(proxy)
