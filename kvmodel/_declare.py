"""Read the fields that a class body declares, and make of them what attrs and the schema need.

Theory of operation. Every model, abstract or not, remembers its fields as :class:`Declared`. A concrete one gives all
of them to attrs as its own, those of its bases in front: so abstract bases need no slots and can be mixed freely. Types
are resolved and their codecs chosen when the class is made; only a field whose annotation names something that does not
exist yet waits for the first use of the schema.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from kvmodel._options import Options
from kvmodel._state import Stateful
from kvmodel.errors import SchemaError, ValidationError
from kvmodel.fields.base import Codec, Mismatch, Refused, Unresolved
from kvmodel.fields.constraints import ConstrainedCodec, refusal
from kvmodel.fields.keys import KeyCodec, key_codec
from kvmodel.fields.members import Member, default_maker
from kvmodel.fields.plain import strip
from kvmodel.fields.resolve import is_class_variable
from kvmodel.fields.select import Selector
from kvmodel.fields.specifiers import Spec, spec_of
from kvmodel.fields.upgrade import UpgradeStep
from kvmodel.schema import KeyMember, Schema

FieldDefinition: Final[Any] = type(attrs.field())
"""What ``attrs.field`` gives in a class body."""

_TAKEN: Final = ("objects",)
_MUTABLE: Final = (list, dict, set, bytearray)


@attrs.define(eq=False)
class Declared:
    """One field as a class body declares it.

    ``codec`` is chosen once the annotation is resolved, and ``key_codec`` too for a field of the key.
    """

    name: str
    owner: str
    annotation: object
    definition: Any
    spec: Spec
    selector: Selector
    kw_only: bool = False
    type: Any = None
    codec: Codec | None = None
    key_codec: KeyCodec | None = None

    @property
    def path(self) -> str:
        """Class and field, for messages."""
        return f"{self.owner}.{self.name}"

    @property
    def is_key(self) -> bool:
        """Whether the field belongs to the key."""
        return self.spec.role != "value"

    def resolve(self) -> None:
        """Find the type and its codec. Raises ``Unresolved`` where a name does not exist yet."""
        if self.codec is not None:
            return
        try:
            self.type = self.selector.scope.resolve(self.annotation)
            if self.is_key:
                self.key_codec = key_codec(self.type, self.spec.stored_as)
            codec = self.selector.codec(self.type, self.spec.stored_as)
            self._check_default(codec)
        except Refused as error:
            raise SchemaError(error.problem, field=self.path + error.path) from error.__cause__
        except RecursionError as error:
            raise SchemaError("this type contains itself: put an attrs class between", field=self.path) from error
        self.codec = codec

    def _check_default(self, codec: Codec) -> None:
        default = self.definition._default
        if default is attrs.NOTHING or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            return
        if isinstance(default, _MUTABLE):
            raise Refused(f"all objects would share this default: write factory={type(default).__name__}")
        if self.definition.converter is not None:
            return
        try:
            codec.check(default)
            codec.dump(default)
            if self.key_codec is not None:
                self.key_codec.convert(default)
        except Mismatch as error:
            raise Refused(f"the default does not fit the type: {error.problem}", error.path) from error.__cause__

    def try_resolve(self) -> None:
        """Find the type and its codec, if all names exist."""
        with contextlib.suppress(Unresolved):
            self.resolve()

    def must_resolve(self) -> None:
        """Find the type and its codec now."""
        try:
            self.resolve()
        except Unresolved as error:
            raise SchemaError(
                f"the annotation can't be resolved ({error}): import or define what it names", field=self.path
            ) from error


def declared_fields(owner: str, namespace: dict[str, Any], selector: Selector, *, kw_only: bool) -> dict[str, Declared]:
    """Take the fields out of a class body, in order. ``kw_only`` is for those that don't say."""
    fields = {}
    for name, annotation in namespace.get("__annotations__", {}).items():
        if is_class_variable(annotation):
            continue
        if name in _TAKEN or name.startswith(("_kv_", "__")):
            raise SchemaError("this name is kvmodel's own: choose another", field=f"{owner}.{name}")
        value = namespace.pop(name, attrs.NOTHING)
        definition = value if isinstance(value, FieldDefinition) else attrs.field(default=value)
        by_name = kw_only if definition.kw_only is None else definition.kw_only
        fields[name] = Declared(name, owner, annotation, definition, spec_of(definition.metadata), selector, by_name)
    for name, value in namespace.items():
        if isinstance(value, FieldDefinition):
            raise SchemaError("a field needs an annotation: write its type", field=f"{owner}.{name}")
        if name in _TAKEN:
            raise SchemaError("this name is kvmodel's own: choose another", field=f"{owner}.{name}")
    return fields


# --- what attrs gets --------------------------------------------------------------------------------------------------


class FieldCheck:
    """The validator of a field: its constraints, then the validator that its declaration names."""

    __slots__ = ("declared", "table", "validator")

    def __init__(self, table: str | None, declared: Declared, validator: Any) -> None:
        self.table = table
        self.declared = declared
        self.validator = validator

    def __call__(self, obj: Any, attribute: Any, value: Any) -> None:
        self.declared.try_resolve()
        try:
            if self.declared.codec is not None:
                self.declared.codec.check(value)
            if self.validator is not None:
                self.validator(obj, attribute, value)
        except Mismatch as error:
            raise ValidationError(
                error.problem, table=self.table, field=attribute.name + error.path
            ) from error.__cause__
        except (ValueError, TypeError) as error:
            if isinstance(error, ValidationError):
                raise
            raise ValidationError(refusal(error), table=self.table, field=attribute.name) from error


def transformer(
    table: str | None, declared: Mapping[str, Declared], own: Mapping[str, Declared]
) -> Callable[[type, list[Any]], list[Any]]:
    """Make the function that attrs shows the attributes to, before it writes the class."""

    def transform(cls: type, attributes: list[Any]) -> list[Any]:
        return [
            attribute if attribute.name not in declared else _transformed(attribute, table, declared, own)
            for attribute in attributes
        ]

    return transform


def _transformed(
    attribute: Any, table: str | None, declared: Mapping[str, Declared], own: Mapping[str, Declared]
) -> Any:
    field = declared[attribute.name]
    changes: dict[str, Any] = {"type": field.annotation if field.type is None else field.type}
    if field.codec is None or field.codec.holds_checks or attribute.validator is not None:
        changes["validator"] = FieldCheck(table, field, attribute.validator)
    is_inherited_default = attribute.name not in own and attribute.default is not attrs.NOTHING
    changes["kw_only"] = field.kw_only or is_inherited_default
    return attribute.evolve(**changes)


# --- what the schema gets ---------------------------------------------------------------------------------------------


def check_steps(model: str, number: int, steps: Sequence[UpgradeStep]) -> dict[int, Callable[..., Any]]:
    """Check that there is a step for every number below the class's own."""
    given = sorted((step.number for step in steps), key=repr)
    wanted = list(range(1, number))
    if sorted(wanted, key=repr) != given:
        raise SchemaError(
            f"{model}: schema={number} needs one kv.upgrade step for each of {wanted}, there are steps for {given}"
        )
    return {step.number: step.function for step in steps}


def check_fields(table: str, model: str, options: Options, declared: Mapping[str, Declared]) -> None:
    """Check what concerns several fields."""
    values = [field for field in declared.values() if not field.is_key]
    whole = [field for field in values if field.spec.whole_value]
    if len(values) == len(declared):
        raise SchemaError(
            f"{model} has no key: declare a field with kv.partition_key() or kv.clustering_key()", table=table
        )
    if whole and len(values) != 1:
        raise SchemaError(
            f"whole_value=True is for a model's only value field: {model} has {len(values)}", field=whole[0].path
        )


def check_bases(model: str, bases: Sequence[type]) -> None:
    """Check that no base brings fields that would not be stored."""
    for base in bases:
        if not issubclass(base, Stateful) and (attrs.has(base) or dataclasses.is_dataclass(base)):
            raise SchemaError(
                f"{model}: the fields of its base {base.__name__} would not be stored: "
                "make that an abstract model, or nest it"
            )


def check_named_keys(table: str, model: str, named: Sequence[Any], declared: Mapping[str, Declared]) -> None:
    """Check that ``kv.Model[str, int]`` names the types of the key fields."""
    keys = [field for role in ("partition", "clustering") for field in declared.values() if field.spec.role == role]
    if [strip(one) for one in named] != [strip(field.type) for field in keys]:
        raise SchemaError(
            f"{model}: the types in kv.Model[...] are those of the key fields, partition first: make them agree",
            table=table,
        )


def build_schema(cls: Any, options: Options, declared: Mapping[str, Declared], steps: Mapping[int, Any]) -> Schema:
    """Compile a concrete model whose fields are all resolved."""
    attributes = {attribute.name: attribute for attribute in attrs.fields(cls)}
    members = {name: _member(attributes[name], field) for name, field in declared.items()}
    partition = [_key_member(field) for field in declared.values() if field.spec.role == "partition"]
    clustering = [_key_member(field) for field in declared.values() if field.spec.role == "clustering"]
    return Schema(
        model=cls,
        name=options.table or "",
        model_name=cls.__qualname__,
        key_members=(*partition, *clustering),
        partition_count=len(partition),
        value_members=tuple(members[name] for name, field in declared.items() if not field.is_key),
        constructor=tuple(members.values()),
        value_options={name: field.spec.options for name, field in declared.items()},
        number=options.schema,
        steps=steps,
        layout=options.layout,
        whole_value=next((name for name, field in declared.items() if field.spec.whole_value), None),
        expires_in=options.expires_in,
        store_options=options.store_options,
        own_options=options.own,
        facet=cls._kv_facet if options.own.get("native", True) else None,
    )


def _key_member(field: Declared) -> KeyMember:
    assert field.key_codec is not None
    return KeyMember(field.name, field.key_codec, field.spec.descending, field.spec.options)


def _member(attribute: Any, field: Declared) -> Member:
    codec = field.codec
    assert codec is not None
    must_recheck = attribute.validator is not None and (codec.is_mutable or attribute.on_setattr is not None)
    if isinstance(codec, ConstrainedCodec) and attribute.init:
        codec = codec.inner  # the constructor's validator checks it, and so does the recheck

    def recheck(obj: Any) -> None:
        attribute.validator(obj, attribute, getattr(obj, field.name))

    return Member(
        name=field.name,
        alias=attribute.alias,
        codec=codec,
        make_default=default_maker(attribute.default),
        kw_only=attribute.kw_only,
        init=attribute.init,
        recheck=recheck if must_recheck else None,
    )
