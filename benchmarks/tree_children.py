"""Children of a node with a hundred thousand descendants, beside a skip scan that is written by hand on py-lmdb.

python -m benchmarks.tree_children            a minute
python -m benchmarks.tree_children --quick    seconds: shows that it works, not how fast it is

Both sides read the same file. The floor seeks to each child, takes its record and seeks behind everything below it; it
answers typed objects, refuses damaged records and passes over expired ones, as far as that takes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import lmdb
import msgpack

import kvmodel as kv
from benchmarks.floor import FORMAT, STAMP_END
from benchmarks.measure import Comparison, compare, keep, setting
from benchmarks.models import url

RESULTS = Path(__file__).parent / "results" / "trees.json"
TABLE = b"\x05\x00\x02bench_nodes\x00"  # no namespace, then the table's name


class Node(kv.TreeModel, table="bench_nodes"):
    """What lies in the tree."""

    tree: str = kv.partition_key()
    size: int = 0
    note: str | None = None


@attrs.frozen
class Shape:
    """A node's children, and how many nodes are below each of them."""

    name: str
    children: int
    below: int

    @property
    def descendants(self) -> int:
        """How many nodes are below the node in all."""
        return self.children * (1 + self.below)

    def nodes(self) -> Iterator[Node]:
        """All nodes of the tree: the measured one is ``top``, between two others."""
        yield Node(self.name, path=("before",))
        yield Node(self.name, path=("top",))
        for child in range(self.children):
            yield Node(self.name, child, f"child {child}", path=("top", f"child-{child:06}"))
            for below in range(self.below):
                yield Node(self.name, below, path=("top", f"child-{child:06}", f"{below % 10}", f"node-{below:06}"))
        yield Node(self.name, path=("topmost",))


FULL = [Shape("few deep", 100, 999), Shape("many", 1_000, 99), Shape("flat", 100_000, 0)]
QUICK = [Shape("few deep", 20, 99), Shape("many", 100, 19), Shape("flat", 2_000, 0)]


# --- the floor ------------------------------------------------------------------------------------------------------


@attrs.define
class FloorNode:
    """The same fields as :class:`Node`."""

    tree: str
    path: tuple[str, ...]
    size: int = 0
    note: str | None = None


def floor_children(env: lmdb.Environment, tree: str, top: str) -> list[FloorNode]:
    """The skip scan, by hand: one seek for each child."""
    root = TABLE + b"\x02" + tree.encode() + b"\x00\x05\x02" + top.encode() + b"\x00"
    found: list[FloorNode] = []
    with env.begin() as txn, txn.cursor() as cursor:
        place = root + b"\x01"
        while cursor.set_range(place):
            key = cursor.key()
            if not key.startswith(root):
                break
            end = key.index(b"\x00", len(root) + 1)
            if end + 2 == len(key):  # Nothing follows but the end of the tuple: this is a child.
                found.append(load(tree, (top, key[len(root) + 1 : end].decode()), cursor.value()))
            place = key[:end] + b"\x01"
    return found


def load(tree: str, path: tuple[str, ...], data: bytes) -> FloorNode:
    """Read a record."""
    if data[0] != FORMAT:
        raise ValueError(f"not a record: {data[:16]!r}")
    fields = msgpack.unpackb(data[STAMP_END:])
    size, note = fields["size"], fields["note"]
    if not isinstance(size, int) or not (note is None or isinstance(note, str)):
        raise TypeError(f"not a node: {fields!r}")
    return FloorNode(tree, path, size, note)


# --- measuring ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Cost:
    """What one call of ``children`` spends, and how much longer it takes to read everything below instead."""

    round_trips: int
    keys: int
    whole_subtree: float


async def measure(folder: Path, shape: Shape, *, rounds: int) -> tuple[Comparison, Cost]:
    """Compare the two on one tree."""
    path = folder / shape.name.replace(" ", "-")
    async with kv.connect(url(path, sync="false")) as db:
        nodes = Node.objects.using(db)
        await nodes.save_many(shape.nodes())
        tree = Node.objects.using(db).tree(shape.name)
        env = db.native
        assert isinstance(env, lmdb.Environment)

        async def by_hand() -> None:
            assert len(floor_children(env, shape.name, "top")) == shape.children

        async def mapped() -> None:
            assert len(await tree.children("top")) == shape.children

        async def everything() -> None:
            below = [node async for node in tree.descendants("top") if len(node.path) == 2]
            assert len(below) == shape.children

        found = await compare(shape.name, by_hand, mapped, operations=shape.children, rounds=rounds)
        naive = await compare(shape.name, mapped, everything, operations=1, rounds=3)
        with kv.budget() as spent:
            await tree.children("top")
    return found, Cost(spent.round_trips, spent.keys, naive.kvmodel / naive.floor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tree_children", description="Measure trees on LMDB.")
    parser.add_argument("--quick", action="store_true", help="small sizes: some seconds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to keep the figures (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to make the files; on the disk that is to be measured")
    chosen = parser.parse_args(arguments)

    gc.freeze()
    figures = []
    print(f"{'children':<10}{'of each':>9}{'floor µs':>10}{'kvmodel µs':>12}", end="")
    print(f"{'ratio':>7}{'trips':>8}{'keys':>9}{'all/skip':>10}")
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="kvmodel-bench-") as folder:
        for shape in QUICK if chosen.quick else FULL:
            found, cost = asyncio.run(measure(Path(folder), shape, rounds=5 if chosen.quick else 15))
            figures.append(attrs.asdict(shape) | {"each": attrs.asdict(found), "call": attrs.asdict(cost)})
            print(
                f"{shape.children:<10,}{shape.below:>9,}{found.floor:>10.2f}{found.kvmodel:>12.2f}{found.ratio:>7.2f}"
                f"{cost.round_trips:>8,}{cost.keys:>9,}{cost.whole_subtree:>10.1f}",
                flush=True,
            )
    keep(chosen.json, setting(("kvmodel", "lmdb"), quick=chosen.quick) | {"shapes": figures})


if __name__ == "__main__":
    main()
