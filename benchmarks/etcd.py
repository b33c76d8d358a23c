"""etcd: reads, writes, ranges and units of work, beside a client written by hand on the same library (grpcio).

python -m benchmarks.etcd            on a real server of one node, and a cluster of three; a minute or two
python -m benchmarks.etcd --quick    small sizes
python -m benchmarks.etcd --url URL  on a cluster of yours

Both sides wait for the same server, so ratios near 1 say that the server is the bottleneck. The figures are kept as
JSON, those of each kind of cluster beside each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import grpc
import grpc.aio

import kvmodel as kv
from benchmarks.measure import Comparison, Run, compare
from kvmodel.drivers.etcd import messages as m
from kvmodel.drivers.etcd import prefix_end
from kvmodel.testing.etcd import EtcdCluster

RESULTS = Path(__file__).parent / "results" / "etcd.json"


class Item(kv.Model, table="bench_items"):
    """A small record."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str = ""


class ByHand:
    """What one would write in an afternoon: one node, bytes, no errors, no second attempt, no types."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target)
        service = "/etcdserverpb.KV/"
        self._range: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            service + "Range", m.RangeRequest.encode, m.RangeResponse.decode
        )
        self._put: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            service + "Put", m.PutRequest.encode, m.PutResponse.decode
        )
        self._txn: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            service + "Txn", m.TxnRequest.encode, m.TxnResponse.decode
        )
        self._delete: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            service + "DeleteRange", m.DeleteRangeRequest.encode, m.DeleteRangeResponse.decode
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()

    async def get(self, key: bytes) -> m.KeyValue:
        """Read one key."""
        found: m.RangeResponse = await self._range(m.RangeRequest(key))
        return found.kvs[0]

    async def get_many(self, keys: Sequence[bytes]) -> list[m.KeyValue]:
        """Read keys at once."""
        reads = [m.RequestOp(request_range=m.RangeRequest(key)) for key in keys]
        done: m.TxnResponse = await self._txn(m.TxnRequest((), reads))
        return [op.response_range.kvs[0] for op in done.responses if op.response_range]

    async def range(self, prefix: bytes, limit: int) -> Sequence[m.KeyValue]:
        """Read the first keys of a prefix."""
        found: m.RangeResponse = await self._range(m.RangeRequest(prefix, prefix_end(prefix), limit))
        return found.kvs

    async def put(self, key: bytes, value: bytes) -> None:
        """Write one key."""
        await self._put(m.PutRequest(key, value))

    async def put_all(self, keys: Sequence[bytes], value: bytes, seen: Sequence[int] = ()) -> None:
        """Write keys at once, those whose revision is given only if they are unchanged."""
        compares = [
            m.Compare(m.Result.EQUAL, m.Target.MOD, key, mod_revision=revision)
            for key, revision in zip(keys, seen, strict=False)
        ]
        await self._txn(m.TxnRequest(compares, [m.RequestOp(request_put=m.PutRequest(key, value)) for key in keys]))

    async def clear(self, prefix: bytes) -> None:
        """Remove the keys of a prefix."""
        await self._delete(m.DeleteRangeRequest(prefix, prefix_end(prefix)))


def sides(
    hand: ByHand, db: kv.Database, keys: list[bytes], names: list[str], value: bytes
) -> dict[str, tuple[Run, Run]]:
    """Each operation, by hand and through the mapper."""
    items, note = Item.objects.using(db), value.decode()

    async def hand_gets() -> None:
        for key in keys:
            await hand.get(key)

    async def gets() -> None:
        for name in names:
            await items.get("s", name)

    async def hand_crowd() -> None:
        for at in range(0, len(keys), 100):
            await asyncio.gather(*(hand.get(key) for key in keys[at : at + 100]))

    async def crowd() -> None:
        for at in range(0, len(names), 100):
            await asyncio.gather(*(items.get("s", name) for name in names[at : at + 100]))

    async def hand_ranges() -> None:
        for _ in range(0, len(keys), 100):
            await hand.range(b"bench:", 100)

    async def ranges() -> None:
        for _ in range(0, len(keys), 100):
            await items.range("s", limit=100)

    async def hand_puts() -> None:
        for key in keys:
            await hand.put(key, value)

    async def saves() -> None:
        for name in names:
            await items.save(Item("s", name, 0, note))

    async def hand_put_crowd() -> None:
        for at in range(0, len(keys), 100):
            await asyncio.gather(*(hand.put(key, value) for key in keys[at : at + 100]))

    async def save_crowd() -> None:
        for at in range(0, len(names), 100):
            await asyncio.gather(*(items.save(Item("s", name, 0, note)) for name in names[at : at + 100]))

    async def hand_bulk() -> None:
        for at in range(0, len(keys), 100):
            await hand.put_all(keys[at : at + 100], value)

    async def bulk() -> None:
        await items.save_many(Item("s", name, 0, note) for name in names)

    async def hand_units() -> None:
        for at in range(0, len(keys), 2):
            found = await hand.get_many(keys[at : at + 2])
            await hand.put_all(keys[at : at + 2], value, [each.mod_revision for each in found])

    async def units() -> None:
        for at in range(0, len(names), 2):
            async with db.unit_of_work():
                for item in await items.get_many([("s", name) for name in names[at : at + 2]]):
                    assert item is not None
                    item.count += 1

    return {
        "get": (hand_gets, gets),
        "get, 100 tasks": (hand_crowd, crowd),
        "range of 100, each": (hand_ranges, ranges),
        "save": (hand_puts, saves),
        "save, 100 tasks": (hand_put_crowd, save_crowd),
        "save_many, each": (hand_bulk, bulk),
        "unit of 2, each": (hand_units, units),
    }


async def compare_all(url: str, count: int, rounds: int) -> list[Comparison]:
    """Compare all operations on one cluster."""
    hand = ByHand(urlsplit(url).netloc.partition(",")[0])
    keys = [b"bench:%06d" % number for number in range(count)]
    names = [f"{number:06}" for number in range(count)]
    value = b"x" * 300
    async with kv.connect(url, timeout=60, namespace="bench") as db:
        items = Item.objects.using(db)
        for at in range(0, count, 100):
            await hand.put_all(keys[at : at + 100], value)
        await items.save_many(Item("s", name, 0, value.decode()) for name in names)
        found = []
        for name, (by_hand, ours) in sides(hand, db, keys, names, value).items():
            found.append(await compare(name, by_hand, ours, operations=count, rounds=rounds))
            print(f"{name:<26}{found[-1].floor:>12.1f}{found[-1].kvmodel:>12.1f}{found[-1].ratio:>8.2f}", flush=True)
        await hand.clear(b"bench:")
        await items.range("s").delete()
    await hand.close()
    return found


def run(url: str | None, *, quick: bool) -> dict[str, object]:
    """Measure and print; answer the figures."""
    count, rounds = (200, 2) if quick else (1_000, 5)
    figures: dict[str, object] = {}

    def measure(name: str, url: str) -> None:
        print(f"\n{name + ':':<26}{'by hand µs':>12}{'kvmodel µs':>12}{'ratio':>8}")
        operations = asyncio.run(compare_all(url, count, rounds))
        facts = {"quick": quick, "python": sys.version, "platform": platform.platform(), "grpcio": grpc.__version__}
        figures[name] = {**facts, "operations": list(map(attrs.asdict, operations))}

    if url is not None:
        measure("cluster of yours", url)
        return figures
    for nodes in (1, 3):
        with EtcdCluster(nodes) as cluster:
            version = ".".join(map(str, cluster.server.version))
            measure(f"etcd {version}, {nodes} node{'s' * (nodes > 1)}", cluster.url)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.etcd", description="Measure kvmodel on etcd.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--url", help="a cluster of yours, with no data that matters (default: real ones on loopback)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    chosen = parser.parse_args(arguments)
    found = run(chosen.url, quick=chosen.quick)
    kept = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json.exists() else {}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(kept | found, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept in {chosen.json}")


if __name__ == "__main__":
    main()
