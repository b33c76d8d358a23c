"""The client of a cluster: every command, every code, the master wherever it is."""

from __future__ import annotations

# ruff: noqa: PT009 - assert_ is a command of the store
import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.arakoon import (
    CONSISTENT,
    NO_GUARANTEES,
    ArakoonClient,
    AtLeast,
    ClusterNode,
    Interval,
    Leaf,
    NurseryConfig,
    Statistics,
    steps,
)
from kvmodel.drivers.arakoon import protocol as p
from kvmodel.drivers.arakoon.client import parse_hosts
from kvmodel.drivers.arakoon.commands import MAX_UPDATE_BYTES, MAX_VALUE_BYTES
from kvmodel.drivers.arakoon.connection import Address, Connection, ConnectionLost, Unreachable, ends
from kvmodel.drivers.arakoon.errors import ERRORS
from kvmodel.drivers.arakoon.protocol import Code, Refusal, Request, encode_refusal, encode_reply
from kvmodel.drivers.arakoon.wire import INT32, INT64, Limits, Malformed
from kvmodel.testing.arakoon import Answer, LocalCluster, Mishap
from kvmodel.testing.proxy import Proxy, Way
from tests.drivers.arakoon.conftest import client_of
from tests.drivers.arakoon.servers import Late, scripted
from tests.drivers.rows import condition

# --- commands ---------------------------------------------------------------------------------------------------------


async def test_single_keys(client: ArakoonClient) -> None:
    """Reads and writes of one key, text or bytes."""
    await client.set("a", "é")
    assert await client.get(b"a") == "é".encode()
    assert await client.exists("a")
    await client.confirm("a", "2")
    assert await client.replace("a", "3") == b"2"
    assert await client.test_and_set("a", "3", "4") == b"3"
    assert await client.test_and_set("a", "3", "5") == b"4"
    assert await client.test_and_set("b", None, "1") is None
    await client.assert_("a", "4")
    await client.assert_("nobody", None)
    await client.assert_exists("b")
    with pytest.raises(kv.Conflict):
        await client.assert_exists("nobody")
    with pytest.raises(kv.Conflict) as conflict:
        await client.assert_("a", "5")
    assert conflict.value.key == (b"a",)
    await client.delete("a")
    assert await client.replace("b", None) == b"1"
    for missing in (client.get, client.delete):
        with pytest.raises(kv.NotFound) as caught:
            await missing("a")
        assert caught.value.key == (b"a",)


async def test_many_keys(client: ArakoonClient) -> None:
    """In the order that is meant, not the one on the wire."""
    for key in "abcde":
        await client.set(key, key.upper())

    assert await client.multi_get(["c", "a"]) == [b"C", b"A"]
    assert await client.multi_get_option(["c", "x", "a"]) == [b"C", None, b"A"]
    assert await client.range("b", True, "d", False) == [b"b", b"c"]
    assert await client.range(None, True, None, True, 2) == [b"a", b"b"]
    assert await client.range(None, True, None, True, 0) == []
    assert await client.range_entries("b", False, None, True, 1) == [(b"c", b"C")]
    assert await client.rev_range_entries("d", True, "b", True) == [(b"d", b"D"), (b"c", b"C"), (b"b", b"B")]
    assert await client.prefix("") == [b"a", b"b", b"c", b"d", b"e"]
    assert await client.prefix("a", max_elements=1) == [b"a"]
    assert await client.get_key_count() == 5
    assert await client.delete_prefix("a") == 1
    with pytest.raises(kv.NotFound) as caught:
        await client.multi_get(["x", "b", "y"])
    assert caught.value.key == (b"y",)
    with pytest.raises(kv.ValidationError):
        await client.range(None, True, None, True, 1 << 31)


async def test_the_state_of_things(client: ArakoonClient, cluster: LocalCluster) -> None:
    """What a node tells about itself, as typed values."""
    assert client.connected
    assert await client.hello("me", cluster.cluster_id) == "Arakoon 1.9.25"
    major, minor, patch, text = await client.version()
    assert (major, minor, patch) == (1, 9, 25)
    assert isinstance(text, str)
    assert await client.who_master() == "node_0"
    assert await client.expect_progress_possible()
    assert await client.get_current_state() == "Stable_master"
    await client.nop()
    await client.get("nobody") if await client.exists("nobody") else await client.set("a", "1")
    statistics = await client.statistics()
    assert isinstance(statistics, Statistics)
    assert statistics.set_info.n == 1
    assert set(statistics.node_is) == {"node_0", "node_1", "node_2"}
    await client.flush_store()
    for refused in (client.optimize_db, client.defrag_db):
        with pytest.raises(kv.Unsupported):
            await refused()
    await client.node(cluster.address("node_1")).optimize_db()
    await client.node("node_1").defrag_db()
    with pytest.raises(kv.Unsupported):
        await client.user_hook("nobody")


async def test_the_files_of_a_node(client: ArakoonClient) -> None:
    """Log files are merged one by one, the database is copied on slaves only."""
    assert await client.collapse_tlogs(2) == 0
    with pytest.raises(kv.StoreError):
        await client.collapse_tlogs(0)
    with pytest.raises(kv.Unsupported):
        await client.copy_db_to_head(1)
    await client.node("node_1").copy_db_to_head(1)
    with pytest.raises(kv.ValidationError):
        await client.collapse_tlogs(1 << 31)


async def test_collapsing_that_fails_midway() -> None:
    """The reply begins well and says later that it did not end so: the server's words are the cause."""
    progress = bytes(4) + INT64.write(1)
    replies = [
        bytes(4) + INT32.write(3) + progress * 3,
        bytes(4) + INT32.write(3) + progress + encode_refusal(Code.UNKNOWN_FAILURE, b"disk full"),
    ]

    async with scripted(lambda request: replies.pop(0)) as client:
        assert await client.collapse_tlogs(1) == 3
        with pytest.raises(kv.StoreError) as caught:
            await client.collapse_tlogs(1)
    assert "disk full" in str(caught.value.__cause__)


@pytest.mark.parametrize("bad", [5, None, 1.5, ["a"], "\ud800"])
async def test_what_is_no_key(client: ArakoonClient, bad: Any) -> None:
    """Numbers are not taken for that many zero bytes; nothing is sent."""
    calls: list[Callable[[], Any]] = [
        lambda: client.get(bad),
        lambda: client.set(bad, "1"),
        lambda: client.set("a", bad),
        lambda: client.multi_get_option(["a", bad]),
        lambda: client.sequence([steps.Set(bad, "1")]),
    ]
    for call in calls:
        with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
            await call()
    others: list[Any] = [bytearray(b"a"), memoryview(b"1")]
    await client.set(*others)
    assert await client.get("a") == b"1"


async def test_functions_of_users(client: ArakoonClient, cluster: LocalCluster) -> None:
    """They answer, fail, and are unknown."""

    def fail(view: object, argument: bytes | None) -> bytes | None:
        raise RuntimeError("boom")

    cluster.define("echo", lambda view, argument: argument)
    cluster.define("fail", fail)

    assert await client.user_function("echo", "x") == b"x"
    assert await client.user_function("echo", None) is None
    with pytest.raises(kv.StoreError) as caught:
        await client.user_function("fail", None)
    assert "boom" in str(caught.value.__cause__)
    with pytest.raises(kv.ValidationError):
        await client.user_function("nobody", None)


async def test_nurseries(client: ArakoonClient) -> None:
    """Routing, nodes and intervals."""
    with pytest.raises(kv.NotFound):
        await client.get_routing()
    await client.set_routing(Leaf(b"left"))
    await client.set_routing_delta("left", "m", "right")
    await client.set_nursery_cfg("left", [ClusterNode(b"l0", (b"127.0.0.1",), 4000)])
    routing = await client.get_routing()
    assert await client.get_nursery_config() == NurseryConfig(
        routing, {b"left": (ClusterNode(b"l0", (b"127.0.0.1",), 4000),)}
    )
    for key in "abn":
        await client.set(key, key)
    assert await client.get_fringe("b", 0) == [(b"a", b"a")]
    assert await client.get_fringe("b", 1) == [(b"b", b"b"), (b"n", b"n")]
    await client.migrate_range(Interval(public_end=b"m"), [steps.Set("c", "1")])
    assert await client.get_interval() == Interval(public_end=b"m")
    with pytest.raises(kv.Unsupported):
        await client.get("n")
    await client.set_interval(Interval())
    assert await client.multi_get(["c", "n"]) == [b"1", b"n"]


def test_the_originals_parameters() -> None:
    """Names, order and defaults are those of the original client."""
    expected = {
        "get": "key, allow_dirty=False",
        "exists": "key, allow_dirty=False",
        "set": "key, value",
        "confirm": "key, value",
        "delete": "key",
        "replace": "key, value",
        "test_and_set": "key, test_value, set_value",
        "range": "begin_key, begin_inclusive, end_key, end_inclusive, max_elements=-1, allow_dirty=False",
        "range_entries": "begin_key, begin_inclusive, end_key, end_inclusive, max_elements=-1, allow_dirty=False",
        "rev_range_entries": "begin_key, begin_inclusive, end_key, end_inclusive, max_elements=-1, allow_dirty=False",
        "prefix": "prefix, max_elements=-1, allow_dirty=False",
        "delete_prefix": "prefix",
        "multi_get": "keys, allow_dirty=False",
        "multi_get_option": "keys, allow_dirty=False",
        "assert_": "key, value, allow_dirty=False",
        "assert_exists": "key, allow_dirty=False",
        "user_function": "function, argument",
        "hello": "client_id, cluster_id",
        "version": "",
        "who_master": "",
        "expect_progress_possible": "",
        "get_key_count": "",
        "nop": "",
        "statistics": "",
        "get_current_state": "",
    }
    for name, parameters in expected.items():
        signature = inspect.signature(getattr(ArakoonClient, name))
        own = [
            each.name if each.default is each.empty else f"{each.name}={each.default}"
            for each in list(signature.parameters.values())[1:]
            if each.kind is not each.KEYWORD_ONLY
        ]
        assert ", ".join(own) == parameters, name
    sequence = inspect.signature(ArakoonClient.sequence).parameters
    assert list(sequence)[1:3] == ["steps", "sync"]
    assert sequence["sync"].default is False


def test_every_command_has_a_method() -> None:
    """The table of the protocol and the client have the same names."""
    names = {command.name for command in p.COMMANDS.values()} - {"synced_sequence"}

    assert names <= set(dir(ArakoonClient))


# --- sequences --------------------------------------------------------------------------------------------------------


async def test_sequences_are_atomic(client: ArakoonClient) -> None:
    """All steps, or none."""
    await client.sequence([steps.Set("a", "1"), steps.Set("b", "2")])
    await client.sequence(steps.Sequence([steps.Set("c", "3")]), sync=True)
    with pytest.raises(kv.NotFound):
        await client.sequence([steps.Set("a", "9"), steps.Delete("nobody")])
    with pytest.raises(kv.Conflict) as caught:
        await client.sequence([steps.Set("a", "9"), steps.Assert("b", "9")])

    assert caught.value.key == (b"b",)
    assert await client.multi_get(["a", "b", "c"]) == [b"1", b"2", b"3"]


async def test_the_builder(client: ArakoonClient) -> None:
    """Step by step, in one request."""
    builder = client.sequence().set("a", "1").set("ab", "2").replace("b", None).test_and_set("t", None, "x").nop()
    with kv.budget(round_trips=1):
        await builder
    with kv.budget(round_trips=1):
        await (
            client.sequence()
            .assert_("a", "1")
            .assert_exists("t")
            .assert_range("a", ["a", "ab"])
            .delete("t")
            .sequence([steps.Set("s", "1")])
            .delete_prefix("a")
            .set("a", "3")
            .run(sync=True)
        )

    assert len(builder) == 5
    assert await client.prefix("") == [b"a", b"s"]


async def test_what_is_not_safe_is_not_sent(client: ArakoonClient) -> None:
    """Steps that can fail behind one that is not undone, and functions that may stop the server."""
    unsafe: list[Callable[[], Any]] = [
        lambda: client.sequence().delete_prefix("a").assert_("b", None),
        lambda: client.sequence().delete_prefix("a").delete("b"),
        lambda: client.sequence().delete_prefix("a").assert_exists("b"),
        lambda: client.sequence().delete_prefix("a").assert_range("b", []),
        lambda: client.sequence().delete_prefix("a").sequence([steps.Delete("b")]),
        lambda: client.sequence().sequence([steps.DeletePrefix("a")]).delete("b"),
        lambda: client.sequence().user_function("f", None),
        lambda: client.sequence([steps.DeletePrefix("a"), steps.Delete("b")]),
        lambda: client.migrate_range(Interval(), [steps.DeletePrefix("a"), steps.Delete("b")]),
        lambda: client.sequence([steps.Sequence([steps.UserFunction("f", None)])]),
    ]
    for make in unsafe:
        with pytest.raises(kv.Unsupported), kv.budget(round_trips=0):
            made = make()
            if asyncio.iscoroutine(made):
                await made
    client.sequence().delete("b").delete_prefix("a").set("a", "1").replace("c", None)
    client.sequence().user_function("f", None, force=True)


async def test_sizes_are_checked_before_sending(client: ArakoonClient) -> None:
    """To the byte; what just fits is taken by the server."""
    largest = b"x" * MAX_VALUE_BYTES
    await client.set("a", largest)
    for call in (
        lambda: client.set("a", largest + b"x"),
        lambda: client.confirm("a", largest + b"x"),
        lambda: client.replace("a", largest + b"x"),
        lambda: client.test_and_set("a", None, largest + b"x"),
        lambda: client.sequence([steps.Set("a", b"x" * MAX_UPDATE_BYTES)]),
    ):
        with pytest.raises(kv.TooLarge), kv.budget(round_trips=0):
            await call()  # type: ignore[no-untyped-call]
    around = len(steps.encode_step(steps.Sequence([steps.Set("b", "")])))
    await client.sequence([steps.Set("b", b"x" * (MAX_UPDATE_BYTES - around))])
    assert len(await client.get("b")) == MAX_UPDATE_BYTES - around


# --- codes ------------------------------------------------------------------------------------------------------------

READS = {
    Code.NO_MAGIC: kv.ProtocolError,
    Code.TOO_MANY_DEAD_NODES: kv.Unavailable,
    Code.NO_HELLO: kv.ProtocolError,
    Code.NOT_MASTER: kv.Unavailable,
    Code.NOT_FOUND: kv.NotFound,
    Code.WRONG_CLUSTER: kv.Unavailable,
    Code.ASSERTION_FAILED: kv.Conflict,
    Code.READ_ONLY: kv.Unsupported,
    Code.OUTSIDE_INTERVAL: kv.Unsupported,
    Code.GOING_DOWN: kv.Unavailable,
    Code.NOT_SUPPORTED: kv.Unsupported,
    Code.NO_LONGER_MASTER: kv.Unavailable,
    Code.BAD_INPUT: kv.ValidationError,
    Code.INCONSISTENT_READ: kv.Unavailable,
    Code.USER_FUNCTION_FAILURE: kv.StoreError,
    Code.USER_HOOK_NOT_FOUND: kv.Unsupported,
    Code.MAX_CONNECTIONS: kv.Unavailable,
    Code.UNKNOWN_FAILURE: kv.StoreError,
    0x77: kv.ProtocolError,
}
AMBIGUOUS = {
    Code.TOO_MANY_DEAD_NODES,
    Code.GOING_DOWN,
    Code.NO_LONGER_MASTER,
    Code.UNKNOWN_FAILURE,
    0x77,
}


def test_every_code_has_a_row() -> None:
    """And every row has a test."""
    assert set(ERRORS) == set(Code) - {Code.OK}
    assert set(READS) == {*ERRORS, 0x77}


@pytest.mark.parametrize("code", READS, ids=str)
@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
async def test_codes(code: int, writes: bool) -> None:
    """Each becomes one error; of a write, only what proves that it was not done says so. The next call is fine."""
    said: list[str] = []
    refuses = True

    def say(request: Request) -> bytes:
        said.append(request.command.name)
        ok = encode_reply(request.command, b"v" if request.command is p.GET else None)
        return encode_refusal(code, b"words") if refuses else ok

    call: p.Call[Any] = p.SET(b"a", b"1") if writes else p.GET(CONSISTENT, b"a")
    is_repeated = code == Code.NOT_MASTER or (code in (Code.GOING_DOWN, Code.NO_LONGER_MASTER, 0xFE) and not writes)
    expected = kv.OutcomeUnknown if writes and code in AMBIGUOUS else READS[code]
    async with scripted(say) as client:
        if is_repeated:
            repeating = asyncio.create_task(client.call(call, until=time.monotonic() + 30))
            await condition(lambda: len(said) > 1)
            # Time may run out between two attempts, or while another one is about to be made.
            with pytest.raises((expected, kv.TimedOut)):
                await client.call(call, until=time.monotonic() + 0.05)
            refuses = False
            assert await repeating == (None if writes else b"v")
            return
        with pytest.raises(expected) as caught:
            await client.call(call, until=time.monotonic() + 30)
        assert said == ["set" if writes else "get"]
        assert "words" in str(caught.value.__cause__) or code == Code.NO_MAGIC
        refuses = False
        assert await client.get("a") == b"v"


# --- what comes instead of a reply ------------------------------------------------------------------------------------

GOOD = encode_reply(p.GET, b"some value")


@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
@pytest.mark.parametrize("cut", range(len(GOOD)))
async def test_a_reply_that_is_cut(cut: int, writes: bool) -> None:
    """At every byte: in time, and the next call is fine."""
    left = 10

    def say(request: Request) -> bytes | None:
        nonlocal left
        left -= 1
        reply = encode_reply(p.REPLACE, b"some value") if writes else GOOD
        return reply if left < 0 else reply[:cut] if cut else None

    async with scripted(say, ends=True) as client:
        start = time.monotonic()
        with pytest.raises(kv.OutcomeUnknown if writes else kv.Unavailable):
            await (client.replace("a", "1") if writes else client.get("a"))
        assert time.monotonic() - start < 2
        assert left == (9 if writes else 6)
        left = 0
        assert await (client.replace("a", "1") if writes else client.get("a")) == b"some value"


@pytest.mark.parametrize(
    "reply",
    [
        bytes(4) + b"\xff\xff\xff\xff",
        bytes(4) + b"\xff\xff\xff\x7f",
        b"\x05\x00\x00\x00\xff\xff\xff\xff",
        b"\x77\x00\x00\x00\x00\x00\x00\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        GOOD + GOOD,
        GOOD + b"x",
    ],
    ids=["4 GiB", "2 GiB", "message", "code", "http", "two replies", "one byte more"],
)
@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
async def test_what_is_no_reply(reply: bytes, writes: bool) -> None:
    """``ProtocolError``, at once; the connection is dropped and the next call gets its own answer."""
    bad = True

    def say(request: Request) -> bytes:
        nonlocal bad
        bad, was_bad = False, bad
        return reply if was_bad else encode_reply(request.command, b"good")

    async with scripted(say) as client:
        with pytest.raises(kv.OutcomeUnknown if writes else kv.ProtocolError):
            await (client.replace("a", "1") if writes else client.get("a"))
        assert await client.get("a") == b"good"


async def test_a_reply_of_another_request() -> None:
    """A list where a value belongs is no value."""
    first = True

    def say(request: Request) -> bytes:
        nonlocal first
        first, was_first = False, first
        return encode_reply(p.RANGE, [b"a", b"b"]) if was_first else encode_reply(p.GET, b"good")

    async with scripted(say) as client:
        with pytest.raises((kv.ProtocolError, kv.Unavailable)):
            await client.get("a")
        assert await client.get("a") == b"good"


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_list_of_another_length(count: int) -> None:
    """Each key is answered, and no more than the limit: another list is another request's."""
    bad = True

    def say(request: Request) -> bytes:
        reply = [b"x"] * (count if bad else 2)
        return encode_reply(request.command, reply)

    async with scripted(say) as client:
        for call in (lambda: client.multi_get(["a", "b"]), lambda: client.multi_get_option(["a", "b"])):
            with pytest.raises(kv.ProtocolError):
                await call()
        if count > 2:
            with pytest.raises(kv.ProtocolError):
                await client.range(None, True, None, True, 2)
        bad = False
        assert await client.multi_get(["a", "b"]) == [b"x", b"x"]
        assert await client.prefix("", 2) == [b"x", b"x"]


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["timeout", "cancelled"])
async def test_a_late_reply_is_nobodys(is_cancelled: bool) -> None:
    """A read that was given up leaves its connection: its reply never is the next request's."""
    said: list[Request] = []

    def say(request: Request) -> bytes:
        said.append(request)
        key = request.values[1]
        assert isinstance(key, bytes)
        reply = encode_reply(p.GET, key)
        return Late(reply) if key == b"slow" else reply

    async with scripted(say, timeout=5.0 if is_cancelled else 0.1) as client:
        reading = asyncio.create_task(client.get("slow"))
        await condition(lambda: bool(said))
        if is_cancelled:
            reading.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else kv.TimedOut):
            await reading
        assert await client.get("fast") == b"fast"


@pytest.mark.parametrize("unasked", [encode_reply(p.GET, b"x"), encode_refusal(Code.NOT_FOUND, b"Not_found"), b"\xfe"])
async def test_bytes_that_nobody_asked_for(client: ArakoonClient, cluster: LocalCluster, unasked: bytes) -> None:
    """A connection on which the server speaks first is not used again."""
    await client.set("a", "1")
    served = cluster._served["node_0"]
    for link in served.links:
        link._send(unasked)
    for _ in range(3):  # They have to arrive before the next request is sent: replies carry no mark of their own.
        await asyncio.sleep(0)

    assert await client.get("a") == b"1"


async def test_a_stranger_is_noticed() -> None:
    """Another cluster's id, another protocol, nobody at all: told when the client is opened."""
    async with LocalCluster(1, "mine") as cluster:
        other = ArakoonClient(cluster.address("node_0"), "yours")
        with pytest.raises(kv.Unavailable) as caught:
            await other.open()
        assert "cluster id" in str(caught.value.__cause__)
        await other.close()
        address = cluster.address("node_0")
    nobody = ArakoonClient(address, "mine")
    with pytest.raises(kv.Unavailable):
        await nobody.open()
    await nobody.close()

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    stranger = ArakoonClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "mine")
    with pytest.raises((kv.ProtocolError, kv.Unavailable)):
        await stranger.open()
    await stranger.close()
    server.close()
    await asyncio.sleep(0)


class Silent(asyncio.Transport):
    """Goes nowhere."""

    def write(self, data: object) -> None:
        """Sends nothing."""

    def abort(self) -> None:
        """Closes nothing."""


async def test_a_full_server_speaks_first() -> None:
    """What it says before it is asked is the answer to the first request, in as many pieces as it comes."""
    full = encode_refusal(Code.MAX_CONNECTIONS, b"too many clients")
    for said, error in ((full, Refusal), (full[:9], ConnectionLost), (b"SSH-2.0-OpenSSH", Malformed)):
        connection = Connection(Limits())
        connection.connection_made(Silent())
        connection.data_received(said[:3])
        connection.data_received(said[3:])
        with pytest.raises(error):
            await connection.exchange(p.WHO_MASTER(), time.monotonic() + 5)
        assert not connection.is_open


def test_an_unknown_command_ends_a_connection() -> None:
    """The server closes it behind that, though it does not behind other keys that are not there."""
    assert ends(Refusal(Code.NOT_FOUND, b"3f: command not found"))
    assert not ends(Refusal(Code.NOT_FOUND, b"key"))


async def test_names_that_no_host_has() -> None:
    """They are as unreachable as others."""
    client = ArakoonClient("x" * 70 + ".example:4000", "c")
    with pytest.raises(kv.Unavailable):
        await client.open()
    await client.close()


async def test_a_full_server_is_unavailable() -> None:
    """What it said is the cause."""
    async with LocalCluster(1, max_connections=0) as cluster:
        client = client_of(cluster)
        with pytest.raises(kv.Unavailable) as caught:
            await client.open()
        assert caught.value.__cause__ is not None
        await client.close()


# --- the master -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
async def test_it_follows_the_master(cluster: LocalCluster, named: bool) -> None:
    """Moved, dropped or killed, with names and without; reads and writes go on."""
    async with client_of(cluster, named=named) as client:
        await client.set("a", "0")
        for number in range(1, 4):
            moved = cluster.move_master()
            await client.set("a", str(number))
            assert await client.get("a") == str(number).encode()
            assert client.master == cluster.address(moved)
            assert await client.who_master() == moved
        # That a state is a slave's is enough: it is not asked what it would close the connection for.
        assert sum(node.requests["exists"] for node in cluster.nodes) == 0
        await client.drop_master()
        await client.set("a", "4")
        assert cluster.master is not None
        cluster.kill(cluster.master.name)
        assert await client.get("a") == b"4"
        await client.set("a", "5")
    assert cluster.contents().get(b"a") == b"5"


async def test_a_master_that_is_busy_is_found_without_names(cluster: LocalCluster) -> None:
    """Its state may be another one for a moment: then it answers what only a master answers."""
    master = cluster.nodes[0]
    master._get_current_state = lambda: b"Master_dictate"  # type: ignore[method-assign]

    async with client_of(cluster, named=False) as client:
        await client.set("a", "1")

    assert client.master is None or client.master == cluster.address("node_0")


async def test_a_search_is_shared(cluster: LocalCluster) -> None:
    """Whoever needs the master at the same time waits for one search, which asks each node once."""
    client = client_of(cluster)
    await asyncio.gather(*(client.exists(f"{number}") for number in range(20)))
    await client.close()

    assert cluster.nodes[2].requests["who_master"] == 2  # One is the greeting of the connection.


async def test_wrong_names_do_no_harm(cluster: LocalCluster) -> None:
    """Names that the cluster does not use are told apart from what it says."""
    hosts = [cluster.address(node.name) for node in cluster.nodes]
    async with ArakoonClient(hosts, cluster.cluster_id, ["x", "y", "z"]) as client:
        await client.set("a", "1")
        cluster.move_master()
        assert await client.get("a") == b"1"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
async def test_a_master_that_hangs_is_left(cluster: LocalCluster, named: bool, writes: bool) -> None:
    """A call to it ends in time, and the next one finds the new master: who hangs does not hold up the search."""
    async with Proxy("127.0.0.1", cluster.port("node_0")) as proxy:
        hosts = [f"127.0.0.1:{proxy.port}", cluster.address("node_1"), cluster.address("node_2")]
        names = ["node_0", "node_1", "node_2"] if named else None
        async with ArakoonClient(hosts, cluster.cluster_id, names, timeout=0.3) as client:
            await client.set("a", "1")
            proxy.stall()
            cluster.move_master()
            with pytest.raises(kv.OutcomeUnknown if writes else kv.TimedOut):
                await (client.set("a", "2") if writes else client.get("a"))

            await client.set("a", "3")

            assert await client.get("a") == b"3"
            assert client.master == cluster.address("node_1")


async def test_no_master_for_a_moment(cluster: LocalCluster, client: ArakoonClient) -> None:
    """Calls wait for one, and nothing is done twice."""
    cluster.depose()
    waiting = [asyncio.create_task(client.set(f"{number}", "1")) for number in range(5)]
    await condition(lambda: any(node.requests["who_master"] > 3 for node in cluster.nodes))
    cluster.elect("node_2")

    await asyncio.gather(*waiting)

    assert cluster.contents().stamp == 5


async def test_no_master_in_time(cluster: LocalCluster) -> None:
    """An error that says so, when time is over; reads that may be dirty go on."""
    async with client_of(cluster, timeout=0.3) as client:
        await client.set("a", "1")
        cluster.depose()
        with pytest.raises(kv.Unavailable):
            await client.set("a", "2")
        assert await client.get("a", allow_dirty=True) == b"1"
        assert await client.who_master() is None


async def test_one_node(client: ArakoonClient, cluster: LocalCluster) -> None:
    """The same commands on one node; what it refuses is told, and it is not left for another one."""
    slave = client.node(cluster.address("node_1"))
    await client.set("a", "1")

    assert await slave.get("a", allow_dirty=True) == b"1"
    assert await slave.get("a", consistency=NO_GUARANTEES) == b"1"
    assert await slave.get_current_state() == "Slave_steady_state"
    assert await slave.who_master() == "node_0"
    assert slave.name == "node_1"
    for refused in (slave.get("a"), slave.set("a", "2"), slave.sequence([])):
        with pytest.raises(kv.Unavailable):
            await refused
    assert await client.get("a", consistency=CONSISTENT) == b"1"
    with pytest.raises(kv.ValidationError):
        client.node("nobody:1")


async def test_stale_reads(client: ArakoonClient, cluster: LocalCluster) -> None:
    """What a slave lacks is seen with a stamp, and not seen without."""
    await client.set("a", "1")
    cluster.lag("node_1")
    await client.set("a", "2")
    stamp = await client.get_tx_id()
    slave = client.node("node_1")

    assert await slave.get("a", allow_dirty=True) == b"1"
    with pytest.raises(kv.Unavailable):
        await slave.get("a", consistency=stamp)
    assert await client.get("a", consistency=stamp) == b"2"
    cluster.lag("node_1", False)
    assert await slave.get("a", consistency=stamp) == b"2"
    with pytest.raises(kv.Unavailable):
        await client.get("a", consistency=AtLeast(1 << 40))


async def test_dirty_reads_need_one_node(client: ArakoonClient, cluster: LocalCluster) -> None:
    """Any that lives."""
    await client.set("a", "1")
    cluster.kill("node_0")
    cluster.kill("node_1")

    assert await client.get("a", allow_dirty=True) == b"1"
    assert await client.multi_get_option(["a", "b"], allow_dirty=True) == [b"1", None]


# --- what must not be repeated ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("applies", [False, True])
@pytest.mark.parametrize("answer", [Answer.CLOSE, Answer.NO_LONGER_MASTER, Answer.UNKNOWN_FAILURE, Answer.KILL])
async def test_a_write_is_never_repeated_blindly(
    client: ArakoonClient, cluster: LocalCluster, answer: Answer, applies: bool
) -> None:
    """Its answer lost or ambiguous, it is ``OutcomeUnknown`` and was sent once."""
    await client.set("n", "0")
    cluster.nodes[0].mishaps.append(Mishap(answer, applies))

    with pytest.raises(kv.OutcomeUnknown):
        await client.test_and_set("n", "0", "1")

    assert await client.get("n") == (b"1" if applies else b"0")
    assert sum(node.requests["test_and_set"] for node in cluster.nodes) == 1


async def test_a_write_without_an_answer_ends_in_time(cluster: LocalCluster) -> None:
    """And so do the calls behind it."""
    async with client_of(cluster, timeout=0.2) as client:
        cluster.nodes[0].mishaps.append(Mishap(Answer.NEVER, True))
        with pytest.raises(kv.OutcomeUnknown):
            await client.set("a", "1")
        assert await client.get("a") == b"1"


async def test_a_cancelled_call_leaves_no_reply_behind(client: ArakoonClient, cluster: LocalCluster) -> None:
    """Whenever it is cancelled, the next one gets its own answer; of a write nobody knows."""
    for key in "ab":
        await client.set(key, key)
    for turns in range(6):
        read = asyncio.create_task(client.get("a"))
        write = asyncio.create_task(client.set("c", "1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        read.cancel()
        write.cancel()
        read_result, write_result = await asyncio.gather(read, write, return_exceptions=True)
        assert read_result == b"a" or isinstance(read_result, asyncio.CancelledError)
        assert write_result is None or isinstance(write_result, asyncio.CancelledError | kv.OutcomeUnknown)
        assert await client.get("b") == b"b"


async def test_writes_behind_a_lost_majority(cluster: LocalCluster) -> None:
    """No answer until it is back: the client does not wait for ever, and says that it does not know."""
    async with client_of(cluster, timeout=0.3) as client:
        await client.set("a", "1")
        cluster.kill("node_1")
        cluster.kill("node_2")
        with pytest.raises(kv.OutcomeUnknown):
            await client.set("a", "2")
        await cluster.restart("node_1")
        assert await client.get("a") == b"2"


# --- connections ------------------------------------------------------------------------------------------------------


async def test_connections_are_shared_and_bounded(cluster: LocalCluster) -> None:
    """A hundred tasks need no more than the pool has, and one for a hundred calls in a row."""
    hosts = [cluster.address(node.name) for node in cluster.nodes]
    async with ArakoonClient(hosts, cluster.cluster_id, connections=4) as client:
        for number in range(100):
            await client.set(f"{number}", "1")
        assert cluster.connections == 3
        await asyncio.gather(*(client.get(f"{number}") for number in range(100)))
        assert cluster.connections == 6


async def test_waiting_for_a_connection_ends(cluster: LocalCluster) -> None:
    """In time, and surely unsent."""
    hosts = [cluster.address(node.name) for node in cluster.nodes]
    async with ArakoonClient(hosts, cluster.cluster_id, connections=1, timeout=60) as client:
        cluster.nodes[0].mishaps.append(Mishap(Answer.NEVER, False))
        first = asyncio.create_task(client.set("a", "1"))
        await condition(lambda: not cluster.nodes[0].mishaps)
        with pytest.raises(kv.TimedOut):
            await client.call(p.SET(b"b", b"1"), until=time.monotonic() + 0.05)
        first.cancel()
        with pytest.raises(kv.OutcomeUnknown):
            await first
    assert cluster.nodes[0].requests["set"] == 1


async def test_a_turn_is_passed_on(client: ArakoonClient, cluster: LocalCluster) -> None:
    """Who gives up in the very moment in which it is its turn leaves the connection to the next one in line."""
    hosts = [cluster.address(node.name) for node in cluster.nodes]
    async with ArakoonClient(hosts, cluster.cluster_id, connections=1) as narrow:
        node = narrow._cluster.nodes[0]
        until = time.monotonic() + 2
        taken = await node.acquire(until)
        second, third = asyncio.create_task(node.acquire(until)), asyncio.create_task(node.acquire(until))
        await condition(lambda: len(node._waiting) == 2)

        node.release(taken)
        second.cancel()

        assert await third is taken
        node.release(taken)


async def test_who_waits_learns_that_nobody_is_there(cluster: LocalCluster) -> None:
    """A connection that could not be made lets the next one in line try: it does not wait until its time is over."""
    async with client_of(cluster) as client:
        node = client._cluster.nodes[2]
        node._room = 1
        node.drop_idle()
        cluster.kill("node_2")
        until = time.monotonic() + 30
        ended = await asyncio.gather(*(node.acquire(until) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in ended] == [Unreachable] * 3


async def test_no_time_is_not_sent(client: ArakoonClient, cluster: LocalCluster) -> None:
    """A write whose time was over before it was sent was surely not done."""
    await client.set("a", "1")
    with pytest.raises(kv.TimedOut):
        await client.call(p.SET(b"a", b"2"), until=time.monotonic())
    assert cluster.nodes[0].requests["set"] == 1
    assert await client.get("a") == b"1"


async def test_closing_ends_what_waits(cluster: LocalCluster) -> None:
    """For a master, and for a connection that is being opened: at once, and no connection is left."""
    async with Proxy("127.0.0.1", cluster.port("node_0")) as proxy:
        client = ArakoonClient(f"127.0.0.1:{proxy.port}", cluster.cluster_id, ["node_0"], timeout=60)
        await client.open()
        cluster.depose()
        searching = asyncio.create_task(client.get("a"))
        await condition(lambda: cluster.nodes[0].requests["who_master"] > 3)
        await client.close()
        with pytest.raises(kv.Closed):
            await searching

        cluster.elect("node_0")
        client = ArakoonClient(f"127.0.0.1:{proxy.port}", cluster.cluster_id, ["node_0"], timeout=60)
        await client.open()
        before = proxy.connections
        proxy.stall()
        opening = [asyncio.create_task(client.set("a", "1")) for _ in range(2)]
        await condition(lambda: proxy.connections > before)
        await client.close()
        ended = await asyncio.gather(*opening, return_exceptions=True)
        assert {type(each) for each in ended} == {kv.OutcomeUnknown, kv.Closed}
        assert not client.connected


async def test_closing_ends_rounds_of_dirty_reads(cluster: LocalCluster) -> None:
    """They say that the client is closed, not that nobody answers."""
    client = client_of(cluster, timeout=60)
    await client.open()
    for node in cluster.nodes:
        cluster.kill(node.name)
    reading = asyncio.create_task(client.get("a", allow_dirty=True))
    await condition(lambda: not client.connected)
    await client.close()
    with pytest.raises(kv.Closed):
        await reading


@pytest.mark.parametrize("turns", range(8))
async def test_closing_ends_what_is_being_opened(cluster: LocalCluster, turns: int) -> None:
    """However far it is: no connection is left behind, and nobody is given one."""
    client = client_of(cluster)
    node = client._cluster.nodes[0]
    opening = asyncio.create_task(node.acquire(time.monotonic() + 5))
    for _ in range(turns):
        await asyncio.sleep(0)
    await client.close()

    (ended,) = await asyncio.gather(opening, return_exceptions=True)
    assert isinstance(ended, Unreachable) or (isinstance(ended, Connection) and not ended.is_open)
    assert not node.connected
    await condition(lambda: cluster.connections == 0)


async def test_single_bytes_and_broken_connections(cluster: LocalCluster) -> None:
    """Through a proxy that cuts everything into bytes, and then breaks all connections."""
    async with Proxy("127.0.0.1", cluster.port("node_0")) as proxy:
        proxy.single_bytes = True
        async with ArakoonClient(f"127.0.0.1:{proxy.port}", cluster.cluster_id) as client:
            await client.set("a", "1")
            assert await client.range_entries(None, True, None, True) == [(b"a", b"1")]
            proxy.cut()
            assert await client.get("a") == b"1"
            proxy.cut_after(3, Way.TO_CLIENT)
            assert await client.get("a") == b"1"


async def test_a_closed_client_is_closed(cluster: LocalCluster) -> None:
    """It says so, whatever it is asked; closing again is allowed."""
    client = client_of(cluster)
    await client.open()
    before = client.connected
    await client.close()
    await client.close()

    assert (before, client.connected) == (True, False)
    for call in (client.get("a"), client.set("a", "1"), client.who_master(), client.node("node_1").get("a", True)):
        with pytest.raises(kv.Closed):
            await call


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("localhost", [Address("localhost", 4000)]),
        ("a:1,b:2", [Address("a", 1), Address("b", 2)]),
        ("[::1]:5,[::2]", [Address("::1", 5), Address("::2", 4000)]),
    ],
)
def test_hosts(text: str, addresses: list[Address]) -> None:
    """With and without ports, IPv6 in brackets; written again they are the same."""
    assert parse_hosts(text) == addresses
    assert parse_hosts(",".join(map(str, addresses))) == addresses


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:0", "a:65536", "a,,b", "a:x"])
def test_hosts_that_are_none(text: str) -> None:
    """Refused when the client is made."""
    with pytest.raises(kv.ValidationError):
        ArakoonClient(text, "c")


def test_names_and_hosts_go_together() -> None:
    """As many of these as of those."""
    with pytest.raises(kv.ValidationError):
        ArakoonClient("a,b", "c", ["x"])
