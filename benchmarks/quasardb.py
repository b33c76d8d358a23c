"""What the hop into a worker process costs, for calls that the library carries out in no time.

    python -m benchmarks.quasardb [--quick] [--json FILE]

The other side is what stands in for the vendor's package, called in this very process, as one would do by hand: it
holds up the event loop for as long as the cluster takes. Both reach the same store, in a process of its own on
loopback. What is measured is therefore the way from a task to a worker and back, with all checks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import kvmodel as kv
from benchmarks.measure import Comparison, compare
from kvmodel.drivers.quasardb import QuasardbClient
from kvmodel.testing.quasardb import served

SIZES = (100, 10_000, 1_000_000)


class Item(kv.Model, table="bench_items"):
    """A small record."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str = ""


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The address of a store in a process of its own."""
    command = [sys.executable, "-m", "kvmodel.testing.quasardb"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it takes no time
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        yield line.removeprefix("ready qdb://").partition("?")[0]
    finally:
        process.terminate()
        process.communicate()


async def compare_hops(address: str, count: int, rounds: int) -> list[Comparison]:
    """One call after the other: in this process, and through a worker."""
    hand = served.Cluster(f"qdb://{address}")
    found = []
    async with QuasardbClient(address, library=served.__name__, workers=1) as client:
        for size in SIZES:
            times = max(count // (1 + size // 5000), 5)
            key, data = f"bench{size}", b"x" * size
            hand.blob(key).update(data)  # type: ignore[arg-type]  # typed for str, takes bytes, as the package's
            for name, by_hand, ours in _pairs(hand, client, key, data, times):
                found.append(await compare(f"{name} {size:,} bytes", by_hand, ours, operations=times, rounds=rounds))
    hand.close()
    return found


Side = Callable[[], Awaitable[None]]


def _pairs(
    hand: served.Cluster, client: QuasardbClient, key: str, data: bytes, times: int
) -> list[tuple[str, Side, Side]]:
    async def hand_gets() -> None:
        for _ in range(times):
            hand.blob(key).get()

    async def gets() -> None:
        for _ in range(times):
            await client.get(key)

    async def hand_updates() -> None:
        for _ in range(times):
            hand.blob(key).update(data)  # type: ignore[arg-type]  # typed for str, takes bytes, as the package's

    async def updates() -> None:
        for _ in range(times):
            await client.update(key, data)

    return [("get", hand_gets, gets), ("update", hand_updates, updates)]


async def compare_many(address: str, count: int, rounds: int) -> list[Comparison]:
    """Many keys at once: one message to a worker carries many calls."""
    hand = served.Cluster(f"qdb://{address}")
    keys = [f"many{number}" for number in range(count)]
    for key in keys:
        hand.blob(key).update(b"x" * 100)  # type: ignore[arg-type]  # typed for str, takes bytes, as the package's

    async def hand_gets() -> None:
        for key in keys:
            hand.blob(key).get()

    found = []
    for workers in (1, 2, 4):
        async with QuasardbClient(address, library=served.__name__, workers=workers) as client:
            await client.get_many(keys)

            async def gets(client: QuasardbClient = client) -> None:
                await client.get_many(keys)

            name = f"get_many, {workers} workers"
            found.append(await compare(name, hand_gets, gets, operations=len(keys), rounds=rounds))
    hand.close()
    return found


async def time_starts(address: str, rounds: int) -> dict[str, float]:
    """How long it takes to start a worker and connect, in milliseconds."""
    found = {}
    for name, library in (("stand-in", served.__name__), ("quasardb", "quasardb")):
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            client = QuasardbClient(address, library=library, workers=1)
            with suppress(kv.KvModelError):  # The real package finds no server of its own there, but has tried.
                await client.open()
            times.append(time.perf_counter() - began)
            await client.close()
        found[name] = min(times) * 1000
    return found


async def compare_mapper(address: str, count: int, rounds: int) -> list[Comparison]:
    """Records: checked and typed, against contents as they are."""
    hand = served.Cluster(f"qdb://{address}")
    url = f"qdb://{address}?library={served.__name__}"
    names = [f"{number:05}" for number in range(count)]
    async with kv.connect(url, timeout=60) as db:
        items = Item.objects.using(db)
        await items.save_many(Item("s", name, 0, "x" * 100) for name in names)
        aliases = [f"kv  bench_items s {name} " for name in names]

        async def hand_gets() -> None:
            for alias in aliases:
                hand.blob(alias).get()

        async def hand_range() -> None:
            for alias in sorted(hand.prefix_get("kv  bench_items s ", 100_000)):
                hand.blob(alias).get()

        async def gets() -> None:
            for name in names:
                await items.get("s", name)

        async def whole() -> None:
            assert len(await items.range("s")) == count

        sides = [("Item.objects.get", hand_gets, gets), ("a range, each record", hand_range, whole)]
        found = [await compare(name, by_hand, ours, operations=count, rounds=rounds) for name, by_hand, ours in sides]
    hand.close()
    return found


async def run(*, quick: bool, results: Path | None) -> None:
    """Measure, print, and write down."""
    count, rounds = (200, 3) if quick else (2_000, 7)
    async with serving() as address:
        print(f"{'operation':<28}{'in process µs':>15}{'worker µs':>12}{'more µs':>10}")
        comparisons: list[Comparison] = []
        for measure in (compare_hops, compare_many, compare_mapper):
            for found in await measure(address, count, rounds):
                comparisons.append(found)
                more = found.kvmodel - found.floor
                print(f"{found.name:<28}{found.floor:>15.1f}{found.kvmodel:>12.1f}{more:>10.1f}", flush=True)
        starts = await time_starts(address, 3 if quick else 10)
        for name, milliseconds in starts.items():
            print(f"start a worker, {name}: {milliseconds:.0f} ms")
    if results is not None:
        document = {
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "quick": quick,
            "microseconds": {
                each.name: {"in process": round(each.floor, 1), "worker": round(each.kvmodel, 1)}
                for each in comparisons
            },
            "start milliseconds": {name: round(value, 1) for name, value in starts.items()},
        }
        await asyncio.to_thread(results.write_text, json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quasardb", description="Measure the hop to a worker.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--json", type=Path, help="where to write the figures, as JSON")
    chosen = parser.parse_args(arguments)
    asyncio.run(run(quick=chosen.quick, results=chosen.json))


if __name__ == "__main__":
    main()
