"""The stores that the shipped suite runs on here: those that are always at hand, and memory playing poorer ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partialmethod

import pytest

from kvmodel.drivers.elevator import ElevatorDriver
from kvmodel.testing.elevator import ElevatorServer

STORES = {
    "memory": "memory://",
    "lmdb": "lmdb://{directory}/data",
    "elevator": "",  # A server says where it listens: the fixture elevator_url, and so on.
    "arakoon": "",
    "remote": "memory://?reads_in_place=false&max_read_batch=16&max_batch=100",
    "record": "memory://?atomicity=record&range_checks=false",
    "partition": "memory://?atomicity=partition&max_atomic_changes=4&max_atomic_checks=6",
    "unconditional": "memory://?conditional=false&range_checks=false&atomicity=record",
    "unchecked": "memory://?range_checks=false",
    "forward": "memory://?reverse=none",
    "costly": "memory://?reverse=costly",
    "partitioned": "memory://?scan_table=false",
    "hashed": "memory://?ordered=false&scan_table=false&range_checks=false&reverse=none",
    "lasting": "memory://?expiry=none",
    "tight": "memory://?max_key_bytes=120&max_value_bytes=4096&max_request_bytes=64KiB&reads_in_place=false",
}

# A poorer store runs what its poverty concerns, the others run everything.
CONCERNS = {
    "record": {"records", "units", "isolation", "concurrency", "machine"},
    "partition": {"units", "isolation", "limits", "machine"},
    "unconditional": {"keys", "records", "batches", "units", "concurrency", "machine"},
    "unchecked": {"units", "isolation", "machine"},
    "forward": {"bounds", "pages", "keys", "machine"},
    "costly": {"bounds"},
    "partitioned": {"tables", "expiry", "plain"},
    "hashed": {"unordered", "records", "expiry", "tables", "units", "isolation", "life", "machine"},
    "lasting": {"lasting", "batches", "units"},
    "tight": {"keys", "values", "limits", "batches", "machine"},
}

# What the mapper still owes a store without conditions that reads one key at a time.
PENDING = {
    "test_the_longest_key_works_and_a_longer_one_is_refused": pytest.mark.xfail(
        reason="get_many() sends the first key before it looks at the next one", strict=False
    ),
}


@pytest.fixture(scope="session")
def lmdb_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the LMDB file of the whole run lives: a store that is not empty."""
    return str(tmp_path_factory.mktemp("conformance"))


@pytest.fixture(scope="session")
def elevator() -> Iterator[ElevatorServer]:
    """An Elevator, with all of its habits."""
    with ElevatorServer() as server:
        yield server


@pytest.fixture(scope="session")
def arakoon_url() -> Iterator[str]:
    """An emulated cluster of three nodes, in a process of its own."""
    command = [sys.executable, "-m", "kvmodel.testing.arakoon", "--nodes", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("ready ").strip()
        finally:
            process.terminate()


@pytest.fixture
def elevator_url(elevator: ElevatorServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Purging has to be forced there; the suite, whose records nobody else writes, means just that."""
    monkeypatch.setattr(ElevatorDriver, "purge", partialmethod(ElevatorDriver.purge, force=True))
    return elevator.url


@pytest.fixture
def kv_url(request: pytest.FixtureRequest, lmdb_directory: str) -> str:
    """The suite's own fixture, for one store after the other."""
    url = STORES[request.param] or str(request.getfixturevalue(f"{request.param}_url"))
    return url.format(directory=lmdb_directory)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the stores of a test by its theme."""
    if "kv_url" in metafunc.fixturenames:
        theme = metafunc.module.__name__.rpartition("test_")[2]
        stores = [name for name in STORES if theme in CONCERNS.get(name, {theme})]
        marks = PENDING.get(metafunc.function.__name__, ())
        metafunc.parametrize(
            "kv_url", [pytest.param(name, marks=marks if name == "elevator" else ()) for name in stores], indirect=True
        )
