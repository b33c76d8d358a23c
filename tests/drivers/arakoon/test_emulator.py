"""The emulator answers what the real server was recorded to answer, in the order it was recorded."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.arakoon import ArakoonClient
from kvmodel.drivers.arakoon.protocol import WHO_MASTER, Code, Refusal, ReplyParser, encode_prologue
from kvmodel.testing.arakoon import LocalCluster
from kvmodel.testing.arakoon.store import View
from tests.drivers.arakoon.recorded import Line, call_of, is_same, lines, value
from tests.drivers.rows import condition


def echo(view: View, argument: bytes | None) -> bytes | None:
    """Answers its argument."""
    return argument


def nothing(view: View, argument: bytes | None) -> bytes | None:
    """Answers none."""
    return None


def put(view: View, argument: bytes | None) -> bytes | None:
    """Stores its argument."""
    view.put(b"uf:" + (argument or b""), argument)
    return argument


def failing(key: bytes, error: Exception) -> Callable[[View, bytes | None], bytes | None]:
    """Answers a function that stores something, and fails then."""

    def fail(view: View, argument: bytes | None) -> bytes | None:
        view.put(key, b"1")
        raise error

    return fail


FUNCTIONS = {
    "uf_echo": echo,
    "uf_none": nothing,
    "uf_put": put,
    "uf_fail": failing(b"uf:failed", RuntimeError("boom")),
    "uf_notfound": failing(b"uf:nf", Refusal(Code.NOT_FOUND, b"Not_found")),
    "uf_assert": failing(b"uf:as", Refusal(Code.ASSERTION_FAILED, b"uf says no")),
}

# What the real server words in its own language.
WORDS = {221, 248}
# It keeps the nodes of a nursery in a hash table.
UNORDERED = {325, 327}


class Wire:
    """A connection to the emulator, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes, size: int) -> bytes:
        """Send a request, and read as many bytes as were recorded."""
        self.writer.write(request)
        return await self.reader.readexactly(size)

    async def is_closed(self) -> bool:
        """Whether the server has nothing more to say."""
        return await self.reader.read(1) == b""


@asynccontextmanager
async def connect(cluster: LocalCluster, name: str) -> AsyncIterator[Wire]:
    """Connect to a node."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port(name))
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def recorded_cluster() -> AsyncIterator[LocalCluster]:
    """One node, as the recordings began with."""
    async with LocalCluster(1, "kvm_check") as cluster:
        for name, function in FUNCTIONS.items():
            cluster.define(name, function)
        yield cluster


async def replay(cluster: LocalCluster, session: str) -> int:
    """Send what was sent, and compare every answer that is not volatile; answer how many were compared."""
    compared = 0
    chosen = [line for line in lines() if line["session"] == session]
    for _, conversation in itertools.groupby(chosen, key=lambda line: line["conn"]):
        async with connect(cluster, "node_0") as wire:
            for line in conversation:
                compared += await exchange(wire, line)
    return compared


async def exchange(wire: Wire, line: Line) -> bool:
    """Send one request and compare the answer."""
    request = bytes.fromhex(line["request_hex"]) if "request_hex" in line else call_of(line).encode()
    if "response_hex" not in line:
        assert is_same(await wire.ask(request, line["response_len"]), line, "response")
        return True
    expected = bytes.fromhex(line["response_hex"])
    if line.get("volatile") or line["n"] in WORDS | UNORDERED:
        wire.writer.write(request)
        await compare_meaning(wire, line)
    else:
        assert await wire.ask(request, len(expected)) == expected, line["name"]
    if line["closed"]:
        assert await wire.is_closed(), line["name"]
    return bool(expected)


async def compare_meaning(wire: Wire, line: Line) -> None:
    """Compare the code, and what does not depend on a run."""
    parser: ReplyParser[Any] = ReplyParser(call_of(line).command.result)
    while not parser.feed(await wire.reader.read(1 << 16)):
        pass
    assert (parser.refusal.code if parser.refusal else 0) == line.get("error", {}).get("code", 0)
    if line["n"] in UNORDERED:
        assert parser.result is not None
        assert {cluster: len(nodes) for cluster, nodes in parser.result.clusters.items()} == {
            b"left": 1,
            b"mid": 2,
            b"right": 0,
        }


@pytest.mark.parametrize(("session", "least"), [("single", 220), ("nursery", 45)])
async def test_it_answers_as_recorded(recorded_cluster: LocalCluster, session: str, least: int) -> None:
    """Byte for byte, but for what differs from run to run; it closes where the server closed."""
    assert await replay(recorded_cluster, session) >= least


async def test_a_read_only_node(recorded_cluster: LocalCluster) -> None:
    """It refuses what the real one refused."""
    node = recorded_cluster.node("node_0")
    node.store.put(b"alpha2", b"1")
    node.store.put(b"v:1", b"1")
    node.is_read_only = True

    assert await replay(recorded_cluster, "readonly") == 14


async def test_a_full_node() -> None:
    """It says so before it is asked, and closes; when others have gone it serves again."""
    line = next(line for line in lines() if line["session"] == "maxconn")
    async with LocalCluster(1, "kvm_check", max_connections=1) as cluster:
        expected = bytes.fromhex(line["response_hex"])
        async with connect(cluster, "node_0"), connect(cluster, "node_0") as second:
            assert await second.reader.readexactly(len(expected)) == expected
            assert await second.is_closed()
        async with connect(cluster, "node_0") as third:
            assert await third.ask(encode_prologue(b"kvm_check") + WHO_MASTER().encode(), 4) == bytes(4)


SLAVE = [line for line in lines() if line["session"] == "cluster" and line["name"].startswith("slave: ")]


@pytest.mark.parametrize("line", SLAVE, ids=lambda line: f"{line['n']}-{line['op']}")
async def test_slaves_answer_as_recorded(line: Line) -> None:
    """What they refuse, what they answer themselves, and which connections they close."""
    async with LocalCluster(3, "kvm_check") as cluster:
        cluster.elect("node_2")
        for name, function in FUNCTIONS.items():
            cluster.define(name, function)
        for key, stored in ((b"a", b"1"), (b"b", b"2")):
            cluster.nodes[0].store.put(key, stored)
        cluster.nodes[0].store.stamp = 20
        async with connect(cluster, "node_0") as wire:
            wire.writer.write(encode_prologue(b"kvm_check"))
            await exchange(wire, line)


CLUSTER = {line["n"]: line for line in lines() if line["session"] == "cluster"}


async def test_a_cluster_that_loses_its_nodes() -> None:
    """What the others answer when the master was killed, when the majority is gone, and when it is back."""
    async with LocalCluster(3, "kvm_check", lease=3600) as cluster:
        cluster.elect("node_1")
        await ask(cluster, "node_1", 487)
        cluster.kill("node_1")
        for name, numbers in (("node_0", (489, 490, 494)), ("node_2", (491, 492, 496))):
            await ask(cluster, name, *numbers)
        cluster.elect("node_2")
        await ask(cluster, "node_0", 498)
        await ask(cluster, "node_2", 500, 501)
        await ask(cluster, "node_0", 502)
        cluster.kill("node_0")
        await ask(cluster, "node_2", 504, 505)
        async with connect(cluster, "node_2") as patient:
            late = CLUSTER[514]
            patient.writer.write(encode_prologue(b"kvm_check") + bytes.fromhex(late["request_hex"]))
            await condition(lambda: bool(cluster._held))
            cluster.depose()
            await ask(cluster, "node_2", 506, 507, 509, 510, 513)
            await cluster.restart("node_0")
            expected = bytes.fromhex(late["response_hex"])
            assert await patient.reader.readexactly(len(expected)) == expected
        await ask(cluster, "node_0", 515)


async def ask(cluster: LocalCluster, name: str, *numbers: int) -> None:
    """Have a node answer as recorded, each request on a connection of its own."""
    for number in numbers:
        async with connect(cluster, name) as wire:
            wire.writer.write(encode_prologue(b"kvm_check"))
            await exchange(wire, CLUSTER[number])


async def test_without_a_majority_the_lease_runs_out() -> None:
    """The master is none then; a node that comes back makes a majority, and there is a master again."""
    async with LocalCluster(3, lease=0.01) as cluster:
        cluster.kill("node_1")
        assert cluster.has_majority
        cluster.kill("node_2")
        await condition(lambda: cluster.master is None)
        await cluster.restart("node_2")
        assert cluster.master is cluster.node("node_2")


async def test_the_hole_can_be_closed() -> None:
    """Then a prefix that was deleted in a failed sequence is there again, and a sequence sees its own changes."""
    from kvmodel.drivers.arakoon import steps as s

    for has_hole in (True, False):
        async with LocalCluster(has_hole=has_hole) as cluster, ArakoonClient(*parts(cluster)) as client:
            await client.set("x:1", "1")
            with pytest.raises(kv.Conflict):
                await client.sequence([s.DeletePrefix("x:"), s.Assert("y", "1")], force=True)
            assert await client.exists("x:1") is not has_hole


def parts(cluster: LocalCluster) -> tuple[str, str]:
    """Hosts and id of a cluster."""
    return ",".join(cluster.address(node.name) for node in cluster.nodes), cluster.cluster_id


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_it_is_a_program(ending: signal.Signals) -> None:
    """It says when it is ready, where, and ends when it is told to."""
    command = [sys.executable, "-m", "kvmodel.testing.arakoon", "--nodes", "3", "--cluster", "mine", "--lease", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it takes no time
    try:
        assert process.stdout is not None
        word, _, url = (await asyncio.to_thread(process.stdout.readline)).strip().partition(" ")
        assert word == "ready"
        async with kv.connect(url) as db:
            client = db.native
            assert isinstance(client, ArakoonClient)
            await client.set("a", "1")
            first = client.master
            process.send_signal(signal.SIGUSR2)
            while client.master == first:  # The signal is on its way, and so is the next master.
                assert await client.get("a") == b"1"
        process.send_signal(ending)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.communicate()


def test_bytes_of_the_recordings_are_understood() -> None:
    """The helper of these tests reads the long forms too."""
    assert value({"len": 4, "sha256": "", "repeat_hex": "4142", "times": 2}) == b"ABAB"
