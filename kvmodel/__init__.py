"""kvmodel: an async, typed object mapper for key-value stores.

Declare classes, connect to a store by its URL, and ask ``User.objects``. The names below are the public interface;
everything else, and every module whose name begins with an underscore, may change.

What declares models is imported at once; what asks stores, and asyncio with it, at its first use, so that a module of
models stays cheap to import.
"""

import typing as _typing
from importlib import import_module as _import_module

from kvmodel._state import expires_at, version
from kvmodel.drivers.base import Atomicity, Capabilities, Durability, Expiry, Outcome, Reverse, Status, Watch
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

__all__ = [
    "AlreadyExists",
    "Atomicity",
    "AuthenticationFailed",
    "Batch",
    "BatchError",
    "BudgetExceeded",
    "Capabilities",
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

    def __getattr__(name: str) -> object:
        """Import what is not imported yet."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(_import_module(_LATER[name]), name)
        _present(name, found)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _present(name: str, found: object) -> None:
    """Show a name as it may be imported: in a repr, a traceback, an editor."""
    globals()[name] = found
    if getattr(found, "__module__", "").startswith("kvmodel."):
        found.__module__ = __name__


for _name in set(__all__) - set(_LATER):
    _present(_name, globals()[_name])
del _name
