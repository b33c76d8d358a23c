"""quasardb: a distributed key-value store with a closed protocol, spoken by the vendor's package in worker processes.

:class:`QuasardbDriver` is what ``qdb://`` URLs connect with; :class:`QuasardbClient` is the store's own vocabulary, and
works without the mapper too.
"""

from kvmodel.drivers.quasardb.batch import BatchOperation, BatchRequest, BatchResult
from kvmodel.drivers.quasardb.client import QuasardbClient
from kvmodel.drivers.quasardb.connecting import Credentials
from kvmodel.drivers.quasardb.driver import QuasardbDriver
from kvmodel.drivers.quasardb.errors import LibraryError

__all__ = [
    "BatchOperation",
    "BatchRequest",
    "BatchResult",
    "Credentials",
    "LibraryError",
    "QuasardbClient",
    "QuasardbDriver",
]
