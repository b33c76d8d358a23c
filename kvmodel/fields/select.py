"""Find the codec of a type."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections import abc
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs

from kvmodel._state import Stateful
from kvmodel.fields.base import Codec, Refused, describe
from kvmodel.fields.choices import AnyCodec, EnumCodec, LiteralCodec, NoneCodec
from kvmodel.fields.collections import SequenceCodec, SetCodec, TupleCodec
from kvmodel.fields.constraints import ConstrainedCodec, checks_of
from kvmodel.fields.mappings import DictCodec, PairsCodec
from kvmodel.fields.objects import ObjectCodec, members_of_class
from kvmodel.fields.own import OwnCodec, converter, own_hooks
from kvmodel.fields.plain import members_of, unwrap
from kvmodel.fields.resolve import Scope, annotation_of
from kvmodel.fields.scalars import SCALARS
from kvmodel.fields.unions import union_codec

REMEDY: Final = (
    "declare a type that kvmodel knows, such as an attrs class, or register hooks for it with "
    "kv.converter.register_unstructure_hook and kv.converter.register_structure_hook before the model"
)


class Selector:
    """Finds the codecs of one class statement. ``scope`` is where its names are looked up."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._objects: dict[type, ObjectCodec] = {}

    def codec(self, annotation: Any, stored_as: type | None = None) -> Codec:
        """Answer the codec of a type.

        Raises ``Refused`` for a type that nothing knows, ``Unresolved`` where a name inside does not exist yet.
        """
        try:
            return self._find(annotation) if stored_as is None else self._own(annotation, stored_as)
        except BaseException:
            self._objects.clear()  # some may be incomplete
            raise

    def _own(self, annotation: Any, stored_as: type) -> Codec:
        hooks = own_hooks(annotation)
        if hooks is None:
            raise Refused(
                f"stored_as= is for types of your own, and nobody registered hooks for {describe(annotation)}: "
                "register them with kv.converter before the model, or remove stored_as="
            )
        return OwnCodec(hooks, self._find(stored_as))

    def _find(self, annotation: Any) -> Codec:
        if not isinstance(annotation, type) or annotation not in SCALARS:
            hooks = own_hooks(annotation)
            if hooks is not None:
                return OwnCodec(hooks)
        plain, metadata = unwrap(annotation, known=converter.knows)
        checks = checks_of(metadata)
        if checks:
            return ConstrainedCodec(self._find(plain), checks)
        return self._find(plain) if plain is not annotation else self._find_plain(plain)

    def _find_plain(self, annotation: Any) -> Codec:
        if annotation is Any or annotation is object:
            return AnyCodec()
        if annotation is None or annotation is type(None):
            return NoneCodec()
        members = members_of(annotation)
        if members is not None:
            return union_codec([self._find(member) for member in members])
        origin = typing.get_origin(annotation)
        if origin is Literal:
            return LiteralCodec(typing.get_args(annotation))
        build = _COLLECTIONS.get(origin or annotation) if isinstance(origin or annotation, type) else None
        if build is not None:
            return build(self, typing.get_args(annotation))
        if isinstance(annotation, type) and origin is None:
            return self._find_class(annotation)
        raise unknown(annotation)

    def _find_class(self, cls: type) -> Codec:
        if cls in SCALARS:
            return SCALARS[cls]
        if issubclass(cls, enum.Enum):
            return EnumCodec(cls)
        if issubclass(cls, Stateful):
            raise Refused(
                f"{describe(cls)} is a model, whose objects are records of their own: store its key, "
                "or declare the shared fields in an attrs class"
            )
        if attrs.has(cls) or dataclasses.is_dataclass(cls):
            return self._object(cls)
        raise unknown(cls)

    def _object(self, cls: type) -> ObjectCodec:
        codec = self._objects.get(cls)
        if codec is None:
            codec = self._objects[cls] = ObjectCodec(cls)
            codec.complete(list(members_of_class(cls, lambda name, known: self._of_member(cls, name, known))))
        return codec

    def _of_member(self, cls: type, name: str, known: object) -> Codec:
        try:
            annotation, module = annotation_of(cls, name, known)
            return self._find(self.scope.resolve_in(cls, annotation, module))
        except Refused as error:
            raise error.under(f".{name}") from error.__cause__


def unknown(annotation: Any) -> Refused:
    """Make the error for a type that nothing knows."""
    instead = _INSTEAD.get(typing.get_origin(annotation) or annotation)
    if instead is not None:
        return Refused(f"{describe(annotation)} does not say what to make of what is stored: declare {instead}")
    return Refused(f"nothing knows how {describe(annotation)} is stored: {REMEDY}")


_INSTEAD: Final[dict[Any, str]] = {
    **dict.fromkeys((abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection), "a list or a tuple"),
    **dict.fromkeys((abc.Mapping, abc.MutableMapping), "a dict"),
    **dict.fromkeys((abc.Set, abc.MutableSet), "a set or a frozenset"),
}


def _sequence(selector: Selector, arguments: tuple[Any, ...]) -> Codec:
    return SequenceCodec(list, selector._find(arguments[0] if arguments else Any))


def _tuple(selector: Selector, arguments: tuple[Any, ...]) -> Codec:
    if not arguments:
        return SequenceCodec(tuple, AnyCodec())
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return SequenceCodec(tuple, selector._find(arguments[0]))
    return TupleCodec([selector._find(argument) for argument in arguments])


def _mapping(selector: Selector, arguments: tuple[Any, ...]) -> Codec:
    key, inner = (selector._find(argument) for argument in (arguments or (str, Any)))
    is_text = key.type.kind == "str" and not key.type.nullable
    return DictCodec(key, inner) if is_text else PairsCodec(key, inner)


_COLLECTIONS: Final[dict[type, Callable[[Selector, tuple[Any, ...]], Codec]]] = {
    list: _sequence,
    tuple: _tuple,
    dict: _mapping,
    set: lambda selector, arguments: SetCodec(set, selector._find(arguments[0] if arguments else Any)),
    frozenset: lambda selector, arguments: SetCodec(frozenset, selector._find(arguments[0] if arguments else Any)),
}
