"""Watch streams: one watch of one range, on one node, for as long as that lives."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
import grpc.aio

from kvmodel.drivers.etcd.endpoints import Endpoint
from kvmodel.drivers.etcd.errors import GARBLED, Fault, Then, fault_of
from kvmodel.drivers.etcd.messages import WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse
from kvmodel.drivers.etcd.wire import Malformed
from kvmodel.errors import Unavailable

__all__ = ["REFUSED", "Broken", "WatchStream"]

_PATH: Final = "/etcdserverpb.Watch/Watch"

QUIET: Final = 4.0
"""After how many seconds of silence a node is asked whether it is still there."""

SILENT: Final = 8.0
"""How long it may take to answer."""

_LOST: Final = Fault(Unavailable, "the node went away: look at it, or try again", Then.AGAIN)
REFUSED: Final = Fault(Unavailable, "the node ended the watch: look at the cause, or try again", Then.AGAIN)


class Broken(Exception):
    """The stream has ended; another one may go on where it was."""

    def __init__(self, fault: Fault, cause: BaseException | None = None) -> None:
        super().__init__()
        self.fault = fault
        self.cause = cause


class WatchStream:
    """The answers to one watch, in order.

    Args:
        endpoint: The node.
        metadata: What goes along with the call.
        request: What to watch.
    """

    def __init__(self, endpoint: Endpoint, metadata: tuple[tuple[str, str], ...], request: WatchCreateRequest) -> None:
        self.endpoint = endpoint
        self._request = request
        # The node is to end the stream when it loses its leader, as it would hear of nothing any more.
        begin: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = endpoint.channel.stream_stream(_PATH)
        self._call = begin(metadata=(*metadata, ("hasleader", "true")))
        self._reading: asyncio.Task[object] | None = None

    async def begin(self, until: float) -> WatchResponse:
        """Put the watch in place, and answer what the node says to it. Raises ``Broken``."""
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + until):
                await self._write(WatchRequest(create_request=self._request))
                return await self.read()
        except TimeoutError as error:
            raise Broken(_LOST, error) from None

    async def read(self) -> WatchResponse:
        """Wait for the next answer; may be cancelled and called again. Raises ``Broken``."""
        while True:
            data = await self._next()
            try:
                response = WatchResponse.decode(data)
            except Malformed as error:
                raise Broken(GARBLED, error) from None
            # How far a stream is was told ahead of the changes by servers before 3.4.25 and 3.5.8. It is asked for to
            # see whether the node lives, and not believed.
            if response.watch_id != -1 or response.canceled:
                return response

    async def _next(self) -> bytes:
        task = self._reading = self._reading or asyncio.get_running_loop().create_task(_receive(self._call))
        # Waiting does not cancel what it waits for: what has been received is not lost.
        done, _ = await asyncio.wait([task], timeout=QUIET)
        if not done:
            await self._write(WatchRequest(progress_request=WatchProgressRequest()))
            done, _ = await asyncio.wait([task], timeout=SILENT)
            if not done:
                raise Broken(_LOST)
        self._reading = None
        if task.cancelled():
            raise Broken(_LOST)
        error = task.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            raise Broken(fault_of(error), error)
        if error is not None:
            raise Broken(_LOST, error)
        data = task.result()
        if not isinstance(data, bytes):
            raise Broken(_LOST)
        return data

    async def _write(self, request: WatchRequest) -> None:
        try:
            await self._call.write(request.encode())
        except grpc.aio.AioRpcError as error:
            raise Broken(fault_of(error), error) from None
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise Broken(_LOST, error) from None

    async def close(self) -> None:
        """End the stream."""
        self._call.cancel()
        task, self._reading = self._reading, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()


async def _receive(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> object:
    return await call.read()
