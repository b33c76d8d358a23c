"""The steps of a sequence: what one atomic update of Arakoon is made of, to bytes and back.

Rules.

* A step is an int32 kind, then its arguments. A sequence is a step too; the outermost one has to be one.
* Steps run in order, each sees what the ones before it did, and all of them come to nothing when one fails: but for
  ``DeletePrefix``, which stays done and sees nothing of the same sequence, and ``UserFunction``, whose failure can stop
  the server. :func:`check_safe` refuses the first after which something can fail, and the second unless it is forced.
* Steps that nodes send each other only (the master's lease, the internal key space) are not here.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Final, TypeAlias, cast

import attrs

from kvmodel.drivers.arakoon.nursery import ROUTING, Routing
from kvmodel.drivers.arakoon.wire import INT32, STRING, ListOf, Malformed, Option, Reader, Shape
from kvmodel.errors import Unsupported, ValidationError

__all__ = [
    "HEAD_BYTES",
    "Assert",
    "AssertExists",
    "AssertRange",
    "Delete",
    "DeletePrefix",
    "Nop",
    "Replace",
    "Sequence",
    "Set",
    "SetInterval",
    "SetRouting",
    "SetRoutingDelta",
    "Step",
    "TestAndSet",
    "UserFunction",
    "check_safe",
    "decode_sequence",
    "encode_step",
    "size_of",
]

Text: TypeAlias = "bytes | str"
_MAX_DEPTH: Final = 50

HEAD_BYTES: Final = 8
"""What a sequence has around its steps."""


def to_bytes(value: Text) -> bytes:
    """Take text as UTF-8. Raises ``ValidationError`` for what is neither text nor bytes."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise ValidationError("text with lone surrogates has no UTF-8: give bytes") from None
    if not isinstance(cast("object", value), bytes | bytearray | memoryview):
        raise ValidationError(f"keys and values are bytes, or str as UTF-8, not {type(value).__name__}")
    return bytes(value)


def _to_option(value: Text | None) -> bytes | None:
    return None if value is None else to_bytes(value)


def _to_list(keys: Iterable[Text]) -> tuple[bytes, ...]:
    return tuple(map(to_bytes, keys))


def _to_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(steps)


class Step:
    """One step. ``kind`` is its number, ``shapes`` what its arguments are; they are its fields, in this order."""

    kind: ClassVar[int]
    shapes: ClassVar[tuple[Shape[Any], ...]]
    fails: ClassVar[bool] = False


_OPTION: Final = Option(STRING)


@attrs.frozen
class Set(Step):
    """Write a value, whatever is there."""

    kind, shapes = 1, (STRING, STRING)
    key: bytes = attrs.field(converter=to_bytes)
    value: bytes = attrs.field(converter=to_bytes)


@attrs.frozen
class Delete(Step):
    """Remove a key. Fails where it is missing."""

    kind, shapes, fails = 2, (STRING,), True
    key: bytes = attrs.field(converter=to_bytes)


@attrs.frozen
class TestAndSet(Step):
    """Write (``None``: delete) if the value is the expected one (``None``: absent). A mismatch does nothing."""

    __test__: ClassVar[bool] = False
    kind, shapes = 3, (STRING, _OPTION, _OPTION)
    key: bytes = attrs.field(converter=to_bytes)
    test_value: bytes | None = attrs.field(converter=_to_option)
    set_value: bytes | None = attrs.field(converter=_to_option)


@attrs.frozen
class Nop(Step):
    """Change nothing."""

    kind, shapes = 6, ()


@attrs.frozen
class UserFunction(Step):
    """Call a function that was loaded into the server. One that fails can stop the server for good."""

    kind, shapes, fails = 7, (STRING, _OPTION), True
    function: bytes = attrs.field(converter=to_bytes)
    argument: bytes | None = attrs.field(converter=_to_option)


@attrs.frozen
class Assert(Step):
    """Fail unless the value is the expected one (``None``: absent)."""

    kind, shapes, fails = 8, (STRING, _OPTION), True
    key: bytes = attrs.field(converter=to_bytes)
    value: bytes | None = attrs.field(converter=_to_option)


@attrs.frozen
class SetInterval(Step):
    """Say which keys this cluster of a nursery is responsible for."""

    kind, shapes = 10, (_OPTION, _OPTION, _OPTION, _OPTION)
    public_begin: bytes | None = attrs.field(converter=_to_option)
    public_end: bytes | None = attrs.field(converter=_to_option)
    private_begin: bytes | None = attrs.field(converter=_to_option)
    private_end: bytes | None = attrs.field(converter=_to_option)


@attrs.frozen
class SetRouting(Step):
    """Say which cluster of a nursery holds which keys."""

    kind, shapes = 11, (ROUTING,)
    routing: Routing


@attrs.frozen
class SetRoutingDelta(Step):
    """Add a cluster to the routing, or move a boundary."""

    kind, shapes, fails = 12, (STRING, STRING, STRING), True
    left: bytes = attrs.field(converter=to_bytes)
    separator: bytes = attrs.field(converter=to_bytes)
    right: bytes = attrs.field(converter=to_bytes)


@attrs.frozen
class DeletePrefix(Step):
    """Remove all keys that begin so. It is not undone when a later step fails, and sees no earlier step."""

    kind, shapes = 14, (STRING,)
    prefix: bytes = attrs.field(converter=to_bytes)


@attrs.frozen
class AssertExists(Step):
    """Fail unless the key is there."""

    kind, shapes, fails = 15, (STRING,), True
    key: bytes = attrs.field(converter=to_bytes)


@attrs.frozen
class Replace(Step):
    """Write, or with ``None`` delete, whatever is there or not."""

    kind, shapes = 16, (STRING, _OPTION)
    key: bytes = attrs.field(converter=to_bytes)
    value: bytes | None = attrs.field(converter=_to_option)


def _descending(keys: abc.Sequence[bytes]) -> bytes:
    return INT32.write(1) + _KEYS.write(list(keys))


def _read_descending(reader: Reader) -> tuple[bytes, ...]:
    if reader.int32() != 1:
        raise Malformed("there is no such range assertion", answered=True)
    return tuple(_KEYS.read(reader))


_KEYS: Final = ListOf(STRING)
_RANGE: Final[Shape[Any]] = Shape("keys", _descending, _read_descending, 8)


@attrs.frozen
class AssertRange(Step):
    """Fail unless the keys with this prefix are exactly these. They are given **in descending order**.

    It does not see what earlier steps of the same sequence did.
    """

    kind, shapes, fails = 17, (STRING, _RANGE), True
    prefix: bytes = attrs.field(converter=to_bytes)
    keys: tuple[bytes, ...] = attrs.field(converter=_to_list)


@attrs.frozen
class Sequence(Step):
    """Steps in order, all or nothing."""

    kind = 5
    steps: tuple[Step, ...] = attrs.field(converter=_to_steps)


_KINDS: Final[dict[int, type[Step]]] = {
    step.kind: step
    for step in (
        Set,
        Delete,
        TestAndSet,
        Nop,
        UserFunction,
        Assert,
        SetInterval,
        SetRouting,
        SetRoutingDelta,
        DeletePrefix,
        AssertExists,
        Replace,
        AssertRange,
    )
}


def _writers(step: type[Step]) -> tuple[tuple[str, Callable[[Any], bytes]], ...]:
    names = [field.name for field in attrs.fields(step)]  # type: ignore[arg-type]
    return tuple((name, shape.write) for name, shape in zip(names, step.shapes, strict=True))


_WRITERS: Final = {step: (INT32.write(kind), _writers(step)) for kind, step in _KINDS.items()}
"""How each kind of step is written: its number, then its fields."""


def encode_step(step: Step) -> bytes:
    """Write a step."""
    if isinstance(step, Sequence):
        return INT32.write(5) + INT32.write(len(step.steps)) + b"".join(map(encode_step, step.steps))
    head, fields = _WRITERS[type(step)]
    return head + b"".join([write(getattr(step, name)) for name, write in fields])


def size_of(steps: Iterable[Step]) -> int:
    """Answer how many bytes steps have on the wire, without writing those that are large or many."""
    return sum(map(_size, steps))


def _size(step: Step) -> int:
    if isinstance(step, Set):
        return 12 + len(step.key) + len(step.value)
    if isinstance(step, Assert | Replace):
        return 9 + len(step.key) + (0 if step.value is None else 4 + len(step.value))
    return len(encode_step(step))


def decode_sequence(reader: Reader) -> Sequence:
    """Read the argument of a sequence command from a reader that has all of it; what follows in it is ignored.

    Raises ``Malformed`` for what is no sequence, cut short, or nested beyond all use.
    """
    kind = reader.int32()
    if kind != 5:
        raise Malformed("should have been a sequence", answered=True)
    return _read_sequence(reader, 1)


def _read_sequence(reader: Reader, depth: int) -> Sequence:
    if depth > _MAX_DEPTH:
        raise Malformed("sequences are nested too deeply", answered=True)
    return Sequence([_read_step(reader, depth) for _ in range(reader.count(4))])


def _read_step(reader: Reader, depth: int) -> Step:
    kind = reader.int32()
    if kind == 5:
        return _read_sequence(reader, depth + 1)
    step = _KINDS.get(kind)
    if step is None:
        raise Malformed(f"there is no step {kind}", answered=True)
    return step(*[shape.read(reader) for shape in step.shapes])


def check_safe(steps: abc.Sequence[Step], *, force: bool = False) -> None:
    """Raise ``Unsupported`` for a sequence that the server would not keep atomic, or that may stop it.

    Args:
        steps: The steps, in order.
        force: Let user functions through.
    """
    deleted = False
    for step in _flat(steps):
        if isinstance(step, UserFunction) and not force:
            raise Unsupported(
                "a user function that fails inside a sequence stops the server: call it by itself, or, if it cannot"
                " fail, pass force=True",
                store="arakoon",
            )
        if step.fails and deleted:
            raise Unsupported(
                "a delete_prefix step stays done when a later step fails: put every step that can fail before it",
                store="arakoon",
            )
        deleted = deleted or isinstance(step, DeletePrefix)


def _flat(steps: abc.Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Sequence):
            yield from _flat(step.steps)
        else:
            yield step
