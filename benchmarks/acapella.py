"""AcapellaDB: gets, writes, ranges and units of work, beside a minimal aiohttp client, on the same server.

python -m benchmarks.acapella            on the emulator, some ten seconds
python -m benchmarks.acapella --quick    small sizes
python -m benchmarks.acapella --url URL  on a server of yours

The emulator is a Python program on the same machine: most of the time of both sides is HTTP and its. So ratios near 1
say that what kvmodel adds is small beside an exchange; what it adds is the difference of the times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import aiohttp
import attrs

import kvmodel as kv
from benchmarks.measure import Comparison, compare
from kvmodel.drivers.acapella import Session

RESULTS = Path(__file__).parent / "results" / "acapella.json"

NOTE = "x" * 100


class Item(kv.Model, table="bench_items"):
    """A small record."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str = ""


class ByHand:
    """What one would write in an afternoon: no errors, no types, no limits; keys that need no quoting."""

    def __init__(self, session: aiohttp.ClientSession, base: str, keyspace: str) -> None:
        self._session = session
        self._partition = f"{base}/v2/kv/partition/{keyspace}:bench_items:hand"

    async def get(self, name: str) -> dict[str, object]:
        """Answer a value."""
        async with self._session.get(f"{self._partition}/clustering/{name}") as reply:
            value: dict[str, object] = (await reply.json())["value"]
            return value

    async def put(self, name: str, value: dict[str, object]) -> int:
        """Write a value."""
        async with self._session.put(f"{self._partition}/clustering/{name}", json=value) as reply:
            number: int = (await reply.json())["version"]
            return number

    async def rows(self, limit: int) -> list[dict[str, object]]:
        """Answer the first rows."""
        async with self._session.get(self._partition, params={"limit": str(limit)}) as reply:
            found: list[dict[str, object]] = await reply.json()
            return found

    async def batch(self, names: Sequence[str], value: dict[str, object]) -> None:
        """Write rows at once."""
        items = [{"key": [name], "value": value, "version": None} for name in names]
        async with self._session.put(self._partition, json=items) as reply:
            await reply.json()


@asynccontextmanager
async def served(url: str | None) -> AsyncIterator[str]:
    """The URL of a server: yours, or an emulator in a process of its own."""
    if url is not None:
        yield url
        return
    command = [sys.executable, "-m", "kvmodel.testing.acapella"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it takes no time
    try:
        assert process.stdout is not None
        yield (await asyncio.to_thread(process.stdout.readline)).removeprefix("ready ").strip()
    finally:
        process.terminate()
        process.communicate()


async def compare_all(url: str, count: int, rounds: int) -> list[Comparison]:
    """Compare client and mapper with what was written by hand."""
    keyspace = f"bench-{secrets.token_hex(4)}"
    async with kv.connect(url, timeout=60, namespace=keyspace) as db, aiohttp.ClientSession() as http:
        session = db.native
        assert isinstance(session, Session)
        base = session.store.replace("acapella://", "http://", 1)
        hand = ByHand(http, base, keyspace)
        names = [f"{number:06}" for number in range(count)]
        await hand.batch(names, {"count": 0, "note": NOTE})
        await Item.objects.using(db).save_many(Item("s", name, 0, NOTE) for name in names)
        return await compare_sides(hand, session, db, keyspace, names, rounds)


async def compare_sides(
    hand: ByHand, session: Session, db: kv.Database, keyspace: str, names: list[str], rounds: int
) -> list[Comparison]:
    """Each operation, one after the other and many at once."""
    items = Item.objects.using(db)
    partition = [keyspace, "bench_items", "s"]
    value: dict[str, object] = {"count": 0, "note": NOTE}

    async def hand_gets() -> None:
        for name in names:
            await hand.get(name)

    async def hand_crowd_gets() -> None:
        for at in range(0, len(names), 50):
            await asyncio.gather(*(hand.get(name) for name in names[at : at + 50]))

    async def hand_puts() -> None:
        for name in names:
            await hand.put(name, value)

    async def hand_rows() -> None:
        for _ in range(len(names) // 100):
            await hand.rows(100)

    async def hand_batches() -> None:
        for at in range(0, len(names), 100):
            await hand.batch(names[at : at + 100], value)

    async def client_gets() -> None:
        for name in names:
            await session.get_entry(partition, [name])

    async def client_sets() -> None:
        for name in names:
            await session.entry(partition, [name]).set({"count": 0, "note": NOTE})

    async def gets() -> None:
        for name in names:
            await items.get("s", name)

    async def crowd_gets() -> None:
        for at in range(0, len(names), 50):
            await asyncio.gather(*(items.get("s", name) for name in names[at : at + 50]))

    async def saves() -> None:
        for name in names:
            await items.save(Item("s", name, 0, NOTE))

    async def ranges() -> None:
        for _ in range(len(names) // 100):
            await items.range("s", limit=100)

    async def bulk() -> None:
        await items.save_many(Item("s", name, 0, NOTE) for name in names)

    async def units() -> None:
        for at in range(0, len(names), 100):
            async with db.unit_of_work() as uow:
                uow.put(*(Item("s", name, 0, NOTE) for name in names[at : at + 100]))

    sides = [
        ("client get", hand_gets, client_gets),
        ("client set", hand_puts, client_sets),
        ("get", hand_gets, gets),
        ("get, 50 tasks", hand_crowd_gets, crowd_gets),
        ("save", hand_puts, saves),
        ("range of 100, each", hand_rows, ranges),
        ("save_many, each", hand_batches, bulk),
        ("unit of 100, each", hand_batches, units),
    ]
    return [await compare(name, by_hand, ours, operations=len(names), rounds=rounds) for name, by_hand, ours in sides]


async def run(given: str | None, *, quick: bool) -> dict[str, object]:
    """Measure and print; answer the figures."""
    count, rounds = (300, 3) if quick else (1_000, 7)
    async with served(given) as url:
        name = "emulator" if given is None else "server"
        print(f"{name + ':':<26}{'by hand µs':>12}{'kvmodel µs':>12}{'ratio':>8}")
        operations = await compare_all(url, count, rounds)
        for found in operations:
            print(f"{found.name:<26}{found.floor:>12.1f}{found.kvmodel:>12.1f}{found.ratio:>8.2f}", flush=True)
    where = {"python": sys.version, "platform": platform.platform(), "aiohttp": version("aiohttp")}
    return {name: {"quick": quick, **where, "operations": list(map(attrs.asdict, operations))}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acapella", description="Measure kvmodel on AcapellaDB.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--url", help="a server of yours; a keyspace is left behind (default: the emulator)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    chosen = parser.parse_args(arguments)
    found = asyncio.run(run(chosen.url, quick=chosen.quick))
    kept = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json.exists() else {}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(kept | found, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {chosen.json}")


if __name__ == "__main__":
    main()
