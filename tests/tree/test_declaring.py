"""What a tree's class may say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

import kvmodel as kv
from kvmodel.schema import schema_of
from tests.tree.models import Leaf, Node, Shade


def test_the_path_comes_along() -> None:
    """It is the clustering key, by name only in the constructor; all other fields stand where they are declared."""
    schema = schema_of(Node)

    assert [(field.name, str(field.type)) for field in schema.partition] == [("tree", "str")]
    assert [(field.name, str(field.type)) for field in schema.clustering] == [("path", "tuple[str | int | uuid, ...]")]
    assert Node("t", 3, "x", path=("a", 1, UUID(int=2))).path == ("a", 1, UUID(int=2))
    assert Leaf(Shade.DARK, "hello", year=1, path=("a",)).text == "hello"
    with pytest.raises(TypeError):
        Node("t")  # type: ignore[call-arg]


def redeclare_with_fewer_types() -> Any:
    class Folder(kv.TreeModel, table="folders"):
        path: tuple[str, ...] = kv.clustering_key(kw_only=True)
        size: int = 0

    return Folder


async def test_fewer_types() -> None:
    """The path may be declared again with fewer types; a tree without partition fields is one of its own."""
    folder = redeclare_with_fewer_types()
    async with kv.connect("memory://"):
        tree = folder.objects.tree()
        await tree.cursor("a", "b").set(3)
        assert [node.path for node in await tree.descendants()] == [("a", "b")]
        with pytest.raises(kv.ValidationError):
            tree.cursor("a", 1)


def with_another_clustering_key() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        tree: str = kv.partition_key()
        order: int = kv.clustering_key()


def with_a_path_in_the_partition() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        path: tuple[str, ...] = kv.partition_key(kw_only=True)


def with_a_path_that_counts_down() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        path: tuple[str, ...] = kv.clustering_key(descending=True, kw_only=True)


def with_a_path_of_fixed_length() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        path: tuple[str, int] = kv.clustering_key(kw_only=True)


def with_a_path_of_other_parts() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        path: tuple[bytes, ...] = kv.clustering_key(kw_only=True)  # type: ignore[assignment]


def with_a_path_of_members() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        path: tuple[Shade, ...] = kv.clustering_key(kw_only=True)  # type: ignore[assignment]


def with_a_path_that_is_text() -> None:
    class Wrong(kv.TreeModel, table="wrong"):
        path: str = kv.clustering_key(kw_only=True)  # type: ignore[assignment]


def with_an_option_of_another_type() -> None:
    class Wrong(kv.TreeModel, table="wrong", strict="yes"):
        tree: str = kv.partition_key()


def with_an_unknown_option() -> None:
    class Wrong(kv.TreeModel, table="wrong", nativ=False):
        tree: str = kv.partition_key()


def with_an_option_and_no_table() -> None:
    class Wrong(kv.TreeModel, abstract=True, strict=True):
        tree: str = kv.partition_key()


def that_is_no_tree() -> None:
    class Wrong(kv.Model, table="wrong", strict=True):
        tree: str = kv.partition_key()


@pytest.mark.parametrize(
    ("declare", "match"),
    [
        (with_another_clustering_key, "only clustering key"),
        (with_a_path_in_the_partition, "ascending clustering key"),
        (with_a_path_that_counts_down, "ascending clustering key"),
        (with_a_path_of_fixed_length, "of any length"),
        (with_a_path_of_other_parts, "str, int or UUID"),
        (with_a_path_of_members, "str, int or UUID"),
        (with_a_path_that_is_text, "a tuple"),
        (with_an_option_of_another_type, "strict= is True or False"),
        (with_an_unknown_option, "native, strict"),
        (with_an_option_and_no_table, "strict= belongs to a model with a table"),
        (that_is_no_tree, "unknown option 'strict'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_refused(declare: Callable[[], None], match: str) -> None:
    """What can't be a tree is refused when the class is made, with the remedy."""
    with pytest.raises(kv.SchemaError, match=match):
        declare()


async def test_abstract_bases() -> None:
    """Fields and keys may come from bases, as for every model."""

    class Base(kv.TreeModel, abstract=True):
        tree: str = kv.partition_key()

    class Derived(Base, table="derived"):
        value: int = 0

    async with kv.connect("memory://"):
        await Derived.objects.tree("t").cursor("a").set(3)
        assert await Derived.objects.get("t", ("a",)) == Derived("t", 3, path=("a",))


async def test_everything_of_a_model() -> None:
    """Nodes are records: they can be got, saved, listed and changed as all others."""
    async with kv.connect("memory://") as db:
        await Node.objects.create(Node("t", 1, path=("a", "b")))
        await Node.objects.update("t", ("a", "b"), value=2)
        assert [node.value for node in await Node.objects.range("t", first=("a",))] == [2]
        assert [node.path async for node in Node.objects.scan()] == [("a", "b")]
        assert await Node.objects.using(db).get_many([("t", ("a", "b"))]) == [Node("t", 2, path=("a", "b"))]


def test_declaring_needs_no_asyncio() -> None:
    """A module of models stays cheap to import, trees included."""
    program = (
        "import sys, kvmodel as kv\n"
        "class Node(kv.TreeModel, table='nodes'):\n    tree: str = kv.partition_key()\n"
        "print('asyncio' in sys.modules, 'kvmodel._tree.tree' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == ["False", "False"]


def test_classes_are_found_in_the_public_module() -> None:
    """They are imported when they are asked for, say that they are found there, and other names are not there."""
    from kvmodel import tree

    assert {name: getattr(tree, name).__module__ for name in tree.__all__ if name != "TreeModel"} == {
        "Cursor": "kvmodel.tree",
        "Tree": "kvmodel.tree",
        "TreeRepository": "kvmodel.tree",
    }
    assert not hasattr(tree, "Nothing")
