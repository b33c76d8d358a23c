"""Arakoon: a consistent, replicated store of ordered bytes with atomic sequences of updates.

:class:`ArakoonDriver` is what ``arakoon://`` URLs connect with; :class:`ArakoonClient` is the store's own vocabulary,
all of it, and works without the mapper too.
"""

from kvmodel.drivers.arakoon import steps
from kvmodel.drivers.arakoon.builder import SequenceBuilder
from kvmodel.drivers.arakoon.client import ArakoonClient, NodeClient
from kvmodel.drivers.arakoon.driver import ArakoonDriver
from kvmodel.drivers.arakoon.nursery import ClusterNode, Interval, Leaf, NurseryConfig, Split, cluster_of
from kvmodel.drivers.arakoon.statistics import Statistics, Timing
from kvmodel.drivers.arakoon.wire import CONSISTENT, NO_GUARANTEES, AtLeast, Consistency

__all__ = [
    "CONSISTENT",
    "NO_GUARANTEES",
    "ArakoonClient",
    "ArakoonDriver",
    "AtLeast",
    "ClusterNode",
    "Consistency",
    "Interval",
    "Leaf",
    "NodeClient",
    "NurseryConfig",
    "SequenceBuilder",
    "Split",
    "Statistics",
    "Timing",
    "cluster_of",
    "steps",
]
