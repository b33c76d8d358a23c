"""What the tests of this store share."""

from __future__ import annotations

import kvmodel as kv
from kvmodel.drivers.picodata import PicodataPool
from kvmodel.testing.picodata import LocalPicodata


class Item(kv.Model, table="items"):
    """A record like many."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str | None = None


def native(db: kv.Database) -> PicodataPool:
    """The connected pool."""
    pool = db.native
    assert isinstance(pool, PicodataPool)
    return pool


def statements(cluster: LocalPicodata) -> list[str]:
    """All statements that the nodes were given, node by node."""
    return [text for node in cluster.nodes for text in node.statements]


def forget(cluster: LocalPicodata) -> None:
    """Begin to note statements anew."""
    for node in cluster.nodes:
        node.statements.clear()
