"""Deadlines: exact for readers, and the server gives the space back, index and directory included."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

import kvmodel as kv
from kvmodel.testing import VirtualClock
from kvmodel.testing.redis import RedisServer
from kvmodel.testing.redis.server import wait_for
from tests.drivers.redis.models import Team, User

RED = b"kv:{\x02red\x00}users"


def _is_gone(server: RedisServer, *keys: bytes) -> Callable[[], bool]:
    return lambda: server.command("EXISTS", *keys) == 0


def _key(name: str) -> bytes:
    return RED + b":\x02" + name.encode() + b"\x00"


async def test_the_server_removes_what_expired(db: kv.Database, server: RedisServer) -> None:
    """Records, and the index that holds nothing else, go by themselves a second after the deadline."""
    await User.objects.save(User("red", "ada"), expires_in=timedelta(milliseconds=30))
    await Team.objects.save(Team("red"), expires_in=timedelta(milliseconds=30))
    assert 0 < server.command("PTTL", _key("ada")) <= 1030
    assert server.command("PTTL", _key("ada")) < server.command("PTTL", RED)

    assert wait_for(_is_gone(server, _key("ada"), RED, b"kv:{\x02red\x00}teams:"), 10)

    assert await User.objects.range("red") == []


async def test_readers_do_not_wait_for_the_server(db: kv.Database, server: RedisServer) -> None:
    """A record is gone at its deadline, though the server has it still."""
    await User.objects.save(User("red", "ada"), expires_in=timedelta(milliseconds=5))
    end = time.monotonic() + 5
    while await User.objects.exists("red", "ada"):
        assert time.monotonic() < end

    assert await User.objects.find("red", "ada") is None
    assert await User.objects.range("red") == []
    assert await User.objects.range("red").count() == 0


async def test_what_the_server_removed_shows_nowhere(db: kv.Database, server: RedisServer) -> None:
    """The index still names it: no list, count, page, scan or unit shows that, and reading tidies it up."""
    await User.objects.save_many(User("red", name) for name in ("ada", "bob", "eve"))
    server.command("DEL", _key("bob"))

    assert [user.name for user in await User.objects.range("red", limit=2)] == ["ada", "eve"]
    assert server.command("ZCARD", RED) == 2
    server.command("DEL", _key("ada"))
    assert await User.objects.range("red").count() == 1
    assert server.command("ZCARD", RED) == 1
    assert [user.name for user in await User.objects.range("red", reverse=True)] == ["eve"]
    server.command("DEL", _key("eve"))
    assert await User.objects.scan() == []
    assert server.command("EXISTS", RED, "kv:partitions:users") == 0


async def test_a_range_check_does_not_see_it_either(db: kv.Database, server: RedisServer) -> None:
    """A unit that read a range commits, although the index names more than there is."""
    await User.objects.save_many(User("red", name) for name in ("ada", "bob"))
    server.command("DEL", _key("bob"))

    async with db.unit_of_work() as uow:
        assert len(await User.objects.range("red")) == 1
        server.command("ZADD", RED, 0, b"\x02bob\x00")
        uow.add(User("red", "eve"))

    assert await User.objects.range("red").count() == 2


async def test_a_lasting_record_keeps_its_index(db: kv.Database, server: RedisServer) -> None:
    """The index lives as long as its longest-lived record, in whatever order they come."""
    await User.objects.save(User("red", "ada"), expires_in=timedelta(seconds=10))
    await User.objects.save(User("red", "bob"), expires_in=timedelta(seconds=100))
    assert 100_000 < server.command("PTTL", RED) <= 102_000
    await User.objects.save(User("red", "eve"), expires_in=timedelta(seconds=1))
    assert server.command("PTTL", RED) > 90_000
    await User.objects.save(User("red", "joe"))
    assert server.command("PTTL", RED) == -1
    await User.objects.save(User("red", "zoe"), expires_in=timedelta(seconds=1))
    assert server.command("PTTL", RED) == -1
    await User.objects.expire("red", "zoe", expires_at=None)
    assert server.command("PTTL", _key("zoe")) == -1


async def test_rubbish_does_not_pile_up(db: kv.Database, server: RedisServer) -> None:
    """Who writes a record with a deadline tidies up after a few that are gone: indexes and directories stay small."""
    lasting = timedelta(hours=1)
    for number in range(300):
        await User.objects.save(User("red", f"{number:03}"), expires_in=lasting)
        await Team.objects.save(Team(f"{number:03}"), expires_in=lasting)
        server.command("DEL", _key(f"{number:03}"), b"kv:{\x02%03d\x00}teams:" % number)

    assert server.command("ZCARD", RED) < 20
    assert server.command("ZCARD", "kv:partitions:teams") < 20


async def test_purging(server: RedisServer) -> None:
    """``purge_expired`` removes what is past its deadline by the program's clock, and what is left of others."""
    server.command("FLUSHALL")
    clock = VirtualClock()
    async with kv.connect(server.url, clock=clock) as db:
        for number in range(40):
            await User.objects.save(User(f"{number % 7}", f"{number}"), expires_in=timedelta(seconds=number + 1))
        await User.objects.save(User("0", "lasting"))
        server.command("DEL", b"kv:{\x026\x00}users:\x026\x00")
        clock.advance(20)

        assert await db.purge_expired(User) == 19
        assert await db.purge_expired(User) == 0
        clock.advance(100)
        assert await db.purge_expired(User) == 20
        assert await User.objects.scan() == [User("0", "lasting")]
    assert server.command("ZRANGE", "kv:partitions:users", 0, -1) == [b"\x020\x00"]


@pytest.mark.parametrize("wrong", [b"x", b"\x10" * 13, b"\xff" * 40])
async def test_damaged_records_are_kept(db: kv.Database, server: RedisServer, wrong: bytes) -> None:
    """What is no record is an error for its reader, a conflict for who relies on it, and never expired."""
    ada = await User.objects.create(User("red", "ada"))
    server.command("SET", _key("ada"), wrong)

    with pytest.raises(kv.DecodingError):
        await User.objects.get("red", "ada")
    with pytest.raises(kv.Conflict):
        await User.objects.save(ada)
    with pytest.raises(kv.AlreadyExists):
        await User.objects.create(User("red", "ada"))
    assert await db.purge_expired(User) == 0
    await User.objects.save(User("red", "ada", 7), force=True)
    assert (await User.objects.get("red", "ada")).age == 7


async def test_keys_of_another_type(db: kv.Database, server: RedisServer) -> None:
    """What another program put in a record's or an index's place is told of, and nothing is half done."""
    server.command("LPUSH", RED, "x")

    with pytest.raises(kv.DecodingError):
        await User.objects.create(User("red", "ada"))
    with pytest.raises(kv.DecodingError):
        await User.objects.range("red")
    assert server.command("EXISTS", _key("ada")) == 0
    server.command("DEL", RED)
    server.command("LPUSH", _key("ada"), "x")
    with pytest.raises(kv.DecodingError):
        await User.objects.find("red", "ada")
    with pytest.raises(kv.DecodingError):
        await User.objects.create(User("red", "ada"))
