"""Server processes that outlive nobody.

On Linux the kernel kills such a process when the program that started it ends, in whatever way. What asks the kernel
for that runs in the new process, before it becomes the server, and not between fork and exec of the program: libraries
that watch for forks may lock up there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

__all__ = ["start_child"]

# The kernel takes the thread that started a process for its parent: this one lives as long as the program.
_launcher = ThreadPoolExecutor(1, "kvmodel-launcher")

_TIED = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def start_child(
    command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that signals of the terminal do not reach it.

    Args:
        command: The program's full path, and its arguments.
        log: Where what it prints goes.
        environment: Its environment; this program's own if none is given.
    """
    return _launcher.submit(_start, command, log, environment).result()


def _start(command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    tied = [sys.executable, "-I", "-S", "-c", _TIED] if sys.platform == "linux" else []
    return subprocess.Popen(  # noqa: S603 - a server's own program
        [*tied, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    )
