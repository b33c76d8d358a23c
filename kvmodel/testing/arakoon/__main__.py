"""Starts an emulated Arakoon cluster on loopback, one node or several. It is no database: see the package."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence

from kvmodel.testing.arakoon.cluster import LocalCluster

_ABOUT = """\
Start an emulator of Arakoon's wire protocol on 127.0.0.1. It is no database: it keeps everything in memory.
It prints one line, "ready URL", when kv.connect(URL) works, and ends on SIGTERM or SIGINT.
SIGUSR1 moves the master to another node; SIGUSR2 kills the master, or starts the node again that was killed.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.arakoon",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes (%(default)s)")
    parser.add_argument("--cluster", default="kvmodel", help="the cluster's id (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the first node's port, the others follow (any free ones)")
    parser.add_argument(
        "--lease", type=float, default=1.0, help="how long a dead master is believed in, s (%(default)s)"
    )
    parser.add_argument("--max-connections", type=int, default=1000, help="how many clients a node takes (%(default)s)")
    parser.add_argument("--no-hole", action="store_true", help="undo delete_prefix steps of failed sequences")
    chosen = parser.parse_args(arguments)
    if chosen.nodes < 1:
        parser.error("--nodes: at least one")
    asyncio.run(serve(chosen))


async def serve(chosen: argparse.Namespace) -> None:
    """Serve until told to end."""
    ports = tuple(chosen.port + number if chosen.port else 0 for number in range(chosen.nodes))
    cluster = LocalCluster(
        chosen.nodes,
        chosen.cluster,
        ports=ports,
        lease=chosen.lease,
        has_hole=not chosen.no_hole,
        max_connections=chosen.max_connections,
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with cluster:
        control = _Control(cluster)
        loop.add_signal_handler(signal.SIGUSR1, cluster.move_master)
        loop.add_signal_handler(signal.SIGUSR2, control.kill_or_restart)
        print("ready", cluster.url, flush=True)
        await ended.wait()
        await control.finish()


class _Control:
    """Kills the master, and starts it again."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._killed: list[str] = []
        self._restarting: set[asyncio.Task[None]] = set()

    def kill_or_restart(self) -> None:
        if self._killed:
            task = asyncio.create_task(self._cluster.restart(self._killed.pop()))
            self._restarting.add(task)
            task.add_done_callback(self._restarting.discard)
        elif (master := self._cluster.master) is not None:
            self._killed.append(master.name)
            self._cluster.kill(master.name)

    async def finish(self) -> None:
        await asyncio.gather(*self._restarting)


if __name__ == "__main__":
    main()
