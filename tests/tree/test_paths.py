"""The order of paths, in values and in bytes, and the least path that comes behind a subtree."""

from __future__ import annotations

from uuid import UUID

from hypothesis import assume, given
from hypothesis import strategies as st

from kvmodel._tree.paths import behind, bounded, is_under, order, subtree
from kvmodel.drivers.base import Table
from kvmodel.drivers.formats.codec import compile_codec
from kvmodel.schema import schema_of
from tests.tree.models import Node, Path

PARTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=3),
    st.text("\0\x01\x02a\xff\U0010ffff", max_size=4),
    st.integers(-300, 300),
    st.sampled_from([-(2**64), -(2**64) - 1, 2**64 - 1, 2**64, 2**80, 2**2040]),
    st.uuids(),
    st.sampled_from([UUID(int=0), UUID(int=2**128 - 1), UUID(int=2**128 - 2)]),
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)

TABLE: Table = schema_of(Node).make_table()
CODEC = compile_codec(TABLE, store="test")


def encoded(path: Path) -> bytes:
    return CODEC.encode_key(("t", path))


@given(st.lists(PATHS, max_size=8), PATHS)
def test_bytes_are_depth_first(paths: list[Path], top: Path) -> None:
    """Keys in order of their bytes are paths in order: a parent before its children, siblings in their order."""
    paths += [top, *(top + path for path in paths)]

    assert sorted(paths, key=encoded) == sorted(paths, key=order)
    for path in paths:
        if path != top and is_under(path, top):
            assert encoded(top) < encoded(path)


@given(PATHS, PATHS)
def test_a_subtree_is_one_piece(path: Path, other: Path) -> None:
    """Its slice holds a node and what is under it, and nothing else; so do its bytes."""
    start, stop = CODEC.bounds(subtree(("t",), path))

    for one in (path, path + other, other, other + path, path[:-1] + other):
        assert (start <= encoded(one) < stop) == is_under(one, path)


@given(PATHS, PATHS)
def test_nothing_lies_between(path: Path, other: Path) -> None:
    """What comes behind a subtree is never before the path that is computed for it, and what is in it always is."""
    end = behind(path)
    everything_else = [other, path[:-1] + other, (*path[:-1], *other[:1]), path + other]

    for one in everything_else:
        if is_under(one, path):
            assert end is None or order(one) < order(end)
        elif order(one) > order(path):
            assert end is not None
            assert order(one) >= order(end)


def test_behind() -> None:
    """Worked examples, at the edges of each type."""
    last = UUID(int=2**128 - 1)

    assert behind(("a", "b")) == ("a", "b\0")
    assert behind((1, -1)) == (1, 0)
    assert behind(("a", UUID(int=7))) == ("a", UUID(int=8))
    assert behind(("a", last, last)) == ("a\0",)
    assert behind((last, last)) is None
    assert behind(()) is None


@given(PATHS, PATHS, st.booleans())
def test_prefix(path: Path, other: Path, whole: bool) -> None:
    """A prefix holds the paths that begin with its parts, or whose next part begins with its text."""
    assume(whole or (isinstance(path[-1], str) and path[-1].rstrip("\U0010ffff")))
    from kvmodel.query import starts

    prefix = path if whole else (*path[:-1], starts(str(path[-1])))
    ends = dict.fromkeys(("first", "last", "after", "before"))
    start, stop = CODEC.bounds(bounded(schema_of(Node), ("t",), prefix=prefix, **ends))

    text = str(path[-1])
    for one in (path, path + other, other, path[:-1] + other, (*path[:-1], text + str(other[0])), path[:-1]):
        if not one:
            continue
        begins = len(one) >= len(path) and one[: len(path) - 1] == path[:-1]
        last = one[len(path) - 1] if begins else None
        matches = last == path[-1] if whole else isinstance(last, str) and last.startswith(text)
        assert (start <= encoded(one) < stop) == (begins and matches)
