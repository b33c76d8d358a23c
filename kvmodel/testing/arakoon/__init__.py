"""An emulator of Arakoon's wire protocol, to test with. **It is no database**: it keeps everything in the memory of one
process, there is no log, no disk and no consensus behind it, and what its nodes agree upon they agree upon because
they share a Python object. It answers as a real server was recorded to answer, errors and their connections included.

``python -m kvmodel.testing.arakoon`` starts one node, ``--nodes 3`` three. In a test, ``async with`` a
:class:`LocalCluster`; it can move, depose and kill the master, and tell a node how to fail at its next write.
"""

from kvmodel.testing.arakoon.cluster import LocalCluster
from kvmodel.testing.arakoon.node import Answer, Mishap, Node
from kvmodel.testing.arakoon.store import Store

__all__ = ["Answer", "LocalCluster", "Mishap", "Node", "Store"]
