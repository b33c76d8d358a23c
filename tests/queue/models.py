"""The queues of the tests, and a clock that may step back."""

from __future__ import annotations

from collections.abc import AsyncIterable
from datetime import timedelta
from typing import TypeVar

import kvmodel as kv
from kvmodel.queue import Message
from kvmodel.testing import VirtualClock

T = TypeVar("T")
Q = TypeVar("Q", bound=kv.QueueModel)

SECOND = timedelta(seconds=1)


class Event(kv.QueueModel, table="events", max_attempts=3):
    """A message like many."""

    queue: str = kv.partition_key()
    data: str = ""


class Wide(kv.QueueModel, table="wide", shards=8, max_attempts=2):
    """Spread over eight partitions."""

    queue: str = kv.partition_key()
    data: str = ""


class Order(kv.QueueModel, table="orders"):
    """Two fields name a queue."""

    shop: str = kv.partition_key()
    lane: int = kv.partition_key()
    data: str = ""


class Signal(kv.QueueModel, table="signals"):
    """One queue for the whole table."""

    data: str = ""


class Brief(kv.QueueModel, table="briefs", expires_in=timedelta(minutes=1)):
    """Messages that expire."""

    queue: str = kv.partition_key()
    data: str = ""


class Result(kv.Model, table="results"):
    """What a consumer makes of a message; in the same partition as an ``Event``."""

    queue: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0


class Clock(VirtualClock):
    """A virtual clock that somebody sets back."""

    def step_back(self, by: timedelta | float) -> None:
        """Go back by a time span, or by seconds."""
        span = by if isinstance(by, timedelta) else timedelta(seconds=by)
        self._micros -= span // timedelta(microseconds=1)


async def gather_all(stream: AsyncIterable[T]) -> list[T]:
    """Answer all that a stream gives."""
    return [each async for each in stream]


async def take(queue: str = "q", *, lease: float = 30) -> Message[Event]:
    """Take the next event."""
    return await anext(Event.objects.consume(queue, lease=lease, wait=False))


async def drain(queue: str = "q") -> list[str]:
    """Take and acknowledge all events that are due, and answer what is in them."""
    drained = []
    async for message in Event.objects.consume(queue, wait=False):
        drained.append(message.item.data)
        await message.ack()
    return drained
