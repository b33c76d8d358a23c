"""The pytest plugin: a database for each test, on the store of your choice.

``kv_db`` is an open database in a fresh namespace of the store that ``--kv-url`` names, or the environment's
``KVMODEL_TEST_URL``, or a store in memory. Its time is ``kv_clock``, which moves when it is told to. What a test leaves
behind is removed afterwards, as far as the store lets itself be read through. Coroutines are run by the plugin for
asyncio that you use; with pytest-asyncio nothing has to be set up.

A test that needs an ability of the store says so: ``@pytest.mark.kv_requires("range_checks")``, or
``kv_requires(atomicity=kv.Atomicity.STORE)`` for at least that much. ``kv_denied`` takes the same, for a test of what
happens where the store lacks it. Where it does not apply, the test is skipped, and the reason names the capability.
"""

from __future__ import annotations

import enum
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock

try:
    from pytest_asyncio import fixture as _async_fixture
except ImportError:  # Another plugin runs the coroutines, and it knows the fixtures of pytest itself.
    _async_fixture = pytest.fixture  # type: ignore[assignment]

__all__ = ["Connect", "kv_clock", "kv_connect", "kv_db", "kv_url"]

F = TypeVar("F")

Connect = Callable[[], Awaitable[kv.Database]]

_DEFAULT = "memory://"
_VARIABLE = "KVMODEL_TEST_URL"

pytest.register_assert_rewrite("kvmodel.testing.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--kv-url``."""
    group = parser.getgroup("kvmodel")
    group.addoption(
        "--kv-url",
        metavar="URL",
        default=None,
        help=f"the store that kv_db connects to (default: the environment's {_VARIABLE}, else {_DEFAULT})",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for line in (
        "kv_requires(*names, **at_least): skip unless the store has these capabilities",
        "kv_denied(*names, **at_least): skip unless the store lacks one of these capabilities",
    ):
        config.addinivalue_line("markers", line)


@pytest.fixture
def kv_url(request: pytest.FixtureRequest) -> str:
    """The URL of the store to test with. Override it to choose another."""
    given: str | None = request.config.getoption("--kv-url")
    return given or os.environ.get(_VARIABLE) or _DEFAULT


@pytest.fixture
def kv_clock() -> VirtualClock:
    """The time, as ``kv_db`` sees it."""
    return VirtualClock()


@_async_fixture
async def kv_connect(request: pytest.FixtureRequest, kv_url: str, kv_clock: VirtualClock) -> AsyncIterator[Connect]:
    """Opens connections that all see the same fresh namespace of the same store; closed at the end of the test."""
    url, namespace = _fresh(kv_url)
    opened: list[kv.Database] = []

    async def connect() -> kv.Database:
        db = await kv.connect(url, namespace=namespace, clock=kv_clock)
        opened.append(db)
        _skip_by_capability(request.node, db.capabilities)
        return db

    try:
        yield connect
    finally:
        for db in reversed(opened):
            await db.close()


@_async_fixture
async def kv_db(kv_connect: Connect) -> AsyncIterator[kv.Database]:
    """An open database, in a namespace of its own."""
    db = await kv_connect()
    yield db
    await _clean(db)


def _fresh(url: str) -> tuple[str, str]:
    """Answer the URL, and a namespace that nobody uses; a private store in memory gets a name, to connect to again."""
    parts = urlsplit(url)
    name = f"test-{secrets.token_hex(6)}"
    if parts.scheme == "memory" and not parts.netloc and not parts.path.strip("/"):
        url = urlunsplit(parts._replace(netloc=name))
        # urlunsplit leaves the slashes out where there was no host before.
    outer = dict(parse_qsl(parts.query)).get("namespace")
    return url, name if outer is None else f"{outer}/{name}"


async def _clean(db: kv.Database) -> None:
    """Remove what a test has left, for the sake of stores that outlive it. What can't be removed stays."""
    for bound in list(db._tables.values()):
        if bound.ready and db.capabilities.scan_table and db.capabilities.durability > kv.Durability.MEMORY:
            try:
                records = bound.schema.model.objects.using(db, outside=True)
                records._schema = bound.schema  # A queue has more tables than its model's own.
                await records.scan().delete()
                await db.purge_expired(bound.schema.model, force=True)
            except kv.KvModelError:
                continue


# --- capabilities -----------------------------------------------------------------------------------------------------


def _skip_by_capability(node: pytest.Item, capabilities: kv.Capabilities) -> None:
    for mark in node.iter_markers("kv_requires"):
        lacking = lacks(capabilities, mark.args, mark.kwargs)
        if lacking:
            pytest.skip(f"this store lacks {lacking}")
    for mark in node.iter_markers("kv_denied"):
        if not lacks(capabilities, mark.args, mark.kwargs):
            wanted = ", ".join([*mark.args, *(f"{name}={_name(value)}" for name, value in mark.kwargs.items())])
            pytest.skip(f"this store has {wanted}, so there is nothing to refuse")


def lacks(capabilities: kv.Capabilities, names: tuple[str, ...], at_least: Mapping[str, object]) -> str | None:
    """Answer which of these capabilities a store lacks, in words; ``None`` if it has all of them."""
    for name in names:
        has = getattr(capabilities, name)
        if not has or (isinstance(has, enum.Enum) and has.name == "NONE"):
            return f"the capability {name}"
    for name, wanted in at_least.items():
        has = getattr(capabilities, name)
        ranked = isinstance(has, enum.IntEnum) and isinstance(wanted, enum.IntEnum)
        if not (has >= wanted if ranked else has == wanted):
            return f"the capability {name}={_name(wanted)}"
    return None


def _name(value: object) -> object:
    return value.name if isinstance(value, enum.Enum) else value
