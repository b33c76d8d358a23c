"""Lists, tuples, sets and mappings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, Refused, locate
from kvmodel.fields.scalars import SCALARS


class SequenceCodec(Codec):
    """``list[X]`` or ``tuple[X, ...]``: a list."""

    __slots__ = ("inner", "python_type")

    def __init__(self, python_type: type, inner: Codec) -> None:
        is_tuple = python_type is tuple
        super().__init__(
            f"tuple[{inner.text}, ...]" if is_tuple else f"list[{inner.text}]",
            ValueType("list", (inner.type,)),
            accepts={python_type},
            stored={list},
            inner=[inner],
            is_mutable=None if is_tuple else True,
            is_hashable=is_tuple and inner.is_hashable,
        )
        self.python_type: Any = python_type
        self.inner = inner

    def load(self, value: Any, note: Note) -> Any:
        if type(value) is not list:
            raise self.wrong(value)
        items = load_items(self.inner, value, note)
        return items if self.python_type is list else tuple(items)

    def dump(self, value: Any) -> Primitive:
        if type(value) is not self.python_type:
            raise self.wrong(value)
        return dump_items(self.inner, value)

    def check(self, value: Any) -> None:
        if self.inner.holds_checks and isinstance(value, self.python_type):
            check_items(self.inner, value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        return merge_items(self.inner, fresh, kept, by_position=True)


def load_items(inner: Codec, value: list[Any], note: Note) -> list[Any]:
    """Load the elements of a list; the list itself, where they are what is stored."""
    if inner.load_types is not None and inner.load_types.issuperset(map(type, value)):
        return value
    load = inner.load
    try:
        return [load(item, note) for item in value]
    except Mismatch as error:
        found = locate(error, enumerate(value), lambda item: load(item, note))
        raise found from found.__cause__


def dump_items(inner: Codec, value: Iterable[Any]) -> list[Primitive]:
    """Dump elements, in their order."""
    items = list(value)
    if inner.dump_types is not None and inner.dump_types.issuperset(map(type, items)):
        return items
    dump = inner.dump
    try:
        return [dump(item) for item in items]
    except Mismatch as error:
        found = locate(error, enumerate(items), dump)
        raise found from found.__cause__


def check_items(inner: Codec, value: Iterable[Any]) -> None:
    """Check the constraints of elements."""
    for index, item in enumerate(value):
        try:
            inner.check(item)
        except Mismatch as error:
            raise error.under(f"[{index}]") from error.__cause__


def merge_items(inner: Codec, fresh: Primitive, kept: Primitive, *, by_position: bool) -> Primitive:
    """Give elements back the unknown fields that they had.

    An element gets them from a stored one with the same known content, each of which is used once. What then is left
    goes by position, if the length is the same: an element that was changed in place.
    """
    if not (inner.holds_objects and isinstance(fresh, list) and isinstance(kept, list)):
        return fresh
    sources = _same_content(inner, fresh, kept)
    if by_position and len(fresh) == len(kept):
        used = set(sources.values())
        sources |= {index: index for index in range(len(fresh)) if index not in sources and index not in used}
    return [inner.merge(item, kept[sources[index]]) if index in sources else item for index, item in enumerate(fresh)]


def _same_content(inner: Codec, fresh: list[Primitive], kept: list[Primitive]) -> dict[int, int]:
    """Match elements to stored ones by known content; those that kept their place first."""
    contents = [repr(inner.dump(inner.load(copy.deepcopy(item), []))) for item in kept]
    wanted = [repr(item) for item in fresh]
    sources = {index: index for index, text in enumerate(wanted) if index < len(kept) and contents[index] == text}
    free: dict[str, list[int]] = {}
    for index in reversed(range(len(kept))):
        if index not in sources:
            free.setdefault(contents[index], []).append(index)
    for index, text in enumerate(wanted):
        if index not in sources and free.get(text):
            sources[index] = free[text].pop()
    return sources


class TupleCodec(Codec):
    """``tuple[X, Y]``: a list of just as many elements."""

    __slots__ = ("items",)

    def __init__(self, items: list[Codec]) -> None:
        super().__init__(
            f"tuple[{', '.join(item.text for item in items) or '()'}]",
            ValueType("list", tuple(item.type for item in items), fixed=True),
            accepts={tuple},
            stored={list},
            inner=items,
            is_hashable=all(item.is_hashable for item in items),
        )
        self.items = items

    def load(self, value: Any, note: Note) -> tuple[Any, ...]:
        if type(value) is not list:
            raise self.wrong(value)
        return tuple(self._each(value, lambda item, part: item.load(part, note)))

    def dump(self, value: Any) -> Primitive:
        if type(value) is not tuple:
            raise self.wrong(value)
        return self._each(value, lambda item, part: item.dump(part))

    def check(self, value: Any) -> None:
        if self.holds_checks and isinstance(value, tuple) and len(value) == len(self.items):
            self._each(value, lambda item, part: item.check(part))

    def _each(self, value: Any, visit: Callable[[Codec, Any], Any]) -> list[Any]:
        if len(value) != len(self.items):
            raise Mismatch(f"expected {self.text}, not {len(value)} elements")
        results = []
        for index, (item, part) in enumerate(zip(self.items, value, strict=True)):
            try:
                results.append(visit(item, part))
            except Mismatch as error:
                raise error.under(f"[{index}]") from error.__cause__
        return results

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        if not (isinstance(fresh, list) and isinstance(kept, list) and len(fresh) == len(kept)):
            return fresh
        return [item.merge(new, old) for item, new, old in zip(self.items, fresh, kept, strict=True)]


class SetCodec(Codec):
    """``set[X]`` or ``frozenset[X]``: a sorted list, so that equal sets are stored alike."""

    __slots__ = ("inner", "python_type")

    def __init__(self, python_type: type, inner: Codec) -> None:
        if not inner.is_hashable:
            raise Refused(f"{inner.text} can't be an element of a set, it is not hashable: use a list")
        super().__init__(
            f"{python_type.__name__}[{inner.text}]",
            ValueType("list", (inner.type,)),
            accepts={python_type},
            stored={list},
            inner=[inner],
            is_mutable=True if python_type is set else None,
            is_hashable=python_type is frozenset,
        )
        self.python_type: Any = python_type
        self.inner = inner

    def load(self, value: Any, note: Note) -> Any:
        if type(value) is not list:
            raise self.wrong(value)
        items = load_items(self.inner, value, note)
        try:
            result = self.python_type(items)
        except TypeError:
            raise Mismatch("an element that is stored can't be in a set") from None
        if len(result) != len(items):
            raise Mismatch("an element of the set is stored twice")
        return result

    def dump(self, value: Any) -> Primitive:
        if type(value) is not self.python_type:
            raise self.wrong(value)
        items = dump_items(self.inner, value)
        items.sort(key=sort_key)
        return items

    def check(self, value: Any) -> None:
        if self.inner.holds_checks and isinstance(value, set | frozenset):
            check_items(self.inner, value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        return merge_items(self.inner, fresh, kept, by_position=False)


_RANKS: Final = {python_type: rank for rank, python_type in enumerate([type(None), *SCALARS, list, dict])}


def sort_key(value: Primitive) -> tuple[Any, ...]:
    """Give any primitive a place in one order, which is that of the values where they have one."""
    rank = _RANKS[type(value)]
    if isinstance(value, list):
        return rank, [sort_key(item) for item in value]
    if isinstance(value, dict):
        return rank, [(name, sort_key(item)) for name, item in sorted(value.items())]
    if value is None:
        return (rank,)
    if value != value:
        return rank, 1
    return rank, 0, value


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
        if self.key is _STR and self.inner.load_types is not None:
            if self.inner.load_types.issuperset(map(type, value.values())):
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
            old = before.get(repr(new[0]))
            merged.append(new if old is None else pair.merge(new, old))
        return merged

    def _fresh_key(self, pair: Primitive) -> Primitive:
        assert isinstance(pair, list)
        return self.key.dump(self.key.load(copy.deepcopy(pair[0]), []))
