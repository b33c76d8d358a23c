"""Constraints that stand in ``Annotated``: those of annotated-types, and attrs validators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import annotated_types as at
import attrs

from kvmodel.drivers.base import Primitive
from kvmodel.fields.base import Codec, Mismatch, Note, Refused, describe

Check = Callable[[Any], None]


class ConstrainedCodec(Codec):
    """A type with constraints on its values; ``None`` is exempt from them."""

    __slots__ = ("checks", "inner")

    def __init__(self, inner: Codec, checks: list[Check]) -> None:
        super().__init__(
            inner.text,
            inner.type,
            accepts=inner.accepts,
            stored=inner.stored,
            inner=[inner],
            is_hashable=inner.is_hashable,
        )
        self.inner = inner
        self.checks = checks
        self.holds_checks = True

    def load(self, value: Any, note: Note) -> Any:
        loaded = self.inner.load(value, note)
        self._apply(loaded)
        return loaded

    def dump(self, value: Any) -> Primitive:
        dumped = self.inner.dump(value)
        self._apply(value)
        return dumped

    def check(self, value: Any) -> None:
        self._apply(value)
        self.inner.check(value)

    def _apply(self, value: Any) -> None:
        if value is not None:
            for check in self.checks:
                check(value)

    def merge(self, fresh: Primitive, kept: Primitive) -> Primitive:
        return self.inner.merge(fresh, kept)


def checks_of(metadata: Iterable[object]) -> list[Check]:
    """Answer the constraints among the metadata of an ``Annotated``; other programs' metadata are left alone."""
    return [check for one in metadata for check in _checks(one)]


def _checks(one: Any) -> Iterator[Check]:
    if isinstance(one, at.GroupedMetadata):
        for part in one:
            yield from _checks(part)
    elif type(one).__module__ in ("attr.validators", "attr._make"):
        yield _validator(one)
    elif isinstance(one, at.Timezone):
        raise Refused(f"kvmodel can't check {one!r}: datetimes are stored in UTC, remove it")
    elif type(one) in _COMPARISONS:
        attribute, words, test = _COMPARISONS[type(one)]
        yield _comparison(words, test, getattr(one, attribute))


_COMPARISONS: dict[type, tuple[str, str, Callable[[Any, Any], bool]]] = {
    at.Gt: ("gt", "greater than", lambda value, bound: bool(value > bound)),
    at.Ge: ("ge", "at least", lambda value, bound: bool(value >= bound)),
    at.Lt: ("lt", "less than", lambda value, bound: bool(value < bound)),
    at.Le: ("le", "at most", lambda value, bound: bool(value <= bound)),
    at.MultipleOf: ("multiple_of", "a multiple of", lambda value, bound: value % bound == 0),
    at.MinLen: ("min_length", "of a length of at least", lambda value, bound: len(value) >= bound),
    at.MaxLen: ("max_length", "of a length of at most", lambda value, bound: len(value) <= bound),
    at.Predicate: ("func", "what this predicate accepts:", lambda value, func: bool(func(value))),
}


def _comparison(words: str, test: Callable[[Any, Any], bool], bound: Any) -> Check:
    text = f"the value must be {words} {_name(bound)}"

    def check(value: Any) -> None:
        try:
            is_met = test(value, bound)
        except Exception as error:
            raise Mismatch(text) from error
        if not is_met:
            raise Mismatch(text)

    return check


def _name(bound: Any) -> str:
    return str(getattr(bound, "__qualname__", repr(bound)))


@attrs.frozen
class _Named:
    """What attrs validators want to know of a field."""

    name: str = "value"
    alias: str = "value"
    metadata: dict[object, object] = attrs.field(factory=dict)


def _validator(validator: Any) -> Check:
    def check(value: Any) -> None:
        try:
            validator(None, _Named(), value)
        except Exception as error:
            raise Mismatch(refusal(error)) from error

    return check


def refusal(error: Exception) -> str:
    """Say what a validator said."""
    said = error.args[0] if error.args and isinstance(error.args[0], str) else describe(type(error))
    return f"a validator refused this value: {said}"
