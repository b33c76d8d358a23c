"""Trees: places, ranges, moves."""

from __future__ import annotations

from typing import assert_type
from uuid import UUID

import kvmodel as kv
from kvmodel.tree import Cursor, Tree, TreeRepository


class Node(kv.TreeModel, table="typed_nodes", strict=True, native=False):
    tree: str = kv.partition_key()
    value: int = 0


class Fixed(kv.TreeModel, table="typed_fixed", frozen=True):
    """A tree's base has a field, and a subclass may be frozen all the same."""

    value: int = 0


async def trees() -> None:
    """Everything here is allowed."""
    node = Node("t", 3, path=("a", 1, UUID(int=2)))
    assert_type(node.path, tuple[str | int | UUID, ...])
    assert_type(Fixed(1, path=("a",)).value, int)
    assert_type(Node.objects, TreeRepository[Node])
    assert_type(await Node.objects.get("t", ("a",)), Node)
    tree = Node.objects.tree("t")
    assert_type(tree, Tree[Node])
    cursor = tree.cursor("a", 1)
    assert_type(cursor, Cursor[Node])
    assert_type(await cursor.get(), Node | None)
    assert_type(await cursor.set(3), Node)
    assert_type(await cursor.next(), Node | None)
    assert_type(tree.children("a"), kv.Range[Node])
    assert_type(await tree.descendants("a", depth=2), list[Node])
    assert_type([one.value async for one in tree.walk()], list[int])
    assert_type(await tree.move(("a", 1), "b"), int)
    await tree.print_tree(label=lambda one: str(one.value))
