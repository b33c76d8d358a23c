"""Queues: putting, reading, working."""

from __future__ import annotations

from typing import assert_type
from uuid import UUID

import kvmodel as kv
from kvmodel.queue import Consumer, Message, Messages


class Event(kv.QueueModel, table="typed_events", shards=2, max_attempts=None):
    """Names no key types."""

    queue: str = kv.partition_key()
    data: str = ""


class Job(kv.QueueModel[str, UUID], table="typed_jobs", frozen=True):
    """Names its key types: keys are checked."""

    queue: str = kv.partition_key()
    size: int


async def queues(db: kv.Database, job: Job) -> None:
    """What is right, and what comes of it."""
    assert_type(await Event.objects.put(Event("q", "data"), delay=1), Event)
    assert_type(await Event.objects.using(db).put_many([Event("q")]), int)
    assert_type(Event("q", id=job.id).id, UUID)
    assert_type(job.shard, int)
    assert_type(Event.objects.read("q"), Messages[Event])
    assert_type(await Event.objects.read("q", after=job.id, limit=1, settle=1.0), list[Event])
    assert_type(await Event.objects.dead("q").first(), Event | None)
    assert_type(Event.objects.consume("q"), Consumer[Event])
    assert_type(await Job.objects.get("q", job.id), Job)
    async for event in Event.objects.between("q"):
        assert_type(event, Event)
    async with Job.objects.consume("q", lease=30) as consumer:
        async for message in consumer:
            assert_type(message, Message[Job])
            assert_type(message.item, Job)
            assert_type(message.attempts, int)
