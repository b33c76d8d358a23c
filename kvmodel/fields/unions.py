"""Unions of types that can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, Refused
from kvmodel.fields.choices import AnyCodec, NoneCodec, NullableCodec
from kvmodel.fields.constraints import ConstrainedCodec
from kvmodel.fields.objects import ObjectCodec

TAG: Final = "_type"
"""Names the class of a nested object, where several may stand."""


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
