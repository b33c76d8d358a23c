"""Emulated clusters, and clients and drivers of them, open for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvmodel.drivers.arakoon import ArakoonClient, ArakoonDriver
from kvmodel.testing.arakoon import LocalCluster


def client_of(cluster: LocalCluster, *, named: bool = True, timeout: float = 10.0) -> ArakoonClient:
    """Answer a client that is not open yet."""
    hosts = [cluster.address(node.name) for node in cluster.nodes]
    names = [node.name for node in cluster.nodes] if named else None
    return ArakoonClient(hosts, cluster.cluster_id, names, timeout=timeout)


def driver_of(cluster: LocalCluster) -> ArakoonDriver:
    """Answer a driver that is not open yet."""
    hosts = ",".join(cluster.address(node.name) for node in cluster.nodes)
    return ArakoonDriver(hosts, cluster.cluster_id, [node.name for node in cluster.nodes])


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    """Three nodes."""
    async with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[ArakoonClient]:
    """A client of the three nodes."""
    async with client_of(cluster) as client:
        yield client


@pytest.fixture
async def driver(cluster: LocalCluster) -> AsyncIterator[ArakoonDriver]:
    """A driver on the three nodes."""
    driver = driver_of(cluster)
    await driver.open()
    yield driver
    await driver.close()
