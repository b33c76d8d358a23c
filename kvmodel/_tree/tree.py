"""What can be asked of a tree, and done to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TextIO, TypeVar, cast

from kvmodel._tree.cursor import Cursor
from kvmodel._tree.moves import Transfer, delete_subtree
from kvmodel._tree.paths import Part, Path, as_path, below, bounded, make_path, subtree
from kvmodel._tree.printing import print_tree
from kvmodel._tree.ranges import Ancestors, SkipRange
from kvmodel.drivers.base import Key, Slice
from kvmodel.errors import ValidationError
from kvmodel.query import Range, check_limit

if TYPE_CHECKING:
    from kvmodel._tree.repository import TreeRepository
    from kvmodel.model import Model

__all__ = ["Tree"]

M = TypeVar("M", bound="Model")


class Tree(Generic[M]):
    """One tree: an ordered set of nodes, each at a path.

    Nodes come depth first: a parent before its children, children in order (str before int before UUID). A node need
    not have a parent, as in a store of file paths, unless the tree is strict. Inside a unit of work all calls join it.

    Attributes:
        partition: The tree's partition values, as key components.
        strict: Whether ``Cursor.set``, ``move`` and ``copy`` want the parent to be there, and ``Cursor.delete`` that
            nothing is under the node. What is written through ``objects`` is not looked at.
    """

    def __init__(
        self, objects: TreeRepository[M], partition: Key, values: tuple[object, ...], *, strict: bool = False
    ) -> None:
        self._objects = objects
        self._schema = objects._schema
        self._values = values
        self.partition = partition
        self.strict = strict

    def __repr__(self) -> str:
        return f"<Tree of {self._objects.model.__name__} {', '.join(map(repr, self._values))}>"

    def cursor(self, *path: Part) -> Cursor[M]:
        """Answer a place in the tree; a node need not be there. Without parts it is the root.

        Raises:
            ValidationError: A part is not of a type that the model's path takes.
        """
        return Cursor(self, make_path(self._schema, path))

    # --- reading ---

    def range(
        self,
        *,
        first: object = None,
        last: object = None,
        after: object = None,
        before: object = None,
        prefix: object = None,
        limit: int | None = None,
        reverse: bool = False,
        allow_costly: bool = False,
    ) -> Range[M]:
        """Answer the nodes between two paths, depth first. Bounds are paths: tuples, or lone parts.

        A bound speaks of its path alone: ``last=("a",)`` does not take in what is under it, ``prefix=("a",)`` does.

        Args:
            first: The lower end, included.
            last: The upper end, included.
            after: The lower end, not included.
            before: The upper end, not included.
            prefix: How the path begins: whole parts, of which the last may be ``kv.starts("x")``; a lone text is the
                beginning of the first part.
            limit: How many nodes at the most.
            reverse: Turn the output; the limit counts from the other end then.
            allow_costly: Read backwards even where the store has to read the whole slice for it.

        Raises:
            ValidationError: The bounds contradict each other or are no paths, or the limit is negative.
        """
        slice = bounded(self._schema, self.partition, first=first, last=last, after=after, before=before, prefix=prefix)
        return Range(self._objects, _limited(slice, limit, reverse), allow_costly=allow_costly)

    def children(
        self, *path: Part, limit: int | None = None, reverse: bool = False, allow_costly: bool = False
    ) -> Range[M]:
        """Answer the nodes right below a path. Costs about one seek a child, however much is under it.

        A child that is absent while others are under it is no node and is not among them: see :meth:`child_paths`.
        """
        return self._down_to(1, path, limit, reverse, allow_costly)

    def descendants(
        self,
        *path: Part,
        depth: int | None = None,
        limit: int | None = None,
        reverse: bool = False,
        allow_costly: bool = False,
    ) -> Range[M]:
        """Answer the nodes below a path, down to ``depth`` levels, or all of them."""
        if depth is not None:
            return self._down_to(_checked_depth(depth), path, limit, reverse, allow_costly)
        slice = _limited(below(self.partition, make_path(self._schema, path)), limit, reverse)
        return Range(self._objects, slice, allow_costly=allow_costly)

    def walk(self, *path: Part) -> Range[M]:
        """Answer a node and all below it, depth first; without a path, the whole tree. ``async for`` streams them."""
        return Range(self._objects, subtree(self.partition, make_path(self._schema, path)))

    def ancestors(self, *path: Part) -> Range[M]:
        """Answer the nodes above a path, from the top down. They are read by key, in one request where that can be."""
        return Ancestors(self._objects, self.partition, make_path(self._schema, path))

    async def child_paths(self, *path: Part) -> list[Path]:
        """Answer the paths right below a path at which a node is, or under which one is."""
        return await self._down_to(1, path).paths()

    async def subtree_count(self, *path: Part) -> int:
        """Count a node and all below it, without moving their values where the store can.

        Raises:
            Unsupported: Inside a unit of work.
        """
        return await self.walk(*path).count()

    # --- changing ---

    async def move(self, old: object, new: object, *, atomic: bool = True, overwrite: bool = False) -> int:
        """Move a node, and all below it, to another path; answer how many nodes were moved.

        They keep what they hold, and their deadlines. Outside of a unit of work a lost race is tried again.

        Args:
            old: The path of the node; it may be absent if others are below it.
            new: The path that it gets.
            atomic: Move all of it in one commit; inside a unit of work that is the unit's in any case. Without, it is
                moved in batches, in bounded memory: a node is at one of the two places at any time, or at both. After
                an interruption move again, with ``overwrite``.
            overwrite: Replace the nodes that are at the new place, and keep the others that are there.

        Raises:
            ValidationError: The new path is under the old one, or one of them is empty, or too long for the store.
            NotFound: Nothing is at the old path; or the tree is strict, and the new path has no parent.
            AlreadyExists: Something is at the new path, or under it.
            Unsupported: The store can't move it in one commit; nothing was sent.
            TooLarge: It is more than the store takes in one commit; nothing was written.
            BatchError: With ``atomic=False``: a part of a batch failed.
        """
        return await self._transfer(old, new, overwrite=overwrite, keeps=False).run(atomic=atomic)

    async def copy(self, old: object, new: object, *, atomic: bool = True, overwrite: bool = False) -> int:
        """Copy a node, and all below it, to another path; answer how many nodes were copied.

        The arguments and errors are those of :meth:`move`.
        """
        return await self._transfer(old, new, overwrite=overwrite, keeps=True).run(atomic=atomic)

    async def delete_subtree(self, *path: Part, atomic: bool = True) -> int:
        """Remove a node, and all below it; answer how many nodes were removed.

        Args:
            path: The path of the node; it may be absent if others are below it.
            atomic: Remove all of it in one commit. Without, it is removed in batches, of which each stands for itself.

        Raises:
            ValidationError: The path is empty. ``tree.range().delete()`` empties a whole tree.
            Unsupported: The store can't remove it in one commit; nothing was sent.
            TooLarge: It is more than the store takes in one commit; nothing was removed.
            BatchError: With ``atomic=False``: some were not removed.
        """
        made = make_path(self._schema, path, root=False)
        return await delete_subtree(self._objects, subtree(self.partition, made), atomic=atomic)

    # --- looking ---

    async def print_tree(
        self,
        *path: Part,
        depth: int | None = None,
        label: Callable[[M], str] | None = None,
        file: TextIO | None = None,
    ) -> None:
        """Print the tree, or what is below a path. On a terminal it has colours if ``rich`` is installed.

        Args:
            path: Where to begin.
            depth: How many levels; left out, all of them.
            label: What to print for a node; left out, the last part of its path and the fields that are not ``None``.
            file: Where to print; left out, the standard output.
        """
        made = make_path(self._schema, path)
        levels = None if depth is None else _checked_depth(depth)
        await print_tree(self, made, levels, label, file)

    # --- inside ---

    def _down_to(
        self,
        depth: int,
        path: tuple[object, ...],
        limit: int | None = None,
        reverse: bool = False,
        allow_costly: bool = False,
    ) -> SkipRange[M]:
        made = make_path(self._schema, path)
        slice = _limited(below(self.partition, made), limit, reverse)
        return SkipRange(self._objects, slice, len(made) + depth, allow_costly=allow_costly)

    def _transfer(self, old: object, new: object, *, overwrite: bool, keeps: bool) -> Transfer[M]:
        return Transfer(
            self._objects,
            self.partition,
            make_path(self._schema, as_path(old), root=False),
            make_path(self._schema, as_path(new), root=False),
            keeps=keeps,
            overwrite=overwrite,
            strict=self.strict,
        )

    async def _find(self, path: Path) -> M | None:
        return await self._objects.find(*self._values, path) if path else None

    def _path_of(self, node: M) -> Path:
        return cast("Path", self._schema.key_of(node)[-1])

    def _make(self, path: Path, payload: tuple[object, ...], fields: dict[str, object]) -> M:
        """Make a node, its payload as the constructor would take it."""
        keys = dict(zip((field.name for field in self._schema.partition), self._values, strict=True)) | {"path": path}
        aliases = {member.name: member.alias for member in self._schema.constructor}
        names = [
            member.alias
            for member in self._schema.constructor
            if member.init and not member.kw_only and member.name not in keys
        ]
        if len(payload) > len(names):
            raise TypeError(f"this takes {len(names)} positional values ({', '.join(names)}), not {len(payload)}")
        given = dict(zip(names, payload, strict=False))
        return self._objects.model(**{aliases[name]: value for name, value in keys.items()}, **given, **fields)


def _limited(slice: Slice, limit: int | None, reverse: bool) -> Slice:
    check_limit(limit)
    return slice._replace(limit=limit, reverse=bool(reverse))


def _checked_depth(depth: object) -> int:
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValidationError(f"a depth is a number of levels, 1 or more, or None for all, not {depth!r}")
    return depth
