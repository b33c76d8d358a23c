"""The manual of Elevator's first client, done again: databases, single keys, ranges, slices, batches.

    python examples/elevator_tour.py [URL]

Without a URL it starts the emulator. The database `tour` is made, and dropped at the end.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext

import kvmodel as kv
from kvmodel.drivers.elevator import ElevatorClient
from kvmodel.testing.elevator import ElevatorServer


async def databases(client: ElevatorClient) -> None:
    """A server holds databases. A client works on one of them, `default` at first."""
    print("connected to:    ", client.db_name)
    await client.createdb("tour")
    print("tour is listed:  ", "tour" in await client.listdb())
    await client.connect("tour")
    print("connected to:    ", client.db_name)
    await client.ping()


async def single_keys(client: ElevatorClient) -> None:
    """Keys and values are bytes; text goes out as UTF-8."""
    await client.put("1", "a")
    print("get:             ", await client.get("1"))
    await client.put("2", "")
    print("an empty value:  ", await client.get("2"))
    print("mget:            ", await client.mget(["1", "2", "nope"]))
    await client.delete("1")
    print("exists:          ", await client.exists("1"))
    try:
        await client.get("1")
    except kv.NotFound as error:
        print("get, absent:     ", error.message)
        print("the server said: ", error.__cause__)


async def batches(client: ElevatorClient) -> None:
    """All of a batch is done, or nothing of it: written by hand, or by a block that ends well."""
    batch = client.write_batch()
    for number in range(1, 6):
        batch.put(f"{number}", f"value {number}")
    await batch.write()

    async with client.write_batch() as batch:
        for number in range(6, 10):
            batch.put(f"{number}", f"value {number}")
        batch.delete("never there")

    try:
        async with client.write_batch() as batch:
            batch.put("9", "changed")
            raise RuntimeError("something went wrong")
    except RuntimeError:
        print("9 is still:      ", await client.get("9"))


async def ranges(client: ElevatorClient) -> None:
    """A range has a first and a last key, a slice a first key and a number; both keep the order of bytes."""
    rows = await client.range("1", "9")
    print("range 1 to 9:    ", [value.decode() for _, value in rows])
    print("range, 2 rows:   ", await client.range("1", 2))
    print("keys alone:      ", await client.range("7", "9", include_value=False))
    print("slice:           ", await client.slice("8", 5))
    async for key, value in client.range_iter("3", "5", page=2):
        print("range_iter:      ", key, value)


async def main(url: str) -> None:
    """Show all of it."""
    async with kv.connect(url) as db:
        client = db.native
        assert isinstance(client, ElevatorClient)
        await databases(client)
        try:
            await single_keys(client)
            await batches(client)
            await ranges(client)
        finally:
            await client.connect("default")
            await client.dropdb("tour")
        print("tour is listed:  ", "tour" in await client.listdb())


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else None
    with nullcontext() if given else ElevatorServer() as server:
        asyncio.run(main(given or server.url))  # type: ignore[union-attr]
