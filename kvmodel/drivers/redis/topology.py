"""Which server to ask: the only one, the one that the sentinels name, or the master of a slot of the cluster.

Rules.

* What is known is believed until somebody says otherwise: a server that answers ``MOVED`` or ``READONLY``, or does not
  answer. Then it is looked up, once for all who wait.
* The nodes of a cluster that are no longer named are closed.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from kvmodel.drivers.redis.link import Address, LinkLost, Unreachable
from kvmodel.drivers.redis.nodes import Node
from kvmodel.drivers.redis.slots import SLOTS

__all__ = ["Cluster", "MakeNode", "Sentinels", "Server", "Shared", "Topology"]

MakeNode = Callable[[Address], Node]

_PATIENCE: Final = 2.0
"""How many seconds one server may take to say where the others are."""
_TROUBLE: Final = (Unreachable, LinkLost, TimeoutError)


class Topology(Protocol):
    """What is known of where to ask.

    Attributes:
        is_patient: Whether another server is going to take over from one that is gone, so that waiting is worth it.
    """

    is_patient: bool

    @abstractmethod
    def node(self, slot: int) -> Node | None:
        """Answer who has a slot, as far as that is known."""
        ...

    @abstractmethod
    def masters(self) -> list[Node]:
        """Answer all servers that have slots."""
        ...

    @abstractmethod
    async def refresh(self, until: float, *, suspect: Node | None = None) -> BaseException | None:
        """Look up who has what. ``suspect`` did not do what it should. Answers what was in the way, if it failed."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""
        ...

    async def closed(self) -> None:
        """Wait until nothing is under way any more."""
        return


class Server(Topology):
    """One server, always the same."""

    is_patient = False

    def __init__(self, address: Address, make: MakeNode) -> None:
        self._node = make(address)

    def node(self, slot: int) -> Node:
        """Answer the server."""
        return self._node

    def masters(self) -> list[Node]:
        """Answer the server."""
        return [self._node]

    async def refresh(self, until: float, *, suspect: Node | None = None) -> BaseException | None:
        """There is nothing to look up."""
        return None

    def close(self) -> None:
        """Close all connections."""
        self._node.close()


class Shared(Topology):
    """A topology that is looked up by one task for all who ask."""

    is_patient = True

    def __init__(self) -> None:
        self._search: asyncio.Task[BaseException | None] | None = None
        self._is_closed = False

    async def refresh(self, until: float, *, suspect: Node | None = None) -> BaseException | None:
        """Look it up, or wait for who does already."""
        self.doubt(suspect)
        if self._search is None or self._is_closed:
            return Unreachable("the connection was closed")
        # Not awaited itself: its cancellation, when this is closed, is not that of those who wait.
        done, _ = await asyncio.wait([self._search], timeout=max(until - time.monotonic(), 0))
        if not done:
            return TimeoutError("time ran out while looking for servers")
        (search,) = done
        return Unreachable("the connection was closed") if search.cancelled() else search.result()

    def doubt(self, suspect: Node | None) -> None:
        """Have it looked up, unless that is being done already."""
        if not self._is_closed and (self._search is None or self._search.done()):
            self._search = asyncio.create_task(self._look(suspect))

    async def _look(self, suspect: Node | None) -> BaseException | None:
        raise NotImplementedError

    def close(self) -> None:
        """Stop looking, for good."""
        self._is_closed = True
        if self._search is not None:
            self._search.cancel()

    async def closed(self) -> None:
        """Wait until nothing is under way any more."""
        if self._search is not None:
            await asyncio.wait([self._search])


class Sentinels(Shared):
    """The master of a service, as sentinels name it.

    Args:
        addresses: Where the sentinels are.
        service: What they call the service.
        make: Makes the node of a server.
        make_sentinel: Makes the node of a sentinel.
    """

    def __init__(self, addresses: Sequence[Address], service: str, make: MakeNode, make_sentinel: MakeNode) -> None:
        super().__init__()
        self._sentinels = [make_sentinel(address) for address in addresses]
        self._service = service
        self._make = make
        self._master: Node | None = None

    def node(self, slot: int) -> Node | None:
        """Answer the master."""
        return self._master

    def masters(self) -> list[Node]:
        """Answer the master."""
        return [] if self._master is None else [self._master]

    async def _look(self, suspect: Node | None) -> BaseException | None:
        """Ask one sentinel after the other; believe who names a server that says itself that it is the master."""
        trouble: BaseException | None = None
        for sentinel in list(self._sentinels):
            until = time.monotonic() + _PATIENCE
            try:
                (found,) = await sentinel.exchange([(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service)], until)
                if isinstance(found, RedisError):
                    raise Unreachable("the sentinel refuses to tell") from found
                if found is None:
                    raise Unreachable(f"no service of the name {self._service}")
                await self._adopt(Address(found[0].decode(), int(found[1])), until)
            except _TROUBLE as error:
                trouble = error
            else:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                return None
        return trouble

    async def _adopt(self, address: Address, until: float) -> None:
        old = self._master
        node = old if old is not None and old.address == address else self._make(address)
        try:
            (role,) = await node.exchange([(b"ROLE",)], until)
            if isinstance(role, RedisError) or role[0] != b"master":
                raise Unreachable("the server is not the master yet") from (
                    role if isinstance(role, RedisError) else None
                )
        except BaseException:
            if node is not old:
                node.close()
            raise
        if old is not None and node is not old:
            old.close()
        self._master = node

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for node in (*self._sentinels, *self.masters()):
            node.close()


class Cluster(Shared):
    """Who has which slot, as the nodes of a cluster say.

    Args:
        addresses: Some of its nodes.
        make: Makes a node.
        remap: Turns an address that nodes announce into the one that leads there from here.
        welcome: Is awaited for each master that was not known before.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        make: MakeNode,
        remap: Callable[[tuple[str, int]], tuple[str, int]] | None,
        welcome: Callable[[Node], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._seeds = list(addresses)
        self._make = make
        self._remap = remap
        self._welcome = welcome
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Node | None] = [None] * SLOTS
        self._replicas: list[Address] = []

    def node(self, slot: int) -> Node | None:
        """Answer the master of a slot."""
        return self._slots[slot]

    def masters(self) -> list[Node]:
        """Answer all masters that have slots."""
        return [node for node in dict.fromkeys(self._slots) if node is not None]

    def place(self, host: str, port: int, teller: Address | None) -> Address:
        """Answer where a node is that another one speaks of; one that says nothing of the host means its own."""
        if host in ("", "?"):
            host = (teller or self._seeds[0]).host
        return Address(*self._remap((host, port))) if self._remap is not None else Address(host, port)

    def moved(self, slot: int, address: Address) -> None:
        """A node has said who has a slot now."""
        self._slots[slot] = self.known(address)

    def known(self, address: Address) -> Node:
        """Answer the node at an address."""
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._make(address)
            if self._is_closed:  # A late answer has named it.
                node.close()
        return node

    async def _look(self, suspect: Node | None) -> BaseException | None:
        trouble: BaseException | None = Unreachable("no node is known")
        known = [node.address for node in self.masters() if node is not suspect]
        last = [] if suspect is None else [suspect.address]
        for address in dict.fromkeys((*known, *self._replicas, *self._seeds, *last)):
            node = self.known(address)
            try:
                (found,) = await node.exchange([(b"CLUSTER", b"SLOTS")], time.monotonic() + _PATIENCE)
                if isinstance(found, RedisError):
                    raise Unreachable("the node refuses to tell") from found
                if not found:
                    raise Unreachable("the node knows of no slots")
                await self._learn(found, address)
            except _TROUBLE as error:
                trouble = error
            else:
                return None
        return trouble

    async def _learn(self, found: list[Any], teller: Address) -> None:
        slots: list[Node | None] = [None] * SLOTS
        replicas: list[Address] = []
        for first, last, master, *others in found:
            node = self.known(self.place((master[0] or b"").decode(), int(master[1]), teller))
            slots[first : last + 1] = [node] * (last + 1 - first)
            replicas += [self.place((each[0] or b"").decode(), int(each[1]), teller) for each in others]
        before = set(self.masters())
        self._slots, self._replicas = slots, list(dict.fromkeys(replicas))
        now = set(self.masters())
        kept = {node.address for node in now} | set(self._replicas) | {teller}
        for address in [address for address in self._nodes if address not in kept]:
            self._nodes.pop(address).close()
        for node in now - before:
            with suppress(*_TROUBLE):  # Whoever needs it will say so.
                await self._welcome(node)

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for node in self._nodes.values():
            node.close()
