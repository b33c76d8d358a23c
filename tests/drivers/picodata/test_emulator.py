"""The emulator behaves as Picodata is described: seen with asyncpg alone, and as a program."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import kvmodel as kv
from kvmodel.testing.picodata import LocalPicodata, MissingPostgres, PostgresServer, find_postgres
from kvmodel.testing.picodata import postgres as module
from tests.drivers.picodata.helpers import Item

TABLE = (
    'CREATE TABLE "t" ("k" TEXT NOT NULL, "c" INTEGER NOT NULL, "v" TEXT, PRIMARY KEY ("k", "c")) DISTRIBUTED BY ("k")'
)


async def connect(cluster: LocalPicodata, **given: Any) -> Any:
    """A connection of asyncpg."""
    url = cluster.url.replace("picodata://", "postgresql://")
    return await asyncpg.connect(f"{url}/any", ssl=False, **given)


@pytest.fixture
async def cluster(postgres: PostgresServer) -> AsyncIterator[LocalPicodata]:
    """One node."""
    async with LocalPicodata(1, postgres=postgres) as cluster:
        yield cluster


@pytest.fixture
async def link(cluster: LocalPicodata) -> AsyncIterator[Any]:
    """A connection to it, and a table."""
    link = await connect(cluster)
    await link.execute(TABLE)
    yield link
    await link.close()


async def test_transactions_are_answered_and_do_nothing(cluster: LocalPicodata, link: Any) -> None:
    """What was changed before ROLLBACK stays; the node notes that somebody tried."""
    assert await link.execute("BEGIN") == "BEGIN"
    await link.execute('INSERT INTO "t" ("k", "c") VALUES ($1, $2)', "a", 1)
    assert await link.execute("ROLLBACK") == "ROLLBACK"
    assert not link.is_in_transaction()
    assert await link.fetchval('SELECT count(*) FROM "t"') == 1
    assert cluster.nodes[0].ignored == ["BEGIN", "ROLLBACK"]


async def test_pipelines_are_not_atomic(link: Any) -> None:
    """What ran before the failing statement stays."""
    with pytest.raises(asyncpg.PostgresError, match="Duplicate key exists"):
        await link.executemany('INSERT INTO "t" ("k", "c") VALUES ($1, $2)', [("a", 1), ("a", 2), ("a", 1), ("a", 3)])
    assert await link.fetchval('SELECT count(*) FROM "t"') == 2


async def test_blocks_are_atomic(link: Any) -> None:
    """An error undoes all of it; the rows of all RETURN QUERY come back."""
    insert = 'INSERT INTO "t" ("k", "c") VALUES ($1, $2);'
    with pytest.raises(asyncpg.PostgresError, match="Duplicate key"):
        await link.fetch(f"DO $$ BEGIN {insert} {insert} END $$", "a", 1)
    assert await link.fetchval('SELECT count(*) FROM "t"') == 0
    sql = f'DO $$ BEGIN RETURN QUERY SELECT "c" FROM "t" WHERE "k" = $1; {insert} END $$'
    assert await link.fetch(sql, "a", 1) == []
    assert [row["c"] for row in await link.fetch(sql, "a", 2)] == [1]
    assert await link.execute(sql, "a", 3) == "DO 2"
    with pytest.raises(asyncpg.PostgresError, match="division by zero"):
        await link.fetch('DO $$ BEGIN RETURN QUERY SELECT 1 / count(*) FROM "t" WHERE "k" = $1; END $$', "z")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ('UPDATE "t" SET "v" = $1 WHERE "c" = $2;', "all buckets"),
        ('UPDATE "t" SET "v" = $1 WHERE "k" = $1 OR "c" = $2;', "all buckets"),
        ('UPDATE "t" SET "v" = $1 WHERE "k" = $1 AND "c" = $2; DELETE FROM "t" WHERE "k" = $3;', "different buckets"),
        ('RETURN QUERY SELECT "c" FROM "t" WHERE "k" = $1; RETURN QUERY SELECT "v" FROM "t" WHERE "k" = $1;', "shape"),
    ],
)
async def test_blocks_that_are_refused(link: Any, block: str, words: str) -> None:
    """Every statement fixes one bucket, the same for all; what comes back has one shape."""
    values = ["a", 1, "b"][: block.count("$3") + block.count("$2 ") + 3]
    values = values[: 3 if "$3" in block else 2 if "$2" in block else 1]
    with pytest.raises(asyncpg.PostgresError, match=words):
        await link.fetch(f"DO $$ BEGIN {block} END $$", *values)


async def test_limits(cluster: LocalPicodata, link: Any) -> None:
    """Rows of a statement and of a VALUES list; OPTION and the startup option raise them."""
    values = ", ".join(f"('a', {number})" for number in range(5001))
    with pytest.raises(asyncpg.PostgresError, match="Exceeded maximum number of rows"):
        await link.execute(f'INSERT INTO "t" ("k", "c") VALUES {values}')
    await link.execute(f'INSERT INTO "t" ("k", "c") VALUES {values} OPTION (sql_motion_row_max = 0)')
    with pytest.raises(asyncpg.PostgresError, match="Exceeded maximum number of rows"):
        await link.fetch('SELECT "c" FROM "t"')
    with pytest.raises(asyncpg.PostgresError, match="vdbe opcodes"):
        await link.fetch('SELECT "c" FROM "t" LIMIT 10 OPTION (sql_vdbe_opcode_max = 5)')
    free = await connect(cluster, server_settings={"options": "sql_motion_row_max=0,sql_vdbe_opcode_max=0"})
    assert len(await free.fetch('SELECT "c" FROM "t"')) == 5001
    await free.close()


async def test_stale_statements(cluster: LocalPicodata, link: Any) -> None:
    """With the option they are refused with 42999 once their table has changed."""
    strict = await connect(cluster, server_settings={"options": "pico_stmt_invalidation=true"})
    statement = await strict.prepare('SELECT "c" FROM "t"')
    await link.execute('ALTER TABLE "t" ADD COLUMN "w" TEXT')
    with pytest.raises(asyncpg.PostgresError) as caught:
        await statement.fetch()
    assert caught.value.sqlstate == "42999"
    await strict.close()


async def test_order_is_that_of_bytes_and_null_is_the_smallest(link: Any) -> None:
    """Whatever the locale."""
    texts = ["", "!", "A", "Z", "a", "b", "é", "\uffff", "\U0001f600"]
    for number, text in enumerate(reversed(texts)):
        await link.execute('INSERT INTO "t" ("k", "c", "v") VALUES ($1, $2, $3)', "a", number, text)
    await link.execute('INSERT INTO "t" ("k", "c") VALUES ($1, $2)', "a", 99)
    assert [row[0] for row in await link.fetch('SELECT "v" FROM "t" ORDER BY "v"')] == [None, *texts]


async def test_replace_replaces_the_whole_row(link: Any) -> None:
    """Columns that are not given become NULL; key columns can't be updated; NOTHING counts what was inserted."""
    await link.execute('INSERT INTO "t" ("k", "c", "v") VALUES ($1, $2, $3)', "a", 1, "x")
    assert (
        await link.execute('INSERT INTO "t" ("k", "c") VALUES ($1, $2) ON CONFLICT DO NOTHING', "a", 1) == "INSERT 0 0"
    )
    assert (
        await link.execute('INSERT INTO "t" ("k", "c") VALUES ($1, $2) ON CONFLICT DO REPLACE', "a", 1) == "INSERT 0 1"
    )
    assert await link.fetchval('SELECT "v" FROM "t"') is None
    with pytest.raises(asyncpg.PostgresError, match="cannot be updated"):
        await link.execute('UPDATE "t" SET "k" = $1', "b")


async def test_errors_have_three_fields_and_mostly_one_code(link: Any) -> None:
    """No position, no constraint."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        await link.fetch('SELECT "nothing" FROM "t"')
    assert caught.value.sqlstate == "XX000"
    assert caught.value.position is None
    with pytest.raises(asyncpg.PostgresError, match="not found"):
        await link.fetch("SELECT 1 FROM absent")
    with pytest.raises(asyncpg.PostgresError, match="denied"):
        await link.execute("DELETE FROM _pico_tier")


async def test_four_wrong_passwords_lock_the_user(cluster: LocalPicodata) -> None:
    """Then the right one helps no more."""
    for _ in range(4):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(cluster, password="wrong")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await connect(cluster)


async def test_the_pool_of_asyncpg_breaks_on_release(cluster: LocalPicodata) -> None:
    """Its reset query is refused, which is why the driver brings a pool of its own."""
    pool = await asyncpg.create_pool(
        cluster.url.replace("picodata://", "postgresql://") + "/x", min_size=1, max_size=1, ssl=False
    )
    with pytest.raises(asyncpg.PostgresError):
        await pool.fetch("SELECT version()")
    await pool.close()


# --- as a program -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_with_everything_it_started(postgres: PostgresServer, number: signal.Signals) -> None:
    """It says ``ready URL`` once that works, and leaves neither processes nor files behind."""
    command = [sys.executable, "-m", "kvmodel.testing.picodata", "--nodes", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            assert word == "ready"
            assert url.count("127.0.0.1:") == 3
            import asyncio

            async def use() -> None:
                async with kv.connect(url) as db:
                    await Item.objects.using(db).save(Item("s", "a"))

            asyncio.run(use())
            children = _children(process.pid)
            assert children
            process.send_signal(number)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not [child for child in children if Path(f"/proc/{child}/cmdline").exists() and _is_postgres(child)]


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system does not tell whose child a process is")
    return list(map(int, path.read_text().split()))


def _is_postgres(pid: int) -> bool:
    return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_without_postgres_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to install."""
    monkeypatch.setattr(module, "_candidates", lambda: iter(()))
    with pytest.raises(MissingPostgres, match="postgresql"):
        find_postgres()
