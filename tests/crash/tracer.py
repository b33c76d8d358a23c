"""Watch another program's writes and syncs from outside, by ptrace: ``python tracer.py PROGRAM ARGUMENT...``

Prints a line of JSON for every call that writes to or syncs a file, when it has ended, and for every write to standard
output, when it begins. Needs Linux 5.3, and nothing installed: that is why it is not strace. Ends with 77 where the
system does not let a process trace its own child.

Rules. Every thread of the program is traced. What a file descriptor leads to is asked of /proc while the program stands
still. Signals are passed on.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
from pathlib import Path

UNAVAILABLE = 77

TRACE_ME, SYSCALL, SET_OPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
SYSGOOD, FORK, VFORK, CLONE, EXIT_KILL = 0x1, 0x2, 0x4, 0x8, 0x100000
WALL = 0x40000000
ENTRY, EXIT = 1, 2
DSYNC = 0o10000

CALLS = {
    "x86_64": {1: "write", 18: "pwrite", 20: "writev", 296: "pwritev", 26: "msync", 74: "fsync", 75: "fdatasync"},
    "aarch64": {64: "write", 68: "pwrite", 66: "writev", 70: "pwritev", 227: "msync", 82: "fsync", 83: "fdatasync"},
}


class SyscallInfo(ctypes.Structure):
    """What the kernel says of a stop: the call and its arguments, or its result."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("number_or_result", ctypes.c_int64),
        ("arguments", ctypes.c_uint64 * 6),
    )


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    """Make a request. Raises ``OSError``."""
    ctypes.set_errno(0)
    result: int = libc.ptrace(request, pid, address, data)
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def report(**facts: object) -> None:
    """Print one line."""
    print(json.dumps(facts))


class Tracer:
    """Follows all threads of one program."""

    def __init__(self, calls: dict[int, str]) -> None:
        self.calls = calls
        self.pending: dict[int, dict[str, object]] = {}
        self.known: set[int] = set()

    def run(self, command: list[str]) -> int:
        """Run a program to its end, and answer its exit status."""
        child = os.fork()
        if child == 0:
            try:
                ptrace(TRACE_ME, 0)
                os.execvp(command[0], command)
            finally:
                os._exit(UNAVAILABLE)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        self.known.add(child)
        ptrace(SET_OPTIONS, child, 0, SYSGOOD | FORK | VFORK | CLONE | EXIT_KILL)
        ptrace(SYSCALL, child)
        return self._follow(child)

    def _follow(self, child: int) -> int:
        while True:
            thread, status = os.waitpid(-1, WALL)
            if not os.WIFSTOPPED(status):
                if thread == child:
                    return os.waitstatus_to_exitcode(status)
                continue
            passed = self._stopped(thread, os.WSTOPSIG(status), status >> 16)
            try:
                ptrace(SYSCALL, thread, 0, passed)
            except ProcessLookupError:
                continue  # It was killed meanwhile.

    def _stopped(self, thread: int, number: int, event: int) -> int:
        """Handle a stop; answer the signal to pass on."""
        if number == signal.SIGTRAP | 0x80:
            self._call(thread)
            return 0
        is_new = thread not in self.known
        self.known.add(thread)
        if event or (is_new and number == signal.SIGSTOP):
            return 0
        return number

    def _call(self, thread: int) -> None:
        info = SyscallInfo()
        ptrace(GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op == ENTRY:
            name = self.calls.get(info.number_or_result)
            if name is not None:
                self._begins(thread, name, info.arguments[0])
        elif info.op == EXIT and thread in self.pending:
            report(**self.pending.pop(thread), result=info.number_or_result)

    def _begins(self, thread: int, name: str, descriptor: int) -> None:
        if name == "write" and descriptor == 1:
            report(call="say")
            return
        facts: dict[str, object] = {"call": name}
        if name != "msync":
            facts["path"] = str(Path(f"/proc/{thread}/fd/{descriptor}").readlink())
            facts["dsync"] = bool(self._flags(thread, descriptor) & DSYNC)
        self.pending[thread] = facts

    def _flags(self, thread: int, descriptor: int) -> int:
        lines = Path(f"/proc/{thread}/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))


def main() -> int:
    """Trace the program that the command line names."""
    calls = CALLS.get(platform.machine())
    if calls is None or not sys.platform.startswith("linux"):
        return UNAVAILABLE
    sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]
    # The program keeps its own standard output for itself: what it says is only counted here.
    report_to, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    sys.stdout = os.fdopen(report_to, "w", encoding="ascii")
    try:
        return Tracer(calls).run(sys.argv[1:])
    except OSError:
        return UNAVAILABLE
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
