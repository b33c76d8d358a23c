"""A store of a program's own: started by the first worker that needs it, shared by all, ended with the program."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from binascii import crc32
from pathlib import Path
from typing import Final

from kvmodel.testing.quasardb.wire import Trouble, greet

__all__ = ["local_path", "reach_own"]

_STARTING: Final = 10.0
_LONGEST_PATH: Final = 100
_LAUNCH: Final = """\
import json, os, sys, types
paths, packages, path, program = json.loads(sys.argv[1])
if os.fork():
    os._exit(0)
sys.path[:] = paths
for name, place in packages.items():
    package = types.ModuleType(name)
    package.__path__ = [place]
    sys.modules[name] = package
from kvmodel.testing.quasardb.server import serve_program
serve_program(path, program)
"""
_PACKAGE: Final = Path(__file__).parents[2]


def local_path(hosts: str, program: int) -> Path:
    """Answer where the store of a program listens, for one cluster."""
    name = f"kvmodel-quasardb-{os.getuid()}-{program}-{crc32(hosts.encode()):08x}.sock"
    path = Path(tempfile.gettempdir()) / name
    # The kernel takes no longer ones.
    return path if len(str(path)) < _LONGEST_PATH else Path("/tmp") / name  # noqa: S108 - its owner is checked


def reach_own(hosts: str, until: float) -> socket.socket:
    """Connect to the store of this worker's program; start it if it isn't there."""
    program = os.getppid()
    path = local_path(hosts, program)
    until = min(until, time.monotonic() + _STARTING)
    is_started = False
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            if path.stat().st_uid != os.getuid():
                raise Trouble("refused")
            return greet(connection, until)
        except Trouble:
            connection.close()
            raise
        except OSError:
            connection.close()
        if time.monotonic() >= until:
            raise Trouble("refused")
        if not is_started:
            _launch(path, program)
            is_started = True
        time.sleep(0.005)


def _launch(path: Path, program: int) -> None:
    """Start a process that is no child of this one: it is to stay when this worker goes."""
    bare = {"kvmodel": _PACKAGE, "kvmodel.drivers": _PACKAGE / "drivers", "kvmodel.testing": _PACKAGE / "testing"}
    bare["kvmodel.drivers.quasardb"] = _PACKAGE / "drivers" / "quasardb"
    packages = {name: str(place) for name, place in bare.items()}
    subprocess.run(  # noqa: S603 - this interpreter, and code of ours
        [sys.executable, "-c", _LAUNCH, json.dumps([sys.path, packages, str(path), program])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        timeout=_STARTING,
        check=False,
    )
