"""One socket, against a ROUTER that the test holds in its hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import zmq

from kvmodel.drivers.elevator import ElevatorClient
from kvmodel.drivers.elevator.sockets import Lost, Unsent, Wire
from kvmodel.testing.elevator import ElevatorServer
from tests.drivers.rows import condition


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """What sockets are made in."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def router(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[zmq.Socket[bytes]]:
    """The server's end."""
    with context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind("tcp://127.0.0.1:0")
        yield router


@asynccontextmanager
async def connected(context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> AsyncIterator[Wire]:
    """A socket that stands."""
    endpoint = router.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    wire = Wire(context, endpoint.rstrip(b"\0").decode(), "elevator://test", lambda: None)
    try:
        await wire.wait(soon())
        yield wire
    finally:
        wire.close()


def soon() -> float:
    """Far enough for a slow machine."""
    return time.monotonic() + 10


def take(router: zmq.Socket[bytes]) -> bytes:
    """Take a request, and answer who sent it."""
    assert router.poll(5000)
    return router.recv_multipart()[0]


async def test_an_answer_that_was_there_before_the_question(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]
) -> None:
    """Is not taken for it, even if the event loop had no time to look at the socket: the request is not sent."""
    async with connected(context, router) as wire:
        asking = asyncio.ensure_future(wire.exchange(b"one", soon()))
        await asyncio.sleep(0)
        identity = take(router)
        router.send_multipart([identity, b"1", b"first"])
        assert await asking == [b"1", b"first"]

        router.send_multipart([identity, b"1", b"stray"])
        assert wire._socket.poll(5000)
        with pytest.raises(Unsent):
            await wire.exchange(b"two", soon())

        assert not wire.is_open
        assert not router.poll(0)


async def test_a_quick_answer_leaves_others_their_turn(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However quick it is: an exchange that never waited would keep the event loop to itself."""
    async with connected(context, router) as wire:
        take_frames = wire._take_frames

        def take_at_once() -> None:
            if wire._answer is not None:
                router.send_multipart([take(router), b"1", b"answer"])
                assert wire._socket.poll(5000)
            take_frames()

        monkeypatch.setattr(wire, "_take_frames", take_at_once)
        had_a_turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(had_a_turn.set)

        assert await wire.exchange(b"one", soon()) == [b"1", b"answer"]
        assert had_a_turn.is_set()


async def test_a_cancelled_question_takes_its_socket_along(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]
) -> None:
    """And so does one whose time is over: the answer that comes later has no place to go."""
    for until in (soon(), time.monotonic()):
        async with connected(context, router) as wire:
            asking = asyncio.ensure_future(wire.exchange(b"one", until))
            await asyncio.sleep(0)
            take(router)
            asking.cancel()
            with pytest.raises((asyncio.CancelledError, TimeoutError)):
                await asking
            assert not wire.is_open


async def test_a_connection_that_ends_without_an_answer(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]
) -> None:
    """Is told at once, not when the time is over; and the socket never connects again by itself."""
    async with connected(context, router) as wire:
        asking = asyncio.ensure_future(wire.exchange(b"one", soon()))
        await asyncio.sleep(0)
        take(router)
        router.close(0)

        with pytest.raises(Lost):
            await asking
        assert not wire.is_open


async def test_nothing_is_queued_for_a_server_that_is_gone(
    context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even before anyone has looked at what became of the connection."""
    async with connected(context, router) as wire:
        monkeypatch.setattr(wire, "_take_events", lambda: None)
        router.close(0)
        await condition(lambda: not wire._socket.poll(0, zmq.POLLOUT))

        with pytest.raises(Unsent):
            await wire.exchange(b"one", soon())


async def test_a_socket_does_not_come_back(context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> None:
    """A server that listens there later is another one."""
    async with connected(context, router) as wire:
        assert wire._socket.getsockopt(zmq.RECONNECT_IVL) == -1


async def test_more_sockets_than_a_context_has_by_default() -> None:
    """There is room for three of ZeroMQ's to one of ours."""
    with ElevatorServer() as server:
        async with ElevatorClient(server.endpoint, sockets=1000) as client:
            assert client._pool._context is not None
            assert client._pool._context.get(zmq.MAX_SOCKETS) >= 3000
