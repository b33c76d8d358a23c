"""Other processes that work on an LMDB file, and what has to be true of the file whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import kvmodel as kv
from tests.crash.worker import KEPT, Head, Part, payload_of

WORKER = Path(__file__).with_name("worker.py")
TRACER = Path(__file__).with_name("tracer.py")


class Worker:
    """A process that runs the worker, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def heard(self) -> list[str]:
        """Wait for the next line; answer its words, none at the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def tell(self, line: str = "") -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ended(self) -> int:
        """Wait for its end."""
        return self.process.wait(timeout=60)


@contextmanager
def worker(mode: str, path: Path | str = "") -> Iterator[Worker]:
    """Run the worker; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, str(WORKER), mode, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=WORKER.parents[2],
        start_new_session=True,
    )
    try:
        yield Worker(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Its children too, or its output would have no end.
        process.communicate()


class Acknowledged:
    """The last unit of every series that a process said was committed."""

    def __init__(self) -> None:
        self.last: dict[int, int] = defaultdict(int)
        self.units = 0

    def take(self, words: list[str]) -> bool:
        """Take what was said. Answers whether it was a commit."""
        if words[:1] != ["done"]:
            return False
        series, number = map(int, words[1:])
        assert number == self.last[series] + 1 or number > self.last[series]
        self.last[series] = number
        self.units += 1
        return True


async def check(path: Path, acknowledged: Mapping[int, int]) -> dict[int, int]:
    """Open a file and look at all of it: every acknowledged unit is there, and none is half there.

    Answers the number of the last unit of every series.
    """
    async with kv.connect(f"lmdb://{path}") as db:
        heads = {head.series: head.number async for head in Head.objects.using(db).scan()}
        halves: dict[str, dict[int, list[int]]] = {"left": defaultdict(list), "right": defaultdict(list)}
        async for part in Part.objects.using(db).scan():
            halves[part.side][part.series].append(part.number)
            assert part.payload == payload_of(part.series, part.number)
        # A unit that was not acknowledged may be there all the same, as a whole.
        for series, number in acknowledged.items():
            assert heads.get(series, 0) >= number
        whole = {series: list(range(max(1, number - KEPT + 1), number + 1)) for series, number in heads.items()}
        assert halves == {"left": whole, "right": whole}
        for series in heads:
            async with db.unit_of_work():
                (await Head.objects.using(db).get(series)).number += 0
        await Head.objects.using(db).save(Head(-1, 1))
        await Head.objects.using(db).delete(-1)
    return heads
