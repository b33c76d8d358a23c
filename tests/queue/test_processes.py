"""Worker processes on one LMDB file, killed with ``kill -9``: every message is worked, and counted once."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import kvmodel as kv
from tests.queue.models import Event, Result

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")


@asynccontextmanager
async def workers(url: str, lease: float, *roles: str) -> AsyncIterator[list[Process]]:
    """Start a worker for each role, and end them all."""
    started: list[Process] = []
    try:
        for role in roles:
            command = [sys.executable, str(WORKER), url, str(lease), role]
            started.append(await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=ROOT))
        for process in started:
            assert await said(process) == "ready"
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def said(process: Process) -> str:
    """Wait for the next line that a worker says; the last one is empty."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()


async def did(process: Process, count: int) -> None:
    """Wait until a worker has done some."""
    while count:
        line = await said(process)
        assert line, "the worker has ended"
        count -= line.startswith("did")


async def everything_is_done() -> None:
    """Wait until the queue is empty."""
    async with asyncio.timeout(60):
        while await Event.objects.length("q"):
            await asyncio.to_thread(lambda: None)


class Feeder:
    """Puts events, counting up, for as long as somebody waits for something."""

    def __init__(self) -> None:
        self.put = 0

    async def until(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Go on putting until this has happened, so that there is enough for every worker."""
        waiting = asyncio.ensure_future(awaited)
        while not waiting.done():
            await Event.objects.put_many(Event("q", str(self.put + number)) for number in range(20))
            self.put += 20
            await asyncio.wait([waiting], timeout=0.1)
        return waiting.result()


async def test_every_message_is_worked_though_workers_are_killed(tmp_path: Path) -> None:
    """One in the middle of its first message, one wherever it happens to be, one told to stop, one goes on."""
    url, feeder = f"lmdb://{tmp_path}/data?sync=false", Feeder()
    async with kv.connect(url):
        async with workers(url, 1.0, "victim", "worker", "worker", "worker") as (victim, unlucky, leaving, last):
            took, held, _ = (await feeder.until(said(victim))).split()
            assert took == "took"
            victim.kill()
            await feeder.until(did(unlucky, 5))
            unlucky.kill()
            await feeder.until(did(leaving, 5))
            leaving.terminate()
            assert await leaving.wait() == 0
            assert await victim.wait() == await unlucky.wait() == -9
            await everything_is_done()
            last.terminate()
            assert await last.wait() == 0

        attempts = {result.name: result.count for result in await Result.objects.range("q")}
        assert sorted(map(int, attempts)) == list(range(feeder.put))
        assert attempts[held] == 2
        assert await Event.objects.length("q") == await Event.objects.dead("q").count() == 0


async def test_a_put_in_one_process_is_worked_in_another(tmp_path: Path) -> None:
    """A worker that waits notices it within its poll interval, whoever put it."""
    url = f"lmdb://{tmp_path}/data?sync=false"
    async with kv.connect(url), workers(url, 30, "worker") as (worker,):
        for number in range(3):
            await Event.objects.put(Event("q", str(number)))
            assert await said(worker) == f"took {number} 1"
            assert await said(worker) == f"did {number}"


# --- the example ------------------------------------------------------------------------------------------------------


def test_the_example(tmp_path: Path) -> None:
    """It shows what it says, and can be run again."""
    totals = [_run_example(tmp_path, files) for files in (40, 41)]

    assert all(total > 1_000 for total in totals)


def _run_example(folder: Path, files: int) -> int:
    """Run it, and answer how many lines it has counted."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "examples/queue_worker.py", folder, f"--files={files}", "--workers=2"],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in (
        r"killed:  worker-1, with \d+ messages left to do",
        rf"worked:  {files} of {files}, each counted once; \d+ were handed out again after the kill",
        r"left:    0 messages, 0 dead",
    ):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), done.stdout
    together = re.search(rf"^together +{files} +([\d,]+)$", done.stdout, re.MULTILINE)
    assert together is not None
    return int(together[1].replace(",", ""))
