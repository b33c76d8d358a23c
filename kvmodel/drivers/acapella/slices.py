"""Slices as ranges of the store: what one request can say, and what is left to do beside it.

The store's lower bound excludes its key and its upper one includes it. So a slice that includes its first key costs one
more read of that key, and one that excludes its last key leaves a row out that was read. A bound that names fewer
components than a key has is exact either way: no row has such a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from kvmodel.drivers.acapella.paths import WIDEST, encode_text
from kvmodel.drivers.base import Edge, Key, Slice

__all__ = ["BoundKeys", "Span", "lone", "span_of"]

_LARGEST: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


class BoundKeys(Protocol):
    """What is asked of a table's keys."""

    def clustering_texts(self, parts: Key) -> tuple[str, ...]: ...

    def beginning(self, position: int, text: str | bytes) -> str: ...


class _Low(NamedTuple):
    """A lower bound; sorts by how much it leaves out. Only a whole key can be one that is included."""

    parts: tuple[str, ...]
    excludes: bool
    is_whole: bool = False


class _High(NamedTuple):
    """An upper bound; sorts by how much it lets in."""

    parts: tuple[str, ...]
    includes: bool


class Span(NamedTuple):
    """A piece of one partition.

    Attributes:
        first: The key to read by itself before the range; ``None`` for none.
        after: The range begins behind this; empty for the beginning.
        last: It ends with this; empty for the end.
        ends_before: Whether a row at ``last`` is left out.
        prefix: The range has only what begins with these whole parts.
    """

    first: tuple[str, ...] | None
    after: tuple[str, ...]
    last: tuple[str, ...]
    ends_before: bool
    prefix: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether no range is left behind ``after``."""
        return bool(self.last) and self.after >= self.last

    def holds(self, key: tuple[str, ...]) -> bool:
        """Whether the range has a key: not all that a server sends needs to be wanted."""
        if key[: len(self.prefix)] != self.prefix or key <= self.after:
            return False
        return not self.last or key < self.last or (key == self.last and not self.ends_before)

    def lets_in(self, key: tuple[str, ...]) -> bool:
        """Whether a key is the first one, or one of the range."""
        return key == self.first or self.holds(key)


def lone(slice: Slice, width: int) -> Key | None:
    """Answer the clustering key of a slice that can hold but one row."""
    if len(slice.prefix) == width:
        return slice.prefix
    lower, upper = slice.lower, slice.upper
    if lower is not None and lower == upper and lower.inclusive and len(lower.parts) == width:
        return lower.parts
    return None


def span_of(slice: Slice, keys: BoundKeys, width: int, longest: int) -> Span | None:
    """Answer the span of a slice, ``None`` for an empty one. Raises ``ValidationError``.

    Args:
        slice: The slice.
        keys: The keys of its table.
        width: How many components a clustering key has.
        longest: How many bytes of a URL a key can take: bounds are cut to it, which moves no key to their other side.
    """
    prefix = keys.clustering_texts(slice.prefix)
    lows, highs = [_Low((), True)], [_High((), True)]
    if slice.lower is not None:
        if not (slice.lower.parts or slice.lower.inclusive):
            return None
        lows.append(_low(slice.lower, keys, width))
    if slice.upper is not None:
        if not (slice.upper.parts or slice.upper.inclusive):
            return None
        highs.append(_high(slice.upper, keys, width))
    if slice.starts:
        begin = keys.beginning(len(slice.prefix), slice.starts)
        is_text = isinstance(slice.starts, str)
        if begin:
            is_whole = len(prefix) + 1 == width
            lows.append(_Low((*prefix, begin), not is_whole, is_whole))
            highs += _behind_all(prefix, begin, is_text)
    if slice.after is not None:
        position = keys.clustering_texts(slice.after[len(slice.after) - width :])
        if slice.reverse:
            highs.append(_High(position, False))
        else:
            lows.append(_Low(position, True))
    low, high = max(lows), _lowest(highs)
    if "" in low.parts:  # No key has an empty part: the bound lies between a shorter key and all that go on from it.
        low = _Low(low.parts[: low.parts.index("")], True)
    if "" in high.parts:
        high = _High(high.parts[: high.parts.index("")], True)
        if not high.parts:
            return None
    return _span(low, high, prefix, longest)


def _span(low: _Low, high: _High, prefix: tuple[str, ...], longest: int) -> Span | None:
    after, last = _cut(low.parts, longest), _cut(high.parts, longest)
    if last and after > last:
        return None
    first = None
    if not low.excludes and low.is_whole and after == low.parts:
        is_within = low.parts[: len(prefix)] == prefix and not (high.parts == low.parts and not high.includes)
        # What can't be in a path, no row has for a key.
        if is_within and all(low.parts) and not {".", ".."}.intersection(low.parts):
            first = low.parts
    return Span(first, after, last, not high.includes and last == high.parts, prefix)


def _low(edge: Edge, keys: BoundKeys, width: int) -> _Low:
    parts = keys.clustering_texts(edge.parts)
    if not edge.inclusive and len(parts) < width:
        return _Low(_following(parts), True)
    return _Low(parts, not edge.inclusive, len(edge.parts) == width)


def _high(edge: Edge, keys: BoundKeys, width: int) -> _High:
    parts = keys.clustering_texts(edge.parts)
    if edge.inclusive and 0 < len(parts) < width:
        return _High(_following(parts), True)
    return _High(parts, edge.inclusive or len(parts) < width)


def _following(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Answer what lies behind all that begins with these parts, and before everything else."""
    return (*parts[:-1], parts[-1] + "\0")


def _behind_all(prefix: tuple[str, ...], begin: str, is_text: bool) -> Iterable[_High]:
    """Answer what lies behind all whose next part begins with a text, if anything does."""
    if not is_text:
        return [_High((*prefix, begin + "~~"), False)]
    head = begin.rstrip(chr(_LARGEST))
    if not head:
        return []
    code = ord(head[-1]) + 1
    return [_High((*prefix, head[:-1] + chr(_SURROGATES.stop if code in _SURROGATES else code)), False)]


def _lowest(highs: list[_High]) -> _High:
    """Answer the upper bound that lets in least; one without parts is none."""
    real = [high for high in highs if high.parts]
    return min(real) if real else highs[0]


def _cut(parts: tuple[str, ...], longest: int) -> tuple[str, ...]:
    """Cut a bound behind what no key can begin with, as it would be too long."""
    room = longest
    for position, part in enumerate(parts):
        if len(part) * WIDEST <= room:
            room -= len(part)
            continue
        for count, character in enumerate(part, 1):
            room -= len(encode_text(character))
            if room < 0:
                return (*parts[:position], part[:count])
    return parts
