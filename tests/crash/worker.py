"""The process that is killed, or runs out of room: it commits units, and says so after each one.

Run as ``python worker.py MODE PATH``. It says on its standard output, a line each, what it has done.

* ``serve``: for every line on its standard input, forks a child that does what ``crash`` does; says ``dead`` after it.
* ``crash``: commits units for ever, in several tasks. Says ``ready PID``, then ``done SERIES NUMBER`` after each one.
* ``steps``: the same, in one task, twenty units; ``nosync`` without waiting for the disk.
* ``count``: counts up, against other processes; ``done`` at the end.
* ``fill``: commits until there is no room, says ``full ERROR``, and waits for a line before it goes on; three times.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings

import kvmodel as kv

SERIES = 4
KEPT = 20
"""How many units of a series are there at a time: each unit removes the one that is so many before it."""


class Head(kv.Model, table="heads"):
    """The last unit of a series."""

    series: int = kv.partition_key()
    number: int = 0


class Part(kv.Model, table="parts"):
    """Half of what a unit writes; both halves hold the same."""

    side: str = kv.partition_key()
    series: int = kv.clustering_key()
    number: int = kv.clustering_key()
    payload: bytes = b""


class Counter(kv.Model, table="counters"):
    """What several processes count up."""

    name: str = kv.partition_key()
    value: int = 0


def payload_of(series: int, number: int) -> bytes:
    """Answer what both halves hold: some fill several pages."""
    return bytes((series, number % 256)) * (number * 2654435761 % 2500)


def say(*words: object) -> None:
    """Say something, at once and whole."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def commit_unit(db: kv.Database, series: int) -> int:
    """Commit the next unit of a series: new halves, the head, and the removal of an old unit. Answer its number."""
    async with db.unit_of_work() as uow:
        head = await Head.objects.find(series)
        if head is None:
            head = Head(series)
            uow.add(head)
        head.number += 1
        number = head.number
        for side in ("left", "right"):
            uow.add(Part(side, series, number, payload_of(series, number)))
            if number > KEPT:
                await Part.objects.delete(side, series, number - KEPT)
    return number


async def crash(path: str) -> None:
    """Commit until killed."""
    say("ready", os.getpid())
    async with kv.connect(f"lmdb://{path}") as db:

        async def work(series: int) -> None:
            while True:
                say("done", series, await commit_unit(db, series))

        await asyncio.gather(*map(work, range(SERIES)))


async def steps(path: str, *, sync: bool = True) -> None:
    """Commit twenty units, one after the other."""
    async with kv.connect(f"lmdb://{path}", sync=sync) as db:
        for _ in range(20):
            say("done", 0, await commit_unit(db, 0))


async def count(path: str) -> None:
    """Count up, in spite of others."""
    async with kv.connect(f"lmdb://{path}", timeout=60) as db:

        async def move(uow: kv.UnitOfWork) -> None:
            up, down = await Counter.objects.get("up"), await Counter.objects.get("down")
            up.value += 1
            down.value -= 1

        for _ in range(50):
            await Counter.objects.update("hits", value=lambda value: value + 1)
            await db.transact(move)
    say("done")


async def fill(path: str) -> None:
    """Commit until there is no room, three times."""
    async with kv.connect(f"lmdb://{path}") as db:
        say("ready")
        for series in range(3):
            while True:
                try:
                    async with db.unit_of_work() as uow:
                        head = await Head.objects.find(series) or Head(series)
                        head.number += 1
                        uow.put(head)
                        number = head.number
                        uow.add(*(Part(side, series, number, bytes(20_000)) for side in ("left", "right")))
                except kv.StoreError as error:
                    say("full", type(error).__name__, error, repr(error.__cause__))
                    break
                say("done", series, number)
            sys.stdin.readline()


def serve() -> None:
    """Fork a child for every path on standard input."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(crash(line.strip()))
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        say("dead")


def main() -> None:
    """Do what the command line says."""
    warnings.simplefilter("error")
    mode, path = sys.argv[1:]
    match mode:
        case "serve":
            serve()
        case "crash":
            asyncio.run(crash(path))
        case "steps" | "nosync":
            asyncio.run(steps(path, sync=mode == "steps"))
        case "count":
            asyncio.run(count(path))
        case "fill":
            asyncio.run(fill(path))


if __name__ == "__main__":
    main()
