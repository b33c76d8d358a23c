"""Nodes that are killed, paused and cut off: nothing that was acknowledged is lost, and no unit is half done."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import pytest

import kvmodel as kv
from kvmodel.drivers.etcd import EtcdClient
from kvmodel.testing.etcd import EtcdCluster, EtcdNode
from kvmodel.testing.histories import judge
from kvmodel.testing.ledger import Ledger, Line
from kvmodel.testing.proxy import Proxy

T = TypeVar("T")

pytestmark = pytest.mark.timeout(180)


class Pair(kv.Model, table="pairs"):
    """Two of these always change together."""

    name: str = kv.clustering_key()
    number: int = 0


@asynccontextmanager
async def connected(cluster: EtcdCluster, name: str, url: str = "") -> AsyncIterator[kv.Database]:
    """A connection to a namespace of its own."""
    async with kv.connect(url or cluster.url, namespace=f"{name}-{random.getrandbits(40):x}", timeout=10) as db:
        yield db


async def polled(answer: Callable[[], T | None]) -> T:
    """Ask until there is an answer."""
    async with asyncio.timeout(60):
        while True:
            found = answer()
            if found is not None:
                return found
            await asyncio.sleep(0.01)


async def until_true(holds: Callable[[], bool]) -> None:
    """Let other tasks work until a condition holds."""
    await polled(lambda: holds() or None)


async def leader_of(cluster: EtcdCluster) -> EtcdNode:
    """Wait until there is a leader that lives, and answer it."""
    async with asyncio.timeout(60):
        while True:
            leader = await asyncio.to_thread(cluster.leader)
            if leader is not None and leader.is_up and not leader.is_paused:
                return leader
            await asyncio.sleep(0.05)


async def restart(cluster: EtcdCluster, node: EtcdNode) -> None:
    """Start a node that was killed."""
    await asyncio.to_thread(cluster.restart, node)


# --- trouble while a ledger is kept -----------------------------------------------------------------------------------


async def kill_leaders(cluster: EtcdCluster, ends: asyncio.Event) -> int:
    """Kill the leader, start it again, and so on."""
    count = 0
    while not ends.is_set():
        leader = await leader_of(cluster)
        leader.kill()
        count += 1
        await leader_of(cluster)
        await restart(cluster, leader)
        await progress(cluster, ends)
    return count


async def pause_leaders(cluster: EtcdCluster, ends: asyncio.Event) -> int:
    """Stop the leader until the others have another one, and let it go on as if nothing had happened."""
    count = 0
    while not ends.is_set():
        leader = await leader_of(cluster)
        leader.pause()
        count += 1
        try:
            await leader_of(cluster)
        finally:
            leader.resume()
        await progress(cluster, ends)
    return count


async def progress(cluster: EtcdCluster, ends: asyncio.Event) -> None:
    """Let the others get something done."""
    async with EtcdClient([node.address for node in cluster.nodes], timeout=30) as client:
        goal = await revision(client) + 15
        while not ends.is_set():
            if await revision(client) >= goal:
                return
            await asyncio.sleep(0.02)


async def revision(client: EtcdClient) -> int:
    """The store's revision."""
    header = (await client.range("a", count_only=True)).header
    assert header is not None
    return header.revision


@pytest.mark.parametrize("trouble", [kill_leaders, pause_leaders])
async def test_no_half_unit_and_no_lost_write(
    three: EtcdCluster, trouble: Callable[[EtcdCluster, asyncio.Event], Coroutine[None, None, int]]
) -> None:
    """Some order of one after the other explains all that was seen and acknowledged, and all nodes hold the same."""
    ends = asyncio.Event()
    async with connected(three, "ledger") as db:
        await db.prepare(Line)
        mischief = asyncio.ensure_future(trouble(three, ends))
        ledger = Ledger(db=db, seed=7, tasks=4, units=25)
        try:
            async with asyncio.timeout(150):
                history = await ledger.run()
        finally:
            ends.set()
            count = await mischief
        problems = judge(history, await ledger.final())

    committed = sum(bool(each.committed) for each in history.transactions)
    unknown = sum(each.committed is None for each in history.transactions)
    assert problems == []
    assert count >= 1
    assert committed > unknown
    assert committed >= 10
    await same_everywhere(three)


async def same_everywhere(cluster: EtcdCluster) -> None:
    """Every node holds the same at the same revision."""
    async with EtcdClient([node.address for node in cluster.nodes], timeout=30) as client:
        at = await revision(client)
        for node in cluster.nodes:  # A linearizable read through each of them: then it has caught up.
            async with EtcdClient(node.address) as one:
                await one.get("a")
        hashes = {(await client.hash_kv(at, node=node.address)).hash for node in cluster.nodes}
    assert len(hashes) == 1


async def test_acknowledged_single_writes_survive(three: EtcdCluster) -> None:
    """Counters in as many tasks, with the leader killed twice: each is what was acknowledged, or one unknown more."""
    async with connected(three, "counters") as db:
        objects = Pair.objects.using(db)
        known = dict.fromkeys("abcd", 0)
        unknown = dict.fromkeys("abcd", 0)
        ends = asyncio.Event()

        async def count(name: str) -> None:
            while not ends.is_set():
                try:
                    await objects.save(Pair(name, known[name] + unknown[name] + 1))
                except kv.OutcomeUnknown:
                    unknown[name] += 1
                    continue
                known[name] += unknown[name] + 1
                unknown[name] = 0

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(count(name)) for name in known]
            for _ in range(2):
                before = dict(known)
                leader = await leader_of(three)
                leader.kill()
                await until_true(lambda: all(known[name] > before[name] + 5 for name in known))  # noqa: B023
                await restart(three, leader)
            ends.set()
        assert all(task.done() for task in tasks)

        for name, number in known.items():
            assert number <= (await objects.get(name)).number <= number + unknown[name]


# --- single troubles --------------------------------------------------------------------------------------------------


async def test_a_paused_node_is_left(three: EtcdCluster) -> None:
    """Reads go to the next node within moments; guarded writes too; everything ends in time."""
    async with connected(three, "paused") as db:
        pair = await Pair.objects.using(db).create(Pair("a"))
        for node in three.nodes:
            node.pause()
            try:
                start = time.monotonic()
                found = await Pair.objects.using(db).get("a")
                assert found == pair
                pair.number += 1
                await Pair.objects.using(db).save(pair)
                assert time.monotonic() - start < 9
            finally:
                node.resume()


async def test_a_minority_acknowledges_nothing(three: EtcdCluster) -> None:
    """With two of three nodes gone, writes and reads fail within their time; with them back, all goes on."""
    async with connected(three, "minority") as db:
        await Pair.objects.using(db).create(Pair("a", 1))
        for node in three.nodes[1:]:
            node.kill()
        with kv.timeout(2):
            for call in (Pair.objects.using(db).get("a"), Pair.objects.using(db).save(Pair("a", 2))):
                start = time.monotonic()
                with pytest.raises((kv.TimedOut, kv.Unavailable, kv.OutcomeUnknown)):
                    await call
                assert time.monotonic() - start < 3.5
        await asyncio.gather(*(restart(three, node) for node in three.nodes[1:]))
        with kv.timeout(30):
            assert (await Pair.objects.using(db).get("a")).number in (1, 2)
            await Pair.objects.using(db).save(Pair("a", 3))


@asynccontextmanager
async def proxied(cluster: EtcdCluster) -> AsyncIterator[tuple[list[Proxy], str]]:
    """A proxy before each node."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy("127.0.0.1", node.port)) for node in cluster.nodes]
        yield proxies, "etcd://" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)


async def test_the_network_is_cut_again_and_again(three: EtcdCluster) -> None:
    """At random places, to random nodes: pairs stay pairs, and what was acknowledged is there."""
    draw = random.Random(3)
    async with proxied(three) as (proxies, url), connected(three, "cut", url) as db:
        objects = Pair.objects.using(db)
        await objects.save_many([Pair("a"), Pair("b")])
        acknowledged = unknown = 0
        for _ in range(60):
            uow = await db.unit_of_work().begin()
            one, two = [await Pair.objects.using(uow).get(name) for name in "ab"]
            one.number = two.number = one.number + 1
            wanted = one.number
            for proxy in proxies:
                proxy.cut_after(draw.randint(1, 500))
            try:
                await uow.commit()
                acknowledged += 1
                known = True
            except kv.OutcomeUnknown:
                unknown += 1
                known = False
            for proxy in proxies:
                proxy._cut_at.clear()
            found = [pair.number for pair in await objects.range()]
            assert found[0] == found[1]
            assert found[0] == wanted or (not known and found[0] == wanted - 1)
        assert acknowledged > unknown


async def test_a_node_that_is_cut_off_is_left(three: EtcdCluster) -> None:
    """Its connections hang, new ones are refused: the others are asked."""
    async with proxied(three) as (proxies, url), connected(three, "off", url) as db:
        objects = Pair.objects.using(db)
        await objects.create(Pair("a", 1))
        for proxy in proxies:
            proxy.refuse()
            proxy.stall()
            assert (await objects.get("a")).number >= 1
            proxy.accept()
            proxy.resume()


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_a_watch_outlives_its_nodes(three: EtcdCluster) -> None:
    """Nodes are killed and paused in turn while a counter is counted: each step is told once, in order."""
    async with connected(three, "watch") as db:
        objects = Pair.objects.using(db)
        ends = asyncio.Event()
        counter = await objects.create(Pair("a"))

        async def count() -> int:
            while not ends.is_set():
                counter.number += 1
                try:
                    await objects.save(counter)
                except (kv.OutcomeUnknown, kv.Conflict):
                    await objects.refresh(counter)
            return (await objects.get("a")).number

        async with objects.watch("a") as changes:
            seen: list[int] = []

            async def read(enough: Callable[[], bool]) -> None:
                async with asyncio.timeout(60):
                    while not enough():
                        change = await anext(changes)
                        assert change.new is not None
                        seen.append(change.new.number)

            counting = asyncio.create_task(count())
            await read(lambda: len(seen) > 10)
            for node in three.nodes:
                node.kill()
                await leader_of(three)
                goal = len(seen) + 10
                await read(lambda: len(seen) > goal)  # noqa: B023
                await restart(three, node)
            for node in three.nodes:
                node.pause()
                goal = len(seen) + 10
                await read(lambda: len(seen) > goal)  # noqa: B023
                node.resume()
            ends.set()
            last = await counting
            await read(lambda: seen[-1] == last)

    assert seen == list(range(1, last + 1))


async def test_a_watch_is_cut_again_and_again(three: EtcdCluster) -> None:
    """After random numbers of bytes, in the middle of units too: nothing is missing and nothing comes twice."""
    draw = random.Random(5)
    seen: list[tuple[str, int]] = []
    async with (
        proxied(three) as (proxies, url),
        connected(three, "watched", url) as db,
        kv.connect(three.url, namespace="/".join(db._namespace)) as writer,
        Pair.objects.using(db).watch() as changes,
    ):
        for number in range(60):
            for proxy in proxies:
                proxy.cut_after(draw.randint(1, 900))
            async with writer.unit_of_work() as uow:
                for name in "abc":
                    uow.put(Pair(name, number))
            async with asyncio.timeout(30):
                while len(seen) < 3 * (number + 1):
                    change = await anext(changes)
                    assert change.new is not None
                    seen.append((change.new.name, change.new.number))
            for proxy in proxies:
                proxy._cut_at.clear()
    assert seen == [(name, number) for number in range(60) for name in "abc"]
