"""Trees in units of work: what is written waits for the commit, what is read is vouched for."""

from __future__ import annotations

import pytest

import kvmodel as kv
from tests.tree.models import Leaf, Node, Shade, content, fill, texts

PATHS = ["a", "a/b", "a/b/c", "a/b/d", "a/c", "z"]


async def test_tree_writes_join(db: kv.Database) -> None:
    """Inside a unit everything waits for its commit, is seen by its reads, and goes with other records."""
    nodes = await fill(PATHS)
    before = await content()
    async with db.unit_of_work():
        await nodes.cursor("n").set(7)
        await nodes.move("a", ("n", "a"))
        await nodes.delete_subtree("z")
        await nodes.cursor("n", "a", "c").delete()
        assert texts(await nodes.walk()) == "n n/a n/a/b n/a/b/c n/a/b/d"
        assert texts(await nodes.children("n", "a")) == "n/a/b"
        assert texts([node async for node in nodes.children()]) == "n"
        assert await nodes.child_paths() == [("n",)]
        assert await content_outside(db) == before

    assert await content() == {"n": 7, "n/a": 1, "n/a/b": 2, "n/a/b/c": 3, "n/a/b/d": 4}


async def content_outside(db: kv.Database) -> dict[str, int]:
    """What others see while a unit is open."""
    outside = Node.objects.using(db, outside=True)
    return {"/".join(map(str, node.path)): node.value async for node in outside.range("t")}


async def test_a_unit_that_fails_changes_nothing(db: kv.Database) -> None:
    """An exception leaves the tree as it was."""
    nodes = await fill(PATHS)
    before = await content()
    with pytest.raises(ZeroDivisionError):
        async with db.unit_of_work():
            await nodes.move("a", "b")
            await nodes.delete_subtree("z")
            raise ZeroDivisionError
    assert await content() == before


async def test_objects_of_a_unit_are_moved_as_they_are(db: kv.Database) -> None:
    """What the unit has changed in a node goes with it; the object that stood at the old place is deleted."""
    nodes = await fill(["a", "a/b"])
    async with db.unit_of_work():
        node = await nodes.cursor("a", "b").get()
        assert node is not None
        node.note = "changed"
        await nodes.move("a", "x")
        moved = await nodes.cursor("x", "b").get()
        assert moved is not None
        assert moved.note == "changed"
        moved.value = 9

    assert await nodes.cursor("x", "b").get() == Node("t", 9, "changed", path=("x", "b"))
    with pytest.raises(kv.Conflict, match="deleted"):
        await Node.objects.save(node)
    await Node.objects.save(moved)


async def test_copies_share_nothing(db: kv.Database) -> None:
    """A copy that a unit makes is an object of its own, down to the lists in it."""
    leaves = Leaf.objects.tree(Shade.DARK, 2024)
    await leaves.cursor("a").set("x", ["one"])
    async with db.unit_of_work():
        await leaves.copy("a", "b")
        copied = await leaves.cursor("b").get()
        assert copied is not None
        copied.tags.append("two")

    assert [leaf.tags for leaf in await leaves.walk()] == [["one"], ["one", "two"]]


async def test_what_cannot_be_stored_is_refused_before_anything_moves(db: kv.Database) -> None:
    """A node that the unit has spoilt stops a move, and the unit is as it was before."""
    nodes = await fill(["a", "a/b", "a/c"])
    async with db.unit_of_work() as uow:
        spoilt = await nodes.cursor("a", "c").get()
        assert spoilt is not None
        spoilt.value = "three"  # type: ignore[assignment]
        with pytest.raises(kv.ValidationError, match="int"):
            await nodes.move("a", "x")
        assert texts(await nodes.walk()) == "a a/b a/c"
        await uow.rollback()


async def test_a_place_that_the_unit_has_made_free(db: kv.Database) -> None:
    """Within one unit a subtree can take the place of another that goes, and two can change places."""
    nodes = await fill(["a", "a/x", "b", "b/y"])
    async with db.unit_of_work():
        await nodes.move("a", "swap")
        await nodes.move("b", "a")
        await nodes.move("swap", "b")

    assert await content() == {"a": 3, "a/y": 4, "b": 1, "b/x": 2}


@pytest.mark.parametrize("does", ["under", "new place", "children"])
async def test_a_unit_is_protected_from_newcomers(db: kv.Database, does: str) -> None:
    """A unit that moved or listed nodes fails to commit if others came meanwhile where it looked."""
    nodes = await fill(["a", "a/b"])
    outside = Node.objects.using(db, outside=True)
    newcomer = {"under": ("a", "new"), "new place": ("x", "new"), "children": ("new",)}[does]
    with pytest.raises(kv.Conflict):
        async with db.unit_of_work():
            if does == "children":
                await nodes.cursor("c").set(len(await nodes.children()))
            else:
                await nodes.move("a", "x")
            await outside.create(Node("t", 1, path=newcomer))


async def test_newcomers_elsewhere_do_not_matter(db: kv.Database) -> None:
    """What comes under a child, of which only the child was looked at, is no concern of the unit."""
    nodes = await fill(["a", "a/b", "a/b/c", "d"])
    outside = Node.objects.using(db, outside=True)
    async with db.unit_of_work():
        number = len(await nodes.children())
        await nodes.cursor("e").set(number)
        await outside.create(Node("t", 1, path=("a", "b", "zzz")))

    assert (await content())["e"] == 2


async def test_unchecked_children(db: kv.Database) -> None:
    """A range that is read without being checked does not stand in the way of the commit."""
    nodes = await fill(["a", "b"])
    async with db.unit_of_work():
        assert len(await nodes.children().unchecked()) == 2
        await nodes.cursor("x").set(1)
        await Node.objects.using(db, outside=True).create(Node("t", 1, path=("c",)))

    assert await nodes.children().count() == 4


async def test_counting_and_pages_are_refused_in_units(db: kv.Database) -> None:
    """As for every range: a unit could not vouch for them."""
    nodes = await fill(PATHS)
    async with db.unit_of_work():
        for refused in (nodes.subtree_count(), nodes.children().count(), nodes.children().page(2)):
            with pytest.raises(kv.Unsupported, match="unit of work"):
                await refused
