"""Consumers: they take messages one after the other, and hand them to whoever iterates."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from kvmodel._queue.message import Holder, Message
from kvmodel._queue.taking import renew
from kvmodel.errors import DecodingError, KvModelError

if TYPE_CHECKING:
    from kvmodel._queue.place import Lease
    from kvmodel.queue import QueueModel

__all__ = ["Consumer"]

Q = TypeVar("Q", bound="QueueModel")


class Consumer(Generic[Q]):
    """Takes messages: ``async for message in consumer``. Made by ``objects.consume(...)``.

    Used as a block, ``async with consumer:``, it gives back at its end whatever it took that was not settled, at once
    instead of at the end of the leases, in whatever way the block ends.

    A consumer that is cancelled while it waits stops at once, and keeps nothing. Tasks may share one.

    A message that was taken ahead and whose lease ran out before its turn is leased anew for one write, with no attempt
    counted, or left to whoever has it by then.
    """

    def __init__(self, holder: Holder, *, wait: bool, prefetch: int, poll: float) -> None:
        self._holder = holder
        self._wait = wait
        self._prefetch = prefetch
        self._poll = poll
        self._ahead: deque[Lease] = deque()
        self._is_block = False
        self._held: list[Message[Q]] = []

    def __aiter__(self) -> Consumer[Q]:
        return self

    async def __anext__(self) -> Message[Q]:
        while True:
            lease = await self._next()
            if lease.is_over:
                renewed = await renew(lease, self._holder.wish.lease)
                if renewed is None:
                    continue
                lease = renewed
            return self._message(lease)

    async def _next(self) -> Lease:
        """Answer what was taken first, and take more if nothing is left of that."""
        desk = self._holder.desk
        while not self._ahead:
            changes = desk.changes
            self._ahead += await desk.take(self._prefetch, self._holder.wish)
            if self._ahead:
                break
            if not self._wait:
                raise StopAsyncIteration
            await desk.wait(changes, await desk.patience(self._poll))
        return self._ahead.popleft()

    async def __aenter__(self) -> Consumer[Q]:
        self._is_block = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back what was taken ahead, and what was handed out inside the block and is not settled."""
        ahead, self._ahead = self._ahead, deque()
        held, self._held = self._held, []
        await self._holder.desk.give_back(ahead)
        for message in held:
            if message._is_in_hand():
                with suppress(KvModelError):  # Its lease runs out by itself.
                    await message.nack()

    def _message(self, lease: Lease) -> Message[Q]:
        if isinstance(lease.row, DecodingError):
            raise lease.row
        message: Message[Q] = Message(lease.place.tables.messages.load(lease.row), lease, self._holder)
        if self._is_block:
            self._held = [each for each in self._held if not each._settled]
            self._held.append(message)
        return message
