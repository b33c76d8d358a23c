"""Cursors and ranges: where they stand, what they answer, which edges they have."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

import kvmodel as kv
from kvmodel import _binding, database
from kvmodel._tokens import query_digest
from kvmodel.testing import VirtualClock
from tests.tree.models import Leaf, Node, Shade, fill, text_of, texts, tree

pytestmark = pytest.mark.usefixtures("db")

LETTERS = ["a", "b", "c", "d", "e"]
PATHS = ["a", "a/b", "a/b/c", "a/b/d", "a/c", "b/x/y", "c"]


async def test_letters() -> None:
    """The smallest tree there is: next and prev go along it, ranges have both kinds of ends."""
    nodes = await fill(LETTERS)

    cursor = nodes.cursor("b")
    assert texts([one for one in [await cursor.next(), await cursor.prev()] if one]) == "c a"
    assert await nodes.cursor("e").next() is None
    assert await nodes.cursor("a").prev() is None
    assert texts(await nodes.range()) == "a b c d e"
    assert texts(await nodes.range(first="b", last="d")) == "b c d"
    assert texts(await nodes.range(after=("b",), before=("d",))) == "c"
    assert texts(await nodes.range(after="b", limit=2)) == "c d"
    assert texts(await nodes.range(limit=2, reverse=True)) == "e d"
    assert texts([one async for one in nodes.range(first="d")]) == "d e"
    assert await nodes.range(first="b").count() == 4


async def test_a_cursor_does_not_move() -> None:
    """It is a place: asking it for the next node twice gives the same one."""
    nodes = await fill(LETTERS)
    cursor = nodes.cursor("b")

    assert await cursor.next() == await cursor.next()
    assert cursor.path == ("b",)
    assert repr(cursor) == "<Cursor at ('b',) in <Tree of Node 't'>>"


async def test_an_absent_place() -> None:
    """A cursor may stand where no node is, and knows its neighbours all the same."""
    nodes = await fill(PATHS)
    cursor = nodes.cursor("b")

    assert await cursor.get() is None
    assert await cursor.delete() is False
    assert texts([one for one in [await cursor.next(), await cursor.prev()] if one]) == "b/x/y a/c"
    assert await cursor.parent() is None
    assert await cursor.first_child() is None
    node = await cursor.set(7, note="now")
    assert node == Node("t", 7, "now", path=("b",))
    assert await cursor.get() == node


async def test_set_replaces() -> None:
    """``set`` writes whatever was there before; what it answers is loaded, and can be saved again."""
    nodes = tree()
    await nodes.cursor("a").set(1, "old")
    node = await nodes.cursor("a").set(2)

    assert await nodes.cursor("a").get() == Node("t", 2, None, path=("a",))
    node.value = 3
    await Node.objects.save(node)
    assert await Node.objects.get("t", ("a",)) == Node("t", 3, path=("a",))


async def test_the_payload_is_that_of_the_constructor() -> None:
    """``set`` takes the fields outside the key as the constructor does, in its order and by name; the key is given."""
    leaf = await Leaf.objects.tree(Shade.DARK, 2024).cursor("a", 1).set("hello", ["x"], size=3)

    assert leaf == Leaf(Shade.DARK, "hello", ["x"], year=2024, size=3, path=("a", 1))
    assert await Leaf.objects.tree(Shade.DARK, 2024).cursor("a", 1).get() == leaf
    assert await Leaf.objects.tree(Shade.LIGHT, 2024).cursor("a", 1).get() is None
    assert [one.path for one in await Leaf.objects.tree(Shade.DARK, 2024).ancestors("a", 1, "b")] == [("a", 1)]
    cursor = Leaf.objects.tree(Shade.DARK, 2024).cursor("b")
    with pytest.raises(TypeError):
        await cursor.set()
    with pytest.raises(TypeError):
        await cursor.set("x", [], 3)
    for names in ({"text": "x"}, {"path": ("c",)}, {"shade": Shade.LIGHT}, {"colour": 1}):
        with pytest.raises(TypeError):
            await cursor.set("x", **names)
    with pytest.raises(kv.ValidationError) as error:
        await cursor.set(3)
    assert error.value.field == "text"
    assert await Leaf.objects.tree(Shade.DARK, 2024).subtree_count() == 1


async def test_the_root() -> None:
    """The empty path is the root: it is no node, and the whole tree is below it."""
    nodes = await fill(PATHS)
    root = nodes.cursor()

    assert await root.get() is None
    assert await root.parent() is None
    assert await root.prev() is None
    assert texts([one for one in [await root.next(), await root.first_child()] if one]) == "a a"
    assert texts(await nodes.children()) == "a c"
    assert texts(await nodes.descendants()) == " ".join(PATHS)
    assert await nodes.ancestors() == []
    assert await nodes.subtree_count() == len(PATHS)
    for refused in (root.set(1), root.delete(), nodes.delete_subtree(), nodes.move((), "x"), nodes.copy("a", ())):
        with pytest.raises(kv.ValidationError, match="root"):
            await refused
    with pytest.raises(kv.ValidationError, match="root"):
        await Node.objects.save(Node("t", path=()))
    with pytest.raises(kv.ValidationError, match="root"):
        await Node.objects.find("t", ())
    assert await nodes.subtree_count() == len(PATHS)


async def test_levels() -> None:
    """Children, descendants, ancestors and walks: which nodes they are, in which order."""
    nodes = await fill(PATHS)

    assert texts(await nodes.children("a")) == "a/b a/c"
    assert texts(await nodes.children("a", reverse=True)) == "a/c a/b"
    assert texts(await nodes.descendants("a")) == "a/b a/b/c a/b/d a/c"
    assert texts(await nodes.descendants("a", depth=1)) == "a/b a/c"
    assert texts(await nodes.descendants("a", reverse=True, limit=2)) == "a/c a/b/d"
    assert texts(await nodes.descendants(depth=2)) == "a a/b a/c c"
    assert texts(await nodes.ancestors("a", "b", "c")) == "a a/b"
    assert texts([one async for one in nodes.ancestors("a", "b", "c")]) == "a a/b"
    first = await nodes.ancestors("a", "b", "c").first()
    assert first is not None
    assert text_of(first.path) == "a"
    assert texts(await nodes.walk("a", "b")) == "a/b a/b/c a/b/d"
    assert texts([one async for one in nodes.walk()]) == " ".join(PATHS)


async def test_missing_parents() -> None:
    """A node need not have a parent. A child that is not there is no child, though others are below it."""
    nodes = await fill(PATHS)

    assert texts(await nodes.children()) == "a c"
    assert await nodes.child_paths() == [("a",), ("b",), ("c",)]
    assert texts(await nodes.children("b")) == ""
    assert await nodes.child_paths("b") == [("b", "x")]
    assert texts(await nodes.ancestors("b", "x", "y")) == ""
    assert texts(await nodes.descendants("b")) == "b/x/y"
    assert await nodes.children().count() == 2


async def test_deleting_a_node_leaves_what_is_below() -> None:
    """``delete`` removes one node, and tells whether one was there."""
    nodes = await fill(PATHS)

    assert await nodes.cursor("a", "b").delete() is True
    assert await nodes.cursor("a", "b").delete() is False
    assert texts(await nodes.descendants("a")) == "a/b/c a/b/d a/c"


async def test_parts_of_all_types() -> None:
    """Among siblings and along a path types may be mixed: str before int before UUID, each in its own order."""
    first, last = UUID(int=0), UUID(int=2**128 - 1)
    parts: list[str | int | UUID] = ["", "A", "a", "a\0", "a\0\0", "a\x01", "aa", "ä", "\U0010ffff", -(2**70), -1, 0, 1]
    parts += [255, 256, 2**64, first, last]
    nodes = await fill([path for part in reversed(parts) for path in ((part,), (part, last, last))])

    assert [node.path for node in await nodes.children()] == [(part,) for part in parts]
    assert [node.path for node in await nodes.children(reverse=True)] == [(part,) for part in reversed(parts)]
    assert [node.path for node in await nodes.walk()] == [p for part in parts for p in ((part,), (part, last, last))]
    for part in parts:
        assert await nodes.subtree_count(part) == 2
        assert await nodes.child_paths(part) == [(part, last)]


@pytest.mark.parametrize("part", [True, 1.0, None, b"a", ("a",), "\ud800"], ids=repr)
async def test_other_parts_are_refused(part: Any) -> None:
    """A part that no path takes is refused when the place is named, with its position."""
    nodes = tree()
    for act in (nodes.cursor, nodes.children, nodes.descendants, nodes.walk, nodes.ancestors):
        with pytest.raises(kv.ValidationError) as error:
            act("a", part)
        assert (error.value.table, error.value.field) == ("nodes", "path[1]")
    for bound in ("first", "last", "after", "before", "prefix"):
        bounds: dict[str, Any] = {bound: ("a", part)}
        with pytest.raises(kv.ValidationError):
            nodes.range(**bounds)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (("a",), "a a/b a/b/c a/b/d a/bb a/c"),
        (("a", "b"), "a/b a/b/c a/b/d"),
        (("a", kv.starts("b")), "a/b a/b/c a/b/d a/bb"),
        ("a", "a a/b a/b/c a/b/d a/bb a/c ab/c"),
        (kv.starts("ab"), "ab/c"),
        ((), "a a/b a/b/c a/b/d a/bb a/c ab/c b/x/y c 1"),
        (1, "1"),
        ("\U0010fffe", ""),
        ("\ud7ff", ""),
        ("a\U0010ffff", ""),
    ],
    ids=repr,
)
async def test_prefixes(prefix: object, expected: str) -> None:
    """Whole parts take in what is under them; a text at the end is the beginning of a part."""
    nodes = await fill([*PATHS, "a/bb", "ab/c", (1,)])

    assert texts(await nodes.range(prefix=prefix)) == expected


async def test_bounds_of_a_prefix() -> None:
    """A prefix and other bounds hold together, each where it is the tighter one."""
    nodes = await fill([*PATHS, "a\0", "ab/c"])

    assert texts(await nodes.range(prefix=("a",), last="a\0")) == "a a/b a/b/c a/b/d a/c"
    assert texts(await nodes.range(prefix=("a",), after=("a", "b"))) == "a/b/c a/b/d a/c"
    assert texts(await nodes.range(prefix=("a",), after="a", before=("b",))) == "a/b a/b/c a/b/d a/c"
    assert texts(await nodes.range(prefix=("a",), first="a", last=("a",))) == "a"
    assert texts(await nodes.range(prefix=("a", "b"), first="a", before=("a", "b", "d"))) == "a/b a/b/c"
    assert texts(await nodes.range(prefix=("c",), before="b")) == ""


async def test_bounds_speak_of_their_path_alone() -> None:
    """``last`` takes in its node but not what is under it; ``after`` goes on with what is under it."""
    nodes = await fill(PATHS)

    assert texts(await nodes.range(last="a")) == "a"
    assert texts(await nodes.range(after="a", limit=1)) == "a/b"


async def test_refused_questions() -> None:
    """What makes no sense is refused when it is written, not when it is awaited."""
    nodes = tree()
    contradictions: list[dict[str, Any]] = [{"first": "a", "after": "b"}, {"last": "a", "before": "b"}]
    for wrong in (*contradictions, {"limit": -1}, {"prefix": ""}, {"prefix": "\U0010ffff"}):
        with pytest.raises(kv.ValidationError):
            nodes.range(**wrong)
    for depth in (0, -1, True, "1"):
        with pytest.raises(kv.ValidationError, match="levels"):
            nodes.descendants("a", depth=depth)  # type: ignore[arg-type]
    with pytest.raises(kv.ValidationError, match="limit"):
        nodes.children("a", limit=-1)
    with pytest.raises(kv.ValidationError):
        Node.objects.tree()
    with pytest.raises(kv.ValidationError):
        Node.objects.tree("a", "b")
    assert await nodes.children("a", limit=0) == []
    assert await nodes.descendants(limit=0, depth=2) == []


async def test_ranges_that_delete_or_have_no_pages() -> None:
    """Deleting children alone would orphan what is below; ancestors are too few for pages. Both say what to do."""
    nodes = await fill(PATHS)

    for wrong in (nodes.children("a").delete(), nodes.ancestors("a", "b").delete()):
        with pytest.raises(kv.Unsupported, match="delete_subtree"):
            await wrong
    with pytest.raises(kv.Unsupported, match="await"):
        await nodes.ancestors("a", "b").page(2)
    assert await nodes.descendants("a").delete() == 4
    assert await nodes.subtree_count() == 3


async def test_page_tokens_belong_to_their_query() -> None:
    """A token of one level is refused on another, and a forged position reaches nothing outside of the query."""
    nodes = await fill(["0", *(f"a/{number}" for number in range(5)), "a\0", "a\0/b", "b"])
    page = await nodes.children("a").page(2)

    for other in (
        nodes.children(),
        nodes.descendants("a", depth=2),
        nodes.children("a", reverse=True),
        nodes.walk("a"),
    ):
        with pytest.raises(kv.ValidationError, match="not one of this query"):
            await other.page(2, page.next_token)
    turned = nodes.children("a", reverse=True)
    for query, position, expected in (
        (nodes.children("a"), ("-",), "a/0 a/1"),
        (nodes.children("a"), ("z",), ""),
        (turned, ("z",), "a/4 a/3"),
        (turned, ("-",), ""),
        (nodes.children("a\0"), ("a", UUID(int=2**128 - 1)), "a\0/b"),
    ):
        assert texts((await query.page(2, forge(query, ("t", position)))).items) == expected


def forge(query: kv.Range[Node], key: tuple[object, ...]) -> str:
    """A token of this query with a position of one's own choice, as anyone can make it who knows the format."""
    bound, _ = query._where()
    position = bound.order.encode_key(key)  # type: ignore[arg-type]
    return bound.connection.tokens.make(query_digest(*query._identity(bound)), position)


async def test_over_long_paths(db: kv.Database) -> None:
    """A path longer than the store's keys is refused where a node would be read or written; nothing is below it."""
    limit = db.capabilities.max_key_bytes
    if limit is None:
        pytest.skip("this store takes keys of any length")
    cursor = tree().cursor("x" * limit, "y")

    for refused in (cursor.set(1), cursor.get(), cursor.delete()):
        with pytest.raises(kv.ValidationError, match="too long"):
            await refused
    assert await tree().children(*cursor.path) == []
    assert await cursor.next() is None


async def test_deep_paths() -> None:
    """As many levels as a key has room for; nothing is done by recursion."""
    path = ("d",) * 150
    nodes = await fill([path[:length] for length in range(1, 151)])

    assert len(await nodes.ancestors(*path)) == 149
    assert await nodes.subtree_count() == 150
    assert texts(await nodes.children(*path[:-1])) == text_of(path)


async def test_trees_are_apart() -> None:
    """Trees of one model, and of one table in two namespaces, do not see each other."""
    one, other = await fill(PATHS, "one"), await fill(["z"], "other")

    assert await other.subtree_count() == 1
    assert await other.move("z", "a") == 1
    assert await one.subtree_count() == len(PATHS)


async def test_explain() -> None:
    """What a skipping range does is told before it is done."""
    plan = str(tree().children("a").explain())

    assert "one seek" in plan
    assert "more than 2 parts" in plan


async def test_large_nodes() -> None:
    """A page that is cut because its nodes are large is not taken for the last one."""
    await Node.objects.save_many(Node("t", note="x" * 500_000, path=("a", number)) for number in range(8))

    assert [node.path for node in await tree().children("a")] == [("a", number) for number in range(8)]
    assert [node.path for node in await tree().children("a", reverse=True)] == [
        ("a", 7 - number) for number in range(8)
    ]
    assert await tree().move("a", "b") == 8


async def test_other_tasks_run_meanwhile() -> None:
    """A long list is read in pages, between which others have their turn."""
    nodes = await fill([("a", number) for number in range(1_000)])
    ran: list[bool] = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await nodes.children("a")

    assert ran == [True]


async def test_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is that of a whole list, but of each page of a stream."""
    nodes = await fill([("a", number) for number in range(1_000)])
    seconds = itertools.count(time.monotonic(), 5)  # Each look at the clock finds five seconds gone.
    for module in (_binding, database):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=seconds.__next__))

    with pytest.raises(kv.TimedOut):
        await nodes.children("a")
    assert len([node async for node in nodes.children("a")]) == 1_000


async def test_expired_nodes_are_not_there(clock: VirtualClock) -> None:
    """An expired node is no child, and what is under it is found all the same."""
    nodes = await fill(PATHS)
    await Node.objects.expire("t", ("a", "b"), expires_in=timedelta(seconds=5))
    await Node.objects.expire("t", ("c",), expires_in=timedelta(seconds=5))
    assert texts(await nodes.children("a")) == "a/b a/c"

    clock.advance(6)

    assert texts(await nodes.children("a")) == "a/c"
    assert texts(await nodes.children(reverse=True)) == "a"
    assert await nodes.child_paths("a") == [("a", "b"), ("a", "c")]
    assert texts(await nodes.descendants("a")) == "a/b/c a/b/d a/c"
