"""One program, any store: a shop with stock, orders and workers. Only the URL says where its data lives.

    python examples/one_program.py [URL]

Without a URL it is an LMDB file in a temporary folder. To run it elsewhere, start a server and paste what it prints:

    python -m kvmodel.testing.redis              redis://...
    python -m kvmodel.testing.redis --cluster    redis+cluster://...
    python -m kvmodel.testing.etcd --nodes 3     etcd://...

What it prints is the same everywhere, but for the last paragraph, which says what the store promises. Everything that
belongs together is in one partition, the shop: so it works where atomic writes reach no further, too.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from datetime import timedelta

import kvmodel as kv

ITEMS = {"apple": 120, "apricot": 80, "banana": 100, "cherry": 60}
CUSTOMERS = 12
PURCHASES = 5


class Item(kv.Model, table="shop_items"):
    """Something on the shelf."""

    shop: str = kv.partition_key()
    name: str = kv.clustering_key()
    stock: int = 0
    sold: int = 0


class Order(kv.QueueModel, table="shop_orders"):
    """Something that was bought, and waits to be packed."""

    shop: str = kv.partition_key()
    customer: int
    item: str
    count: int


class Basket(kv.Model, table="shop_baskets", expires_in=timedelta(hours=1)):
    """What a customer has in mind; forgotten after an hour."""

    shop: str = kv.partition_key()
    customer: int = kv.clustering_key()
    items: dict[str, int] = kv.field(factory=dict)


async def buy(db: kv.Database, shop: str, customer: int, name: str, count: int) -> bool:
    """Take something off the shelf and order it, both or neither, whoever else buys at the same moment."""

    async def purchase(_: kv.UnitOfWork) -> bool:
        item = await Item.objects.get(shop, name)
        if item.stock < count:
            return False
        item.stock -= count
        await Order.objects.put(Order(shop, customer=customer, item=name, count=count))
        return True

    return await db.transact(purchase)


async def visit(db: kv.Database, shop: str, customer: int) -> int:
    """Buy this and that; answer how much."""
    draw = random.Random(customer)
    wanted = {draw.choice(list(ITEMS)): draw.randint(1, 4) for _ in range(PURCHASES)}
    await Basket.objects.create(Basket(shop, customer, wanted))
    bought = 0
    for name, count in wanted.items():
        bought += count * await buy(db, shop, customer, name, count)
    await Basket.objects.delete(shop, customer)
    return bought


async def pack(db: kv.Database, shop: str) -> int:
    """Take orders until there are none left; answer how many. Each is counted once, though workers compete for it."""
    packed = 0
    async for message in Order.objects.consume(shop, lease=30, wait=False):

        async def count(_: kv.UnitOfWork) -> None:
            item = await Item.objects.get(shop, message.item.item)  # noqa: B023 - it is awaited right here
            item.sold += message.item.count  # noqa: B023
            await message.ack()  # noqa: B023

        await db.transact(count)
        packed += 1
    return packed


async def follow(shop: str, ready: asyncio.Event) -> int:
    """Count the changes of the shop's apples, until there are as many as were bought; 0 where it can't be watched."""
    seen = 0
    try:
        async with Item.objects.watch(shop, prefix="a") as changes:
            ready.set()
            async for change in changes:
                assert change.new is not None
                seen += 1
                if change.new.name == "apricot" and change.new.stock == -1:
                    return seen - 1
    except kv.Unsupported:
        ready.set()
    return 0


async def run(db: kv.Database, shop: str) -> None:
    """Open the shop, sell, pack, and take stock."""
    await Item.objects.save_many(Item(shop, name, stock) for name, stock in ITEMS.items())
    print("on the shelf:", {item.name: item.stock async for item in Item.objects.range(shop)})

    ready = asyncio.Event()
    following = asyncio.create_task(follow(shop, ready))
    await ready.wait()
    bought = sum(await asyncio.gather(*(visit(db, shop, customer) for customer in range(CUSTOMERS))))
    orders = await Order.objects.length(shop)
    print("bought:", bought, "in", orders, "orders")

    packed = await asyncio.gather(*(pack(db, shop) for _ in range(3)))
    print("packed:", sum(packed), "orders, left:", await Order.objects.length(shop))

    items = await Item.objects.range(shop)
    print("with an a:", [item.name for item in await Item.objects.range(shop, prefix="a")])
    print("first two:", [item.name for item in await Item.objects.range(shop, limit=2)])
    print("all accounted for:", all(item.stock + item.sold == ITEMS[item.name] for item in items))
    print("sold:", {item.name: item.sold for item in items}, "baskets left:", await Basket.objects.range(shop).count())

    await Item.objects.update(shop, "apricot", stock=-1)
    changes = await following
    can = db.capabilities
    print(f"\n{can.store}: atomic writes reach the {can.atomicity.name.lower()}, survive the loss of", end=" ")
    print({1: "nothing", 2: "the process", 3: "power", 4: "a machine"}[can.durability], end="; ")
    print(f"a failover {'may' if can.failover_may_lose else 'does not'} lose what was acknowledged;", end=" ")
    print(f"{changes} changes of apples and apricots were watched" if changes else "changes can't be watched")


async def main(url: str) -> None:
    """Do it in a namespace of its own, and leave nothing behind."""
    start = time.perf_counter()
    async with kv.connect(url, namespace=f"one-program-{random.getrandbits(40):010x}", timeout=30) as db:
        try:
            await run(db, "corner")
        finally:
            for model in (Item, Order, Basket):
                await model.objects.range("corner").delete()
        await Order.objects.purge("corner", older_than=0)
    print(f"{time.perf_counter() - start:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(f"lmdb://{folder}/data"))
