"""Lists, tuples and sets: all are stored as lists."""

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
    if value != value:
        return rank, 1
    return rank, 0, value
