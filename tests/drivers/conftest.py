"""Drivers that are open for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvmodel.drivers.lmdb import LmdbDriver
from kvmodel.drivers.memory import MemoryDriver


@pytest.fixture
async def memory() -> AsyncIterator[MemoryDriver]:
    """A private store in memory."""
    driver = MemoryDriver()
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an LMDB file may live. Nothing is there yet."""
    return tmp_path / "data"


@pytest.fixture
async def lmdb_driver(path: Path) -> AsyncIterator[LmdbDriver]:
    """An LMDB file of its own."""
    driver = LmdbDriver(path)
    await driver.open()
    yield driver
    await driver.close()
