"""Measurements in an Elevator: models, the newest first, over a store that can neither compare nor read backwards.

    python examples/elevator_timeseries.py [URL]

Without a URL it starts the emulator. The records live in a namespace of their own and are removed at the end.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone

import kvmodel as kv
from kvmodel.testing.elevator import ElevatorServer

MIDNIGHT = datetime(2031, 5, 1, tzinfo=timezone.utc)


class Reading(kv.Model, table="readings"):
    """What a sensor measured. The store reads forwards only, so the newest is the first."""

    sensor: str = kv.partition_key()
    at: datetime = kv.clustering_key(descending=True)
    celsius: float = 0.0


class Sensor(kv.Model, table="sensors"):
    """Where a sensor is, and what it said last."""

    name: str = kv.partition_key()
    place: str = ""
    latest: float | None = None


def celsius(minute: int) -> float:
    """A day that is cold at midnight and warm at noon."""
    return 8 + round(10 * (1 - abs(minute - 720) / 720), 1)


async def write(db: kv.Database) -> None:
    """Many records at once in batches; those that belong together in one, which is atomic."""
    count = await Reading.objects.save_many(
        Reading("roof", MIDNIGHT + timedelta(minutes=minute), celsius(minute)) for minute in range(0, 1440, 5)
    )
    print("written:          ", count)

    now = MIDNIGHT + timedelta(days=1)
    async with db.unit_of_work() as uow:
        uow.put(Reading("roof", now, 8.5), Sensor("roof", "north side", latest=8.5))
    print("together:         ", await Sensor.objects.get("roof"))


async def read() -> None:
    """Pieces of one sensor's day, page by page, and a few of them."""
    newest = await Reading.objects.range("roof", limit=3)
    print("newest three:     ", [f"{reading.at:%H:%M} {reading.celsius}" for reading in newest])

    noon = MIDNIGHT + timedelta(hours=12)
    around = Reading.objects.range("roof", first=noon + timedelta(minutes=10), last=noon - timedelta(minutes=10))
    print("around noon:      ", [reading.celsius async for reading in around])

    warmest = max([reading async for reading in Reading.objects.range("roof")], key=lambda reading: reading.celsius)
    print("warmest:          ", f"{warmest.at:%H:%M} {warmest.celsius}")
    print("in all:           ", await Reading.objects.range("roof").count())


async def refused() -> None:
    """What this store cannot do is refused, with the way out."""
    try:
        await Sensor.objects.create(Sensor("roof"))
    except kv.Unsupported as error:
        print("create:           ", error.message)
    try:
        await Reading.objects.range("roof", reverse=True)
    except kv.Unsupported as error:
        print("backwards:        ", error.message)
    sensor = await Sensor.objects.get("roof")
    sensor.place = "south side"
    await Sensor.objects.save(sensor, force=True)
    print("forced:           ", await Sensor.objects.get("roof"))


async def main(url: str) -> None:
    """Show all of it."""
    async with kv.connect(url, namespace="timeseries-example") as db:
        try:
            await write(db)
            await read()
            await refused()
        finally:
            print("removed:          ", await Reading.objects.scan().delete() + await Sensor.objects.scan().delete())


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else None
    with nullcontext() if given else ElevatorServer() as server:
        asyncio.run(main(given or server.url))  # type: ignore[union-attr]
