"""The nodes down to a level, and those above a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

from kvmodel._tree.paths import Path, below
from kvmodel._tree.skipping import Skip, path_of, read_levels
from kvmodel.drivers.base import Absent, Key, Row, Slice
from kvmodel.errors import Unsupported
from kvmodel.query import Page, Plan, Range

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.model import Model
    from kvmodel.repository import Repository
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Ancestors", "SkipRange"]

M = TypeVar("M", bound="Model")


class SkipRange(Range[M]):
    """The nodes of a slice down to a level, depth first."""

    __slots__ = ("_deepest",)

    def __init__(
        self,
        repository: Repository[M, *tuple[Any, ...]],
        slice: Slice,
        deepest: int,
        *,
        checked: bool = True,
        allow_costly: bool = False,
    ) -> None:
        super().__init__(repository, slice, checked=checked, allow_costly=allow_costly)
        self._deepest = deepest

    async def _list(self) -> list[M]:
        bound, unit = self._where()
        if unit is not None:
            return [node for _, node in await self._joined(bound, unit) if node is not None]
        load = bound.schema.load
        return [load(row) async for rows in self._rows(bound) for row in rows if isinstance(row, Row)]

    async def __aiter__(self) -> AsyncIterator[M]:
        bound, unit = self._where()
        if unit is not None:  # What the loop changes in the unit must not change what it loops over.
            for node in await self._list():
                yield node
            return
        load = bound.schema.load
        async for rows in self._rows(bound, whole=False):
            for row in rows:
                if isinstance(row, Row):
                    yield load(row)

    async def places(self) -> list[tuple[Path, M | None]]:
        """Answer the nodes with their paths, and the paths of the deepest level that only have nodes below them."""
        bound, unit = self._where()
        if unit is not None:
            return await self._joined(bound, unit)
        load = bound.schema.load
        return [
            (path_of(row.key), load(row) if isinstance(row, Row) else None)
            async for rows in self._rows(bound)
            for row in rows
        ]

    async def paths(self) -> list[Path]:
        """Answer the paths alone, without moving values where the store can."""
        bound, unit = self._where()
        if unit is not None:
            return [path for path, _ in await self._joined(bound, unit)]
        return [path_of(row.key) async for rows in self._rows(bound, values=False) for row in rows]

    async def count(self) -> int:
        """Count the nodes. Costs what reading them costs, but for their values."""
        bound = self._outside_unit("count()")
        return sum([isinstance(row, Row) async for rows in self._rows(bound, values=False) for row in rows])

    async def delete(self) -> int:
        """Refuse: it would leave everything below without a parent."""
        raise Unsupported("this would leave what is below: delete a whole subtree with tree.delete_subtree(...)")

    def explain(self) -> Plan:
        """Say what will be sent and what it costs. Sends nothing."""
        plan = super().explain()
        step = f"{plan.steps[0]}, skipping what has more than {self._deepest} parts: about one seek for each node found"
        return Plan(plan.store, (step,), None, None)

    # --- inside ---

    def _rows(
        self, bound: Bound[M], *, values: bool = True, whole: bool = True, after: Key | None = None
    ) -> AsyncIterator[list[Row | Absent]]:
        return read_levels(bound, self._slice, self._deepest, values=values, whole=whole, after=after)

    async def _joined(self, bound: Bound[M], unit: UnitOfWork) -> list[tuple[Path, M | None]]:
        """Read as a unit of work sees it."""
        skip: Skip[M] = Skip(self._slice, self._deepest)
        found: list[tuple[Path, M | None]] = []
        while skip.slice is not None:
            nodes = await unit._joined.scan(bound, skip.slice, checked=self._checked)
            found += skip.take([(path_of(bound.schema.key_of(node)), node) for node in nodes])
        return found

    def _identity(self, bound: Bound[M]) -> tuple[object, ...]:
        return (*super()._identity(bound), self._deepest)

    async def _behind(self, bound: Bound[M], after: Key | None, limit: int) -> list[M]:
        limited = self._like(self._slice._replace(limit=limit), checked=self._checked)
        load = bound.schema.load
        return [load(row) async for rows in limited._rows(bound, after=after) for row in rows if isinstance(row, Row)]

    def _like(self, slice: Slice, *, checked: bool) -> SkipRange[M]:
        return SkipRange(self._repository, slice, self._deepest, checked=checked, allow_costly=self._allow_costly)


class Ancestors(Range[M]):
    """The nodes on the way from the root to a node, which is not among them. Read by key, all at once."""

    __slots__ = ("_path",)

    def __init__(self, repository: Repository[M, *tuple[Any, ...]], partition: Key, path: Path) -> None:
        super().__init__(repository, below(partition, path[:1]))
        self._path = path

    def _keys(self) -> list[Key]:
        partition = self._slice.partition or ()
        return [(*partition, self._path[:length]) for length in range(1, len(self._path))]

    async def _list(self) -> list[M]:
        bound, unit = self._repository._where()
        found = await self._repository._session(unit).find_many(bound, self._keys())
        return [node for node in found if node is not None]

    async def __aiter__(self) -> AsyncIterator[M]:
        for node in await self._list():
            yield node

    async def count(self) -> int:
        """Count the nodes that are there. Costs what reading them costs."""
        return len(await self._list())

    async def page(self, size: int, token: str | None = None) -> Page[M]:
        """Refuse: ancestors come all at once."""
        raise Unsupported("ancestors are read by key, all at once, and have no pages: await them")

    async def delete(self) -> int:
        """Refuse: it would leave everything below without a parent."""
        raise Unsupported("this would leave what is below: delete a whole subtree with tree.delete_subtree(...)")

    def explain(self) -> Plan:
        """Say what will be sent and what it costs. Sends nothing."""
        bound, _ = self._repository._where()
        keys = len(self._keys())
        capabilities = bound.driver.capabilities
        trips = -(-keys // max(capabilities.max_read_batch, 1))
        return Plan(capabilities.store, (f"read {bound.table.name} by key, above {self._path!r}",), trips, keys)

    def _like(self, slice: Slice, *, checked: bool) -> Ancestors[M]:
        return self  # Neither a limit nor an unchecked range changes what is read by key.
