"""Models: classes whose objects are records.

``class User(kv.Model, table="users")`` becomes a slotted attrs class, and is compiled to a schema. Whatever is wrong
with the declaration is a :class:`~kvmodel.SchemaError` when the class is made.
"""

from __future__ import annotations

import sys
import threading
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, Unpack, dataclass_transform

import attrs

from kvmodel._declare import (
    Declared,
    build_schema,
    check_bases,
    check_fields,
    check_named_keys,
    check_steps,
    declared_fields,
    transformer,
)
from kvmodel._options import OptionCheck, Options, read_options
from kvmodel._state import Stateful, decode_version, expires_at, get_state, set_state, version
from kvmodel.drivers.facets import TreeStore
from kvmodel.errors import SchemaError
from kvmodel.fields.resolve import Scope
from kvmodel.fields.select import Selector
from kvmodel.fields.specifiers import clustering_key, field, partition_key
from kvmodel.fields.upgrade import UpgradeStep
from kvmodel.schema import Schema, schema_of

__all__ = [
    "Ks",
    "M",
    "Model",
    "declared_models",
    "decode_version",
    "expires_at",
    "replace",
    "version",
]

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


def declared_models() -> Iterator[type[Model]]:
    """Give the concrete models of this process that are still referred to."""
    return iter(list(_models))


class _Body(dict[str, Any]):
    """The namespace of a class body. It keeps all upgrade steps, whose functions may all be called ``_``."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[UpgradeStep] = []

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, UpgradeStep):
            self.steps.append(value)
        else:
            super().__setitem__(name, value)


@dataclass_transform(field_specifiers=(partition_key, clustering_key, field, attrs.field))
class ModelType(type):
    """The class of models."""

    # Type checkers take the options of a class line from __init_subclass__, and only if they see none of these.
    if not TYPE_CHECKING:

        @classmethod
        def __prepare__(cls, name: str, bases: tuple[type, ...], /, **options: Any) -> _Body:
            return _Body()

        def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
            if "__attrs_attrs__" in namespace or not any(isinstance(base, ModelType) for base in bases):
                return super().__new__(mcls, name, bases, namespace)  # attrs makes its slotted class, or we make Model
            return _declare(mcls, name, bases, namespace, options)

        def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
            super().__init__(name, bases, namespace)

        @property
        def objects(cls):
            """The queries of this model. A property of the class, so that objects have no such attribute."""
            repository = cls._kv_repository
            return _make_repository(cls) if repository is None else repository


def _make_repository(cls: Any) -> Any:
    schema_of(cls)
    module, _, name = cls._kv_asked_by.partition(":")  # a higher layer: a module of models does without it
    type.__setattr__(cls, "_kv_repository", getattr(import_module(module), name)(cls))
    return cls._kv_repository


def _declare(
    mcls: type[ModelType], name: str, bases: tuple[type, ...], namespace: dict[str, Any], given: dict[str, Any]
) -> Any:
    """Make the class of one class statement."""
    extends_concrete = any("_kv_build" in cls.__dict__ for base in bases for cls in base.__mro__)
    options = read_options(name, given, extends_concrete=extends_concrete, own=_own_options(bases))
    for taken in ("__init__", "__slots__", "__attrs_init__"):
        if taken in namespace:
            raise SchemaError(f"{name}: a model gets its {taken} from its fields: use __attrs_post_init__ instead")
    frame = sys._getframe(2)
    steps = namespace.steps if isinstance(namespace, _Body) else []
    namespace = {"__module__": frame.f_globals.get("__name__", ""), **namespace}
    selector = Selector(Scope(namespace["__module__"], frame))
    own = declared_fields(name, namespace, selector, kw_only=options.kw_only)
    functions = check_steps(name, options.schema, steps)
    namespace |= {"_kv_own": own, "_kv_repository": None, "_kv_schema": None, "_kv_named": _named_keys(namespace)}
    if options.table is None:
        namespace["__slots__"] = ()
    check_bases(name, bases)
    cls: Any = type.__new__(mcls, name, bases, namespace)
    for one in own.values():
        one.try_resolve()
    if all(one.codec is not None for one in own.values()):
        selector.scope.frame = None
    return cls if options.table is None else _make_concrete(cls, options, options.table, functions)


def _own_options(bases: tuple[type, ...]) -> dict[str, OptionCheck]:
    """Answer the options that the class line takes because of what kind of model this is."""
    return {name: check for base in reversed(bases) for name, check in getattr(base, "_kv_options", {}).items()}


def _named_keys(namespace: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Answer the key types that ``kv.Model[...]`` among the bases names."""
    for base in namespace.get("__orig_bases__", ()):
        origin, types = typing.get_origin(base), typing.get_args(base)
        is_open = any(isinstance(one, TypeVar) or typing.get_origin(one) is Unpack for one in types)
        if isinstance(origin, ModelType) and not is_open:
            return types
    return None


def _inherited_fields(cls: type) -> dict[str, Declared]:
    """Answer the fields of all bases and of the class; a field that is declared again keeps its place."""
    declared: dict[str, Declared] = {}
    for base in reversed(cls.__mro__):
        declared.update(base.__dict__.get("_kv_own", {}))
    return declared


def _make_concrete(cls: Any, options: Options, table: str, steps: Mapping[int, Any]) -> Any:
    """Make a model with a table: an attrs class with slots, that knows how to compile its schema."""
    declared = _inherited_fields(cls)
    check_fields(table, cls.__name__, options, declared)
    cls._kv_check(cls.__name__, table, declared)
    model = _make_attrs(cls, options, table, declared)
    named = next((base.__dict__["_kv_named"] for base in cls.__mro__ if base.__dict__.get("_kv_named")), None)

    lock = threading.Lock()

    def build() -> Schema:
        with lock:
            if model._kv_schema is None:
                finish()
                model._kv_schema = model._kv_refine(build_schema(model, options, declared, steps))
        schema: Schema = model._kv_schema
        return schema

    def finish() -> None:
        for one in declared.values():
            one.must_resolve()
        for one in declared.values():
            one.selector.scope.frame = None
        if named is not None:
            check_named_keys(table, cls.__name__, named, declared)

    if all(one.codec is not None for one in declared.values()):
        finish()
    type.__setattr__(model, "_kv_build", staticmethod(build))
    _models.add(model)
    return model


def _make_attrs(cls: Any, options: Options, table: str, declared: Mapping[str, Declared]) -> Any:
    """Let attrs write the class.

    The state's slot is shown to attrs as one more attribute, so that the constructor sets it to ``None``, and taken off
    the list of attributes again: reading an unset slot costs more than a whole constructor.
    """
    definitions = {name: one.definition for name, one in declared.items()}
    definitions["_kv_state"] = attrs.field(init=False, default=None, repr=False, eq=False, order=False, hash=False)
    try:
        model: Any = attrs.define(
            cls,
            these=definitions,
            frozen=options.frozen,
            getstate_setstate=False,
            field_transformer=transformer(table, declared, cls.__dict__["_kv_own"]),
        )
    except SchemaError:
        raise
    except (ValueError, TypeError, SyntaxError) as error:
        raise SchemaError(f"{cls.__name__}: attrs can't make this class ({error})", table=table) from error
    attributes = model.__attrs_attrs__
    type.__setattr__(model, "__attrs_attrs__", type(attributes)(attributes[:-1]))
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

    # What a kind of model changes: who asks for its records, what more its class lines say (and what may be wrong with
    # it), and which facet of a driver keeps its records where a driver has it.
    _kv_asked_by: ClassVar[str] = "kvmodel.repository:Repository"
    _kv_options: ClassVar[Mapping[str, OptionCheck]] = {}
    _kv_facet: ClassVar[type[TreeStore] | None] = None

    @staticmethod
    def _kv_check(model: str, table: str, declared: Mapping[str, Declared]) -> None:
        """Raise ``SchemaError`` where a kind of model can't do with the fields of a class."""

    @staticmethod
    def _kv_refine(schema: Schema) -> Schema:
        """Answer a class's schema as a kind of model wants it, with the tables that go along with its own."""
        return schema

    if TYPE_CHECKING:
        __attrs_attrs__: ClassVar[tuple[attrs.Attribute[Any], ...]]

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
            store_options: Mapping[str, Mapping[str, object]] | None = None,
        ) -> None: ...

    else:

        def __init__(self, *args, **kwargs):
            raise SchemaError(f"{type(self).__name__} is abstract: only a model with a table has objects")

    def __getstate__(self) -> tuple[object, dict[str, object]]:
        names = [member.name for member in schema_of(type(self)).constructor]
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
    keys = {member.name for member in schema.key_members}
    changes = {name: value for name, value in changes.items() if name not in keys or value != getattr(obj, name)}
    schema.check_changes(changes)
    values = {
        member.name: changes.get(member.name, getattr(obj, member.name, attrs.NOTHING)) for member in schema.constructor
    }
    fresh = type(obj)(**{member.alias: values[member.name] for member in schema.constructor if member.init})
    for member in schema.constructor:
        if not member.init and values[member.name] is not attrs.NOTHING:
            object.__setattr__(fresh, member.name, values[member.name])
    set_state(fresh, get_state(obj))
    return fresh
