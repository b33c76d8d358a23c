"""A master behind a sentinel: found through it, and followed when another server takes over."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing.redis import RedisServer
from kvmodel.testing.redis.server import free_port, wait_for
from tests.drivers.redis.models import User


class Group:
    """A master, a replica, and a sentinel that watches them."""

    def __init__(self, master: RedisServer, replica: RedisServer, port: int) -> None:
        self.master = master
        self.replica = replica
        self.url = f"redis+sentinel://127.0.0.1:{port}/main"


@pytest.fixture
def group(program: None, tmp_path: Path) -> Iterator[Group]:
    """All three, agreed."""
    with (
        RedisServer(persistent=True) as master,
        RedisServer(persistent=True, options={"replicaof": f"127.0.0.1 {master.port}"}) as replica,
    ):
        port = free_port()
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        with subprocess.Popen(
            [master.binary.path, str(configuration), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert wait_for(lambda: _knows_replica(port), 20), "the sentinel did not find the replica"
                yield Group(master, replica, port)
            finally:
                process.kill()


def _knows_replica(port: int) -> bool:
    import redis

    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            replicas = client.execute_command("SENTINEL REPLICAS", "main")
            return len(replicas) == 1
    except redis.RedisError:
        return False


async def test_a_failover(group: Group) -> None:
    """What was acknowledged and replicated is there; writes go on with the new master."""
    async with kv.connect(group.url, timeout=20) as db:
        assert db.capabilities.atomicity is kv.Atomicity.STORE
        assert db.capabilities.failover_may_lose
        await User.objects.save(User("red", "ada", 1))
        assert group.master.command("WAIT", 1, 5000) == 1
        group.master.kill()

        end = time.monotonic() + 20
        while True:
            try:
                assert (await User.objects.get("red", "ada")).age == 1
                await User.objects.save(User("red", "bob"))
                break
            except (kv.Unavailable, kv.TimedOut, kv.OutcomeUnknown):
                assert time.monotonic() < end, "nobody took over"
        assert group.replica.command("EXISTS", b"kv:{\x02red\x00}users:\x02bob\x00") == 1


async def test_an_unknown_service(group: Group) -> None:
    """``Unavailable``, when connecting."""
    with pytest.raises(kv.Unavailable):
        await kv.connect(group.url.replace("/main", "/other"))
