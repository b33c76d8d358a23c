"""Starts a stand-in for a Picodata cluster on loopback; see the package for what it is and is not."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from kvmodel.testing.picodata.cluster import LocalPicodata
from kvmodel.testing.picodata.postgres import MissingPostgres

_ABOUT = """\
Start a stand-in for a Picodata cluster on 127.0.0.1: a real PostgreSQL behind nodes that behave like Picodata's.
It needs the programs of PostgreSQL (initdb, postgres). Everything it stores is removed when it ends.
It prints one line, "ready URL", when kv.connect(URL) works, and ends on SIGTERM or SIGINT.
SIGUSR1 takes the last node down, or brings it up again.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.picodata",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1, help="how many nodes (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the first node's port, the others follow (any free ones)")
    parser.add_argument("--version", default="26.1.3", help="which version of Picodata to play (%(default)s)")
    parser.add_argument("--user", default="kvmodel", help="who may log in (%(default)s)")
    parser.add_argument("--password", default="T0psecret", help="with which password (%(default)s)")
    chosen = parser.parse_args(arguments)
    if chosen.nodes < 1:
        parser.error("--nodes: at least one")
    try:
        asyncio.run(serve(chosen))
    except MissingPostgres as error:
        sys.exit(str(error))


async def serve(chosen: argparse.Namespace) -> None:
    """Serve until told to end."""
    ended, toggled = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, toggled.set)
    ports = tuple(chosen.port + number if chosen.port else 0 for number in range(chosen.nodes))
    cluster = LocalPicodata(
        chosen.nodes, version=chosen.version, user=chosen.user, password=chosen.password, ports=ports
    )
    async with cluster:
        print("ready", cluster.url, flush=True)
        toggling = asyncio.create_task(_toggle(cluster, toggled))
        await ended.wait()
        toggling.cancel()


async def _toggle(cluster: LocalPicodata, toggled: asyncio.Event) -> None:
    last = len(cluster.nodes) - 1
    while True:
        await toggled.wait()
        toggled.clear()
        if cluster.nodes[last].online:
            await cluster.take_down(last)
        else:
            await cluster.bring_up(last)


if __name__ == "__main__":
    main()
