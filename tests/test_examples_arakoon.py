"""The Arakoon example runs as a reader runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "arakoon_inventory.py"


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


def test_inventory() -> None:
    """The books agree, with a master that moves all the time."""
    output = run("--moves", "80")

    assert re.search(r"^goods before: +9000$", output, re.MULTILINE)
    assert re.search(r"^goods after: +9000$", output, re.MULTILINE)
    assert "the journal agrees: True" in output
    assert re.search(r"^moves: +[1-9]\d*, refused: \d+$", output, re.MULTILINE)


def test_inventory_on_a_cluster_of_ones_own() -> None:
    """Given by its URL; it is left as it was found, but for the catalogue."""
    command = [sys.executable, "-m", "kvmodel.testing.arakoon", "--nodes", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("ready ").strip()
            first, second = run(url, "--moves", "20"), run(url, "--moves", "20")
        finally:
            process.terminate()

    assert "the journal agrees: True" in first
    assert "goods after:       9000" in second
