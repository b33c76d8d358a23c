"""A store that has trees of its own keeps the nodes in them, unless the class line says otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import attrs
import pytest

import kvmodel as kv
from kvmodel.database import Connection, Database
from kvmodel.drivers.base import Mutation, Outcome, Table
from kvmodel.drivers.facets import TreeStore
from kvmodel.drivers.memory import MemoryDriver
from tests.tree.models import Node

FacetT = TypeVar("FacetT")


class Kept(kv.TreeModel, table="kept", native=False):
    tree: str = kv.partition_key()
    value: int = 0


class User(kv.Model, table="users"):
    name: str = kv.clustering_key()


class Trees(MemoryDriver):
    """The store's own trees: another store, which can do less."""

    def __init__(self) -> None:
        super().__init__(range_checks=False)
        self.tables: list[Table] = []

    def adopt(self, table: Table) -> None:
        self.tables.append(table)


class Woods(MemoryDriver):
    """A store with trees of its own beside its records."""

    def __init__(self) -> None:
        super().__init__()
        self.trees = Trees()

    async def open(self) -> None:
        await super().open()
        await self.trees.open()

    def facet(self, kind: type[FacetT]) -> FacetT | None:
        return self.trees if kind is TreeStore else super().facet(kind)  # type: ignore[return-value]

    async def write(self, mutations: Sequence[Mutation], *, atomic: bool, now: int, until: float) -> list[Outcome]:
        """Send each mutation where its table is kept."""
        outcomes: list[Outcome] = []
        for mutation in mutations:
            store: MemoryDriver = self.trees if mutation.table in self.trees.tables else super()  # type: ignore[assignment]
            outcomes += await store.write([mutation], atomic=atomic, now=now, until=until)
        return outcomes


@pytest.fixture
async def woods() -> AsyncIterator[Woods]:
    driver = Woods()
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def db(woods: Woods) -> Database:
    return Database(Connection(woods))


async def test_nodes_go_to_the_trees(woods: Woods, db: Database) -> None:
    """A table of nodes is adopted once, before anything is asked about it, and all that is asked goes to the trees."""
    nodes = Node.objects.using(db).tree("t")
    await nodes.cursor("a").set(1)
    await nodes.cursor("a", "b").set(2)

    assert [table.name for table in woods.trees.tables] == ["nodes"]
    assert len(woods.native) == 0
    assert [node.path for node in await nodes.children("a")] == [("a", "b")]
    assert await nodes.move("a", "c") == 2
    assert await nodes.subtree_count("c") == 2
    assert len(woods.native) == 0


async def test_other_tables_do_not(woods: Woods, db: Database) -> None:
    """With ``native=False`` nodes are records, as those of all other models are."""
    await Kept.objects.using(db).tree("t").cursor("a").set(1)
    await User.objects.using(db).create(User("ada"))

    assert woods.trees.tables == []
    assert len(woods.trees.native) == 0
    assert len(woods.native) > 0


async def test_the_capabilities_are_those_of_the_trees(db: Database) -> None:
    """What the store's records can and its trees can't is refused on trees."""
    nodes = Node.objects.using(db).tree("t")
    async with db.unit_of_work() as uow:
        with pytest.raises(kv.Unsupported, match="range"):
            await Node.objects.using(uow).tree("t").children()
        assert await User.objects.using(uow).range() == []
    await nodes.cursor("a").set(1)
    assert attrs.asdict(db.capabilities)["range_checks"] is True


async def test_a_unit_changes_both(woods: Woods, db: Database) -> None:
    """One unit of work may change nodes and other records: its one write goes to the driver."""
    async with db.unit_of_work() as uow:
        uow.add(User("ada"), Node("t", 1, path=("a",)))

    assert await User.objects.using(db).exists("ada")
    assert await Node.objects.using(db).exists("t", ("a",))
    assert len(woods.trees.native) > 0
