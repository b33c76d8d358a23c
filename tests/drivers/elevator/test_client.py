"""The client: every command, and nothing that would harm a server."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.elevator import ElevatorClient
from kvmodel.drivers.elevator.protocol import Code, Reply, Status, encode_reply
from kvmodel.drivers.elevator.refusals import REFUSALS, Refusal, refusal_error
from kvmodel.testing.elevator import ElevatorServer, Quirks, Storage
from tests.drivers.elevator.waiting import noticed
from tests.drivers.rows import condition

NINE = [(b"%d" % number, b"v%d" % number) for number in range(1, 10)]


async def fill(client: ElevatorClient) -> None:
    """Store nine rows."""
    async with client.write_batch() as batch:
        for key, value in NINE:
            batch.put(key, value)


# --- single keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [False, True])
async def test_single_keys(server: ElevatorServer, compression: bool) -> None:
    """Put, get, find, exists and delete, in bytes and in text, compressed or not."""
    async with ElevatorClient(server.endpoint, compression=compression) as client:
        await client.put("clé", "€")
        await client.put(b"\x00\xff", bytes(range(256)) * 300)

        assert await client.get("clé") == "€".encode()
        assert await client.find(b"\x00\xff") == bytes(range(256)) * 300
        assert await client.exists("clé")
        assert not await client.exists("none")
        assert await client.find("none") is None
        await client.delete("clé")
        await client.delete("clé")
        with pytest.raises(kv.NotFound) as caught:
            await client.get("clé")
    assert isinstance(caught.value.__cause__, Refusal)
    assert caught.value.__cause__.code == 1
    assert server.lost_workers == 0


async def test_empty_values_and_keys(client: ElevatorClient, server: ElevatorServer) -> None:
    """The server says of an empty value that its key is missing; the client finds it all the same."""
    await client.put("void", "")
    await client.put("", "at the empty key")

    assert await client.get("void") == b""
    assert await client.find("void") == b""
    assert await client.exists("void")
    assert await client.mget(["void", ""]) == [b"", b"at the empty key"]
    assert await client.range("void", "void") == [(b"void", b"")]
    assert "GET" in server.commands


async def test_many_keys(client: ElevatorClient, server: ElevatorServer) -> None:
    """In the order asked, repeats and absent ones too; none is never sent, as the server would not answer."""
    await fill(client)

    with kv.budget(round_trips=1, keys=3):
        assert await client.mget(["3", "nope", "1", "3"]) == [b"v3", None, b"v1", b"v3"]
    sent = len(server.commands)
    assert await client.mget([]) == []
    assert len(server.commands) == sent


async def test_exists_on_the_last_release() -> None:
    """It does not know the command; the answer is the same, and it is not asked again."""
    with ElevatorServer(quirks=Quirks(has_exists=False)) as server:
        async with ElevatorClient(server.endpoint) as client:
            await client.put("a", "")
            assert [await client.exists(key) for key in ("a", "b", "a")] == [True, False, True]
            await fill(client)
            assert await client.range(prefix="1") == [(b"1", b"v1")]
        assert server.commands.count("EXISTS") == 1
        assert server.lost_workers == 0


# --- ranges -----------------------------------------------------------------------------------------------------------


async def test_ranges(client: ElevatorClient, server: ElevatorServer) -> None:
    """A key as limit is included and sent as RANGE, a number is sent as SLICE."""
    await fill(client)

    assert await client.range("1", "9") == NINE
    assert await client.range("3", b"5") == NINE[2:5]
    assert await client.range() == NINE
    assert await client.range("8") == NINE[7:]
    assert await client.range("5", "3") == []
    assert "SLICE" not in server.commands
    assert await client.range("3", 2) == NINE[2:4]
    assert server.commands[-1] == "SLICE"
    assert await client.slice("30", 2) == NINE[3:5]
    assert await client.slice(None, 0) == []
    assert await client.slice(None, 100) == NINE


@pytest.mark.parametrize("limit", ["5", 3])
async def test_parts_of_rows(client: ElevatorClient, limit: int | str) -> None:
    """Keys alone, values alone, or neither; the same for ranges, slices and iterators."""
    await fill(client)
    expected = {
        (True, True): NINE[2:5],
        (True, False): [key for key, _ in NINE[2:5]],
        (False, True): [value for _, value in NINE[2:5]],
        (False, False): [None] * 3,
    }

    for (keys, values), rows in expected.items():
        assert await client.range("3", limit, include_key=keys, include_value=values) == rows
        stream = client.range_iter("3", limit, include_key=keys, include_value=values, page=2)
        assert [row async for row in stream] == rows


@pytest.mark.parametrize("page", [1, 2, 3, 9, 100])
async def test_iterators_page(client: ElevatorClient, page: int, server: ElevatorServer) -> None:
    """In pages of any size, to the same rows."""
    await fill(client)

    assert [row async for row in client.range_iter(page=page)] == NINE
    assert [row async for row in client.range_iter("2", "7", page=page)] == NINE[1:7]
    assert [row async for row in client.range_iter("2", 4, page=page)] == NINE[1:5]
    assert [row async for row in client.range_iter("x", page=page)] == []
    assert "RANGE" not in server.commands


@pytest.mark.parametrize("prefix", [b"", b"r", b"r1", b"\xff", b"a\xff", b"zz"])
@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("values", [True, False])
async def test_prefixes(client: ElevatorClient, prefix: bytes, keys: bool, values: bool) -> None:
    """Without the key behind the last one, and without an argument that older servers die of."""
    stored = [b"", b"\x00", b"a\xff", b"a\xff\xff", b"b", b"r", b"r0", b"r1", b"r10", b"r2", b"s", b"\xff", b"\xff\xfe"]
    async with client.write_batch() as batch:
        for key in stored:
            batch.put(key, b"v" + key)

    found = await client.range(prefix=prefix, include_key=keys, include_value=values)

    wanted = sorted(key for key in stored if key.startswith(prefix))
    if keys and values:
        assert found == [(key, b"v" + key) for key in wanted]
    else:
        assert found == [key if keys else b"v" + key if values else None for key in wanted]


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_batches(client: ElevatorClient, server: ElevatorServer) -> None:
    """By a block or by hand, in one request; the last operation on a key wins."""
    async with client.write_batch() as batch:
        batch.put("b1", "x")
        batch.put("b1", "y")
        batch.delete("b2")
    other = client.write_batch()
    other.put("b2", "z")
    assert len(other) == 1
    await other.write()
    assert len(other) == 0

    assert await client.range("b1", "b2") == [(b"b1", b"y"), (b"b2", b"z")]
    assert server.commands.count("BATCH") == 2


async def test_a_block_that_fails_sends_nothing(client: ElevatorClient, server: ElevatorServer) -> None:
    """Neither then nor later; an empty batch sends nothing either."""
    with suppress(ZeroDivisionError):
        async with client.write_batch() as batch:
            batch.put("a", "1")
            _ = 1 / 0
    await batch.write()
    async with client.write_batch():
        pass

    assert "BATCH" not in server.commands
    assert len(batch) == 0


async def test_what_refuses_a_batch_before_it_is_sent_leaves_it(client: ElevatorClient, server: ElevatorServer) -> None:
    """Nothing of it was sent, so nothing of it is lost."""
    batch = client.write_batch()
    batch.put("a", "1")

    with pytest.raises(kv.BudgetExceeded), kv.budget(round_trips=0):
        await batch.write()
    with pytest.raises(kv.ValidationError):
        await batch.write(timeout=0)

    assert len(batch) == 1
    assert "BATCH" not in server.commands
    await batch.write()
    assert await client.get("a") == b"1"


async def test_a_batch_has_its_own_time(client: ElevatorClient, server: ElevatorServer) -> None:
    """Said when it is made, or when it is written; what may have been sent is not sent again."""
    for made, written in ((0.05, None), (None, 0.05), (60, 0.05)):
        await client.exists("a")  # The database is up.
        batch = client.write_batch(timeout=made)
        batch.put("a", "1")
        server.swallow()
        start = time.monotonic()
        with pytest.raises(kv.OutcomeUnknown):
            await batch.write(timeout=written)
        assert time.monotonic() - start < 2
        assert len(batch) == 0


async def test_a_refused_batch_is_emptied(client: ElevatorClient, server: ElevatorServer) -> None:
    """What the server refused is not sent again with what comes next."""
    batch = client.write_batch()
    batch.put("a", "1")
    server.answer_with(encode_reply(Reply(Status.FAILURE, None, Code.SIGNAL, b"Unrecognized signal received : 9")))

    with pytest.raises(kv.ValidationError):
        await batch.write()

    assert len(batch) == 0


async def test_an_unsent_batch_is_kept(server: ElevatorServer) -> None:
    """What surely did not leave can be written once the server is back."""
    async with ElevatorClient(server.endpoint) as client:
        server.stop()
        await noticed(client)
        batch = client.write_batch()
        batch.put("a", "1")
        with pytest.raises(kv.Unavailable):
            await batch.write()
        assert len(batch) == 1
        server.start()

        await batch.write()

        assert await client.get("a") == b"1"


async def test_batches_of_another_database(client: ElevatorClient) -> None:
    """``dbname`` names it, and the client stays where it is."""
    await client.createdb("other")
    async with client.write_batch("other") as batch:
        batch.put("a", "there")

    assert await client.find("a") is None
    await client.connect("other")
    assert await client.get("a") == b"there"


@pytest.mark.parametrize("is_own", [True, False])
async def test_batches_of_a_database_that_was_made_anew(client: ElevatorClient, is_own: bool) -> None:
    """It has another uid then. Whoever made it anew knows; others are told once, and find it after that."""
    maker = client if is_own else client.sibling()
    await client.createdb("other")
    async with client.write_batch("other") as batch:
        batch.put("a", "1")
    await maker.dropdb("other")
    await maker.createdb("other")

    if not is_own:
        with pytest.raises(kv.StoreError, match="dropped"):
            async with client.write_batch("other") as batch:
                batch.put("a", "2")
    async with client.write_batch("other") as batch:
        batch.put("a", "3")

    await client.connect("other")
    assert await client.get("a") == b"3"


# --- databases --------------------------------------------------------------------------------------------------------


async def test_databases(client: ElevatorClient, server: ElevatorServer) -> None:
    """Made, listed, gone to, unmounted, mounted and dropped."""
    assert await client.ping() == b"PONG"
    await client.createdb("library", {"block_size": 8192, "paranoid_checks": True})
    assert await client.listdb() == ["default", "library"]
    await client.put("k", "in default")
    await client.connect("library")
    assert client.db_name == "library"
    assert await client.find("k") is None
    await client.put("k", "in library")
    await client.unmount("library")
    with pytest.raises(kv.StoreError):
        await client.unmount("library")
    await client.mount("library")
    with pytest.raises(kv.StoreError):
        await client.mount("library")
    assert await client.get("k") == b"in library"
    with pytest.raises(kv.StoreError, match="exists"):
        await client.createdb("library")
    await client.dropdb("library")
    with pytest.raises(kv.StoreError, match="connect"):
        await client.get("k")
    with pytest.raises(kv.StoreError, match="createdb"):
        await client.connect("library")
    await client.connect("default")
    assert await client.get("k") == b"in default"
    assert server.lost_workers == 0


async def test_a_database_in_a_folder_that_is_there(server: ElevatorServer) -> None:
    """``createdb`` of the path of an existing LevelDB folder takes up what is in it."""
    server.storage.directories.add(b"/srv")
    server.storage.add_folder("/srv/old", dict(NINE))
    async with ElevatorClient(server.endpoint) as client:
        await client.createdb("/srv/old")
        await client.connect("/srv/old")

        assert await client.range() == NINE
        with pytest.raises(kv.StoreError, match="parent"):
            await client.createdb("/nowhere/new")
        with pytest.raises(kv.StoreError):
            await client.createdb("./here")


async def test_a_database_that_others_dropped(client: ElevatorClient) -> None:
    """Its uid is unknown then, made again or not, and the error says what to do."""
    await client.createdb("shared")
    await client.connect("shared")
    other = client.sibling()
    await other.dropdb("shared")
    await other.createdb("shared")

    with pytest.raises(kv.StoreError, match="dropped") as caught:
        await client.put("a", "1")

    assert isinstance(caught.value.__cause__, Refusal)
    assert caught.value.__cause__.code == 4
    await client.connect("shared")
    await client.put("a", "1")


async def test_siblings_go_their_own_ways(client: ElevatorClient) -> None:
    """On the same sockets, each in its own database."""
    await client.createdb("other")
    twin = client.sibling()
    await twin.connect("other")
    await twin.put("a", "other")
    await client.put("a", "default")

    assert (await client.get("a"), await twin.get("a")) == (b"default", b"other")
    assert (client.db_name, twin.db_name) == ("default", "other")


async def test_a_sibling_closes_nothing_of_others(client: ElevatorClient) -> None:
    """The sockets are not its own; in a block of its own it is one client more."""
    async with client.sibling() as twin:
        await twin.put("a", "1")
    await twin.close()

    assert await client.get("a") == b"1"


async def test_a_missing_database_is_an_error(server: ElevatorServer) -> None:
    """And the client does not stay open."""
    with pytest.raises(kv.StoreError, match="create"):
        async with ElevatorClient(server.endpoint, "nowhere"):
            pass


async def test_a_server_with_the_new_msgpack_is_refused() -> None:
    """It would store text for bytes."""
    with ElevatorServer(quirks=Quirks(new_msgpack=True)) as server, pytest.raises(kv.StoreError, match="msgpack"):
        async with ElevatorClient(server.endpoint):
            pass


async def test_repairdb_needs_force(client: ElevatorClient, server: ElevatorServer) -> None:
    """The server would never answer and lose a worker, which is just what happens to those who insist."""
    with pytest.raises(kv.Unsupported, match="force"):
        await client.repairdb()
    assert (server.lost_workers, "DBREPAIR" in server.commands) == (0, False)

    with pytest.raises(kv.OutcomeUnknown):
        await client.repairdb(force=True, timeout=0.05)

    assert server.lost_workers == 1


async def test_there_is_no_fill_cache() -> None:
    """It was never sent."""
    assert "fill_cache" not in inspect.signature(ElevatorClient.mget).parameters


async def test_over_ipc(tmp_path: Path) -> None:
    """A socket file does as well."""
    with ElevatorServer(f"ipc://{tmp_path}/e") as server:
        async with ElevatorClient(server.endpoint) as client:
            await client.put("a", "1")
            assert await client.get("a") == b"1"


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 on its loopback")
async def test_over_ipv6() -> None:
    """An address in brackets is one like any other."""
    with ElevatorServer("tcp://[::1]:0") as server:
        async with kv.connect(server.url) as db, ElevatorClient(server.endpoint) as client:
            assert await client.ping() == b"PONG"
            assert "[::1]" in repr(db)


# --- what is not sent -------------------------------------------------------------------------------------------------

Call = Callable[[Any], Awaitable[object]]


async def drain(stream: Any) -> list[object]:
    """Read a stream to its end."""
    return [row async for row in stream]


HARMFUL: dict[str, Call] = {
    "get int": lambda c: c.get(5),
    "get nil": lambda c: c.get(None),
    "get array": lambda c: c.get(bytearray(b"k")),
    "find int": lambda c: c.find(5),
    "delete int": lambda c: c.delete(5),
    "exists int": lambda c: c.exists(5),
    "put int key": lambda c: c.put(5, "v"),
    "put int": lambda c: c.put("k", 5),
    "put nil": lambda c: c.put("k", None),
    "put surrogate": lambda c: c.put("k", "\ud800"),
    "mget one": lambda c: c.mget("abc"),
    "mget int key": lambda c: c.mget([5]),
    "mget nil key": lambda c: c.mget([None]),
    "range int start": lambda c: c.range(5, "z"),
    "range bool limit": lambda c: c.range("a", True),
    "range negative": lambda c: c.range("a", -1),
    "range float": lambda c: c.range("a", 1.5),
    "range int flag": lambda c: c.range("a", "z", include_key=1),
    "range nil flag": lambda c: c.range("a", "z", include_value=None),
    "range prefix and start": lambda c: c.range("a", prefix="k"),
    "range prefix and limit": lambda c: c.range(None, "a", prefix="k"),
    "range prefix int": lambda c: c.range(prefix=5),
    "slice int start": lambda c: c.slice(5, 5),
    "slice text count": lambda c: c.slice("a", "5"),
    "slice nil count": lambda c: c.slice("a", None),
    "slice float count": lambda c: c.slice("a", 1.5),
    "slice huge count": lambda c: c.slice("a", 2**40),
    "slice flag": lambda c: c.slice("a", 5, include_key="yes"),
    "iter page": lambda c: drain(c.range_iter(page=0)),
    "iter limit": lambda c: drain(c.range_iter(limit=True)),
    "iter start": lambda c: drain(c.range_iter(5)),
    "connect int": lambda c: c.connect(5),
    "connect empty": lambda c: c.connect(""),
    "create int": lambda c: c.createdb(5),
    "create empty": lambda c: c.createdb(""),
    "create NUL": lambda c: c.createdb("a\0b"),
    "create beyond ASCII": lambda c: c.createdb("café"),
    "create beyond UTF-8": lambda c: c.createdb(b"\xff"),
    "create option value": lambda c: c.createdb("t", {"block_size": "x"}),
    "create option bool": lambda c: c.createdb("t", {"block_size": True}),
    "create option int": lambda c: c.createdb("t", {"paranoid_checks": 1}),
    "create option range": lambda c: c.createdb("t", {"block_size": 2**31}),
    "create option unknown": lambda c: c.createdb("t", {"size": 1}),
    "drop empty": lambda c: c.dropdb(""),
    "drop beyond UTF-8": lambda c: c.dropdb(b"\xff"),
    "mount int": lambda c: c.mount(5),
    "unmount empty": lambda c: c.unmount(""),
    "timeout zero": lambda c: c.get("a", timeout=0),
    "timeout text": lambda c: c.get("a", timeout="1"),
    "timeout bool": lambda c: c.get("a", timeout=True),
    "timeout nan": lambda c: c.get("a", timeout=float("nan")),
}


@pytest.mark.parametrize("name", HARMFUL)
async def test_what_harms_a_server_is_not_sent(client: ElevatorClient, server: ElevatorServer, name: str) -> None:
    """It is refused here, and the server hears nothing of it."""
    sent = len(server.commands)

    with pytest.raises(kv.ValidationError):
        await HARMFUL[name](client)

    assert (len(server.commands), server.lost_workers) == (sent, 0)


async def test_what_the_wire_has_no_length_for(client: ElevatorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is too large, before it is packed."""
    monkeypatch.setattr("kvmodel.drivers.elevator.checks.MAX_STRING", 10)

    for call in (client.put("k" * 11, "v"), client.put("k", "v" * 11), client.get(b"k" * 11)):
        with pytest.raises(kv.TooLarge) as caught:
            await call
        assert (caught.value.size, caught.value.limit) == (11, 10)


@pytest.mark.parametrize("operation", [("put", 5, "v"), ("put", "k", 5), ("put", "k", None), ("delete", 5)])
async def test_batches_refuse_what_harms(client: ElevatorClient, operation: tuple[Any, ...]) -> None:
    """At once, when it is put in."""
    batch = client.write_batch()
    name, *given = operation

    with pytest.raises(kv.ValidationError):
        getattr(batch, name)(*given)

    assert len(batch) == 0


@pytest.mark.parametrize("command", ["mount", "unmount"])
async def test_unknown_names_are_not_mounted(client: ElevatorClient, server: ElevatorServer, command: str) -> None:
    """The server would say nothing and lose a worker: the list is looked at first."""
    with pytest.raises(kv.StoreError, match="no database"):
        await getattr(client, command)("nowhere")

    assert server.lost_workers == 0
    assert not {"DBMOUNT", "DBUMOUNT"} & set(server.commands)


async def test_databases_are_brought_up_alone() -> None:
    """Many tasks at once after a restart: one request mounts, the others wait, and no worker is lost."""
    with ElevatorServer(quirks=Quirks(mount_seconds=0.02)) as server:
        async with ElevatorClient(server.endpoint, sockets=6) as client:
            await client.createdb("library")
            await client.connect("library")
            await client.put("k", "v")
            for _ in range(3):
                server.restart()
                await noticed(client)
                found = await asyncio.gather(*(client.get("k") for _ in range(30)))
                assert found == [b"v"] * 30
            await client.unmount("library")
            assert await asyncio.gather(*(client.get("k") for _ in range(30))) == [b"v"] * 30
        assert server.lost_workers == 0


@pytest.mark.parametrize("sockets", [1, 6])
async def test_a_database_is_taken_down_alone(sockets: int) -> None:
    """In the middle of traffic: what is under way is waited for, and what comes later mounts it once."""
    with ElevatorServer(quirks=Quirks(mount_seconds=0.02)) as server:
        async with ElevatorClient(server.endpoint, sockets=sockets) as client:
            await client.createdb("library")
            await client.connect("library")
            await client.put("k", "v")
            server.delay(*(0.02,) * sockets)

            results = await asyncio.gather(
                *(client.get("k") for _ in range(20)),
                *(client.unmount("library") for _ in range(3)),
                *(client.get("k") for _ in range(20)),
                return_exceptions=True,
            )

            assert results[:20] + results[-20:] == [b"v"] * 40
            assert None in results[20:23]
            assert all(each is None or isinstance(each, kv.StoreError) for each in results[20:23])
        assert server.lost_workers == 0


async def test_nobody_waits_for_each_other() -> None:
    """With a single socket too, those that make databases and those that bring them up take turns."""
    with ElevatorServer(quirks=Quirks(mount_seconds=0.01)) as server:
        async with ElevatorClient(server.endpoint, sockets=1, timeout=5) as client:
            await client.createdb("library")
            await client.connect("library")
            await client.put("k", "v")
            server.restart()
            await noticed(client)

            await asyncio.gather(
                *(client.createdb(f"new {number}") for number in range(5)),
                *(client.get("k") for _ in range(5)),
                *(client.sibling().connect("library") for _ in range(5)),
            )

            assert len(await client.listdb()) == 7
        assert server.lost_workers == 0


async def test_a_database_is_taken_down_when_all_is_quiet(client: ElevatorClient, server: ElevatorServer) -> None:
    """What was sent before is answered first: with several workers it might be done after it otherwise."""
    await client.createdb("library")
    await client.connect("library")
    server.delay(0.5)
    reading = asyncio.ensure_future(client.find("k"))
    await condition(lambda: "MGET" in server.commands)
    unmounting = asyncio.ensure_future(client.unmount("library"))
    await condition(client._pool._free.locked)

    assert not reading.done()
    assert "DBUMOUNT" not in server.commands
    await asyncio.gather(reading, unmounting)
    assert server.commands[-1] == "DBUMOUNT"


async def test_a_database_is_brought_up_once(client: ElevatorClient, server: ElevatorServer) -> None:
    """However many wait for it."""
    await client.put("k", "v")
    await client.unmount("default")
    before = server.commands.count("DBCONNECT")

    assert await asyncio.gather(*(client.get("k") for _ in range(30))) == [b"v"] * 30

    assert server.commands.count("DBCONNECT") == before + 1


async def test_a_restart_that_nobody_saw(client: ElevatorClient, server: ElevatorServer) -> None:
    """While no socket was there to notice, the databases may have been unmounted."""
    await client.createdb("library")
    await client.connect("library")
    await client.put("k", "v")
    server.swallow(8)
    results = await asyncio.gather(*(client.get("k", timeout=0.05) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(result, kv.TimedOut) for result in results)
    server.restart()

    assert await asyncio.gather(*(client.get("k") for _ in range(30))) == [b"v"] * 30
    assert server.lost_workers == 0


async def test_a_connection_that_ended_is_a_sign(client: ElevatorClient, server: ElevatorServer) -> None:
    """From then on no database counts as mounted, whatever other sockets are doing."""
    await client.put("k", "v")
    (wire,) = client._pool._idle
    server.restart()
    await condition(lambda: not wire.is_open)

    assert client._pool._mounted == set()


async def test_mounting_together_would_lose_workers() -> None:
    """What the test above guards against is really there: two clients at once cost the server a worker."""
    with ElevatorServer(quirks=Quirks(mount_seconds=5)) as server:
        async with ElevatorClient(server.endpoint) as client:
            await client.createdb("library")
            server.storage.restart()
            one, two = (ElevatorClient(server.endpoint, "library") for _ in range(2))
            results = await asyncio.gather(one.open(timeout=0.1), two.open(timeout=0.1), return_exceptions=True)
            assert all(isinstance(result, kv.Unavailable) for result in results)
            await one.close()
            await two.close()
        assert server.lost_workers == 1


async def test_creating_together_would_lose_workers(server: ElevatorServer) -> None:
    """What is guarded against is really there: two clients at once cost the server a worker."""
    async with ElevatorClient(server.endpoint) as one, ElevatorClient(server.endpoint) as two:
        results = await asyncio.gather(
            *(each.createdb("new", timeout=0.3) for each in (one, two)), return_exceptions=True
        )

    assert None in results
    assert any(isinstance(result, kv.OutcomeUnknown) for result in results)
    assert server.lost_workers == 1


async def test_one_creates_at_a_time(client: ElevatorClient, server: ElevatorServer) -> None:
    """Several of one name at once, which would cost a worker each: one makes it, the others learn that it exists."""
    results = await asyncio.gather(*(client.createdb("new") for _ in range(10)), return_exceptions=True)

    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, kv.StoreError) for result in results) == 9
    assert server.lost_workers == 0


# --- errors -----------------------------------------------------------------------------------------------------------

CALLS: dict[str | None, Call] = {
    None: lambda c: c.put("a", "b"),
    "GET": lambda c: c.get("a"),
    "DBCONNECT": lambda c: c.connect("a"),
    "DBCREATE": lambda c: c.createdb("a"),
    "DBDROP": lambda c: c.dropdb("a"),
    "DBMOUNT": lambda c: c.mount("default"),
    "DBUMOUNT": lambda c: c.unmount("default"),
}


@pytest.mark.parametrize(("code", "command"), REFUSALS, ids=str)
async def test_every_code_has_its_error(
    client: ElevatorClient, server: ElevatorServer, code: int, command: str | None
) -> None:
    """As the table says, with the server's own words as the cause; the connection goes on."""
    refusal = encode_reply(Reply(Status.FAILURE, None, code, b"the server's words"))
    if command in ("DBMOUNT", "DBUMOUNT"):
        server.answer_with(encode_reply(Reply(Status.SUCCESS, [b"default"])))
    server.answer_with(refusal)
    if command == "GET":  # It is asked again whether the value is an empty one.
        server.answer_with(encode_reply(Reply(Status.WARNING, [None])))

    with pytest.raises(kv.KvModelError) as caught:
        await CALLS[command](client)

    meaning = REFUSALS[code, command]
    assert type(caught.value) is meaning.error
    assert caught.value.message == meaning.message
    assert isinstance(caught.value.__cause__, Refusal)
    assert (caught.value.__cause__.code, caught.value.__cause__.text) == (code, "the server's words")
    await client.ping()


def test_an_unknown_code_is_an_error_too() -> None:
    """One that no server is known to send."""
    error = refusal_error("GET", Reply(Status.FAILURE, None, 99, b"what?"), "elevator://x")

    assert type(error) is kv.StoreError
    assert str(error.__cause__) == "what? (code 99)"


async def test_the_same_code_means_two_things(client: ElevatorClient) -> None:
    """A missing key, and a command that is not known."""
    with pytest.raises(kv.NotFound):
        await client.get("missing")
    assert type(refusal_error("EXISTS", Reply(Status.FAILURE, None, Code.KEY, b""), "")) is kv.Unsupported


def test_a_storage_can_be_shared() -> None:
    """What one server has written is there when another one serves it."""
    storage = Storage()
    for _ in range(2):
        with ElevatorServer(storage=storage) as server:
            assert server.url.startswith("elevator://127.0.0.1:")
