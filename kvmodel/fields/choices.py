"""Types that choose among values: ``X | None``, ``Enum``, ``Literal``, ``None`` alone and ``Any``."""

from __future__ import annotations

import enum
from typing import Any, Final

import attrs

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, Refused, describe, wrong_type
from kvmodel.fields.scalars import SCALARS

NONE: Final = type(None)


class NoneCodec(Codec):
    """``None`` and nothing else."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("None", ValueType("any", nullable=True), accepts={NONE}, stored={NONE})
        self.load_guard = self.dump_guard = "{v} is None"
        self.load_types = self.dump_types = frozenset({NONE})

    def load(self, value: Any, note: Note) -> None:
        if value is not None:
            raise self.wrong(value)

    def dump(self, value: Any) -> None:
        if value is not None:
            raise self.wrong(value)


class NullableCodec(Codec):
    """A value or ``None``."""

    __slots__ = ("inner",)

    def __init__(self, inner: Codec) -> None:
        super().__init__(
            f"{inner.text} | None",
            attrs.evolve(inner.type, nullable=True),
            accepts=inner.accepts and inner.accepts | {NONE},
            stored=inner.stored and inner.stored | {NONE},
            inner=[inner],
            is_hashable=inner.is_hashable,
        )
        self.inner = inner
        self.load_guard = inner.load_guard and f"{inner.load_guard} or {{v}} is None"
        self.dump_guard = inner.dump_guard and f"{inner.dump_guard} or {{v}} is None"
        self.load_types = None if inner.load_types is None else inner.load_types | {NONE}
        self.dump_types = None if inner.dump_types is None else inner.dump_types | {NONE}

    def load(self, value: Any, note: Note) -> Any:
        return None if value is None else self.inner.load(value, note)

    def dump(self, value: Any) -> Primitive:
        if value is None:
            return None
        dumped = self.inner.dump(value)
        if dumped is None:
            raise Mismatch(f"{self.inner.text} was stored as None, which stands for no value here: mend its hook")
        return dumped

    def check(self, value: Any) -> None:
        if value is not None:
            self.inner.check(value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        return self.inner.merge(fresh, kept)


class EnumCodec(Codec):
    """A member of an enumeration, stored as its value."""

    __slots__ = ("cls", "inner", "members")

    def __init__(self, cls: type[enum.Enum]) -> None:
        kinds = {type(member.value) for member in cls}
        inner = SCALARS.get(kinds.pop()) if len(kinds) == 1 else None
        if inner is None:
            raise Refused(
                f"the members of {describe(cls)} need values of one simple type, such as str or int: "
                "change them, or register hooks for the class with kv.converter"
            )
        super().__init__(cls.__name__, inner.type, accepts={cls}, stored=inner.stored)
        self.cls = cls
        self.inner = inner
        self.members = {_dumped_member(inner, member): member for member in cls}

    def load(self, value: Any, note: Note) -> enum.Enum:
        plain = self.inner.load(value, note)
        member = self.members.get(plain)
        if member is not None:
            return member
        try:
            member = self.cls(plain)  # A combination of flags, or what the class makes of it itself.
        except ValueError:
            member = None
        if member is None or member.value != plain:  # Some Pythons drop the bits of a flag that they do not know.
            raise Mismatch(f"this is no value of {self.text}: add a member for it, or an upgrade step")
        return member

    def dump(self, value: Any) -> Primitive:
        if type(value) is not self.cls:
            raise self.wrong(value)
        return self.inner.dump(value._value_)


def _dumped_member(inner: Codec, member: enum.Enum) -> Primitive:
    try:
        return inner.dump(member.value)
    except Mismatch as error:
        raise Refused(f"a member of {describe(type(member))} can't be stored: {error.problem}") from None


class LiteralCodec(Codec):
    """One of a few values, stored as itself; members of enumerations as their values."""

    __slots__ = ("allowed", "stored_values")

    def __init__(self, values: tuple[object, ...]) -> None:
        self.allowed = {(type(value), value): _literal(value) for value in values}
        self.stored_values = {(type(plain), plain): value for (_, value), plain in self.allowed.items()}
        if len(self.stored_values) < len(self.allowed):
            raise Refused("two values of this Literal are stored alike: keep one of them")
        kinds = {type(plain) for plain in self.allowed.values()}
        super().__init__(
            " | ".join(map(repr, values)),
            _common_type(kinds),
            accepts={kind for kind, _ in self.allowed},
            stored=kinds,
        )

    def load(self, value: Any, note: Note) -> object:
        try:
            return self.stored_values[type(value), value]
        except (KeyError, TypeError):
            raise Mismatch(f"expected one of {self.text}: add what is stored, or an upgrade step") from None

    def dump(self, value: Any) -> Primitive:
        try:
            dumped: Primitive = self.allowed[type(value), value]
        except (KeyError, TypeError):
            raise Mismatch(f"expected one of {self.text}") from None
        return dumped


def _literal(value: object) -> Any:
    if value is None:
        return None
    if isinstance(value, enum.Enum):
        return EnumCodec(type(value)).dump(value)
    return SCALARS[type(value)].dump(value)


def _common_type(kinds: set[Any]) -> ValueType:
    types = tuple(SCALARS[kind].type for kind in sorted(kinds - {NONE}, key=lambda kind: str(kind.__name__)))
    nullable = NONE in kinds
    if len(types) == 1:
        return attrs.evolve(types[0], nullable=nullable)
    return ValueType("union", types, nullable=nullable) if types else ValueType("any", nullable=True)


class AnyCodec(Codec):
    """Any primitive, copied deeply."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("a plain value", ValueType("any", nullable=True), is_mutable=True)

    def load(self, value: Any, note: Note) -> Any:
        return value

    def dump(self, value: Any) -> Primitive:
        return copy_primitive(value)


def copy_primitive(value: Any) -> Primitive:
    """Copy a plain value, all of it. ``Mismatch`` for anything that does not cross the waist."""
    if value is None:
        return None
    scalar = SCALARS.get(type(value))
    if scalar is not None:
        return scalar.dump(value)
    if type(value) is list:
        return [_copy_under(index, item) for index, item in enumerate(value)]
    if type(value) is dict:
        return {_copy_key(name): _copy_under(name, item) for name, item in value.items()}
    raise wrong_type("a plain value (None, a simple type, a list, or a dict with str keys)", value)


def _copy_under(step: object, value: Any) -> Primitive:
    try:
        return copy_primitive(value)
    except Mismatch as error:
        raise error.under(f"[{step!r}]") from None


def _copy_key(name: object) -> str:
    text = SCALARS[str].dump(name)
    assert isinstance(text, str)
    return text
