"""What all codecs share.

A codec says how the values of one type are stored: ``dump`` turns a value into a primitive of the waist, ``load`` turns
it back. Both are strict: what they do not take raises :class:`Mismatch`, nothing is cast. What ``dump`` gave, ``load``
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from kvmodel.drivers.base import Primitive, ValueType

T = TypeVar("T")

Note = list[bool] | None
"""Where loaders of nested objects leave a mark when they met a field that they don't know."""


class Missing:
    """The type of :data:`MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""Stands where a stored field is not there."""


class Mismatch(Exception):
    """A value is not of the type that its field declares.

    Internal: the schema turns it into ``ValidationError`` or ``DecodingError`` with ``path`` as the field.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def under(self, step: str) -> Mismatch:
        """Put a step in front of the path, on the way up to the field."""
        self.path = step + self.path
        return self


class Refused(Exception):
    """A declaration can't work. Internal: the model turns it into ``SchemaError``."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def under(self, step: str) -> Refused:
        """Put a step in front of the path, on the way up to the class."""
        self.path = step + self.path
        return self


class Unresolved(Exception):
    """An annotation names what does not exist yet. Internal: the model tries again at its first use."""


class Codec:
    """How values of one type are stored.

    Attributes:
        text: The type, for messages.
        type: What crosses the waist.
        accepts: The exact types of the values; empty where that can't be told.
        stored: The exact types of what is stored; empty where that can't be told.
        load_guard, dump_guard: Expressions over ``{v}``, true where a value needs neither conversion nor a closer look.
            They stand in generated functions; ``None`` where each value needs a call.
        load_types, dump_types: Exact types that are all there is to look at, ``None`` where more is. What collections
            go by, to look at all their elements at once.
        holds_objects: Whether nested objects occur inside, so that unknown fields may.
        holds_checks: Whether constraints occur inside.
        is_mutable: Whether values can change without an assignment.
        is_hashable: Whether values can be elements of a set.
    """

    __slots__ = (
        "accepts",
        "dump_guard",
        "dump_types",
        "holds_checks",
        "holds_objects",
        "is_hashable",
        "is_mutable",
        "load_guard",
        "load_types",
        "stored",
        "text",
        "type",
    )

    def __init__(
        self,
        text: str,
        type: ValueType,
        *,
        accepts: Iterable[type] = (),
        stored: Iterable[type] = (),
        inner: Iterable[Codec] = (),
        is_mutable: bool | None = None,
        is_hashable: bool = True,
    ) -> None:
        self.text = text
        self.type = type
        self.accepts = frozenset(accepts)
        self.stored = frozenset(stored)
        self.load_guard: str | None = None
        self.dump_guard: str | None = None
        self.load_types: frozenset[Any] | None = None
        self.dump_types: frozenset[Any] | None = None
        parts = tuple(inner)
        self.holds_objects: bool = any(part.holds_objects for part in parts)
        self.holds_checks: bool = any(part.holds_checks for part in parts)
        self.is_mutable: bool = any(part.is_mutable for part in parts) if is_mutable is None else is_mutable
        self.is_hashable = is_hashable

    def load(self, value: Any, note: Note) -> Any:
        """Turn what is stored into a value."""
        raise NotImplementedError

    def dump(self, value: Any) -> Primitive:
        """Turn a value into what is stored."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raise :class:`Mismatch` where a constraint inside is not met; types are not looked at."""

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        """Answer ``fresh`` with the unknown fields of ``kept``, what was stored before. Changes neither."""
        return fresh

    def wrong(self, value: object) -> Mismatch:
        """Make the error for a value of another type."""
        return wrong_type(self.text, value)


def wrong_type(expected: str, value: object) -> Mismatch:
    """Make the error for a value of another type than expected."""
    if value is MISSING:
        return Mismatch("the value is missing and has no default: write it, or declare a default")
    return Mismatch(f"expected {expected}, not {describe(type(value))}: nothing is converted by itself")


def describe(annotation: object) -> str:
    """Write a type the way its user would."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    return str(annotation).replace("typing.", "")


def cause_of(error: BaseException) -> BaseException | None:
    """Answer what to show as the cause of the error that takes this one's place."""
    return error.__cause__ if isinstance(error, Mismatch | Refused) else error


def locate(error: Mismatch, items: Iterable[tuple[object, T]], visit: Callable[[T], object]) -> Mismatch:
    """Find which item failed, by visiting them again: collections count their elements only once one is wrong."""
    for step, item in items:
        try:
            visit(item)
        except Mismatch as found:
            found.__cause__ = cause_of(found)
            return found.under(f"[{step!r}]")
    return error
