"""The queries of a tree model: ``Node.objects``."""

from __future__ import annotations

from typing import Any

from kvmodel._tree.tree import Tree
from kvmodel.model import M
from kvmodel.repository import Repository

__all__ = ["TreeRepository"]


class TreeRepository(Repository[M, *tuple[Any, ...]]):
    """The queries of a tree's model: those of every model, and :meth:`tree`."""

    def tree(self, *partition: object, strict: bool | None = None) -> Tree[M]:
        """Answer one tree. Nothing is sent.

        Args:
            partition: The values of the partition fields.
            strict: Whether nodes without a parent are refused; left out, as the class line says (``False`` if it does
                not).

        Raises:
            ValidationError: These are not the partition's values.
        """
        is_strict = self._schema.own_options.get("strict", False) if strict is None else strict
        return Tree(self, self._schema.make_partition(*partition), partition, strict=bool(is_strict))
