"""Read what a class statement declares, and make of it what attrs and the schema need.

Theory of operation. Every model, abstract or not, remembers its fields as :class:`Declared`, with those of its bases in
front. A concrete one gives them all to attrs as its own: so abstract bases need no slots and can be mixed freely. The
types are resolved and their codecs chosen when the class is made; only a field whose annotation names something that
does not exist yet waits for the first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import attrs

from kvmodel.errors import SchemaError
from kvmodel.fields.base import Codec, Refused
from kvmodel.fields.keys import KeyCodec, key_codec
from kvmodel.fields.members import Member
from kvmodel.fields.resolve import Scope, is_class_variable
from kvmodel.fields.select import codec_of
from kvmodel.fields.specifiers import Spec, spec_of
from kvmodel.schema import KeyMember, Schema, UpgradeStep

FieldDefinition: Final[Any] = type(attrs.field())
"""What ``attrs.field`` gives in a class body."""

_TABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_OWN_TABLES: Final = "_kvmodel"
_RESERVED: Final = ("objects",)
_OPTIONS: Final = (
    "table",
    "abstract",
    "frozen",
    "kw_only",
    "schema",
    "expires_in",
    "layout",
    "store_options",
)
_OF_TABLES: Final = ("schema", "expires_in", "layout", "store_options")


@attrs.frozen(kw_only=True)
class Options:
    """The options of a class line."""

    table: str | None = None
    abstract: bool = False
    frozen: bool = False
    kw_only: bool = False
    schema: int = 1
    expires_in: timedelta | None = None
    layout: Any = "record"
    store_options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)


def read_options(name: str, given: Mapping[str, Any], *, extends_concrete: bool) -> Options:
    """Check the options of a class line."""
    for option in given:
        if option not in _OPTIONS:
            raise SchemaError(f"{name}: unknown option {option!r} in the class line, known are: {', '.join(_OPTIONS)}")
    options = Options(**given)
    if options.abstract and options.table is not None:
        raise SchemaError(f"{name}: an abstract model has no table: remove table= or abstract=True")
    if options.table is None:
        _check_abstract(name, options, given, extends_concrete=extends_concrete)
    else:
        _check_concrete(name, options)
    return options


def _check_abstract(name: str, options: Options, given: Mapping[str, Any], *, extends_concrete: bool) -> None:
    if extends_concrete and not options.abstract:
        raise SchemaError(f"{name}: a subclass of a model with a table names its own: add table= to the class line")
    for option in _OF_TABLES:
        if option in given:
            raise SchemaError(f"{name}: {option}= belongs to a model with a table: add table=, or move it to the subclass")


def _check_concrete(name: str, options: Options) -> None:
    table = options.table
    if not isinstance(table, str) or not _TABLE_NAME.fullmatch(table):
        raise SchemaError(
            f"{name}: a table is named by 1 to 63 ASCII letters, digits and underscores, not by a digit first",
            table=str(table),
        )
    if table.lower().startswith(_OWN_TABLES):
        raise SchemaError(f"{name}: table names that begin with {_OWN_TABLES} are reserved: choose another", table=table)
    if type(options.schema) is not int or not 1 <= options.schema < 2**32:
        raise SchemaError(f"{name}: schema= is the number of this declaration, 1 or more", table=table)
    if options.layout not in ("record", "plain"):
        raise SchemaError(f'{name}: layout= is "record" or "plain"', table=table)
    if options.expires_in is not None and not (
        isinstance(options.expires_in, timedelta) and options.expires_in > timedelta(0)
    ):
        raise SchemaError(f"{name}: expires_in= is a timedelta above zero", table=table)
    if not isinstance(options.store_options, Mapping) or not all(
        isinstance(value, Mapping) for value in options.store_options.values()
    ):
        raise SchemaError(f"{name}: store_options= maps a store's name to a mapping of its options", table=table)
    if options.layout == "plain" and (options.expires_in is not None or options.schema != 1):
        raise SchemaError(
            f"{name}: the plain layout holds no deadline and no schema number: remove expires_in= and schema=",
            table=table,
        )


@attrs.define(eq=False)
class Declared:
    """One field as a class body declares it.

    ``codec`` and ``key_codec`` are chosen once the annotation is resolved.
    """

    name: str
    owner: str
    annotation: object
    definition: Any
    scope: Scope
    spec: Spec
    type: Any = None
    codec: Codec | None = None
    key_codec: KeyCodec | None = None

    @property
    def path(self) -> str:
        """Class and field, for messages."""
        return f"{self.owner}.{self.name}"

    @property
    def is_resolved(self) -> bool:
        """Whether the type is known."""
        return self.codec is not None or self.key_codec is not None

    def resolve(self) -> None:
        """Find the type and its codec. Raises ``Unresolved`` where a name does not exist yet."""
        if self.is_resolved:
            return
        try:
            self.type = self.scope.resolve(self.annotation)
            if self.spec.role == "value":
                self.codec = codec_of(self.type)
            else:
                self.key_codec = key_codec(self.type, self.spec.stored_as)
        except Refused as error:
            raise SchemaError(error.problem, field=self.path + error.path) from error.__cause__


def declared_fields(name: str, namespace: dict[str, Any], scope: Scope) -> dict[str, Declared]:
    """Take the fields out of a class body, in order."""
    fields = {}
    annotations = namespace.get("__annotations__", {})
    for field_name, annotation in annotations.items():
        if is_class_variable(annotation):
            continue
        _check_name(name, field_name)
        value = namespace.pop(field_name, attrs.NOTHING)
        definition = value if isinstance(value, FieldDefinition) else attrs.field(default=value)
        spec = spec_of(definition.metadata)
        fields[field_name] = Declared(field_name, name, annotation, definition, scope, spec)
    for field_name, value in namespace.items():
        if isinstance(value, FieldDefinition):
            raise SchemaError("a field needs an annotation: write its type", field=f"{name}.{field_name}")
    return fields


def _check_name(owner: str, name: str) -> None:
    if name in _RESERVED or name.startswith(("_kv_", "__")):
        raise SchemaError("this name is taken by kvmodel: choose another", field=f"{owner}.{name}")


def transformer(
    declared: Mapping[str, Declared], own: Mapping[str, Declared]
) -> Callable[[type, list[Any]], list[Any]]:
    """Make the function that attrs shows the attributes to, before it writes the class."""

    def transform(cls: type, attributes: list[Any]) -> list[Any]:
        return [_transformed(attribute, declared[attribute.name], attribute.name in own) for attribute in attributes]

    return transform


def _transformed(attribute: Any, field: Declared, is_own: bool) -> Any:
    changes: dict[str, Any] = {"type": field.type}
    if not is_own and attribute.default is not attrs.NOTHING:
        changes["kw_only"] = True
    return attribute.evolve(**changes)


def build_schema(cls: type, options: Options, declared: Mapping[str, Declared], steps: Mapping[int, UpgradeStep]) -> Schema:
    """Compile a concrete model whose fields are all resolved."""
    attributes = {attribute.name: attribute for attribute in attrs.fields(cls)}
    partition = [field for field in declared.values() if field.spec.role == "partition"]
    clustering = [field for field in declared.values() if field.spec.role == "clustering"]
    members = {name: _member(attributes[name], field) for name, field in declared.items()}
    whole = [field.name for field in declared.values() if field.spec.whole_value]
    return Schema(
        model=cls,
        name=options.table or "",
        model_name=cls.__qualname__,
        key_members=tuple(
            KeyMember(field.name, field.key_codec, field.spec.descending)
            for field in partition + clustering
            if field.key_codec is not None
        ),
        partition_count=len(partition),
        value_members=tuple(members[name] for name, field in declared.items() if field.spec.role == "value"),
        constructor=tuple(members.values()),
        value_options={name: field.spec.options for name, field in declared.items()},
        number=options.schema,
        steps=steps,
        layout=options.layout,
        whole_value=whole[0] if whole else None,
        expires_in=options.expires_in,
        store_options=options.store_options,
        is_frozen=options.frozen,
    )


_KEY_PART: Final = Codec("", None)  # type: ignore[arg-type]


def _member(attribute: Any, field: Declared) -> Member:
    return Member(
        name=field.name,
        alias=attribute.alias,
        codec=field.codec or _KEY_PART,
        make_default=_default_maker(attribute.default),
        kw_only=attribute.kw_only,
        init=attribute.init,
    )


def _default_maker(default: Any) -> Callable[[], object] | None:
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return lambda: attrs.NOTHING
    return lambda: default
