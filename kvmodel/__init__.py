"""kvmodel: an async, typed object mapper for key-value stores.

Declare classes, connect to a store by its URL, and ask ``User.objects``. The names below are the public interface;
everything else, and every module whose name begins with an underscore, may change.

What declares models is imported at once; what asks stores, and asyncio with it, at its first use, so that a module of
models stays cheap to import.
"""

import typing as _typing

from kvmodel._later import importer as _importer
from kvmodel._later import present as _present
from kvmodel._state import expires_at, version
from kvmodel.drivers.base import (
    Atomicity,
    Capabilities,
    ChangeKind,
    Durability,
    Expiry,
    Outcome,
    Reverse,
    Status,
    Watch,
)
from kvmodel.errors import (
    AlreadyExists,
    AuthenticationFailed,
    BatchError,
    BudgetExceeded,
    Closed,
    Conflict,
    DecodingError,
    KvModelError,
    NoDatabase,
    NotFound,
    OutcomeUnknown,
    ProtocolError,
    SchemaError,
    StoreError,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
    ValidationError,
    WatchLost,
)
from kvmodel.fields import clustering_key, converter, field, partition_key, upgrade
from kvmodel.limits import budget, timeout
from kvmodel.model import Model, replace

if _typing.TYPE_CHECKING:
    from kvmodel.batch import Batch
    from kvmodel.database import Database, connect
    from kvmodel.query import Page, Plan, Range, starts
    from kvmodel.queue import QueueModel
    from kvmodel.repository import Repository
    from kvmodel.tree import TreeModel
    from kvmodel.unit_of_work import UnitOfWork
    from kvmodel.watching import Change, Changes

__all__ = [
    "AlreadyExists",
    "Atomicity",
    "AuthenticationFailed",
    "Batch",
    "BatchError",
    "BudgetExceeded",
    "Capabilities",
    "Change",
    "ChangeKind",
    "Changes",
    "Closed",
    "Conflict",
    "Database",
    "DecodingError",
    "Durability",
    "Expiry",
    "KvModelError",
    "Model",
    "NoDatabase",
    "NotFound",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "Plan",
    "ProtocolError",
    "QueueModel",
    "Range",
    "Repository",
    "Reverse",
    "SchemaError",
    "Status",
    "StoreError",
    "TimedOut",
    "TooLarge",
    "TreeModel",
    "Unavailable",
    "UnitOfWork",
    "Unsupported",
    "ValidationError",
    "Watch",
    "WatchLost",
    "budget",
    "clustering_key",
    "connect",
    "converter",
    "expires_at",
    "field",
    "partition_key",
    "replace",
    "starts",
    "timeout",
    "upgrade",
    "version",
]

_LATER = {
    "Batch": "kvmodel.batch",
    "Change": "kvmodel.watching",
    "Changes": "kvmodel.watching",
    "Database": "kvmodel.database",
    "Page": "kvmodel.query",
    "Plan": "kvmodel.query",
    "QueueModel": "kvmodel.queue",
    "Range": "kvmodel.query",
    "Repository": "kvmodel.repository",
    "TreeModel": "kvmodel.tree",
    "UnitOfWork": "kvmodel.unit_of_work",
    "connect": "kvmodel.database",
    "starts": "kvmodel.query",
}


if not _typing.TYPE_CHECKING:  # Or type checkers would take any name for one that exists.
    __getattr__ = _importer(globals(), _LATER)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


for _name in set(__all__) - set(_LATER):
    _present(globals(), _name, globals()[_name])
del _name
