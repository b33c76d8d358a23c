"""A user's own types, through the hooks of a cattrs converter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cattrs

from kvmodel.drivers.base import Primitive, ValueType
from kvmodel.fields.base import Codec, Mismatch, Note, describe, wrong_type
from kvmodel.fields.choices import copy_primitive


class Converter(cattrs.Converter):
    """A cattrs converter that remembers which types it was told about.

    A type is known once both hooks are registered: how it is unstructured, and how it is structured again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._structured: set[object] = set()
        self._unstructured: set[object] = set()
        self._structured_by: list[Callable[[Any], bool]] = []
        self._unstructured_by: list[Callable[[Any], bool]] = []
        super().__init__(*args, **kwargs)
        self._forget()

    def _forget(self) -> None:
        """Forget what cattrs registered for itself: only a user's word counts."""
        for known in (self._structured, self._unstructured, self._structured_by, self._unstructured_by):
            known.clear()

    def register_structure_hook(self, cl: Any, func: Any = None) -> Any:
        result = super().register_structure_hook(cl, func)
        if func is not None:
            self._structured.add(cl)
        return result

    def register_unstructure_hook(self, cls: Any, func: Any = None) -> Any:
        result = super().register_unstructure_hook(cls, func)
        if func is not None:
            self._unstructured.add(cls)
        return result

    def register_structure_hook_func(self, check_func: Any, func: Any) -> None:
        super().register_structure_hook_func(check_func, func)
        self._structured_by.append(check_func)

    def register_unstructure_hook_func(self, check_func: Any, func: Any) -> None:
        super().register_unstructure_hook_func(check_func, func)
        self._unstructured_by.append(check_func)

    def knows(self, annotation: Any) -> bool:
        """Tell whether hooks of both directions were registered for a type."""
        return _is_among(annotation, self._structured, self._structured_by) and _is_among(
            annotation, self._unstructured, self._unstructured_by
        )


def _is_among(annotation: Any, types: set[object], checks: list[Callable[[Any], bool]]) -> bool:
    try:
        return annotation in types or any(check(annotation) for check in checks)
    except TypeError:
        return False


converter: Final = Converter()
"""Where the hooks for types of your own are registered, before the models that use them are declared."""


class Hooks:
    """The hooks of one type, with errors of ours."""

    __slots__ = ("_structure", "_unstructure", "accepts", "annotation", "text")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.text = describe(annotation)
        self.accepts = frozenset({annotation}) if isinstance(annotation, type) else frozenset()
        self._structure = converter.get_structure_hook(annotation)
        self._unstructure = converter.get_unstructure_hook(annotation)

    def dump(self, value: Any) -> Any:
        """Unstructure a value."""
        if isinstance(self.annotation, type) and not isinstance(value, self.annotation):
            raise wrong_type(self.text, value)
        try:
            return self._unstructure(value)
        except Exception as error:
            raise Mismatch(f"the hook that unstructures {self.text} failed: mend it, or the value") from error

    def load(self, value: Any) -> Any:
        """Structure a value."""
        try:
            return self._structure(value, self.annotation)
        except Exception as error:
            raise Mismatch(f"the hook that structures {self.text} refused what is stored") from error


def own_hooks(annotation: Any) -> Hooks | None:
    """Answer the hooks of a type, ``None`` for one that nobody registered."""
    return Hooks(annotation) if converter.knows(annotation) else None


class OwnCodec(Codec):
    """A user's own type. Its hook gives plain values; ``inner``, if given, says which."""

    __slots__ = ("hooks", "inner")

    def __init__(self, hooks: Hooks, inner: Codec | None = None) -> None:
        super().__init__(
            hooks.text,
            ValueType("any", nullable=True) if inner is None else inner.type,
            accepts=hooks.accepts,
            stored=() if inner is None else inner.stored,
            is_mutable=True,
            is_hashable=getattr(hooks.annotation, "__hash__", None) is not None,
        )
        self.hooks = hooks
        self.inner = inner

    def load(self, value: Any, note: Note) -> Any:
        return self.hooks.load(value if self.inner is None else self.inner.load(value, note))

    def dump(self, value: Any) -> Primitive:
        plain = self.hooks.dump(value)
        try:
            return copy_primitive(plain) if self.inner is None else self.inner.dump(plain)
        except Mismatch as error:
            raise Mismatch(
                f"the hook that unstructures {self.text} gave what can't be stored: {error.problem}"
            ) from None
