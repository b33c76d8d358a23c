"""An emulated cluster: one node or several on loopback, and everything that can be done to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final

from kvmodel.drivers.arakoon import steps as s
from kvmodel.drivers.arakoon.protocol import (
    STAYS_OPEN,
    Code,
    Prologue,
    RequestParser,
    UnknownCommand,
    UnmaskedCommand,
    encode_refusal,
)
from kvmodel.drivers.arakoon.wire import Malformed
from kvmodel.testing.arakoon.node import LIMITS, Node, Reply
from kvmodel.testing.arakoon.store import Store, UserFunction

__all__ = ["LocalCluster"]

HOST: Final = "127.0.0.1"
_CLOSED_BEHIND: Final = b": command not found"
_ROLE_LOST: Final = b"lost master role during wait_for_accepteds while handling client request"


class _Link(asyncio.Protocol):
    """A client's connection to one node."""

    def __init__(self, served: _Served) -> None:
        self._served = served
        self._parser = RequestParser(LIMITS)
        self._transport: asyncio.Transport | None = None
        self._is_waiting = False
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        served = self._served
        if not served.node.is_up:  # It was accepted when the node was about to die.
            self.abort()
            return
        if len(served.links) >= served.max_connections:
            self._send(encode_refusal(Code.MAX_CONNECTIONS, b"too many clients"))
            self._end()
            return
        served.links.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over = True
        self._served.links.discard(self)

    def abort(self) -> None:
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._work()

    def _work(self) -> None:
        """Answer what is there, one after the other."""
        try:
            while not (self._is_waiting or self._is_over):
                message = self._parser.next()
                if message is None:
                    return
                if isinstance(message, Prologue):
                    if message.cluster_id != self._served.cluster.cluster_id.encode():
                        self._end()
                    continue
                self._reply(self._served.node.answer(message))
        except UnmaskedCommand:
            self._reply(encode_refusal(Code.NO_MAGIC))
        except UnknownCommand as error:
            self._reply(encode_refusal(Code.NOT_FOUND, str(error).encode()))
        except Malformed as error:
            self._reply(encode_refusal(Code.UNKNOWN_FAILURE, b"unknown failure") if error.answered else None)

    def _reply(self, reply: Reply) -> None:
        if isinstance(reply, asyncio.Future):
            self._is_waiting = True
            reply.add_done_callback(self._resume)
        elif reply is None:
            self._end()
        else:
            self._send(reply)
            if int.from_bytes(reply[:4], "little") not in STAYS_OPEN or reply.endswith(_CLOSED_BEHIND):
                self._end()

    def _resume(self, later: asyncio.Future[bytes | None]) -> None:
        self._is_waiting = False
        if later.cancelled():
            self._end()
        elif not self._is_over:
            self._reply(later.result())
            self._work()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _end(self) -> None:
        self._is_over = True
        if self._transport is not None:
            self._transport.close()


class _Served:
    """A node and its listening socket.

    It accepts by itself: an ``asyncio.Server`` that is closed while it is accepting leaves a socket behind, and nodes
    are killed at any moment.
    """

    def __init__(self, cluster: LocalCluster, node: Node, max_connections: int) -> None:
        self.cluster = cluster
        self.node = node
        self.max_connections = max_connections
        self.links: set[_Link] = set()
        self.port = 0
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[object]] = set()

    def start(self, port: int) -> None:
        if self._listener is None:
            self._listener = socket.create_server((HOST, port or self.port), backlog=100)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
        self.node.is_up = True

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(loop.connect_accepted_socket(lambda: _Link(self), accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def settle(self) -> None:
        """Wait for the connections that are being accepted."""
        await asyncio.gather(*self._accepting, return_exceptions=True)

    def stop(self) -> None:
        self.node.is_up = False
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for link in list(self.links):
            link.abort()
        self.links.clear()


class LocalCluster:
    """A cluster on loopback: ``async with LocalCluster(3) as cluster:``. It is no database.

    Args:
        nodes: How many nodes.
        cluster_id: What clients have to call it.
        ports: Where the nodes listen; 0 for any free port.
        lease: For how many seconds a dead master is still believed in.
        has_hole: Whether a deleted prefix stays deleted when its sequence fails, as on a real server.
        max_connections: How many clients a node takes.
    """

    def __init__(
        self,
        nodes: int = 1,
        cluster_id: str = "kvmodel",
        *,
        ports: tuple[int, ...] = (),
        lease: float = 0.05,
        has_hole: bool = True,
        max_connections: int = 1000,
    ) -> None:
        self.cluster_id = cluster_id
        self.lease = lease
        self.nodes = tuple(Node(f"node_{number}", self, has_hole=has_hole) for number in range(nodes))
        self._served = {node.name: _Served(self, node, max_connections) for node in self.nodes}
        self._ports = ports or (0,) * nodes
        self._log: list[s.Step] = []
        self._held: list[tuple[Callable[[], bytes], asyncio.Future[bytes | None]]] = []
        self._timers: set[asyncio.TimerHandle] = set()

    async def __aenter__(self) -> LocalCluster:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, with the first node as master."""
        for node, port in zip(self.nodes, self._ports, strict=True):
            self._served[node.name].start(port)
        self.elect(self.nodes[0].name)

    async def stop(self) -> None:
        """End everything."""
        for timer in self._timers:
            timer.cancel()
        for _, answer in self._held:
            answer.cancel()
        for served in self._served.values():
            served.stop()
        for served in self._served.values():
            await served.settle()
        await asyncio.sleep(0)  # The event loop closes what was aborted at its next turn.

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """How to connect to it."""
        hosts = ",".join(self.address(node.name) for node in self.nodes)
        names = ",".join(node.name for node in self.nodes)
        return f"arakoon://{hosts}/?cluster={self.cluster_id}&nodes={names}"

    def address(self, name: str) -> str:
        """Where a node is."""
        return f"{HOST}:{self._served[name].port}"

    def port(self, name: str) -> int:
        """The port that a node listens on."""
        return self._served[name].port

    def node(self, name: str) -> Node:
        """Answer a node by name."""
        return self._served[name].node

    @property
    def master(self) -> Node | None:
        """The node that is master now."""
        return next((node for node in self.nodes if node.is_up and node.is_master), None)

    @property
    def connections(self) -> int:
        """How many connections clients have open."""
        return sum(len(served.links) for served in self._served.values())

    @property
    def has_majority(self) -> bool:
        """Whether updates can be agreed upon."""
        return sum(node.is_up for node in self.nodes) * 2 > len(self.nodes)

    def define(self, name: str, function: UserFunction) -> None:
        """Load a user function into all nodes."""
        for node in self.nodes:
            node.store.functions[name.encode()] = function

    # --- updates ------------------------------------------------------------------------------------------------------

    def commit(self, node: Node, step: s.Step) -> object:
        """Carry out an update on every node that is there and keeps up. Raises ``Refusal``."""
        self._catch_up(node)
        if len(self.nodes) > 1:
            self._log.append(step)
        try:
            return node.store.apply(step)
        finally:
            for other in self.nodes:
                if other is not node and other.is_up and not other.lags:
                    self._catch_up(other)

    def _catch_up(self, node: Node) -> None:
        while len(self.nodes) > 1 and node.store.stamp < len(self._log):
            with suppress(Exception):  # What the master was told when it failed, it was told then.
                node.store.apply(self._log[node.store.stamp])

    def hold(self, work: Callable[[], bytes]) -> asyncio.Future[bytes | None]:
        """Keep a write until there is a majority again."""
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._held.append((work, answer))
        return answer

    # --- what can be done to it ---------------------------------------------------------------------------------------

    def elect(self, name: str) -> None:
        """Make a node the master; all that are up know at once."""
        self._catch_up(self.node(name))
        for node in self.nodes:
            if node.is_up:
                node.master = name

    def depose(self) -> None:
        """Have no master, until one is elected."""
        for node in self.nodes:
            node.master = None

    def move_master(self) -> str:
        """Make another node the master, at once; answer its name."""
        up = [node.name for node in self.nodes if node.is_up]
        now = self.master
        following = up[(up.index(now.name) + 1) % len(up)] if now is not None else up[0]
        self.elect(following)
        return following

    def step_down(self, reply: bytes) -> asyncio.Future[bytes | None]:
        """Have the master step down, answer it after half a lease, and elect another one then."""
        old = self.master
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.depose()

        def elect() -> None:
            up = [node.name for node in self.nodes if node.is_up and node is not old]
            if up and self.has_majority:
                self.elect(up[0])
            if not answer.done():
                answer.set_result(reply)

        self._later(self.lease / 2, elect)
        return answer

    def kill(self, name: str) -> None:
        """Kill a node: its connections break.

        If it was the master another one is elected when its lease is over; if too few are left there is none then.
        """
        node = self.node(name)
        was_master = node.is_master
        self._served[name].stop()
        if was_master:
            self._later(self.lease, self._elect_survivor)
        elif not self.has_majority:
            self._later(self.lease, self._lose_lease)

    def _lose_lease(self) -> None:
        """A master that no majority renews the lease of is none any more."""
        if not self.has_majority:
            self.depose()

    def _elect_survivor(self) -> None:
        if self.master is not None:
            return
        self.depose()
        up = [node.name for node in self.nodes if node.is_up]
        if up and self.has_majority:
            self.elect(up[0])

    async def restart(self, name: str) -> None:
        """Start a node again, with what it had and what it missed."""
        node = self.node(name)
        self._served[name].start(0)
        node.master = None if self.master is None else self.master.name
        self._catch_up(node)
        if self.master is None and self.has_majority:
            self.elect(name)
        if self.has_majority:
            self._answer_held()

    def _answer_held(self) -> None:
        held, self._held = self._held, []
        for work, answer in held:
            if not answer.done():
                work()  # It was proposed before, and gets its majority now: done, though its client is told otherwise.
                answer.set_result(encode_refusal(Code.NO_LONGER_MASTER, _ROLE_LOST))

    def break_connections(self) -> None:
        """Break all connections of clients."""
        for served in self._served.values():
            for link in list(served.links):
                link.abort()

    def lag(self, name: str, lags: bool = True) -> None:
        """Keep updates from a node, so that its answers are stale; or let it catch up."""
        node = self.node(name)
        node.lags = lags
        if not lags:
            self._catch_up(node)

    def contents(self) -> Store:
        """Answer the store of the master, or of the node that has most updates."""
        return (self.master or max(self.nodes, key=lambda node: node.store.stamp)).store

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            what()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)
