"""Strict trees: no node without a parent, whatever happens at the same time."""

from __future__ import annotations

import asyncio

import pytest

import kvmodel as kv
from kvmodel.testing import Fault, FaultPlan
from kvmodel.tree import Tree
from tests.tree.models import Branch, Node, Path, tree


def strict() -> Tree[Branch]:
    return Branch.objects.tree("t")


async def paths() -> list[Path]:
    return [node.path for node in await strict().walk()]


@pytest.mark.usefixtures("db")
async def test_a_node_wants_its_parent() -> None:
    """A node goes under one that is there; those of the first level need none."""
    nodes = strict()

    with pytest.raises(kv.NotFound, match="parent") as error:
        await nodes.cursor("a", "b").set(1)
    assert (error.value.table, error.value.key) == ("branches", ("t", ("a",)))
    assert await paths() == []

    await nodes.cursor("a").set(1)
    node = await nodes.cursor("a", "b").set(2)
    assert await paths() == [("a",), ("a", "b")]
    await Branch.objects.update("t", ("a", "b"), value=4)
    node.value = 3
    with pytest.raises(kv.Conflict):
        await Branch.objects.save(node)
    with pytest.raises(kv.ValidationError, match="root"):
        await nodes.cursor().set(1)
    with pytest.raises(kv.ValidationError, match="root"):
        await nodes.cursor().delete()


@pytest.mark.usefixtures("db")
async def test_a_parent_is_not_deleted_alone() -> None:
    """A node with others under it, at any depth, goes with them or not at all."""
    nodes = strict()
    for path in (("a",), ("a", "b"), ("a", "b", "c")):
        await nodes.cursor(*path).set(1)

    with pytest.raises(kv.ValidationError, match="delete_subtree"):
        await nodes.cursor("a").delete()
    assert await nodes.cursor("a", "b", "c").delete() is True
    assert await nodes.cursor("a", "b", "c").delete() is False
    assert await nodes.delete_subtree("a") == 2


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("atomic", [True, False])
async def test_a_subtree_goes_under_a_node(atomic: bool) -> None:
    """Moves and copies want a parent at the new place."""
    nodes = strict()
    await nodes.cursor("a").set(1)
    await nodes.cursor("a", "b").set(2)

    for act in (nodes.move, nodes.copy):
        with pytest.raises(kv.NotFound, match="parent"):
            await act("a", ("x", "y"), atomic=atomic)
    await nodes.cursor("x").set(3)
    assert await nodes.copy("a", ("x", "y"), atomic=atomic) == 2
    assert await nodes.move("a", ("x", "z"), atomic=atomic) == 2
    assert await paths() == [("x",), ("x", "y"), ("x", "y", "b"), ("x", "z"), ("x", "z", "b")]


async def test_units(db: kv.Database) -> None:
    """In a unit the parent may be one that the unit itself has written; what it relies on is checked at the commit."""
    nodes = strict()
    async with db.unit_of_work():
        await nodes.cursor("a").set(1)
        await nodes.cursor("a", "b").set(2)
        with pytest.raises(kv.NotFound):
            await nodes.cursor("c", "d").set(3)
        with pytest.raises(kv.NotFound):
            await nodes.move("a", ("c", "d"))
        with pytest.raises(kv.ValidationError):
            await nodes.cursor("a").delete()
        await nodes.cursor("a", "b").delete()
        assert await nodes.cursor("a").delete() is True
        await nodes.cursor("e").set(4)
    assert await paths() == [("e",)]

    outside = Branch.objects.using(db, outside=True)
    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            await nodes.cursor("e", "f").set(5)
            await outside.delete("t", ("e",))
    assert await paths() == []


async def test_a_unit_that_deletes_is_protected(db: kv.Database) -> None:
    """A child that comes between a unit's look and its commit keeps the parent."""
    nodes = strict()
    await nodes.cursor("a").set(1)
    outside = Branch.objects.using(db, outside=True)
    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            await nodes.cursor("a").delete()
            await outside.create(Branch("t", path=("a", "b")))
    assert await paths() == [("a",), ("a", "b")]


@pytest.mark.usefixtures("db")
async def test_at_the_same_time() -> None:
    """A parent that is deleted while it gets children: whatever comes first, no orphan is left."""
    nodes = strict()
    for number in range(20):
        await nodes.cursor(number).set(0)
        results = await asyncio.gather(
            nodes.cursor(number).delete(), nodes.cursor(number, "child").set(1), return_exceptions=True
        )
        assert sum(isinstance(result, Exception) for result in results) == 1
        assert await paths() in ([], [(number,), (number, "child")])
        await nodes.delete_subtree(number)


@pytest.mark.usefixtures("db")
async def test_one_round_trip() -> None:
    """Keeping a tree strict costs no round trip: the check travels with the write."""
    nodes = strict()
    await nodes.cursor("a").set(1)
    with kv.budget(round_trips=1):
        await nodes.cursor("a", "b").set(1)
    with kv.budget(round_trips=1):
        await nodes.cursor("a", "b").delete()


@pytest.mark.usefixtures("db")
async def test_where_it_is_said() -> None:
    """The class line says whether trees are strict, and a tree may say otherwise."""
    await Branch.objects.tree("t", strict=False).cursor("a", "b").set(1)
    assert await paths() == [("a", "b")]
    assert tree().strict is False
    with pytest.raises(kv.NotFound):
        await Node.objects.tree("t", strict=True).cursor("a", "b").set(1)


@pytest.mark.parametrize(
    ("limits", "writes", "deletes"),
    [("atomicity=record&range_checks=false", False, False), ("range_checks=false", True, False)],
)
async def test_stores_that_cannot(limits: str, writes: bool, deletes: bool) -> None:
    """Where the store can't look and write in one step, a strict tree is refused, not kept by luck."""
    async with kv.connect(f"memory://?{limits}"):
        nodes = strict()
        await Branch.objects.create(Branch("t", path=("a",)))
        for act, can in ((nodes.cursor("a", "b").set(1), writes), (nodes.cursor("a", "b").delete(), deletes)):
            if can:
                await act
            else:
                with pytest.raises(kv.Unsupported, match="strict=False"):
                    await act


async def test_a_lost_reply() -> None:
    """A node whose write may have happened can't be saved as if nothing were."""
    plan = FaultPlan(script=[None, Fault.CUT_AFTER], calls=["write"])
    async with kv.connect("memory://", plan=plan):
        await strict().cursor("a").set(1)
        with pytest.raises(kv.OutcomeUnknown):
            await strict().cursor("a", "b").set(2)
        assert await paths() == [("a",), ("a", "b")]
