"""Cursors: a place in a tree, whether a node is there or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kvmodel._tree.paths import Path
from kvmodel._tree.strict import delete_leaf, put_child
from kvmodel.errors import ValidationError

if TYPE_CHECKING:
    from kvmodel._tree.tree import Tree
    from kvmodel.model import Model

__all__ = ["Cursor"]

M = TypeVar("M", bound="Model")


class Cursor(Generic[M]):
    """A place in a tree. It does not move: ``next()`` and the others answer nodes, whose paths lead on.

    Made by ``tree.cursor("a", "b")``. Inside a unit of work its calls join it.

    Attributes:
        tree: The tree.
        path: The path. The empty one is the root, which is no node: from there ``next()`` is the first node.
    """

    __slots__ = ("path", "tree")

    def __init__(self, tree: Tree[M], path: Path) -> None:
        self.tree = tree
        self.path = path

    def __repr__(self) -> str:
        return f"<Cursor at {self.path!r} in {self.tree!r}>"

    # --- the node here ---

    async def get(self) -> M | None:
        """Answer the node that is here, ``None`` where none is."""
        return await self.tree._find(self.path)

    async def set(self, *payload: Any, **fields: Any) -> M:
        """Write a node here, whatever was here before, and answer it.

        Args:
            payload: The fields outside the key, as the model's constructor takes them.
            fields: The same by name.

        Raises:
            ValidationError: This is the root, or a field was refused.
            NotFound: The tree is strict and the parent is absent; nothing was written.
        """
        node = self.tree._make(self.path, payload, fields)
        if self.tree.strict and len(self.path) > 1:
            return await put_child(self.tree._objects, node, (*self.tree.partition, self.path[:-1]))
        return await self.tree._objects.save(node)

    async def delete(self) -> bool | None:
        """Remove the node that is here, and it alone; what is under it stays, unless the tree is strict.

        Returns:
            Whether a node was here; ``None`` where the store does not tell.

        Raises:
            ValidationError: This is the root; or the tree is strict and there are nodes under this one.
        """
        if not self.path:
            raise ValidationError(
                "the root is no node: tree.delete_subtree() removes all below a path, tree.range().delete() everything",
                table=self.tree._schema.name,
                field="path",
            )
        if self.tree.strict:
            return await delete_leaf(self.tree._objects, self.tree.partition, self.path)
        return await self.tree._objects.delete(*self.tree.partition, self.path)

    # --- its neighbours ---

    async def next(self) -> M | None:
        """Answer the node that follows depth first: below this place if one is there, else behind it."""
        return await self.tree.range(after=self.path or None).first()

    async def prev(self, *, allow_costly: bool = False) -> M | None:
        """Answer the node before this place, depth first.

        Args:
            allow_costly: Read backwards even where the store has to read all that comes before for it.
        """
        if not self.path:
            return None
        return await self.tree.range(before=self.path, reverse=True, allow_costly=allow_costly).first()

    async def parent(self) -> M | None:
        """Answer the node right above, ``None`` where none is."""
        return await self.tree._find(self.path[:-1])

    async def first_child(self) -> M | None:
        """Answer the first of the nodes right below."""
        return await self.tree.children(*self.path).first()
