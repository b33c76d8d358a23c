"""What only some stores have: the kinds of facet that ``Driver.facet`` may be asked for."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kvmodel.drivers.base import Absent, Driver, Key, Row, Slice, Table

__all__ = ["Levels", "SelfCheck", "SkipStore", "TreeStore"]


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


class Levels(NamedTuple):
    """One page of the upper levels of a tree.

    Attributes:
        rows: The nodes; forwards also, as ``Absent``, the places of the deepest level at which no node is, though one
            is under them.
        resume: The key to go on behind, as ``Slice.after``; ``None`` when the slice is done: at its end, or when its
            limit is reached.
    """

    rows: list[Row | Absent]
    resume: Key | None = None


class SkipStore:
    """Going to a place where that costs about as much as reading on: what lies between need not be read.

    Other stores need not have it: the mapper then reads small pages, of which each begins behind what is to be skipped.
    """

    async def skip_scan(
        self, table: Table, slice: Slice, deepest: int, *, values: bool = True, now: int, until: float
    ) -> Levels:
        """Read one page of those nodes of a slice whose path has ``deepest`` parts at the most.

        The path is the table's one clustering component, a tuple, ascending; the table's layout is ``record``. The
        slice's limit counts nodes. Its ``after`` leaves out all that is under that key as well, if its path has just
        ``deepest`` parts.
        """
        raise NotImplementedError


class SelfCheck:
    """Looking at the settings of the servers that a driver is connected to."""

    async def check(self, *, until: float) -> list[str]:
        """Answer, in words, what of them would lose data silently. Raises ``StoreError``."""
        raise NotImplementedError
