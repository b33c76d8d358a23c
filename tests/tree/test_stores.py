"""Changes of subtrees on stores that do less than memory and LMDB, with others in between, and with replies lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import kvmodel as kv
from kvmodel.testing import Fault, FaultPlan
from tests.tree.interloper import Interloper
from tests.tree.models import Branch, Node, content, fill, tree

PATHS = ["a", "a/b", "a/b/c", "a/b/d", "a/c", "z"]


# --- what the store can do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "error", "match"),
    [
        ("max_atomic_changes=9", kv.TooLarge, "more nodes"),
        ("max_request_bytes=250", kv.TooLarge, "more than the store takes"),
        ("range_checks=false&max_atomic_checks=9", kv.TooLarge, "more nodes"),
        ("range_checks=false&atomicity=record", kv.Unsupported, "one record at a time"),
        ("range_checks=false&conditional=false", kv.Unsupported, "conditional"),
    ],
)
async def test_more_than_one_commit(limits: str, error: type[Exception], match: str) -> None:
    """What does not fit into one commit is refused with the remedy, and the remedy works."""
    async with kv.connect(f"memory://?{limits}"):
        nodes = await fill(PATHS)
        before = await content()
        with pytest.raises(error, match=match) as refusal:
            await nodes.move("a", "b")
        assert "atomic=False" in str(refusal.value)
        assert await content() == before

        assert await nodes.move("a", "b", atomic=False) == 5
        assert await nodes.copy("b", "c", atomic=False) == 5
        assert await nodes.delete_subtree("b", atomic=False) == 5
        assert await content() == {path.replace("a", "c", 1): value for path, value in before.items()}


@pytest.mark.parametrize("limits", ["max_atomic_changes=10", "range_checks=false&max_atomic_checks=10"])
async def test_just_one_commit(limits: str) -> None:
    """What just fits is moved; a large subtree is refused before all of it is read."""
    async with kv.connect(f"memory://?{limits}"):
        nodes = await fill([*PATHS, *(f"big/{number}" for number in range(1_000))])

        assert await nodes.move("a", "b") == 5
        with kv.budget(keys=10), pytest.raises(kv.TooLarge):
            await nodes.move("big", "bigger")


async def test_deleting_on_poor_stores() -> None:
    """A deletion relies on nothing, so that it needs less; a lone node needs nothing at all."""
    async with kv.connect("memory://?range_checks=false&conditional=false"):
        assert await (await fill(PATHS)).delete_subtree("a") == 5
    async with kv.connect("memory://?range_checks=false&atomicity=record"):
        nodes = await fill(PATHS)
        assert await nodes.delete_subtree("z") == 1
        with pytest.raises(kv.Unsupported, match="atomic=False"):
            await nodes.delete_subtree("a")
        assert await nodes.subtree_count() == 5


async def test_units_without_range_checks() -> None:
    """Where ranges can't be checked, moving in a unit still relies on every node it moves."""
    async with kv.connect("memory://?range_checks=false") as db:
        nodes = await fill(PATHS)
        async with db.unit_of_work():
            assert await nodes.move("a", "b") == 5
        with pytest.raises(kv.Conflict):
            async with db.unit_of_work():
                await nodes.move("b", "a")
                await Node.objects.using(db, outside=True).update("t", ("b", "c"), value=50)
        assert await content() == {"b": 1, "b/b": 2, "b/b/c": 3, "b/b/d": 4, "b/c": 50, "z": 6}


# --- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("range_checks", [True, False])
@pytest.mark.parametrize("does", ["changes", "deletes", "adds", "takes"])
async def test_others_write_meanwhile(does: str, range_checks: bool) -> None:
    """What others change between reading and writing is never lost and never half moved: it is read again."""
    name = f"races-{does}-{range_checks}"
    async with kv.connect(f"memory://{name}") as other:
        theirs = Node.objects.using(other)
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "changes": lambda: theirs.update("t", ("a", "b", "d"), value=40),
            "deletes": lambda: theirs.delete("t", ("a", "b", "d")),
            "adds": lambda: theirs.create(Node("t", 50, path=("a", "b", "e"))),
            "takes": lambda: theirs.create(Node("t", 60, path=("n", "d"))),
        }
        await theirs.save_many([Node("t", number, path=tuple(path.split("/"))) for number, path in enumerate(PATHS, 1)])
        plan = Interloper(acts[does])
        async with kv.connect(f"memory://{name}", plan=plan, range_checks=range_checks) as db:
            nodes = Node.objects.using(db).tree("t")
            if does == "takes":
                with pytest.raises(kv.AlreadyExists):
                    await nodes.move(("a", "b"), "n")
            elif does != "adds" or range_checks:
                assert await nodes.move(("a", "b"), "n") == {"changes": 3, "deletes": 2, "adds": 4}[does]
            else:  # Without range checks a newcomer is not seen. It stays, whole, where it was put.
                assert await nodes.move(("a", "b"), "n") == 3
            found = {"/".join(map(str, node.path)): node.value for node in await nodes.walk()}

    assert plan.act is None
    rest = {"a": 1, "a/c": 5, "z": 6}
    newcomer = {"n/e": 50} if range_checks else {"a/b/e": 50}
    assert (
        found
        == {
            "changes": {**rest, "n": 2, "n/c": 3, "n/d": 40},
            "deletes": {**rest, "n": 2, "n/c": 3},
            "adds": {**rest, "n": 2, "n/c": 3, "n/d": 4, **newcomer},
            "takes": {**rest, "a/b": 2, "a/b/c": 3, "a/b/d": 4, "n/d": 60},
        }[does]
    )


@pytest.mark.parametrize("range_checks", [True, False])
async def test_a_copy_is_of_one_moment(range_checks: bool) -> None:
    """What is copied was so at one moment: a node that is changed meanwhile is read again."""
    async with kv.connect("memory://copies") as other:
        theirs = Node.objects.using(other)
        await theirs.save_many([Node("t", 1, path=("a",)), Node("t", 2, path=("a", "b"))])
        plan = Interloper(lambda: theirs.update("t", ("a", "b"), value=20))
        async with kv.connect("memory://copies", plan=plan, range_checks=range_checks) as db:
            nodes = Node.objects.using(db).tree("t")
            assert await nodes.copy("a", "c") == 2
            found = [node.value for node in await nodes.walk("c")]
    assert plan.act is None
    assert found == [1, 20]


async def test_a_deletion_takes_newcomers_along() -> None:
    """Where the store checks ranges, nothing is left of a subtree at the moment it goes."""
    async with kv.connect("memory://deletions") as other:
        theirs = Node.objects.using(other)
        await theirs.save_many([Node("t", 1, path=("a",)), Node("t", 2, path=("a", "b"))])
        plan = Interloper(lambda: theirs.create(Node("t", 3, path=("a", "c"))))
        async with kv.connect("memory://deletions", plan=plan) as db:
            nodes = Node.objects.using(db).tree("t")
            assert await nodes.delete_subtree("a") == 3
            assert await nodes.subtree_count() == 0
    assert plan.act is None


async def test_a_place_that_is_taken_during_a_batch() -> None:
    """In batches, a node that somebody puts at the new place meanwhile is not written over."""
    async with kv.connect("memory://places") as other:
        theirs = Node.objects.using(other)
        await theirs.save_many([Node("t", 1, path=("a",)), Node("t", 2, path=("a", "b"))])
        plan = Interloper(lambda: theirs.create(Node("t", 9, path=("x", "b"))), call="batch")
        async with kv.connect("memory://places", plan=plan) as db:
            nodes = Node.objects.using(db).tree("t")
            with pytest.raises(kv.BatchError) as error:
                await nodes.move("a", "x", atomic=False)
            found = {node.path: node.value for node in await nodes.walk()}
    assert [outcome.status for outcome in error.value.outcomes] == [kv.Status.WRITTEN, kv.Status.CONFLICT]
    assert found == {("a",): 1, ("a", "b"): 2, ("x",): 1, ("x", "b"): 9}


async def test_a_parent_that_goes_meanwhile() -> None:
    """In a strict tree a subtree is not moved under a node that goes at that moment."""
    async with kv.connect("memory://parents") as other:
        theirs = Branch.objects.using(other)
        await theirs.save_many([Branch("t", path=("a",)), Branch("t", path=("p",))])
        plan = Interloper(lambda: theirs.delete("t", ("p",)))
        async with kv.connect("memory://parents", plan=plan) as db:
            with pytest.raises(kv.NotFound, match="parent"):
                await Branch.objects.using(db).tree("t").move("a", ("p", "a"))
        assert [node.path for node in await theirs.range("t")] == [("a",)]


async def test_lost_races_end() -> None:
    """A move that always loses gives up at its time limit, and nothing was moved."""
    async with kv.connect("memory://", plan=FaultPlan(conflict=1.0, calls=["write"])):
        with kv.timeout(0.05), pytest.raises(kv.TimedOut):
            nodes = tree()
            await nodes.cursor("a").set(1)
            await nodes.move("a", "b")
        assert await content() == {"a": 1}


async def test_a_lost_reply() -> None:
    """Where nobody knows whether it was done, the caller is told; it is done as a whole or not at all."""
    plan = FaultPlan(script=[None, Fault.CUT_AFTER], calls=["write"])
    async with kv.connect("memory://", plan=plan):
        nodes = tree()
        await nodes.cursor("a").set(1)
        with pytest.raises(kv.OutcomeUnknown):
            await nodes.move("a", "b")
        assert await content() == {"b": 1}


@pytest.mark.parametrize("done", [0, 1, 2, 3])
async def test_an_interrupted_batch(done: int) -> None:
    """A move in batches that breaks off loses no node, and goes on where it stopped."""
    plan = FaultPlan(script=[*[None] * (3 + done), Fault.CUT_BEFORE], calls=["batch"])
    async with kv.connect("memory://", plan=plan, max_batch=2):
        nodes = await fill(PATHS)
        before = await content()
        with pytest.raises((kv.BatchError, kv.Unavailable)):
            await nodes.move("a", "b", atomic=False)
        halfway = await content()
        there = {path.replace("b", "a", 1) if path[0] == "b" else path for path in halfway}
        assert there == set(before)

        await nodes.move("a", "b", atomic=False, overwrite=True)
        assert await content() == {("b" + path[1:] if path[0] == "a" else path): n for path, n in before.items()}


async def test_a_batch_that_meets_a_change() -> None:
    """In batches, a node that was changed meanwhile is not removed: the error names it, and it can be moved again."""
    async with kv.connect("memory://batches") as other:
        theirs = Node.objects.using(other)
        await theirs.save_many([Node("t", 1, path=("a",)), Node("t", 2, path=("a", "b"))])

        plan = Interloper(lambda: theirs.update("t", ("a", "b"), value=20), call="batch", after=True)
        async with kv.connect("memory://batches", plan=plan) as db:
            nodes = Node.objects.using(db).tree("t")
            with pytest.raises(kv.BatchError) as error:
                await nodes.move("a", "x", atomic=False)
            assert list(error.value.remaining) == [("a", "b")]  # type: ignore[arg-type]
            assert await nodes.move("a", "x", atomic=False, overwrite=True) == 1
            found = {"/".join(map(str, node.path)): node.value for node in await nodes.walk()}
    assert found == {"x": 1, "x/b": 20}
