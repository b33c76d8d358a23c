"""What annotations say, without their wrapping."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Union


def strip(annotation: Any) -> Any:
    """Take ``Annotated``, ``NewType`` and ``type`` aliases off an annotation."""
    return unwrap(annotation)[0]


def unwrap(annotation: Any, known: Callable[[Any], bool] = lambda _: False) -> tuple[Any, tuple[object, ...]]:
    """Take ``Annotated``, ``NewType`` and ``type`` aliases off an annotation, down to a known type at the most.

    Answers the type and the metadata of the ``Annotated``.
    """
    metadata: tuple[object, ...] = ()
    while not known(annotation):
        if typing.get_origin(annotation) is Annotated:
            annotation, *more = typing.get_args(annotation)
            metadata = (*more, *metadata)
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            break
    return annotation, metadata


def members_of(annotation: Any) -> tuple[Any, ...] | None:
    """Answer the members of a union, ``None`` for anything else."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return None
