"""How a value becomes a component of a key.

Equal values become equal components: -0.0 becomes 0.0, a ``Decimal`` loses its exponent, an aware ``datetime`` becomes
UTC. What has no place in an order is refused: NaN, naive datetimes, text that UTF-8 can't carry.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from kvmodel.drivers.base import KeyPart, KeyType
from kvmodel.fields.base import Mismatch, Refused, describe, wrong_type
from kvmodel.fields.own import own_hooks
from kvmodel.fields.plain import members_of, strip
from kvmodel.fields.scalars import exactly, take_datetime, take_float, take_text

REMEDY: Final = (
    "a key field is a str, bytes, int, float, bool, Decimal, UUID, datetime, date, an Enum of these or a tuple of these"
    " (a type of your own: register its hooks with kv.converter and declare stored_as=)"
)


class KeyCodec:
    """How values of one type become key components.

    Attributes:
        text: The type, for messages.
        type: What crosses the waist.
        accepts: The exact types of the values.
        guard: As ``Codec.dump_guard``.
        convert: Turns a value into a component; raises ``Mismatch``.
        restore: Turns a component back; ``None`` where it is the value already.
    """

    __slots__ = ("accepts", "convert", "guard", "restore", "text", "type")

    def __init__(
        self,
        text: str,
        type: KeyType,
        accepts: frozenset[type],
        convert: Callable[[Any], KeyPart],
        *,
        guard: str | None = None,
        restore: Callable[[Any], Any] | None = None,
    ) -> None:
        self.text = text
        self.type = type
        self.accepts = accepts
        self.convert = convert
        self.guard = guard
        self.restore = restore


def key_float(value: Any) -> float:
    """Let through a float that has a place in the order; -0.0 becomes 0.0."""
    number = take_float(value)
    if number != number:
        raise Mismatch("NaN has no place in an order: it can't be in a key")
    return number + 0.0


def key_decimal(value: Any) -> Decimal:
    """Let through a Decimal that has a place in the order, without the zeros at its end."""
    if type(value) is not Decimal:
        raise wrong_type("Decimal", value)
    if value.is_nan():
        raise Mismatch("NaN has no place in an order: it can't be in a key")
    if value.is_infinite():
        return value
    if not value:
        return Decimal(0)
    sign, digits, exponent = value.as_tuple()
    kept = len(digits)
    while digits[kept - 1] == 0:
        kept -= 1
    assert isinstance(exponent, int)
    return value if kept == len(digits) else Decimal((sign, digits[:kept], exponent + len(digits) - kept))


def _scalar(
    python_type: type, kind: str, convert: Callable[[Any], KeyPart] | None = None, guard: str | None = ""
) -> KeyCodec:
    if guard == "":
        guard = f"type({{v}}) is {python_type.__name__}"
    return KeyCodec(
        python_type.__name__, KeyType(kind), frozenset({python_type}), convert or exactly(python_type), guard=guard
    )


KEY_SCALARS: Final[dict[type, KeyCodec]] = {
    str: _scalar(str, "str", take_text, "type({v}) is str and {v}.isascii()"),
    bytes: _scalar(bytes, "bytes"),
    int: _scalar(int, "int"),
    float: _scalar(float, "float", key_float, "type({v}) is float and ({v} > 0.0 or {v} < 0.0)"),
    bool: _scalar(bool, "bool"),
    Decimal: _scalar(Decimal, "decimal", key_decimal, None),
    UUID: _scalar(UUID, "uuid"),
    datetime: _scalar(datetime, "datetime", take_datetime, "type({v}) is datetime and {v}.tzinfo is UTC"),
    date: _scalar(date, "date"),
}
_AS_THEY_ARE: Final = tuple(KEY_SCALARS[python_type] for python_type in (bytes, int, bool, UUID, date))
"""Types whose values are components without a closer look."""
_ONLY_TEXT: Final = frozenset({str})
_EQUAL_ACROSS: Final = frozenset({"bool", "int", "float", "decimal"})


def key_codec(annotation: Any, stored_as: type | None = None) -> KeyCodec:
    """Answer the codec of a key field."""
    annotation = strip(annotation)
    if stored_as is not None:
        return _own(annotation, stored_as)
    if members_of(annotation) is not None:
        raise Refused(f"{describe(annotation)} can't be in a key, unions occur inside tuples only: {REMEDY}")
    return _part(annotation)


def _part(annotation: Any) -> KeyCodec:
    annotation = strip(annotation)
    scalar = KEY_SCALARS.get(annotation) if isinstance(annotation, type) else None
    if scalar is not None:
        return scalar
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enum(annotation)
    members = members_of(annotation)
    if members is not None:
        return _union(members)
    if typing.get_origin(annotation) is tuple:
        return _tuple(annotation)
    raise Refused(f"{describe(annotation)} can't be in a key: {REMEDY}")


def _enum(cls: type[enum.Enum]) -> KeyCodec:
    kinds = {type(member.value) for member in cls}
    inner = KEY_SCALARS.get(kinds.pop()) if len(kinds) == 1 else None
    if inner is None:
        raise Refused(f"{describe(cls)} can't be in a key: give its members values of one type that can")
    members = {_enum_value(inner, member): member for member in cls}
    convert_value = inner.convert

    def convert(value: Any) -> KeyPart:
        if type(value) is not cls:
            raise wrong_type(cls.__name__, value)
        return convert_value(value._value_)

    def restore(part: Any) -> Any:
        try:
            return members[part] if part in members else cls(part)
        except ValueError:
            raise Mismatch(f"this is no value of {cls.__name__}: add a member for it") from None

    return KeyCodec(cls.__name__, inner.type, frozenset({cls}), convert, restore=restore)


def _enum_value(inner: KeyCodec, member: enum.Enum) -> KeyPart:
    try:
        return inner.convert(member.value)
    except Mismatch as error:
        raise Refused(f"{describe(type(member))} can't be in a key ({error.problem})", f".{member.name}") from None


def _union(annotations: tuple[Any, ...]) -> KeyCodec:
    codecs = [_part(annotation) for annotation in annotations]
    kinds = [codec.type.kind for codec in codecs]
    text = " | ".join(codec.text for codec in codecs)
    if len(set(kinds)) < len(kinds) or len(_EQUAL_ACROSS.intersection(kinds)) > 1:
        raise Refused(
            f"{text} can't be in a key: at most one of bool, int, float and Decimal, which compare equal to each other,"
            " and each other type once"
        )
    by_type = {python_type: codec for codec in codecs for python_type in codec.accepts}
    restores = {_PART_TYPES[codec.type.kind]: codec.restore for codec in codecs if codec.restore is not None}

    def convert(value: Any) -> KeyPart:
        codec = by_type.get(type(value))
        if codec is None:
            raise wrong_type(text, value)
        return codec.convert(value)

    def restore(part: Any) -> Any:
        turn = restores.get(type(part))
        return part if turn is None else turn(part)

    return KeyCodec(
        text,
        KeyType("union", tuple(codec.type for codec in codecs)),
        frozenset(by_type),
        convert,
        restore=restore if restores else None,
    )


_PART_TYPES: Final[dict[str, type]] = {codec.type.kind: python_type for python_type, codec in KEY_SCALARS.items()} | {
    "tuple": tuple
}


def _tuple(annotation: Any) -> KeyCodec:
    arguments = typing.get_args(annotation)
    variadic = len(arguments) == 2 and arguments[1] is Ellipsis
    if not arguments or (arguments == ((),)):
        raise Refused(f"{describe(annotation)} can't be in a key: name the types of its elements")
    codecs = [_part(argument) for argument in (arguments[:1] if variadic else arguments)]
    text = f"tuple[{', '.join(codec.text for codec in codecs)}{', ...' if variadic else ''}]"
    count = None if variadic else len(codecs)
    exact = codecs[0].accepts if variadic and codecs[0] in _AS_THEY_ARE else None
    exact_text = variadic and codecs[0] is KEY_SCALARS[str]

    def each(value: tuple[Any, ...]) -> list[KeyCodec]:
        return codecs * len(value) if variadic else codecs

    def convert(value: Any) -> KeyPart:
        if type(value) is not tuple:
            raise wrong_type(text, value)
        if exact is not None and exact.issuperset(map(type, value)):
            return value
        if exact_text and _ONLY_TEXT.issuperset(map(type, value)) and "".join(value).isascii():
            return value
        if count is not None and len(value) != count:
            raise Mismatch(f"expected {text}, not {len(value)} elements")
        return tuple(
            _element(codec, index, item) for index, (codec, item) in enumerate(zip(each(value), value, strict=True))
        )

    def restore(part: Any) -> Any:
        return tuple(
            item if codec.restore is None else codec.restore(item) for codec, item in zip(each(part), part, strict=True)
        )

    return KeyCodec(
        text,
        KeyType("tuple", tuple(codec.type for codec in codecs), variadic),
        frozenset({tuple}),
        convert,
        restore=restore if any(codec.restore for codec in codecs) else None,
    )


def _element(codec: KeyCodec, index: int, item: Any) -> KeyPart:
    try:
        return codec.convert(item)
    except Mismatch as error:
        raise error.under(f"[{index}]") from None


def _own(annotation: Any, stored_as: type) -> KeyCodec:
    inner = KEY_SCALARS.get(stored_as)
    hooks = own_hooks(annotation)
    if inner is None:
        raise Refused(f"stored_as={describe(stored_as)} can't be in a key: {REMEDY}")
    if hooks is None:
        raise Refused(
            f"stored_as= is for types of your own, and nobody registered hooks for {describe(annotation)}: "
            "register them with kv.converter before the model, or remove stored_as="
        )

    def convert(value: Any) -> KeyPart:
        return inner.convert(hooks.dump(value))

    return KeyCodec(hooks.text, inner.type, hooks.accepts, convert, restore=hooks.load)
