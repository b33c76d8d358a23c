"""A table of Picodata's manual, created by SQL, as a model; and a second one that is read by ranges.

    python examples/picodata_warehouse.py [URL]

``warehouse`` is keyed by ``id`` and distributed by ``id``: each record is a partition of its own, so that it is read by
key, or by scanning the whole table. ``warehouse_sections`` is distributed by ``section`` and keyed by ``section`` and
``id``: a section lies together on one node, in order, and is read by ranges and changed by units of work.

Without a URL it starts a stand-in for a cluster, for which the programs of PostgreSQL have to be installed.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kvmodel as kv
from kvmodel.drivers.picodata import PicodataPool
from kvmodel.testing.picodata import LocalPicodata

WAREHOUSE = """
CREATE TABLE IF NOT EXISTS warehouse (
    id INTEGER NOT NULL,
    item TEXT NOT NULL,
    type TEXT NOT NULL,
    PRIMARY KEY (id))
USING memtx DISTRIBUTED BY (id)
OPTION (TIMEOUT = 3.0)
"""

SECTIONS = """
CREATE TABLE IF NOT EXISTS warehouse_sections (
    section TEXT NOT NULL,
    id INTEGER NOT NULL,
    item TEXT NOT NULL,
    amount INTEGER,
    PRIMARY KEY (section, id))
USING memtx DISTRIBUTED BY (section)
OPTION (TIMEOUT = 3.0)
"""

STOCK = [(1, "bricks", "heavy"), (2, "panels", "light"), (3, "piles", "heavy"), (4, "bars", "light")]


class Item(kv.Model, table="warehouse"):
    """A row of the manual's table, as it is: no column of kvmodel's own."""

    id: int = kv.partition_key()
    item: str
    type: str


class Place(kv.Model, table="warehouse_sections"):
    """What lies in a section; ``amount`` may be NULL."""

    section: str = kv.partition_key()
    id: int = kv.clustering_key()
    item: str
    amount: int | None = None


@asynccontextmanager
async def served(url: str | None) -> AsyncIterator[str]:
    """The URL of a cluster: yours, or a stand-in of two nodes."""
    if url is not None:
        yield url
        return
    async with LocalPicodata(2) as cluster:
        yield cluster.url


async def create_tables(db: kv.Database) -> None:
    """Create both tables by SQL, on the store's own client."""
    pool = db.native
    assert isinstance(pool, PicodataPool)
    await pool.execute(WAREHOUSE)
    await pool.execute(SECTIONS)
    await db.prepare(Item, Place)  # Both are there: their columns are compared with the models.


async def use_warehouse(db: kv.Database) -> None:
    """Fill the manual's table, and read it."""
    await Item.objects.save_many(Item(*row) for row in STOCK)
    print("get:", await Item.objects.get(3))
    print("scan:", ", ".join(f"{item.id} {item.item}" for item in await Item.objects.scan()))
    bars = await Item.objects.get(4)
    bars.type = "heavy"
    await Item.objects.save(
        bars
    )  # All of its columns are still what they were when it was read, or this is a Conflict.
    print("heavy:", sum([item.type == "heavy" async for item in Item.objects.scan()]))


async def use_sections(db: kv.Database) -> None:
    """Fill the second table, and read parts of a section."""
    await Place.objects.save_many(
        Place(section, number, item, number * 10)
        for section in ("north", "south")
        for number, item in enumerate(("bricks", "panels", "piles", "bars", "tiles"), 1)
    )
    print("range:", ", ".join(f"{place.id} {place.item}" for place in await Place.objects.range("north", after=2)))
    last = await Place.objects.range("north", reverse=True, limit=1)
    print("last:", last[0].item, last[0].amount)
    async with db.unit_of_work():  # One block on the section's bucket: both rows change, or none.
        bricks, panels = await Place.objects.get("north", 1), await Place.objects.get("north", 2)
        bricks.amount, panels.amount = (bricks.amount or 0) - 5, (panels.amount or 0) + 5
    print("moved:", [place.amount for place in await Place.objects.range("north", last=2)])


async def main(url: str | None) -> None:
    """Create, map, fill and read."""
    async with served(url) as url, kv.connect(url, pool_size=4) as db:
        await create_tables(db)
        await use_warehouse(db)
        await use_sections(db)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="picodata://user:password@host:port,... (a stand-in)")
    asyncio.run(main(parser.parse_args().url))
