"""Settings for all tests.

Hypothesis runs derandomised, so that the suite gives the same answer every time; ``HYPOTHESIS_PROFILE=explore`` looks
for new counterexamples instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis server of this run's own."""
    testing = pytest.importorskip("kvmodel.testing.redis", reason="redis-py is not installed")
    try:
        server = testing.RedisServer()
    except testing.NoServer as error:
        pytest.skip(str(error))
    with server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    """A real Redis Cluster of this run's own: three masters with a replica each."""
    testing = pytest.importorskip("kvmodel.testing.redis", reason="redis-py is not installed")
    try:
        cluster = testing.RedisCluster()
    except testing.NoServer as error:
        pytest.skip(str(error))
    with cluster:
        yield cluster.url
