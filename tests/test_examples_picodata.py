"""The Picodata example runs as a reader runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvmodel.testing.picodata import MissingPostgres, find_postgres

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "picodata_warehouse.py"

PRINTED = """\
get: Item(id=3, item='piles', type='heavy')
scan: 1 bricks, 2 panels, 3 piles, 4 bars
heavy: 3
range: 3 piles, 4 bars, 5 tiles
last: tiles 50
moved: [5, 25]
"""


@pytest.fixture(autouse=True)
def _postgres() -> None:
    try:
        find_postgres()
    except MissingPostgres as error:
        pytest.skip(str(error))


def run(*arguments: str) -> str:
    """Run it with this Python, warnings as errors; what it prints comes back."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_warehouse() -> None:
    """Two tables of SQL, mapped, filled, and read by get, scan and range."""
    assert run() == PRINTED


def test_warehouse_on_a_cluster_of_ones_own() -> None:
    """Given by its URL; a second run finds the tables and says the same."""
    command = [sys.executable, "-m", "kvmodel.testing.picodata", "--nodes", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("ready ").strip()
            assert run(url) == run(url) == PRINTED
        finally:
            process.terminate()
