"""Elevator: our client and our models beside a few lines of pyzmq by hand, on the emulator in a process of its own.

python -m benchmarks.elevator [--quick] [--url URL] [--json FILE]

The emulator is Python too, and one thread: what it takes is in every figure, and is shown in a line of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgpack
import zmq
import zmq.asyncio

import kvmodel as kv
from benchmarks.measure import Comparison, compare, seconds_of
from benchmarks.run import line, print_comparisons, title
from kvmodel.drivers.elevator import ElevatorClient

RESULTS = Path(__file__).parent / "results" / "elevator.json"

CROWD = 100
BATCH = 1000


class Sample(kv.Model, table="samples"):
    """What is written and read."""

    series: str = kv.partition_key()
    name: str = kv.clustering_key()
    value: bytes = b""


class ByHand:
    """What one writes first: a socket, msgpack, and the hope that answers come in the order of requests."""

    def __init__(self, context: zmq.asyncio.Context, endpoint: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self.uid: bytes | None = None

    async def ask(self, command: bytes, *args: Any) -> Any:
        request = {b"cmd": command, b"uid": self.uid, b"args": args, b"meta": {b"compression": False}}
        await self.socket.send(msgpack.packb(request, use_bin_type=False))
        header, content = await self.socket.recv_multipart()
        if msgpack.unpackb(header, raw=True)[b"status"] == -1:
            raise RuntimeError(header)
        return msgpack.unpackb(content, raw=True)[b"datas"]

    async def open(self) -> None:
        (self.uid,) = await self.ask(b"DBCONNECT", b"default")


@asynccontextmanager
async def by_hand(endpoint: str, count: int) -> AsyncIterator[list[ByHand]]:
    """So many sockets, each connected."""
    context = zmq.asyncio.Context()
    clients = [ByHand(context, endpoint) for _ in range(count)]
    try:
        for client in clients:
            await client.open()
        yield clients
    finally:
        context.destroy(linger=0)


async def measure(url: str, *, quick: bool) -> dict[str, object]:
    """Measure everything, printing on the way."""
    rounds, count = (3, 300) if quick else (9, 2000)
    async with kv.connect(url) as db, by_hand(f"tcp://{urlsplit(url).netloc}", 8) as sockets:
        client = db.native
        assert isinstance(client, ElevatorClient)
        # A database that holds others' data first is refused for models.
        await Sample.objects.using(db.namespace("bench")).save(Sample("s", "first"))
        found = [
            *await sequential(sockets, client, count, rounds),
            await crowd(sockets, client, count, rounds),
            await batch(sockets, client, rounds),
            *await models(sockets, db, count, rounds),
        ]
        print_comparisons(found)
        title("the way there and back alone")
        ping = await seconds_of(lambda: pings(client, count)) / count * 1e6
        line("PING, microseconds", ping)
        return {
            "quick": quick,
            "python": sys.version,
            "platform": platform.platform(),
            "comparisons": [attrs.asdict(comparison) for comparison in found],
            "ping": ping,
        }


async def sequential(sockets: Sequence[ByHand], client: ElevatorClient, count: int, rounds: int) -> list[Comparison]:
    """One after the other."""
    hand = sockets[0]

    async def put_by_hand() -> None:
        for number in range(count):
            await hand.ask(b"PUT", b"key %d" % number, b"x" * 100)

    async def put() -> None:
        for number in range(count):
            await client.put(b"key %d" % number, b"x" * 100)

    async def get_by_hand() -> None:
        for number in range(count):
            await hand.ask(b"GET", b"key %d" % number)

    async def get() -> None:
        for number in range(count):
            await client.get(b"key %d" % number)

    return [
        await compare("put", put_by_hand, put, operations=count, rounds=rounds),
        await compare("get", get_by_hand, get, operations=count, rounds=rounds),
    ]


async def crowd(sockets: Sequence[ByHand], client: ElevatorClient, count: int, rounds: int) -> Comparison:
    """A hundred tasks over eight sockets."""

    async def hand_task(number: int, free: asyncio.Queue[ByHand]) -> None:
        for each in range(number, count, CROWD):
            hand = await free.get()
            await hand.ask(b"GET", b"key %d" % each)
            free.put_nowait(hand)

    async def task(number: int) -> None:
        for each in range(number, count, CROWD):
            await client.get(b"key %d" % each)

    async def all_by_hand() -> None:
        free: asyncio.Queue[ByHand] = asyncio.Queue()
        for hand in sockets:
            free.put_nowait(hand)
        await asyncio.gather(*(hand_task(number, free) for number in range(CROWD)))

    async def everything() -> None:
        await asyncio.gather(*(task(number) for number in range(CROWD)))

    return await compare("get, 100 at once", all_by_hand, everything, operations=count, rounds=rounds)


async def batch(sockets: Sequence[ByHand], client: ElevatorClient, rounds: int) -> Comparison:
    """A thousand puts in one request."""

    async def by_hand_too() -> None:
        operations = [(1, b"batch %d" % number, b"x" * 100) for number in range(BATCH)]
        await sockets[0].ask(b"BATCH", operations)

    async def ours() -> None:
        async with client.write_batch() as writes:
            for number in range(BATCH):
                writes.put(b"batch %d" % number, b"x" * 100)

    return await compare("batch of 1,000, each", by_hand_too, ours, operations=BATCH, rounds=rounds * 3)


async def models(sockets: Sequence[ByHand], db: kv.Database, count: int, rounds: int) -> list[Comparison]:
    """Typed objects, against bytes by hand."""
    samples = Sample.objects.using(db.namespace("bench"))

    async def save_by_hand() -> None:
        await sockets[0].ask(b"BATCH", [(1, b"batch %d" % number, b"x" * 100) for number in range(BATCH)])

    async def save() -> None:
        await samples.save_many(Sample("s", f"{number:06}", b"x" * 100) for number in range(BATCH))

    async def get_by_hand() -> None:
        for number in range(count):
            await sockets[0].ask(b"GET", b"batch %d" % (number % BATCH))

    async def get() -> None:
        for number in range(count):
            await samples.get("s", f"{number % BATCH:06}")

    try:
        return [
            await compare("save_many, each", save_by_hand, save, operations=BATCH, rounds=rounds * 3),
            await compare("get of a model", get_by_hand, get, operations=count, rounds=rounds),
        ]
    finally:
        await samples.scan().delete()


async def pings(client: ElevatorClient, count: int) -> None:
    """What costs nothing but the way."""
    for _ in range(count):
        await client.ping()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, on a database that holds nothing else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elevator", description="Measure the Elevator driver.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--url", help="a server that runs already; its default database is written to")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    chosen = parser.parse_args(arguments)
    figures = measured(chosen.url, quick=chosen.quick)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {chosen.json}")


def measured(url: str | None, *, quick: bool) -> dict[str, object]:
    """Measure a server, or the emulator, which is started for that."""
    if url:
        return asyncio.run(measure(url, quick=quick))
    command = [sys.executable, "-m", "kvmodel.testing.elevator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout is not None
        try:
            return asyncio.run(measure(emulator.stdout.readline().removeprefix("ready ").strip(), quick=quick))
        finally:
            emulator.terminate()


if __name__ == "__main__":
    main()
