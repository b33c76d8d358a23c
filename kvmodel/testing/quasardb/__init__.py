"""What stands in for the vendor's package in tests: the same calls, the same checks, the same traps. No database.

``qdb://host:port?library=kvmodel.testing.quasardb`` makes worker processes import this module instead of ``quasardb``;
all else is the code that runs in production. If nothing listens at the address, the workers of a program share one
store for these hosts: a small process, started when it is first needed, which ends with the program. All is in memory,
and nothing is promised but what tests need.

:class:`kvmodel.testing.quasardb.server.LocalServer` is a store that can be looked into, stopped, and told what goes
wrong next. Its URL names the module :mod:`kvmodel.testing.quasardb.served`, which never starts a store by itself.

Everything public in here has the name, the parameters and the behaviour of the package's, as far as they are known
from watching it, its sources and its manuals; what the package lacks is missing here too. No server was at hand: what
depends on one is a belief.
"""

from kvmodel.testing.quasardb.connections import Cluster, Node, Options
from kvmodel.testing.quasardb.entries import (
    Blob,
    DirectBlob,
    DirectInteger,
    Double,
    Entry,
    ExpirableEntry,
    Integer,
    String,
    Tag,
    Timestamp,
    never_expires,
)
from kvmodel.testing.quasardb.errors import (
    AliasAlreadyExistsError,
    AliasNotFoundError,
    AsyncPipelineFullError,
    DirectInstantiationError,
    Error,
    IncompatibleTypeError,
    InputBufferTooSmallError,
    InternalLocalError,
    InvalidArgumentError,
    InvalidDatetimeError,
    InvalidHandleError,
    InvalidQueryError,
    NotImplementedError,
    OutOfBoundsError,
    TryAgainError,
    UninitializedError,
)

__all__ = [
    "AliasAlreadyExistsError",
    "AliasNotFoundError",
    "AsyncPipelineFullError",
    "Blob",
    "Cluster",
    "DirectBlob",
    "DirectInstantiationError",
    "DirectInteger",
    "Double",
    "Entry",
    "Error",
    "ExpirableEntry",
    "IncompatibleTypeError",
    "InputBufferTooSmallError",
    "Integer",
    "InternalLocalError",
    "InvalidArgumentError",
    "InvalidDatetimeError",
    "InvalidHandleError",
    "InvalidQueryError",
    "Node",
    "NotImplementedError",
    "Options",
    "OutOfBoundsError",
    "String",
    "Tag",
    "Timestamp",
    "TryAgainError",
    "UninitializedError",
    "build",
    "never_expires",
    "version",
]


def version() -> str:
    """Answer the version whose behaviour this is."""
    return "3.14.3"


def build() -> str:
    """Say that this is no build of the vendor's."""
    return "kvmodel stand-in"
