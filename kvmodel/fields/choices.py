"""Types that choose: ``X | None``, unions, ``Enum``, ``Literal``, ``None`` alone and ``Any``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, Refused, describe, wrong_type
from kvmodel.fields.constraints import ConstrainedCodec
from kvmodel.fields.objects import ObjectCodec
from kvmodel.fields.scalars import SCALARS

NONE: Final = type(None)
TAG: Final = "_type"
"""Names the class of a nested object, where several may stand."""


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
        return fresh if fresh is None or kept is None else self.inner.merge(fresh, kept)


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
        try:
            return self.members[plain] if plain in self.members else self.cls(plain)
        except ValueError:
            raise Mismatch(f"this is no value of {self.text}: add a member for it, or an upgrade step") from None

    def dump(self, value: Any) -> Primitive:
        if type(value) is not self.cls:
            raise self.wrong(value)
        return self.inner.dump(value.value)


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


class UnionCodec(Codec):
    """One of several types, told apart by their exact types; classes of nested objects by a tag."""

    __slots__ = ("by_stored", "by_type", "tagged")

    def __init__(self, members: list[Codec]) -> None:
        objects = [member for member in members if _is_object(member)]
        self.tagged = {_class_name(member): member for member in objects} if len(objects) > 1 else {}
        if self.tagged and len(self.tagged) < len(objects):
            raise Refused("two classes of this union have the same name: rename one")
        self.by_type = _table(members, lambda member: member.accepts)
        untagged = [member for member in members if not self.tagged or member not in objects]
        self.by_stored = _table(untagged, lambda member: member.stored)
        if self.tagged and dict in self.by_stored:
            raise _ambiguous(self.by_stored[dict], objects[0])
        if int not in self.by_stored and float in self.by_stored:
            self.by_stored[int] = self.by_type[int] = self.by_stored[float]
        super().__init__(
            " | ".join(member.text for member in members),
            ValueType("union", tuple(member.type for member in members)),
            accepts=self.by_type,
            stored=frozenset().union(*(member.stored for member in members)),
            inner=members,
            is_hashable=all(member.is_hashable for member in members),
        )

    def load(self, value: Any, note: Note) -> Any:
        if self.tagged and type(value) is dict:
            return self._load_tagged(value, note)
        member = self.by_stored.get(type(value))
        if member is None:
            raise self.wrong(value)
        return member.load(value, note)

    def _load_tagged(self, value: dict[str, Any], note: Note) -> Any:
        fields = value.copy()
        tag = fields.pop(TAG, None)
        member = self.tagged.get(tag) if type(tag) is str else None
        if member is None:
            raise Mismatch(f'an object of this union needs a "{TAG}" of {", ".join(self.tagged)}')
        return member.load(fields, note)

    def dump(self, value: Any) -> Primitive:
        member = self.by_type.get(type(value))
        if member is None:
            raise self.wrong(value)
        dumped = member.dump(value)
        if self.tagged and type(dumped) is dict:
            return {TAG: type(value).__name__, **dumped}
        return dumped

    def check(self, value: Any) -> None:
        member = self.by_type.get(type(value))
        if member is not None:
            member.check(value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        if type(fresh) is not type(kept):
            return fresh
        if not (self.tagged and isinstance(fresh, dict) and isinstance(kept, dict)):
            member = self.by_stored.get(type(fresh))
            return fresh if member is None else member.merge(fresh, kept)
        tag = fresh[TAG]
        return self.tagged[str(tag)].merge(fresh, kept) if kept.get(TAG) == tag else fresh


def _is_object(member: Codec) -> bool:
    while isinstance(member, ConstrainedCodec):
        member = member.inner
    return isinstance(member, ObjectCodec)


def _class_name(member: Codec) -> str:
    (cls,) = member.accepts
    return str(cls.__name__)


def _table(members: list[Codec], types_of: Callable[[Codec], Iterable[type]]) -> dict[type, Codec]:
    table: dict[type, Codec] = {}
    for member in members:
        types = list(types_of(member))
        if not types:
            raise Refused(f"{member.text} can't be told apart in a union: wrap it in an attrs class")
        for python_type in types:
            if python_type in table:
                raise _ambiguous(table[python_type], member)
            table[python_type] = member
    return table


def _ambiguous(first: Codec, second: Codec) -> Refused:
    return Refused(
        f"{first.text} and {second.text} can't be told apart in a union: keep one, or wrap both in attrs classes"
    )


def union_codec(members: list[Codec]) -> Codec:
    """Answer the codec of a union, unions inside it included."""
    flat: list[Codec] = []
    nullable = False
    for member in members:
        while isinstance(member, NullableCodec):
            member, nullable = member.inner, True
        if isinstance(member, NoneCodec):
            nullable = True
        elif isinstance(member, AnyCodec):
            return member
        else:
            flat.append(member)
    if not flat:
        return NoneCodec()
    codec = flat[0] if len(flat) == 1 else UnionCodec(flat)
    return NullableCodec(codec) if nullable else codec
