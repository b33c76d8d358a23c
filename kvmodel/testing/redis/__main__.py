"""Starts real Redis servers on loopback; see the package."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from kvmodel.testing.redis.binary import NoServer
from kvmodel.testing.redis.cluster import RedisCluster
from kvmodel.testing.redis.server import RedisServer

_ABOUT = """\
Start a real Redis server on 127.0.0.1, or with --cluster three masters with a replica each, in a temporary folder.
It prints one line, "ready URL", when kv.connect(URL) works, and ends on SIGTERM or SIGINT with everything it started.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.redis", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cluster", action="store_true", help="start a cluster")
    parser.add_argument("--port", type=int, default=0, help="the first port, others follow (any free ones)")
    parser.add_argument("--masters", type=int, default=3, help="how many masters a cluster has (%(default)s)")
    parser.add_argument("--replicas", type=int, default=1, help="how many replicas each of them has (%(default)s)")
    parser.add_argument("--node-timeout", type=int, default=2000, help="when a master counts as dead, ms (%(default)s)")
    parser.add_argument("--memory", action="store_true", help="keep nothing on disk; else every write is synced")
    chosen = parser.parse_args(arguments)
    if chosen.masters < 3 or chosen.replicas < 0:
        parser.error("a cluster has at least three masters")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        with _servers(chosen) as servers:
            print("ready", servers.url, flush=True)
            # An event's wait without a limit lets no signal in on some systems.
            while not ended.wait(3600):
                pass
    except NoServer as error:
        sys.exit(f"nothing was started: {error}")


def _servers(chosen: argparse.Namespace) -> RedisServer | RedisCluster:
    if not chosen.cluster:
        return RedisServer(port=chosen.port, persistent=not chosen.memory)
    return RedisCluster(
        chosen.masters,
        chosen.replicas,
        port=chosen.port,
        persistent=not chosen.memory,
        node_timeout=chosen.node_timeout,
    )


if __name__ == "__main__":
    main()
