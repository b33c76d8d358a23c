"""The queries of a queue model: ``Event.objects``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import UUID

from kvmodel._deadlines import KEEP, Keep
from kvmodel._queue.bulk import join_many, put_many
from kvmodel._queue.consumer import Consumer
from kvmodel._queue.desk import desk_of
from kvmodel._queue.ids import first_id
from kvmodel._queue.message import Holder
from kvmodel._queue.place import Place, partitions_of, places_of
from kvmodel._queue.putting import Putter
from kvmodel._queue.reading import Messages
from kvmodel._queue.spans import Span, micros_of, moment_of, positive
from kvmodel._queue.sweeping import purge, redrive
from kvmodel._queue.tables import tables_of
from kvmodel._queue.taking import Wish
from kvmodel._state import get_state
from kvmodel.errors import Unsupported, ValidationError
from kvmodel.model import Ks
from kvmodel.query import Range, check_limit, not_in_unit
from kvmodel.repository import Repository

if TYPE_CHECKING:
    from kvmodel._binding import Bound
    from kvmodel.database import Database
    from kvmodel.drivers.base import Key
    from kvmodel.queue import QueueModel
    from kvmodel.schema import Schema
    from kvmodel.unit_of_work import UnitOfWork

__all__ = ["QueueRepository"]

Q = TypeVar("Q", bound="QueueModel")

_MAX_ATTEMPTS: Final = 10


class QueueRepository(Repository[Q, *Ks], Generic[Q, *Ks]):
    """Everything that can be asked of one model's queues. A queue is named by the values of all partition fields.

    Messages are records too: what other models' repositories offer works here, but for what would make new records,
    which is what :meth:`put` is for.
    """

    # --- putting ------------------------------------------------------------------------------------------------------

    async def put(self, message: Q, *, delay: Span = 0) -> Q:
        """Put a message at the end of its queue, and answer it, loaded. Costs one write of two records.

        Its id is given here, unless it is set: putting a message again after an ``OutcomeUnknown`` either puts it or
        raises ``AlreadyExists``, and never puts it twice. In a unit of work it is put at its commit.

        Args:
            message: The message.
            delay: How long nobody is to take it: seconds, or a timedelta. Readers see it at once.

        Raises:
            AlreadyExists: A message with this id is there already.
            Unsupported: A delay was given, and messages can't be taken from this store.
        """
        putter, unit = self._putter()
        if unit is None:
            await putter.put(message, micros_of(delay, "delay"))
        else:
            putter.join(message, micros_of(delay, "delay"), unit)
        return message

    async def put_many(self, messages: Iterable[Q] | AsyncIterable[Q]) -> int:
        """Put messages of any number, in order, and answer how many.

        They are written in batches of up to 500 (or what the store takes at once), each one atomic write, or one a
        partition where its atomic writes reach no further. In a unit of work all of them are put at its commit.

        Raises:
            BatchError: At the first batch in which one could not be put; it tells what was done and what remains.
        """
        putter, unit = self._putter()
        return await (put_many(putter, messages) if unit is None else join_many(putter, messages, unit))

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(
        self, *queue: object, after: UUID | None = None, limit: int | None = None, settle: Span | None = None
    ) -> Messages[Q]:
        """Answer a queue's messages in the order of their ids, whoever consumes them. Takes nothing away.

        Ids are given before their commit and by several clocks: a reader that goes on behind the last one it saw can
        miss one that arrives late. ``settle`` holds back the youngest until they surely have.

        Args:
            queue: The values of the partition fields.
            after: The id to go on behind.
            limit: How many at the most.
            settle: Hold back messages that are younger: seconds, or a timedelta. It has to cover the longest commit and
                the difference between the clocks of those who put.

        Raises:
            ValidationError: The queue is not named by all its fields, or a bound or limit makes no sense.
        """
        check_limit(limit)
        younger = None if settle is None else micros_of(settle, "settle")
        if after is not None:
            self._schema.make_clustering((after,))

        def ranges() -> Sequence[Range[Q]]:
            now = self._where()[0].now()
            before = None if younger is None else first_id(now - younger + 1)
            return self._ranges(queue, after=after, before=before, limit=limit)

        self._ranges(queue)
        return Messages(ranges, limit)

    def between(
        self, *queue: Any, start: datetime | None = None, end: datetime | None = None, limit: int | None = None
    ) -> Messages[Q]:
        """Answer the messages that were put between two moments: ``between("queue-1", start, end)``.

        Args:
            queue: The values of the partition fields, and behind them start and end, unless they are given by name.
            start: The first moment, included.
            end: The last moment, not included.
            limit: How many at the most.

        Raises:
            ValidationError: The queue is not named by all its fields, or the moments know no time zone.
        """
        check_limit(limit)
        name, moments = queue[: self._width], list(queue[self._width :])
        if start is None and moments:
            start = moments.pop(0)
        if end is None and moments:
            end = moments.pop(0)
        if moments:
            raise ValidationError("between takes a queue and two moments: between(queue, start, end)")
        first = None if start is None else first_id(moment_of(start, "start"))
        before = None if end is None else first_id(moment_of(end, "end"))

        def ranges() -> Sequence[Range[Q]]:
            return self._ranges(name, first=first, before=before, limit=limit)

        ranges()
        return Messages(ranges, limit)

    async def length(self, *queue: object) -> int:
        """Count a queue's messages: those that wait, are delayed or are being worked; dead ones are not in it.

        Reads as many keys, without their values where the store can.

        Raises:
            Unsupported: Inside a unit of work.
        """
        return await self.read(*queue).count()

    # --- consuming ----------------------------------------------------------------------------------------------------

    def consume(
        self,
        *queue: object,
        lease: Span = 30,
        wait: bool = True,
        prefetch: int = 1,
        max_attempts: int | None | Keep = KEEP,
        poll: Span = 1.0,
    ) -> Consumer[Q]:
        """Take messages one after the other: ``async for message in Event.objects.consume("queue-1")``.

        Each goes to one consumer at a time, which holds a lease on it. At least once: a message whose lease ran out is
        handed out again, even if its first consumer had done the work. Taking is never part of a unit of work.

        Args:
            queue: The values of the partition fields.
            lease: How long a message is held: seconds, or a timedelta.
            wait: Wait for more when there is nothing to take; otherwise the iteration ends then.
            prefetch: How many messages to take at once. Their leases run while they wait for their turn.
            max_attempts: How often a message is handed out before it goes to the dead letters, ``None`` for any number;
                left out, what the model says.
            poll: How long it may take until what other processes put, or leave, is noticed. What this connection puts
                is noticed at once.

        Raises:
            Unsupported: The store has no conditional writes, or does not keep records in order.
        """
        wish = Wish(positive(lease, "lease"), self._attempts(max_attempts))
        seconds = micros_of(poll, "poll") / 1_000_000
        if isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch < 1:
            raise ValidationError(f"prefetch is a number of messages, 1 or more, not {prefetch!r}")
        places = self._places(queue)
        places[0].tables.require_tickets()
        holder = Holder(wish, desk_of(places), self._unit, self._outside)
        return Consumer(holder, wait=bool(wait), prefetch=prefetch, poll=seconds)

    def dead(self, *queue: object, after: UUID | None = None, limit: int | None = None) -> Messages[Q]:
        """Answer a queue's dead letters: messages that were handed out ``max_attempts`` times, and never acknowledged.

        ``await ...dead("queue-1").delete()`` removes them, :meth:`redrive` takes them back.
        """
        check_limit(limit)
        letters: _Beside[Q] = _Beside(self, self._schema.companions[1])

        def ranges() -> Sequence[Range[Q]]:
            return self._ranges(queue, letters, after=after, limit=limit)

        ranges()
        return Messages(ranges, limit)

    async def redrive(self, *queue: object, limit: int | None = None) -> int:
        """Take dead letters back into their queue, the oldest first, with no attempts counted; answer how many.

        Args:
            queue: The values of the partition fields.
            limit: How many at the most.

        Raises:
            Unsupported: Inside a unit of work.
        """
        check_limit(limit)
        revived = 0
        for place in self._places(queue, outside_for="redrive()"):
            revived += await redrive(place, None if limit is None else limit - revived)
        return revived

    async def purge(self, *queue: object, older_than: Span | datetime) -> int:
        """Remove old messages, whoever works them, and answer how many; not atomic. Dead letters stay.

        Args:
            queue: The values of the partition fields.
            older_than: Their age, in seconds or as a timedelta, or the moment before which they were put.

        Raises:
            BatchError: Some could not be removed.
            Unsupported: Inside a unit of work.
        """
        places = self._places(queue, outside_for="purge()")
        if isinstance(older_than, datetime):
            before = moment_of(older_than, "older_than")
        else:
            before = places[0].tables.now() - micros_of(older_than, "older_than")
        return sum([await purge(place, before) for place in places])

    # --- what would make records without tickets ----------------------------------------------------------------------

    async def create(
        self,
        obj: Q,
        *,
        expires_in: timedelta | None | Keep = KEEP,
        expires_at: datetime | None | Keep = KEEP,
    ) -> Q:
        """Refused: :meth:`put` makes messages."""
        raise self._not_put()

    async def save(
        self,
        obj: Q,
        *,
        force: bool = False,
        if_version: str | None = None,
        expires_in: timedelta | None | Keep = KEEP,
        expires_at: datetime | None | Keep = KEEP,
    ) -> Q:
        """Replace a message that was loaded, whatever its place in the queue; :meth:`put` makes new ones."""
        if get_state(obj) is None or force:
            raise self._not_put()
        return await super().save(obj, if_version=if_version, expires_in=expires_in, expires_at=expires_at)

    async def save_many(self, objs: Iterable[Q] | AsyncIterable[Q]) -> int:
        """Refused: :meth:`put_many` makes messages."""
        raise self._not_put()

    def _locate(self, obj: Q) -> tuple[Bound[Q], Key]:
        """Find the table and the key for a unit of work or a batch, which take loaded messages only."""
        if get_state(obj) is None:
            raise self._not_put()
        return super()._locate(obj)

    def _not_put(self) -> Unsupported:
        return Unsupported(
            "a new message needs a place in its queue: use objects.put(message) or put_many(messages), also in a unit "
            "of work",
            table=self._schema.name,
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """How many values name a queue."""
        is_sharded = self._schema.own_options.get("shards", 1) != 1
        return self._schema.partition_count - is_sharded

    def _attempts(self, given: int | None | Keep) -> int | None:
        if given is KEEP:
            most = self._schema.own_options.get("max_attempts", _MAX_ATTEMPTS)
            assert most is None or isinstance(most, int)
            return most
        if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            raise ValidationError(f"max_attempts is a number of attempts, 1 or more, or None, not {given!r}")
        return given

    def _putter(self) -> tuple[Putter, UnitOfWork | None]:
        database, unit = self._home()
        return Putter(database, self._schema), unit

    def _places(self, queue: tuple[object, ...], outside_for: str | None = None) -> list[Place]:
        """Find the partitions of a queue; ``outside_for`` names what can't be part of a unit of work."""
        database, unit = self._home()
        if unit is not None and outside_for is not None:
            raise not_in_unit(outside_for)
        return places_of(tables_of(database, self._schema), self._schema, queue)

    def _ranges(
        self, queue: tuple[object, ...], where: Repository[Q, *tuple[Any, ...]] | None = None, **bounds: Any
    ) -> list[Range[Q]]:
        """Answer a range for each partition of a queue."""
        repository = self if where is None else where
        if self._schema.own_options.get("shards", 1) == 1:
            return [repository.range(*queue, **bounds)]
        return [repository.range(*queue, *key[len(queue) :], **bounds) for key in partitions_of(self._schema, queue)]


class _Beside(Repository[Q, *tuple[Any, ...]]):
    """The queries of another table of the same model, in the same database as another repository."""

    def __init__(self, owner: QueueRepository[Q, *tuple[Any, ...]], schema: Schema) -> None:
        super().__init__(owner.model)
        self._owner = owner
        self._schema = schema

    def _home(self) -> tuple[Database, UnitOfWork | None]:
        return self._owner._home()
