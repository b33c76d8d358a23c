"""The examples and the emulator run as a reader runs them: as programs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.drivers.elevator import ElevatorClient
from kvmodel.testing.elevator import ElevatorServer

ROOT = Path(__file__).resolve().parents[3]

TOUR = """\
connected to:     default
tour is listed:   True
connected to:     tour
get:              b'a'
an empty value:   b''
mget:             [b'a', b'', None]
exists:           False
get, absent:      no value is stored under this key
the server said:  Key '1' does not exist (code 1)
9 is still:       b'value 9'
range 1 to 9:     ['value 1', 'value 2', 'value 3', 'value 4', 'value 5', 'value 6', 'value 7', 'value 8', 'value 9']
range, 2 rows:    [(b'1', b'value 1'), (b'2', b'value 2')]
keys alone:       [b'7', b'8', b'9']
slice:            [(b'8', b'value 8'), (b'9', b'value 9')]
range_iter:       b'3' b'value 3'
range_iter:       b'4' b'value 4'
range_iter:       b'5' b'value 5'
tour is listed:   False
"""

TIMESERIES = """\
written:           288
together:          Sensor(name='roof', place='north side', latest=8.5)
newest three:      ['00:00 8.5', '23:55 8.1', '23:50 8.1']
around noon:       [17.9, 17.9, 18.0, 17.9, 17.9]
warmest:           12:00 18.0
in all:            289
create:            Elevator can't compare before it writes: save(obj, force=True) and delete by key write whatever is \
there, and db.batch() many at once
backwards:         this store cannot read backwards: declare the clustering key with descending=True
forced:            Sensor(name='roof', place='south side', latest=8.5)
removed:           290
"""


def run(example: str, *arguments: str) -> str:
    """Run an example with this Python, its warnings as errors; what it prints comes back."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / example), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("example", "output"), [("elevator_tour.py", TOUR), ("elevator_timeseries.py", TIMESERIES)], ids=["tour", "series"]
)
def test_examples(example: str, output: str) -> None:
    """They show what they say, by themselves and twice on one server, and leave it as it was."""
    assert run(example) == output
    with ElevatorServer() as server:
        assert run(example, server.url) == output
        assert run(example, server.url) == output
        assert server.lost_workers == 0
        assert set(server.storage.databases) == {b"default"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_emulator_as_a_program(number: signal.Signals) -> None:
    """It says when it is ready, serves, and ends well on a signal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "kvmodel.testing.elevator", "--workers", "2", "--directory", "/srv"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        match = re.fullmatch(r"ready (elevator://127\.0\.0\.1:\d+)\n", (await process.stdout.readline()).decode())
        assert match is not None
        async with kv.connect(f"{match[1]}/%2Fsrv%2Fdata?create=true") as db:
            assert isinstance(db.native, ElevatorClient)
            await db.native.put("a", "1")
            assert await db.native.get("a") == b"1"
        process.send_signal(number)
        assert await process.wait() == 0


def test_the_emulator_explains_itself() -> None:
    """Every habit has its switch."""
    done = subprocess.run(
        [sys.executable, "-m", "kvmodel.testing.elevator", "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    for option in ("--port", "--ipc", "--workers", "--gentle", "--keep-workers", "--mount-seconds", "--release"):
        assert option in done.stdout
