"""Servers that are killed, hang and restart, connections that are cut in the middle of requests; a score is kept."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import pytest

import kvmodel as kv
from kvmodel.testing import Proxy, Way
from kvmodel.testing.histories import judge
from kvmodel.testing.ledger import Ledger
from kvmodel.testing.redis import RedisServer
from tests.drivers.redis.models import Team, User
from tests.drivers.rows import condition


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """Stands before an empty server."""
    server.command("FLUSHALL")
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
async def db(proxy: Proxy) -> AsyncIterator[kv.Database]:
    """A connection through the proxy."""
    async with kv.connect(f"redis://127.0.0.1:{proxy.port}", timeout=5) as db:
        await db.prepare(User, Team)
        yield db


# --- restarts ---------------------------------------------------------------------------------------------------------


async def test_a_server_is_killed_again_and_again(lasting: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """No acknowledged unit is lost, none is half there, and scripts are there again."""
    acknowledged: dict[str, list[int]] = {team: [] for team in ("red", "blue", "green")}
    unknown: dict[str, list[int]] = {team: [] for team in acknowledged}
    ended = False
    async with kv.connect(lasting.url, timeout=10) as db:

        async def work(team: str) -> None:
            number = 0
            while not ended:
                number += 1
                try:
                    async with db.unit_of_work() as uow:
                        uow.add(User(team, f"{number:05}"), User("all", f"{team} {number:05}"))
                except kv.OutcomeUnknown:
                    unknown[team].append(number)
                except (kv.Unavailable, kv.TimedOut):
                    await asyncio.sleep(0.005)
                else:
                    acknowledged[team].append(number)

        tasks = [asyncio.create_task(work(team)) for team in acknowledged]
        for _ in range(4):
            before = sum(map(len, acknowledged.values()))
            await condition(lambda before=before: sum(map(len, acknowledged.values())) >= before + 60)  # type: ignore[misc]
            lasting.kill()
            await asyncio.sleep(0)
            lasting.start()
        ended = True
        await asyncio.gather(*tasks)
        everything = {user.name for user in await User.objects.range("all")}
        for team, numbers in acknowledged.items():
            there = {int(user.name) for user in await User.objects.range(team)}
            assert set(numbers) <= there
            assert there <= {*numbers, *unknown[team]}
            assert {f"{team} {number:05}" for number in there} == {n for n in everything if n.startswith(team)}
    with capsys.disabled():
        count = sum(map(len, acknowledged.values()))
        print(f"\n[restarts] {count} units acknowledged, none lost, {sum(map(len, unknown.values()))} unknown")


def scripts_run(server: RedisServer) -> int:
    """How many scripts a server has run since it was started."""
    return int(server.command("INFO", "commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_a_history_survives_restarts(lasting: RedisServer) -> None:
    """Units that read and append while the server is killed could have happened one after the other."""
    async with kv.connect(lasting.url, timeout=10) as db:
        ledger = Ledger(db=db, tasks=4, units=25, seed=1)
        running = asyncio.create_task(ledger.run())
        for _ in range(3):
            done = scripts_run(lasting)
            await condition(lambda done=done: running.done() or scripts_run(lasting) >= done + 20)  # type: ignore[misc]
            lasting.restart()
        history = await running

        assert judge(history, await ledger.final()) == []


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_cuts_in_the_middle(proxy: Proxy, db: kv.Database, seed: int) -> None:
    """Whatever byte a connection breaks at: what was acknowledged is there, what was refused is not."""
    draw = random.Random(seed)
    acknowledged, unknown = set[int](), set[int]()

    async def work(first: int) -> None:
        for number in range(first, first + 25):
            try:
                async with db.unit_of_work() as uow:
                    uow.add(User("red", f"{number}"), Team(f"{number}"))
            except kv.OutcomeUnknown:
                unknown.add(number)
            except (kv.Unavailable, kv.TimedOut):
                continue
            else:
                acknowledged.add(number)
            if number % 5 == 0:
                proxy.cut_after(draw.randrange(1, 4000), draw.choice(list(Way)))
            try:
                user = await User.objects.find("red", f"{number}")
            except (kv.Unavailable, kv.TimedOut):
                continue
            assert user is None or user.name == f"{number}", "a reply went to another request"

    await asyncio.gather(*(work(first) for first in range(0, 100, 25)))

    users = {int(user.name) for user in await User.objects.range("red")}
    teams = {int(team.name) for team in await Team.objects.scan()}
    assert users == teams, "half a unit"
    assert acknowledged <= users <= acknowledged | unknown


async def test_a_lost_answer_is_looked_up(proxy: Proxy, db: kv.Database) -> None:
    """The record carries the write's stamp: it was done, and nobody needs to know more."""
    await User.objects.save(User("red", "ada", 1))
    proxy.cut_after(1, Way.TO_CLIENT)
    ada = await User.objects.save(User("red", "ada", 2))
    proxy.cut_after(1, Way.TO_CLIENT)
    ada.age = 3
    await User.objects.save(ada)
    proxy.cut_after(1, Way.TO_CLIENT)
    await User.objects.create(User("red", "bob"))

    assert (await User.objects.get("red", "ada")).age == 3


async def test_a_lost_request_is_sent_again_only_if_it_can_be_done_once(proxy: Proxy, db: kv.Database) -> None:
    """What names a version is; what does not is ``OutcomeUnknown``."""
    ada = await User.objects.create(User("red", "ada", 1))
    proxy.cut_after(60, Way.TO_SERVER)
    ada.age = 2
    await User.objects.save(ada)
    assert (await User.objects.get("red", "ada")).age == 2

    for write in (
        lambda: User.objects.create(User("red", "bob")),
        lambda: User.objects.save(User("red", "eve")),
        lambda: User.objects.delete("red", "ada"),
    ):
        proxy.cut_after(60, Way.TO_SERVER)
        with pytest.raises(kv.OutcomeUnknown):
            await write()
    assert [user.name for user in await User.objects.range("red")] == ["ada"]


async def test_a_lost_batch(proxy: Proxy, db: kv.Database) -> None:
    """Each record of it is looked up."""
    proxy.cut_after(1, Way.TO_CLIENT)
    assert await User.objects.save_many(User("red", f"{number}") for number in range(50)) == 50
    proxy.cut_after(500, Way.TO_SERVER)
    with pytest.raises(kv.BatchError) as caught:
        await User.objects.save_many(User("blue", f"{number}") for number in range(50))

    assert {outcome.status for outcome in caught.value.outcomes} == {kv.Status.UNKNOWN}
    assert await User.objects.range("red").count() == 50


async def test_a_cancelled_command_leaves_nothing_behind(proxy: Proxy, db: kv.Database) -> None:
    """Its reply goes to nobody: those who come after get their own."""
    await User.objects.save_many(User("red", f"{number}", number) for number in range(50))
    for number in range(50):
        proxy.stall(Way.TO_CLIENT)
        task = asyncio.create_task(User.objects.get("red", f"{number}"))
        sent = proxy.passed[Way.TO_SERVER]
        await condition(lambda sent=sent: proxy.passed[Way.TO_SERVER] > sent)  # type: ignore[misc]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proxy.resume()
        other = (number + 7) % 50
        assert (await User.objects.get("red", f"{other}")).age == other


async def test_a_cancelled_write_may_have_happened(proxy: Proxy, db: kv.Database) -> None:
    """It says so; one that waits for its turn was surely not sent, and is just cancelled."""
    proxy.stall(Way.TO_CLIENT)
    sent = proxy.passed[Way.TO_SERVER]
    task = asyncio.create_task(User.objects.save(User("red", "ada")))
    await condition(lambda sent=sent: proxy.passed[Way.TO_SERVER] > sent)  # type: ignore[misc]
    task.cancel()
    with pytest.raises(kv.OutcomeUnknown):
        await task
    proxy.resume()
    await User.objects.save(User("red", "bob"))


async def test_one_cancelled_get_of_many(proxy: Proxy, db: kv.Database) -> None:
    """Those who travel together do not share that."""
    await User.objects.save_many(User("red", f"{number}", number) for number in range(50))
    tasks = [asyncio.create_task(User.objects.get("red", f"{number}")) for number in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[7].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(each, asyncio.CancelledError) for each in found] == [n in (0, 7) for n in range(50)]
    assert all(each.age == number for number, each in enumerate(found) if isinstance(each, User))


@pytest.mark.parametrize("single", [False, True])
async def test_garbage(proxy: Proxy, db: kv.Database, single: bool) -> None:
    """Damaged replies are errors of kvmodel; whole ones in the smallest pieces are understood."""
    await User.objects.save(User("red", "ada", 1))
    if single:
        proxy.single_bytes = True
        assert (await User.objects.get("red", "ada")).age == 1
        return
    proxy.corrupt(0.3)
    for _ in range(20):
        with kv.timeout(0.5), contextlib.suppress(kv.StoreError, kv.DecodingError):
            await User.objects.find("red", "ada")
    proxy.corrupt(0)
    assert (await User.objects.get("red", "ada")).age == 1


# --- pauses -----------------------------------------------------------------------------------------------------------


async def test_a_server_that_hangs(program: None) -> None:
    """No request without an end: reads are ``TimedOut``, writes ``OutcomeUnknown``; afterwards all is as before."""
    with RedisServer() as server:
        async with kv.connect(server.url, timeout=0.3):
            await User.objects.save(User("red", "ada", 1))
            server.pause()
            began = time.monotonic()
            with pytest.raises(kv.OutcomeUnknown):
                await User.objects.save(User("red", "bob"))
            with pytest.raises(kv.TimedOut):
                await User.objects.get("red", "ada")
            with pytest.raises(kv.TimedOut):
                await asyncio.gather(*(User.objects.get("red", f"{number}") for number in range(50)))
            assert time.monotonic() - began < 5
            server.resume()
            with kv.timeout(10):
                assert (await User.objects.get("red", "ada")).age == 1


async def test_no_connection_to_be_had(server: RedisServer) -> None:
    """Who finds all connections busy waits no longer than he wants to, and nothing was sent for him."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}?max_connections=1"
        async with kv.connect(url, timeout=5, namespace="busy") as db:
            await db.prepare(User)
            proxy.stall(Way.TO_CLIENT)
            sent = proxy.passed[Way.TO_SERVER]
            first = asyncio.create_task(User.objects.save(User("red", "ada")))
            await condition(lambda sent=sent: proxy.passed[Way.TO_SERVER] > sent)  # type: ignore[misc]
            with kv.timeout(0.1), pytest.raises(kv.TimedOut):
                await User.objects.save(User("red", "bob"))
            proxy.resume()
            await first

            assert not await User.objects.exists("red", "bob")


async def test_a_server_that_is_gone(program: None) -> None:
    """``Unavailable``, soon; when it is back the same connection works again."""
    with RedisServer(persistent=True) as server:
        async with kv.connect(server.url) as db:
            await User.objects.save(User("red", "ada"))
            server.stop()
            began = time.monotonic()
            with pytest.raises(kv.Unavailable):
                await User.objects.get("red", "ada")
            with pytest.raises(kv.Unavailable):
                await User.objects.save(User("red", "bob"))
            assert time.monotonic() - began < 3
            server.start()

            assert await User.objects.exists("red", "ada")
            assert await db.check() == []


async def test_memory_runs_out(program: None) -> None:
    """A full server refuses the whole unit, and says so."""
    with RedisServer(options={"maxmemory": "3mb"}) as server:
        async with kv.connect(server.url) as db:
            for number in range(1000):
                try:
                    async with db.unit_of_work() as uow:
                        uow.add(*(User("red", f"{number} {part} {'x' * 2000}") for part in range(20)))
                except kv.StoreError as error:
                    refused = str(error)
                    break
            else:
                pytest.fail("it never ran out")
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert "memory" in refused

            assert await User.objects.range("red").count() == 20 * number


async def test_too_few_replicas(program: None) -> None:
    """A server that wants replicas and has none refuses writes, and answers reads."""
    with RedisServer() as server:
        async with kv.connect(server.url):
            await User.objects.save(User("red", "ada"))
            server.command("CONFIG", "SET", "min-replicas-to-write", "1")
            with kv.timeout(0.5), pytest.raises(kv.Unavailable, match="replicas"):
                await User.objects.save(User("red", "bob"))
            assert [user.name for user in await User.objects.range("red")] == ["ada"]
