"""Trees: ``class Node(kv.TreeModel, table="nodes")``, then ``Node.objects.tree("name")``.

A node is a record whose clustering key is its path, a tuple. Paths are compared part by part, a shorter one before all
that go on from it: so the order of keys is depth first, a parent comes before its children, children come in order, and
a subtree is one piece of the partition. All of a tree follows from that; what it does is in the private package beside
this module, which a module of models does not import.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar
from uuid import UUID

from kvmodel._declare import Declared
from kvmodel._later import importer
from kvmodel._options import OptionCheck, check_flag
from kvmodel.drivers.base import KeyPart
from kvmodel.drivers.facets import TreeStore
from kvmodel.errors import SchemaError
from kvmodel.fields.base import Mismatch
from kvmodel.fields.keys import KeyCodec
from kvmodel.fields.specifiers import clustering_key
from kvmodel.model import Model, ModelType, _Objects, _seen_as

if TYPE_CHECKING:
    from kvmodel._tree.cursor import Cursor
    from kvmodel._tree.repository import TreeRepository
    from kvmodel._tree.tree import Tree

__all__ = ["Cursor", "Tree", "TreeModel", "TreeRepository"]

M = TypeVar("M", bound="Model")

_PARTS: Final = frozenset({"str", "int", "uuid"})
_LATER: Final = {
    "Cursor": "kvmodel._tree.cursor",
    "Tree": "kvmodel._tree.tree",
    "TreeRepository": "kvmodel._tree.repository",
}

if not TYPE_CHECKING:  # Or type checkers would take any name for one that exists.
    __getattr__ = importer(globals(), _LATER)


class _TreeObjects(_Objects[*tuple[Any, ...]]):
    """How type checkers see ``TreeModel.objects``."""

    def __get__(self, instance: None, owner: type[M]) -> TreeRepository[M]:
        raise NotImplementedError


class TreeModel(Model, metaclass=ModelType, abstract=True):  # named, so that checkers let subclasses be frozen
    """The base class of nodes.

    A subclass declares partition fields, which name a tree, and whatever a node carries. ``path`` is the one clustering
    key; it may be declared again with fewer types, as ``path: tuple[str, ...] = kv.clustering_key(kw_only=True)``.

    Class line options, besides those of every model: ``strict=True`` makes ``objects.tree()`` refuse nodes without a
    parent; ``native=False`` keeps nodes as records even where the store has trees of its own.
    """

    path: tuple[str | int | UUID, ...] = clustering_key(kw_only=True)

    _kv_asked_by: ClassVar[str] = "kvmodel._tree.repository:TreeRepository"
    _kv_options: ClassVar[Mapping[str, OptionCheck]] = {"native": check_flag, "strict": check_flag}
    _kv_facet: ClassVar[type[TreeStore] | None] = TreeStore

    @staticmethod
    def _kv_check(model: str, table: str, declared: Mapping[str, Declared]) -> None:
        """Raise ``SchemaError`` unless the path, ascending, is the whole clustering key; see that it is never empty."""
        for field in declared.values():
            if field.name != "path" and field.spec.role == "clustering":
                raise SchemaError(
                    f"{model}: the path is a tree's only clustering key: make this a partition key or a value",
                    table=table,
                    field=field.path,
                )
        path = declared["path"]
        codec = path.key_codec
        if path.spec.role != "clustering" or path.spec.descending or codec is None or not _is_path(codec):
            raise SchemaError(
                f"{model}: a path is an ascending clustering key, a tuple of str, int or UUID of any length: "
                "declare it as in kv.TreeModel, or leave it out",
                table=table,
                field=path.path,
            )
        path.key_codec = codec if isinstance(codec, _PathCodec) else _PathCodec(codec)

    if TYPE_CHECKING:

        @_seen_as
        def objects(self) -> _TreeObjects:
            """The queries of this model, and its trees."""
            ...

        def __init_subclass__(
            cls,
            *,
            table: str | None = None,
            abstract: bool = False,
            frozen: bool = False,
            kw_only: bool = False,
            schema: int = 1,
            expires_in: timedelta | None = None,
            layout: Literal["record", "plain"] = "record",
            store_options: Mapping[str, Mapping[str, object]] | None = None,
            native: bool = True,
            strict: bool = False,
        ) -> None: ...


def _is_path(codec: KeyCodec) -> bool:
    if codec.type.kind != "tuple" or not codec.type.variadic or codec.restore is not None:
        return False
    (part,) = codec.type.items
    return {one.kind for one in (part.items if part.kind == "union" else (part,))} <= _PARTS


class _PathCodec(KeyCodec):
    """A tuple with at least one element. The root of a tree is a position, not a node."""

    __slots__ = ()

    def __init__(self, inner: KeyCodec) -> None:
        convert_tuple = inner.convert

        def convert(value: Any) -> KeyPart:
            if value == ():
                raise Mismatch("a node's path has at least one part: the empty one is the root, which is no node")
            return convert_tuple(value)

        super().__init__(inner.text, inner.type, inner.accepts, convert)
