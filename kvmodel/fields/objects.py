"""Nested objects: attrs classes and dataclasses, stored as mappings of their fields."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from kvmodel._compile import compile_function
from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.errors import KvModelError
from kvmodel.fields.base import Codec, Mismatch, Note, Refused, describe
from kvmodel.fields.constraints import refusal
from kvmodel.fields.members import (
    Member,
    arguments,
    default_maker,
    dump_lines,
    dump_result,
    indent,
    late_lines,
    load_lines,
    names_of,
)


class ObjectCodec(Codec):
    """An attrs class or dataclass. It is made first and completed then, because it may hold objects of itself.

    While it is incomplete, ``type`` says ``any``: that is how the waist sees where a recursion begins again.
    """

    __slots__ = ("_dump", "_load", "cls", "members")

    def __init__(self, cls: type) -> None:
        super().__init__(
            cls.__name__,
            ValueType("any", nullable=True),
            accepts={cls},
            stored={dict},
            is_mutable=True,
            is_hashable=cls.__hash__ is not None,
        )
        self.cls = cls
        self.holds_objects = True
        self.members: tuple[Member, ...] = ()
        self._load: Callable[[Any, Note], Any] | None = None
        self._dump: Callable[[Any], Primitive] | None = None

    def complete(self, members: Sequence[Member]) -> None:
        """Say which fields there are."""
        self.members = tuple(members)
        names = tuple(member.name for member in self.members)
        self.type = ValueType("object", tuple(member.codec.type for member in self.members), names)

    def load(self, value: Any, note: Note) -> Any:
        if self._load is None:
            self._load = _generate_load(self)
        return self._load(value, note)

    def dump(self, value: Any) -> Primitive:
        if self._dump is None:
            self._dump = _generate_dump(self)
        return self._dump(value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        if not (isinstance(fresh, dict) and isinstance(kept, dict)):
            return fresh
        merged = fresh | {name: copy.deepcopy(old) for name, old in kept.items() if name not in fresh}
        for member in self.members:
            if member.codec.holds_objects and member.name in kept:
                merged[member.name] = member.codec.merge(fresh[member.name], kept[member.name])
        return merged


def _generate_load(codec: ObjectCodec) -> Callable[[Any, Note], Any]:
    members = codec.members
    known = frozenset(member.name for member in members)

    def look(values: dict[str, object], note: Note) -> None:
        if note is not None and not known.issuperset(values):
            note.append(True)

    ordered = [(f"v{index}", member) for index, member in enumerate(members)]
    lines = [
        "def load(values, note):",
        "    if type(values) is not dict:",
        "        raise wrong(values)",
        *indent(load_lines(members, "note")),
        f"    if len(values) != {len(members)}:",
        "        look(values, note)",
        "    try:",
        f"        obj = cls({arguments(ordered)})",
        *indent(late_lines(ordered), 2),
        "        return obj",
        "    except Exception as error:",
        "        raise refused(error) from error",
    ]
    names = {
        **names_of(members),
        "cls": codec.cls,
        "wrong": codec.wrong,
        "look": look,
        "refused": refused,
        "set_attribute": object.__setattr__,
    }
    return compile_function("load", lines, names, f"{codec.text}.load")


def refused(error: Exception) -> Exception:
    """Make the error for a constructor or validator that raised."""
    if isinstance(error, MemoryError | RecursionError):
        return error
    if isinstance(error, KvModelError):
        return Mismatch(error.message, f".{error.field}" if error.field else "")
    return Mismatch(refusal(error))


def _generate_dump(codec: ObjectCodec) -> Callable[[Any], Primitive]:
    lines = [
        "def dump(obj):",
        "    if type(obj) is not cls:",
        "        raise wrong(obj)",
        *(["    validate(obj)"] if _has_validators(codec.cls) else []),
        *indent(dump_lines(codec.members)),
        f"    return {dump_result(codec.members)}",
    ]
    names = {**names_of(codec.members), "cls": codec.cls, "wrong": codec.wrong, "validate": _validate}
    return compile_function("dump", lines, names, f"{codec.text}.dump")


def _has_validators(cls: type) -> bool:
    return attrs.has(cls) and any(attribute.validator is not None for attribute in attrs.fields(cls))


def _validate(obj: Any) -> None:
    """Run an object's validators again: what it holds may have changed in place."""
    try:
        attrs.validate(obj)
    except Exception as error:
        raise refused(error) from error


def members_of_class(cls: type, codec_for: Callable[[str, object], Codec]) -> Iterator[Member]:
    """Give the fields of an attrs class or dataclass.

    ``codec_for`` answers the codec for a field's name and the type that attrs or dataclasses know.
    """
    _check_constructor(cls)
    if attrs.has(cls):
        for attribute in attrs.fields(cls):
            yield Member(
                attribute.name,
                attribute.alias,
                codec_for(attribute.name, attribute.type),
                make_default=default_maker(attribute.default),
                kw_only=attribute.kw_only,
                init=attribute.init,
            )
        return
    for field in dataclasses.fields(cls):
        yield Member(
            field.name,
            field.name,
            codec_for(field.name, field.type),
            make_default=_dataclass_default(field),
            kw_only=field.kw_only is True,
            init=field.init,
        )


def _check_constructor(cls: type) -> None:
    parameters = getattr(cls, "__dataclass_params__", None)
    if hasattr(cls, "__attrs_init__") or not getattr(parameters, "init", True):
        raise Refused(
            f"{describe(cls)} has an __init__ of its own, so that it can't be made from its fields: "
            "register hooks for it with kv.converter"
        )


def _dataclass_default(field: dataclasses.Field[Any]) -> Callable[[], object] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else default_maker(field.default)
