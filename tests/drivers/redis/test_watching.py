"""Watching over publish and subscribe: honest as long as the connection lasts, and not a moment longer."""

from __future__ import annotations

import asyncio

import pytest

import kvmodel as kv
from kvmodel.testing import Proxy
from kvmodel.testing.redis import RedisServer
from tests.drivers.redis.models import Raw, Team, User


async def test_every_program_is_heard(server: RedisServer) -> None:
    """Writers need not know that somebody watches: the server tells them by a key that is there."""
    async with kv.connect(server.url, namespace="w") as writer, kv.connect(server.url, namespace="w") as reader:
        objects = User.objects.using(writer)
        await objects.save(User("red", "before"))
        async with User.objects.using(reader).watch("red") as watch:
            assert server.command("EXISTS", b"kv:watched:@w\x00users") == 1
            await objects.create(User("red", "ada", 1))
            await objects.create(User("blue", "eve"))
            await objects.update("red", "ada", age=2)
            async with writer.unit_of_work() as uow:
                uow.add(User("red", "bob"), Team("red"))
            await objects.delete("red", "ada")
            seen = []
            async for change in watch:
                seen.append((change.kind, change.key[1], change.new and change.new.age))
                if len(seen) == 4:
                    break

    assert seen == [
        (kv.ChangeKind.CREATED, "ada", 1),
        (kv.ChangeKind.CHANGED, "ada", 2),
        (kv.ChangeKind.CREATED, "bob", 0),
        (kv.ChangeKind.DELETED, "ada", None),
    ]


async def test_a_lost_connection_is_told(server: RedisServer) -> None:
    """What was published meanwhile is gone: ``WatchLost``, never a gap."""
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        kv.connect(f"redis://127.0.0.1:{proxy.port}", namespace="l") as db,
    ):
        with pytest.raises(kv.WatchLost):
            async with User.objects.using(db).watch("red") as watch:
                proxy.cut()
                async for _ in watch:
                    pytest.fail("nothing was written")


async def test_nobody_watches_a_cluster(cluster_db: kv.Database) -> None:
    """Between its nodes messages may be lost without a trace, so it is refused."""
    with kv.budget(round_trips=0), pytest.raises(kv.Unsupported):
        async with User.objects.watch("red"):
            pass


async def test_plain_tables_are_not_told_of(db: kv.Database) -> None:
    """Who writes them does not publish."""
    with pytest.raises(kv.Unsupported):
        async with Raw.objects.watch():
            pass


async def test_unwatched_writes_publish_nothing(db: kv.Database, server: RedisServer) -> None:
    """It costs nothing while nobody listens."""
    with server.client() as client, client.pubsub() as listener:
        listener.psubscribe("*")
        assert listener.get_message(timeout=5)
        await User.objects.save(User("red", "ada"))
        async with User.objects.watch("red"):
            await User.objects.save(User("red", "bob"))
        message = await asyncio.to_thread(listener.get_message, timeout=5)
        assert message is not None
        assert b"bob" in message["data"]
