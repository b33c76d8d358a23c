"""Putting messages, each with its ticket. For many at once see :mod:`kvmodel._queue.bulk`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kvmodel import _aio
from kvmodel._bulk import settle
from kvmodel._queue.desk import notify
from kvmodel._queue.layout import READY, Ticket
from kvmodel._queue.place import Place
from kvmodel._queue.tables import tables_of
from kvmodel._stamps import new_stamp
from kvmodel.drivers.base import ABSENT, ANYTHING, Expectation, Key, Outcome, Put, Status
from kvmodel.errors import AlreadyExists, OutcomeUnknown, Unsupported, ValidationError

if TYPE_CHECKING:
    from kvmodel.database import Database
    from kvmodel.schema import Schema
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["NewMessage", "Putter"]


class NewMessage(NamedTuple):
    """A message on its way in. ``due`` is what its ticket will say."""

    obj: Any
    place: Place
    key: Key
    due: int


class Putter:
    """Puts messages of one model into queues of one database."""

    def __init__(self, database: Database, schema: Schema) -> None:
        self._schema = schema
        self.tables = tables_of(database, schema)
        self._now = database._connection.now
        self._free: Expectation = ABSENT if self.tables.capabilities.conditional else ANYTHING
        self._places: dict[Key, Place] = {}

    async def put(self, obj: Any, delay: int) -> None:
        """Put a message now."""
        new = self.receive(obj, delay)
        step = self.step(new, new_stamp())
        await self.tables.prepared()
        try:
            outcomes = await self.tables.commit(step)
        except (OutcomeUnknown, _aio.CancelledError):
            settle(step[0], obj, Outcome(Status.UNKNOWN))
            raise
        except AlreadyExists as error:
            raise self._taken(new) from error
        settle(step[0], obj, outcomes[0])
        notify(new.place)

    def join(self, obj: Any, delay: int, unit: UnitOfWork) -> None:
        """Have a unit of work put a message at its commit."""
        unit._check_open()
        new = self.receive(obj, delay)
        place, tables, joined = new.place, self.tables, unit._joined
        joined.put_now(tables.messages, obj, new.key, self._free, tables.messages.default_deadline())
        if tables.has_tickets:
            ticket: Any = Ticket(place.ticket_key(new.due, obj.id), 0)
            joined.put_now(tables.tickets, ticket, ticket.key, ABSENT, None)
        unit._after_commit(lambda: notify(place))

    def receive(self, obj: Any, delay: int = 0) -> NewMessage:
        """Give a message its id, and find its place.

        Raises:
            ValidationError: It is of another class, or its queue or its id can't be in a key.
            Unsupported: It is to be delayed, where nobody can take messages.
        """
        if type(obj) is not self._schema.model:
            raise self._schema.stranger(obj)
        is_new = obj.id is None
        if is_new:
            object.__setattr__(obj, "id", self.tables.ids.next(self._now()))
        key = self._schema.key_of(obj)
        if not is_new and obj.id.version != 7:
            raise ValidationError(
                "the ids of messages are time-ordered (version 7): leave id= out, and put() gives one",
                table=self._schema.name,
                key=key,
                field="id",
            )
        if delay and not self.tables.has_tickets:
            raise Unsupported(
                "messages can't be taken from this store, only read, and readers see them at once: leave delay= out",
                table=self._schema.name,
                store=self.tables.messages.driver.address,
            )
        place = self._places.get(key[:-1])
        if place is None:
            place = self._places[key[:-1]] = Place(self.tables, key[:-1])
        return NewMessage(obj, place, key, self._now() + delay if delay else READY)

    def step(self, new: NewMessage, stamp: bytes) -> list[Put]:
        """Answer what is to be written: the message, and its ticket where it can be taken."""
        bound = self.tables.messages
        values = self._schema.dump(new.obj)
        message = Put(bound.table, new.key, values, stamp, bound.default_deadline(), self._free)
        if not self.tables.has_tickets:
            return [message]
        return [message, new.place.put_ticket(new.due, new.obj.id, 0, stamp)]

    def _taken(self, new: NewMessage) -> AlreadyExists:
        table = self._schema.name
        return AlreadyExists(
            "a message with this id is in the queue already: attrs.evolve(message, id=None) makes another one of it",
            keys=[(table, new.key)],
            table=table,
            key=new.key,
            store=self.tables.messages.driver.address,
        )
