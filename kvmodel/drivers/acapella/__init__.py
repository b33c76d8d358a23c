"""AcapellaDB: partitions of sorted rows, transactions, indexes and Distributed Trees, over HTTP and JSON.

:class:`AcapellaDriver` is what ``acapella://`` URLs connect with; :class:`Session` is the store's own vocabulary, all
of it, and works without the mapper too.
"""

from kvmodel.drivers.acapella.driver import AcapellaDriver
from kvmodel.drivers.acapella.entries import Batch, Entry
from kvmodel.drivers.acapella.errors import (
    AuthenticationFailedError,
    CasError,
    KvError,
    TransactionCompletedError,
    TransactionNotFoundError,
)
from kvmodel.drivers.acapella.indexes import (
    IndexField,
    IndexFieldOrder,
    IndexFieldType,
    PartitionIndex,
    QueryCondition,
)
from kvmodel.drivers.acapella.nodes import Cursor, Tree
from kvmodel.drivers.acapella.session import Session
from kvmodel.drivers.acapella.transactions import Transaction

__all__ = [
    "AcapellaDriver",
    "AuthenticationFailedError",
    "Batch",
    "CasError",
    "Cursor",
    "Entry",
    "IndexField",
    "IndexFieldOrder",
    "IndexFieldType",
    "KvError",
    "PartitionIndex",
    "QueryCondition",
    "Session",
    "Transaction",
    "TransactionCompletedError",
    "TransactionNotFoundError",
    "Tree",
]
