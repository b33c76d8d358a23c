"""A client of a whole Arakoon cluster: it finds the master, follows it, and knows what may be sent again.

Rules.

* What was surely not sent, or surely not executed (``NOT_MASTER``), is sent again, to the master of then, until time
  runs out. Pauses between attempts grow.
* A read whose answer was lost is sent again a few times. A write whose answer was lost is never sent again here: it is
  ``OutcomeUnknown``, and so is one that was cancelled or ran out of time on its way.
* Everything ends when its time is over.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, TypeVar

from kvmodel.drivers.arakoon.commands import MAX_REPLY_BYTES, MAX_UPDATE_BYTES, MAX_VALUE_BYTES, Commands
from kvmodel.drivers.arakoon.connection import Address, Connection, ConnectionLost, Endpoint, Unreachable
from kvmodel.drivers.arakoon.errors import MOVED, error_of, outcome_unknown
from kvmodel.drivers.arakoon.nodes import Cluster, Found, Node, pause
from kvmodel.drivers.arakoon.protocol import Call, Code, Refusal, Where
from kvmodel.drivers.arakoon.steps import to_bytes
from kvmodel.drivers.arakoon.wire import CONSISTENT, Limits, Malformed
from kvmodel.drivers.meter import spend
from kvmodel.errors import Closed, OutcomeUnknown, ProtocolError, TimedOut, Unavailable, ValidationError

__all__ = ["DEFAULT_PORT", "ArakoonClient", "NodeClient", "parse_hosts"]

R = TypeVar("R")

DEFAULT_PORT: Final = 4000
_MAX_LOST_READS: Final = 4
_DEAD_ROUNDS: Final = 6
_OPENING_ROUNDS: Final = 2


def parse_hosts(text: str) -> list[Address]:
    """Read ``host:port,host:port``; a port left out is 4000, an IPv6 address stands in brackets."""
    addresses = []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = part, str(DEFAULT_PORT)
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValidationError(f"give nodes as host:port,host:port, not {text!r}", field="url")
        addresses.append(Address(host, int(port)))
    return addresses


class ArakoonClient(Commands):
    """A client of one cluster. ``async with ArakoonClient(...) as client:``, or :meth:`open` and :meth:`close`.

    Writes and consistent reads go to the master, reads that may be dirty to any node that answers, calls about the
    state of a node to the master; :meth:`node` asks one node.

    Args:
        hosts: Where the nodes are: ``host:port,host:port``, or a list of such.
        cluster: The cluster's id.
        nodes: What the cluster calls its nodes, in the order of ``hosts``; they can be found out without.
        timeout: How many seconds a call may take, whatever happens on the way.
        connections: How many connections a node gets at the most. One carries one request at a time: a request that
            is given up ends its connection, and must not take the answers of others with it.
        tls: How to encrypt; ``None`` for plain TCP.
        max_value_bytes, max_update_bytes: What the server takes, where it is configured otherwise than by default.
        max_reply_bytes: The largest reply that is read; one that is larger is a ``ProtocolError``.
    """

    def __init__(
        self,
        hosts: str | Sequence[str],
        cluster: str,
        nodes: Sequence[str] | None = None,
        *,
        timeout: float = 10.0,
        connections: int = 8,
        tls: ssl.SSLContext | None = None,
        max_value_bytes: int = MAX_VALUE_BYTES,
        max_update_bytes: int = MAX_UPDATE_BYTES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        addresses = parse_hosts(hosts if isinstance(hosts, str) else ",".join(hosts))
        if nodes is not None and len(nodes) != len(addresses):
            raise ValidationError("give as many names of nodes as hosts, in the same order", field="nodes")
        if connections < 1:
            raise ValidationError("a node needs at least one connection", field="connections")
        names = [None] * len(addresses) if nodes is None else list(map(to_bytes, nodes))
        limits = Limits(
            string=min(max(max_update_bytes, max_value_bytes) + 1024, max_reply_bytes), message=max_reply_bytes
        )
        endpoint = Endpoint(cluster_id=to_bytes(cluster), limits=limits, tls=tls)
        self.timeout = timeout
        self.max_value_bytes = max_value_bytes
        self.max_update_bytes = max_update_bytes
        self.store = "arakoon://" + ",".join(map(str, addresses))
        self._cluster = Cluster(
            [Node(where, name, endpoint, connections) for where, name in zip(addresses, names, strict=True)]
        )
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<ArakoonClient of {self.store}>"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Reach the cluster and find its master. Raises ``Unavailable`` where that cannot be done."""
        until = time.monotonic() + self.timeout
        await self._find_master(until, _OPENING_ROUNDS)

    async def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        self._is_closed = True
        await self._cluster.close()

    async def __aenter__(self) -> ArakoonClient:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether a connection to any node is open."""
        return not self._is_closed and self._cluster.connected

    @property
    def master(self) -> str | None:
        """Where the master is, as far as it is known without asking: ``host:port``."""
        node = self._cluster.known_master
        return None if node is None else str(node.address)

    def node(self, address: str) -> NodeClient:
        """Answer a client of one node, given as ``host:port`` or by its name. Raises ``ValidationError``."""
        wanted = parse_hosts(address)
        for node in self._cluster.nodes:
            if node.name == address.encode() or [node.address] == wanted:
                return NodeClient(self, node)
        known = ", ".join(str(node.address) for node in self._cluster.nodes)
        raise ValidationError(f"the cluster has no such node; known are {known}", field="address")

    @property
    def nodes(self) -> tuple[NodeClient, ...]:
        """Clients of all nodes, one by one."""
        return tuple(NodeClient(self, node) for node in self._cluster.nodes)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _ask(self, call: Call[R]) -> R:
        return await self.call(call, until=time.monotonic() + self.timeout)

    async def who_master(self) -> str | None:
        """Answer the name of the master, ``None`` if there is none now."""
        self._check_open()
        found = await self._cluster.find_master(time.monotonic() + self.timeout)
        return None if found.master is None else await NodeClient(self, found.master).who_master()

    async def call(self, call: Call[R], *, until: float, node: Node | None = None) -> R:
        """Carry a call to where it belongs, by ``until`` on the monotonic clock; to one node, if that is given."""
        self._check_open()
        if node is not None:
            return await self._call_node(call, node, until)
        freshness = call.values[0] if call.command.where is Where.READ else CONSISTENT
        if freshness is CONSISTENT:
            return await self._call_master(call, until)
        return await self._call_any(call, until)

    async def _call_master(self, call: Call[R], until: float) -> R:
        attempt = lost = 0
        while True:
            master = self._cluster.known_master or await self._find_master(until, _DEAD_ROUNDS)
            try:
                return await self._try(call, master, until)
            except (Unreachable, ConnectionLost, Refusal) as failure:
                if isinstance(failure, Refusal) and not self._may_repeat(call, failure):
                    raise error_of(call, failure, self.store) from failure
                lost += isinstance(failure, ConnectionLost)
                if lost == _MAX_LOST_READS:
                    raise Unavailable(
                        "the connection was lost again and again: is the server well?", store=self.store
                    ) from failure
                self._cluster.forget(master)
                attempt += 1
                await self._pause(attempt, until, failure)
            except (TimedOut, OutcomeUnknown):
                # It may hang while the others have chosen another master: the next call has to look for that one.
                self._cluster.doubt(master)
                raise

    def _may_repeat(self, call: Call[R], refusal: Refusal) -> bool:
        if refusal.code == Code.NOT_MASTER:
            return True  # It was certainly not executed.
        return refusal.code in MOVED and not call.command.writes

    async def _call_any(self, call: Call[R], until: float) -> R:
        """Ask one node after the other until one answers, some rounds long; but one if none of them is fresh enough."""
        failures: list[Exception] = []
        for attempt in range(_DEAD_ROUNDS):
            if attempt:
                await self._pause(attempt, until, failures[-1])
            failures = []
            for node in self._cluster.by_preference():
                try:
                    result = await self._try(call, node, min(until, time.monotonic() + max(self.timeout / 2, 0.05)))
                except (Unreachable, ConnectionLost, TimedOut) as failure:
                    failures.append(failure)
                except Refusal as refusal:
                    if refusal.code not in MOVED and refusal.code != Code.INCONSISTENT_READ:
                        raise error_of(call, refusal, self.store) from refusal
                    failures.append(refusal)
                else:
                    self._cluster.prefer(node)
                    return result
            if all(isinstance(each, Refusal) and each.code == Code.INCONSISTENT_READ for each in failures):
                break
        last = failures[-1]
        if isinstance(last, Refusal):
            raise error_of(call, last, self.store) from last
        raise Unavailable("no node of the cluster answers: is it running?", store=self.store) from last

    async def _call_node(self, call: Call[R], node: Node, until: float) -> R:
        try:
            return await self._try(call, node, until)
        except Refusal as refusal:
            raise error_of(call, refusal, self.store) from refusal
        except (Unreachable, ConnectionLost) as failure:
            raise Unavailable("this node does not answer: is it running?", store=self.store) from failure

    async def _try(self, call: Call[R], node: Node, until: float) -> R:
        """Ask a node once.

        Raises:
            Unreachable, Refusal: As it says.
            ConnectionLost: The answer to a read was lost.
            OutcomeUnknown: The answer to a write was.
            TimedOut, ProtocolError: To callers.
        """
        connection = node.take_idle() or await self._acquire(node, until)
        try:
            if time.monotonic() >= until:
                raise TimedOut("time ran out before anything was sent: raise the timeout", store=self.store)
            spend(1)
            return await self._exchange(call, connection, until)
        finally:
            node.release(connection)

    async def _acquire(self, node: Node, until: float) -> Connection:
        try:
            return await node.acquire(until)
        except TimeoutError as error:
            raise TimedOut("time ran out before anything was sent: raise the timeout", store=self.store) from error
        except Malformed as error:
            raise ProtocolError("what answers there is no Arakoon server", store=self.store) from error

    async def _exchange(self, call: Call[R], connection: Connection, until: float) -> R:
        try:
            result = await connection.exchange(call, until)
            if isinstance(result, list) and not _has_its_length(call, result):
                connection.abort()
                raise Malformed("the reply has another number of elements than was asked for")
            return result
        except (ConnectionLost, Malformed, TimeoutError, asyncio.CancelledError) as failure:
            if call.command.writes:
                raise outcome_unknown(self.store) from failure
            if isinstance(failure, Malformed):
                raise ProtocolError(
                    "the server sent what is no reply to this request; the connection was dropped", store=self.store
                ) from failure
            if isinstance(failure, TimeoutError):
                raise TimedOut("no answer in time: raise the timeout", store=self.store) from failure
            raise

    # --- the master ---------------------------------------------------------------------------------------------------

    async def _find_master(self, until: float, rounds: int) -> Node:
        """Answer the master; look for it until it is found, or time is over, or nobody is there at all."""
        attempt = dead = 0
        failure: Exception | None = None
        while True:
            try:
                found = await self._cluster.find_master(until)
            except TimeoutError as error:
                raise failure or TimedOut("time ran out while looking for the master", store=self.store) from error
            if found.master is not None:
                return found.master
            dead = 0 if found.reached else dead + 1
            failure = self._nobody(found)
            if dead == rounds:
                raise failure
            attempt += 1
            await self._pause(attempt, until, failure)

    def _nobody(self, found: Found) -> Exception:
        if any(isinstance(failure, Malformed) for failure in found.failures) and not found.reached:
            error: Exception = ProtocolError("what answers there is no Arakoon server", store=self.store)
        elif found.reached:
            error = Unavailable("the cluster has no master now: are most of its nodes running?", store=self.store)
        else:
            error = Unavailable(
                "no node of the cluster can be reached: check hosts, ports and cluster=, and that it is running",
                store=self.store,
            )
        error.__cause__ = found.failures[0] if found.failures else None
        return error

    async def _pause(self, attempt: int, until: float, failure: Exception) -> None:
        self._check_open()
        try:
            await pause(attempt, until)
        except TimeoutError:
            if isinstance(failure, Unavailable | ProtocolError):
                raise failure from failure.__cause__
            raise Unavailable("the cluster did not answer in time; nothing was done", store=self.store) from failure

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this client is closed: make another one", store=self.store)


def _has_its_length(call: Call[object], result: list[object]) -> bool:
    """Whether a list is as long as what was asked for: each key answered, or no more than the limit."""
    asked = call.values[-1]
    if isinstance(asked, list):
        return len(result) == len(asked)
    return call.command.where is not Where.READ or not isinstance(asked, int) or asked < 0 or len(result) <= asked


class NodeClient(Commands):
    """The same commands, of one node. What only the master does is refused elsewhere with ``Unavailable``."""

    def __init__(self, client: ArakoonClient, node: Node) -> None:
        self._client = client
        self._node = node
        self.max_value_bytes = client.max_value_bytes
        self.max_update_bytes = client.max_update_bytes

    def __repr__(self) -> str:
        return f"<NodeClient of {self._node.address}>"

    @property
    def address(self) -> str:
        """Where the node is: ``host:port``."""
        return str(self._node.address)

    @property
    def name(self) -> str | None:
        """What the cluster calls it, if that is known."""
        return None if self._node.name is None else self._node.name.decode("utf-8", "replace")

    @property
    def connected(self) -> bool:
        """Whether a connection to it is open."""
        return self._node.connected

    async def _ask(self, call: Call[R]) -> R:
        client = self._client
        return await client.call(call, until=time.monotonic() + client.timeout, node=self._node)
