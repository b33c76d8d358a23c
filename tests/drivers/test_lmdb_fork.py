"""LMDB across a fork."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.drivers.processes import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_SETUP = """
    import asyncio, ctypes, warnings
    from kvmodel.drivers.lmdb import LmdbDriver, registry
    from kvmodel.errors import Closed, KvModelError
    from tests.drivers.rows import NOW, USERS, age, condition, names, put, write

    warnings.simplefilter("ignore", DeprecationWarning)
    loop = asyncio.new_event_loop()
    do = loop.run_until_complete
    driver = LmdbDriver(path)
    do(driver.open())
    do(write(driver, put("ada", 1)))
    peek = driver.peeker(USERS)
    peek(("red", "ada"))

    def refused(function):
        try:
            function()
        except Closed as error:
            return "parent process" in str(error)
        return False

    def check_inherited(do):
        assert refused(lambda: peek(("red", "ada")))
        assert refused(lambda: do(age(driver, "ada")))
        assert refused(lambda: do(names(driver)))
        assert refused(lambda: do(write(driver, put("child"))))
        assert refused(lambda: driver.native)
        do(driver.close())

    def end():
        # The ordinary way, but for the event loop: its own end would take the parent's wake-up pipe away.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))
        sys.exit(0)

    def end_of(child):
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
"""


def test_a_child_may_not_use_what_it_inherited(path: Path) -> None:
    """The child's calls raise Closed; it can open the file for itself; its end does the parent no harm."""
    said = run(
        _SETUP
        + """
    child = os.fork()
    if child == 0:
        do = asyncio.new_event_loop().run_until_complete
        check_inherited(do)
        own = LmdbDriver(path)
        do(own.open())
        do(write(own, put("child", 2)))
        assert {"ada", "child"} <= set(do(names(own)))
        do(own.close())
        end()

    for turn in range(20):
        do(write(driver, put(f"parent{turn:02}", 3)))
        assert peek(("red", "ada")).values["age"] == 1
    tell(end_of(child))
    do(write(driver, put("after", 4)))
    peek(("red", "ada"))
    tell(len(do(names(driver))))
    lines = driver.native.readers().splitlines()[1:]
    tell(sum(str(os.getpid()) in line for line in lines if line.strip()))
    do(driver.close())
    """,
        path,
    )

    assert said.split() == ["0", "23", "1"]


def test_a_child_that_forgets_what_it_inherited(path: Path) -> None:
    """A child that only ends, the ordinary way, takes nothing from the parent."""
    said = run(
        _SETUP
        + """
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            end()
        children.append(child)
    for turn in range(20):
        do(write(driver, put(f"{turn:02}")))
    tell([end_of(child) for child in children])
    tell(len(do(names(driver))))
    do(driver.close())
    """,
        path,
    )

    assert said.splitlines() == ["[0, 0, 0]", "21"]


def test_a_fork_in_the_middle_of_a_write(path: Path) -> None:
    """A child that was forked while the writer thread was inside LMDB can't have the file, says so, and ends."""
    said = run(
        _SETUP
        + """
    registry._FORK_PATIENCE = 0.01
    txn = driver.native.begin(write=True)
    task = loop.create_task(write(driver, put("bob", 2)))
    do(condition(lambda: driver._shared.environment.entering))
    child = os.fork()
    if child == 0:
        do = asyncio.new_event_loop().run_until_complete
        check_inherited(do)
        try:
            do(LmdbDriver(path).open())
        except KvModelError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError
        end()
    tell(end_of(child))
    txn.abort()
    do(task)
    tell(do(names(driver)))
    do(driver.close())
    """,
        path,
    )

    assert said.splitlines() == ["0", "['ada', 'bob']"]


def test_a_fork_while_another_thread_reads(path: Path) -> None:
    """The read transaction of another thread is the parent's: a child does not end it, and can't have the file."""
    said = run(
        _SETUP
        + """
    import threading
    inside, done = threading.Event(), threading.Event()

    def read(view):
        inside.set()
        return done.wait(20)

    async def main():
        mine = LmdbDriver(path)
        await mine.open()
        mine.look(read)
        await mine.close()

    def active():
        lines = driver.native.readers().splitlines()[1:]
        return [line.split()[0] for line in lines if line.split()[-1] != "-"]

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        do = asyncio.new_event_loop().run_until_complete
        check_inherited(do)
        try:
            do(LmdbDriver(path).open())
        except KvModelError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError
        end()
    tell(end_of(child))
    tell(active() == [str(os.getpid())])
    done.set()
    thread.join()
    do(write(driver, put("bob", 2)))
    tell(do(names(driver)))
    do(driver.close())
    """,
        path,
    )

    assert said.splitlines() == ["0", "True", "['ada', 'bob']"]
