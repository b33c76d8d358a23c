"""Paths, and the slices of a partition that they bound.

Theory of operation. Paths are compared part by part: str before int before UUID, each kind in its own order; a path
comes before all that go on from it. So everything behind a subtree comes behind one path that can be told from the last
part alone: the least part that is greater. No text lies between ``"b"`` and ``"b\\0"``, no int between 7 and 8. With
that, a slice that begins behind a subtree needs nothing that a store's ordered ranges do not have anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from kvmodel.drivers.base import Edge, Key, Slice
from kvmodel.errors import ValidationError
from kvmodel.query import Starts

if TYPE_CHECKING:
    from kvmodel.schema import Schema

__all__ = [
    "Part",
    "Path",
    "as_path",
    "behind",
    "below",
    "bounded",
    "is_under",
    "make_path",
    "order",
    "subtree",
    "tighter",
]

Part: TypeAlias = str | int | UUID
Path: TypeAlias = tuple[Part, ...]

_LAST_UUID: Final = (1 << 128) - 1
_LAST_CHARACTER: Final = "\U0010ffff"
_SURROGATES: Final = range(0xD800, 0xE000)


# --- paths ------------------------------------------------------------------------------------------------------------


def make_path(schema: Schema, path: tuple[object, ...], *, root: bool = True) -> Path:
    """Check a path, which may be the root's, the empty one, if ``root``. Raises ``ValidationError``."""
    if root and not path:
        return ()
    made: Any = schema.make_clustering((path,))[0]
    return tuple(made)


def as_path(path: object) -> tuple[object, ...]:
    """A path, written as a tuple or, if it has one part, as that part."""
    return path if isinstance(path, tuple) else (path,)


def is_under(path: Path, other: Path) -> bool:
    """Whether a path lies under another one, or is it."""
    return path[: len(other)] == other


def order(path: Path) -> tuple[tuple[int, Any], ...]:
    """What paths are sorted by."""
    return tuple((_RANKS[type(part)], part) for part in path)


_RANKS: Final[dict[type, int]] = {str: 0, int: 1, UUID: 2}


def behind(path: Path) -> Path | None:
    """Answer the first path that may come behind a subtree; ``None`` where none does."""
    while path:
        *head, last = path
        following = _following(last)
        if following is not None:
            return (*head, following)
        path = tuple(head)  # The last part of all: what comes behind it comes behind its parent.
    return None


def _following(part: Part) -> Part | None:
    if isinstance(part, str):
        return part + "\0"
    if isinstance(part, int):
        return part + 1
    return None if part.int == _LAST_UUID else UUID(int=part.int + 1)


# --- slices -----------------------------------------------------------------------------------------------------------


def subtree(partition: Key, path: Path) -> Slice:
    """Answer the slice of a node and all that is under it."""
    end = behind(path)
    return Slice(
        partition,
        lower=Edge((path,), True) if path else None,
        upper=None if end is None else Edge((end,), False),
    )


def below(partition: Key, path: Path) -> Slice:
    """Answer the slice of all that is under a node."""
    slice = subtree(partition, path)
    return slice._replace(lower=Edge((path,), False)) if path else slice


def bounded(
    schema: Schema,
    partition: Key,
    *,
    first: object,
    last: object,
    after: object,
    before: object,
    prefix: object,
) -> Slice:
    """Turn what a caller wrote into a slice of a tree. Raises ``ValidationError`` for what makes no sense."""
    for one, other, names in ((first, after, "first and after"), (last, before, "last and before")):
        if one is not None and other is not None:
            raise ValidationError(f"give either of {names}, not both: they bound the same end", table=schema.name)
    slice = Slice(partition) if prefix is None else _beginning(schema, partition, prefix)
    lower, upper = _edge(schema, first, after), _edge(schema, last, before)
    return slice._replace(lower=tighter(slice.lower, lower, 1), upper=tighter(slice.upper, upper, -1))


def _edge(schema: Schema, inclusive: object, exclusive: object) -> Edge | None:
    value = exclusive if inclusive is None else inclusive
    if value is None:
        return None
    return Edge(schema.make_clustering((as_path(value),)), inclusive is not None)


def tighter(one: Edge | None, other: Edge | None, sign: int) -> Edge | None:
    """The edge that leaves less: the greater one of two lower edges, the lesser one of two upper ones."""
    if one is None or other is None:
        return other if one is None else one
    places = [(order(edge.parts[0]), -sign if edge.inclusive else sign) for edge in (one, other)]  # type: ignore[arg-type]
    return one if (places[0] > places[1]) == (sign > 0) else other


def _beginning(schema: Schema, partition: Key, prefix: object) -> Slice:
    """The slice of paths that begin with whole parts, and maybe with the first characters of the next one."""
    parts = as_path(Starts(prefix) if isinstance(prefix, str) else prefix)
    if not parts or not isinstance(parts[-1], Starts):
        return subtree(partition, make_path(schema, parts))
    text = parts[-1].text
    first = make_path(schema, (*parts[:-1], text))
    stripped = text.rstrip(_LAST_CHARACTER) if isinstance(text, str) else ""
    if not stripped:
        raise ValidationError("kv.starts() needs a character here: give whole parts, or first= and last=")
    end = (*first[:-1], stripped[:-1] + _next_character(stripped[-1]))
    return Slice(partition, lower=Edge((first,), True), upper=Edge((end,), False))


def _next_character(character: str) -> str:
    number = ord(character) + 1
    return chr(_SURROGATES.stop if number in _SURROGATES else number)
