"""The same operations of the mapper on every engine that examples/one_program.py runs on.

python -m benchmarks.outgrowing            a minute or two; servers are started on loopback, and ended
python -m benchmarks.outgrowing --quick    small sizes

All engines write to the same disk and wait for it (etcd on three nodes: a majority of them does); servers and program
share one machine, so that no network is in the figures. Each is the best of some rounds, as these are about what an
engine takes and not about what else the machine did. They are kept as JSON and printed as a table.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import kvmodel as kv
from benchmarks.etcd import Item
from benchmarks.measure import keep

RESULTS = Path(__file__).parent / "results" / "outgrowing.json"

ENGINES = {
    "lmdb": [],
    "redis": ["kvmodel.testing.redis"],
    "redis+cluster": ["kvmodel.testing.redis", "--cluster"],
    "etcd, 1 node": ["kvmodel.testing.etcd"],
    "etcd, 3 nodes": ["kvmodel.testing.etcd", "--nodes", "3"],
}
Operation = Callable[[kv.Database, Sequence[str]], Awaitable[None]]


async def gets(db: kv.Database, names: Sequence[str]) -> None:
    """One after the other."""
    for name in names:
        await Item.objects.get("s", name)


async def crowd_gets(db: kv.Database, names: Sequence[str]) -> None:
    """A hundred tasks at a time."""
    for at in range(0, len(names), 100):
        await asyncio.gather(*(Item.objects.get("s", name) for name in names[at : at + 100]))


async def ranges(db: kv.Database, names: Sequence[str]) -> None:
    """A hundred records at a time."""
    for at in range(0, len(names), 100):
        assert len(await Item.objects.range("s", first=names[at], limit=100)) == 100


async def saves(db: kv.Database, names: Sequence[str]) -> None:
    """One after the other."""
    for name in names:
        await Item.objects.save(Item("s", name, 1, "x" * 300))


async def crowd_saves(db: kv.Database, names: Sequence[str]) -> None:
    """A hundred tasks at a time."""
    for at in range(0, len(names), 100):
        await asyncio.gather(*(Item.objects.save(Item("s", name, 1, "x" * 300)) for name in names[at : at + 100]))


async def bulk(db: kv.Database, names: Sequence[str]) -> None:
    """As few requests as can be."""
    await Item.objects.save_many(Item("s", name, 1, "x" * 300) for name in names)


async def updates(db: kv.Database, names: Sequence[str]) -> None:
    """Read, change, replace."""
    for name in names:
        await Item.objects.update("s", name, count=lambda count: count + 1)


async def units(db: kv.Database, names: Sequence[str]) -> None:
    """Two records of one partition in each, read and changed."""
    for at in range(len(names) - 1):
        async with db.unit_of_work():
            for item in await Item.objects.get_many([("s", name) for name in names[at : at + 2]]):
                assert item is not None
                item.count += 1


OPERATIONS: dict[str, Operation] = {
    "`get`": gets,
    "`get`, 100 tasks": crowd_gets,
    "range of 100, each": ranges,
    "`save`": saves,
    "`save`, 100 tasks": crowd_saves,
    "`save_many`, each": bulk,
    "`update`": updates,
    "unit of 2 records": units,
}


@contextmanager
def served(engine: str, folder: str) -> Iterator[str]:
    """The URL of an engine: a file, or a server in a process of its own."""
    if not ENGINES[engine]:
        yield f"lmdb://{folder}/data"
        return
    with subprocess.Popen([sys.executable, "-m", *ENGINES[engine]], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("ready ").strip()
        finally:
            process.terminate()


async def measure(url: str, count: int, rounds: int) -> dict[str, float]:
    """Answer the microseconds of each operation, in its best round."""
    names = [f"{number:06}" for number in range(count)]
    async with kv.connect(url, timeout=60, namespace="bench") as db:
        await bulk(db, names)
        found = {}
        for name, operation in OPERATIONS.items():
            seconds = []
            for _ in range(rounds + 1):
                start = time.perf_counter()
                await operation(db, names)
                seconds.append(time.perf_counter() - start)
            found[name] = round(min(seconds[1:]) / count * 1e6, 1)
        await Item.objects.range("s").delete()
    return found


def run(*, quick: bool) -> dict[str, dict[str, float]]:
    """Measure all engines."""
    count, rounds = (200, 1) if quick else (500, 7)
    figures = {}
    for engine in ENGINES:
        with tempfile.TemporaryDirectory() as folder, served(engine, folder) as url:
            figures[engine] = asyncio.run(measure(url, count, rounds))
            print(engine, figures[engine], flush=True)
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    """Answer the figures as a Markdown table."""
    lines = [["µs", *figures], ["---"] * (len(figures) + 1)]
    lines += [[name, *(f"{found[name]:,.0f}" for found in figures.values())] for name in OPERATIONS]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outgrowing", description="Measure engines side by side."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    chosen = parser.parse_args(arguments)
    figures = run(quick=chosen.quick)
    print("\n" + table(figures))
    facts = {"quick": chosen.quick, "python": platform.python_version(), "platform": platform.platform()}
    keep(chosen.json, {**facts, "microseconds": figures})


if __name__ == "__main__":
    main()
