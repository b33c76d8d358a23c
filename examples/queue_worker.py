"""Several processes work one queue, and one of them is killed half way: everything is done all the same.

    python examples/queue_worker.py [folder] [--files 300] [--workers 4]

Each message names a source file of Python's standard library. To work it is to read the file and to count its lines.
What a worker found out and its acknowledgement are one commit, so that no file is counted twice, even if its message is
handed out twice: which happens to those that the killed worker had in its hands.

Without a folder the store is temporary. With one it stays, and the program can be run again.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from asyncio.subprocess import Process
from collections import Counter
from contextlib import suppress
from pathlib import Path

import kvmodel as kv
from kvmodel.queue import Message

QUEUE = "sources"
LEASE = 2.0
"""Seconds after which a message is handed out again, if nobody acknowledged it: far longer than the work takes."""


class Source(kv.QueueModel, table="sources"):
    """A file to be counted."""

    queue: str = kv.partition_key()
    path: str


class Count(kv.Model, table="counts"):
    """What came of it: one record a message."""

    queue: str = kv.partition_key()
    path: str = kv.clustering_key()
    lines: int
    worker: str
    attempts: int


# --- a worker process -------------------------------------------------------------------------------------------------


async def work(url: str, name: str) -> None:
    """Work messages until somebody says stop; then give back what is in hand."""
    async with kv.connect(url) as db:
        print("ready", flush=True)
        async with Source.objects.consume(QUEUE, lease=LEASE, prefetch=5, poll=0.1) as consumer:
            async for message in consumer:
                await count(db, message, name)


async def count(db: kv.Database, message: Message[Source], name: str) -> None:
    """Do the work of one message. The result and the acknowledgement happen together, or not at all."""
    text = await asyncio.to_thread(Path(message.item.path).read_bytes)
    with suppress(kv.Conflict):  # The lease ran out, and somebody else does it.
        async with db.unit_of_work() as uow:
            uow.add(Count(QUEUE, message.item.path, text.count(b"\n"), name, message.attempts))
            await message.ack()


async def work_until_told(url: str, name: str) -> None:
    """Stop at SIGTERM: a consumer is cancelled like any other task."""
    working = asyncio.ensure_future(work(url, name))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    with suppress(asyncio.CancelledError, kv.OutcomeUnknown):  # The latter in the middle of a commit.
        await working


# --- the one who starts them ------------------------------------------------------------------------------------------


def sources(number: int) -> list[Path]:
    """Some files of the standard library, large and small."""
    library = Path(sysconfig.get_path("stdlib"))
    found = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    return found[:: max(len(found) // number, 1)][:number]


async def run(url: str, files: int, workers: int) -> None:
    """Fill the queue, start the workers, kill one, wait for the others, and count."""
    async with kv.connect(url):
        await Source.objects.read(QUEUE).delete()
        await Count.objects.range(QUEUE).delete()
        put = await Source.objects.put_many(Source(QUEUE, str(path)) for path in sources(files))
        print(f"put:     {put} messages")

        started = time.perf_counter()
        processes = [await start(url, f"worker-{number}") for number in range(1, workers + 1)]
        try:
            for process in processes:
                await until_ready(process)
            await length_falls_to(put // 2)
            processes[0].kill()  # SIGKILL, which is kill -9: it can't tidy up.
            await processes[0].wait()
            print(f"killed:  worker-1, with {await Source.objects.length(QUEUE)} messages left to do")
            await length_falls_to(0)
        finally:
            for process in processes:
                await end(process)
        seconds = time.perf_counter() - started
        print(f"time:    {seconds:.1f} s, of which {LEASE:.0f} s are for the leases of the dead to run out")
        await report(put)


async def start(url: str, name: str) -> Process:
    """Start a worker."""
    warnings = [f"-W{option}" for option in sys.warnoptions]
    command = [sys.executable, *warnings, __file__, "--work", url, name]
    return await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)


async def until_ready(process: Process) -> None:
    """Wait for the one line that a worker prints."""
    assert process.stdout is not None
    if not await process.stdout.readline():
        sys.exit("a worker did not start")


async def end(process: Process) -> None:
    """Have a worker stop, if it still runs, and wait for its end."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def length_falls_to(number: int) -> None:
    """Look at the queue now and then, until it is no longer than this."""
    while await Source.objects.length(QUEUE) > number:  # noqa: ASYNC110 - other processes shorten it
        await asyncio.sleep(0.02)


async def report(put: int) -> None:
    """Print who did what."""
    counts = await Count.objects.range(QUEUE)
    done = Counter(count.worker for count in counts)
    lines: Counter[str] = Counter()
    for count in counts:
        lines[count.worker] += count.lines

    print(f"\n{'worker':<12}{'files':>7}{'lines':>10}")
    print(f"{'-' * 8:<12}{'-' * 5:>7}{'-' * 7:>10}")
    for worker in sorted(done):
        note = "  killed" if worker == "worker-1" else ""
        print(f"{worker:<12}{done[worker]:>7}{lines[worker]:>10,}{note}")
    print(f"{'together':<12}{len(counts):>7}{lines.total():>10,}\n")

    again = sum(count.attempts > 1 for count in counts)
    print(f"worked:  {len(counts)} of {put}, each counted once; {again} were handed out again after the kill")
    print(f"left:    {await Source.objects.length(QUEUE)} messages, {await Source.objects.dead(QUEUE).count()} dead")
    if len(counts) != put:
        sys.exit("a message was lost")


def main() -> None:
    """Be the one who starts workers, or one of them."""
    parser = argparse.ArgumentParser(description="Several processes work one queue, and one of them is killed.")
    parser.add_argument("folder", nargs="?", help="where the store goes (default: a temporary folder)")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--work", nargs=2, metavar=("URL", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(work_until_told(*options.work))
    elif options.folder:
        folder = Path(options.folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(run(f"lmdb://{folder / 'queue'}", options.files, options.workers))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(run(f"lmdb://{temporary}/queue", options.files, options.workers))


if __name__ == "__main__":
    main()
