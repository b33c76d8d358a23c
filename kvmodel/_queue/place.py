"""One partition of a queue: the steps that move a message.

Every step is a list of mutations, in the order in which each beginning of it is harmless: see
:mod:`kvmodel._queue.layout`.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import attrs

from kvmodel._queue.layout import READY
from kvmodel._queue.tables import Step, Tables
from kvmodel._stamps import new_stamp
from kvmodel.drivers.base import ABSENT, ANYTHING, Delete, Expectation, Key, Put, Row, Version
from kvmodel.errors import DecodingError
from kvmodel.schema import Schema

__all__ = ["Lease", "Place", "attempts_of", "due_of", "id_of", "places_of"]


@attrs.frozen(eq=False)
class Place:
    """One partition of a queue. ``partition`` holds the values of the partition fields, the shard among them."""

    tables: Tables
    partition: Key

    # --- keys ---

    def message_key(self, id: UUID) -> Key:
        return (*self.partition, id)

    def ticket_key(self, due: int, id: UUID) -> Key:
        return (*self.partition, due, id)

    # --- steps ---

    def put_ticket(self, due: int, id: UUID, attempts: int, stamp: bytes, expect: Expectation = ABSENT) -> Put:
        """Make a message due."""
        return Put(self.tables.tickets.table, self.ticket_key(due, id), {"attempts": attempts}, stamp, None, expect)

    def drop_ticket(self, ticket: Key, version: Version) -> Delete:
        """Take a ticket away."""
        return Delete(self.tables.tickets.table, ticket, version)

    def move(self, ticket: Key, version: Version, due: int, attempts: int) -> Step:
        """Make a message due at another time. The outcome of the first mutation has the new version."""
        id = id_of(ticket)
        if due == due_of(ticket):
            return [self.put_ticket(due, id, attempts, new_stamp(), version)]
        return [self.put_ticket(due, id, attempts, new_stamp()), self.drop_ticket(ticket, version)]

    def finish(self, ticket: Key, version: Version) -> Step:
        """Take a message away."""
        message = Delete(self.tables.messages.table, self.message_key(id_of(ticket)), ANYTHING)
        return [message, self.drop_ticket(ticket, version)]

    def bury(self, row: Row, ticket: Key, version: Version) -> Step:
        """Take a message to the dead letters."""
        letter = Put(
            self.tables.dead.table, row.key, self.tables.messages.schema.values_of(row), new_stamp(), row.expires_at
        )
        message = Delete(self.tables.messages.table, row.key, row.version)
        return [letter, message, self.drop_ticket(ticket, version)]

    def revive(self, row: Row) -> Step:
        """Take a dead letter back into the queue.

        One record at a time, nothing is relied on before the letter goes: whoever comes after a crash, or at the same
        time, puts the same once more.
        """
        stamp = new_stamp()
        expect: Expectation = ABSENT if self.tables.is_atomic else ANYTHING
        message = Put(
            self.tables.messages.table,
            row.key,
            self.tables.messages.schema.values_of(row),
            stamp,
            row.expires_at,
            expect,
        )
        return [message, self.put_ticket(READY, id_of(row.key), 0, stamp, expect), self.drop_letter(row)]

    def drop_letter(self, row: Row) -> Delete:
        """Take a dead letter away."""
        return Delete(self.tables.dead.table, row.key, row.version)


class Lease(NamedTuple):
    """A message that was taken.

    Attributes:
        ticket: The key of its ticket, while it is leased.
        version: The ticket's version: the proof of the lease.
        attempts: How often the message was handed out, this time included.
        origin: When its ticket was due before.
        row: The message, or why it can't be read.
    """

    place: Place
    ticket: Key
    version: Version
    attempts: int
    origin: int
    row: Row | DecodingError

    @property
    def id(self) -> UUID:
        """The message's id."""
        return id_of(self.ticket)

    @property
    def until(self) -> int:
        """When the lease ends, in microseconds since the epoch."""
        return due_of(self.ticket)

    @property
    def is_over(self) -> bool:
        """Whether others may have taken the message."""
        return self.until <= self.place.tables.now()


def places_of(tables: Tables, schema: Schema, queue: tuple[object, ...]) -> list[Place]:
    """Answer the partitions of a queue. Raises ``ValidationError`` unless the queue is named by all its fields."""
    return [Place(tables, partition) for partition in partitions_of(schema, queue)]


def partitions_of(schema: Schema, queue: tuple[object, ...]) -> list[Key]:
    """Answer the values of the partition fields for each partition of a queue."""
    shards = schema.own_options.get("shards", 1)
    assert isinstance(shards, int)
    if shards == 1:
        return [schema.make_partition(*queue)]
    named = schema.convert_key(queue, schema.key_members[: schema.partition_count - 1])
    return [(*named, shard) for shard in range(shards)]


def id_of(key: Key) -> UUID:
    """The id at the end of a key, be it a message's or a ticket's."""
    id = key[-1]
    assert isinstance(id, UUID)
    return id


def due_of(ticket: Key) -> int:
    """When a ticket is due."""
    due = ticket[-2]
    assert isinstance(due, int)
    return due


def attempts_of(row: Row) -> int:
    """How often the message of a ticket was handed out; a ticket that does not tell is a new one."""
    attempts = row.values.get("attempts")
    return attempts if isinstance(attempts, int) else 0
