"""etcd: a consistent, replicated store of ordered bytes, with transactions, leases and watches.

:class:`EtcdDriver` is what ``etcd://`` URLs connect with; :class:`EtcdClient` is the store's own vocabulary, and works
without the mapper too.
"""

from kvmodel.drivers.etcd import administration, messages
from kvmodel.drivers.etcd.client import EtcdClient
from kvmodel.drivers.etcd.commands import prefix_end
from kvmodel.drivers.etcd.driver import EtcdDriver
from kvmodel.drivers.etcd.messages import TO_THE_END
from kvmodel.drivers.etcd.watches import EtcdWatch, Place

__all__ = [
    "TO_THE_END",
    "EtcdClient",
    "EtcdDriver",
    "EtcdWatch",
    "Place",
    "administration",
    "messages",
    "prefix_end",
]
