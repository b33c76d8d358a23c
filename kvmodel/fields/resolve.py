"""Turn annotations, which may be text, into types.

A name is looked up where the class stands: in its module, and among the locals of the function that defines it. What
does not exist yet raises :class:`Unresolved`, and is looked up again at the first use of the model.
"""

from __future__ import annotations

import inspect
import sys
import typing
from types import FrameType
from typing import Any

import attrs

from kvmodel.fields.base import Refused, Unresolved


@attrs.define
class Scope:
    """Where a class statement stands, and so what its annotations may name.

    ``frame`` is that of the statement. It is let go once all annotations are resolved, because it holds all locals of
    its function.
    """

    module: str
    frame: FrameType | None = None

    def resolve(self, annotation: object) -> Any:
        """Answer the type that an annotation of the class stands for."""
        return _evaluate(annotation, self.module, self._locals())

    def resolve_in(self, cls: type, annotation: object, module: str) -> Any:
        """Answer the type that an annotation of another class stands for, which was written in ``module``."""
        names = {cls.__name__: cls}
        if "<locals>" in cls.__qualname__:
            names |= self._locals()
        return _evaluate(annotation, module, names)

    def _locals(self) -> dict[str, Any]:
        if self.frame is None or self.frame.f_locals is self.frame.f_globals:
            return {}
        return dict(self.frame.f_locals)


class _Holder:
    """Something with annotations, which is what ``typing.get_type_hints`` takes."""

    def __init__(self, annotation: object) -> None:
        self.__annotations__ = {"field": annotation}


def _evaluate(annotation: object, module: str, local_names: dict[str, Any]) -> Any:
    names = vars(sys.modules[module]) if module in sys.modules else {}
    try:
        return typing.get_type_hints(_Holder(annotation), globalns=names, localns=local_names, include_extras=True)[
            "field"
        ]
    except NameError as error:
        raise Unresolved(str(error)) from error
    except (TypeError, SyntaxError, AttributeError) as error:
        raise Refused(f"this annotation can't be read ({error}): mend it") from error


def annotation_of(cls: type, name: str, known: object) -> tuple[object, str]:
    """Answer a field's annotation, which may be text, and the module where it was written."""
    for base in cls.__mro__:
        annotations = inspect.get_annotations(base)
        if name in annotations:
            return annotations[name], base.__module__
    if known is None:
        raise Refused("a field needs an annotation: write its type")
    return known, cls.__module__


def is_class_variable(annotation: object) -> bool:
    """Tell whether an annotation, maybe text, is a ``ClassVar``."""
    text = str(annotation).strip("'\"")
    return text.startswith(("typing.ClassVar", "t.ClassVar", "ClassVar", "typing_extensions.ClassVar"))
