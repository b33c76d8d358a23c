"""Redis: a store of data structures in memory, on one server, behind sentinels, or spread over a cluster.

:class:`RedisDriver` is what ``redis://``, ``redis+cluster://`` and ``redis+sentinel://`` URLs connect with. The store's
own client is redis-py's.
"""

from kvmodel.drivers.redis.driver import RedisDriver
from kvmodel.drivers.redis.slots import slot_of

__all__ = ["RedisDriver", "slot_of"]
