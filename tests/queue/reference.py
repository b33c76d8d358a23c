"""What a queue should do, as plain Python: a list, and the rules of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import attrs

__all__ = ["PlainLease", "PlainQueue"]


@attrs.define(eq=False)
class PlainLease:
    """Somebody holds a message, or once did. ``is_gone`` says that the message was removed under its hands."""

    id: UUID
    attempts: int
    is_gone: bool = False


@attrs.define(eq=False)
class PlainMessage:
    """A message; ``due`` is 0 or the moment from which it can be taken."""

    id: UUID
    data: str
    due: int
    attempts: int = 0
    lease: PlainLease | None = None


class PlainQueue:
    """One queue.

    Args:
        now: The clock of the database.
        time_of: The moment that an id carries.
    """

    def __init__(self, now: Callable[[], int], time_of: Callable[[UUID], int]) -> None:
        self._now = now
        self._time_of = time_of
        self.messages: dict[UUID, PlainMessage] = {}
        self.dead: dict[UUID, str] = {}
        self.last_id: UUID | None = None

    # --- putting and reading ---

    def put(self, id: UUID, data: str, delay: int = 0) -> None:
        """Put a message; ids only grow."""
        assert self.last_id is None or id > self.last_id
        self.last_id = id
        self.messages[id] = PlainMessage(id, data, self._now() + delay if delay else 0)

    def read(self, after: UUID | None = None) -> list[UUID]:
        """All that are not done, in order, whoever works them."""
        return sorted(id for id in self.messages if after is None or id > after)

    def between(self, start: int, end: int) -> list[UUID]:
        """Those that were put from one moment on and before another."""
        return [id for id in self.read() if start <= self._time_of(id) < end]

    # --- consuming ---

    def due(self) -> list[PlainMessage]:
        """What can be taken: first what became due by the clock, then by id what needs none."""
        timed = [each for each in self.messages.values() if 0 < each.due <= self._now()]
        ready = [each for each in self.messages.values() if each.due == 0]
        return sorted(timed, key=lambda each: (each.due, each.id)) + sorted(ready, key=lambda each: each.id)

    def take(self, count: int, lease: int, max_attempts: int | None) -> Iterator[PlainLease]:
        """Take messages, and bury what had its attempts."""
        for message in self.due():
            if not count:
                return
            if max_attempts is not None and message.attempts >= max_attempts:
                self._bury(message)
            else:
                count -= 1
                yield self.lease(message, lease)

    def lease(self, message: PlainMessage, lease: int) -> PlainLease:
        """Give a message to somebody."""
        message.attempts += 1
        message.due = self._now() + lease
        message.lease = PlainLease(message.id, message.attempts)
        return message.lease

    def held(self, lease: PlainLease) -> PlainMessage | None:
        """The message of a lease, unless it is somebody else's by now."""
        message = self.messages.get(lease.id)
        return message if message is not None and message.lease is lease else None

    def ack(self, message: PlainMessage) -> None:
        """It is done."""
        del self.messages[message.id]

    def nack(self, message: PlainMessage, delay: int, max_attempts: int | None) -> None:
        """It comes back, or dies."""
        message.lease = None
        if max_attempts is not None and message.attempts >= max_attempts:
            self._bury(message)
        else:
            message.due = self._now() + delay if delay else 0

    def untake(self, message: PlainMessage, origin: int) -> None:
        """It was never handed out."""
        message.lease = None
        message.attempts -= 1
        message.due = origin

    def extend(self, message: PlainMessage, lease: int) -> None:
        """It is held for longer."""
        message.due = self._now() + lease

    def _bury(self, message: PlainMessage) -> None:
        self.dead[message.id] = message.data
        del self.messages[message.id]

    # --- as a whole ---

    def remove(self, id: UUID) -> None:
        """It goes, whoever holds it."""
        message = self.messages.pop(id)
        if message.lease is not None:
            message.lease.is_gone = True

    def redrive(self, limit: int | None) -> int:
        """Dead letters come back, the oldest first."""
        back = sorted(self.dead)[:limit]
        for id in back:
            self.messages[id] = PlainMessage(id, self.dead.pop(id), 0)
        return len(back)
