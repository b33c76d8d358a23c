"""The sockets of one client, and the one exchange that all of its calls are made of.

Rules.

* An exchange has a socket for itself. Those that find none free wait in turn, for no longer than their own time.
* Whatever happened to a request is told apart: surely not sent, answered, or sent and not answered. For a change the
  last one is ``OutcomeUnknown``, whatever it was that went wrong: it may have been done, and may still be.
* After a server's start its databases are not mounted, and several requests that reach one at the same moment cost it a
  worker each. So a database is brought up by a single request, alone, before others; and again whenever a connection
  has ended, since the server may have been started again. It is taken down when nothing else is under way.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from socket import SOCK_STREAM
from typing import Final, NamedTuple

import zmq

from kvmodel.drivers.elevator.answers import Accept, uid
from kvmodel.drivers.elevator.protocol import Malformed, Reply, decode_reply, encode_request
from kvmodel.drivers.elevator.sockets import Lost, Unsent, Wire
from kvmodel.drivers.meter import spend
from kvmodel.errors import Closed, OutcomeUnknown, ProtocolError, StoreError, TimedOut, Unavailable

__all__ = ["Place", "Pool"]

_GRACE: Final = 5.0
"""How long closing waits for what is under way, in seconds."""

_SOCKETS_EACH: Final = 3
"""How many sockets ZeroMQ counts for one of ours: those of the monitor too. Some that are closing may count as well."""

_NAMED: Final = re.compile(r"tcp://([^:\[\]]*[^:\[\]0-9.][^:\[\]]*):([0-9]+)")
"""An endpoint whose host is a name."""


class Place(NamedTuple):
    """A database: the name that it is connected to by, and the uid that requests carry."""

    name: bytes
    uid: bytes


class Pool:
    """Sockets to one server.

    Args:
        endpoint: Where the server is, as ZeroMQ says it: ``tcp://host:port`` or ``ipc://path``.
        size: How many sockets at the most, and so how many requests at once.
        address: The store's address, for messages.
    """

    def __init__(self, endpoint: str, *, size: int, address: str) -> None:
        self.address = address
        self._endpoint = endpoint
        self._size = size
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._free = asyncio.Semaphore(size)
        self._idle: list[Wire] = []
        self._busy: set[Wire] = set()
        self._quiet = asyncio.Event()
        self._is_closed = False
        self._mounted: set[bytes] = set()
        self._alone = asyncio.Lock()
        self._clearing = asyncio.Lock()

    # --- life ---------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let what is under way end, for a while, and close all sockets."""
        self._is_closed = True
        if self._busy:
            self._quiet.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self._quiet.wait()
        for wire in [*self._idle, *self._busy]:
            wire.close()
        context, self._context = self._context, None
        if context is not None:
            context.destroy(linger=0)

    # --- exchanges ----------------------------------------------------------------------------------------------------

    async def exchange(
        self,
        request: bytes,
        accept: Accept,
        *,
        until: float,
        changes: bool = False,
        keys: int = 0,
        database: Place | None = None,
        alone: bool = False,
    ) -> tuple[Reply, list[bytes]]:
        """Send a request; answer the reply and the frames that it came in.

        Args:
            request: The frame to send.
            accept: Whether a reply looks like an answer to it.
            until: When it has to be over.
            changes: Whether the request changes anything.
            keys: How many keys it touches, as far as that is known beforehand.
            database: The database that it goes to.
            alone: Whether it brings a database up, makes or removes one: one of these at a time.

        Raises:
            TimedOut: Time ran out: of a read, or before anything was sent.
            Unavailable: The server can't be reached; or the connection ended before a read was answered.
            OutcomeUnknown: A change was sent and not answered.
            ProtocolError: The answer of a read means nothing.
        """
        while True:
            async with self._turn(until), self._borrowed(until) as wire:
                try:
                    if database is not None and database.uid not in self._mounted:
                        await self._bring_up(wire, database, until)
                    spend(1, keys)
                    if not alone:
                        return await self._carry(wire, request, accept, changes, until)
                    async with self._one_at_a_time(until):
                        return await self._carry(wire, request, accept, changes, until)
                except Unsent:
                    continue  # The connection had ended unnoticed, and nothing was sent.

    async def take_down(self, request: bytes, accept: Accept, *, until: float) -> Reply:
        """Send the request that unmounts a database, when nothing else is under way: what came behind it at the same
        moment would mount it again, several times. Raises as :meth:`exchange` does for changes."""
        async with self._all_turns(until):
            while True:
                async with self._borrowed(until) as wire:
                    self._mounted.clear()
                    spend(1)
                    with suppress(Unsent):
                        reply, _ = await self._carry(wire, request, accept, True, until)
                        return reply

    async def _bring_up(self, wire: Wire, database: Place, until: float) -> None:
        """Mount a database: by one request, while nobody else sends it anything.

        What is answered does not matter: a database that was dropped is refused with the request that follows.
        """
        async with self._one_at_a_time(until):
            if database.uid in self._mounted:
                return
            spend(1)
            await self._carry(wire, encode_request(b"DBCONNECT", [database.name]), uid, False, until)
            self._mounted.add(database.uid)

    async def _carry(
        self, wire: Wire, request: bytes, accept: Accept, changes: bool, until: float
    ) -> tuple[Reply, list[bytes]]:
        try:
            frames = await wire.exchange(request, until)
            reply = decode_reply(frames)
            if not accept(reply):
                raise Malformed("it answers something else")
            return reply, frames
        except (Lost, Malformed, TimeoutError) as error:
            wire.close()
            raise self._failed(error, changes=changes) from error
        except asyncio.CancelledError as error:
            if changes:
                raise self._unknown() from error
            raise

    def _failed(self, error: Exception, *, changes: bool) -> StoreError:
        if changes:
            return self._unknown()
        if isinstance(error, Malformed):
            return ProtocolError(
                f"the answer means nothing, and the connection was dropped: {error}", store=self.address
            )
        if isinstance(error, Lost):
            return Unavailable("the connection ended before an answer came: try again", store=self.address)
        return TimedOut(
            "no answer in time: raise the timeout, or look at the server, which may have lost its workers",
            store=self.address,
        )

    def _unknown(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            "no answer came: the write may have happened, and may still happen: read again before going on",
            store=self.address,
        )

    # --- sockets ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _borrowed(self, until: float) -> AsyncIterator[Wire]:
        """Have a socket for one exchange. Whoever asks has a turn."""
        wire = await self._take(until)
        self._busy.add(wire)
        try:
            yield wire
        finally:
            self._give_back(wire)

    @asynccontextmanager
    async def _turn(self, until: float) -> AsyncIterator[None]:
        """Have one of as many turns as there may be sockets."""
        await self._wait_for_turn(until)
        try:
            yield
        finally:
            self._free.release()

    @asynccontextmanager
    async def _all_turns(self, until: float) -> AsyncIterator[None]:
        """Have all turns. One caller gathers them at a time, so that no two wait for each other."""
        async with self._locked(self._clearing, until), AsyncExitStack() as turns:
            for _ in range(self._size):
                await turns.enter_async_context(self._turn(until))
            yield

    async def _wait_for_turn(self, until: float) -> None:
        self._check_open()
        remaining = until - time.monotonic()
        if remaining <= 0:
            raise self._out_of_time()
        if self._free.locked():
            try:
                async with asyncio.timeout(remaining):
                    await self._free.acquire()
            except TimeoutError as error:
                raise self._out_of_time() from error
        else:
            await self._free.acquire()

    async def _take(self, until: float) -> Wire:
        """Answer a socket that stands: an idle one, or a new one."""
        self._check_open()
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                return wire
        if not self._busy:
            self._mounted.clear()  # Nothing has told us how the server fares since the last socket went.
        endpoint = await self._resolve(until)
        self._check_open()
        if self._context is None:
            self._context = zmq.Context()
            self._context.set(zmq.BLOCKY, 0)
            self._context.set(zmq.MAX_SOCKETS, _SOCKETS_EACH * self._size + 64)
        try:
            wire = Wire(self._context, endpoint, self.address, self._mounted.clear)
        except zmq.ZMQError as error:
            raise Unavailable("this process can have no more sockets: allow it more", store=self.address) from error
        self._busy.add(wire)
        try:
            await wire.wait(until)
        finally:
            self._busy.discard(wire)
        return wire

    async def _resolve(self, until: float) -> str:
        """Answer the endpoint with its host as a number: ZeroMQ would never say that a name is unknown."""
        match = _NAMED.fullmatch(self._endpoint)
        if match is None:
            return self._endpoint
        try:
            async with asyncio.timeout(until - time.monotonic()):
                found = await asyncio.get_running_loop().getaddrinfo(match[1], int(match[2]), type=SOCK_STREAM)
        except TimeoutError as error:
            raise self._out_of_time() from error
        except OSError as error:
            raise Unavailable("the name of this host can't be looked up", store=self.address) from error
        host = str(found[0][4][0])
        return f"tcp://[{host}]:{match[2]}" if ":" in host else f"tcp://{host}:{match[2]}"

    def _give_back(self, wire: Wire) -> None:
        self._busy.discard(wire)
        if not self._busy:
            self._quiet.set()
        if wire.is_open:
            self._idle.append(wire)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this connection is closed: connect again", store=self.address)

    def _out_of_time(self) -> TimedOut:
        return TimedOut(
            "time ran out before anything was sent: raise the timeout, or have more sockets", store=self.address
        )

    # --- databases ----------------------------------------------------------------------------------------------------

    def note_mounted(self, known: bytes) -> None:
        """Remember that a database is up."""
        self._mounted.add(known)

    def _one_at_a_time(self, until: float) -> AbstractAsyncContextManager[None]:
        """Let no other request of this kind be under way. Whoever waits has a socket already, so that no two wait for
        each other."""
        return self._locked(self._alone, until)

    @asynccontextmanager
    async def _locked(self, lock: asyncio.Lock, until: float) -> AsyncIterator[None]:
        """Hold a lock that is had in time."""
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await lock.acquire()
        except TimeoutError as error:
            raise self._out_of_time() from error
        try:
            yield
        finally:
            lock.release()
