"""Measure, print a table, keep the figures as JSON.

python -m benchmarks.run            all of it, some minutes
python -m benchmarks.run --quick    small sizes, some seconds: shows that it works, not how fast it is
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks import large, small
from benchmarks.imports import import_times
from benchmarks.measure import Comparison

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure kvmodel on LMDB.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the files; on the disk that is to be measured")
    chosen = parser.parse_args(arguments)

    gc.freeze()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="kvmodel-bench-") as folder:
        figures = measure(Path(folder), quick=chosen.quick)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {chosen.json}")


def measure(folder: Path, *, quick: bool) -> Mapping[str, object]:
    """Measure everything, printing on the way."""
    sizes = small.QUICK if quick else small.FULL
    few, many = (1_000, 20_000) if quick else (1_000, 1_000_000)
    print(f"kvmodel on LMDB, Python {platform.python_version()}, {platform.system()} {platform.machine()}")

    comparisons = asyncio.run(small.compare_all(folder, sizes))
    print_comparisons(comparisons)

    crowd = asyncio.run(small.crowd_of_updates(folder, sizes))
    title(f"{crowd.tasks} tasks updating at once")
    line("updates a second", crowd.updates / crowd.seconds)
    line("updates for one disk sync", crowd.updates_per_commit, "at least 25")

    large.ask("fill", folder / "few", few)
    filled = large.ask("fill", folder / "many", many)
    scanned = large.ask("scan", folder / "many", many)
    got = large.ask("gets", folder / "few", few, folder / "many", many)
    title(f"{many:,} records")
    line("written a second", filled["per_second"])
    line("scanned a second", scanned["records"] / scanned["seconds"])
    line("first record of the scan after, ms", scanned["first_record_ms"])
    line("memory grew by, MiB", scanned["memory_growth_mib"], "less than 64")
    line("mapped file pages (page cache), MiB", scanned["mapped_file_growth_mib"])
    line(f"get among {few:,}, µs", got["among_few_us"])
    line(f"get among {many:,}, µs", got["among_many_us"])
    line("times slower", got["times"], "less than 2")

    imported = import_times(5 if quick else 21)
    title("import")
    line("its dependencies, ms", imported["dependencies_ms"])
    line("asyncio, ms", imported["asyncio_ms"])
    line("kvmodel itself, ms", imported["kvmodel_ms"])
    line("added to its dependencies, ms", imported["added_ms"], "at most 40")

    return {
        "quick": quick,
        "python": sys.version,
        "platform": platform.platform(),
        "comparisons": [attrs.asdict(comparison) for comparison in comparisons],
        "crowd": attrs.asdict(crowd) | {"updates_per_commit": crowd.updates_per_commit},
        "large": {"fill": filled, "scan": scanned, "gets": got},
        "import": imported,
    }


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print the table of both sides."""
    print(f"\n{'operation':<22}{'floor µs':>12}{'kvmodel µs':>12}{'ratio':>8}  goal")
    for found in comparisons:
        goal = "" if found.goal is None else f"at least {found.goal}"
        print(f"{found.name:<22}{found.floor:>12.2f}{found.kvmodel:>12.2f}{found.ratio:>8.2f}  {goal}".rstrip())


def title(text: str) -> None:
    """Print the title of a group of figures."""
    print(f"\n{text}")


def line(name: str, value: float, goal: str = "") -> None:
    """Print one figure."""
    print(f"  {name:<38}{value:>12,.2f}  {goal}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
