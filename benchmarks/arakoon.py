"""Arakoon: gets, sets and units of work, beside a minimal blocking client written by hand, on the same server.

python -m benchmarks.arakoon            on the emulator, some ten seconds
python -m benchmarks.arakoon --quick    small sizes
python -m benchmarks.arakoon --url URL  on a server of yours

The emulator is a Python program: what both sides wait for is the same, so ratios near 1 say that the server is the
bottleneck. The second table measures the two ways of making a write conditional. The figures are kept as JSON, those of
the emulator and those of each version of a real server beside each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import attrs

import kvmodel as kv
from benchmarks.measure import Comparison, compare
from kvmodel.drivers.arakoon import ArakoonClient, steps

RESULTS = Path(__file__).parent / "results" / "arakoon.json"

_MASK = 0xB1FF0000


class Item(kv.Model, table="bench_items"):
    """A small record."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str = ""


class ByHand:
    """What one would write in an afternoon: blocking, one connection, no errors, no types, no second attempt."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host, _, port = parts.netloc.split(",")[0].partition(":")
        cluster = parse_qs(parts.query)["cluster"][0].encode()
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(struct.pack("<II", _MASK, 1) + self._text(cluster))

    def close(self) -> None:
        """Disconnect."""
        self._file.close()
        self._socket.close()

    def get(self, key: bytes) -> bytes:
        """Answer a value."""
        self._socket.sendall(struct.pack("<IB", _MASK | 0x08, 0) + self._text(key))
        self._check()
        return self._file.read(struct.unpack("<I", self._file.read(4))[0])

    def set(self, key: bytes, value: bytes) -> None:
        """Write a value."""
        self._socket.sendall(struct.pack("<I", _MASK | 0x09) + self._text(key) + self._text(value))
        self._check()

    def get_all(self, keys: Sequence[bytes]) -> None:
        """Read values one by one."""
        for key in keys:
            self.get(key)

    def set_all(self, keys: Sequence[bytes], value: bytes) -> None:
        """Write values one by one."""
        for key in keys:
            self.set(key, value)

    def sequence(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write values at once."""
        body = b"".join(struct.pack("<I", 1) + self._text(key) + self._text(value) for key, value in pairs)
        self._socket.sendall(struct.pack("<I", _MASK | 0x10) + self._text(struct.pack("<II", 5, len(pairs)) + body))
        self._check()

    def _text(self, data: bytes) -> bytes:
        return struct.pack("<I", len(data)) + data

    def _check(self) -> None:
        (code,) = struct.unpack("<I", self._file.read(4))
        assert code == 0, code


@asynccontextmanager
async def served(url: str | None) -> AsyncIterator[str]:
    """The URL of a server: yours, or an emulator in a process of its own."""
    if url is not None:
        yield url
        return
    command = [sys.executable, "-m", "kvmodel.testing.arakoon"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it takes no time
    try:
        assert process.stdout is not None
        yield (await asyncio.to_thread(process.stdout.readline)).removeprefix("ready ").strip()
    finally:
        process.terminate()
        process.communicate()


async def compare_all(url: str, count: int, rounds: int) -> list[Comparison]:
    """Compare gets, sets and units of work."""
    hand = ByHand(url)
    keys = [b"bench:%06d" % number for number in range(count)]
    value = b"x" * 100
    async with kv.connect(url, timeout=60) as db:
        client = db.native
        assert isinstance(client, ArakoonClient)
        for key in keys:
            hand.set(key, value)
        found = await compare_client(hand, client, keys, value, rounds)
        found += await compare_mapper(hand, db, keys, value, rounds)
        await client.delete_prefix("bench:")
        await Item.objects.using(db).scan().delete()
    hand.close()
    return found


async def compare_client(
    hand: ByHand, client: ArakoonClient, keys: list[bytes], value: bytes, rounds: int
) -> list[Comparison]:
    """The native client."""

    async def hand_gets() -> None:
        hand.get_all(keys)

    async def hand_sets() -> None:
        hand.set_all(keys, value)

    async def gets() -> None:
        for key in keys:
            await client.get(key)

    async def sets() -> None:
        for key in keys:
            await client.set(key, value)

    async def crowd_gets() -> None:
        for at in range(0, len(keys), 100):
            await asyncio.gather(*(client.get(key) for key in keys[at : at + 100]))

    async def crowd_sets() -> None:
        for at in range(0, len(keys), 100):
            await asyncio.gather(*(client.set(key, value) for key in keys[at : at + 100]))

    sides = [
        ("client get", hand_gets, gets),
        ("client get, 100 tasks", hand_gets, crowd_gets),
        ("client set", hand_sets, sets),
        ("client set, 100 tasks", hand_sets, crowd_sets),
    ]
    return [await compare(name, by_hand, ours, operations=len(keys), rounds=rounds) for name, by_hand, ours in sides]


async def compare_mapper(
    hand: ByHand, db: kv.Database, keys: list[bytes], value: bytes, rounds: int
) -> list[Comparison]:
    """The mapper: the same number of records, checked and typed."""
    items = Item.objects.using(db)
    names = [f"{number:06}" for number in range(len(keys))]
    note = value.decode()
    await items.save_many(Item("s", name, 0, note) for name in names)

    async def hand_gets() -> None:
        hand.get_all(keys)

    async def hand_sets() -> None:
        hand.set_all(keys, value)

    async def hand_unit() -> None:
        for at in range(0, len(keys), 100):
            hand.get_all(keys[at : at + 100])
            hand.sequence([(key, value) for key in keys[at : at + 100]])

    async def gets() -> None:
        for name in names:
            await items.get("s", name)

    async def crowd_gets() -> None:
        for at in range(0, len(names), 100):
            await asyncio.gather(*(items.get("s", name) for name in names[at : at + 100]))

    async def saves() -> None:
        for name in names:
            await items.save(Item("s", name, 0, note))

    async def crowd_saves() -> None:
        for at in range(0, len(names), 100):
            await asyncio.gather(*(items.save(Item("s", name, 0, note)) for name in names[at : at + 100]))

    async def units() -> None:
        for at in range(0, len(names), 100):
            async with db.unit_of_work():
                for item in await items.get_many([("s", name) for name in names[at : at + 100]]):
                    assert item is not None
                    item.count += 1

    sides = [
        ("get", hand_gets, gets),
        ("get, 100 tasks", hand_gets, crowd_gets),
        ("save", hand_sets, saves),
        ("save, 100 tasks", hand_sets, crowd_saves),
        ("unit of 100, each", hand_unit, units),
    ]
    return [await compare(name, by_hand, ours, operations=len(keys), rounds=rounds) for name, by_hand, ours in sides]


async def repeat(client: ArakoonClient, chosen: list[steps.Step], times: int) -> None:
    """Send a sequence again and again."""
    for _ in range(times):
        await client.sequence(chosen)


@attrs.frozen
class Condition:
    """A conditional update of a record of some size, both ways.

    Attributes:
        size: Bytes of the record.
        whole_bytes: What is sent when the whole value is asserted.
        beside_bytes: What is sent when a head beside it is.
        comparison: The times: the floor is the whole value, kvmodel is the head beside it.
    """

    size: int
    whole_bytes: int
    beside_bytes: int
    comparison: Comparison


def bytes_of(chosen: list[steps.Step]) -> int:
    """How many bytes a sequence has on the wire."""
    return len(steps.encode_step(steps.Sequence(chosen)))


async def compare_conditions(url: str, count: int, rounds: int) -> list[Condition]:
    """Conditional updates of records of some sizes: asserting the whole value, and asserting a head beside it."""
    found = []
    async with kv.connect(url, timeout=60) as db:
        client = db.native
        assert isinstance(client, ArakoonClient)
        for size in (30, 100, 300, 1_000, 10_000, 100_000, 1_000_000):
            data, head = b"x" * size, b"h" * 14
            await client.sequence([steps.Set("bench:key", data), steps.Set("bench:head:key", head)])
            whole: list[steps.Step] = [steps.Assert("bench:key", data), steps.Set("bench:key", data)]
            beside: list[steps.Step] = [
                steps.Assert("bench:head:key", head),
                steps.Set("bench:key", data),
                steps.Set("bench:head:key", head),
            ]
            times = max(count // 10 // (1 + size // 10_000), 5)
            comparison = await compare(
                f"{size:,} bytes",
                partial(repeat, client, whole, times),
                partial(repeat, client, beside, times),
                operations=times,
                rounds=rounds,
            )
            found.append(Condition(size, bytes_of(whole), bytes_of(beside), comparison))
        await client.delete_prefix("bench:")
    return found


async def version_of(url: str) -> str:
    """The version of a server."""
    async with kv.connect(url) as db:
        assert isinstance(db.native, ArakoonClient)
        return "server " + ".".join(map(str, (await db.native.version())[:3]))


async def run(given: str | None, *, quick: bool) -> dict[str, object]:
    """Measure and print; answer the figures."""
    count, rounds = (300, 3) if quick else (2_000, 9)
    async with served(given) as url:
        name = "emulator" if given is None else await version_of(url)
        print(f"{name + ':':<26}{'by hand µs':>12}{'kvmodel µs':>12}{'ratio':>8}")
        operations = await compare_all(url, count, rounds)
        for found in operations:
            print(f"{found.name:<26}{found.floor:>12.1f}{found.kvmodel:>12.1f}{found.ratio:>8.2f}", flush=True)
        print(f"\n{'conditional update of':<26}{'whole µs':>12}{'beside µs':>12}{'ratio':>8}{'bytes':>12}{'bytes':>12}")
        conditions = await compare_conditions(url, count, rounds)
        for each in conditions:
            found = each.comparison
            times = f"{found.floor:>12.1f}{found.kvmodel:>12.1f}{found.ratio:>8.2f}"
            print(f"{found.name:<26}{times}{each.whole_bytes:>12,}{each.beside_bytes:>12,}", flush=True)
    figures = {"operations": list(map(attrs.asdict, operations)), "conditions": list(map(attrs.asdict, conditions))}
    return {name: {"quick": quick, "python": sys.version, "platform": platform.platform(), **figures}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arakoon", description="Measure kvmodel on Arakoon.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--url", help="a server of yours, with no data that matters (default: the emulator)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    chosen = parser.parse_args(arguments)
    found = asyncio.run(run(chosen.url, quick=chosen.quick))
    kept = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json.exists() else {}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(kept | found, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {chosen.json}")


if __name__ == "__main__":
    main()
