"""kvmodel: an async, typed object mapper for key-value stores.

Declare classes, connect to a store by its URL, and ask ``User.objects``. The names below are the public interface;
everything else, and every module whose name begins with an underscore, may change.
"""

from kvmodel.batch import Batch
from kvmodel.database import Database, connect
from kvmodel.drivers.base import Atomicity, Capabilities, Durability, Expiry, Reverse, Status, Watch
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
from kvmodel.model import Model, expires_at, replace, version
from kvmodel.query import Page, Plan, Range, starts
from kvmodel.repository import Repository
from kvmodel.unit_of_work import UnitOfWork
