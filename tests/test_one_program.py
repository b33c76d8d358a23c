"""One program runs on every store, by URL alone, and prints the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "one_program.py"
SERVERS = {
    "redis": ["kvmodel.testing.redis"],
    "redis+cluster": ["kvmodel.testing.redis", "--cluster"],
    "etcd": ["kvmodel.testing.etcd", "--nodes", "3"],
}


def run(*arguments: str) -> tuple[str, str]:
    """Run it, its warnings as errors; answer what it prints: of the program, and of the store."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told, _, promised = done.stdout.partition("\n\n")
    return told, promised


@contextmanager
def served(scheme: str) -> Iterator[str]:
    """A server in a process of its own, and its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", *SERVERS[scheme]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                assert process.stderr is not None
                pytest.skip(f"no server of {scheme}:// here: {process.stderr.read().strip()[-300:]}")
            yield line.removeprefix("ready ").strip()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def on_lmdb() -> tuple[str, str]:
    """What it prints without a URL."""
    return run()


def test_on_a_file(on_lmdb: tuple[str, str]) -> None:
    """All is accounted for."""
    told, promised = on_lmdb

    assert "all accounted for: True" in told
    assert "baskets left: 0" in told
    assert promised.startswith("lmdb: atomic writes reach the store, survive the loss of power")


@pytest.mark.parametrize(
    ("scheme", "promise"),
    [
        ("redis", "redis: atomic writes reach the store"),
        ("redis+cluster", "redis: atomic writes reach the partition"),
        ("etcd", "etcd: atomic writes reach the store, survive the loss of a machine"),
    ],
)
def test_on_servers(on_lmdb: tuple[str, str], scheme: str, promise: str) -> None:
    """Nothing is another but the URL, and what the store promises."""
    with served(scheme) as url:
        assert url.startswith(f"{scheme}://")
        told, promised = run(url)

    assert told == on_lmdb[0]
    assert promised.startswith(promise)
