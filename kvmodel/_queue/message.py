"""A message in the hands of a consumer."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

import attrs

from kvmodel._ambient import current_unit
from kvmodel._queue.layout import READY
from kvmodel._queue.place import Lease
from kvmodel._queue.spans import Span, micros_of, positive, when
from kvmodel._queue.tables import Step
from kvmodel._queue.taking import Wish, keep
from kvmodel.drivers.base import ANYTHING, Row
from kvmodel.errors import Conflict

if TYPE_CHECKING:
    from kvmodel._queue.desk import Desk
    from kvmodel.queue import QueueModel
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["Holder", "Message"]

Q = TypeVar("Q", bound="QueueModel")


@attrs.frozen(eq=False)
class Holder:
    """What the messages of one consumer have in common.

    Attributes:
        wish: How they were taken.
        desk: Whom to tell when one comes back.
        unit: The unit of work that acknowledgements join; left out, the one in force.
        outside: Whether they join none.
    """

    wish: Wish
    desk: Desk
    unit: UnitOfWork | None
    outside: bool


class Message(Generic[Q]):
    """A message that a consumer holds, until its lease ends or it is settled.

    A call that is cancelled is carried out all the same: whoever stops in the middle of :meth:`ack` has acknowledged.

    Attributes:
        item: The object that was put.
        attempts: How often it was handed out, this time included.
    """

    __slots__ = ("__weakref__", "_holder", "_lease", "_settled", "_unit", "attempts", "item")

    def __init__(self, item: Q, lease: Lease, holder: Holder) -> None:
        self.item = item
        self.attempts = lease.attempts
        self._lease = lease
        self._holder = holder
        self._settled = False
        self._unit: UnitOfWork | None = None

    def __repr__(self) -> str:
        return f"<Message {self.item!r}, attempt {self.attempts}, until {self.leased_until.isoformat()}>"

    @property
    def id(self) -> UUID:
        """The id of the message."""
        return self._lease.id

    @property
    def leased_until(self) -> datetime:
        """When the lease ends, and others may take the message."""
        return when(self._lease.until)

    async def ack(self) -> None:
        """Take the message out of the queue: it is done. Costs one write.

        Inside a unit of work it waits for the commit, and is part of it: what the unit writes and the acknowledgement
        happen together, or not at all.

        Raises:
            Conflict: The lease ran out and somebody else took the message, or it is settled already. In a unit of work
                its commit raises that.
        """
        unit = self._unit_to_join()
        if unit is not None:
            self._join(unit)
            return
        await self._holder.desk.carry(self._finish(self._held()))

    async def nack(self, delay: Span = 0) -> None:
        """Give the message back. Costs one write, outside of any unit of work.

        After ``max_attempts`` it goes to the dead letters instead, for a read and a write.

        Args:
            delay: How long nobody is to take it: seconds, or a timedelta.

        Raises:
            Conflict: The lease ran out and somebody else took the message, or it is settled already.
        """
        wait, lease = micros_of(delay, "delay"), self._held()
        most = self._holder.wish.max_attempts
        if most is not None and lease.attempts >= most:
            await self._holder.desk.carry(self._bury(lease))
        else:
            await self._holder.desk.carry(self._return(lease, wait))

    async def extend(self, lease: Span | None = None) -> None:
        """Keep the message for longer. Costs one write, outside of any unit of work.

        Args:
            lease: For how long from now on: seconds, or a timedelta; left out, as long as it was taken for.

        Raises:
            Conflict: The lease ran out and somebody else took the message, or it is settled already.
        """
        span = self._holder.wish.lease if lease is None else positive(lease, "lease")
        await self._holder.desk.carry(self._keep(self._held(), span))

    # --- inside ---

    def _held(self) -> Lease:
        if self._settled:
            raise _lost(self._lease)
        return self._lease

    def _is_in_hand(self) -> bool:
        """Whether nobody has settled it, and no open unit of work is going to."""
        return not self._settled and not (self._unit is not None and self._unit._is_open)

    def _unit_to_join(self) -> UnitOfWork | None:
        """The unit of work to join: one of the same connection."""
        unit = None if self._holder.outside else self._holder.unit or current_unit()
        here = self._lease.place.tables.connection
        return unit if unit is not None and unit.database._connection is here else None

    def _join(self, unit: UnitOfWork) -> None:
        lease = self._held()
        place, joined = lease.place, unit._joined
        unit._check_open()
        joined.entry(place.tables.tickets, lease.ticket).delete(lease.version)
        joined.entry(place.tables.messages, place.message_key(lease.id)).delete(ANYTHING)
        unit._after_commit(self._settle)
        self._unit = unit

    def _settle(self) -> None:
        self._settled = True

    async def _finish(self, lease: Lease) -> None:
        if not lease.place.tables.is_atomic:
            await self._check(lease)
        await self._commit(lease.place.finish(lease.ticket, lease.version))
        self._settled = True

    async def _return(self, lease: Lease, wait: int) -> None:
        due = lease.place.tables.now() + wait if wait else READY
        await self._commit(lease.place.move(lease.ticket, lease.version, due, lease.attempts))
        self._settled = True
        self._holder.desk.notify()

    async def _keep(self, lease: Lease, span: int) -> None:
        try:
            self._lease = await keep(lease, span)
        except Conflict as error:
            raise _lost(lease) from error

    async def _bury(self, lease: Lease) -> None:
        place = lease.place
        row = await place.tables.messages.read(place.message_key(lease.id))
        if not place.tables.is_atomic:
            await self._check(lease)
        if isinstance(row, Row):
            await self._commit(place.bury(row, lease.ticket, lease.version))
        else:
            await self._commit([place.drop_ticket(lease.ticket, lease.version)])
        self._settled = True

    async def _check(self, lease: Lease) -> None:
        """Look whether the lease is still held, where the next writes can't be one."""
        ticket = await lease.place.tables.tickets.read(lease.ticket, values=False)
        if not isinstance(ticket, Row) or ticket.version != lease.version:
            raise _lost(lease)

    async def _commit(self, step: Step) -> None:
        try:
            await self._lease.place.tables.commit(step)
        except Conflict as error:
            raise _lost(self._lease) from error


def _lost(lease: Lease) -> Conflict:
    table, key = lease.place.tables.messages.table.name, lease.place.message_key(lease.id)
    return Conflict(
        "this message is not held any more: it was acknowledged or given back, or its lease ran out and somebody else "
        "took it (take a longer lease, or extend() it while you work)",
        keys=[(table, key)],
        table=table,
        key=key,
    )
