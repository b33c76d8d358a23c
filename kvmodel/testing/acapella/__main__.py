"""Starts an emulated AcapellaDB server on loopback; see the package for what it is and is not."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence

from kvmodel.testing.acapella.server import AcapellaServer

_ABOUT = """\
Start an emulator of AcapellaDB's HTTP protocol on 127.0.0.1. It is no database: it keeps everything in memory.
It prints one line, "ready URL", when kv.connect(URL) works, and ends on SIGTERM or SIGINT.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.acapella",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="the port (any free one)")
    parser.add_argument("--prefix", default="/acapelladb", help="what paths begin with; may be empty (%(default)s)")
    parser.add_argument(
        "--account", action="append", default=[], metavar="USER:PASSWORD", help="want a login; may come again"
    )
    parser.add_argument(
        "--lock-timeout", type=float, default=1.0, help="how long a lock is waited for, s (%(default)s)"
    )
    parser.add_argument("--idle", type=float, default=30.0, help="how long a transaction may be idle, s (%(default)s)")
    parser.add_argument("--hide-deleted", action="store_true", help="leave deleted rows out of ranges")
    chosen = parser.parse_args(arguments)
    if not all(":" in account for account in chosen.account):
        parser.error("--account: user and password, with a colon between them")
    asyncio.run(serve(chosen))


async def serve(chosen: argparse.Namespace) -> None:
    """Serve until told to end."""
    server = AcapellaServer(
        prefix=chosen.prefix,
        accounts=dict(account.split(":", 1) for account in chosen.account),
        port=chosen.port,
        lock_timeout=chosen.lock_timeout,
        idle=chosen.idle,
        hides_deleted=chosen.hide_deleted,
    )
    server.keeps_log = False
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with server:
        print("ready", server.url, flush=True)
        await ended.wait()


if __name__ == "__main__":
    main()
