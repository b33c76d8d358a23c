"""The disk is full, or may not be written: nothing acknowledged is lost, nothing is half there, the error helps."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

import kvmodel as kv
from tests.crash.processes import Acknowledged, Worker, worker
from tests.crash.worker import Head, Part

MEGABYTE = 1 << 20


def _mount(*words: str) -> bool:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@contextmanager
def _small_disk(path: Path, megabytes: int) -> Iterator[Callable[[int], None]]:
    """Give a directory a disk of its own; yields what makes it larger."""
    path.mkdir()
    if not _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)):
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield lambda size: assert_mounted(_mount("-o", f"remount,size={size}m", str(path)))
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def assert_mounted(done: bool) -> None:
    """Fail if a mount was refused."""
    assert done


def _until_full(process: Worker, acknowledged: Acknowledged) -> str:
    """Listen until there is no room; answer what the error says."""
    while acknowledged.take(words := process.heard()):
        pass
    assert words[:2] == ["full", "StoreError"], words
    return " ".join(words[2:])


async def _check(path: Path, acknowledged: Acknowledged) -> None:
    """Every acknowledged unit is there, and none is half there."""
    async with kv.connect(f"lmdb://{path}") as db:
        heads = {head.series: head.number async for head in Head.objects.using(db).scan()}
        parts = [(part.side, part.series, part.number) async for part in Part.objects.using(db).scan()]
    assert heads == acknowledged.last
    assert parts == [
        (side, series, number)
        for side in ("left", "right")
        for series in heads
        for number in range(1, heads[series] + 1)
    ]


@pytest.mark.parametrize("kind", ["disk", "limit"])
async def test_a_full_disk_is_told_and_survived(tmp_path: Path, kind: str) -> None:
    """The unit that does not fit is not written, and says why; with more room the same connection goes on."""
    path, acknowledged = tmp_path / "disk", Acknowledged()
    with _small_disk(path, 2) if kind == "disk" else nullcontext() as remount, worker("fill", path) as process:

        def grow(megabytes: int) -> None:
            if remount is not None:
                remount(megabytes)
            else:
                room = (megabytes * MEGABYTE, resource.RLIM_INFINITY)
                resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, room)

        assert process.heard() == ["ready"]
        grow(2)
        for megabytes in (4, 6, 8):
            before = acknowledged.units
            said = _until_full(process, acknowledged)
            assert "full" in said
            assert "make room" in said
            assert acknowledged.units - before >= 10
            grow(megabytes)
            process.tell()
        assert process.ended() == 0
        await _check(path, acknowledged)


async def test_a_full_disk_can_still_be_read(tmp_path: Path) -> None:
    """By the connection that met it, and by one that is made then."""
    path, stored = tmp_path / "disk", 0
    with _small_disk(path, 2):
        async with kv.connect(f"lmdb://{path}"):
            with pytest.raises(kv.StoreError, match="full"):
                for stored in range(1000):
                    await Part.objects.create(Part("left", 0, stored, bytes(20_000)))
            assert await Part.objects.range("left").count() == stored
        async with kv.connect(f"lmdb://{path}"):
            assert await Part.objects.range("left").count() == stored
            assert (await Part.objects.get("left", 0, stored - 1)).payload == bytes(20_000)


DROPPED = """
import asyncio, os, sys
import kvmodel as kv
from tests.crash.worker import Head

async def main(path, scratch):
    async with kv.connect(f"lmdb://{scratch}") as db:  # Everything that is needed is loaded by this.
        await Head.objects.save(Head(1, 1))
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    for options in ({}, {"readonly": True}):
        try:
            async with kv.connect(f"lmdb://{path}", **options) as db:
                print("opened", (await Head.objects.get(1)).number)
        except kv.KvModelError as error:
            print(type(error).__name__, error)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users reach: pytest's own are private."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="kvmodel-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def _without_rights(path: Path, scratch: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED, str(path), str(scratch)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_a_directory_without_rights(open_directory: Path, tmp_path: Path) -> None:
    """It cannot be connected to: ``Unavailable`` says that permissions are the matter, and nothing is left behind."""
    path = open_directory / "data"
    path.mkdir(mode=0o555)

    to_write, to_read = _without_rights(path, tmp_path / "scratch")

    assert to_write.startswith("Unavailable")
    assert "permissions" in to_write
    assert to_read.startswith("Unavailable")
    assert list(path.iterdir()) == []


async def test_a_disk_that_may_only_be_read(tmp_path: Path) -> None:
    """Connecting to write is ``Unavailable``; connecting to read works, and refuses writes before they are sent."""
    path = tmp_path / "disk"
    with _small_disk(path, 4):
        async with kv.connect(f"lmdb://{path}"):
            await Head.objects.save(Head(1, 7))
        assert _mount("-o", "remount,ro", str(path))

        with pytest.raises(kv.Unavailable, match="permissions"):
            await kv.connect(f"lmdb://{path}")
        async with kv.connect(f"lmdb://{path}", readonly=True) as db:
            assert (await Head.objects.get(1)).number == 7
            assert await Head.objects.find(2) is None
            with pytest.raises(kv.Unsupported), kv.budget(round_trips=0):
                await Head.objects.save(Head(1, 8))
            await db.prepare(Head)
