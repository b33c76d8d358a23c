"""What the connected servers say of themselves: how durable they are, and which settings would lose data silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
from redis.exceptions import RedisError

from kvmodel.drivers.base import Durability
from kvmodel.drivers.redis.nodes import Node

__all__ = ["State", "durability_of", "findings_of", "may_lose", "state_of"]

_SETTINGS: Final = (
    b"maxmemory",
    b"maxmemory-policy",
    b"appendonly",
    b"appendfsync",
    b"save",
    b"min-replicas-to-write",
    b"min-slaves-to-write",
)


@attrs.frozen
class State:
    """What one server says.

    Attributes:
        address: Where it is.
        info: What ``INFO`` tells.
        settings: What ``CONFIG GET`` tells; empty where it may not be asked.
    """

    address: str
    info: Mapping[str, str]
    settings: Mapping[str, str]

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version."""
        parts = self.info.get("redis_version", "0").split(".")
        return tuple(int(part) for part in parts if part.isdigit())

    @property
    def is_cluster(self) -> bool:
        """Whether it is a node of a cluster."""
        return self.info.get("redis_mode") == "cluster"

    @property
    def is_master(self) -> bool:
        """Whether it takes writes."""
        return self.info.get("role", "master") == "master"

    @property
    def replicas(self) -> int:
        """How many replicas it has."""
        return int(self.info.get("connected_slaves", "0"))

    @property
    def has_log(self) -> bool:
        """Whether writes go to a log on its disk."""
        return self.info.get("aof_enabled") == "1"

    @property
    def policy(self) -> str:
        """What it does when its memory is full."""
        return self.info.get("maxmemory_policy", self.settings.get("maxmemory-policy", "noeviction"))

    @property
    def required_replicas(self) -> int | None:
        """How many replicas have to be connected for a write; ``None`` where that may not be asked."""
        text = self.settings.get("min-replicas-to-write", self.settings.get("min-slaves-to-write"))
        return int(text) if text is not None else None


async def state_of(node: Node, until: float) -> State:
    """Ask a server. Raises as ``Node.exchange`` does, and ``RedisError`` where it refuses to tell anything."""
    commands = [(b"INFO",), *((b"CONFIG", b"GET", name) for name in _SETTINGS)]
    info, *answers = await node.exchange(commands, until)
    if isinstance(info, RedisError):
        raise info
    settings: dict[str, str] = {}
    for answer in answers:
        if not isinstance(answer, RedisError) and len(answer) == 2:
            settings[answer[0].decode()] = answer[1].decode()
    return State(str(node.address), _parse(info), settings)


def _parse(info: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def durability_of(states: Sequence[State]) -> Durability:
    """Answer what an acknowledged write survives on the weakest of these."""
    return min((_durability(state) for state in states), default=Durability.MEMORY)


def _durability(state: State) -> Durability:
    if not state.has_log:
        return Durability.MEMORY
    # Where the setting can't be read, the default is assumed: once a second.
    return Durability.DISK if state.settings.get("appendfsync") == "always" else Durability.PROCESS


def may_lose(states: Sequence[State], *, has_failover: bool) -> bool:
    """Whether a failover may lose acknowledged writes: replicas are told after the client is."""
    return has_failover or any(state.replicas for state in states)


def findings_of(states: Sequence[State], *, has_failover: bool) -> list[str]:
    """Answer, in words, which settings would lose data silently."""
    found: dict[str, list[str]] = {}
    for state in states:
        for text in _findings(state, has_failover):
            found.setdefault(text, []).append(state.address)
    return [f"{text} [{', '.join(addresses)}]" for text, addresses in found.items()]


def _findings(state: State, has_failover: bool) -> list[str]:
    return [*_of_eviction(state), *_of_persistence(state), *_of_replicas(state, has_failover)]


def _of_eviction(state: State) -> list[str]:
    if state.policy == "noeviction":
        return []
    if state.policy.startswith("volatile"):
        return [
            (
                f"eviction: maxmemory-policy is {state.policy}, so records that have a deadline go before it when"
                " memory is full: set maxmemory-policy noeviction"
            )
        ]
    return [
        (
            f"eviction: maxmemory-policy is {state.policy}, so any record may vanish when memory is full: set"
            " maxmemory-policy noeviction"
        )
    ]


def _of_persistence(state: State) -> list[str]:
    if not state.has_log:
        snapshots = state.settings.get("save")
        what = "everything is lost" if snapshots == "" else "everything since the last snapshot is lost"
        return [f"persistence: appendonly is no, so {what} when the server ends: set appendonly yes"]
    fsync = state.settings.get("appendfsync")
    if fsync == "always":
        return []
    if fsync is None:
        return ["persistence: CONFIG may not be read here, so that appendfsync is unknown: ask for always"]
    span = "the last second of writes is" if fsync == "everysec" else "the last writes, perhaps 30 seconds of them, are"
    return [f"persistence: appendfsync is {fsync}, so {span} lost in a power cut: set appendfsync always"]


def _of_replicas(state: State, has_failover: bool) -> list[str]:
    if has_failover and not state.replicas:
        return ["replicas: this master has no replica, so its records are gone if it is lost: add one"]
    if not (has_failover or state.replicas):
        return []
    required = state.required_replicas
    if required is None:
        return ["replicas: CONFIG may not be read here, so that min-replicas-to-write is unknown: ask for 1 or more"]
    if required == 0:
        return [
            (
                "replicas: min-replicas-to-write is 0, so a master that is cut off acknowledges writes that a failover"
                " loses: set min-replicas-to-write 1, and min-replicas-max-lag as low as you can bear"
            )
        ]
    return []
