"""Goods move between warehouses, while the master of the cluster moves too: nothing is lost, and nothing doubled.

    python examples/arakoon_inventory.py [URL] [--moves 200]

Every move takes goods out of one warehouse, puts them into another and writes a line into the journal: one unit of
work, which on Arakoon is one sequence, one round trip and all or nothing. Workers move at random, at the same time. In
the end the books are compared: goods in all warehouses, and the journal.

Without a URL it starts an emulated cluster of three nodes, and takes the master away from under the workers.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kvmodel as kv
from kvmodel.drivers.arakoon import ArakoonClient
from kvmodel.testing.arakoon import LocalCluster

WAREHOUSES = ["Antwerp", "Ghent", "Lochristi"]
GOODS = ["bolts", "nuts", "screws"]
STOCK = 1000


class Stock(kv.Model, table="stock"):
    """How many of one kind of goods a warehouse has."""

    warehouse: str = kv.partition_key()
    goods: str = kv.clustering_key()
    count: int = 0


class Move(kv.Model, table="moves"):
    """A line of the journal. Who writes it chooses its number, so that it cannot be written twice."""

    goods: str = kv.partition_key()
    number: str = kv.clustering_key()
    source: str = ""
    target: str = ""
    count: int = 0


async def move(db: kv.Database, draw: random.Random) -> bool:
    """Move some goods; answers whether there were enough of them."""
    goods, count, number = draw.choice(GOODS), draw.randint(1, 50), secrets.token_hex(8)
    source, target = draw.sample(WAREHOUSES, 2)

    async def transfer(uow: kv.UnitOfWork) -> bool:
        here, there = [await Stock.objects.get(place, goods) for place in (source, target)]
        if here.count < count:
            return False
        here.count -= count
        there.count += count
        uow.add(Move(goods, number, source, target, count))
        return True

    while True:
        try:
            return await db.transact(transfer)
        except kv.OutcomeUnknown:
            # The answer was lost with the master. The journal says whether it was done; only then is it safe to go on.
            if await Move.objects.exists(goods, number):
                return True
        except kv.AlreadyExists:
            return True


async def work(db: kv.Database, moves: int, seed: int) -> Counter[bool]:
    """Move goods, again and again."""
    draw = random.Random(seed)
    return Counter([await move(db, draw) for _ in range(moves)])


async def trouble(cluster: LocalCluster) -> None:
    """Take the master away, in every way there is."""
    while True:
        for _ in range(300):
            await asyncio.sleep(0)
        if cluster.master is not None:
            cluster.move_master()


async def count_stock() -> Counter[str]:
    """Goods in all warehouses."""
    return Counter(
        {goods: sum([(await Stock.objects.get(place, goods)).count for place in WAREHOUSES]) for goods in GOODS}
    )


async def replay() -> dict[tuple[str, str], int]:
    """What the journal says that there should be."""
    counts = {(place, goods): STOCK for place in WAREHOUSES for goods in GOODS}
    async for line in Move.objects.scan():
        counts[line.source, line.goods] -= line.count
        counts[line.target, line.goods] += line.count
    return counts


async def run(url: str, moves: int, cluster: LocalCluster | None) -> None:
    """Stock the warehouses, move, and compare the books."""
    async with kv.connect(url, namespace=f"inventory-{secrets.token_hex(4)}") as db:
        await Stock.objects.save_many(Stock(place, goods, STOCK) for place in WAREHOUSES for goods in GOODS)
        before = await count_stock()
        mischief = None if cluster is None else asyncio.create_task(trouble(cluster))
        done = await asyncio.gather(*(work(db, moves // 4, seed) for seed in range(4)))
        if mischief is not None:
            mischief.cancel()
        after = await count_stock()
        expected = await replay()
        stored = {(stock.warehouse, stock.goods): stock.count async for stock in Stock.objects.scan()}

        print(f"moves:             {sum(each[True] for each in done)}, refused: {sum(each[False] for each in done)}")
        print(f"goods before:      {before.total()}")
        print(f"goods after:       {after.total()}")
        print(f"the journal agrees: {stored == expected}")
        for place in WAREHOUSES:
            held = [f"{stock.goods} {stock.count}" for stock in await Stock.objects.range(place)]
            print(f"{place:<11}{', '.join(held)}")
        assert isinstance(db.native, ArakoonClient)
        print(f"server:            {'.'.join(map(str, (await db.native.version())[:3]))}")
        await Stock.objects.scan().delete()
        await Move.objects.scan().delete()


@asynccontextmanager
async def chosen_cluster(url: str | None) -> AsyncIterator[tuple[str, LocalCluster | None]]:
    """The cluster that was asked for, or an emulated one."""
    if url is not None:
        yield url, None
        return
    async with LocalCluster(3) as cluster:
        yield cluster.url, cluster


async def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="arakoon://host:port,host:port/?cluster=NAME (default: an emulator)")
    parser.add_argument("--moves", type=int, default=200, help="how many moves (%(default)s)")
    arguments = parser.parse_args()
    async with chosen_cluster(arguments.url) as (url, cluster):
        await run(url, arguments.moves, cluster)


if __name__ == "__main__":
    asyncio.run(main())
