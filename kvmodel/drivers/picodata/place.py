"""A table on one connection: its layout there, its statements, its rows, and how much of it fits into a page."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from kvmodel.drivers.base import Key
from kvmodel.drivers.picodata.bounds import encode_parts
from kvmodel.drivers.picodata.forms import Wire
from kvmodel.drivers.picodata.layout import Layout
from kvmodel.drivers.picodata.rows import RowCodec
from kvmodel.drivers.picodata.statements import Texts

__all__ = ["FIRST_PAGE", "PAGE", "Place"]

FIRST_PAGE: Final = 100
PAGE: Final = 256
"""How many rows a page has: a few hundred cost some thousand of the 45000 steps that a statement is granted."""

_PAGE_BYTES: Final = 4 << 20
_SMALLEST: Final = 16


class Place:
    """What a driver compiles for one table.

    Attributes:
        room: How many rows the next page asks for at the most.
        unlimited: Whether pages of this table have to ask for more than a statement is granted by itself.
    """

    def __init__(self, layout: Layout, store: str, max_value_bytes: int | None) -> None:
        self.layout = layout
        self.store = store
        self.texts = Texts(layout)
        self.rows = RowCodec(layout, store, max_value_bytes)
        self.room = PAGE
        self.unlimited = False
        self._granted = PAGE

    def scope(self, key: Key) -> Hashable:
        """Answer the bucket of a record, as far as it can be told: equal columns of equal types lie together."""
        layout = self.layout
        parts = key[: layout.partition_count]
        wires: Sequence[Wire] = encode_parts(layout, parts, 0) if parts else [0]
        types = tuple(column.form.type for column in layout.keys[: layout.partition_count]) or ("INTEGER",)
        return layout.table.namespace, layout.tier, layout.engine, types, tuple(wires)

    def learn(self, records: Sequence[Sequence[Wire]]) -> None:
        """Note how large rows are."""
        if not records:
            return
        sample = records[:: max(len(records) // 8, 1)]
        size = sum(len(wire) for record in sample for wire in record if isinstance(wire, str)) // len(sample)
        self.room = max(1, min(self._granted, _PAGE_BYTES // (size + 1)))

    def cut(self, asked: int) -> bool:
        """Note that the server granted less than a page of so many rows. Whether trying again makes sense."""
        if asked > _SMALLEST:
            self.room = self._granted = max(_SMALLEST, asked // 2)
            return True
        if self.unlimited:
            return False
        # It is not the page that is too large: the store looks at more rows than it answers.
        self.unlimited, self.room, self._granted = True, FIRST_PAGE, FIRST_PAGE
        return True
