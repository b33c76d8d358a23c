"""The three tables of a queue model on one connection: what the store can do with them, and how a step is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

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


@attrs.frozen
class Tables:
    """The tables of messages, of their tickets and of dead letters."""

    messages: Bound[Any]
    tickets: Bound[Any]
    dead: Bound[Any]

    # --- what the store can do ---

    @property
    def capabilities(self) -> Capabilities:
        return self.messages.driver.capabilities

    @property
    def is_atomic(self) -> bool:
        """Whether a step is one write; otherwise it is one for each of its mutations."""
        limit = self._limit
        return self.capabilities.atomicity >= Atomicity.PARTITION and (limit is None or limit >= _CHANGES_OF_ONE)

    @property
    def has_tickets(self) -> bool:
        """Whether messages can be leased here, so that they need tickets."""
        return self.capabilities.conditional and self.capabilities.ordered

    @property
    def most(self) -> int:
        """For how many messages one write has room."""
        limit = self._limit
        return _MOST if limit is None else max(min(_MOST, limit // _CHANGES_OF_ONE), 1)

    @property
    def _limit(self) -> int | None:
        limits = (self.capabilities.max_atomic_changes, self.capabilities.max_atomic_checks)
        return min((limit for limit in limits if limit is not None), default=None)

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


def tables_of(database: Database, schema: Schema) -> Tables:
    """Answer the tables of a queue model in a database."""
    tickets, dead = schema.companions
    return Tables(database._bound(schema), database._bound(tickets), database._bound(dead))
