"""The pytest plugin, as a user's own project sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing import VirtualClock
from kvmodel.testing.conformance.models import Item
from kvmodel.testing.plugin import Connect, lacks

REPOSITORY = Path(__file__).parents[2]


def run(
    directory: Path, tests: str, *options: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run tests in a project of their own."""
    if tests:
        (directory / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "kvmodel.testing.plugin", "-p", "pytest_asyncio.plugin"]
    return subprocess.run(
        [*command, "-q", "-rs", "-p", "no:cacheprovider", *options],
        cwd=directory,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(REPOSITORY),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


TESTS = '''
import pytest
import kvmodel as kv

class User(kv.Model, table="users"):
    name: str = kv.partition_key()

@pytest.mark.asyncio
@pytest.mark.parametrize("time", [1, 2])
async def test_fresh(kv_db, kv_clock, time):
    """Nothing is left of the test before."""
    assert not await User.objects.exists("ada")
    await User.objects.create(User("ada"), expires_at=kv_clock.now.replace(year=2500))
    assert await User.objects.exists("ada")
    kv_clock.advance(500 * 366 * 86400)
    assert not await User.objects.exists("ada")
    print("store:", kv_db.capabilities.store)

@pytest.mark.asyncio
@pytest.mark.kv_requires("range_checks", atomicity=kv.Atomicity.STORE)
async def test_required(kv_db):
    assert kv_db.capabilities.range_checks

@pytest.mark.asyncio
@pytest.mark.kv_denied("range_checks")
async def test_denied(kv_db):
    assert not kv_db.capabilities.range_checks
'''


def test_a_project_needs_no_setting_up(tmp_path: Path) -> None:
    """In memory by default, a fresh namespace for each test, skips that name the capability."""
    done = run(tmp_path, TESTS, "-s")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("store: memory") == 2
    assert "3 passed, 1 skipped" in done.stdout
    assert "this store has range_checks, so there is nothing to refuse" in done.stdout


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_store_can_be_chosen(tmp_path: Path, by: str) -> None:
    """By the command line, or by the environment."""
    url = f"lmdb://{tmp_path}/data"
    options = ["--kv-url", url] if by == "option" else []
    done = run(tmp_path, TESTS, "-s", *options, environment={"KVMODEL_TEST_URL": url} if by == "variable" else {})

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("store: lmdb") == 2


def test_a_poor_store_skips_what_it_lacks(tmp_path: Path) -> None:
    """And runs what is about lacking it."""
    done = run(tmp_path, TESTS, "--kv-url", "memory://?range_checks=false")

    assert "3 passed, 1 skipped" in done.stdout
    assert "this store lacks the capability range_checks" in done.stdout


def test_the_suite_runs_from_anywhere(tmp_path: Path) -> None:
    """As the documentation says it, for a third party's store."""
    done = run(
        tmp_path, "", "--pyargs", "kvmodel.testing.conformance", "--kv-url", "memory://", "-k", "test_a_key_comes"
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def test_a_driver_that_lies_is_found_out(tmp_path: Path) -> None:
    """What a driver claims and cannot do fails, at the least, one test of the suite."""
    liar = """
import pytest
from kvmodel.drivers import bytewrites
bytewrites._holds = lambda expect, found: True
"""
    (tmp_path / "conftest.py").write_text(liar)
    done = run(tmp_path, "", "--pyargs", "kvmodel.testing.conformance.test_isolation", f"--confcutdir={tmp_path}",
               "-c", "/dev/null", "-p", "conftest")  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_a_lost_update_is_a_conflict" in done.stdout


async def test_connections_share_a_namespace(kv_connect: Connect, kv_clock: VirtualClock) -> None:
    """A private store in memory too: it gets a name for that."""
    one, two = await kv_connect(), await kv_connect()

    await Item.objects.using(one).create(Item("s", "a"))

    assert await Item.objects.using(two).exists("s", "a")
    assert one is not two


QUEUE = """

class Event(kv.QueueModel, table="events", max_attempts=1):
    queue: str = kv.partition_key()

@pytest.mark.asyncio
async def test_fresh_queue(kv_db):
    await Event.objects.put_many(Event("q") for _ in range(3))
    consumer = Event.objects.consume("q")
    await anext(consumer)
    await (await anext(consumer)).nack()
    assert await Event.objects.dead("q").count() == 1
"""


async def test_what_is_left_is_removed(tmp_path: Path) -> None:
    """A store that outlives the tests does not fill up with their records, nor with what goes along with them."""
    url = f"lmdb://{tmp_path}/data"
    done = run(tmp_path, TESTS + QUEUE, "--kv-url", url, "-k", "fresh")
    assert "3 passed" in done.stdout

    import lmdb

    with lmdb.open(str(tmp_path / "data"), readonly=True) as handle, handle.begin() as txn:
        keys = [bytes(key) for key, _ in txn.cursor()]
    assert [key for key in keys if not key.startswith(b"\0")] == []


@pytest.mark.parametrize(
    ("names", "at_least", "lacking"),
    [
        ((), {}, None),
        (("conditional", "ordered"), {}, None),
        (("range_checks",), {}, "the capability range_checks"),
        (("expiry",), {}, "the capability expiry"),
        ((), {"atomicity": kv.Atomicity.RECORD}, None),
        ((), {"atomicity": kv.Atomicity.PARTITION}, None),
        ((), {"atomicity": kv.Atomicity.STORE}, "the capability atomicity=STORE"),
        ((), {"reverse": kv.Reverse.COSTLY}, None),
        ((), {"reverse": kv.Reverse.NATIVE}, "the capability reverse=NATIVE"),
    ],
)
def test_capabilities_are_compared(names: tuple[str, ...], at_least: dict[str, object], lacking: str | None) -> None:
    """Ranks from below, kinds exactly, and what is none is lacking."""
    capabilities = kv.Capabilities(
        store="x",
        conditional=True,
        atomicity=kv.Atomicity.PARTITION,
        reverse=kv.Reverse.COSTLY,
        expiry=kv.Expiry.NONE,
    )

    assert lacks(capabilities, names, at_least) == lacking
