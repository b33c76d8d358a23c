"""The emulator itself, where its choices show only to who asks it by hand."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from yarl import URL

import kvmodel as kv
from kvmodel.testing.acapella import AcapellaServer
from kvmodel.testing.acapella.__main__ import main
from tests.drivers.rows import condition


class User(kv.Model, table="users"):
    name: str = kv.clustering_key()
    age: int = 0


async def ask(server: AcapellaServer, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Send a request as it is, and answer status and JSON."""
    url = URL(f"http://127.0.0.1:{server.port}{target}", encoded=True)
    async with aiohttp.ClientSession() as http, http.request(method, url, data=body, headers=headers) as reply:
        return reply.status, await reply.json() if reply.status == 200 else None


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("GET", "/acapelladbx/v2/kv/keys/a", None, 404),
        ("GET", "/acapelladb/v2/kv/keys/a/b", None, 404),
        ("GET", "/acapelladb/v2/dt/a/keys/b/c", None, 404),
        ("GET", "/acapelladb/v2/dt/a/keys/b/next", None, 404),
        ("GET", "/auth/nowhere", None, 404),
        ("DELETE", "/acapelladb/v2/kv/keys/a", None, 405),
        ("GET", "/acapelladb/v2/tx", None, 405),
        ("PUT", "/acapelladb/v2/kv/keys/a::b", b"1", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a%FF", b"1", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a", b"{", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a", b"NaN", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a?n=0", b"1", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a?n=3&r=4", b"1", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a?oldVersion=x", b"1", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a?oldVersion=-1", b"1", 400),
        ("PUT", "/acapelladb/v2/kv/keys/a?transaction=9", b"1", 410),
        ("GET", "/acapelladb/v2/kv/partition/a?limit=-1", None, 400),
        ("GET", "/acapelladb/v2/kv/partition/a?from=a::b", None, 400),
        ("PUT", "/acapelladb/v2/kv/partition/a", b"[]", 400),
        ("PUT", "/acapelladb/v2/kv/partition/a", b"{}", 400),
        ("PUT", "/acapelladb/v2/kv/partition/a", b'[{"key":["a"],"value":1},{"key":["a"],"value":2}]', 400),
        ("PUT", "/acapelladb/v2/kv/partition/a", b'[{"key":[""],"value":1}]', 400),
        ("PUT", "/acapelladb/v2/kv/partition/a", b'[{"key":["a"],"value":1,"version":"1"}]', 400),
        ("POST", "/acapelladb/v2/tx/x/commit", None, 400),
        ("POST", "/acapelladb/v2/tx/7/keep-alive", None, 410),
        ("PUT", "/acapelladb/v2/users/u/keyspaces/k/indexes/x", b'{"fields":[]}', 400),
        ("PUT", "/acapelladb/v2/users/u/keyspaces/k/indexes/1", b'{"fields":[{"name":"a","type":"date"}]}', 400),
        ("GET", "/acapelladb/v2/kv/partition/a:b/index-query", b'{"query":{}}', 400),
        ("POST", "/auth/login", b"x=1", 400),
        ("POST", "/auth/signup", b'{"username":"u"}', 400),
    ],
)
async def test_refusals(server: AcapellaServer, method: str, target: str, body: bytes | None, status: int) -> None:
    """With a status, and nothing is written."""
    headers = {"Content-Type": "application/x-www-form-urlencoded" if "login" in target else "application/json"}

    assert (await ask(server, method, target, body, **headers))[0] == status

    assert (await ask(server, "GET", "/acapelladb/v2/kv/keys/a"))[1] == {"version": 0}
    assert (await ask(server, "GET", "/acapelladb/v2/kv/partition/a"))[1] == []


async def test_bodies_of_other_types(server: AcapellaServer) -> None:
    """415, but for an empty one; a charset does not matter."""
    target = "/acapelladb/v2/kv/keys/a"
    assert (await ask(server, "PUT", target, b"1", **{"Content-Type": "text/plain"}))[0] == 415
    assert (await ask(server, "PUT", target, None, **{"Content-Type": "text/plain"}))[0] == 200
    assert (await ask(server, "PUT", target, b"1", **{"Content-Type": "application/json; charset=utf-8"}))[0] == 200


async def test_the_raw_path_is_taken_apart_first(server: AcapellaServer) -> None:
    """Then each part is decoded, small digits too."""
    json = {"Content-Type": "application/json"}
    await ask(server, "PUT", "/acapelladb/v2/kv/partition/a%3ab%2fc:d/clustering/%2E%2E", b"1", **json)

    assert [key for key, _ in server.store.rows(("a:b/c", "d"), (), (), ())] == [("..",)]


async def test_accounts_are_made_and_left(server: AcapellaServer) -> None:
    """Sign up, log in, log out."""
    json = {"Content-Type": "application/json"}
    body = b'{"username": "u", "password": "p", "email": "e"}'
    assert (await ask(server, "POST", "/auth/signup", body, **json))[0] == 200
    assert (await ask(server, "POST", "/auth/signup", body, **json))[0] == 400
    assert (await ask(server, "GET", "/acapelladb/v2/kv/keys/a"))[0] == 401
    assert (await ask(server, "GET", "/acapelladb/v2/kv/keys/a", Authorization="Basic xxx"))[0] == 401
    async with kv.connect(f"acapella://u:p@127.0.0.1:{server.port}/acapelladb") as db:
        await User.objects.using(db).save(User("a"))
        header = server.seen[-1].authorization
        assert header is not None
        assert (await ask(server, "POST", "/auth/logout", None, Authorization=header))[0] == 200
        assert (await ask(server, "GET", "/acapelladb/v2/kv/keys/a", Authorization=header))[0] == 401


async def test_waiters_are_woken(server: AcapellaServer) -> None:
    """A write waits for a lock until it is free, and a listener until there is news."""
    server.lock_timeout = 10
    json = {"Content-Type": "application/json"}
    key = "/acapelladb/v2/kv/keys/a"
    _, begun = await ask(server, "POST", "/acapelladb/v2/tx")
    await ask(server, "PUT", f"{key}?transaction={begun['index']}", b"1", **json)
    writing = asyncio.create_task(ask(server, "PUT", key, b"2", **json))
    listening = asyncio.create_task(ask(server, "GET", f"{key}?waitVersion=1"))
    await condition(lambda: len(server.seen) == 4)
    assert not writing.done()

    await ask(server, "POST", f"/acapelladb/v2/tx/{begun['index']}/commit")

    assert await writing == (200, {"version": 2})
    assert await listening == (200, {"version": 2, "value": 2})


async def test_an_idle_transaction_is_forgotten() -> None:
    """410 from then on, and its locks are free."""
    async with AcapellaServer(idle=0.05) as server:
        _, begun = await ask(server, "POST", "/acapelladb/v2/tx")
        await ask(
            server,
            "PUT",
            f"/acapelladb/v2/kv/keys/a?transaction={begun['index']}",
            b"1",
            **{"Content-Type": "application/json"},
        )
        await condition(lambda: server.store.open_transactions == 0)

        assert (await ask(server, "POST", f"/acapelladb/v2/tx/{begun['index']}/commit"))[0] == 410
        assert (await ask(server, "PUT", "/acapelladb/v2/kv/keys/a"))[0] == 200


async def test_numbers_are_kept_exactly(server: AcapellaServer) -> None:
    """Large integers and nested nulls."""
    body = b'{"n": 123456789012345678901234567890, "x": [null, {"y": null}], "f": 1e300}'
    await ask(server, "PUT", "/acapelladb/v2/kv/keys/a", body, **{"Content-Type": "application/json"})

    value = (await ask(server, "GET", "/acapelladb/v2/kv/keys/a"))[1]["value"]
    assert value == {"n": 123456789012345678901234567890, "x": [None, {"y": None}], "f": 1e300}


def test_the_command_line() -> None:
    """It prints where it is, serves with the accounts that it was given, and ends on SIGTERM."""
    command = [sys.executable, "-m", "kvmodel.testing.acapella", "--account", "user:secret", "--prefix", "/p"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready acapella://user:secret@127.0.0.1:")

            async def use() -> None:
                async with kv.connect(line.split()[1]) as db:
                    await User.objects.using(db).create(User("a"))

            asyncio.run(use())
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def test_wrong_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """An account is a user and a password."""
    with pytest.raises(SystemExit):
        main(["--account", "user"])
    assert "colon" in capsys.readouterr().err
