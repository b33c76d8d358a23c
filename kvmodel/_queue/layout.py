"""How a queue lies in a store: messages, tickets and dead letters.

A queue is a partition, and three tables have a part in it:

* **messages**, the model's own table: ``(queue, id)`` and the payload. A message is there from its ``put`` until it is
  acknowledged, purged or dead. Consuming never writes it, so that payloads are written once and read once.
* **tickets**: ``(queue, due, id)`` and ``attempts``, how often the message was handed out. Each message has one.
  ``due`` is 0 for a message that can be taken now; otherwise it is the moment, in microseconds since the epoch, from
  which it can be taken (again): the end of its delay, or of the lease of the consumer that has it.
* **dead letters**: ``(queue, id)`` and the payload, of messages that were handed out ``max_attempts`` times in vain.

With ``shards=8`` each queue is eight such partitions; a message lies in the one that its id says.

Rules.

* Every step is one atomic write, in which the old ticket is deleted in the version that was seen and the new one put:
  of two that try the same step, one gets ``Conflict`` and nothing of its own written.
* The version of a ticket is the proof of its lease. It never repeats, so who holds an old one can't touch a new lease.
* A new ticket's key was free, because nobody else can have made one for this message: the old one is still there.

Theory of operation. ::

    put          message, and ticket (0, id)               delay: ticket (now + delay, id)
    take         (due, id) becomes (now + lease, id)       attempts + 1
    extend       (until, id) becomes (now + lease, id)
    nack         (until, id) becomes (0, id)               delay: (now + delay, id)
    ack          message and ticket go
    bury         message and ticket go, a dead letter comes
    redrive      dead letter goes, message and ticket (0, id) come

To take is to look at two places: the tickets from 1 on, which begin with those that became due longest ago, and then
the tickets with 0, which begin with the oldest message. What was leased or delayed lies behind the former, what was
acknowledged is in neither: so it costs the same whatever is ahead. *The beginning of the tickets is the queue's
low-water mark.* It is not a record of its own, on purpose. A mark over ids would be written at every take, so that all
consumers fought for it, and it would lose messages: ids are given before their commit and by several clocks, so that a
message may well arrive below the mark.

A crash leaves what a step before or after it leaves, as there is nothing between: a taken message waits for the end of
its lease. A ticket without a message (which was purged, deleted or has expired) is removed by whoever meets it.

A store that writes one record at a time does the same steps one by one, in an order in which every beginning of a step
is harmless: what is to be comes before what was. A message is put before its ticket: a crash in between leaves one
that reads show and nobody takes, of a ``put`` that was never reported as done. A new ticket is put before the old one
is deleted, and taken back where that is refused: a crash in between leaves two, so the message may be worked twice. An
acknowledged message goes before its ticket.

Known limits.

* Leases and delays go by the clock of whoever looks: consumers need clocks that agree, to well within a lease. If a
  clock steps back, leases that were taken before last longer by as much; messages that were put without a delay are not
  concerned, as 0 is no time.
* Order is by id among what is ready, and what became due comes before it. There is no more to rely on: with several
  consumers messages overtake each other.
* A store that keeps tombstones has to step over those at the beginning of the tickets, until it compacts them.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import attrs

from kvmodel._state import Stateful
from kvmodel.drivers.base import Key, Row, Values
from kvmodel.errors import SchemaError
from kvmodel.fields.keys import key_codec
from kvmodel.fields.members import Member
from kvmodel.fields.scalars import SCALARS
from kvmodel.schema import KeyMember, Schema

__all__ = ["DEAD", "LONGEST_TABLE", "READY", "TICKETS", "Ticket", "refine"]

READY: Final = 0
"""When a ticket is due that is due at once."""

TICKETS: Final = "_kvmodel_tickets_"
DEAD: Final = "_kvmodel_dead_"
LONGEST_TABLE: Final = 63 - len(TICKETS)

_SHARD: Final = KeyMember("shard", key_codec(int))


class Ticket(Stateful):
    """A ticket, where a unit of work wants an object. ``key`` is the whole key."""

    __slots__ = ("attempts", "key")

    def __init__(self, key: Key, attempts: int) -> None:
        self.key = key
        self.attempts = attempts
        self._kv_state = None


def refine(schema: Schema) -> Schema:
    """Answer the schema of a queue model: with its shard in the key, and with its companions, tickets and dead letters.

    ``get(*queue, id)`` and its like take no shard, as the id tells it.
    """
    if schema.layout != "record":
        raise SchemaError("a queue needs versions and numbers of its own: remove layout= from it", table=schema.name)
    shards = schema.own_options.get("shards", 1)
    assert isinstance(shards, int)
    if shards > 1:
        schema = _sharded(schema, shards)
    schema.companions = (_tickets(schema), _dead(schema, shards))
    return schema


def _sharded(schema: Schema, shards: int) -> Schema:
    """Put the shard between the queue and the id."""
    own = schema.partition_count
    members = (*schema.key_members[:own], _SHARD, *schema.key_members[own:])
    wide = attrs.evolve(schema, key_members=members, partition_count=own + 1)
    _tell_shards(schema, wide, shards)
    return wide


def _tell_shards(narrow: Schema, wide: Schema, shards: int) -> None:
    """Let a key be made without its shard."""
    make_narrow = narrow.make_key

    def make_key(*parts: Any) -> Key:
        *queue, id = make_narrow(*parts)
        assert isinstance(id, UUID)
        return (*queue, id.int % shards, id)

    wide.make_key = make_key


def _dead(schema: Schema, shards: int) -> Schema:
    """The same records in another table."""
    dead = attrs.evolve(schema, name=DEAD + schema.name, companions=())
    if shards > 1:
        dead.make_key = schema.make_key
    return dead


def _tickets(schema: Schema) -> Schema:
    attempts = Member("attempts", "attempts", SCALARS[int])
    own = schema.key_members[: schema.partition_count]
    tickets = Schema(
        model=schema.model,
        name=TICKETS + schema.name,
        model_name=f"{schema.model_name} (tickets)",
        key_members=(*own, KeyMember("due", key_codec(int)), KeyMember("id", key_codec(UUID))),
        partition_count=schema.partition_count,
        value_members=(attempts,),
        constructor=(),
        store_options=schema.store_options,
    )
    tickets.key_of, tickets.dump, tickets.load = _key_of, _dump, _load
    return tickets


def _key_of(ticket: Ticket) -> Key:
    return ticket.key


def _dump(ticket: Ticket) -> Values:
    return {"attempts": ticket.attempts}


def _load(row: Row) -> Ticket:
    attempts = row.values["attempts"]
    assert isinstance(attempts, int)
    return Ticket(row.key, attempts)
