"""What a node tells about itself: a tree of named fields, and the typed object that it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import attrs

from kvmodel.drivers.arakoon.wire import FLOAT, INT32, INT64, STRING, Malformed, Reader, Shape

__all__ = ["STATISTICS", "Named", "Statistics", "Timing", "decode_named", "encode_named"]

_MAX_DEPTH: Final = 20
_INT32, _INT64, _FLOAT, _STRING, _LIST = 1, 2, 3, 4, 5
_SCALARS: Final[dict[int, Shape[Any]]] = {_INT32: INT32, _INT64: INT64, _FLOAT: FLOAT, _STRING: STRING}

NamedValue: TypeAlias = "int | float | bytes | list[Named]"


class Named(NamedTuple):
    """A named field: its kind (1 int32, 2 int64, 3 float, 4 string, 5 list), its name and its value."""

    kind: int
    name: bytes
    value: NamedValue


def encode_named(field: Named) -> bytes:
    """Write a named field."""
    head = INT32.write(field.kind) + STRING.write(field.name)
    if isinstance(field.value, list):
        return head + INT32.write(len(field.value)) + b"".join(map(encode_named, field.value))
    return head + _SCALARS[field.kind].write(field.value)


def decode_named(reader: Reader, depth: int = 0) -> Named:
    """Read a named field. Raises ``Malformed``."""
    kind, name = reader.int32(), reader.string()
    if kind in _SCALARS:
        return Named(kind, name, _SCALARS[kind].read(reader))
    if kind != _LIST or depth > _MAX_DEPTH:
        raise Malformed(f"there is no named field of kind {kind}, {depth} levels deep", answered=True)
    return Named(kind, name, [decode_named(reader, depth + 1) for _ in range(reader.count(9))])


NAMED: Final[Shape[Named]] = Shape("named field", encode_named, decode_named, 9)


@attrs.frozen
class Timing:
    """How long one kind of operation took, in seconds. With ``n`` = 0, ``min`` is the largest float there is."""

    n: int = 0
    min: float = 1.7976931348623157e308
    max: float = 0.0
    m2: float = 0.0
    avg: float = 0.0
    var: float = 0.0


_TIMINGS: Final = (
    "harvest_stats",
    "set_info",
    "get_info",
    "del_info",
    "seq_info",
    "mget_info",
    "mget_option_info",
    "tas_info",
    "replace_info",
    "range_info",
    "range_entries_info",
    "rev_range_entries_info",
    "prefix_info",
    "delete_prefix_info",
    "op_info",
)


@attrs.frozen(kw_only=True)
class Statistics:
    """What a node has counted since it started.

    Attributes:
        start, last: When it started, and when it counted last: seconds since 1970.
        avg_set_size: An average size in bytes; so are the others that end in ``_size``.
        set_info: How long sets took; so are the others that end in ``_info``, and ``harvest_stats``.
        mem_allocated: In KiB.
        node_is: The stamp that each node was last heard of with; empty on a single node.
        others: Fields that newer servers have, by name.
    """

    start: float = 0.0
    last: float = 0.0
    avg_set_size: float = 0.0
    avg_get_size: float = 0.0
    avg_range_size: float = 0.0
    avg_range_entries_size: float = 0.0
    avg_rev_range_entries_size: float = 0.0
    avg_prefix_size: float = 0.0
    avg_del_prefix_size: float = 0.0
    harvest_stats: Timing = Timing()
    set_info: Timing = Timing()
    get_info: Timing = Timing()
    del_info: Timing = Timing()
    seq_info: Timing = Timing()
    mget_info: Timing = Timing()
    mget_option_info: Timing = Timing()
    tas_info: Timing = Timing()
    replace_info: Timing = Timing()
    range_info: Timing = Timing()
    range_entries_info: Timing = Timing()
    rev_range_entries_info: Timing = Timing()
    prefix_info: Timing = Timing()
    delete_prefix_info: Timing = Timing()
    op_info: Timing = Timing()
    mem_allocated: float = 0.0
    mem_maxrss: int = 0
    mem_minor_collections: int = 0
    mem_major_collections: int = 0
    mem_compactions: int = 0
    node_is: dict[str, int] = attrs.field(factory=dict)
    others: dict[str, NamedValue] = attrs.field(factory=dict)


_KNOWN: Final = {field.name: str(field.type) for field in attrs.fields(Statistics) if field.name != "others"}


def _to_tree(statistics: Statistics) -> Named:
    return Named(_LIST, b"arakoon_stats", list(_named_fields(statistics)))


def _named_fields(statistics: Statistics) -> Iterator[Named]:
    for name, kind in _KNOWN.items():
        value = getattr(statistics, name)
        if name in _TIMINGS:
            yield Named(_LIST, name.encode(), list(_timing_fields(value)))
        elif name == "node_is":
            yield Named(_LIST, b"node_is", [Named(_INT64, node.encode(), stamp) for node, stamp in value.items()])
        else:
            yield Named(_INT32 if kind == "int" else _FLOAT, name.encode(), value)


def _timing_fields(timing: Timing) -> Iterator[Named]:
    yield Named(_INT32, b"n", timing.n)
    for name in ("min", "max", "m2", "avg", "var"):
        yield Named(_FLOAT, name.encode(), getattr(timing, name))


def _from_tree(tree: Named) -> Statistics:
    fields: dict[str, Any] = {}
    others: dict[str, NamedValue] = {}
    for kind, name, value in _children(tree):
        text = name.decode("utf-8", "replace")
        if text not in _KNOWN:
            others[text] = value
        elif isinstance(value, list):
            fields[text] = _timing(value) if text in _TIMINGS else _stamps(value)
        elif kind == _STRING or text in _TIMINGS or text == "node_is":
            raise Malformed(f"the statistic {text} has another type")
        else:
            fields[text] = value
    return Statistics(**fields, others=others)


def _children(tree: Named) -> list[Named]:
    if not isinstance(tree.value, list):
        raise Malformed("statistics are a list of named fields")
    return tree.value


def _timing(fields: list[Named]) -> Timing:
    known = {field.name for field in attrs.fields(Timing)}
    found = {each.name.decode("utf-8", "replace"): each.value for each in fields}
    numbers = {name: value for name, value in found.items() if name in known and isinstance(value, int | float)}
    return Timing(**numbers)  # type: ignore[arg-type]


def _stamps(fields: list[Named]) -> dict[str, int]:
    return {each.name.decode("utf-8", "replace"): each.value for each in fields if isinstance(each.value, int)}


STATISTICS: Final[Shape[Statistics]] = Shape(
    "statistics",
    lambda statistics: encode_named(_to_tree(statistics)),
    lambda reader: _from_tree(decode_named(reader)),
    9,
)
