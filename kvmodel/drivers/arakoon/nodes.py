"""The nodes of a cluster, their connections, and which of them is the master.

Rules.

* A node is asked for itself: it is the master if it names itself, or, where names are not known, if its state says so
  or it answers a read that only a master answers.
* All nodes are asked at once, each with little time, so that one that hangs holds nobody up.
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
from typing import Final

import attrs

from kvmodel.drivers.arakoon.connection import Address, Connection, Endpoint, Lost, Unreachable, open_connection
from kvmodel.drivers.arakoon.protocol import EXISTS, GET_CURRENT_STATE, WHO_MASTER, Call, Refusal
from kvmodel.drivers.arakoon.wire import CONSISTENT, Malformed

__all__ = ["Cluster", "Node", "pause"]

_PATIENCE: Final = 1.0
"""How long one node may take to say who the master is, in seconds."""

_STABLE: Final = b"Stable_master"
_TROUBLE: Final = (Unreachable, Lost, Refusal, Malformed, TimeoutError)


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
            while self._idle:
                connection = self._idle.pop()
                if connection.is_open:
                    self._busy.add(connection)
                    return connection
            if len(self._busy) + self._opening < self._room:
                return await self._open(until)
            await self._wait(until)

    async def _open(self, until: float) -> Connection:
        self._opening += 1
        try:
            connection = await open_connection(self.address, self._endpoint, until)
        except BaseException:
            self._wake()
            raise
        finally:
            self._opening -= 1
        self._busy.add(connection)
        if self._is_closed:
            connection.abort()
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


@attrs.frozen
class Found:
    """What a search found: the master, or what was in its way."""

    master: Node | None
    troubles: tuple[Exception, ...] = ()
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
        self._near: Node = random.choice(self.nodes)  # noqa: S311 - not a secret

    @property
    def connected(self) -> bool:
        """Whether any node is connected."""
        return any(node.connected for node in self.nodes)

    @property
    def known_master(self) -> Node | None:
        """The master, as far as it is known."""
        return self._master

    def forget(self, node: Node) -> None:
        """This node did not do what a master does."""
        if self._master is node:
            self._master = None
        node.drop_idle()

    def near(self) -> Iterable[Node]:
        """Answer all nodes, the one that answered last first, the others in random order."""
        others = [node for node in self.nodes if node is not self._near]
        random.shuffle(others)
        return [self._near, *others]

    def came_near(self, node: Node) -> None:
        """This node has answered."""
        self._near = node

    async def find_master(self, until: float) -> Found:
        """Answer the master; look for it if it is not known, for one round. Raises ``TimeoutError``."""
        if self._master is not None:
            return Found(self._master)
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._look())
        async with asyncio.timeout(max(until - time.monotonic(), 0)):
            return await asyncio.shield(self._search)

    async def close(self) -> None:
        """Close all connections."""
        if self._search is not None:
            self._search.cancel()
            with suppress(asyncio.CancelledError):
                await self._search
        for node in self.nodes:
            node.close()
        await asyncio.sleep(0)  # The event loop closes what was aborted at its next turn.

    # --- the search ---------------------------------------------------------------------------------------------------

    async def _look(self) -> Found:
        until = time.monotonic() + _PATIENCE
        answers = await asyncio.gather(*(self._hear(node, until) for node in self.nodes))
        heard = {node: answer for node, answer in answers if not isinstance(answer, Exception)}
        troubles = tuple(answer for _, answer in answers if isinstance(answer, Exception))
        master = self._named_by_itself(heard) or await self._by_state(heard)
        if master is not None:
            self._master = master
        return Found(master, troubles, len(heard))

    async def _hear(self, node: Node, until: float) -> tuple[Node, bytes | None | Exception]:
        try:
            return node, await node.whose_master(until)
        except _TROUBLE as error:
            node.drop_idle()
            return node, error

    def _named_by_itself(self, heard: dict[Node, bytes | None]) -> Node | None:
        return next((node for node, name in heard.items() if name is not None and name == node.name), None)

    async def _by_state(self, heard: dict[Node, bytes | None]) -> Node | None:
        """Find a master among nodes whose names are not known, or are not what was said."""
        known = {node.name for node in self.nodes}
        for node, name in heard.items():
            if name is None or name in known or not await self._acts_as_master(node):
                continue
            if node.name is None:
                node.name = name
            return node
        return None

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
        except _TROUBLE:
            return False
        return True


async def pause(attempt: int, until: float) -> None:
    """Wait before another attempt: longer each time, up to a second, with jitter. Raises ``TimeoutError``."""
    span = random.uniform(0.5, 1.0) * min(0.01 * 2**attempt, 1.0)  # noqa: S311 - not a secret
    if time.monotonic() + span >= until:
        raise TimeoutError("time ran out")
    await asyncio.sleep(span)
