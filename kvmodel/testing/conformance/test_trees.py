"""Trees: places, levels and subtrees, on whatever keeps them: records in order, or trees of the store's own."""

from __future__ import annotations

from uuid import UUID

import pytest

import kvmodel as kv
from kvmodel.drivers.facets import TreeStore
from kvmodel.testing.conformance.models import refused
from kvmodel.testing.plugin import lacks
from kvmodel.tree import Tree

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_requires("ordered")]

Path = tuple[str | int | UUID, ...]
ID = UUID("0190a1b2-0000-7000-8000-000000000001")


class Node(kv.TreeModel, table="nodes"):
    """A node like many."""

    tree: str = kv.partition_key()
    value: int = 0


def keeper(db: kv.Database) -> kv.Capabilities:
    """What the keeper of trees can do: the store itself, or what it has for trees."""
    kind: type[TreeStore] | None = Node._kv_facet
    facet = None if kind is None else db.facet(kind)
    return db.capabilities if facet is None else facet.capabilities


def lacking(db: kv.Database, *names: str, **at_least: object) -> str | None:
    """What the keeper of trees lacks of these, in words."""
    return lacks(keeper(db), names, at_least)


def need(db: kv.Database, *names: str, **at_least: object) -> None:
    """Skip unless the keeper of trees can do this."""
    problem = lacking(db, *names, **at_least)
    if problem:
        pytest.skip(f"trees lack {problem}")


async def plant(db: kv.Database, *paths: Path) -> Tree[Node]:
    """Write a tree of these nodes, numbered."""
    nodes = Node.objects.using(db)
    assert await nodes.save_many(Node("t", number, path=path) for number, path in enumerate(paths)) == len(paths)
    return nodes.tree("t")


def paths(nodes: list[Node]) -> list[Path]:
    """The paths of nodes, in the order given."""
    return [node.path for node in nodes]


ALL: list[Path] = [
    ("a",),
    ("a", "b"),
    ("a", "b", "c"),
    ("a", "b", 7),
    ("a", "b", ID),
    ("a", "bb"),
    ("b", "missing", "deep"),
    ("c",),
    (-1,),
    (300,),
]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_nodes_come_depth_first(kv_db: kv.Database) -> None:
    """A parent before its children, str before int before UUID; numbers in their own order."""
    tree = await plant(kv_db, *reversed(ALL))

    assert paths([node async for node in tree.walk()]) == ALL
    assert paths(await tree.walk("a", "b")) == ALL[1:5]
    assert paths(await tree.descendants("a")) == ALL[1:6]
    assert paths(await tree.descendants("a", depth=1)) == [("a", "b"), ("a", "bb")]
    assert paths(await tree.children()) == [("a",), ("c",), (-1,), (300,)]
    assert await tree.child_paths() == [("a",), ("b",), ("c",), (-1,), (300,)]
    assert paths(await tree.ancestors("a", "b", 7)) == [("a",), ("a", "b")]
    assert await tree.subtree_count("a") == 6


async def test_bounds(kv_db: kv.Database) -> None:
    """A bound speaks of its path alone; a prefix takes in what is under it."""
    tree = await plant(kv_db, *ALL)

    assert paths(await tree.range(after=("a", "b"), last=("a", "bb"))) == ALL[2:6]
    assert paths(await tree.range(first=("a", "b"), before=("a", "b", ID))) == ALL[1:4]
    assert paths(await tree.range(prefix=("a", kv.starts("b")))) == ALL[1:6]
    assert paths(await tree.range(limit=2)) == ALL[:2]


async def test_backwards(kv_db: kv.Database) -> None:
    """The same backwards, where the store reads backwards."""
    need(kv_db, reverse=kv.Reverse.NATIVE)
    tree = await plant(kv_db, *ALL)

    assert paths(await tree.range(reverse=True)) == ALL[::-1]
    assert paths(await tree.children("a", "b", reverse=True)) == ALL[4:1:-1]
    assert paths(await tree.children("a", reverse=True, limit=1)) == [("a", "bb")]
    before = await tree.cursor("a", "bb").prev()
    assert before is not None
    assert before.path == ("a", "b", ID)


async def test_cursors(kv_db: kv.Database) -> None:
    """A place knows its node and its neighbours, whether a node is there or not."""
    tree = await plant(kv_db, *ALL)
    cursor, nowhere = tree.cursor("a", "b"), tree.cursor("a", "ba")

    around = [await cursor.get(), await cursor.next(), await cursor.parent(), await cursor.first_child()]
    assert [node and node.path for node in around] == [("a", "b"), ("a", "b", "c"), ("a",), ("a", "b", "c")]
    assert await nowhere.get() is None
    assert (await nowhere.set(9)).path == ("a", "ba")
    assert await nowhere.get() == Node("t", 9, path=("a", "ba"))
    assert await nowhere.delete() in (True, None)
    assert await nowhere.get() is None
    assert await tree.cursor(300).next() is None


async def test_children_cost_what_children_cost(kv_db: kv.Database) -> None:
    """However much is under them."""
    tops: list[Path] = [("top", f"{child}") for child in range(5)]
    tree = await plant(kv_db, *tops, *((*top, below) for top in tops for below in range(60)))

    with kv.budget() as spent:
        assert paths(await tree.children("top")) == tops

    assert spent.keys <= 60


# --- changing ---------------------------------------------------------------------------------------------------------


async def test_subtrees_move_in_one_commit(kv_db: kv.Database) -> None:
    """Or not at all: to a free place, out of the way of what is there."""
    need(kv_db, "conditional", atomicity=kv.Atomicity.PARTITION)
    tree = await plant(kv_db, ("a",), ("a", "x"), ("b",))

    assert await tree.move("a", ("b", "a")) == 2
    assert paths(await tree.walk()) == [("b",), ("b", "a"), ("b", "a", "x")]
    assert await tree.copy(("b", "a"), "c") == 2
    assert await tree.delete_subtree("b", "a") == 2
    assert [(node.path, node.value) for node in await tree.walk()] == [(("b",), 2), (("c",), 0), (("c", "x"), 1)]
    with pytest.raises(kv.AlreadyExists):
        await tree.move("c", "b")
    with pytest.raises(kv.NotFound):
        await tree.move("a", "d")
    assert len(await tree.walk()) == 3


async def test_subtrees_move_in_batches(kv_db: kv.Database) -> None:
    """Where that is asked for, of any size and on every store."""
    tree = await plant(kv_db, ("a",), *(("a", number) for number in range(40)))

    assert await tree.move("a", "b", atomic=False) == 41
    assert await tree.copy("b", ("c", "b"), atomic=False) == 41
    assert await tree.delete_subtree("b", atomic=False) == 41
    assert await tree.subtree_count("c") == await tree.subtree_count() == 41


async def test_what_does_not_fit_is_refused(kv_db: kv.Database) -> None:
    """With the reason, and nothing is changed."""
    capabilities = keeper(kv_db)
    problem = lacking(kv_db, "conditional", atomicity=kv.Atomicity.PARTITION)
    limit = capabilities.max_atomic_changes
    if problem is None and (limit is None or limit > 100):
        pytest.skip("trees of this store move as a whole")
    tree = await plant(kv_db, *(("a", number) for number in range(101)))

    with pytest.raises((kv.Unsupported, kv.TooLarge), match="atomic=False"):
        await tree.move("a", "b")

    assert await tree.subtree_count("a") == await tree.subtree_count() == 101


async def test_impossible_moves(kv_db: kv.Database) -> None:
    """A node can't go below itself, and the root is no node."""
    tree = await plant(kv_db, ("a",), ("a", "b"))

    for old, new in (("a", ("a", "b", "c")), ("a", "a"), ((), "b"), ("a", ())):
        with refused(kv.ValidationError):
            await tree.move(old, new)
        with refused(kv.ValidationError):
            await tree.copy(old, new)
    assert paths(await tree.walk()) == [("a",), ("a", "b")]


async def test_strict_trees(kv_db: kv.Database) -> None:
    """No node without its parent, where the store can look at one and write another in one step."""
    tree = Node.objects.using(kv_db).tree("t", strict=True)
    await tree.cursor("a").set(1)

    if lacking(kv_db, "conditional", atomicity=kv.Atomicity.PARTITION):
        with refused():
            await tree.cursor("a", "b").set(2)
        return
    await tree.cursor("a", "b").set(2)
    with pytest.raises(kv.NotFound):
        await tree.cursor("x", "y").set(3)
    if keeper(kv_db).range_checks:
        with pytest.raises(kv.ValidationError):
            await tree.cursor("a").delete()
    assert paths(await tree.walk()) == [("a",), ("a", "b")]


async def test_units(kv_db: kv.Database) -> None:
    """Inside a unit of work everything is seen at once, and written at its commit."""
    need(kv_db, "conditional", "range_checks", atomicity=kv.Atomicity.PARTITION)
    tree = await plant(kv_db, ("a",))

    async with kv_db.unit_of_work():
        await tree.move("a", "b")
        await tree.cursor("b", "c").set(5)
        assert paths(await tree.walk()) == [("b",), ("b", "c")]
        assert await Node.objects.using(kv_db, outside=True).find("t", ("a",)) is not None

    assert [(node.path, node.value) for node in await tree.walk()] == [(("b",), 0), (("b", "c"), 5)]
