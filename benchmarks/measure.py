"""Timing side by side, so that what disturbs one side disturbs the other."""

from __future__ import annotations

import gc
import json
import platform
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import attrs

Run = Callable[[], Awaitable[object]]


@attrs.frozen
class Comparison:
    """One operation, done both ways.

    Attributes:
        name: What was done.
        floor: Microseconds for one operation by hand, the median of all rounds.
        kvmodel: The same through the mapper.
        ratio: How much of the floor's speed the mapper reaches: the median of each round's ratio.
        goal: The least that the ratio should be, where there is a goal.
    """

    name: str
    floor: float
    kvmodel: float
    ratio: float
    goal: float | None = None


async def compare(
    name: str, floor: Run, kvmodel: Run, *, operations: int, rounds: int, goal: float | None = None
) -> Comparison:
    """Run both sides in turn, the order changing from round to round, after one round that does not count.

    Args:
        name: What is done.
        floor: Does it ``operations`` times by hand.
        kvmodel: Does it as often through the mapper.
        operations: How many operations one run does.
        rounds: How many rounds count.
        goal: The least that the ratio should be.
    """
    by_hand: list[float] = []
    mapped: list[float] = []
    sides = [(floor, by_hand), (kvmodel, mapped)]
    for _ in range(rounds + 1):
        for run, seconds in sides:
            seconds.append(await seconds_of(run))
        sides.reverse()
    ratios = [hand / mapper for hand, mapper in zip(by_hand[1:], mapped[1:], strict=True)]
    scale = 1e6 / operations
    return Comparison(
        name,
        statistics.median(by_hand[1:]) * scale,
        statistics.median(mapped[1:]) * scale,
        statistics.median(ratios),
        goal,
    )


async def seconds_of(run: Run) -> float:
    """Time one run, garbage of earlier ones removed before."""
    gc.collect()
    start = time.perf_counter()
    await run()
    return time.perf_counter() - start


def setting(packages: Iterable[str], *, quick: bool) -> dict[str, object]:
    """Answer what figures are measured on, as JSON knows it."""
    import lmdb

    return {
        "quick": quick,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in packages}
        | {"LMDB": ".".join(map(str, lmdb.version())), "SQLite": sqlite3.sqlite_version},
    }


def keep(path: Path, figures: Mapping[str, object]) -> None:
    """Write figures down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {path}")
