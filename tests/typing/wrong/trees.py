"""Trees that are given what is none of theirs."""

from __future__ import annotations

from tests.typing.right.trees import Fixed, Node


async def nodes() -> None:
    """A path is a tuple, and given by name."""
    Node("t", 3)  # refused: call-arg / reportCallIssue
    Node("t", path="a")  # refused: arg-type / reportArgumentType
    Fixed(path=("a",)).value = 3  # refused: misc / reportAttributeAccessIssue


async def places() -> None:
    """Parts of a path are str, int or UUID; only descendants have a depth."""
    tree = Node.objects.tree("t")
    tree.cursor(1.5)  # refused: arg-type / reportArgumentType
    tree.children("a", depth=2)  # refused: call-arg / reportCallIssue
    print((await tree.cursor("a").get()).value)  # refused: union-attr / reportOptionalMemberAccess
    await tree.print_tree(label=lambda one: one.value)  # refused: arg-type, return-value / reportArgumentType
