"""Processes are killed in the middle of commits: the file opens, and holds whole units, all that were acknowledged."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import kvmodel as kv
from tests.crash.processes import Acknowledged, Worker, check, worker
from tests.crash.worker import SERIES, Head, commit_unit

ROUNDS = int(os.environ.get("KVMODEL_CRASH_ROUNDS", "20"))


def _spin(seconds: float) -> None:
    """Let a little time pass, finer than the scheduler would."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _crash(server: Worker, path: Path, draw: random.Random) -> Acknowledged:
    """Let a process commit units, kill it at some moment, and answer what it had acknowledged by then."""
    server.tell(str(path))
    said, pid = server.heard()
    assert said == "ready"
    acknowledged = Acknowledged()
    for _ in range(draw.choice((0, 1, 5, 20, 60))):
        assert acknowledged.take(server.heard())
    _spin(draw.random() * (0.02 if acknowledged.units == 0 else 0.002))
    os.kill(int(pid), signal.SIGKILL)
    # What it had said before it died is still on its way.
    while acknowledged.take(words := server.heard()):
        pass
    assert words == ["dead"]
    return acknowledged


@pytest.mark.timeout(60 + 2 * ROUNDS)
async def test_what_was_acknowledged_survives(tmp_path: Path) -> None:
    """Round after round on one file; what the rounds before have left is checked with it."""
    draw = random.Random(os.environ.get("KVMODEL_CRASH_SEED", "1"))
    path, units = tmp_path / "data", 0
    heads: dict[int, int] = {}
    with worker("serve") as server:
        for _ in range(ROUNDS):
            acknowledged = _crash(server, path, draw)
            units += acknowledged.units
            heads = await check(path, {**heads, **acknowledged.last})

    assert units >= ROUNDS
    # Some were killed between a commit and its acknowledgement, or there was nothing to be proved.
    assert sum(heads.values()) >= units


async def test_a_killed_writer_does_not_lock_others_out(tmp_path: Path) -> None:
    """A process that has the file open goes on reading and writing when another one is killed in a commit."""
    path, draw = tmp_path / "data", random.Random(2)
    with worker("serve") as server:
        _crash(server, path, draw)
        async with kv.connect(f"lmdb://{path}") as db:
            for _ in range(5):
                await commit_unit(db, SERIES)
                _crash(server, path, draw)
                assert (await Head.objects.get(SERIES)).number >= 1
            assert await commit_unit(db, SERIES) == 6
        await check(path, {SERIES: 6})
