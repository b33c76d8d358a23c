"""Moves, copies and deletions of whole subtrees: what goes, what stays, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import kvmodel as kv
from kvmodel.testing import VirtualClock
from tests.tree.models import Node, content, fill, tree

PATHS = ["a", "a/b", "a/b/c", "a/b/d", "a/c", "z"]


pytestmark = pytest.mark.usefixtures("db")


# --- what goes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [True, False])
async def test_move(atomic: bool) -> None:
    """A node goes with all that is under it, and nothing else does."""
    nodes = await fill(PATHS)

    assert await nodes.move(("a", "b"), ("z", "y", "x"), atomic=atomic) == 3

    assert await content() == {"a": 1, "a/c": 5, "z": 6, "z/y/x": 2, "z/y/x/c": 3, "z/y/x/d": 4}


@pytest.mark.parametrize("atomic", [True, False])
async def test_copy(atomic: bool) -> None:
    """A copy leaves the nodes where they are, and shares nothing with them."""
    nodes = await fill(PATHS)

    assert await nodes.copy(("a", "b"), "y", atomic=atomic) == 3
    await nodes.cursor("y", "c").set(9)

    assert await content() == {"a": 1, "a/b": 2, "a/b/c": 3, "a/b/d": 4, "a/c": 5, "y": 2, "y/c": 9, "y/d": 4, "z": 6}


@pytest.mark.parametrize("atomic", [True, False])
async def test_delete_subtree(atomic: bool) -> None:
    """A subtree goes as a whole; where nothing is, nothing goes."""
    nodes = await fill([*PATHS, "a\0"])

    assert await nodes.delete_subtree("a", atomic=atomic) == 5
    assert await nodes.delete_subtree("a", atomic=atomic) == 0
    assert await content() == {"z": 6, "a\0": 7}


async def test_a_place_without_a_node() -> None:
    """What is under a path can be moved, copied and deleted though no node is at the path itself."""
    nodes = await fill(["a/b/c", "a/b/d"])

    assert await nodes.move("a", "x") == 2
    assert await nodes.copy(("x", "b"), "y") == 2
    assert await nodes.delete_subtree("x") == 2
    assert await content() == {"y/c": 1, "y/d": 2}


async def test_one_level_up() -> None:
    """A subtree may go up to a free place beside its parent."""
    nodes = await fill(PATHS)

    assert await nodes.move(("a", "b"), ("b",)) == 3
    assert await content() == {"a": 1, "a/c": 5, "b": 2, "b/c": 3, "b/d": 4, "z": 6}


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("inside", [True, False])
async def test_deadlines_go_along(db: kv.Database, clock: VirtualClock, atomic: bool, inside: bool) -> None:
    """A moved or copied node lives as long as it would have."""
    nodes = await fill(["a", "a/b"])
    await Node.objects.expire("t", ("a", "b"), expires_in=timedelta(seconds=60))
    if inside:
        async with db.unit_of_work():
            await nodes.copy("a", "c")
            await nodes.move("a", "x")
    else:
        await nodes.copy("a", "c", atomic=atomic)
        await nodes.move("a", "x", atomic=atomic)

    clock.advance(59)
    assert await content() == {"c": 1, "c/b": 2, "x": 1, "x/b": 2}
    clock.advance(2)
    assert await content() == {"c": 1, "x": 1}


class Wider(kv.TreeModel, table="nodes"):
    """The table of nodes as a newer program sees it."""

    tree: str = kv.partition_key()
    value: int = 0
    note: str | None = None
    colour: str = "white"


@pytest.mark.parametrize("inside", [True, False])
async def test_unknown_fields_go_along(db: kv.Database, inside: bool) -> None:
    """What another program stored besides is moved and copied, not lost."""
    await Wider.objects.tree("t").cursor("a", "b").set(1, colour="red")
    if inside:
        async with db.unit_of_work():
            await tree().copy("a", "c")
            await tree().move("a", "x")
    else:
        await tree().copy("a", "c")
        await tree().move("a", "x")

    found = {node.path: node.colour for node in await Wider.objects.tree("t").walk()}
    assert found == {("c", "b"): "red", ("x", "b"): "red"}
    moved = await tree().cursor("x", "b").get()
    assert moved is not None
    moved.value = 2
    await Node.objects.save(moved)
    again = await Wider.objects.tree("t").cursor("x", "b").get()
    assert again is not None
    assert (again.value, again.colour) == (2, "red")


class Older(kv.TreeModel, table="versions"):
    tree: str = kv.partition_key()
    cents: int = 0


class Newer(kv.TreeModel, table="versions", schema=2):
    tree: str = kv.partition_key()
    euros: float = 0.0

    @kv.upgrade(1)
    @staticmethod
    def _(values: dict[str, object]) -> dict[str, object]:
        cents = values.pop("cents")
        assert isinstance(cents, int)
        return {**values, "euros": cents / 100}


@pytest.mark.parametrize("atomic", [True, False])
async def test_older_records_are_upgraded(atomic: bool) -> None:
    """A node that an older program wrote is moved as what it is now."""
    await Older.objects.tree("t").cursor("a").set(250)

    await Newer.objects.tree("t").move("a", "b", atomic=atomic)

    assert await Newer.objects.tree("t").cursor("b").get() == Newer("t", 2.5, path=("b",))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("inside", [True, False])
async def test_refusals(db: kv.Database, atomic: bool, inside: bool) -> None:
    """A cycle, a taken place and an empty source are refused; nothing is changed then."""
    nodes = await fill(PATHS)
    before = await content()
    uow = await db.unit_of_work().begin() if inside else None

    for act in (nodes.move, nodes.copy):
        for new in ("a", ("a", "b"), ("a", "new", "x")):
            with pytest.raises(kv.ValidationError, match="below itself"):
                await act("a", new, atomic=atomic)
        for old, new in (("z", "a"), ("z", ("a", "b")), (("a", "b"), "a")):
            with pytest.raises(kv.AlreadyExists, match="overwrite") as error:
                await act(old, new, atomic=atomic)
            assert error.value.table == "nodes"
        with pytest.raises(kv.ValidationError, match="replace one that it is under"):
            await act(("a", "b"), "a", atomic=atomic, overwrite=True)
        with pytest.raises(kv.NotFound) as missing:
            await act("x", "y", atomic=atomic)
        assert missing.value.key == ("t", ("x",))
        for refused in (act((), "y", atomic=atomic), act("a", (), atomic=atomic), act("a", (True,), atomic=atomic)):
            with pytest.raises(kv.ValidationError):
                await refused

    if uow is not None:
        await uow.commit()
    assert await content() == before


async def test_a_place_is_taken_by_what_is_below_it() -> None:
    """A place without a node, but with nodes under it, is not free."""
    nodes = await fill(["a", "b/c"])

    with pytest.raises(kv.AlreadyExists) as error:
        await nodes.move("a", "b")
    assert error.value.key == ("t", ("b", "c"))


@pytest.mark.parametrize("atomic", [True, False])
async def test_overwrite(atomic: bool) -> None:
    """On request, nodes that are there are replaced and the others there stay."""
    nodes = await fill(["a", "a/b", "a/c", "x", "x/b", "x/y"])

    assert await nodes.move("a", "x", atomic=atomic, overwrite=True) == 3

    assert await content() == {"x": 1, "x/b": 2, "x/c": 3, "x/y": 6}


async def test_over_long_targets(db: kv.Database) -> None:
    """A subtree that does not fit under a longer path is refused as a whole, with the path that is too long."""
    limit = db.capabilities.max_key_bytes
    if limit is None:
        pytest.skip("this store takes keys of any length")
    nodes = await fill(["a", "a/" + "b" * (limit // 2)])

    for act in (nodes.move, nodes.copy):
        with pytest.raises(kv.ValidationError, match="too long") as error:
            await act("a", "c" * (limit // 2))
        assert error.value.key == ("t", ("c" * (limit // 2), "b" * (limit // 2)))
    assert await nodes.subtree_count() == 2


async def test_concurrent_moves(db: kv.Database) -> None:
    """Two moves of one subtree at a time: one gets it, the other finds nothing there."""
    nodes = await fill(PATHS)
    results = await asyncio.gather(nodes.move("a", "x"), nodes.move("a", "y"), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["NotFound", "int"]
    assert await nodes.subtree_count() == len(PATHS)
