"""What goes wrong on the way: lost answers, cut connections, a master that goes in the middle of a sequence."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.arakoon import ArakoonDriver
from kvmodel.drivers.arakoon.protocol import Command
from kvmodel.drivers.arakoon.steps import Step
from kvmodel.drivers.base import ABSENT, ANYTHING, Delete, Expectation, Mutation, Status
from kvmodel.testing.arakoon import Answer, LocalCluster, Mishap
from kvmodel.testing.histories import judge
from kvmodel.testing.ledger import Ledger
from kvmodel.testing.proxy import Proxy, Way
from tests.drivers.arakoon.conftest import driver_of
from tests.drivers.rows import USERS, age, condition, put, version, write

AMBIGUOUS = [Answer.CLOSE, Answer.NO_LONGER_MASTER, Answer.UNKNOWN_FAILURE, Answer.KILL]

every_ambiguity = pytest.mark.parametrize("answer", AMBIGUOUS)


# --- lost answers -----------------------------------------------------------------------------------------------------


@every_ambiguity
@pytest.mark.parametrize("expect", [ANYTHING, ABSENT, None], ids=["anything", "absent", "version"])
async def test_a_write_that_was_done_is_found(
    driver: ArakoonDriver, cluster: LocalCluster, answer: Answer, expect: Expectation | None
) -> None:
    """By its stamp: its caller gets the version, and it was sent once."""
    if expect is None:
        await write(driver, put("a", 1), put("b", 1))
        expect = await version(driver, "a")
    before = sequences(cluster)
    cluster.nodes[0].mishaps.append(Mishap(answer, True))

    outcome, _ = await write(driver, put("a", 2, expect), put("b", 2))

    assert outcome.status is Status.WRITTEN
    assert outcome.version == await version(driver, "a")
    assert await age(driver, "a") == await age(driver, "b") == 2
    assert sequences(cluster) == before + 1


@every_ambiguity
async def test_a_guarded_write_that_was_not_done_is_sent_again(
    driver: ArakoonDriver, cluster: LocalCluster, answer: Answer
) -> None:
    """It relies on a version of what it changes, which is still there: it can be done only once."""
    await write(driver, put("a", 1))
    seen = await version(driver, "a")
    cluster.nodes[0].mishaps.append(Mishap(answer, False))

    (outcome,) = await write(driver, put("a", 2, seen))

    assert outcome.status is Status.WRITTEN
    assert await age(driver, "a") == 2


@every_ambiguity
@pytest.mark.parametrize("expect", [ANYTHING, ABSENT])
async def test_an_unguarded_write_that_was_not_found_is_unknown(
    driver: ArakoonDriver, cluster: LocalCluster, answer: Answer, expect: Expectation
) -> None:
    """It might be done later, over what somebody else writes meanwhile: it is not sent again."""
    await write(driver, put("x"))
    before = sequences(cluster)
    cluster.nodes[0].mishaps.append(Mishap(answer, False))

    with pytest.raises(kv.OutcomeUnknown):
        await write(driver, put("a", 2, expect))

    assert sequences(cluster) == before + 1


async def test_a_write_that_comes_late_is_done_once(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """The one that was sent again was done; the first one arrives after all, and fails."""
    await write(driver, put("a", 1))
    seen = await version(driver, "a")
    node = cluster.nodes[0]
    late = []
    original = node._carry_out

    def keep(command: object, step: object) -> bytes:
        late.append((command, step))
        return original(command, step)  # type: ignore[arg-type]

    node._carry_out = keep  # type: ignore[method-assign]
    node.mishaps.append(Mishap(Answer.CLOSE, False))
    await write(driver, put("a", 2, seen))
    await write(driver, put("a", 3))

    original(*late[0])  # type: ignore[arg-type]

    assert await age(driver, "a") == 3


async def test_a_write_that_comes_just_before_it_is_sent_again(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Then the second one is refused because of the first, which is one's own: it was done."""
    await write(driver, put("a", 1))
    seen = await version(driver, "a")
    node = cluster.nodes[0]
    kept: list[tuple[Command[Any], Step]] = []
    original = node._update

    def update(command: Command[Any], step: Step) -> object:
        if kept:
            node._carry_out(*kept.pop())
        else:
            kept.append((command, step))
        return original(command, step)

    node._update = update  # type: ignore[method-assign, assignment]
    node.mishaps.append(Mishap(Answer.CLOSE, False))

    (outcome,) = await write(driver, put("a", 2, seen))

    assert outcome.status is Status.WRITTEN
    assert outcome.version == await version(driver, "a")
    assert await age(driver, "a") == 2


async def test_done_and_overwritten_is_unknown(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Somebody else's record is there: whether over ours or instead of it nobody knows."""
    await write(driver, put("a", 1))
    seen = await version(driver, "a")
    other = driver_of(cluster)
    await other.open()
    original = driver.fetch

    async def race(keys: object, end: float) -> object:
        driver.fetch = original  # type: ignore[method-assign]
        await write(other, put("a", 9))
        return await original(keys, end)  # type: ignore[arg-type]

    driver.fetch = race  # type: ignore[assignment, method-assign]
    cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, True))
    before = sequences(cluster)
    with pytest.raises(kv.OutcomeUnknown):
        await write(driver, put("a", 2, seen))
    assert sequences(cluster) == before + 2  # Its own, and the other one's.
    await other.close()


class Plain(kv.Model, table="plain", layout="plain"):
    """What other programs write too: content, and no stamp."""

    name: str = kv.clustering_key()
    text: str = kv.field(whole_value=True)


@pytest.mark.parametrize("applies", [False, True])
async def test_content_does_not_tell_whose_it_is(cluster: LocalCluster, applies: bool) -> None:
    """It may be what it was, or what was written, because somebody else wrote it: unknown, and sent once."""
    async with kv.connect(cluster.url) as db:
        objects = Plain.objects.using(db)
        await objects.save(Plain("a", "1"))
        plain = await objects.get("a")
        plain.text = "2"
        before = sequences(cluster)
        cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, applies))
        with pytest.raises(kv.OutcomeUnknown):
            await objects.save(plain)
    assert sequences(cluster) == before + 1


async def test_a_deletion_whose_answer_was_lost(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """It carries no stamp: done, it is unknown; not done, it is sent again."""
    for applies in (False, True):
        await write(driver, put("a", 1))
        seen = await version(driver, "a")
        cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, applies))
        if applies:
            with pytest.raises(kv.OutcomeUnknown):
                await write(driver, Delete(USERS, ("red", "a"), seen))
        else:
            await write(driver, Delete(USERS, ("red", "a"), seen))
        assert await age(driver, "a") is None


async def test_the_first_write_of_all(cluster: LocalCluster) -> None:
    """With its marker and catalogue: found as any other, and described only once."""
    driver = driver_of(cluster)
    await driver.open()
    cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, True))
    await write(driver, put("a", 1))
    await write(driver, put("b", 1))
    assert await age(driver, "a") == 1
    await driver.close()


async def test_batches_are_looked_up_too(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """A lost answer to one request of a batch: found, or all of it unknown."""
    await write(driver, put("x"))
    cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, True))
    outcomes = await write(driver, put("a"), put("b"), atomic=False)
    assert [outcome.status for outcome in outcomes] == [Status.WRITTEN] * 2

    cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, False))
    with pytest.raises(kv.OutcomeUnknown):
        await write(driver, put("c"), put("d"), atomic=False)

    puts: list[Mutation] = [put(f"{number:04}") for number in range(600)]
    cluster.nodes[0].mishaps.extend([Mishap(Answer.UNKNOWN_FAILURE, True), Mishap(Answer.CLOSE, False)])
    outcomes = await write(driver, *puts, atomic=False)
    statuses = [outcome.status for outcome in outcomes]
    assert statuses == [Status.WRITTEN] * 256 + [Status.UNKNOWN] * 256 + [Status.UNSENT] * 88


async def test_looking_up_keeps_the_budget(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """A budget that forbids to look up leaves an unknown outcome, not the word that nothing was done."""
    await write(driver, put("x"))
    cluster.nodes[0].mishaps.append(Mishap(Answer.CLOSE, True))

    with pytest.raises(kv.OutcomeUnknown), kv.budget(round_trips=1):
        await write(driver, put("a"))


async def test_a_cancelled_write_is_unknown(driver: ArakoonDriver, cluster: LocalCluster) -> None:
    """Once it was sent; the connection is not used again."""
    await write(driver, put("x"))
    cluster.nodes[0].mishaps.append(Mishap(Answer.NEVER, True))
    task = asyncio.create_task(write(driver, put("a", 1)))
    await condition(lambda: not cluster.nodes[0].mishaps)
    task.cancel()

    with pytest.raises(kv.OutcomeUnknown):
        await task
    assert await age(driver, "a") == 1


def sequences(cluster: LocalCluster) -> int:
    """How many sequences all nodes were sent."""
    return sum(node.requests["sequence"] for node in cluster.nodes)


# --- cut connections --------------------------------------------------------------------------------------------------


class Pair(kv.Model, table="pairs"):
    """Two of these always change together."""

    name: str = kv.clustering_key()
    number: int = 0


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[LocalCluster, Proxy, str]]:
    """A cluster of one node, behind a proxy."""
    async with LocalCluster(1) as cluster, Proxy("127.0.0.1", cluster.port("node_0")) as proxy:
        yield cluster, proxy, f"arakoon://127.0.0.1:{proxy.port}/?cluster={cluster.cluster_id}"


@pytest.mark.parametrize("way", list(Way))
async def test_a_commit_that_is_cut_anywhere(way: Way) -> None:
    """At every few bytes, there and back: both records or none, and what was acknowledged is there."""
    acknowledged = unknown = 0
    async with proxied() as (_, proxy, url), kv.connect(url, timeout=5) as db:
        await Pair.objects.save_many([Pair("a"), Pair("b")])
        for cut in range(1, 420 if way is Way.TO_SERVER else 40, 9 if way is Way.TO_SERVER else 1):
            before = (await Pair.objects.get("a")).number
            uow = await db.unit_of_work().begin()
            one, two = [await Pair.objects.using(uow).get(name) for name in "ab"]
            one.number = two.number = before + 1
            proxy.cut_after(cut, way)
            try:
                await uow.commit()
            except kv.OutcomeUnknown:
                unknown += 1
            else:
                acknowledged += 1
                assert (await Pair.objects.get("a")).number == before + 1
            found = [pair.number for pair in await Pair.objects.range()]
            assert found[0] == found[1]
            proxy._cut_at.clear()

    # They rely on versions of what they change, so that nearly all can be found or sent again.
    assert acknowledged > unknown


@pytest.mark.parametrize("chance", [0.002, 0.02])
async def test_garbage_on_the_way(chance: float) -> None:
    """Bytes that are changed on the way to the client: errors of the tree, in time, and no wrong pairs."""
    async with proxied() as (_, proxy, url), kv.connect(url, timeout=0.25) as db:
        await Pair.objects.save_many([Pair("a"), Pair("b")])
        proxy.corrupt(chance)
        for number in range(1, 20):
            start = time.monotonic()
            try:
                async with db.unit_of_work():
                    for name in "ab":
                        (await Pair.objects.get(name)).number = number
                await Pair.objects.range()
            except kv.KvModelError:
                pass
            assert time.monotonic() - start < 2
        proxy.corrupt(0)
        proxy.cut()
        found = [pair.number for pair in await Pair.objects.range()]
        assert found[0] == found[1]


async def test_a_server_that_hangs() -> None:
    """Every operation ends in time; when the server goes on, so does the program."""
    async with proxied() as (_, proxy, url), kv.connect(url, timeout=0.2) as db:
        await Pair.objects.save(Pair("a"))
        proxy.stall()
        results = await asyncio.gather(
            Pair.objects.get("a"),
            Pair.objects.save(Pair("b")),
            Pair.objects.range(),
            Pair.objects.range().count(),
            Pair.objects.delete("a"),
            db.purge_expired(Pair),
            return_exceptions=True,
        )
        assert all(isinstance(result, kv.TimedOut | kv.OutcomeUnknown) for result in results), results
        proxy.resume()
        proxy.cut()
        with kv.timeout(5):
            assert (await Pair.objects.get("a")).number == 0


# --- the master goes --------------------------------------------------------------------------------------------------


class Mischief:
    """Takes the master away while others work, and spoils its answers."""

    def __init__(self, cluster: LocalCluster, seed: int) -> None:
        self.cluster = cluster
        self.draw = random.Random(seed)
        self.count = 0
        self.ends = False

    async def work(self) -> None:
        """Go on until told to end."""
        while not self.ends:
            await self.let_some_pass()
            down = [node for node in self.cluster.nodes if not node.is_up]
            if len(down) > 1:
                await self.cluster.restart(down[0].name)
            master = self.cluster.master
            if master is None:
                continue
            self.count += 1
            kind = self.draw.random()
            if kind < 0.5:
                master.mishaps.append(Mishap(self.draw.choice(AMBIGUOUS[:3]), self.draw.random() < 0.5))
            elif kind < 0.8:
                self.cluster.move_master()
            elif not down:
                master.mishaps.append(Mishap(Answer.KILL, self.draw.random() < 0.5))
            elif not down[0].is_up:
                await self.cluster.restart(down[0].name)

    async def let_some_pass(self) -> None:
        """Wait for some more requests, so that there is as much trouble as there is work."""
        nodes = self.cluster.nodes
        enough = sum(node.requests.total() for node in nodes) + self.draw.randint(2, 12)
        await condition(lambda: self.ends or sum(node.requests.total() for node in nodes) >= enough)


@pytest.mark.parametrize("seed", range(6))
async def test_no_half_sequence_and_no_lost_write(seed: int) -> None:
    """Whatever happens to the master: some order of one after the other explains all that was seen and acknowledged."""
    async with LocalCluster(3, lease=0.01) as cluster, kv.connect(cluster.url, timeout=10) as db:
        mischief = Mischief(cluster, seed)
        trouble = asyncio.create_task(mischief.work())
        ledger = Ledger(db=db, seed=seed, tasks=5, units=25)
        try:
            async with asyncio.timeout(25):
                history = await ledger.run()
        finally:
            mischief.ends = True
            await trouble
        for node in cluster.nodes:
            node.mishaps.clear()
            if not node.is_up:
                await cluster.restart(node.name)

        assert judge(history, await ledger.final()) == []
        assert sum(bool(each.committed) for each in history.transactions) >= 5
        assert mischief.count >= 3
        assert len({tuple(node.store.with_prefix(b"")) for node in cluster.nodes}) == 1
