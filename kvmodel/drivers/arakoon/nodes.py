"""The nodes of a cluster, their connections, and which of them is the master.

Rules.

* A node is asked for itself: it is the master if it names itself, or, where names are not known, if its state says so
  or it answers a read that only a master answers.
* All nodes are asked at once, each with little time, and the first that proves to be the master is taken, so that one
  that hangs holds nobody up.
* Who waits for a master shares the search with the others who do.
* Connections are made when needed, at most so many a node; whoever finds none free waits in line.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import attrs

from kvmodel.drivers.arakoon.connection import (
    Address,
    Connection,
    ConnectionLost,
    Endpoint,
    Unreachable,
    connect,
    greet,
)
from kvmodel.drivers.arakoon.protocol import EXISTS, GET_CURRENT_STATE, WHO_MASTER, Call, Refusal
from kvmodel.drivers.arakoon.wire import CONSISTENT, Malformed

__all__ = ["Cluster", "Node", "pause"]

_PATIENCE: Final = 1.0
"""How long one node may take to say who the master is, in seconds."""

_STABLE: Final = b"Stable_master"
_FAILURES: Final = (Unreachable, ConnectionLost, Refusal, Malformed, TimeoutError)


class Node:
    """One node and the connections to it.

    Attributes:
        address: Where it is.
        name: What the cluster calls it; ``None`` until that is known.
    """

    def __init__(self, address: Address, name: bytes | None, endpoint: Endpoint, room: int) -> None:
        self.address = address
        self.name = name
        self._endpoint = endpoint
        self._room = room
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Node {self.address}, {len(self._busy)} of {len(self._busy) + len(self._idle)} connections busy>"

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return any(connection.is_open for connection in (*self._idle, *self._busy))

    async def acquire(self, until: float) -> Connection:
        """Take a connection. Raises ``Unreachable``, ``Malformed`` or ``TimeoutError``; then nothing was asked."""
        while True:
            if (connection := self.take_idle()) is not None:
                return connection
            if len(self._busy) + self._opening < self._room:
                return await self._open(until)
            await self._wait(until)

    def take_idle(self) -> Connection | None:
        """Take a connection that is open and free, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                self._busy.add(connection)
                return connection
        return None

    async def _open(self, until: float) -> Connection:
        self._opening += 1
        try:
            connection = await connect(self.address, self._endpoint, until)
        except BaseException:
            self._wake()
            raise
        finally:
            self._opening -= 1
        self._busy.add(connection)
        if self._is_closed:
            connection.abort()
        try:
            await greet(connection, self.address, self._endpoint, until)
        except BaseException:
            self.release(connection)
            raise
        return connection

    async def _wait(self, until: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._wake()  # It was this one's turn, and it is somebody else's now.
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(turn)

    def release(self, connection: Connection) -> None:
        """Give a connection back."""
        self._busy.discard(connection)
        if connection.is_open:
            self._idle.append(connection)
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    def close(self) -> None:
        """Close all connections. Exchanges that are under way fail."""
        self._is_closed = True
        self.drop_idle()
        for connection in list(self._busy):
            connection.abort()

    async def ask(self, call: Call[bytes | None], until: float) -> bytes | None:
        """Ask the node something short."""
        connection = await self.acquire(until)
        try:
            return await connection.exchange(call, until)
        finally:
            self.release(connection)

    async def whose_master(self, until: float) -> bytes | None:
        """Ask the node who the master is, over a connection that shows at the same time that it lives."""
        return await self.ask(WHO_MASTER(), until)


Heard: TypeAlias = "tuple[Node, bytes | None | Exception]"
"""A node, and whom it named as the master, or why it did not."""


@attrs.frozen
class Found:
    """What a search found: the master, or what was in its way."""

    master: Node | None
    failures: tuple[Exception, ...] = ()
    reached: int = 0


class Cluster:
    """All nodes.

    Args:
        nodes: The nodes.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self._master: Node | None = None
        self._search: asyncio.Task[Found] | None = None
        self._asking: set[asyncio.Task[Heard]] = set()
        self._preferred: Node = random.choice(self.nodes)  # noqa: S311 - not a secret

    @property
    def connected(self) -> bool:
        """Whether any node is connected."""
        return any(node.connected for node in self.nodes)

    @property
    def known_master(self) -> Node | None:
        """The master, as far as it is known."""
        return self._master

    def doubt(self, node: Node) -> None:
        """This node may not be the master any more: it is to be looked for before the next call."""
        if self._master is node:
            self._master = None

    def forget(self, node: Node) -> None:
        """This node did not do what a master does."""
        self.doubt(node)
        node.drop_idle()

    def by_preference(self) -> Iterable[Node]:
        """Answer all nodes, the one that answered last first, the others in random order."""
        others = [node for node in self.nodes if node is not self._preferred]
        random.shuffle(others)
        return [self._preferred, *others]

    def prefer(self, node: Node) -> None:
        """This node has answered."""
        self._preferred = node

    async def find_master(self, until: float) -> Found:
        """Answer the master; look for it if it is not known, for one round. Raises ``TimeoutError``."""
        if self._master is not None:
            return Found(self._master)
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._look())
        search = self._search
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                return await asyncio.shield(search)
        except asyncio.CancelledError:
            if search.cancelled():
                return Found(None)  # The client was closed; who waits for it was not cancelled.
            raise

    async def close(self) -> None:
        """Close all connections. A search that is under way ends, and has found nothing."""
        ending: set[asyncio.Task[Any]] = {*self._asking, *([] if self._search is None else [self._search])}
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for node in self.nodes:
            node.close()
        await asyncio.sleep(0)  # The event loop closes what was aborted at its next turn.

    # --- the search ---------------------------------------------------------------------------------------------------

    async def _look(self) -> Found:
        """Ask all nodes at once; the first that proves to be the master ends the search.

        The others still have their time to answer: what is cut off costs them a connection.
        """
        until = time.monotonic() + _PATIENCE
        asked = [asyncio.create_task(self._hear(node, until)) for node in self.nodes]
        for task in asked:
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        failures: list[Exception] = []
        for answering in asyncio.as_completed(asked):
            node, answer = await answering
            if isinstance(answer, Exception):
                failures.append(answer)
            elif await self._is_master(node, answer):
                self._master = node
                return Found(node)
        return Found(None, tuple(failures), len(asked) - len(failures))

    async def _hear(self, node: Node, until: float) -> Heard:
        try:
            return node, await node.whose_master(until)
        except _FAILURES as error:
            node.drop_idle()
            return node, error

    async def _is_master(self, node: Node, named: bytes | None) -> bool:
        """Whether a node that names this master is it; where names are not known, or are wrong, its state tells."""
        if named is None or named == node.name:
            return named is not None
        if not await self._acts_as_master(node):
            return False
        if node.name is None:
            node.name = named
        return True

    async def _acts_as_master(self, node: Node) -> bool:
        until = time.monotonic() + _PATIENCE
        try:
            state = await node.ask(GET_CURRENT_STATE(), until)
            if state == _STABLE:
                return True
            if state is None or state.startswith(b"Slave"):
                return False
            # A master that is busy with an update is in another state for a moment.
            connection = await node.acquire(until)
            try:
                await connection.exchange(EXISTS(CONSISTENT, b""), until)
            finally:
                node.release(connection)
        except _FAILURES:
            return False
        return True


async def pause(attempt: int, until: float) -> None:
    """Wait before another attempt: longer each time, up to a second, with jitter. Raises ``TimeoutError``."""
    span = random.uniform(0.5, 1.0) * min(0.01 * 2**attempt, 1.0)  # noqa: S311 - not a secret
    if time.monotonic() + span >= until:
        raise TimeoutError("time ran out")
    await asyncio.sleep(span)
