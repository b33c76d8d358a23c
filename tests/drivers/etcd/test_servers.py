"""``python -m kvmodel.testing.etcd``, and which server it takes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing.etcd import EtcdCluster, find_server, is_sound
from tests.drivers.etcd.conftest import need_server

COMMAND = [sys.executable, "-m", "kvmodel.testing.etcd"]


def is_open(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gone(ports: list[int], folder: Path) -> bool:
    """Whether nothing is left, within moments."""
    end = time.monotonic() + 10
    while any(map(is_open, ports)) or any(folder.glob("kvmodel-etcd-*")):
        if time.monotonic() > end:
            return False
    return True


def ports_of(url: str) -> list[int]:
    """The ports in a URL."""
    return [int(part.rpartition(":")[2]) for part in url.removeprefix("etcd://").split(",")]


async def connect(url: str) -> None:
    """Connect, and go."""
    async with kv.connect(url):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("nodes", [1, 3])
def test_it_says_when_it_is_ready_and_ends_with_all_it_started(
    tmp_path: Path, number: signal.Signals, nodes: int
) -> None:
    """One line, with a URL that works; after a signal neither a process nor a folder is left."""
    need_server()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [*COMMAND, "--nodes", str(nodes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready etcd://127.0.0.1:")
        ports = ports_of(line.split()[1])
        assert len(ports) == nodes
        asyncio.run(connect(line.split()[1]))
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stdout.read() == ""
    assert gone(ports, tmp_path)


def test_nodes_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    """They can't outlive it, whatever happens to it."""
    need_server()
    if sys.platform != "linux":
        pytest.skip("only Linux ends the children of a process that is killed")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        (port,) = ports_of(process.stdout.readline().split()[1])
        process.kill()
    end = time.monotonic() + 10
    while is_open(port):
        assert time.monotonic() < end


def test_a_machine_without_a_server(tmp_path: Path) -> None:
    """It says what to install."""
    environment = {**os.environ, "KVMODEL_ETCD": str(tmp_path / "nothing")}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert done.returncode == 1
    assert "apt-get install etcd-server" in done.stderr
    help_of = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert "--nodes" in help_of
    assert "--port" in help_of
    wrong = subprocess.run([*COMMAND, "--nodes", "0"], capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        *(((3, 3, 30), False), ((3, 4, 21), False), ((3, 5, 1), False), ((3, 5, 5), False)),
        *(((3, 4, 22), True), ((3, 4, 23), True), ((3, 5, 6), True), ((3, 6, 0), True)),
    ],
)
def test_which_versions_keep_their_word(version: tuple[int, int, int], sound: bool) -> None:
    """The fault tests want one of them."""
    assert is_sound(version) is sound


def test_nodes_can_be_killed_paused_and_restarted() -> None:
    """And the cluster says who leads."""
    need_server()
    with EtcdCluster(3) as cluster:
        leader = cluster.leader()
        assert leader in cluster.nodes
        assert leader is not None
        leader.pause()
        states = [leader.is_up]
        leader.resume()
        leader.kill()
        states.append(leader.is_up)
        cluster.restart(leader)
        states.append(leader.is_up)
        assert states == [True, False, True]
        assert repr(cluster.nodes[0].port) in cluster.url
        ports = [node.port for node in cluster.nodes]
    assert not any(map(is_open, ports))
    assert find_server() == cluster.server
