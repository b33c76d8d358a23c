"""Models: classes whose objects are records.

``class User(kv.Model, table="users")`` becomes a slotted attrs class, and is compiled to a schema. Whatever is wrong
with the declaration is a :class:`~kvmodel.SchemaError` when the class is made.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, dataclass_transform

import attrs

from kvmodel._declare import Declared, Options, build_schema, declared_fields, read_options, transformer
from kvmodel._state import Stateful, decode_version, expires_at, get_state, set_state, version
from kvmodel.errors import SchemaError, ValidationError
from kvmodel.fields.base import Unresolved
from kvmodel.fields.resolve import Scope
from kvmodel.fields.specifiers import clustering_key, field, partition_key
from kvmodel.schema import Schema, schema_of

M = TypeVar("M", bound="Model")
SeenT = TypeVar("SeenT")

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple  # for default=; type checkers know it without its being installed

    from kvmodel.repository import Repository

    Ks = TypeVarTuple("Ks", default=Unpack[tuple[Any, ...]])
else:
    from typing import TypeVarTuple

    Ks = TypeVarTuple("Ks")

_models: weakref.WeakSet[type] = weakref.WeakSet()
_repository_factory: list[Callable[[Any], Any]] = []


def register_repository(factory: Callable[[Any], Any]) -> None:
    """Say how the repository of a model is made. The module of repositories calls this when it is imported."""
    _repository_factory[:] = [factory]


def declared_models() -> Iterator[type[Model]]:
    """Give the concrete models of this process that are still referred to."""
    return iter(list(_models))


@dataclass_transform(field_specifiers=(partition_key, clustering_key, field, attrs.field))
class ModelType(type):
    """The class of models."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> ModelType:
        if "__attrs_attrs__" in namespace or not any(isinstance(base, ModelType) for base in bases):
            return super().__new__(mcls, name, bases, namespace)  # attrs makes a slotted class again; or Model itself
        return _declare(mcls, name, bases, namespace, options)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, namespace)

    if not TYPE_CHECKING:

        @property
        def objects(cls):
            """The queries of this model."""
            repository = cls._kv_repository
            return _make_repository(cls) if repository is None else repository


def _make_repository(cls: Any) -> Any:
    if not _repository_factory:
        import kvmodel.repository  # noqa: F401
    cls._kv_repository = _repository_factory[0](cls)
    return cls._kv_repository


def _declare(
    mcls: type[ModelType], name: str, bases: tuple[type, ...], namespace: dict[str, Any], given: dict[str, Any]
) -> Any:
    concrete = any("_kv_build" in cls.__dict__ for base in bases for cls in base.__mro__)
    options = read_options(name, given, extends_concrete=concrete)
    scope = Scope(namespace["__module__"], sys._getframe(2))
    own = declared_fields(name, namespace, scope)
    namespace["_kv_repository"] = None
    namespace["_kv_schema"] = None
    if options.table is None:
        namespace["__slots__"] = ()
    cls: Any = type.__new__(mcls, name, bases, namespace)
    declared = _with_inherited(cls, own)
    for one in own.values():
        try:
            one.resolve()
        except Unresolved:
            pass
        else:
            pass
    type.__setattr__(cls, "_kv_declared", declared)
    if options.table is None:
        return cls
    return _concrete(cls, options, declared, own)


def _with_inherited(cls: type, own: dict[str, Declared]) -> dict[str, Declared]:
    """Put the fields of all bases in front; a field that is declared again keeps its place."""
    declared: dict[str, Declared] = {}
    for base in reversed(cls.__mro__[1:]):
        declared.update(base.__dict__.get("_kv_own", {}))
    type.__setattr__(cls, "_kv_own", own)
    return declared | own


def _concrete(cls: type, options: Options, declared: dict[str, Declared], own: dict[str, Declared]) -> Any:
    if not any(one.spec.role != "value" for one in declared.values()):
        raise SchemaError(
            f"{cls.__name__} has no key: declare a field with kv.partition_key() or kv.clustering_key()",
            table=options.table,
        )
    model: Any = attrs.define(
        cls,
        these={name: one.definition for name, one in declared.items()},
        frozen=options.frozen,
        kw_only=options.kw_only,
        getstate_setstate=False,
        field_transformer=transformer(declared, own),
    )

    def build() -> Schema:
        for one in declared.values():
            one.resolve()
        schema = build_schema(model, options, declared, {})
        model._kv_schema = schema
        return schema

    model._kv_build = build
    _models.add(model)
    return model


class _Objects(Generic[*Ks]):
    """How type checkers see ``Model.objects``; at run time it is a property of the class, which objects lack."""

    def __get__(self, instance: None, owner: type[M]) -> Repository[M, *Ks]:
        raise NotImplementedError


def _seen_as(function: Callable[[Any], SeenT]) -> SeenT:
    """Declare a descriptor by its type. A decorated function, because mypy refuses generic variables on a class."""
    raise NotImplementedError


class Model(Stateful, Generic[*Ks], metaclass=ModelType):
    """The base class of models.

    Class line options: ``table`` (without it the class is abstract: fields for its subclasses), ``abstract``,
    ``frozen``, ``kw_only``, ``schema`` (the number of this declaration, for ``kv.upgrade``), ``expires_in``,
    ``layout``, ``store_options``.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @_seen_as
        def objects(self) -> _Objects[*Ks]:
            """The queries of this model."""
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
            store_options: dict[str, dict[str, object]] | None = None,
        ) -> None: ...

    else:

        def __init__(self, *args, **kwargs):
            raise SchemaError(f"{type(self).__name__} is abstract: only a model with a table has objects")

    def __getstate__(self) -> tuple[object, dict[str, object]]:
        names = [attribute.name for attribute in attrs.fields(type(self))]
        return get_state(self), {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __setstate__(self, saved: tuple[Any, dict[str, object]]) -> None:
        state, values = saved
        for name, value in values.items():
            object.__setattr__(self, name, value)
        set_state(self, state)


def replace(obj: M, /, **changes: Any) -> M:
    """Answer a copy with some fields changed, in the same state: saved, it replaces what ``obj`` was loaded from.

    Key fields can't change. ``attrs.evolve`` makes a new object instead.
    """
    schema = schema_of(type(obj))
    different = {
        name: value for name, value in changes.items() if not (name in _key_names(schema) and value == getattr(obj, name))
    }
    schema.check_changes(different)
    fresh = copy.copy(obj)
    made = attrs.evolve(obj, **{member.alias: different[member.name] for member in schema.constructor if member.init and member.name in different})
    for member in schema.constructor:
        if member.init:
            object.__setattr__(fresh, member.name, getattr(made, member.name))
        elif member.name in different:
            object.__setattr__(fresh, member.name, different[member.name])
    return fresh


def _key_names(schema: Schema) -> set[str]:
    return {member.name for member in schema.key_members}
