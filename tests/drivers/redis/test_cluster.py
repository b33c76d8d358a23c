"""A cluster: partitions stay together, slots move while a program runs, masters die under load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from datetime import timedelta

import attrs
import pytest

import kvmodel as kv
from kvmodel.drivers.redis import slot_of
from kvmodel.testing import VirtualClock
from kvmodel.testing.redis import RedisCluster, RedisServer
from tests.drivers.redis.models import Raw, Team, User
from tests.drivers.rows import condition


class Pass(kv.Model, table="passes", expires_in=timedelta(hours=1)):
    """Has a deadline, and a partition of its own."""

    name: str = kv.partition_key()


RED = slot_of(b"kv:{\x02red\x00}users")


async def test_a_unit_reaches_its_partition(cluster_db: kv.Database) -> None:
    """All tables of it; what needs more is refused before anything is sent."""
    async with cluster_db.unit_of_work() as uow:
        uow.add(User("red", "ada"), Team("red"))
    with pytest.raises(kv.Unsupported, match="one partition"):
        async with cluster_db.unit_of_work() as uow:
            with kv.budget(round_trips=0):
                uow.add(User("red", "bob"), User("blue", "eve"))
                await uow.commit()

    assert await User.objects.scan().count() == 1
    assert await Team.objects.exists("red")


async def test_plain_records_share_a_unit_if_they_share_a_hash_tag(cluster_db: kv.Database) -> None:
    """Other programs' keys have the tags that these gave them."""
    async with cluster_db.unit_of_work() as uow:
        uow.add(Raw("{a}1", "x"), Raw("{a}2", "y"))
    with pytest.raises(kv.Unsupported):
        async with cluster_db.unit_of_work() as uow:
            uow.add(Raw("b", "x"), Raw("c", "y"))
            await uow.commit()
    await Raw.objects.save_many(Raw(f"{number}", "z") for number in range(100))

    assert len(await Raw.objects.scan()) == 102


async def test_a_moved_slot_is_followed(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """MOVED costs one more round trip, once."""
    await User.objects.save(User("red", "ada", 1))
    target = _another(cluster, cluster.master_of(RED))
    cluster.move_slot(RED, target)

    with kv.budget(round_trips=2):
        assert (await User.objects.get("red", "ada")).age == 1
    with kv.budget(round_trips=1):
        await User.objects.save(User("red", "ada", 2))
    assert await User.objects.range("red").count() == 1


async def test_a_slot_on_the_move(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """While its keys go one by one: what is there is read and changed on either side, and nothing seems absent."""
    await User.objects.save_many(User("red", f"{number:02}", number) for number in range(30))
    source = cluster.master_of(RED)
    target = _another(cluster, source)
    cluster.begin_move(RED, target)
    objects = User.objects
    moved = 0
    while moved < 20:
        moved += cluster.move_some_keys(RED, source, target, 5)
        found = await objects.get_many([("red", f"{number:02}") for number in range(30)])
        assert [user and user.age for user in found] == list(range(30))
        # A range needs all of its records in one place: it waits for that, and never leaves some out.
        with kv.timeout(0.1):
            with contextlib.suppress(kv.TimedOut, kv.Unavailable):
                assert len(await objects.range("red")) == 30
            with contextlib.suppress(kv.TimedOut, kv.Unavailable, kv.AlreadyExists):
                await objects.create(User("red", "00"))
    waiting = asyncio.create_task(objects.range("red").count())
    creating = asyncio.create_task(objects.create(User("red", "new")))
    await asyncio.sleep(0)
    while cluster.move_some_keys(RED, source, target):
        pass
    # All of it is there, but the slot is not handed over yet: ASK leads there.
    await objects.update("red", "07", age=700)
    assert (await objects.get("red", "07")).age == 700
    cluster.end_move(RED, source, target)

    assert await waiting in (30, 31)
    await creating
    assert await objects.range("red").count() == 31
    assert len(await objects.scan()) == 31


async def test_an_index_that_goes_ahead(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """Where the index is already, but not its records, they never look absent: not to ranges, counts, nor commits."""
    await User.objects.save_many(User("red", f"{number:02}") for number in range(10))
    source = cluster.master_of(RED)
    target = _another(cluster, source)
    cluster.begin_move(RED, target)
    index = b"kv:{\x02red\x00}users"
    source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", index)

    async def commit() -> None:
        async with cluster_db.unit_of_work() as uow:
            await User.objects.range("red", first="x")
            uow.add(User("red", "zoe"))

    for use in (
        User.objects.range("red"),
        User.objects.range("red", prefix="03"),
        User.objects.range("red").count(),
        commit(),
    ):
        with kv.timeout(0.1), pytest.raises((kv.TimedOut, kv.Unavailable)):
            await use
    assert (await User.objects.get("red", "07")).name == "07"
    while cluster.move_some_keys(RED, source, target):
        pass
    cluster.end_move(RED, source, target)

    assert len(await User.objects.range("red")) == 10
    await commit()


async def test_all_that_is_purged_is_counted(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """Many slots are swept at once: what each of them removed counts, also behind the one that had enough."""
    clock = VirtualClock()
    async with kv.connect(cluster.url, timeout=15, clock=clock, namespace="purge") as db:
        await Pass.objects.using(db).save_many(Pass(f"{number}") for number in range(8000))
        clock.advance(7200)

        assert await db.purge_expired(Pass) == 8000


async def test_nothing_is_tidied_up_where_a_slot_is_moving_to(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """Records that have not come yet seem to be gone there: they stay listed, though writes look for such leftovers."""
    slot, names = _sharing_a_slot(3)
    for name in names:
        await Team.objects.create(Team(name), expires_in=timedelta(hours=1))
    source = cluster.master_of(slot)
    target = _another(cluster, source)
    cluster.begin_move(slot, target)
    ahead = [key for key in source.command("CLUSTER", "GETKEYSINSLOT", slot, 10) if b"partitions" in key]
    first = b"kv:{\x02%b\x00}teams:" % names[0].encode()
    source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *ahead, first)

    await Team.objects.save(Team(names[0], 5), expires_in=timedelta(hours=1))

    while cluster.move_some_keys(slot, source, target):
        pass
    cluster.end_move(slot, source, target)
    assert {team.name: team.size for team in await Team.objects.scan()} == {
        name: 5 * (name == names[0]) for name in names
    }


async def test_a_slot_moves_to_a_server_that_lacks_the_scripts(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """A write sent on with ASK brings the script's text along, and does not go back and forth until time runs out."""
    await User.objects.save(User("red", "ada", 1))
    source = cluster.master_of(RED)
    target = _another(cluster, source)
    cluster.begin_move(RED, target)
    while cluster.move_some_keys(RED, source, target):
        pass
    target.command("SCRIPT", "FLUSH")

    with kv.budget(round_trips=5):
        await User.objects.save(User("red", "ada", 2))

    cluster.end_move(RED, source, target)
    assert (await User.objects.get("red", "ada")).age == 2


async def test_slots_move_while_a_program_runs(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """Nothing fails, nothing is lost, nothing is done twice."""
    teams = [f"team {number}" for number in range(12)]
    for team in teams:
        await User.objects.save(User(team, "counter"))
    done = dict.fromkeys(teams, 0)
    ended = False

    async def work(team: str) -> None:
        while not ended:
            await User.objects.update(team, "counter", age=lambda age: age + 1)
            done[team] += 1
            async with cluster_db.unit_of_work() as uow:
                uow.add(User(team, f"{done[team]:04}"))
                (await User.objects.get(team, "counter")).age += 1

    tasks = [asyncio.create_task(work(team)) for team in teams]
    for number, team in enumerate(teams):
        slot = slot_of(b"kv:{\x02%b\x00}users" % team.encode())
        masters = cluster.masters()
        target = masters[number % len(masters)]
        if target is not cluster.master_of(slot):
            await asyncio.to_thread(cluster.move_slot, slot, target)
    ended = True
    await asyncio.gather(*tasks)

    for team in teams:
        assert (await User.objects.get(team, "counter")).age == 2 * done[team]
        assert await User.objects.range(team).count() == done[team] + 1
    assert min(done.values()) > 0


@attrs.define
class Score:
    """What one writer was told of its writes."""

    acknowledged: list[int] = attrs.field(factory=list)
    unknown: list[int] = attrs.field(factory=list)
    longest: float = 0.0


async def test_a_master_is_killed_under_load(
    cluster_db: kv.Database, cluster: RedisCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reads and writes go on after the failover; what is lost is counted, and no unit is half there."""
    for node in cluster.nodes:
        node.command("CONFIG", "SET", "min-replicas-to-write", "1")
        node.command("CONFIG", "SET", "min-replicas-max-lag", "1")
    teams = [f"team {number}" for number in range(6)]
    scores = {team: Score() for team in teams}
    ended = False

    async def work(team: str) -> None:
        score, number = scores[team], 0
        while not ended or number < 20:
            number += 1
            began = time.monotonic()
            try:
                async with cluster_db.unit_of_work() as uow:
                    uow.add(User(team, f"left {number:05}"), User(team, f"right {number:05}"))
            except kv.OutcomeUnknown:
                score.unknown.append(number)
            except (kv.Unavailable, kv.TimedOut, kv.Conflict):
                pass
            else:
                score.acknowledged.append(number)
            score.longest = max(score.longest, time.monotonic() - began)

    victim = cluster.master_of(slot_of(b"kv:{\x02team 0\x00}users"))
    tasks = [asyncio.create_task(work(team)) for team in teams]
    await condition(lambda: min(len(score.acknowledged) for score in scores.values()) >= 10)
    victim.kill()
    before = {team: len(score.acknowledged) for team, score in scores.items()}
    await condition(lambda: cluster.master_of(slot_of(b"kv:{\x02team 0\x00}users")) is not victim)
    assert await cluster_db.namespace("read").check() is not None
    assert (await User.objects.get("team 0", "left 00001")).age == 0
    # With its only replica promoted, a shard takes writes again when the old master is back as its replica.
    victim.start()
    await condition(lambda: all(len(score.acknowledged) >= before[team] + 5 for team, score in scores.items()))
    ended = True
    await asyncio.gather(*tasks)
    cluster.wait_until_whole()
    for node in cluster.nodes:
        node.command("CONFIG", "SET", "min-replicas-to-write", "0")

    lost = written = 0
    for team, score in scores.items():
        names = {user.name for user in await User.objects.range(team)}
        for side, other in (("left", "right"), ("right", "left")):
            assert {name.replace(side, other) for name in names if name.startswith(side)} <= names, "half a unit"
        there = {int(name.split()[1]) for name in names}
        assert there <= {*score.acknowledged, *score.unknown}, "what was refused is there"
        lost += len(set(score.acknowledged) - there)
        written += len(score.acknowledged)
        assert score.longest < 25
    with capsys.disabled():
        print(f"\n[failover] {written} units acknowledged, {lost} of them lost, by asynchronous replication")
    # At most what a master may acknowledge before it notices, a second's worth, that its replica is gone.
    assert lost <= 6 * 60


async def test_a_paused_master(cluster_db: kv.Database, cluster: RedisCluster) -> None:
    """One that hangs is taken over from: a read is answered by who does, and a write ends in time and says so."""
    await User.objects.save(User("red", "ada", 1))
    victim = cluster.master_of(RED)
    end = time.monotonic() + 5
    while not victim.command("ROLE")[2] or victim.command("WAIT", 1, 1000) == 0:
        assert time.monotonic() < end
    victim.pause()
    try:
        with kv.timeout(0.3), pytest.raises((kv.OutcomeUnknown, kv.TimedOut)):
            await User.objects.update("red", "ada", age=2)
        assert (await User.objects.get("red", "ada")).age == 1
        await User.objects.update("red", "ada", age=3)
    finally:
        victim.resume()
    cluster.wait_until_whole()

    assert (await User.objects.get("red", "ada")).age == 3


async def test_addresses_can_be_remapped(cluster: RedisCluster) -> None:
    """What the nodes announce need not be what leads there from here."""
    cluster.wait_until_whole()
    asked: list[tuple[str, int]] = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return "localhost", address[1]

    async with kv.connect(cluster.url, address_remap=remap, namespace="remap") as db:
        await User.objects.using(db).save_many(User(f"{number}", "x") for number in range(50))
        assert await User.objects.using(db).scan().count() == 50
    assert {address[1] for address in asked} >= {node.port for node in cluster.masters()}


def _sharing_a_slot(count: int) -> tuple[int, list[str]]:
    """Answer a slot, and names of teams that share it."""
    found: dict[int, list[str]] = {}
    for number in itertools.count():
        name = f"{number}"
        slot = slot_of(b"kv:{\x02%b\x00}teams:" % name.encode())
        found.setdefault(slot, []).append(name)
        if len(found[slot]) == count:
            return slot, found[slot]
    raise AssertionError


def _another(cluster: RedisCluster, master: RedisServer) -> RedisServer:
    return next(node for node in cluster.masters() if node is not master)
