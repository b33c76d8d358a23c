"""The pool: sizes, balancing, discovery, credentials, TLS, and what stands in URLs."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.picodata import PicodataConnection, PicodataDriver, PicodataPool
from kvmodel.testing.picodata import LocalPicodata, Mishap, PostgresServer
from tests.drivers.picodata.helpers import Item, native
from tests.drivers.rows import condition


async def test_native_is_a_connected_pool(db: kv.Database) -> None:
    """``execute`` answers the command's tag, ``fetch`` rows, and errors are kvmodel's, with the store's as cause."""
    pool = native(db)
    assert await pool.execute('CREATE TABLE "t" ("id" INTEGER NOT NULL, PRIMARY KEY ("id"))') == "CREATE TABLE"
    assert await pool.execute('INSERT INTO "t" ("id") VALUES ($1), ($2)', 1, 2) == "INSERT 0 2"
    assert [row["id"] for row in await pool.fetch('SELECT "id" FROM "t" ORDER BY "id"')] == [1, 2]
    assert (await pool.fetchrow('SELECT "id" FROM "t" WHERE "id" = $1', 3)) is None
    with pytest.raises(kv.StoreError) as caught:
        await pool.fetch("SELECT nothing FROM t")
    assert "nothing" in str(caught.value.__cause__)
    with pytest.raises(kv.SchemaError):
        await pool.fetch("SELECT 1 FROM absent")
    with pytest.raises(kv.StoreError, match="parameters"):
        await pool.fetch('SELECT "id" FROM "t" WHERE "id" = $1')
    with pytest.raises(kv.StoreError):
        await pool.fetch('SELECT "id" FROM "t" WHERE "id" = $1', "x")
    assert pool.size == 2
    await pool.close()
    with pytest.raises(kv.Closed):
        await pool.fetch('SELECT "id" FROM "t"')


async def test_a_pool_of_ones_own(cluster: LocalPicodata) -> None:
    """It can be made and opened without a driver."""
    driver = await kv.connect(cluster.url)
    nodes = native(driver).nodes
    await driver.close()
    async with PicodataPool(nodes, cluster.user, cluster.password, pool_size=1) as pool:
        assert (await pool.fetch("SELECT version()"))[0][0] == "26.1.3"
    assert "T0psecret" not in repr(pool)


async def test_no_more_connections_than_pool_size(cluster: LocalPicodata) -> None:
    """All who ask at once share them, and each gets its own answer."""
    async with kv.connect(cluster.url, pool_size=3) as db:
        await Item.objects.using(db).save_many([Item("s", f"{number}", number) for number in range(50)])
        found = await asyncio.gather(
            *(Item.objects.using(db).range("s", prefix=(f"{number}",)) for number in range(50))
        )
        assert [[item.count for item in items] for items in found] == [[number] for number in range(50)]
        assert native(db).size == 3
        assert sum(node.connections for node in cluster.nodes) == 3


@pytest.mark.parametrize("size", [0, -1, "0"])
async def test_a_pool_has_at_least_one_connection(cluster: LocalPicodata, size: object) -> None:
    """Less is refused before anything is connected."""
    with pytest.raises(kv.ValidationError, match="pool_size"):
        await kv.connect(cluster.url, pool_size=size)


async def test_ten_connections_by_default(cluster: LocalPicodata) -> None:
    """As many as are needed, up to ten."""
    async with kv.connect(cluster.url) as db:
        await db.prepare(Item)
        assert native(db).size == 2
        await asyncio.gather(*(Item.objects.using(db).range("s", prefix=(f"{number}",)) for number in range(40)))
        assert native(db).size == 10


async def test_round_robin(cluster: LocalPicodata) -> None:
    """Statements go to one node after the other."""
    async with kv.connect(cluster.url) as db:
        await db.prepare(Item)
        before = [len(node.statements) for node in cluster.nodes]
        for _ in range(20):
            await Item.objects.using(db).find("s", "a")
        assert [len(node.statements) - was for node, was in zip(cluster.nodes, before, strict=True)] == [10, 10]


async def test_a_balance_strategy(cluster: LocalPicodata) -> None:
    """A callable chooses among the free connections."""
    seen = Counter[int]()

    def last_node(connections: Sequence[PicodataConnection]) -> PicodataConnection:
        seen[len(connections)] += 1
        return max(connections, key=lambda connection: connection.node.port)

    async with kv.connect(cluster.url, balance_strategy=last_node) as db:
        chosen = max(cluster.nodes, key=lambda node: node.port)
        await db.prepare(Item)
        before = len(chosen.statements)
        for _ in range(10):
            await Item.objects.using(db).find("s", "a")
        assert len(chosen.statements) - before == 10
        assert seen[2] >= 10
    with pytest.raises(kv.ValidationError):
        await kv.connect(f"{cluster.url}?balance_strategy=x")
    with pytest.raises(kv.ValidationError):
        await kv.connect(cluster.url, balance_strategy=5)


async def test_connect_kwargs_reach_asyncpg(cluster: LocalPicodata) -> None:
    """With the options of its server_settings kept, beside the driver's own."""
    kwargs = {"statement_cache_size": 0, "server_settings": {"options": "sql_motion_row_max=5"}}
    async with kv.connect(cluster.url, connect_kwargs=kwargs) as db:
        assert cluster.nodes[0].options[-1] == "sql_motion_row_max=5,pico_stmt_invalidation=true"
        await Item.objects.using(db).save(Item("s", "a"))
    with pytest.raises(kv.ValidationError):
        await kv.connect(cluster.url, connect_kwargs=3)


async def test_connect_kwargs_may_name_what_the_driver_sets_itself(cluster: LocalPicodata) -> None:
    """How long asyncpg tries to connect is the user's choice; where to is the pool's."""
    async with kv.connect(cluster.url, connect_kwargs={"timeout": 5, "host": "nowhere.invalid"}) as db:
        assert [row[0] for row in await native(db).fetch("SELECT 1")] == [1]


async def test_options_in_the_url(cluster: LocalPicodata) -> None:
    """What text can carry; keywords win; an unknown one is an error that names the known ones."""
    async with kv.connect(f"{cluster.url}?pool_size=4&discovery=true&topology_update_interval=0") as db:
        assert native(db)._size == 4
    async with kv.connect(f"{cluster.url}/anything?pool_size=4", pool_size=2) as db:
        assert native(db)._size == 2
    with pytest.raises(kv.ValidationError, match="pool_size"):
        await kv.connect(f"{cluster.url}?max_size=4")


@pytest.mark.parametrize(
    "url", ["picodata://", "picodata://u:p@", "picodata://u:p@h:x", "picodata://u:p@h:0", "picodata://u@h,"]
)
async def test_urls_that_make_no_sense(url: str) -> None:
    """They are refused without a word of what may be a password."""
    with pytest.raises(kv.ValidationError) as caught:
        await kv.connect(url.replace("u:p", "u:s3cret"))
    assert "s3cret" not in str(caught.value)


def test_the_default_port() -> None:
    """4327; user and password are percent-decoded, and stand in no address."""
    from urllib.parse import urlsplit

    driver = PicodataDriver.from_url(urlsplit("picodata://a%40b:p%2Fw@one,[::1]:5000"), {})
    assert driver.address == "picodata://one:4327,[::1]:5000"
    assert (driver.native._user, driver.native._password) == ("a@b", "p/w")
    assert driver.capabilities.store == "picodata"


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_tried_once(cluster: LocalPicodata) -> None:
    """Four failures lock the user, so that no other node is tried, and no other connection."""
    url = cluster.url.replace("T0psecret", "Wr0ng")
    with pytest.raises(kv.AuthenticationFailed) as caught:
        await kv.connect(url, discovery=True)
    assert cluster.failed_logins == 1
    assert "Wr0ng" not in str(caught.value)
    assert "Wr0ng" not in repr(caught.value.__cause__)


async def test_a_password_that_changes_meanwhile_is_tried_once(cluster: LocalPicodata) -> None:
    """The pool notes the refusal, and refuses by itself from then on."""
    async with kv.connect(cluster.url, pool_size=3) as db:
        await db.prepare(Item)
        cluster.password = "An0ther"
        for node in cluster.nodes:
            node.drop()
        await condition(lambda: all(connection.is_closed for connection in native(db)._all))
        for _ in range(5):
            with pytest.raises(kv.AuthenticationFailed):
                await Item.objects.using(db).find("s", "a")
        assert cluster.failed_logins == 1


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, made by openssl."""
    import shutil

    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path / "node.pem"
    command = [tool, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "cert.pem").read_text())
    return path


async def test_tls(certificate: Path, postgres: PostgresServer) -> None:
    """By a context, or by a file in the URL; without it such a node can't be reached, nor with doubtful ones."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    async with LocalPicodata(1, postgres=postgres, tls=server) as cluster:
        client = ssl.create_default_context(cafile=str(certificate))
        async with kv.connect(cluster.url, tls=client) as db:
            await Item.objects.using(db).save(Item("s", "a"))
        async with kv.connect(f"{cluster.url}?tls_ca={certificate}") as db:
            assert await Item.objects.using(db).exists("s", "a")
        with pytest.raises(kv.StoreError):
            await kv.connect(cluster.url)
        with pytest.raises(kv.Unavailable):
            await kv.connect(f"{cluster.url}?tls=true")
        with pytest.raises(kv.ValidationError):
            await kv.connect(f"{cluster.url}?tls_ca=/nowhere")
        with pytest.raises(kv.ValidationError):
            await kv.connect(cluster.url, tls=5)


# --- discovery --------------------------------------------------------------------------------------------------------


def only(cluster: LocalPicodata, number: int) -> str:
    """The URL with one of the nodes alone."""
    return f"picodata://{cluster.user}:{cluster.password}@{cluster.nodes[number].address}"


async def test_discovery_is_off_by_default(cluster: LocalPicodata) -> None:
    """Then the nodes of the URL are used alone."""
    async with kv.connect(only(cluster, 0)) as db:
        await db.prepare(Item)
        assert [str(node) for node in native(db).nodes] == [cluster.nodes[0].address]
        assert cluster.nodes[1].accepted == 0


async def test_discovery_finds_the_other_nodes(cluster: LocalPicodata) -> None:
    """And uses them from then on."""
    async with kv.connect(only(cluster, 0), discovery=True) as db:
        await db.prepare(Item)
        assert {str(node) for node in native(db).nodes} == {node.address for node in cluster.nodes}
        for _ in range(4):
            await Item.objects.using(db).find("s", "a")
        assert cluster.nodes[1].statements


async def test_offline_nodes_and_forbidden_tiers_are_left_alone(cluster: LocalPicodata) -> None:
    """What is not online is not used; where nothing is left, the nodes of the URL are."""
    cluster.nodes[1].online = False
    await cluster.publish()
    async with kv.connect(only(cluster, 0), discovery=True) as db:
        assert [str(node) for node in native(db).nodes] == [cluster.nodes[0].address]
        assert native(db).nodes[0].tier == "default"
    async with kv.connect(only(cluster, 0), discovery=True, forbidden_tiers="default") as db:
        assert [str(node) for node in native(db).nodes] == [cluster.nodes[0].address]
        assert native(db).nodes[0].tier is None


async def test_a_node_that_comes_is_found(cluster: LocalPicodata) -> None:
    """At the next interval."""
    cluster.nodes[1].online = False
    await cluster.publish()
    async with kv.connect(only(cluster, 0), discovery=True, topology_update_interval=0.01) as db:
        cluster.nodes[1].online = True
        await cluster.publish()
        await condition(lambda: len(native(db).nodes) == 2)


async def test_a_node_that_leaves_is_left(cluster: LocalPicodata) -> None:
    """Reads go on; a lost connection makes discovery ask again at once."""
    async with kv.connect(cluster.url, discovery=True) as db:
        objects = Item.objects.using(db)
        await objects.save(Item("s", "a", 5))
        await cluster.take_down(1)
        for _ in range(20):
            assert (await objects.get("s", "a")).count == 5
        await native(db).discover()
        assert [str(node) for node in native(db).nodes] == [cluster.nodes[0].address]
        await cluster.bring_up(1)
        await native(db).discover()
        assert len(native(db).nodes) == 2


@pytest.mark.parametrize(
    ("state", "online"),
    [
        ('["Online", 5]', True),
        ('{"Online": 5}', True),
        ('["Offline", 5]', False),
        ("Online", True),
        (["Expelled", 1], False),
    ],
)
def test_states_of_instances(state: Any, online: bool) -> None:
    """As they arrive in one version or another."""
    from kvmodel.drivers.picodata.discovery import read_nodes

    rows = [{"address": "h:1", "tier": None, "current_state": state}]
    assert bool(read_nodes(rows, ())) is online


async def test_no_node_at_all(postgres: PostgresServer) -> None:
    """``Unavailable``, as soon as all were tried."""
    async with LocalPicodata(2, postgres=postgres) as cluster:
        url = cluster.url
        await cluster.nodes[0].stop()
        async with kv.connect(url) as db:  # The other one is enough.
            await db.prepare(Item)
            await cluster.nodes[1].stop()
            with pytest.raises(kv.Unavailable):
                await Item.objects.using(db).find("s", "a")
        with pytest.raises(kv.Unavailable):
            await kv.connect(url)


async def test_statements_wait_for_a_connection(cluster: LocalPicodata) -> None:
    """And end by their time: nothing was sent, as ``TimedOut`` says, for reads and writes alike."""
    async with kv.connect(only(cluster, 0), pool_size=1) as db:
        objects = Item.objects.using(db)
        await objects.save(Item("s", "a"))
        held = asyncio.Event()
        cluster.nodes[0].mishaps.append(Mishap(hold=held))
        first = asyncio.ensure_future(_all(objects))
        await condition(lambda: not cluster.nodes[0].mishaps)
        with kv.timeout(0.05):
            with pytest.raises(kv.TimedOut, match="pool_size"):
                await objects.range("s").count()
            with pytest.raises(kv.TimedOut, match="nothing was sent"):
                await objects.save(Item("s", "b"))
        held.set()
        assert len(await first) == 1
        assert not await objects.exists("s", "b")


async def _all(objects: Any) -> list[Any]:
    return list(await objects.range("s"))
