"""A million records: does memory stay flat, does the first record come at once, does a get stay fast?

Each question is asked in a process of its own, whose memory nothing else has touched.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import kvmodel as kv
from benchmarks.models import User, fields, url

MIB = 1 << 20
SAMPLE_EVERY = 5_000
Figures = Mapping[str, float]


def ask(question: str, *arguments: object) -> Figures:
    """Ask one question in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.large", question, *map(str, arguments)]
    figures: Figures = json.loads(subprocess.check_output(command, text=True, timeout=1_800))
    return figures


# --- the questions ---


async def fill(path: Path, records: int) -> Figures:
    """Write that many records."""
    async with kv.connect(url(path)) as db:
        start = time.perf_counter()
        written = await User.objects.using(db).save_many(User(*fields(number)) for number in range(records))
        seconds = time.perf_counter() - start
    assert written == records, written
    return {"records": records, "seconds": seconds, "per_second": records / seconds}


async def scan(path: Path, expected: int) -> Figures:
    """Read all of it as a stream. What a mapped file keeps in memory is the page cache's, so it is told apart."""
    async with kv.connect(url(path)) as db:
        anonymous, mapped = memory()
        most_anonymous, most_mapped = anonymous, mapped
        records = 0
        first = 0.0
        start = time.perf_counter()
        async for _ in User.objects.using(db).scan():
            if records == 0:
                first = time.perf_counter() - start
            records += 1
            if records % SAMPLE_EVERY == 0:
                now = memory()
                most_anonymous, most_mapped = max(most_anonymous, now[0]), max(most_mapped, now[1])
        seconds = time.perf_counter() - start
    assert records == expected, records
    return {
        "records": records,
        "seconds": seconds,
        "first_record_ms": first * 1e3,
        "memory_growth_mib": (most_anonymous - anonymous) / MIB,
        "mapped_file_growth_mib": (most_mapped - mapped) / MIB,
    }


async def gets(few_path: Path, few: int, many_path: Path, many: int) -> Figures:
    """Get random records among few and among many, in turn."""
    count, rounds = 2_000, 9
    async with kv.connect(url(few_path)) as few_db, kv.connect(url(many_path)) as many_db:

        async def get_all(db: kv.Database, records: int) -> float:
            users = User.objects.using(db)
            keys = [fields(chosen.randrange(records))[:2] for _ in range(count)]
            start = time.perf_counter()
            for key in keys:
                await users.get(*key)
            return time.perf_counter() - start

        among_few: list[float] = []
        among_many: list[float] = []
        chosen = random.Random(0)
        for _ in range(rounds):
            among_few.append(await get_all(few_db, few))
            among_many.append(await get_all(many_db, many))
    few_us, many_us = (statistics.median(seconds) / count * 1e6 for seconds in (among_few, among_many))
    return {"among_few_us": few_us, "among_many_us": many_us, "times": many_us / few_us}


def memory() -> tuple[int, int]:
    """Bytes of this process that are its own, and bytes of files that are mapped into it."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux: the most that it ever had, all of it
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (peak if sys.platform == "darwin" else peak * 1024), 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    own, mapped = (int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


def main(arguments: Sequence[str]) -> Figures:
    """Answer the question that the arguments ask."""
    match arguments:
        case ["fill", path, records]:
            return asyncio.run(fill(Path(path), int(records)))
        case ["scan", path, records]:
            return asyncio.run(scan(Path(path), int(records)))
        case ["gets", few_path, few, many_path, many]:
            return asyncio.run(gets(Path(few_path), int(few), Path(many_path), int(many)))
    raise SystemExit(f"no such question: {arguments}")


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
