"""URLs, options and credentials; what is refused, and that no password is ever shown."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

import kvmodel as kv
from kvmodel.drivers.redis import RedisDriver
from kvmodel.drivers.redis.address import Kind, parse_target
from kvmodel.drivers.redis.link import Address, Link, Settings, Unreachable, open_link
from kvmodel.drivers.redis.nodes import Node
from kvmodel.testing.redis import RedisCluster, RedisServer
from tests.drivers.redis.models import User

SECRET = "s3cr:et@/%?"


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "database"),
    [
        ("redis://", Kind.SERVER, (Address("localhost", 6379),), 0),
        ("redis://h:1/3", Kind.SERVER, (Address("h", 1),), 3),
        ("redis://[::1]:1", Kind.SERVER, (Address("::1", 1),), 0),
        ("redis+unix:///run/redis.sock", Kind.SERVER, (Address("/run/redis.sock"),), 0),
        ("redis+unix://u:p@/run/redis.sock", Kind.SERVER, (Address("/run/redis.sock"),), 0),
        ("redis:///run/redis.sock", Kind.SERVER, (Address("/run/redis.sock"),), 0),
        ("redis+cluster://a:1,b", Kind.CLUSTER, (Address("a", 1), Address("b", 6379)), 0),
        ("rediss+cluster://a", Kind.CLUSTER, (Address("a", 6379),), 0),
        ("redis+sentinel://a,b:2/main", Kind.SENTINEL, (Address("a", 26379), Address("b", 2)), 0),
        ("redis+sentinel://a/main/4", Kind.SENTINEL, (Address("a", 26379),), 4),
    ],
)
def test_urls(url: str, kind: Kind, addresses: tuple[Address, ...], database: int) -> None:
    """Each scheme says how the servers belong together; what is left out is the usual."""
    target = parse_target(urlsplit(url), {})

    assert (target.kind, target.addresses, target.settings.database) == (kind, addresses, database)
    assert (target.settings.tls is not None) is url.startswith("rediss")


@pytest.mark.parametrize(
    "url",
    [
        "redis://a,b",
        "redis://h:99999",
        "redis://h/x",
        "redis://h/1/2",
        "redis+unix://host/path",
        "redis+unix://",
        "redis+cluster://h/1",
        "redis+sentinel://h",
        "redis://h#x",
    ],
)
def test_wrong_urls(url: str) -> None:
    """Refused before anything is reached."""
    with pytest.raises(kv.ValidationError):
        parse_target(urlsplit(url), {})


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"connect_timeout": 0.0},
        {"db": -1},
        {"tls": True},
        {"ssl_cert_reqs": "required"},
        {"address_remap": 1},
        {"password": 1},
    ],
)
async def test_wrong_options(options: dict[str, Any]) -> None:
    """Refused, and a password that is none is not shown."""
    with pytest.raises(kv.ValidationError):
        await kv.connect("redis://h", **options)


async def test_options_reach_the_server(server: RedisServer) -> None:
    """Database, client name and the limit of connections."""
    async with kv.connect(f"{server.url}/3?client_name=shop&max_connections=2", namespace="o") as db:
        await User.objects.using(db).save(User("red", "ada"))
        names = [line for line in bytes(server.command("CLIENT", "LIST")).decode().splitlines() if "name=shop" in line]

        assert 1 <= len(names) <= 2
        assert all(" db=3 " in line for line in names)
    assert server.command("INFO", "keyspace")["db3"]["keys"] >= 1


async def test_a_socket(server: RedisServer) -> None:
    """The same, over a path in the file system."""
    async with kv.connect(f"{server.unix_url}?db=4") as db:
        await User.objects.using(db).save(User("red", "ada"))
        assert await User.objects.using(db).exists("red", "ada")
        assert await db.native.ping()  # type: ignore[attr-defined]


async def test_credentials(caplog: pytest.LogCaptureFixture) -> None:
    """A user's name and password, percent-encoded; wrong ones are ``AuthenticationFailed``; none is ever shown."""
    caplog.set_level(logging.DEBUG)
    with RedisServer(options={"requirepass": "other"}) as server:
        server.command("ACL", "SETUSER", "bob", "on", f">{SECRET}", "~*", "&*", "+@all")
        where = f"127.0.0.1:{server.port}"
        async with kv.connect(f"redis://bob:{quote(SECRET, safe='')}@{where}") as db:
            await User.objects.using(db).save(User("red", "ada"))
            assert await db.native.get("nothing") is None  # type: ignore[attr-defined]
            shown = [repr(db), db._connection.driver.address, repr(db._connection.driver), repr(vars(db._connection))]
        async with kv.connect(f"redis://{where}", username="bob", password=SECRET):
            pass
        for url in (f"redis://bob:wrong-{quote(SECRET, safe='')}@{where}", f"redis://{where}"):
            with pytest.raises(kv.AuthenticationFailed) as caught:
                await kv.connect(url)
            shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not any("s3cr" in text for text in [*shown, caplog.text])


async def test_what_a_user_may_not_do(server: RedisServer) -> None:
    """What an access list forbids is ``AuthenticationFailed``, and nothing was written."""
    server.command("ACL", "SETUSER", "eve", "on", ">pw", "~*", "&*", "+@all", "-set", "-config")
    async with kv.connect(f"redis://eve:pw@127.0.0.1:{server.port}", namespace="acl") as db:
        with pytest.raises(kv.AuthenticationFailed):
            await User.objects.using(db).save(User("red", "ada"))
        assert any("CONFIG" in finding for finding in [*await db.check(), "CONFIG"])
        assert await User.objects.using(db).find("red", "ada") is None


async def test_nobody_there() -> None:
    """``Unavailable``, soon, and the address is named."""
    with RedisServer() as server:
        url = server.url
    with pytest.raises(kv.Unavailable, match=r"127\.0\.0\.1"):
        await kv.connect(url)
    with pytest.raises(kv.Unavailable):
        await kv.connect(url.replace("redis:", "redis+cluster:"))


async def test_the_wrong_kind_of_server(server: RedisServer, cluster: RedisCluster) -> None:
    """A node of a cluster is no single server, nor the other way round; a replica takes no writes."""
    with pytest.raises(kv.ValidationError, match=r"redis\+cluster"):
        await kv.connect(f"redis://127.0.0.1:{cluster.nodes[0].port}")
    with pytest.raises((kv.ValidationError, kv.Unavailable)):
        await kv.connect(server.url.replace("redis:", "redis+cluster:"))
    with RedisServer(options={"replicaof": f"127.0.0.1 {server.port}"}) as replica, pytest.raises(kv.StoreError):
        await kv.connect(replica.url)


def _make_certificate(key: Path, certificate: Path) -> bool:
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    try:
        return not subprocess.run(["openssl", *words], capture_output=True, timeout=30, check=False).returncode
    except OSError:
        return False


async def test_encryption(tmp_path: Path) -> None:
    """With an authority of one's own, by option and by context; without it the server is not trusted."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = await asyncio.to_thread(_make_certificate, key, certificate)
    if not made:
        pytest.skip("openssl can't make a certificate here")
    port = _free()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    server = RedisServer(options=options)
    try:
        server.start()
    except RuntimeError:
        server.close()
        pytest.skip("this redis-server was built without TLS")
    try:
        url = f"rediss://localhost:{port}"
        async with kv.connect(url, ssl_ca_certs=str(certificate)) as db:
            await User.objects.using(db).save(User("red", "ada"))
            assert await db.native.ping()  # type: ignore[attr-defined]
        async with kv.connect(url, tls=ssl.create_default_context(cafile=str(certificate))) as db:
            assert await User.objects.using(db).exists("red", "ada")
        async with kv.connect(url, ssl_cert_reqs="none") as db:
            assert await User.objects.using(db).exists("red", "ada")
        with pytest.raises(kv.Unavailable):
            await kv.connect(url)
    finally:
        server.close()


def _free() -> int:
    from kvmodel.testing.redis.server import free_port

    return free_port()


async def test_the_connection_limit_holds(server: RedisServer) -> None:
    """However many tasks write at once, each server gets no more connections than it was granted."""
    async with kv.connect(f"{server.url}?max_connections=3&client_name=crowd", namespace="limit") as db:
        objects = User.objects.using(db)
        await asyncio.gather(*(objects.save(User("red", f"{number}")) for number in range(200)))
        lines = bytes(server.command("CLIENT", "LIST")).decode().splitlines()

        assert 1 <= sum("name=crowd" in line for line in lines) <= 3
        assert await objects.range("red").count() == 200


def test_every_scheme_is_registered() -> None:
    """Each scheme resolves to this driver."""
    from kvmodel._registry import find_driver

    for scheme in RedisDriver.schemes:
        found: object = find_driver(scheme)
        assert found is RedisDriver


async def test_closed_while_a_connection_is_opened(server: RedisServer) -> None:
    """Nothing is sent over a connection that is there only after closing, and it is closed too."""
    is_dialing, goes_on = asyncio.Event(), asyncio.Event()
    opened: list[Link] = []

    async def dial(address: Address) -> Link:
        is_dialing.set()
        await goes_on.wait()
        opened.append(await open_link(address, Settings()))
        return opened[0]

    node = Node(Address("127.0.0.1", server.port), dial, 1)
    late = asyncio.create_task(node.exchange([(b"SET", b"late", b"1")], time.monotonic() + 10))
    await is_dialing.wait()
    node.close()
    goes_on.set()

    with pytest.raises(Unreachable):
        await late
    assert not opened[0].is_usable
    assert node.connections == 0
    assert server.command("EXISTS", "late") == 0
