"""``python -m kvmodel.testing.quasardb``: serve a stand-in's store on loopback until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence

from kvmodel.testing.quasardb.server import LocalServer


def main(arguments: Sequence[str] | None = None) -> None:
    """Print ``ready URL`` once it listens, and wait."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.quasardb",
        description="Serve what stands in for a quasardb cluster: no database, and not the vendor's protocol. The URL"
        " names the module that workers import instead of the vendor's package.",
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1 (default: any free port)")
    chosen = parser.parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with LocalServer(port=chosen.port) as server:
        print(f"ready {server.url}", flush=True)
        over.wait()


if __name__ == "__main__":
    main()
