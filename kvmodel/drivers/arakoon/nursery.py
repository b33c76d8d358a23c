"""Nurseries: how several Arakoon clusters share one space of keys, as messages tell it."""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from kvmodel.drivers.arakoon.wire import BOOL, INT32, STRING, ListOf, Malformed, Reader, Shape

__all__ = [
    "NODES",
    "NURSERY",
    "ROUTING",
    "ClusterNode",
    "Interval",
    "Leaf",
    "NurseryConfig",
    "Routing",
    "Split",
    "cluster_of",
]

_MAX_DEPTH: Final = 200


@attrs.frozen
class Leaf:
    """All keys from here on are one cluster's."""

    cluster: bytes


@attrs.frozen
class Split:
    """Keys below the boundary go left, the boundary itself and the keys above it go right."""

    boundary: bytes
    left: Routing
    right: Routing


Routing: TypeAlias = "Leaf | Split"


def cluster_of(routing: Routing, key: bytes) -> bytes:
    """Answer the cluster that holds a key."""
    while isinstance(routing, Split):
        routing = routing.left if key < routing.boundary else routing.right
    return routing.cluster


def _write_routing(routing: Routing) -> bytes:
    if isinstance(routing, Leaf):
        return BOOL.write(True) + STRING.write(routing.cluster)
    return (
        BOOL.write(False)
        + STRING.write(routing.boundary)
        + _write_routing(routing.left)
        + _write_routing(routing.right)
    )


def _read_routing(reader: Reader, depth: int = 0) -> Routing:
    if depth > _MAX_DEPTH:
        raise Malformed("a routing is nested too deeply", answered=True)
    if BOOL.read(reader):
        return Leaf(reader.string())
    return Split(reader.string(), _read_routing(reader, depth + 1), _read_routing(reader, depth + 1))


ROUTING: Final[Shape[Routing]] = Shape("routing", _write_routing, _read_routing, 5)


@attrs.frozen
class Interval:
    """The keys that a cluster is responsible for: begin inside, end outside, ``None`` for an open end."""

    public_begin: bytes | None = None
    public_end: bytes | None = None
    private_begin: bytes | None = None
    private_end: bytes | None = None


@attrs.frozen
class ClusterNode:
    """Where one node of a cluster is."""

    name: bytes
    addresses: tuple[bytes, ...]
    port: int


@attrs.frozen
class NurseryConfig:
    """The routing of a nursery, and the nodes of each of its clusters."""

    routing: Routing
    clusters: dict[bytes, tuple[ClusterNode, ...]]


_ADDRESSES: Final = ListOf(STRING)


def _write_node(node: ClusterNode) -> bytes:
    return STRING.write(node.name) + _ADDRESSES.write(list(node.addresses)) + INT32.write(node.port)


def _read_node(reader: Reader) -> ClusterNode:
    return ClusterNode(reader.string(), tuple(_ADDRESSES.read(reader)), reader.int32())


NODES: Final[ListOf[ClusterNode]] = ListOf(Shape("node", _write_node, _read_node, 12))


def _write_nursery(config: NurseryConfig) -> bytes:
    clusters = [STRING.write(name) + NODES.write(list(nodes)) for name, nodes in config.clusters.items()]
    return ROUTING.write(config.routing) + INT32.write(len(clusters)) + b"".join(clusters)


def _read_nursery(reader: Reader) -> NurseryConfig:
    routing = ROUTING.read(reader)
    count = reader.count(8)
    return NurseryConfig(routing, {reader.string(): tuple(NODES.read(reader)) for _ in range(count)})


NURSERY: Final[Shape[NurseryConfig]] = Shape("nursery", _write_nursery, _read_nursery, 9)
