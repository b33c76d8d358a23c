"""Optional values."""

from __future__ import annotations

from typing import Any

import attrs

from kvmodel.drivers.base import Primitive
from kvmodel.fields.base import Codec, Note


class NullableCodec(Codec):
    """A value or ``None``."""

    __slots__ = ("inner",)

    def __init__(self, inner: Codec) -> None:
        super().__init__(
            f"{inner.text} | None",
            attrs.evolve(inner.type, nullable=True),
            accepts=inner.accepts | {type(None)},
            stored=inner.stored | {type(None)},
            load_guard=inner.load_guard and f"{{v}} is None or {inner.load_guard}",
            dump_guard=inner.dump_guard and f"{{v}} is None or {inner.dump_guard}",
        )
        self.inner = inner

    @property
    def holds_objects(self) -> bool:
        return self.inner.holds_objects

    def load(self, value: Any, note: Note) -> Any:
        return None if value is None else self.inner.load(value, note)

    def dump(self, value: Any) -> Primitive:
        return None if value is None else self.inner.dump(value)
