"""Other processes, for tests in which they meet an LMDB file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREAMBLE = """
import os, sys
import lmdb

def tell(word):
    print(word, flush=True)

def wait():
    sys.stdin.readline()
"""


class Neighbour:
    """A Python process that runs alongside, and goes on when told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def heard(self) -> str:
        """Wait for its next word."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it go on from where it waits."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ended(self) -> int:
        """Wait for its end."""
        return self._process.wait(timeout=20)


@contextmanager
def neighbour(code: str, path: Path) -> Iterator[Neighbour]:
    """Run code that knows ``path``, ``lmdb``, ``tell(word)`` and ``wait()``, in another process."""
    source = _PREAMBLE + f"path = {str(path)!r}\n" + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield Neighbour(process)
    finally:
        process.kill()
        process.communicate()


def run(code: str, path: Path) -> str:
    """Run code in another process to its end, and answer what it said."""
    source = _PREAMBLE + f"path = {str(path)!r}\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
