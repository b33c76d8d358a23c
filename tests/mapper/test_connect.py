"""Connecting, options, namespaces, which database is meant, and what is closed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
import pytest

import kvmodel as kv
from kvmodel import _registry, _stamps
from kvmodel._ambient import open_databases
from kvmodel._stamps import STAMP_BYTES, new_stamp
from kvmodel.drivers.base import Table
from kvmodel.drivers.memory import MemoryDriver
from tests.mapper.models import Clock, Counter, Session, User


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


@pytest.mark.parametrize(
    "url", ["redis://user:secret/word@host", "redis://:secret#word@host:1", "redis://user:secret\u2100word@host"]
)
async def test_a_url_that_cannot_be_read_does_not_show_its_password(url: str) -> None:
    """What was taken for a port or a host may be a piece of it."""
    with pytest.raises(kv.ValidationError, match="percent-encode") as caught:
        await kv.connect(url)

    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert "secret" not in repr(kv.connect(url))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prepare": False}, "prepare"),
        ({"prepare": "perhaps"}, "prepare"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": ("",)}, "namespace"),
        ({"namespace": 5}, "namespace"),
        ({"clock": 5}, "clock"),
        ({"clock": "now"}, "keyword"),
        ({"timeout": None}, "timeout"),
        ({"token_key": b"short"}, "32"),
        ({"token_key": "not hex"}, "token_key"),
    ],
)
async def test_a_wrong_keyword_is_refused(options: dict[str, object], words: str) -> None:
    """As in the URL: before anything is opened, and with the option's name."""
    with pytest.raises(kv.ValidationError, match=words):
        await kv.connect("memory://", **options)
    with pytest.raises(kv.NoDatabase):
        await Counter.objects.find("a")


async def test_a_url_is_text() -> None:
    """Anything else is refused with its type."""
    with pytest.raises(kv.ValidationError, match="Path"):
        await kv.connect(Path("/data"))  # type: ignore[arg-type]


async def test_a_namespace_by_keyword_in_parts(url: str) -> None:
    """A tuple of names is the same as names with slashes."""
    async with kv.connect(url, namespace=("t1", "deep/er")) as db:
        assert "t1/deep/er" in repr(db)
        await Counter.objects.create(Counter("a"))
        assert await Counter.objects.using(db.namespace("x")).find("a") is None


async def test_a_driver_whose_own_module_is_broken_is_not_called_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing module of kvmodel itself is a bug and shown as it is; a third party's driver names its own remedy."""
    points = {
        "ours": EntryPoint("ours", "kvmodel.drivers.nowhere:Driver", "kvmodel.drivers"),
        "theirs": EntryPoint("theirs", "no_such_package.driver:Driver", "kvmodel.drivers"),
    }
    monkeypatch.setattr(_registry, "_points", lambda: points)

    with pytest.raises(ModuleNotFoundError):
        await kv.connect("ours://")
    with pytest.raises(kv.Unsupported, match=r"no_such_package\.driver"):
        await kv.connect("theirs://")


async def test_a_store_that_cannot_be_opened_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is closed again, and no database is open."""
    closed = []

    async def fail(self: MemoryDriver) -> None:
        raise kv.Unavailable("not there")

    async def close(self: MemoryDriver) -> None:
        closed.append(self)

    monkeypatch.setattr(MemoryDriver, "open", fail)
    monkeypatch.setattr(MemoryDriver, "close", close)
    with pytest.raises(kv.Unavailable):
        async with kv.connect("memory://"):
            pass

    assert len(closed) == 1
    with pytest.raises(kv.NoDatabase):
        await Counter.objects.find("a")


async def test_using_takes_a_database_or_a_unit() -> None:
    """None, left over from a start that failed, must not fall back to whatever is open."""
    async with kv.connect("memory://") as db:
        unit = await db.unit_of_work().begin()
        for where in (None, "memory://", db._connection):
            with pytest.raises(kv.ValidationError, match="using"):
                Counter.objects.using(where)  # type: ignore[arg-type]
        with pytest.raises(kv.ValidationError, match="using"):
            Counter.objects.using(unit, outside=True)
        await unit.rollback()


async def test_reads_follow_the_open_databases(url: str) -> None:
    """What get remembers of where it read is forgotten when a database is opened, closed or bound."""

    class Item(kv.Model, table="items"):
        name: str = kv.partition_key()
        value: int = 0

    async with kv.connect("memory://") as one:
        await Item.objects.create(Item("a", 1))
        for _ in range(2):
            assert (await Item.objects.get("a")).value == 1
        async with kv.connect(url) as two:
            with pytest.raises(kv.NoDatabase):
                await Item.objects.get("a")
            await Item.objects.using(two).create(Item("a", 2))
            two.bind(Item)
            for _ in range(2):
                assert (await Item.objects.get("a")).value == 2
            one.bind(Item)
            assert (await Item.objects.get("a")).value == 1
        assert (await Item.objects.get("a")).value == 1
    with pytest.raises(kv.Closed):
        await Item.objects.get("a")


async def test_a_read_in_a_unit_chooses_for_that_unit_only() -> None:
    """What was found inside a unit is not where the same call reads outside of it."""

    class Part(kv.Model, table="parts"):
        name: str = kv.partition_key()

    async with kv.connect("memory://") as one, kv.connect("memory://") as two:
        async with one.unit_of_work() as uow:
            named = Part.objects.using(uow)
            assert await Part.objects.find("a") is None
            assert await named.find("b") is None
        with pytest.raises(kv.NoDatabase):
            await Part.objects.get("a")
        with pytest.raises(kv.Closed):
            await named.get("b")
        assert await Part.objects.using(two).find("a") is None


async def test_reads_that_are_near_are_still_judged(db: kv.Database, clock: Clock) -> None:
    """The short way of get knows absence, expiry, budgets, units, bounds of keys and other loops all the same."""
    await Session.objects.create(Session("t"))
    assert (await Session.objects.get("t")).token == "t"
    objects = Session.objects

    for _ in range(2):
        with pytest.raises(kv.NotFound):
            await objects.get("x")
        with pytest.raises(kv.ValidationError):
            await objects.get(1)
    with kv.budget() as spent:
        await objects.get("t")
    assert (spent.round_trips, spent.keys) == (1, 1)
    async with db.unit_of_work():
        assert await objects.get("t") is await objects.get("t")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_get(objects, "t"))
        except kv.KvModelError as error:
            errors.append(error)

    await asyncio.to_thread(run)
    assert isinstance(errors[0], kv.Closed)
    clock.advance(3600)
    with pytest.raises(kv.NotFound):
        await objects.get("t")


async def _get(objects: Any, key: str) -> object:
    return await objects.get(key)


async def test_prepare_compares_even_after_first_use(tmp_path: Path) -> None:
    """With prepare=never a use does not count as the comparison."""

    class Before(kv.Model, table="things"):
        name: str = kv.partition_key()

    class After(kv.Model, table="things"):
        name: int = kv.partition_key()

    url = f"lmdb://{tmp_path}/data"
    async with kv.connect(url):
        await Before.objects.create(Before("a"))
    async with kv.connect(url, prepare="never") as db:
        assert await After.objects.find(1) is None
        with pytest.raises(kv.SchemaError):
            await db.prepare(After)


async def test_tables_are_made_ready_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls come first at once, for each namespace of its own."""
    prepared: list[tuple[str, ...]] = []
    prepare = MemoryDriver.prepare

    async def counting(self: MemoryDriver, table: Table, *, now: int, until: float) -> None:
        prepared.append(table.namespace)
        await asyncio.sleep(0)
        await prepare(self, table, now=now, until=until)

    monkeypatch.setattr(MemoryDriver, "prepare", counting)
    async with kv.connect("memory://") as db:
        await asyncio.gather(*(Counter.objects.find("a") for _ in range(10)))
        await db.prepare(Counter)
        await Counter.objects.using(db.namespace("t")).find("a")

    assert prepared == [(), ("t",)]


async def test_purge_passes_over_models_that_cannot_be_compiled(db: kv.Database, clock: Clock) -> None:
    """A class that is of no use yet, anywhere in the program, does not keep the others' records from going."""

    class Broken(kv.Model, table="broken"):
        name: str = kv.partition_key()
        other: "list[NowhereToBeFound]" = attrs.field(factory=list)  # type: ignore[name-defined]  # noqa: F821, UP037

    await Session.objects.create(Session("t"))
    clock.advance(3600)

    assert await db.purge_expired() == 1
    with pytest.raises(kv.SchemaError):
        await db.purge_expired(Broken)


async def test_what_a_database_tells(db: kv.Database) -> None:
    """Its store, its client and its facets can be asked for; its repr holds the address and the namespace."""
    assert db.native is not None
    assert db.facet(dict) is None
    assert db.capabilities.store in repr(db)
    assert "namespace" not in repr(db)
    assert repr(db.namespace("t1/t2")).endswith("namespace t1/t2>")


def test_stamps_in_threads() -> None:
    """Each thread may have a database of its own: they draw stamps at once, all different."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    drawn: list[bytes] = []

    def draw() -> None:
        drawn.extend([new_stamp() for _ in range(20_000)])

    try:
        threads = [threading.Thread(target=draw) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert len(set(drawn)) == len(drawn) == 80_000
    assert {len(stamp) for stamp in drawn} == {STAMP_BYTES}


def test_stamps_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child counts on from a number of its own; at the largest number counting begins again at 0."""
    here = new_stamp()
    _stamps._source.reseed()
    assert abs(int.from_bytes(new_stamp(), "big") - int.from_bytes(here, "big")) > 1000

    monkeypatch.setattr(os, "urandom", lambda size: b"\xff" * size)
    _stamps._source.reseed()
    assert [new_stamp(), new_stamp()] == [b"\xff" * STAMP_BYTES, bytes(STAMP_BYTES)]
    monkeypatch.undo()
    _stamps._source.reseed()


async def test_after_a_fork_nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child inherits is refused, with the reason, and never touched: it is the parent's."""
    db = await kv.connect("memory://")
    await Counter.objects.create(Counter("a"))
    await Counter.objects.get("a")
    driver = db._connection.driver
    assert isinstance(driver, MemoryDriver)

    open_databases._after_fork()

    with pytest.raises(kv.NoDatabase):
        await Counter.objects.get("a")
    with pytest.raises(kv.Closed, match="forked"):
        await Counter.objects.using(db).get("a")
    await db.close()
    assert len(driver.native) > 0
    await driver.close()


async def test_a_database_is_a_block_too() -> None:
    """One that was awaited can be entered; at the end it is closed."""
    db = await kv.connect("memory://")
    async with db as same:
        assert same is db
        await Counter.objects.create(Counter("a"))

    with pytest.raises(kv.NoDatabase):
        await Counter.objects.find("a")


async def test_closing_a_view_closes_the_connection() -> None:
    """All views of it, and the database that is open is no longer."""
    async with kv.connect("memory://", namespace="t1") as db:
        view = db.namespace("deep")
        await view.close()

        with pytest.raises(kv.Closed):
            await Counter.objects.using(db).find("a")
        with pytest.raises(kv.NoDatabase):
            await Counter.objects.find("a")


async def test_a_long_purge_lets_other_tasks_run(clock: Clock) -> None:
    """It goes on step by step, to the end of every table."""
    async with kv.connect("memory://", clock=clock) as db:
        await Session.objects.save_many(Session(f"{n:05}") for n in range(2500))
        clock.advance(3600)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count_turns())
        assert await db.purge_expired() == 2500
        other.cancel()

        assert turns >= 2
        assert await db.purge_expired(Session) == 0


async def test_purge_leaves_foreign_layouts_alone(db: kv.Database) -> None:
    """What other programs wrote never expires, and a table of theirs is not even looked at unless it is named."""

    class Plain(kv.Model, table="plain", layout="plain"):
        name: str = kv.partition_key()
        text: str = kv.field(default="", whole_value=True)

    await Plain.objects.find("a")

    assert await db.purge_expired() == 0


async def test_an_encrypted_token_needs_its_cipher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(kv.ValidationError, match=r"kvmodel\[tokens\]"):
        await kv.connect("memory://", token_key=bytes(32))
