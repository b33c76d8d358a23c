"""Queues that are given what is none of theirs."""

from __future__ import annotations

from tests.typing.right.queues import Event, Job


async def messages(event: Event, job: Job) -> None:
    """Messages of another model, and fields that are not given like that."""
    Event("q", "data", job.id)  # refused: call-arg / reportCallIssue
    Job("q", "large")  # refused: arg-type / reportArgumentType
    job.size = 3  # refused: misc / reportAttributeAccessIssue
    await Event.objects.put(job)  # refused: arg-type / reportArgumentType
    await Event.objects.put_many([event, job])  # refused: list-item / reportArgumentType


async def queries() -> None:
    """Keys, bounds and spans that are none, and items that are taken for something else."""
    await Job.objects.get("q", "id")  # refused: arg-type / reportArgumentType
    Event.objects.consume("q", lease="30")  # refused: arg-type / reportArgumentType
    Event.objects.read("q", after="id")  # refused: arg-type / reportArgumentType
    async for message in Event.objects.consume("q"):
        print(message.data)  # refused: attr-defined / reportAttributeAccessIssue
        await message.extend("60")  # refused: arg-type / reportArgumentType
