"""Start the emulator: prints ``ready URL``, and ends on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence

from kvmodel.testing.elevator.quirks import Quirks
from kvmodel.testing.elevator.server import ElevatorServer
from kvmodel.testing.elevator.store import Storage


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kvmodel.testing.elevator",
        description="An emulator of the Elevator server on loopback. Nothing is kept on disk.",
    )
    parser.add_argument("--port", type=int, default=0, help="the port to listen at (default: one that is free)")
    parser.add_argument("--ipc", metavar="PATH", help="listen at this socket file instead")
    parser.add_argument("--workers", type=int, default=4, help="how many workers it has (%(default)s)")
    parser.add_argument("--directory", action="append", default=[], help="a folder that exists on its disk")
    parser.add_argument("--gentle", action="store_true", help="have none of the original's harmful habits")
    parser.add_argument("--keep-workers", action="store_true", help="lose no worker to a request that is not answered")
    parser.add_argument("--mount-seconds", type=float, default=0.05, help="how long mounting takes (%(default)s)")
    parser.add_argument("--show-empty-values", action="store_true", help="let GET answer empty values")
    parser.add_argument("--release", action="store_true", help="be the last release: no EXISTS, no prefix of RANGE")
    parser.add_argument("--out-of-order", action="store_true", help="answer what waits the last one first")
    return parser.parse_args(arguments)


def quirks_of(chosen: argparse.Namespace) -> Quirks:
    """Answer how the server is to behave."""
    if chosen.gentle:
        return Quirks(lose_workers=False, mount_seconds=0, hide_empty_values=False, has_exists=not chosen.release)
    return Quirks(
        lose_workers=not chosen.keep_workers,
        mount_seconds=chosen.mount_seconds,
        hide_empty_values=not chosen.show_empty_values,
        has_exists=not chosen.release,
        out_of_order=chosen.out_of_order,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal comes."""
    chosen = parse(arguments)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    endpoint = f"ipc://{chosen.ipc}" if chosen.ipc else f"tcp://127.0.0.1:{chosen.port}"
    storage = Storage(quirks_of(chosen), chosen.directory)
    with ElevatorServer(endpoint, workers=chosen.workers, storage=storage) as server:
        print(f"ready {server.url}", flush=True)
        over.wait()


if __name__ == "__main__":
    main()
