"""Picodata: a distributed SQL store, by PostgreSQL's protocol. Models become tables, fields become typed columns.

:class:`PicodataPool` is ``db.native``: the connected pool, for SQL in Picodata's dialect.
"""

from kvmodel.drivers.picodata.discovery import NodeAddress
from kvmodel.drivers.picodata.driver import PicodataDriver
from kvmodel.drivers.picodata.pool import BalanceStrategy, PicodataConnection, PicodataPool

__all__ = ["BalanceStrategy", "NodeAddress", "PicodataConnection", "PicodataDriver", "PicodataPool"]
