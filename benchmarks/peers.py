"""kvmodel beside other ways of keeping the same records: a table of ratios, JSON, and a picture.

python -m benchmarks.peers            some minutes
python -m benchmarks.peers --quick    small sizes, some seconds: shows that it works, not how fast it is
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import random
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from benchmarks.measure import seconds_of, setting
from benchmarks.models import TEAMS, fields
from benchmarks.peers_byhand import ByHand
from benchmarks.peers_picture import draw
from benchmarks.peers_sides import RANGE, Key, Mapper, Side
from benchmarks.peers_sqlite import Alchemy, AlchemyOneSession, Peewee

RESULTS = Path(__file__).parent / "results" / "peers.json"

OURS = "kvmodel, LMDB"
ALCHEMY = "SQLAlchemy 2 async, SQLite"
ONE_SESSION = "SQLAlchemy, one session"
SIDES: Mapping[str, Callable[[Path], Awaitable[Side]]] = {
    OURS: Mapper.open,
    "by hand, LMDB, same bytes": ByHand.open_same,
    "by hand, LMDB, least bytes": ByHand.open_least,
    ALCHEMY: Alchemy.open,
    ONE_SESSION: AlchemyOneSession.open,
    "peewee, SQLite": Peewee.open,
}
GET = "get"
GOALS: Mapping[tuple[str, str], float] = {(GET, ALCHEMY): 60, (GET, ONE_SESSION): 60}
"""How many times faster than another side kvmodel should be at least."""


@attrs.frozen
class Sizes:
    """How much is done."""

    rounds: int
    records: int
    bulk: int
    gets: int
    ranges: int
    updates: int
    tasks: int


QUICK = Sizes(rounds=3, records=2_000, bulk=1_000, gets=200, ranges=10, updates=10, tasks=100)
FULL = Sizes(rounds=11, records=100_000, bulk=10_000, gets=2_000, ranges=200, updates=100, tasks=100)


@attrs.frozen
class Figure:
    """How long one operation takes on one side.

    Attributes:
        microseconds: The median of all rounds, for one operation.
        times: How many times as long as kvmodel's: the median of each round's ratio.
    """

    microseconds: float
    times: float


Figures = Mapping[str, Mapping[str, Figure]]
"""By operation, then by side."""


# --- measuring --------------------------------------------------------------------------------------------------------


async def measure(folder: Path, sizes: Sizes) -> Figures:
    """Run every operation on every side, and see that all sides have done the same."""
    sides: dict[str, Side] = {}
    try:
        for name, open_side in SIDES.items():
            (folder / str(len(sides))).mkdir()
            sides[name] = await open_side(folder / str(len(sides)))
            await sides[name].fill(range(sizes.records))
        figures: dict[str, Mapping[str, Figure]] = {}
        for what, operation in operations(sizes).items():
            compared = {name: side for name, side in sides.items() if name != ONE_SESSION or what == GET}
            figures[what] = await compare(compared, operation, sizes)
        keys = [fields(number)[:2] for number in range(sizes.records)]
        expected = await sides[OURS].ages(keys)
        for name in sides.keys() - {ONE_SESSION}:
            assert await sides[name].ages(keys) == expected, f"{name} holds something else"
    finally:
        for side in sides.values():
            await side.close()
    return figures


@attrs.frozen
class Operation:
    """One thing to do, so many times in one run; each run of a side does it to what comes next."""

    count: int
    run: Callable[[Side, int], Awaitable[None]]


def operations(sizes: Sizes) -> Mapping[str, Operation]:
    """What is compared. A round's number makes bulk write new records."""
    chosen = random.Random(0)
    keys = [fields(chosen.randrange(sizes.records))[:2] for _ in range(sizes.gets)]
    starts = [fields(chosen.randrange(sizes.records - RANGE * TEAMS))[:2] for _ in range(sizes.ranges)]
    changed = keys[: sizes.updates]
    pairs = list(zip(changed, [fields(number)[:2] for number in range(sizes.records)], strict=False))
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    crowd: list[Key] = [fields(number)[:2] for number in range(sizes.tasks)]

    def fresh(number: int) -> range:
        return range(10_000_000 + number * sizes.bulk, 10_000_000 + (number + 1) * sizes.bulk)

    return {
        "bulk write": Operation(sizes.bulk, lambda side, number: side.fill(fresh(number))),
        GET: Operation(len(keys), lambda side, _: side.get_each(keys)),
        "range of 100": Operation(len(starts), lambda side, _: side.read_ranges(starts)),
        "update": Operation(len(changed), lambda side, _: side.update_each(changed)),
        "unit of work": Operation(len(pairs), lambda side, _: side.transfer_each(pairs)),
        "update, 100 at once": Operation(sizes.tasks, lambda side, _: side.update_at_once(crowd)),
    }


async def compare(sides: Mapping[str, Side], operation: Operation, sizes: Sizes) -> Mapping[str, Figure]:
    """Run one operation on all sides in turn, the order changing from round to round; the first does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for number in range(sizes.rounds + 1):
        for name in order:
            seconds[name].append(await seconds_of(partial(operation.run, sides[name], number)))
        order = order[1:] + order[:1]
    ours = seconds[OURS][1:]
    return {
        name: Figure(
            statistics.median(taken[1:]) / operation.count * 1e6,
            statistics.median(theirs / our for theirs, our in zip(taken[1:], ours, strict=True)),
        )
        for name, taken in seconds.items()
    }


# --- showing ----------------------------------------------------------------------------------------------------------


def print_tables(figures: Figures) -> None:
    """Print microseconds, then how many times as long as kvmodel each side takes."""
    shown: Mapping[str, Callable[[Figure], str]] = {
        "microseconds": lambda figure: f"{figure.microseconds:,.1f}",
        "times as long as kvmodel": lambda figure: f"{figure.times:,.2f}",
    }
    for title, cell in shown.items():
        print(f"\n{title:<28}" + "".join(f"{name:>21}" for name in figures))
        for side in SIDES:
            cells = [cell(sides[side]) if side in sides else "" for sides in figures.values()]
            print(f"{side:<28}" + "".join(f"{text:>21}" for text in cells))
    print()
    for (name, side), goal in GOALS.items():
        print(f"{name}: {figures[name][side].times:.1f} times as fast as {side}; the goal is at least {goal:g}")


def describe(figures: Figures, *, quick: bool) -> dict[str, object]:
    """Answer the figures, and what they were measured on, as JSON knows it."""
    packages = ("kvmodel", "lmdb", "SQLAlchemy", "aiosqlite", "peewee")
    return setting(packages, quick=quick) | {
        "microseconds": {
            name: {side: round(figure.microseconds, 2) for side, figure in sides.items()}
            for name, sides in figures.items()
        },
        "times": {
            name: {side: round(figure.times, 2) for side, figure in sides.items()} for name, sides in figures.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Compare kvmodel with others.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    parser.add_argument("--picture", type=Path, help="where to draw the figures, as SVG")
    parser.add_argument("--folder", type=Path, help="where to make the files; on the disk that is to be measured")
    chosen = parser.parse_args(arguments)

    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}", flush=True)
    gc.freeze()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="kvmodel-peers-") as folder:
        figures = asyncio.run(measure(Path(folder), QUICK if chosen.quick else FULL))
    print_tables(figures)
    described = describe(figures, quick=chosen.quick)
    for path, text in ((chosen.json, json.dumps(described, indent=2) + "\n"), (chosen.picture, draw(described))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"kept in {path}")


if __name__ == "__main__":
    main()
