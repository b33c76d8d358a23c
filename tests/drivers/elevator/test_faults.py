"""What goes wrong on the way: every call ends in time and in a clear error, and no later call gets a wrong answer."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

import kvmodel as kv
from kvmodel.drivers.elevator import ElevatorClient
from kvmodel.drivers.elevator.protocol import Reply, Status, encode_reply
from kvmodel.testing import Proxy, Way
from kvmodel.testing.elevator import ElevatorServer, Quirks
from tests.drivers.elevator.waiting import noticed
from tests.drivers.rows import condition

SOON = 0.1
"""A timeout in which nothing that is slow on purpose gets done."""

HEADER, NOTHING = encode_reply(Reply(Status.SUCCESS))
COMPRESSED, PACKED = encode_reply(Reply(Status.SUCCESS, [b"value" * 100], compression=True))

GARBAGE: dict[str, list[bytes]] = {
    "one frame": [b"\x93\x01\xc0\xc0"],
    "three frames": [HEADER, NOTHING, b""],
    "empty frames": [b"", b""],
    "no msgpack": [b"\xc1\xc1", b"\xc1"],
    "no header": [NOTHING, NOTHING],
    "no content": [HEADER, b"\x80"],
    "cut content": [HEADER, b"\x81\xa5datas\xda\xff\xff"],
    "endless list": [HEADER, b"\x81\xa5datas\xdd\xff\xff\xff\xff"],
    "no LZ4": [COMPRESSED, b"\x08\x00\x00\x00garbage!"],
    "compressed, too short": [COMPRESSED, b"\x01"],
    "compressed, claims 4 GiB": [COMPRESSED, struct.pack("<I", 2**32 - 1) + PACKED[4:]],
    "compressed, claims a little more": [
        COMPRESSED,
        struct.pack("<I", struct.unpack("<I", PACKED[:4])[0] + 1) + PACKED[4:],
    ],
    "compressed, claims less": [COMPRESSED, struct.pack("<I", 5) + PACKED[4:]],
    "another answer": encode_reply(Reply(Status.SUCCESS, [b"1", b"2", b"3"])),
    "a bare true": [HEADER, b"\x81\xa5datas\xc3"],
    "failure without a code": encode_reply(Reply(Status.FAILURE, None, None, b"?")),
    "warning": encode_reply(Reply(Status.WARNING, [[b"a", 5]])),
}
Call = Callable[[ElevatorClient, float], Awaitable[object]]


async def _batch(client: ElevatorClient, timeout: float) -> None:
    async with client.write_batch(timeout=timeout) as batch:
        batch.put("k", "v")


READS: dict[str, Call] = {
    "get": lambda c, t: c.get("a", timeout=t),
    "mget": lambda c, t: c.mget(["a", "b"], timeout=t),
    "exists": lambda c, t: c.exists("a", timeout=t),
    "range": lambda c, t: c.range("a", "z", timeout=t),
    "slice": lambda c, t: c.slice("a", 2, timeout=t),
    "listdb": lambda c, t: c.listdb(timeout=t),
    "ping": lambda c, t: c.ping(timeout=t),
}
WRITES: dict[str, Call] = {
    "put": lambda c, t: c.put("k", "v", timeout=t),
    "delete": lambda c, t: c.delete("k", timeout=t),
    "batch": _batch,
    "createdb": lambda c, t: c.createdb("new", timeout=t),
    "dropdb": lambda c, t: c.dropdb("default", timeout=t),
}


@pytest.fixture
async def stocked(client: ElevatorClient) -> ElevatorClient:
    """A client of a server that holds a few rows."""
    for key in "abc":
        await client.put(key, f"value of {key}")
    return client


async def right(client: ElevatorClient) -> None:
    """Every answer belongs to its question."""
    for _ in range(2):
        values = await asyncio.gather(*(client.get(key) for key in "abcabcabcabc"))
        assert values == [f"value of {key}".encode() for key in "abcabcabcabc"]


# --- garbage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", READS)
async def test_garbage_for_a_read(stocked: ElevatorClient, server: ElevatorServer, name: str, garbage: str) -> None:
    """Is a ``ProtocolError``; the socket is gone with it, and the next calls are not touched."""
    if (name, garbage) == ("listdb", "another answer"):
        pytest.skip("three byte strings are an answer to that")
    server.answer_with(GARBAGE[garbage])
    wire = stocked._pool._idle[-1]

    with pytest.raises(kv.ProtocolError):
        await READS[name](stocked, 5)

    assert not wire.is_open
    await right(stocked)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", ["put", "batch"])
async def test_garbage_for_a_write(stocked: ElevatorClient, server: ElevatorServer, name: str, garbage: str) -> None:
    """Nobody knows then whether it was done."""
    server.answer_with(GARBAGE[garbage])

    with pytest.raises(kv.OutcomeUnknown) as caught:
        await WRITES[name](stocked, 5)

    assert caught.value.__cause__ is not None
    await right(stocked)


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READS)
async def test_a_read_that_is_swallowed(stocked: ElevatorClient, server: ElevatorServer, name: str) -> None:
    """Is ``TimedOut``, no later than asked."""
    server.swallow()
    start = time.monotonic()

    with pytest.raises(kv.TimedOut):
        await READS[name](stocked, SOON)

    assert time.monotonic() - start < SOON + 2
    await right(stocked)


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_is_swallowed(stocked: ElevatorClient, server: ElevatorServer, name: str) -> None:
    """May have happened, for all that its caller can know."""
    server.swallow()

    with pytest.raises(kv.OutcomeUnknown):
        await WRITES[name](stocked, SOON)

    await right(stocked)


async def test_a_queued_write_still_runs(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """A server that stood still does what came meanwhile: that is why the outcome is unknown."""
    server.freeze()
    with pytest.raises(kv.OutcomeUnknown):
        await stocked.put("a", "late", timeout=SOON)
    server.thaw()
    await stocked.ping()

    assert await stocked.get("a") == b"late"


async def test_late_replies_are_nobodys(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """An answer that comes after its time is not taken for the next one's."""
    for _ in range(5):
        server.delay(SOON * 1.5)
        with pytest.raises(kv.TimedOut):
            await stocked.get("a", timeout=SOON / 2)
        assert await stocked.get("b") == b"value of b"
        assert await stocked.get("c") == b"value of c"
    await right(stocked)


async def test_a_second_answer_spoils_its_socket(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """One that nobody asked for, on a socket at rest, is taken for nothing; the socket goes."""
    for key in "abc":
        server.repeat()
        wire = stocked._pool._idle[-1]
        assert await stocked.get(key) == f"value of {key}".encode()
        await condition(lambda: not wire.is_open)  # noqa: B023 - over before the next one
        await right(stocked)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_reads_harm_nobody(stocked: ElevatorClient, server: ElevatorServer, turns: int) -> None:
    """The socket goes with the caller, at whatever moment."""
    tasks = [asyncio.ensure_future(stocked.get(key)) for key in "abcabcabc"]
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    wanted = [f"value of {key}".encode() for key in "abcabcabc"]
    assert all(
        result == value or isinstance(result, asyncio.CancelledError)
        for result, value in zip(results, wanted, strict=True)
    )
    assert results[1::2] == wanted[1::2]
    await right(stocked)


async def test_a_cancelled_write_is_unknown(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """Once it was sent; before, it is just cancelled."""
    server.freeze()
    sent = asyncio.ensure_future(stocked.put("k", "v"))
    waiting = [asyncio.ensure_future(stocked.put("w", "v")) for _ in range(8)]
    await condition(lambda: sum(wire._answer is not None for wire in stocked._pool._busy) == 8)
    for task in [sent, *waiting]:
        task.cancel()
    results = await asyncio.gather(sent, *waiting, return_exceptions=True)
    server.thaw()

    kinds = [type(result) for result in results]
    assert kinds[0] is kv.OutcomeUnknown
    assert kinds[-1] is asyncio.CancelledError
    await right(stocked)


async def test_lost_workers_swallow_one_in_so_many(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """Those calls time out, the others get their own answers."""
    server.lose_workers(1)

    results: list[Any] = []
    for key in "abcabcab":
        try:
            results.append(await stocked.get(key, timeout=4 * SOON))
        except kv.TimedOut:
            results.append(None)

    assert 1 < results.count(None) < 4  # A lost answer is followed by a request more, to see whether all is well.
    assert all(value in (None, f"value of {key}".encode()) for key, value in zip("abcabcab", results, strict=True))


async def test_a_server_without_workers(server: ElevatorServer) -> None:
    """It accepts connections and answers nothing: it is not there."""
    server.lose_workers(4)
    client = ElevatorClient(server.endpoint)

    with pytest.raises(kv.Unavailable):
        await client.open(timeout=SOON)
    await client.close()


async def test_answers_out_of_order() -> None:
    """On several sockets, they find their callers."""
    with ElevatorServer(quirks=Quirks(out_of_order=True)) as server:
        async with ElevatorClient(server.endpoint) as client:
            for key in "abc":
                await client.put(key, f"value of {key}")
            for _ in range(10):
                await right(client)


# --- connections ------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_gone(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """Reads and writes are ``Unavailable`` at once, since nothing was sent, and work again when it is back."""
    server.stop()
    await noticed(stocked)
    start = time.monotonic()

    for calls in (READS, WRITES):
        for call in calls.values():
            with pytest.raises(kv.Unavailable):
                await call(stocked, 5)
    assert time.monotonic() - start < 2
    server.start()

    await right(stocked)


async def test_nothing_is_queued_for_a_server_that_is_gone(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """What failed is not done when another server comes up at the same place."""
    server.stop()
    await noticed(stocked)
    with pytest.raises(kv.Unavailable):
        await stocked.put("a", "too late")
    server.start()

    assert await stocked.get("a") == b"value of a"


async def test_a_server_that_dies_at_work(stocked: ElevatorClient, server: ElevatorServer) -> None:
    """Whoever waits is told at once, long before the time is over: a read ends, a write is unknown."""
    server.freeze()
    tasks = [asyncio.ensure_future(stocked.get("a")), asyncio.ensure_future(stocked.put("b", "x"))]
    await condition(lambda: sum(wire._answer is not None for wire in stocked._pool._busy) == 2)
    server.stop()
    start = time.monotonic()
    read, written = await asyncio.gather(*tasks, return_exceptions=True)

    assert time.monotonic() - start < 2
    assert isinstance(read, kv.Unavailable)
    assert isinstance(written, kv.OutcomeUnknown)


async def test_nobody_is_there() -> None:
    """A port that is closed, a host without a name, a path without a socket: at once."""
    for endpoint in ("tcp://127.0.0.1:1", "tcp://no-such-host.invalid:4141", "ipc:///nowhere/at/all"):
        client = ElevatorClient(endpoint)
        with pytest.raises(kv.Unavailable):
            await client.open(timeout=5)
        await client.close()


async def test_a_peer_that_speaks_something_else() -> None:
    """Its first bytes are no greeting of ZeroMQ."""

    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        over.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = ElevatorClient(f"tcp://127.0.0.1:{port}")
    with pytest.raises(kv.Unavailable):
        await client.open(timeout=5)
    await client.close()
    await over.wait()
    listening.close()
    await listening.wait_closed()


async def test_a_peer_that_says_nothing() -> None:
    """A connection is made, and no more: over when the time is."""

    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = ElevatorClient(f"tcp://127.0.0.1:{port}")
    with pytest.raises(kv.Unavailable):
        await client.open(timeout=SOON)
    await client.close()
    await over.wait()
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize("way", list(Way))
async def test_a_connection_that_is_cut(server: ElevatorServer, way: Way) -> None:
    """In the middle of a message, on its way there or back."""
    where = urlsplit(server.endpoint)
    async with (
        Proxy("127.0.0.1", where.port or 0) as proxy,
        ElevatorClient(f"tcp://127.0.0.1:{proxy.port}", timeout=5) as client,
    ):
        for key in "abc":
            await client.put(key, f"value of {key}")
        proxy.cut_after(20, way)
        with pytest.raises((kv.Unavailable, kv.OutcomeUnknown)):
            await client.put("k", "v" * 100_000)
        await right(client)
        proxy.single_bytes = True
        await right(client)


async def test_damage_on_the_way(server: ElevatorServer) -> None:
    """Bytes that are changed end in errors of ours, and in time; never in another exception."""
    where = urlsplit(server.endpoint)
    async with (
        Proxy("127.0.0.1", where.port or 0, seed=7) as proxy,
        ElevatorClient(f"tcp://127.0.0.1:{proxy.port}", timeout=5) as client,
    ):
        for key in "abc":
            await client.put(key, f"value of {key}")
        proxy.corrupt(0.02)
        for _ in range(30):
            results = await asyncio.gather(
                client.slice(None, 9, timeout=SOON / 2),
                client.put("k", "v", timeout=SOON / 2),
                return_exceptions=True,
            )
            assert all(not isinstance(each, Exception) or isinstance(each, kv.KvModelError) for each in results)
        proxy.corrupt(0)
        await right(client)


# --- the pool ---------------------------------------------------------------------------------------------------------


async def test_one_request_a_socket(server: ElevatorServer) -> None:
    """A hundred callers share what sockets there are, and each waits no longer than it said."""
    async with ElevatorClient(server.endpoint, sockets=2) as client:
        await client.put("a", "1")
        assert await asyncio.gather(*(client.get("a") for _ in range(100))) == [b"1"] * 100
        assert len(client._pool._idle) <= 2
        server.freeze()
        slow = [asyncio.ensure_future(client.get("a", timeout=1)) for _ in range(2)]
        await condition(lambda: len(client._pool._busy) == 2)
        with pytest.raises(kv.TimedOut, match="before anything was sent"):
            await client.put("a", "2", timeout=SOON / 2)
        server.thaw()
        assert await asyncio.gather(*slow) == [b"1", b"1"]
        assert await client.get("a") == b"1"


async def test_closing_lets_writes_end(server: ElevatorServer) -> None:
    """What is under way is waited for; what comes after is refused."""
    client = ElevatorClient(server.endpoint)
    await client.open()
    tasks = [asyncio.ensure_future(client.put(f"{number}", "v")) for number in range(20)]
    await asyncio.sleep(0)
    await client.close()
    await client.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(result is None or isinstance(result, kv.Closed | kv.Unavailable) for result in results)
    for call in (*READS.values(), *WRITES.values()):
        with pytest.raises(kv.Closed):
            await call(client, 1)
    async with ElevatorClient(server.endpoint) as other:
        written = [f"{number}" for number, result in enumerate(results) if result is None]
        assert all([await other.exists(key) for key in written])


async def test_reads_are_counted(client: ElevatorClient) -> None:
    """One exchange each, and one more where a missing value may be an empty one."""
    await client.put("a", "1")
    with kv.budget(round_trips=3, keys=4) as spent:
        await client.get("a")
        await client.find("b")
        await client.mget(["a", "b"])
    assert (spent.round_trips, spent.keys) == (3, 4)
    with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=0):
        await client.put("a", "2")
    assert await client.get("a") == b"1"
