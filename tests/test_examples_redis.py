"""The example of sessions runs as a reader runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "session_store.py"


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


def check(output: str) -> None:
    """No request was lost, no stale form was taken, and the session went."""
    assert "concurrent adds:  Counter({200: 60}) bolts: 60" in output
    assert "stale form:       412" in output
    assert "ten fresh forms:  {200: 1, 412: 9}" in output
    assert "after its time:   401" in output


def test_sessions(redis_url: str) -> None:
    """On a server that is given, and on one of its own."""
    check(run(redis_url))
    output = run()
    check(output)
    assert "note:             persistence" in output


def test_sessions_in_a_cluster(redis_cluster_url: str) -> None:
    """The same program."""
    check(run(redis_cluster_url))
