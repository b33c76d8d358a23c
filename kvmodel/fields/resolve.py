"""Turn annotations, which may be text, into types.

A name is looked up where the class stands: in its module, and among the locals of the function that defines it. What
does not exist yet raises :class:`Unresolved`, and is looked up again at the first use of the model.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import attrs

from kvmodel.fields.base import Refused, Unresolved


@attrs.define
class Scope:
    """The names that annotations may use.

    ``frame`` is where the class statement stands. It is kept only until all annotations are resolved, because it holds
    all locals of its function.
    """

    module: str
    frame: FrameType | None = None
    extra: dict[str, object] = attrs.field(factory=dict)

    def resolve(self, annotation: object, *, module: str | None = None) -> Any:
        """Answer the type that an annotation stands for; ``module`` is where it was written, if not in the scope's."""
        names = vars(sys.modules.get(module or self.module, sys))
        return _evaluate(annotation, names, self._locals())

    def _locals(self) -> Mapping[str, object]:
        if self.frame is None or self.frame.f_locals is self.frame.f_globals:
            return self.extra
        return {**self.extra, **self.frame.f_locals}

    def __getstate__(self) -> object:  # pragma: no cover - frames have no copies
        raise TypeError("a scope can't be copied")


class _Holder:
    """Something with annotations, which is what ``typing.get_type_hints`` takes."""

    def __init__(self, annotation: object) -> None:
        self.__annotations__ = {"field": annotation}


def _evaluate(annotation: object, names: dict[str, Any], local_names: Mapping[str, object]) -> Any:
    try:
        return typing.get_type_hints(
            _Holder(annotation), globalns=names, localns=dict(local_names), include_extras=True
        )["field"]
    except NameError as error:
        raise Unresolved(str(error)) from error
    except (TypeError, SyntaxError, AttributeError) as error:
        raise Refused(f"this annotation can't be read ({error}): mend it") from error


def annotations_of(cls: type) -> Iterator[tuple[str, object, str]]:
    """Give name, annotation and module of every annotation of a class, those of its bases first."""
    for base in reversed(cls.__mro__):
        for name, annotation in base.__dict__.get("__annotations__", {}).items():
            yield name, annotation, base.__module__


def is_class_variable(annotation: object) -> bool:
    """Tell whether an annotation, maybe text, is a ``ClassVar``."""
    text = str(annotation).strip("'\"")
    return text.startswith(("typing.ClassVar", "t.ClassVar", "ClassVar", "typing_extensions.ClassVar"))
