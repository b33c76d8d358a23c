"""Models, fixtures' helpers and short names that the tests of trees share."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from uuid import UUID

import kvmodel as kv
from kvmodel.tree import Tree

Path = tuple[str | int | UUID, ...]


class Node(kv.TreeModel, table="nodes"):
    tree: str = kv.partition_key()
    value: int = 0
    note: str | None = None


class Branch(kv.TreeModel, table="branches", strict=True):
    tree: str = kv.partition_key()
    value: int = 0


class Shade(Enum):
    DARK = "dark"
    LIGHT = "light"


class Leaf(kv.TreeModel, table="leaves", frozen=True):
    """Two partition fields, one of them no plain value, around a payload; lists and keyword-only fields in it."""

    shade: Shade = kv.partition_key()
    text: str
    year: int = kv.partition_key(kw_only=True)
    tags: list[str] = kv.field(factory=list)
    size: int = kv.field(default=0, kw_only=True)


def tree(name: str = "t") -> Tree[Node]:
    """One tree of nodes."""
    return Node.objects.tree(name)


async def fill(paths: Iterable[Path | str], name: str = "t") -> Tree[Node]:
    """Write nodes, numbered in the order given; ``"a/b"`` stands for ``("a", "b")``."""
    nodes = [Node(name, number, path=path_of(path)) for number, path in enumerate(paths, 1)]
    await Node.objects.save_many(nodes)
    return tree(name)


def path_of(text: Path | str) -> Path:
    return tuple(text.split("/")) if isinstance(text, str) else text


def text_of(path: Path) -> str:
    return "/".join(map(str, path))


def texts(nodes: Iterable[Node]) -> str:
    """The paths of nodes, in the order given."""
    return " ".join(text_of(node.path) for node in nodes)


async def content(name: str = "t") -> dict[str, int]:
    """What a tree holds."""
    return {text_of(node.path): node.value for node in await tree(name).walk()}
