"""Connecting, options, namespaces, which database is meant, and what is closed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

import kvmodel as kv
from tests.mapper.models import Counter, User


async def test_connect_by_await_and_by_block(url: str) -> None:
    """Both open at once and close; closing twice is allowed."""
    db = await kv.connect(url)
    await User.objects.create(User("red", "ada"))
    await db.close()
    await db.close()

    async with kv.connect(url):
        await User.objects.find("red", "ada")


async def test_data_outlives_its_connection(tmp_path: Path) -> None:
    """What was acknowledged on LMDB is there after a new connection."""
    async with kv.connect(f"lmdb://{tmp_path}/data"):
        await User.objects.create(User("red", "ada", age=36))

    async with kv.connect(f"lmdb://{tmp_path}/data"):
        assert (await User.objects.get("red", "ada")).age == 36


async def test_no_database() -> None:
    """With none open, the error says what to write."""
    with pytest.raises(kv.NoDatabase, match="connect"):
        await User.objects.get("red", "ada")
    with pytest.raises(kv.NoDatabase):
        await User.objects.range("red")


async def test_two_databases_need_a_choice() -> None:
    """Several open and none chosen is an error; using and bind choose."""

    class Mine(kv.Model, table="mine"):
        team: str = kv.partition_key()
        name: str = kv.clustering_key()

    async with kv.connect("memory://") as one, kv.connect("memory://") as two:
        with pytest.raises(kv.NoDatabase, match="using"):
            await Mine.objects.create(Mine("red", "ada"))

        await Mine.objects.using(one).create(Mine("red", "one"))
        two.bind(Mine)
        await Mine.objects.create(Mine("red", "two"))

        assert [user.name for user in await Mine.objects.using(one).range("red")] == ["one"]
        assert [user.name for user in await Mine.objects.range("red")] == ["two"]
        with pytest.raises(kv.NoDatabase):
            await Counter.objects.find("x")
    with pytest.raises(kv.Closed):
        await Mine.objects.find("red", "two")
    async with kv.connect("memory://") as three:
        with pytest.raises(kv.Closed):  # It is bound all the same: nothing goes to another store by accident.
            await Mine.objects.find("red", "two")
        three.bind(Mine)
        assert await Mine.objects.find("red", "two") is None


async def test_a_task_from_before_connect_sees_the_database() -> None:
    """A web server's handlers are started before the application connects."""
    go = asyncio.Event()

    async def handler() -> bool:
        await go.wait()
        return await Counter.objects.exists("a")

    task = asyncio.create_task(handler())
    await asyncio.sleep(0)
    async with kv.connect("memory://"):
        await Counter.objects.create(Counter("a"))
        go.set()
        assert await task


async def test_a_unit_wins_over_the_one_open_database(url: str) -> None:
    """Inside a unit its own database is meant, however many are open; another one needs using()."""
    async with kv.connect(url) as one, kv.connect("memory://") as two:
        async with one.unit_of_work():
            await Counter.objects.create(Counter("a", 1))
            await Counter.objects.using(one).create(Counter("b", 1))
            await Counter.objects.using(two).create(Counter("a", 2))
            assert (await Counter.objects.using(two).get("a")).value == 2

        assert (await Counter.objects.using(one).get("a")).value == 1
        assert (await Counter.objects.using(one).get("b")).value == 1


async def test_a_model_bound_elsewhere_is_refused_in_a_unit() -> None:
    """A unit of one database must not write to another by accident."""

    class Elsewhere(kv.Model, table="elsewhere"):
        name: str = kv.partition_key()

    async with kv.connect("memory://") as one, kv.connect("memory://") as two:
        two.bind(Elsewhere)
        async with one.unit_of_work():
            with pytest.raises(kv.NoDatabase, match="bound"):
                await Elsewhere.objects.find("a")


async def test_closed() -> None:
    """A closed database refuses everything, also units that were begun before."""
    db = await kv.connect("memory://")
    objects = Counter.objects.using(db)
    await objects.create(Counter("a"))
    unit = await db.unit_of_work().begin()
    await db.close()

    with pytest.raises(kv.Closed):
        await objects.find("a")
    with pytest.raises(kv.Closed):
        await unit.commit()
    with pytest.raises(kv.Closed):
        await db.unit_of_work().begin()
    with pytest.raises(kv.Closed):
        await db.purge_expired()


async def test_another_event_loop_is_refused(url: str) -> None:
    """A database belongs to the loop that opened it; another one gets Closed, saying so."""
    async with kv.connect(url) as db:
        await Counter.objects.create(Counter("a"))
        errors: list[Exception] = []

        def run() -> None:
            async def use() -> None:
                await Counter.objects.using(db).get("a")

            try:
                asyncio.run(use())
            except kv.KvModelError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        await asyncio.to_thread(thread.join)

    assert isinstance(errors[0], kv.Closed)
    assert "loop" in str(errors[0])


def _child(queue: multiprocessing.Queue[str]) -> None:
    async def use() -> None:
        await Counter.objects.find("a")

    try:
        asyncio.new_event_loop().run_until_complete(use())
    except kv.KvModelError as error:
        queue.put(type(error).__name__)
    else:
        queue.put("no error")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_another_process_is_refused(tmp_path: Path) -> None:
    """After a fork the child has no database; the parent's goes on."""
    async with kv.connect(f"lmdb://{tmp_path}/data"):
        await Counter.objects.create(Counter("a"))
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[str] = context.Queue()
        process = context.Process(target=_child, args=(queue,))
        process.start()
        answer = await asyncio.to_thread(queue.get, timeout=30)
        await asyncio.to_thread(process.join)

        assert answer in {"NoDatabase", "Closed"}
        await Counter.objects.update("a", value=2)


async def test_namespaces_are_apart(url: str) -> None:
    """A namespace is a view of the same connection that sees its own records only."""
    async with kv.connect(url) as db:
        one, two = db.namespace("t1"), db.namespace("t2")
        for where, age in ((db, 0), (one, 1), (two, 2), (one.namespace("deep"), 3)):
            await User.objects.using(where).create(User("red", "ada", age=age))

        for where, age in ((db, 0), (one, 1), (two, 2), (db.namespace("t1/deep"), 3)):
            assert [user.age for user in await User.objects.using(where).scan()] == [age]
        assert one.namespace("deep") is db.namespace("t1/deep")

    if url.startswith("lmdb"):
        async with kv.connect(url, namespace="t1/deep"):
            assert (await User.objects.get("red", "ada")).age == 3


async def test_a_unit_may_span_namespaces(url: str) -> None:
    """Views of one connection share its units of work."""
    async with kv.connect(url) as db:
        one = db.namespace("t1")
        async with db.unit_of_work():
            await Counter.objects.create(Counter("a", 1))
            await Counter.objects.using(one).create(Counter("a", 2))
        async with one.unit_of_work():
            assert (await Counter.objects.get("a")).value == 2


@pytest.mark.parametrize("name", ["", "a//b", "/a", "a\x00", "x" * 300])
async def test_odd_namespaces_are_refused(name: str) -> None:
    """A namespace is a printable name, or several with slashes."""
    async with kv.connect("memory://") as db:
        with pytest.raises(kv.ValidationError):
            db.namespace(name)


# --- URLs and options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://host", "lmdb://"),
        ("/var/lib/data", "scheme"),
        ("lmdb:/x", "scheme"),
        ("memory://?colour=red", "timeout"),
        ("memory://?timeout=0", "timeout"),
        ("memory://?timeout=abc", "timeout"),
        ("memory://?timeout=1&timeout=2", "twice"),
        ("memory://?prepare=perhaps", "prepare"),
        ("memory://?token_key=abcd", "32"),
        ("memory://?clock=now", "keyword"),
        ("memory://h:port/", "URL"),
    ],
)
async def test_a_wrong_url_or_option_is_refused(url: str, words: str) -> None:
    """ValidationError names what is known, before anything is opened."""
    with pytest.raises(kv.ValidationError, match=words):
        await kv.connect(url)


async def test_keywords_win_over_the_query() -> None:
    """Every option may stand in the URL or be given by keyword; unknown keywords are refused too."""
    async with kv.connect("memory://?timeout=5", timeout=7) as db:
        assert db._connection.timeout == 7
    with pytest.raises(kv.ValidationError, match="colour"):
        await kv.connect("memory://", colour="red")


async def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """KVMODEL_URL is used where no URL is given."""
    monkeypatch.setenv("KVMODEL_URL", "memory://")
    async with kv.connect() as db:
        assert db.capabilities.store == "memory"
    monkeypatch.delenv("KVMODEL_URL")
    with pytest.raises(kv.ValidationError, match="KVMODEL_URL"):
        await kv.connect()


async def test_a_missing_extra_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that can't be imported says what to install."""
    import sys

    for name in [name for name in sys.modules if name.startswith("kvmodel.drivers.lmdb")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lmdb", None)

    with pytest.raises(kv.Unsupported, match=r"pip install 'kvmodel\[lmdb\]'"):
        await kv.connect("lmdb:///nowhere")


async def test_prepare_never(tmp_path: Path) -> None:
    """prepare=never leaves the comparison with the catalogue to db.prepare()."""

    class Before(kv.Model, table="things"):
        name: str = kv.partition_key()

    class After(kv.Model, table="things"):
        name: int = kv.partition_key()

    url = f"lmdb://{tmp_path}/data"
    async with kv.connect(url):
        await Before.objects.create(Before("a"))
    async with kv.connect(url):
        with pytest.raises(kv.SchemaError, match="name"):
            await After.objects.find(1)
    async with kv.connect(url, prepare="never") as db:
        with pytest.raises(kv.SchemaError):
            await db.prepare(After)
        await db.prepare(Before)


async def test_fresh_tables_need_no_preparation(url: str) -> None:
    """db.prepare of models that were never used, and their first use afterwards."""
    async with kv.connect(url) as db:
        await db.prepare(User, Counter)
        assert await User.objects.find("red", "ada") is None
        await Counter.objects.create(Counter("a"))
