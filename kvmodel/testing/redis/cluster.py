"""A Redis Cluster on loopback: some masters, and replicas of each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Final

import redis

from kvmodel.drivers.redis.slots import SLOTS
from kvmodel.testing.redis.server import RedisServer, wait_for

__all__ = ["RedisCluster"]

_FORMING_SECONDS: Final = 30.0
_MOVED_AT_ONCE: Final = 100


class RedisCluster:
    """A cluster, as a context manager or with :meth:`start` and :meth:`close`.

    Args:
        masters: How many masters.
        replicas: How many replicas each of them has.
        port: The first server's port, the others follow; 0 for any free ones.
        persistent: Whether every write is on the master's disk before it is acknowledged.
        node_timeout: After how many milliseconds a silent master is taken for dead.
        options: Further settings of all servers, as in ``redis.conf``.

    Attributes:
        nodes: All servers: at first the masters, then the replicas.
    """

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 1,
        *,
        port: int = 0,
        persistent: bool = False,
        node_timeout: int = 2000,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._masters = masters
        settings = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(node_timeout),
            "cluster-replica-validity-factor": "0",
            "cluster-migration-barrier": "99",
            **(options or {}),
        }
        count = masters * (1 + replicas)
        self.nodes = [
            RedisServer(port=port + number if port else 0, persistent=persistent, options=settings)
            for number in range(count)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> RedisCluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What ``kv.connect`` takes."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all servers, make them a cluster, and wait until it serves. Raises ``RuntimeError``."""
        for node in self.nodes:
            self._stack.enter_context(node)
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        first = masters[0]
        for number, node in enumerate(masters):
            low, high = (SLOTS * place // len(masters) for place in (number, number + 1))
            node.command("CLUSTER", "ADDSLOTS", *range(low, high))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", first.port)
        self._require(lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes), "meet")
        for number, node in enumerate(replicas):
            node.command("CLUSTER", "REPLICATE", self.id_of(masters[number % len(masters)]))
        self._require(self.is_whole, "form")

    def _require(self, holds: Any, what: str) -> None:
        if not wait_for(holds, _FORMING_SECONDS):
            raise RuntimeError(f"the servers did not {what} a cluster")

    def _known(self, node: RedisServer) -> list[str]:
        text = bytes(node.command("CLUSTER", "NODES")).decode()
        return [line for line in text.splitlines() if "handshake" not in line]

    def is_whole(self) -> bool:
        """Whether all servers are there, agree, and every replica follows its master."""
        try:
            return all(map(self._is_well, self.nodes))
        except (redis.RedisError, OSError):
            return False

    def _is_well(self, node: RedisServer) -> bool:
        info = bytes(node.command("CLUSTER", "INFO", timeout=1.0))
        lines = self._known(node)
        role, *details = node.command("ROLE", timeout=1.0)
        follows = role == b"master" or details[2] == b"connected"
        masters = [line for line in lines if " master " in line or ",master " in line]
        has_replicas = role != b"master" or len(details[1]) == len(self.nodes) // self._masters - 1
        return (
            b"cluster_state:ok" in info
            and follows
            and has_replicas
            and len(masters) == self._masters
            and not any("fail" in line for line in lines)
        )

    def wait_until_whole(self) -> None:
        """Wait until all servers are there again and agree. Raises ``RuntimeError``."""
        self._require(self.is_whole, "become")

    def close(self) -> None:
        """End all servers."""
        self._stack.close()
        for node in self.nodes:
            node.close()

    # --- who is who ---------------------------------------------------------------------------------------------------

    def id_of(self, node: RedisServer) -> str:
        """Answer what the cluster calls a server."""
        return bytes(node.command("CLUSTER", "MYID")).decode()

    def masters(self) -> list[RedisServer]:
        """Answer the servers that are masters now and run."""
        found = []
        for node in self.nodes:
            with suppress(redis.RedisError, OSError):
                if node.is_running and node.command("ROLE", timeout=1.0)[0] == b"master":
                    found.append(node)
        return found

    def master_of(self, slot: int) -> RedisServer:
        """Answer who has a slot, as most servers see it."""
        seen: dict[int, int] = {}
        for node in self.nodes:
            with suppress(redis.RedisError, OSError):
                if node.is_running:
                    for first, last, master, *_ in node.command("CLUSTER", "SLOTS", timeout=1.0):
                        if first <= slot <= last:
                            seen[master[1]] = seen.get(master[1], 0) + 1
        port = max(seen, key=lambda each: seen[each])
        return next(node for node in self.nodes if node.port == port)

    # --- moving slots -------------------------------------------------------------------------------------------------

    def move_slot(self, slot: int, target: RedisServer) -> None:
        """Move a slot and its keys to another master."""
        source = self.begin_move(slot, target)
        while self.move_some_keys(slot, source, target):
            pass
        self.end_move(slot, source, target)

    def begin_move(self, slot: int, target: RedisServer) -> RedisServer:
        """Begin to move a slot; answer where from."""
        source = self.master_of(slot)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        return source

    def move_some_keys(self, slot: int, source: RedisServer, target: RedisServer, count: int = _MOVED_AT_ONCE) -> int:
        """Move some keys of a slot that is moving; answer how many."""
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """End the move of a slot all of whose keys were moved."""
        identity = self.id_of(target)
        for node in (target, source, *self.masters()):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", identity)
