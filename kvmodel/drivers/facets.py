"""What only some stores have: the kinds of facet that ``Driver.facet`` may be asked for."""

from __future__ import annotations

from typing import Protocol

from kvmodel.drivers.base import Driver, Table

__all__ = ["TreeStore"]


class TreeStore(Driver, Protocol):
    """Trees that a store keeps by itself, as a driver for the tables of ``kv.TreeModel``.

    Such a table is one tree for each partition. Its one clustering component is the path: a tuple of ``str``, ``int``
    and ``UUID``, whose order is depth first. The mapper asks the facet whatever it would ask the driver about this
    table, and goes by the facet's own capabilities; what those deny raises ``Unsupported``.

    A unit of work may change such a table and others in one write. That goes to the driver, a batch to whichever comes
    first in it: each of them takes mutations of all tables.
    """

    def adopt(self, table: Table) -> None:
        """Keep the records of this table from now on. Comes before anything that is asked about it."""
        ...
