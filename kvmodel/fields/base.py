"""What all codecs share.

A codec says how the values of one type are stored: ``dump`` turns a value into a primitive of the waist, ``load`` turns
it back. Both are strict: what they do not take raises :class:`Mismatch`, nothing is cast. What ``dump`` gave, ``load``
takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from kvmodel.drivers.base import Primitive, ValueType

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
        holds_objects: Whether nested objects occur inside, so that unknown fields may.
        holds_checks: Whether constraints occur inside.
        is_mutable: Whether values can change without an assignment.
    """

    __slots__ = ("accepts", "dump_guard", "load_guard", "stored", "text", "type")

    holds_objects: bool | property = False
    holds_checks: bool | property = False
    is_mutable: ClassVar[bool] = False

    def __init__(
        self,
        text: str,
        type: ValueType,
        *,
        accepts: frozenset[type] = frozenset(),
        stored: frozenset[type] = frozenset(),
        load_guard: str | None = None,
        dump_guard: str | None = None,
    ) -> None:
        self.text = text
        self.type = type
        self.accepts = accepts
        self.stored = stored
        self.load_guard = load_guard
        self.dump_guard = dump_guard

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


Loader = Callable[[Any, Note], Any]
Dumper = Callable[[Any], Primitive]
