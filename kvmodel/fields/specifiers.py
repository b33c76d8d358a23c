"""What a class body says about its fields.

A specifier is an ``attrs.field`` with a :class:`Spec` in its metadata; a plain ``attrs.field`` is a value field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, overload

import attrs

from kvmodel.errors import SchemaError

T = TypeVar("T")

METADATA: Final = "kvmodel"
"""Under this name a field's metadata hold its :class:`Spec`."""

Validator = Callable[[Any, "attrs.Attribute[T]", T], object]
Validators = Validator[T] | list[Validator[T]] | tuple[Validator[T], ...]
Converter = Callable[[Any], Any]


@attrs.frozen
class Spec:
    """What a specifier says beyond what attrs knows."""

    role: Literal["partition", "clustering", "value"] = "value"
    descending: bool = False
    stored_as: type | None = None
    whole_value: bool = False
    options: Mapping[str, object] = attrs.field(factory=dict)


@overload
def partition_key(
    *,
    default: T,
    validator: Validators[T] | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    column: str | None = ...,
) -> T: ...
@overload
def partition_key(
    *,
    factory: Callable[[], T],
    validator: Validators[T] | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    column: str | None = ...,
) -> T: ...
@overload
def partition_key(
    *,
    validator: Validators[Any] | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    column: str | None = ...,
) -> Any: ...
def partition_key(
    *,
    default: object = attrs.NOTHING,
    factory: Callable[[], object] | None = None,
    validator: Any = None,
    kw_only: bool | None = None,
    alias: str | None = None,
    stored_as: type | None = None,
    column: str | None = None,
) -> Any:
    """Declare a field that says to which partition a record belongs.

    Records that share the values of all partition fields are kept together. Several are taken in declaration order,
    base classes first.

    Args:
        default: The value where the constructor is given none.
        factory: Makes that value.
        validator: As in ``attrs.field``.
        kw_only: Whether the constructor takes it by name only.
        alias: Its name in the constructor.
        stored_as: For a type of your own: the key type that its hook of ``kv.converter`` gives.
        column: How a store of typed columns keeps the field, where not in its native type: ``"text"``.
    """
    spec = Spec("partition", stored_as=stored_as, options=_column(column))
    return _field(spec, default=default, factory=factory, validator=validator, kw_only=kw_only, alias=alias)


@overload
def clustering_key(
    *,
    descending: bool = ...,
    default: T,
    validator: Validators[T] | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    column: str | None = ...,
) -> T: ...
@overload
def clustering_key(
    *,
    descending: bool = ...,
    factory: Callable[[], T],
    validator: Validators[T] | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    column: str | None = ...,
) -> T: ...
@overload
def clustering_key(
    *,
    descending: bool = ...,
    validator: Validators[Any] | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    column: str | None = ...,
) -> Any: ...
def clustering_key(
    *,
    descending: bool = False,
    default: object = attrs.NOTHING,
    factory: Callable[[], object] | None = None,
    validator: Any = None,
    kw_only: bool | None = None,
    alias: str | None = None,
    stored_as: type | None = None,
    column: str | None = None,
) -> Any:
    """Declare a field that orders records inside their partition.

    Args:
        descending: Whether the largest comes first.
        default: The value where the constructor is given none.
        factory: Makes that value.
        validator: As in ``attrs.field``.
        kw_only: Whether the constructor takes it by name only.
        alias: Its name in the constructor.
        stored_as: For a type of your own: the key type that its hook of ``kv.converter`` gives.
        column: How a store of typed columns keeps the field, where not in its native type: ``"text"``.
    """
    spec = Spec("clustering", descending=descending, stored_as=stored_as, options=_column(column))
    return _field(spec, default=default, factory=factory, validator=validator, kw_only=kw_only, alias=alias)


@overload
def field(
    *,
    default: T,
    validator: Validators[T] | None = ...,
    converter: Converter | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    whole_value: bool = ...,
    column: str | None = ...,
    options: Mapping[str, object] | None = ...,
) -> T: ...
@overload
def field(
    *,
    factory: Callable[[], T],
    validator: Validators[T] | None = ...,
    converter: Converter | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    whole_value: bool = ...,
    column: str | None = ...,
    options: Mapping[str, object] | None = ...,
) -> T: ...
@overload
def field(
    *,
    validator: Validators[Any] | None = ...,
    converter: Converter | None = ...,
    kw_only: bool | None = ...,
    alias: str | None = ...,
    stored_as: type | None = ...,
    whole_value: bool = ...,
    column: str | None = ...,
    options: Mapping[str, object] | None = ...,
) -> Any: ...
def field(
    *,
    default: object = attrs.NOTHING,
    factory: Callable[[], object] | None = None,
    validator: Any = None,
    converter: Any = None,
    kw_only: bool | None = None,
    alias: str | None = None,
    stored_as: type | None = None,
    whole_value: bool = False,
    column: str | None = None,
    options: Mapping[str, object] | None = None,
) -> Any:
    """Declare a field outside the key. ``attrs.field`` may stand here too.

    Args:
        default: The value where the constructor is given none, or a record lacks the field.
        factory: Makes that value.
        validator: As in ``attrs.field``.
        converter: As in ``attrs.field``; it also sees what was loaded.
        kw_only: Whether the constructor takes it by name only.
        alias: Its name in the constructor.
        stored_as: For a type of your own: the type that its hook of ``kv.converter`` gives.
        whole_value: This field, the only one outside the key, is the stored value itself, without a name: with
            ``layout="plain"``, and on stores whose values have no envelope anyway. Elsewhere it is a field like others.
        column: How a store of typed columns keeps the field, where not in its native type: ``"text"``.
        options: What only one store understands, by that store's name.
    """
    spec = Spec(stored_as=stored_as, whole_value=whole_value, options={**(options or {}), **_column(column)})
    return _field(
        spec, default=default, factory=factory, validator=validator, converter=converter, kw_only=kw_only, alias=alias
    )


def _column(column: str | None) -> dict[str, object]:
    return {} if column is None else {"column": column}


def _field(spec: Spec, *, factory: Callable[[], object] | None, **arguments: Any) -> Any:
    try:
        return attrs.field(factory=factory, metadata={METADATA: spec}, **arguments)
    except ValueError as error:
        raise SchemaError("a field has either a default or a factory: remove one of them") from error


def spec_of(metadata: Mapping[Any, Any]) -> Spec:
    """Answer what a specifier left in a field's metadata."""
    spec = metadata.get(METADATA)
    return spec if isinstance(spec, Spec) else Spec()
