"""The three tables of a queue model on one connection: what the store can do with them, and how a step is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import attrs

from kvmodel._queue.ids import IdSource, source_of
from kvmodel.drivers.base import ABSENT, Atomicity, Capabilities, Delete, Mutation, Outcome, Put
from kvmodel.errors import Conflict, Unsupported

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.database import Connection, Database
    from kvmodel.schema import Schema

__all__ = ["Step", "Tables", "tables_of"]

Step = list[Put | Delete]

_MOST = 500
_CHANGES_OF_ONE = 3
"""How many records the largest step for one message changes, and relies on."""


@attrs.define(eq=False)
class Tables:
    """The tables of messages, of their tickets and of dead letters.

    Attributes:
        ids: Gives the ids of new messages.
        capabilities: What the store can do.
        is_atomic: Whether a step is one write; otherwise it is one for each of its mutations.
        has_tickets: Whether messages can be leased here, so that they need tickets.
        most: For how many messages one write has room.
    """

    messages: Bound[Any]
    tickets: Bound[Any]
    dead: Bound[Any]
    ids: IdSource = attrs.field(init=False)
    capabilities: Capabilities = attrs.field(init=False)
    is_atomic: bool = attrs.field(init=False)
    has_tickets: bool = attrs.field(init=False)
    most: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ids = source_of(self.connection.now, self.connection)
        can = self.capabilities = self.messages.driver.capabilities
        limits = (limit for limit in (can.max_atomic_changes, can.max_atomic_checks) if limit is not None)
        limit = min(limits, default=_MOST * _CHANGES_OF_ONE)
        self.is_atomic = can.atomicity >= Atomicity.PARTITION and limit >= _CHANGES_OF_ONE
        self.has_tickets = can.conditional and can.ordered
        self.most = max(min(limit // _CHANGES_OF_ONE, _MOST), 1)

    def require_tickets(self) -> None:
        """Raise ``Unsupported`` where messages can't be leased."""
        if not self.has_tickets:
            lacking = "conditional writes" if self.capabilities.ordered else "records in order"
            raise Unsupported(
                f"this store has no {lacking}, so that nothing could keep two consumers from one message: read() and "
                "between() take nothing away, and where you stand is an id of your own to keep",
                table=self.messages.table.name,
                store=self.messages.driver.address,
            )

    # --- on this connection ---

    @property
    def connection(self) -> Connection:
        return self.messages.connection

    def now(self) -> int:
        """The database's time, in microseconds since the epoch."""
        return self.messages.now()

    async def prepared(self) -> None:
        """Make the tables ready, once."""
        for bound in (self.messages, self.tickets, self.dead):
            await bound.prepared()

    async def commit(self, step: Sequence[Put | Delete]) -> list[Outcome]:
        """Write a step, or several that are to stand or fall together.

        Raises ``Conflict``. Then nothing was written, or, where the store writes one record at a time, what was put is
        taken back as far as that is possible.
        """
        if self.is_atomic or len(step) == 1:
            return await self._write(step)
        outcomes: list[Outcome] = []
        try:
            for mutation in step:
                outcomes += await self._write([mutation])
        except Conflict:
            for mutation, outcome in zip(step, outcomes, strict=False):
                if isinstance(mutation, Put) and mutation.expect is ABSENT and outcome.version is not None:
                    with suppress(Conflict):
                        await self._write([Delete(mutation.table, mutation.key, outcome.version)])
            raise
        return outcomes

    async def _write(self, mutations: Sequence[Mutation]) -> list[Outcome]:
        bound = self.messages
        return await bound.driver.write(mutations, atomic=True, now=bound.now(), until=bound.until())


_found: WeakKeyDictionary[Database, dict[Schema, Tables]] = WeakKeyDictionary()


def tables_of(database: Database, schema: Schema) -> Tables:
    """Answer the tables of a queue model in a database."""
    known = _found.setdefault(database, {})
    tables = known.get(schema)
    if tables is None:
        tickets, dead = schema.companions
        tables = Tables(database._bound(schema), database._bound(tickets), database._bound(dead))
        known[schema] = tables
    return tables
