"""Queues: kvmodel beside a floor written by hand on LMDB, and beside litequeue on SQLite.

python -m benchmarks.queue_run            a minute
python -m benchmarks.queue_run --quick    small sizes, some seconds: shows that it works, not how fast it is

litequeue is no dependency of kvmodel: ``pip install litequeue``. Without it, its column is left out. It keeps the
messages that are done until it is pruned, which is done between the rounds and not measured.

Both durabilities are measured: with a disk sync for every commit (``PRAGMA synchronous = FULL`` on SQLite), and without
(``sync=false`` on LMDB; litequeue's own setting, NORMAL in WAL mode).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

import attrs

from benchmarks import queue_sides
from benchmarks.measure import keep, seconds_of, setting
from benchmarks.queue_sides import Side

RESULTS = Path(__file__).parent / "results" / "queues.json"

WORKLOADS: Mapping[str, Callable[[Side, int], Awaitable[None]]] = {
    "put": lambda side, count: side.put(count),
    "consume + ack, 1 consumer": lambda side, count: side.work(count, 1),
    "put_many": lambda side, count: side.put_many(count),
    "consume + ack, 8 consumers": lambda side, count: side.work(count, 8),
}
"""In this order: what one puts the next one takes."""


@attrs.frozen
class Figure:
    """One workload, on every side.

    Attributes:
        synced: Whether every commit waited for the disk.
        per_second: Messages a second on each side, the median of all rounds.
        times: How many times as fast as each other side kvmodel is: the median of each round's ratio.
    """

    workload: str
    synced: bool
    per_second: Mapping[str, float]
    times: Mapping[str, float]


async def measure(folder: Path, *, sync: bool, count: int, rounds: int) -> list[Figure]:
    """Let all sides do all workloads, in turn."""
    seconds: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        sides = {"kvmodel": await stack.enter_async_context(queue_sides.kvmodel(folder, sync=sync))}
        sides["by hand"] = await stack.enter_async_context(queue_sides.floor(folder, sync=sync))
        if find_spec("litequeue"):
            sides["litequeue"] = await stack.enter_async_context(queue_sides.litequeue(folder, sync=sync))
        for number in range(rounds + 1):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                for workload, run in WORKLOADS.items():
                    took = await seconds_of(lambda run=run, side=sides[name]: run(side, count))  # type: ignore[misc]
                    seconds.setdefault((workload, name), []).append(took)
                await sides[name].tidy()
    return [_figure(workload, list(sides), seconds, sync=sync, count=count) for workload in WORKLOADS]


def _figure(
    workload: str, sides: Sequence[str], seconds: Mapping[tuple[str, str], Sequence[float]], *, sync: bool, count: int
) -> Figure:
    """Sum a workload up; the first round does not count."""
    took = {side: seconds[workload, side][1:] for side in sides}
    ours = took["kvmodel"]
    return Figure(
        workload,
        sync,
        {side: round(count / statistics.median(each)) for side, each in took.items()},
        {
            side: round(statistics.median(theirs / mine for theirs, mine in zip(each, ours, strict=True)), 2)
            for side, each in took.items()
            if side != "kvmodel"
        },
    )


def show(figures: Sequence[Figure]) -> None:
    """Print a table."""
    others = list(figures[0].times)
    print(f"\n{'synced' if figures[0].synced else 'not synced'}, messages a second")
    head = "".join(f"{name:>12}" for name in ("kvmodel", *others))
    print(f"{'':<28}{head}" + "".join(f"{'x ' + name:>13}" for name in others))
    for figure in figures:
        speeds = "".join(f"{figure.per_second[name]:>12,.0f}" for name in ("kvmodel", *others))
        times = "".join(f"{figure.times[name]:>13.2f}" for name in others)
        print(f"{figure.workload:<28}{speeds}{times}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_run", description="Measure queues.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the files; on the disk that is to be measured")
    chosen = parser.parse_args(arguments)
    print(f"queues, Python {platform.python_version()}, {platform.system()} {platform.machine()}")

    gc.freeze()
    found: list[Figure] = []
    for sync, count in ((False, 200 if chosen.quick else 2_000), (True, 40 if chosen.quick else 400)):
        with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="kvmodel-bench-") as folder:
            rounds = 2 if chosen.quick else 7
            figures = asyncio.run(measure(Path(folder), sync=sync, count=count, rounds=rounds))
        show(figures)
        found += figures

    packages = ("kvmodel", "lmdb", *(name for name in ("litequeue",) if find_spec(name)))
    keep(chosen.json, setting(packages, quick=chosen.quick) | {"figures": [attrs.asdict(each) for each in found]})


if __name__ == "__main__":
    main()
