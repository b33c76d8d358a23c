"""Programs that Hypothesis writes, run on a tree and on a dictionary of paths: both have to tell the same."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path as File
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel.tree import Tree
from tests.tree.models import Node, Path, tree
from tests.tree.reference import Reference

PARTS = st.sampled_from(
    ["", "a", "a\0", "a\x01", "b", "ä", "\U0010ffff", -1, 0, 255, 256, UUID(int=0), UUID(int=2**128 - 1)]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)
PLACES = st.lists(PARTS, max_size=3).map(tuple)


@attrs.frozen
class Set:
    path: Path
    value: int


@attrs.frozen
class Delete:
    path: Path
    whole: bool
    atomic: bool


@attrs.frozen
class Transfer:
    old: Path
    new: Path
    keeps: bool
    overwrite: bool
    atomic: bool


@attrs.frozen
class Look:
    path: Path
    depth: int
    limit: int
    reverse: bool


@attrs.frozen
class Unit:
    steps: list[Set | Delete | Transfer | Look]
    commits: bool


Step = Set | Delete | Transfer | Look | Unit

SETS = st.builds(Set, PATHS, st.integers(0, 9))
SIMPLE = st.one_of(
    SETS,
    st.builds(Delete, PATHS, st.booleans(), st.booleans()),
    st.builds(Transfer, PLACES.filter(bool), PATHS, st.booleans(), st.booleans(), st.booleans()),
    st.builds(Look, PLACES, st.integers(1, 3), st.integers(0, 5), st.booleans()),
)
UNITS = st.builds(Unit, st.lists(SIMPLE, max_size=6), st.booleans())
PROGRAMS = st.tuples(
    st.lists(SETS, min_size=3, max_size=25), st.lists(st.one_of(SIMPLE, SIMPLE, UNITS), max_size=12)
).map(lambda both: [*both[0], *both[1]])

_names = itertools.count()


@settings(max_examples=120)
@given(PROGRAMS)
def test_memory(program: list[Step]) -> None:
    """On a store in memory a tree does what a dictionary of paths does, step by step, in units of work too."""
    asyncio.run(compare("memory://", program))


@settings(max_examples=60)
@given(PROGRAMS)
def test_few_changes_a_batch(program: list[Step]) -> None:
    """The same where batches and pages are small and nothing is read in place: results do not hang on sizes."""
    asyncio.run(compare("memory://?reads_in_place=false&max_batch=2&max_read_batch=2", program))


@settings(max_examples=60)
@given(program=PROGRAMS)
def test_lmdb(program: list[Step], lmdb_file: File) -> None:
    """The same on LMDB: order and edges are those of the bytes on disk."""
    asyncio.run(compare(f"lmdb://{lmdb_file}?sync=false", program))


@pytest.fixture(scope="module")
def lmdb_file(tmp_path_factory: pytest.TempPathFactory) -> File:
    """One file for all examples, each of which has a tree of its own."""
    return tmp_path_factory.mktemp("trees") / "data"


async def compare(url: str, program: list[Step]) -> None:
    """Run a program on both."""
    async with kv.connect(url) as db:
        nodes = tree(f"t{next(_names)}")
        reference = Reference()
        for step in program:
            if isinstance(step, Unit):
                await run_unit(db, nodes, reference, step)
            else:
                await run(nodes, reference, step)
        await check_all(nodes, reference)


async def run_unit(db: kv.Database, nodes: Tree[Node], reference: Reference, unit: Unit) -> None:
    """Run the steps of a unit of work, which end in a commit or in nothing."""
    inside = Reference(dict(reference.nodes))
    uow = await db.unit_of_work().begin()
    for step in unit.steps:
        await run(nodes, inside, step)
    if unit.commits:
        await uow.commit()
        reference.nodes = inside.nodes
    else:
        await uow.rollback()


async def run(nodes: Tree[Node], reference: Reference, step: Set | Delete | Transfer | Look) -> None:
    """Run one step on both, and compare what it answers."""
    match step:
        case Set():
            reference.set(step.path, step.value)
            node = await nodes.cursor(*step.path).set(step.value)
            assert (node.path, node.value) == (step.path, step.value)
        case Delete(whole=True):
            assert await nodes.delete_subtree(*step.path, atomic=step.atomic) == reference.delete_subtree(step.path)
        case Delete():
            assert await nodes.cursor(*step.path).delete() == reference.delete(step.path)
        case Transfer():
            await transfer(nodes, reference, step)
        case Look():
            await look(nodes, reference, step)


async def transfer(nodes: Tree[Node], reference: Reference, step: Transfer) -> None:
    expected = reference.transfer(step.old, step.new, keeps=step.keeps, overwrite=step.overwrite)
    act = nodes.copy if step.keeps else nodes.move
    try:
        found: int | str = await act(step.old, step.new, atomic=step.atomic, overwrite=step.overwrite)
    except kv.KvModelError as error:
        found = type(error).__name__
    assert found == expected


async def look(nodes: Tree[Node], reference: Reference, look: Look) -> None:
    """Ask everything about one place."""
    path = look.path
    cursor = nodes.cursor(*path)
    node = await cursor.get()
    assert (None if node is None else node.value) == reference.nodes.get(path)
    assert paths([await cursor.next()]) == reference.after(path)[:1]
    assert paths([await cursor.prev()]) == reference.before(path)[-1:]
    assert paths([await cursor.parent()]) == [one for one in [path[:-1]] if one in reference.nodes]
    assert paths([await cursor.first_child()]) == reference.descendants(path, 1)[:1]
    assert await nodes.child_paths(*path) == reference.child_paths(path)
    assert paths(await nodes.ancestors(*path)) == reference.ancestors(path)
    assert paths(await nodes.walk(*path)) == reference.walk(path)

    turned = -1 if look.reverse else 1
    wanted = reference.descendants(path, look.depth)[::turned]
    limited = nodes.descendants(*path, depth=look.depth, limit=look.limit, reverse=look.reverse)
    assert paths(await limited) == wanted[: look.limit]
    streamed = nodes.descendants(*path, depth=look.depth, reverse=look.reverse)
    assert paths([node async for node in streamed]) == wanted
    if path:
        after = nodes.range(after=path, limit=look.limit, reverse=look.reverse)
        assert paths(await after) == reference.after(path)[::turned][: look.limit]
        within = nodes.range(prefix=path, reverse=look.reverse)
        assert paths(await within) == reference.walk(path)[::turned]


async def check_all(nodes: Tree[Node], reference: Reference) -> None:
    """Compare everything that is there, values and numbers too."""
    assert {node.path: node.value async for node in nodes.walk()} == reference.nodes
    assert paths(await nodes.descendants()) == reference.walk()
    for path in {(), *(one[:1] for one in reference.nodes), *reference.nodes}:
        assert paths(await nodes.children(*path)) == reference.descendants(path, 1)
        assert await nodes.children(*path).count() == len(reference.descendants(path, 1))
        assert await nodes.subtree_count(*path) == len(reference.walk(path))
        assert await pages(nodes, path, 2) == reference.descendants(path, 1)


async def pages(nodes: Tree[Node], path: Path, size: int) -> list[Path]:
    """The children of a path, read page by page."""
    found: list[Path] = []
    page = await nodes.children(*path).page(size)
    found += paths(page.items)
    while page.next_token is not None:
        page = await nodes.children(*path).page(size, page.next_token)
        found += paths(page.items)
    return found


def paths(nodes: list[Node | None] | list[Node]) -> list[Path]:
    return [node.path for node in nodes if node is not None]
