"""Queues: ``class Event(kv.QueueModel, table="events")``, then ``Event.objects.put(event)``.

A partition is a queue, and its records are the messages, in the order of their time-ordered ids. Messages can be read
like a log, by anyone and any number of times, or worked by competing consumers with leases. How a queue lies in a store
is told in ``kvmodel/_queue/layout.py``; what asks stores is in the modules beside that one, which a module of models
does not import.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar, cast
from uuid import UUID

from kvmodel._declare import Declared
from kvmodel._later import importer
from kvmodel._options import OptionCheck
from kvmodel._queue.layout import LONGEST_TABLE, refine
from kvmodel.errors import SchemaError
from kvmodel.fields.specifiers import clustering_key
from kvmodel.model import Ks, Model, ModelType, _Objects, _seen_as
from kvmodel.schema import schema_of

if TYPE_CHECKING:
    from kvmodel._queue.consumer import Consumer
    from kvmodel._queue.message import Message
    from kvmodel._queue.reading import Messages
    from kvmodel._queue.repository import QueueRepository

__all__ = ["Consumer", "Message", "Messages", "QueueModel", "QueueRepository"]

Q = TypeVar("Q", bound="QueueModel")

_MOST_SHARDS = 1024
_LATER = {
    "Consumer": "kvmodel._queue.consumer",
    "Message": "kvmodel._queue.message",
    "Messages": "kvmodel._queue.reading",
    "QueueRepository": "kvmodel._queue.repository",
}

if not TYPE_CHECKING:  # Or type checkers would take any name for one that exists.
    __getattr__ = importer(globals(), _LATER)


def _not_given() -> UUID:
    """What the id is before ``put``. Typed as what it is from then on, which is when one looks at it."""
    return cast("UUID", None)


def _check_shards(value: object) -> str | None:
    valid = type(value) is int and 1 <= value <= _MOST_SHARDS
    return None if valid else f"is a number of partitions to spread a queue over, 1 to {_MOST_SHARDS}"


def _check_attempts(value: object) -> str | None:
    valid = value is None or (type(value) is int and value >= 1)
    return None if valid else "is how often a message is handed out at the most, 1 or more, or None for any number"


class _QueueObjects(_Objects[*Ks]):
    """How type checkers see ``QueueModel.objects``."""

    def __get__(self, instance: None, owner: type[Q]) -> QueueRepository[Q, *Ks]:  # type: ignore[override]
        raise NotImplementedError


class QueueModel(Model[*Ks], abstract=True, metaclass=ModelType):
    """The base class of messages.

    A subclass declares partition fields, which name a queue together, and whatever a message carries. ``id`` is the one
    clustering key; :meth:`~kvmodel.queue.QueueRepository.put` gives it where it is not set.

    Class line options, besides those of every model: ``shards=8`` spreads each queue over as many partitions (give it
    from the start: raising it later needs no move, lowering it hides messages); ``max_attempts=10`` is how often a
    message is handed out before it is dead, ``None`` for any number.
    """

    id: UUID = clustering_key(factory=_not_given, kw_only=True)

    _kv_asked_by: ClassVar[str] = "kvmodel._queue.repository:QueueRepository"
    _kv_options: ClassVar[Mapping[str, OptionCheck]] = {"shards": _check_shards, "max_attempts": _check_attempts}

    @property
    def shard(self) -> int:
        """Which of its queue's partitions this message lies in, from 0 on."""
        shards = schema_of(type(self)).own_options.get("shards", 1)
        assert isinstance(shards, int)
        return self.id.int % shards if self.id is not None else 0

    @staticmethod
    def _kv_check(model: str, table: str, declared: Mapping[str, Declared]) -> None:
        """Raise ``SchemaError`` unless the id, ascending, is the whole clustering key."""
        for field in declared.values():
            if field.spec.role == "clustering" and (field.name != "id" or field.owner != "QueueModel"):
                raise SchemaError(
                    f"{model}: a queue is ordered by the id that kv.QueueModel brings: make this a partition key or a "
                    "value under another name",
                    table=table,
                    field=field.path,
                )
            if field.name in ("shard", "id") and field.owner != "QueueModel":
                raise SchemaError(
                    f"{model}: kv.QueueModel brings a {field.name} of its own: choose another name",
                    table=table,
                    field=field.path,
                )
        if len(table) > LONGEST_TABLE:
            raise SchemaError(f"{model}: the table of a queue has at most {LONGEST_TABLE} characters", table=table)

    _kv_refine = staticmethod(refine)

    if TYPE_CHECKING:

        @_seen_as
        def objects(self) -> _QueueObjects[*Ks]:
            """The queries of this model."""
            ...

        def __init_subclass__(
            cls,
            *,
            table: str | None = None,
            abstract: bool = False,
            frozen: bool = False,
            kw_only: bool = False,
            schema: int = 1,
            expires_in: timedelta | None = None,
            layout: Literal["record", "plain"] = "record",
            store_options: Mapping[str, Mapping[str, object]] | None = None,
            shards: int = 1,
            max_attempts: int | None = 10,
        ) -> None: ...
