"""kvmodel: an async, typed object mapper for key-value stores.

Declare classes, connect to a store by its URL, and ask ``User.objects``. The names below are the public interface;
everything else, and every module whose name begins with an underscore, may change.
"""

from kvmodel._state import expires_at, version
from kvmodel.batch import Batch
from kvmodel.database import Database, connect
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
from kvmodel.query import Page, Plan, Range, starts
from kvmodel.repository import Repository
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
    "Range",
    "Repository",
    "Reverse",
    "SchemaError",
    "Status",
    "StoreError",
    "TimedOut",
    "TooLarge",
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

# What a user sees in a repr, a traceback or an editor is the name that may be imported.
for _name in __all__:
    if getattr(globals()[_name], "__module__", "").startswith("kvmodel."):
        globals()[_name].__module__ = __name__
