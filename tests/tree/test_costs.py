"""What reading a tree costs, in round trips and keys, counted by ``kv.budget``."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.testing import FaultPlan
from tests.tree.models import Node, Path, fill, text_of, texts, tree

pytestmark = pytest.mark.usefixtures("db")

DEEP = 20  # how many children
UNDER = 300  # how many nodes are under each


@pytest.fixture
async def deep(db: kv.Database) -> None:
    """Children with a lot under them."""
    paths: list[Path] = []
    for child in range(DEEP):
        top: Path = ("top", f"c{child:02}")
        paths += [top, *((*top, "x", f"{number:03}") for number in range(UNDER))]
    await fill([("before",), ("top",), *paths, ("topmost",)])


async def spent(query: kv.Range[Node]) -> tuple[list[Node], int, int]:
    """What a query answers, its round trips and its keys."""
    with kv.budget() as meter:
        found = await query
    return found, meter.round_trips, meter.keys


@pytest.mark.usefixtures("deep")
async def test_deep_children() -> None:
    """A child costs one round trip and little more than a key, however much is under it; one trip finds the end."""
    found, trips, keys = await spent(tree().children("top"))

    assert texts(found) == " ".join(f"top/c{child:02}" for child in range(DEEP))
    assert trips <= DEEP + 1
    assert keys <= DEEP + 5


@pytest.mark.usefixtures("deep")
async def test_deep_children_backwards() -> None:
    """Backwards they cost the same, though what is under a child comes first then."""
    found, trips, keys = await spent(tree().children("top", reverse=True))

    assert texts(found) == " ".join(f"top/c{child:02}" for child in reversed(range(DEEP)))
    assert trips <= DEEP + 2
    assert keys <= 2 * DEEP + 2


@pytest.mark.usefixtures("deep")
async def test_some_children() -> None:
    """A limit is a limit on what is read, too; the first child costs one key."""
    _, trips, keys = await spent(tree().children("top", limit=3))
    assert (trips, keys) <= (3, 6)

    with kv.budget(round_trips=1, keys=1):
        child = await tree().cursor("top").first_child()
    assert child is not None
    assert text_of(child.path) == "top/c00"


@pytest.mark.usefixtures("deep")
async def test_streamed_children() -> None:
    """A loop that stops early has read no more than it needs."""
    with kv.budget(round_trips=1, keys=2):
        async for child in tree().children("top"):
            assert text_of(child.path) == "top/c00"
            break


async def test_flat_children() -> None:
    """Children with nothing under them are read in pages, as a plain range is, not one by one."""
    await fill([("top", f"{number:04}") for number in range(2_000)])

    found, trips, keys = await spent(tree().children("top"))

    assert len(found) == 2_000
    assert trips <= 16
    assert keys == 2_000


async def test_mixed_children() -> None:
    """Few deep children among many flat ones cost a few keys more, in proportion."""
    paths: list[Path] = []
    for number in range(1_000):
        paths.append(("top", f"{number:04}"))
        if number % 100 == 50:
            paths += [("top", f"{number:04}", f"{below:04}") for below in range(1_000)]
    await fill(paths)

    found, trips, keys = await spent(tree().children("top"))

    assert len(found) == 1_000
    assert trips <= 80
    assert keys <= 4_000


async def test_flat_children_behind_deep_ones() -> None:
    """What was learnt from deep children is forgotten where flat ones come: they are read in pages again."""
    deep: list[Path] = [
        ("top", number, below)[:length] for number in range(40) for below in (1, 2) for length in (2, 3)
    ]
    await fill([*dict.fromkeys(deep), *(("top", number) for number in range(40, 2_040))])

    found, trips, keys = await spent(tree().children("top"))

    assert len(found) == 2_040
    assert trips <= 80
    assert keys <= 2_100


@pytest.mark.usefixtures("deep")
async def test_levels() -> None:
    """With a depth, what lies below it costs nothing either."""
    found, trips, keys = await spent(tree().descendants(depth=2))

    assert len(found) == DEEP + 3
    assert trips <= DEEP + 5
    assert keys <= 2 * DEEP + 10


@pytest.mark.usefixtures("deep")
async def test_counting_children() -> None:
    """Counting them costs what reading them costs, and so do their paths; missing ones are as dear as others."""
    with kv.budget(round_trips=DEEP + 1, keys=2 * DEEP):
        assert await tree().children("top").count() == DEEP

    await tree().cursor("top", "c07").delete()
    with kv.budget(round_trips=DEEP + 1, keys=2 * DEEP):
        assert len(await tree().child_paths("top")) == DEEP


@pytest.mark.usefixtures("deep")
async def test_pages_of_children() -> None:
    """A page of children costs what its children cost, wherever it begins."""
    first = await tree().children("top").page(5)

    with kv.budget(round_trips=6, keys=12):
        second = await tree().children("top").page(5, first.next_token)
    assert texts(second.items) == " ".join(f"top/c{child:02}" for child in range(5, 10))


@pytest.mark.usefixtures("deep")
async def test_neighbours() -> None:
    """A step costs one key."""
    cursor = tree().cursor("top", "c01")
    with kv.budget(round_trips=4, keys=4):
        node, following, before, above = (
            await cursor.get(),
            await cursor.next(),
            await cursor.prev(),
            await cursor.parent(),
        )

    found = [node, following, before, above]
    assert texts([one for one in found if one]) == "top/c01 top/c01/x/000 top/c00/x/299 top"


@pytest.mark.usefixtures("deep")
async def test_ancestors() -> None:
    """Ancestors are read by key, all in one request; those that are missing are left out."""
    with kv.budget(round_trips=1, keys=3):
        found = await tree().ancestors("top", "c01", "x", "000")
    assert texts(found) == "top top/c01"
    assert tree().ancestors("top", "c01", "x", "000").explain().keys == 3
    assert tree().ancestors("top", "c01", "x", "000").explain().round_trips == 1


@pytest.mark.usefixtures("deep")
async def test_counting_a_subtree() -> None:
    """A subtree is one range: it is counted in one request for thousands of nodes."""
    with kv.budget(round_trips=2):
        assert await tree().subtree_count("top") == 1 + DEEP * (UNDER + 1)


async def test_moving_is_one_write() -> None:
    """A move reads the subtree and whether the new place is free, and writes once."""
    plan = FaultPlan()
    async with kv.connect("memory://", plan=plan) as db:
        nodes = Node.objects.using(db)
        await nodes.save_many([Node("t", path=("a", f"{number:03}")) for number in range(200)])
        plan.log.clear()

        assert await Node.objects.using(db).tree("t").move("a", "b") == 200

    assert [call.name for call in plan.log] == ["scan", "scan", "scan", "write"]
