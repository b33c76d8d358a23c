"""Picodata: gets, inserts, ranges and units of work, beside plain asyncpg and SQLAlchemy, on the same server.

python -m benchmarks.picodata            on the stand-in, some twenty seconds
python -m benchmarks.picodata --quick    small sizes
python -m benchmarks.picodata --url URL  on a cluster of yours

The stand-in is a Python program in front of PostgreSQL: what all sides wait for is the same, so ratios near 1 say that
the server is the bottleneck. asyncpg and SQLAlchemy do what one would write by hand: no version, no deadline, no check
of types. SQLAlchemy's dialect for asyncpg asks for catalogues and sends BEGIN, which Picodata refuses or ignores; here
it is told to leave both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

import kvmodel as kv
from benchmarks.measure import Comparison, compare
from kvmodel.drivers.picodata import PicodataPool

RESULTS = Path(__file__).parent / "results" / "picodata.json"

TABLE = """
CREATE TABLE IF NOT EXISTS "bench_rows" ("shelf" TEXT NOT NULL, "name" TEXT NOT NULL, "count" INTEGER, "note" TEXT,
    PRIMARY KEY ("shelf", "name")) USING memtx DISTRIBUTED BY ("shelf") OPTION (TIMEOUT = 10.0)
"""
GET = 'SELECT "count", "note" FROM "bench_rows" WHERE "shelf" = $1 AND "name" = $2'
PUT = 'INSERT INTO "bench_rows" ("shelf", "name", "count", "note") VALUES ($1, $2, $3, $4) ON CONFLICT DO REPLACE'
RANGE = 'SELECT "name", "count", "note" FROM "bench_rows" WHERE "shelf" = $1 AND "name" >= $2 ORDER BY "name" LIMIT 100'

ROWS = sa.table("bench_rows", sa.column("shelf"), sa.column("name"), sa.column("count"), sa.column("note"))
SA_GET = sa.select(ROWS.c["count"], ROWS.c.note).where(
    ROWS.c.shelf == sa.bindparam("s"), ROWS.c.name == sa.bindparam("n")
)
SA_PUT = sa.text(PUT.replace("$1", ":s").replace("$2", ":n").replace("$3", ":c").replace("$4", ":t"))
SA_RANGE = sa.text(RANGE.replace("$1", ":s").replace("$2", ":n"))


class Item(kv.Model, table="bench_items"):
    """A small record."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str = ""


class PicodataDialect(PGDialect_asyncpg):
    """SQLAlchemy's dialect, without what it asks of a PostgreSQL when it connects."""

    supports_statement_cache = True

    def initialize(self, connection: sa.Connection) -> None:
        """Ask nothing."""
        self.server_version_info = (15, 0)
        self.default_schema_name = "public"

    def on_connect(self) -> None:
        """Set no codecs: that would take the catalogues."""
        return


@asynccontextmanager
async def served(url: str | None) -> AsyncIterator[str]:
    """The URL of a cluster: yours, or a stand-in in a process of its own."""
    if url is not None:
        yield url
        return
    command = [sys.executable, "-m", "kvmodel.testing.picodata"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it takes no time
    try:
        assert process.stdout is not None
        yield (await asyncio.to_thread(process.stdout.readline)).removeprefix("ready ").strip()
    finally:
        process.terminate()
        process.communicate()


def engine_of(url: str) -> AsyncEngine:
    """SQLAlchemy on the first node."""
    first = url.replace("picodata://", "postgresql://").split(",")[0]

    async def connect(*_: Any, **__: Any) -> Any:
        return await asyncpg.connect(f"{first}/x", ssl=False)

    registry.register("picodata.asyncpg", "benchmarks.picodata", "PicodataDialect")
    return create_async_engine(
        "picodata+asyncpg://", async_creator=connect, isolation_level="AUTOCOMMIT", pool_reset_on_return=None
    )


@attrs.frozen
class Side:
    """One way to speak to the server.

    Attributes:
        get, put: One record.
        range: A hundred records in order.
    """

    get: Callable[[str], Awaitable[object]]
    put: Callable[[str], Awaitable[object]]
    range: Callable[[str], Awaitable[object]]


def by_asyncpg(link: Any, note: str) -> Side:
    """Plain asyncpg."""
    return Side(
        lambda name: link.fetchrow(GET, "s", name),
        lambda name: link.execute(PUT, "s", name, 0, note),
        lambda name: link.fetch(RANGE, "s", name),
    )


def by_sqlalchemy(link: AsyncConnection, note: str) -> Side:
    """SQLAlchemy's core."""
    return Side(
        lambda name: link.execute(SA_GET, {"s": "s", "n": name}),
        lambda name: link.execute(SA_PUT, {"s": "s", "n": name, "c": 0, "t": note}),
        lambda name: link.execute(SA_RANGE, {"s": "s", "n": name}),
    )


def by_kvmodel(db: kv.Database, note: str) -> Side:
    """The mapper."""
    items = Item.objects.using(db)

    async def read_range(name: str) -> object:
        return await items.range("s", first=name, limit=100)

    return Side(lambda name: items.get("s", name), lambda name: items.save(Item("s", name, 0, note)), read_range)


async def compare_all(url: str, count: int, rounds: int) -> list[Comparison]:
    """Compare gets, inserts, ranges and units of work."""
    names = [f"{number:06}" for number in range(count)]
    note = "x" * 100
    async with kv.connect(url, timeout=60) as db:
        pool = db.native
        assert isinstance(pool, PicodataPool)
        await pool.execute(TABLE)
        first = url.replace("picodata://", "postgresql://").split(",")[0]
        link = await asyncpg.connect(f"{first}/x", ssl=False)
        engine = engine_of(url)
        async with engine.connect() as session:
            ours, plain, alchemy = by_kvmodel(db, note), by_asyncpg(link, note), by_sqlalchemy(session, note)
            for name in names:
                await plain.put(name)
                await ours.put(name)
            found = []
            for other, title in ((plain, "asyncpg"), (alchemy, "SQLAlchemy")):
                found += await compare_sides(title, other, ours, names, rounds)
            found.append(await compare_units(db, link, names, note, rounds))
        await engine.dispose()
        await link.close()
        await pool.execute('DROP TABLE "bench_rows"')
        await Item.objects.using(db).scan().delete()
    return found


async def compare_sides(title: str, other: Side, ours: Side, names: list[str], rounds: int) -> list[Comparison]:
    """Compare the mapper with one other side."""

    async def each(call: Callable[[str], Awaitable[object]], chosen: list[str]) -> None:
        for name in chosen:
            await call(name)

    some = names[:: max(len(names) // 20, 1)]
    return [
        await compare(
            f"{what}, beside {title}",
            lambda call=theirs, chosen=chosen: each(call, chosen),  # type: ignore[misc]  # bound here, on purpose
            lambda call=mine, chosen=chosen: each(call, chosen),  # type: ignore[misc]
            operations=len(chosen),
            rounds=rounds,
        )
        for what, theirs, mine, chosen in (
            ("get", other.get, ours.get, names),
            ("save", other.put, ours.put, names),
            ("range of 100", other.range, ours.range, some),
        )
    ]


async def compare_units(db: kv.Database, link: Any, names: list[str], note: str, rounds: int) -> Comparison:
    """A unit of ten records, checked and atomic, beside ten reads and ten writes that are neither."""
    chosen = names[: len(names) // 10 * 10]
    tens = [chosen[at : at + 10] for at in range(0, len(chosen), 10)]

    async def by_hand() -> None:
        for ten in tens:
            for name in ten:
                row = await link.fetchrow(GET, "s", name)
                await link.execute(PUT, "s", name, row["count"] + 1, note)

    async def mapped() -> None:
        for ten in tens:
            async with db.unit_of_work():
                for item in await Item.objects.get_many([("s", name) for name in ten]):
                    assert item is not None
                    item.count += 1

    return await compare("unit of ten, each, beside asyncpg", by_hand, mapped, operations=len(chosen), rounds=rounds)


def keep(found: list[Comparison], store: str, *, quick: bool) -> None:
    """Write the figures, beside those of other stores."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[store] = {
        "python": platform.python_version(),
        "asyncpg": version("asyncpg"),
        "sqlalchemy": version("sqlalchemy"),
        "quick": quick,
        "comparisons": [attrs.asdict(each) for each in found],
    }
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


async def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a cluster of yours (a stand-in)")
    parser.add_argument("--quick", action="store_true", help="small sizes; the figures are not kept")
    chosen = parser.parse_args()
    async with served(chosen.url) as url:
        found = await compare_all(url, 60 if chosen.quick else 400, 2 if chosen.quick else 5)
    print(f"{'microseconds an operation':34}{'other':>10}{'kvmodel':>10}{'ratio':>8}")
    for each in found:
        print(f"{each.name:34}{each.floor:10.0f}{each.kvmodel:10.0f}{each.ratio:8.2f}")
    if not chosen.quick:
        keep(found, "stand-in" if chosen.url is None else "cluster", quick=chosen.quick)


if __name__ == "__main__":
    asyncio.run(main())
