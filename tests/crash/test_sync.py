"""Between a commit and its acknowledgement the disk is synced: counted from outside of the process.

A killed process proves nothing about the disk, since what it wrote stays in the system's memory. So the system calls of
a process that commits are watched (by ``tracer.py``, which needs no tool that may be missing): no acknowledgement
may find anything written that was not synced since.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import lmdb
import pytest

import kvmodel as kv
from tests.crash.processes import TRACER, WORKER
from tests.crash.tracer import UNAVAILABLE

_SYNCS = ("fsync", "fdatasync", "msync")


@attrs.define
class Disk:
    """What a trace says of the data file.

    Attributes:
        unsynced: How many writes were not synced yet.
        syncs: How many syncs there were since the last acknowledgement.
        acknowledged: For every acknowledgement, both of these at that moment.
    """

    unsynced: int = 0
    syncs: int = 0
    acknowledged: list[tuple[int, int]] = attrs.field(factory=list)

    def take(self, call: dict[str, object]) -> None:
        """Take down one system call."""
        if call["call"] == "say":
            self.acknowledged.append((self.unsynced, self.syncs))
            self.syncs = 0
        elif str(call.get("path", "data.mdb")).endswith("data.mdb"):
            succeeded = isinstance(call["result"], int) and call["result"] >= 0
            if call["call"] in _SYNCS and succeeded:
                self.unsynced, self.syncs = 0, self.syncs + 1
            elif call["call"] not in _SYNCS and not call["dsync"]:
                self.unsynced += 1


def _trace(mode: str, path: Path) -> Disk:
    """Run the worker under the tracer."""
    done = subprocess.run(
        [sys.executable, str(TRACER), sys.executable, str(WORKER), mode, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=WORKER.parents[2],
        env={**os.environ, "PYTHONPATH": str(WORKER.parents[2])},
        check=False,
    )
    if done.returncode == UNAVAILABLE:
        pytest.skip("this system does not let a process trace its own child (ptrace, Linux 5.3 or newer)")
    assert done.returncode == 0, done.stderr
    disk = Disk()
    for line in done.stdout.splitlines():
        disk.take(json.loads(line))
    return disk


def test_every_acknowledgement_finds_everything_synced(tmp_path: Path) -> None:
    """Each of twenty commits has a sync of its own, before it is acknowledged."""
    disk = _trace("steps", tmp_path / "data")

    assert len(disk.acknowledged) == 20
    assert [unsynced for unsynced, _ in disk.acknowledged] == [0] * 20
    assert all(syncs >= 1 for _, syncs in disk.acknowledged)


def test_the_trace_would_show_a_missing_sync(tmp_path: Path) -> None:
    """A connection that does not wait for the disk is found out."""
    disk = _trace("nosync", tmp_path / "data")

    assert len(disk.acknowledged) == 20
    assert all(unsynced > 0 for unsynced, _ in disk.acknowledged)
    assert all(syncs == 0 for _, syncs in disk.acknowledged)


@pytest.mark.parametrize("sync", [True, False])
async def test_the_flags_of_the_environment(tmp_path: Path, sync: bool) -> None:
    """LMDB is told to sync data and meta pages, and not to write through the map; the claim is made accordingly."""
    async with kv.connect(f"lmdb://{tmp_path}/data", sync=sync) as db:
        assert isinstance(db.native, lmdb.Environment)
        flags = db.native.flags()

        assert flags["sync"] is sync
        assert flags["metasync"] is sync or not sync
        assert not flags["writemap"]
        assert not flags["map_async"]
        assert db.capabilities.durability is (kv.Durability.DISK if sync else kv.Durability.PROCESS)
