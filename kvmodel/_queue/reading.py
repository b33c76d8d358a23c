"""Reading a queue like a log: one range for each of its partitions, merged in the order of ids."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from kvmodel.errors import ValidationError

if TYPE_CHECKING:
    from uuid import UUID

    from kvmodel.query import Range
    from kvmodel.queue import QueueModel

__all__ = ["Messages"]

Q = TypeVar("Q", bound="QueueModel")


class Messages(Generic[Q]):
    """Messages of one queue, oldest first. Nothing is sent before it is awaited or iterated.

    ``await`` answers a list; ``async for`` streams page by page.
    """

    __slots__ = ("_limit", "_ranges")

    def __init__(self, ranges: Callable[[], Sequence[Range[Q]]], limit: int | None) -> None:
        self._ranges = ranges
        self._limit = limit

    def __await__(self) -> Generator[object, None, list[Q]]:
        return self._list().__await__()

    async def _list(self) -> list[Q]:
        found = [await each for each in self._ranges()]
        return list(heapq.merge(*found, key=_id))[: self._limit]

    async def __aiter__(self) -> AsyncIterator[Q]:
        left = self._limit
        async for message in _merged([aiter(each) for each in self._ranges()]):
            if left is not None:
                if not left:
                    return
                left -= 1
            yield message

    async def first(self) -> Q | None:
        """Answer the oldest, or ``None``."""
        if self._limit == 0:
            return None
        found = [message for each in self._ranges() if (message := await each.first()) is not None]
        return min(found, key=_id, default=None)

    async def count(self) -> int:
        """Count them; no more than the limit.

        Raises:
            Unsupported: Inside a unit of work, which could not vouch for the number.
        """
        total = sum([await each.count() for each in self._ranges()])
        return total if self._limit is None else min(total, self._limit)

    async def delete(self) -> int:
        """Remove all of them, page by page, and answer how many.

        Raises:
            BatchError: Some could not be removed.
            Unsupported: Inside a unit of work.
            ValidationError: A limit was given: it could not be kept.
        """
        if self._limit is not None:
            raise ValidationError("delete() removes all that is between the bounds: leave limit= out")
        return sum([await each.delete() for each in self._ranges()])


def _id(message: QueueModel) -> UUID:
    return message.id


async def _merged(streams: Sequence[AsyncIterator[Q]]) -> AsyncIterator[Q]:
    """Yield from several streams what has the lowest id."""
    heads: list[tuple[UUID, int, Q]] = []
    for number, stream in enumerate(streams):
        head = await anext(stream, None)
        if head is not None:
            heads.append((head.id, number, head))
    heapq.heapify(heads)
    while heads:
        _, number, message = heads[0]
        yield message
        following = await anext(streams[number], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following.id, number, following))
