"""Mappings: with text for keys they are stored as dicts, with other keys as lists of pairs."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, Refused, locate
from kvmodel.fields.collections import TupleCodec
from kvmodel.fields.scalars import SCALARS

_STR: Final = SCALARS[str]


class DictCodec(Codec):
    """A mapping whose keys are stored as text: a dict."""

    __slots__ = ("inner", "key")

    def __init__(self, key: Codec, inner: Codec) -> None:
        super().__init__(
            f"dict[{key.text}, {inner.text}]",
            ValueType("dict", (inner.type,)),
            accepts={dict},
            stored={dict},
            inner=[key, inner],
            is_mutable=True,
            is_hashable=False,
        )
        self.key = key
        self.inner = inner

    def load(self, value: Any, note: Note) -> dict[Any, Any]:
        if type(value) is not dict:
            raise self.wrong(value)
        load_types = self.inner.load_types
        if self.key is _STR and load_types is not None and load_types.issuperset(map(type, value.values())):
            return value
        return dict(zip(_load_keys(self.key, value), load_values(self.inner, value, note), strict=True))

    def dump(self, value: Any) -> Primitive:
        if type(value) is not dict:
            raise self.wrong(value)
        names: list[Any] = _dump_keys(self.key, value)
        return dict(zip(names, dump_values(self.inner, value), strict=True))

    def check(self, value: Any) -> None:
        if self.holds_checks and isinstance(value, dict):
            check_mapping(self.key, self.inner, value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        if not (self.inner.holds_objects and isinstance(fresh, dict) and isinstance(kept, dict)):
            return fresh
        return {name: self.inner.merge(item, kept[name]) if name in kept else item for name, item in fresh.items()}


def _load_keys(key: Codec, value: Iterable[Any]) -> list[Any]:
    names = list(value)
    if key.load_types is not None and key.load_types.issuperset(map(type, names)):
        return names
    try:
        return [key.load(name, None) for name in names]
    except Mismatch as error:
        found = locate(error, ((name, name) for name in names), lambda name: key.load(name, None))
        raise found from found.__cause__


def _dump_keys(key: Codec, value: Iterable[Any]) -> list[Primitive]:
    try:
        return [key.dump(name) for name in value]
    except Mismatch as error:
        found = locate(error, ((name, name) for name in value), key.dump)
        raise found from found.__cause__


def load_values(inner: Codec, value: dict[Any, Any], note: Note) -> list[Any]:
    """Load the values of a mapping, in its order."""
    if inner.load_types is not None and inner.load_types.issuperset(map(type, value.values())):
        return list(value.values())
    try:
        return [inner.load(item, note) for item in value.values()]
    except Mismatch as error:
        found = locate(error, value.items(), lambda item: inner.load(item, note))
        raise found from found.__cause__


def dump_values(inner: Codec, value: dict[Any, Any]) -> list[Primitive]:
    """Dump the values of a mapping, in its order."""
    if inner.dump_types is not None and inner.dump_types.issuperset(map(type, value.values())):
        return list(value.values())
    try:
        return [inner.dump(item) for item in value.values()]
    except Mismatch as error:
        found = locate(error, value.items(), inner.dump)
        raise found from found.__cause__


def check_mapping(key: Codec, inner: Codec, value: dict[Any, Any]) -> None:
    """Check the constraints of keys and values."""
    for name, item in value.items():
        try:
            key.check(name)
            inner.check(item)
        except Mismatch as error:
            raise error.under(f"[{name!r}]") from error.__cause__


class PairsCodec(Codec):
    """A mapping with other keys than text: a list of pairs, in the mapping's order."""

    __slots__ = ("inner", "key")

    def __init__(self, key: Codec, inner: Codec) -> None:
        if not key.is_hashable:
            raise Refused(f"{key.text} can't be the key of a dict, it is not hashable: choose another type")
        super().__init__(
            f"dict[{key.text}, {inner.text}]",
            ValueType("pairs", (key.type, inner.type)),
            accepts={dict},
            stored={list},
            inner=[key, inner],
            is_mutable=True,
            is_hashable=False,
        )
        self.key = key
        self.inner = inner

    def load(self, value: Any, note: Note) -> dict[Any, Any]:
        if type(value) is not list:
            raise self.wrong(value)
        result: dict[Any, Any] = {}
        for index, pair in enumerate(value):
            try:
                self._load_pair(pair, result, note)
            except Mismatch as error:
                raise error.under(f"[{index}]") from error.__cause__
        return result

    def _load_pair(self, pair: Any, result: dict[Any, Any], note: Note) -> None:
        if type(pair) is not list or len(pair) != 2:
            raise Mismatch("expected a pair of key and value")
        name = self.key.load(pair[0], note)
        if name in result:
            raise Mismatch("a key of the mapping is stored twice")
        result[name] = self.inner.load(pair[1], note)

    def dump(self, value: Any) -> Primitive:
        if type(value) is not dict:
            raise self.wrong(value)
        pairs = zip(_dump_keys(self.key, value), dump_values(self.inner, value), strict=True)
        return [[name, item] for name, item in pairs]

    def check(self, value: Any) -> None:
        if self.holds_checks and isinstance(value, dict):
            check_mapping(self.key, self.inner, value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        if not (self.holds_objects and isinstance(fresh, list) and isinstance(kept, list)):
            return fresh
        pair = TupleCodec([self.key, self.inner])
        before = {repr(self._fresh_key(old)): old for old in kept}
        merged: list[Primitive] = []
        for new in fresh:
            assert isinstance(new, list)
            merged.append(pair.merge(new, before.get(repr(new[0]))))
        return merged

    def _fresh_key(self, pair: Primitive) -> Primitive:
        assert isinstance(pair, list)
        return self.key.dump(self.key.load(copy.deepcopy(pair[0]), []))
