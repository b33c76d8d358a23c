"""Which nodes a cluster has: asked of any of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

__all__ = ["DISCOVER", "NodeAddress", "read_nodes"]

DISCOVER: Final = (
    "SELECT i.uuid, i.replicaset_uuid, i.tier, i.current_state, p.address FROM _pico_instance i"
    " JOIN _pico_peer_address p ON i.raft_id = p.raft_id WHERE p.connection_type = $1"
)
CONNECTION_TYPE: Final = "pgproto"


@attrs.frozen
class NodeAddress:
    """Where a node listens, and the tier that it belongs to, where that is known."""

    host: str
    port: int
    tier: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_nodes(rows: Sequence[Mapping[str, object]], forbidden: Iterable[str]) -> list[NodeAddress]:
    """Answer the nodes that are online, outside of the forbidden tiers."""
    refused = frozenset(forbidden)
    return [
        parse_address(str(row["address"]), str(row["tier"]) if row["tier"] else None)
        for row in rows
        if _is_online(row["current_state"]) and row["tier"] not in refused
    ]


def parse_address(text: str, tier: str | None = None, default_port: int = 4327) -> NodeAddress:
    """Read ``host:port``. Raises ``ValueError``."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address stands in brackets: [::1]:4327")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if not host or (port and not port.isdecimal()) or ":" in port:
        raise ValueError("a node is host:port")
    number = int(port) if port else default_port
    if not 0 < number < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    return NodeAddress(host, number, tier)


def _is_online(state: object) -> bool:
    """A state is ``["Online", 5]`` or ``{"Online": 5}``, as JSON."""
    if isinstance(state, str):
        try:
            state = json.loads(state)
        except ValueError:
            return state == "Online"
    if isinstance(state, list | dict):
        return "Online" in state
    return state == "Online"
