"""Worker processes: they hold up nobody, are killed when late, restarted when dead, and end with the program."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.drivers.quasardb import QuasardbClient
from kvmodel.drivers.quasardb.process import Worker
from kvmodel.testing.quasardb.own import local_path
from kvmodel.testing.quasardb.server import LocalServer, Mishap
from tests.drivers.quasardb.conftest import SERVED, client_of
from tests.drivers.quasardb.peers import Peer, closed_port

HAS_PACKAGE = importlib.util.find_spec("quasardb") is not None
needs_package = pytest.mark.skipif(not HAS_PACKAGE, reason="the vendor's package is not installed: kvmodel[quasardb]")
OWN = "kvmodel.testing.quasardb"


async def until(condition: object, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Ticker:
    """Ticks every few milliseconds, and remembers the longest gap."""

    def __init__(self) -> None:
        self.ticks = 0
        self.longest = 0.0

    async def run(self) -> None:
        """Tick until cancelled."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now
            self.ticks += 1

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


# --- the loop keeps running -------------------------------------------------------------------------------------------


@needs_package
async def test_the_loop_ticks_while_the_package_waits_for_a_silent_server() -> None:
    """The real package holds its interpreter's lock for the whole second; nothing here stands still."""
    with Peer("silent") as peer:
        client = QuasardbClient(f"127.0.0.1:{peer.port}", library_timeout=1, connect_timeout=20)
        began = time.monotonic()
        async with Ticker() as ticker:
            with pytest.raises(kv.Unavailable):
                await client.open()
        took = time.monotonic() - began
        await client.close()

    assert took > 0.9  # It did wait.
    assert ticker.ticks > 40
    assert ticker.longest < 0.5


@needs_package
async def test_a_worker_that_waits_for_a_silent_server_is_killed_at_the_deadline() -> None:
    """Though the package would wait for a minute, with the lock held."""
    with Peer("silent") as peer:
        client = QuasardbClient(f"127.0.0.1:{peer.port}", library_timeout=60, connect_timeout=2)
        began = time.monotonic()
        async with Ticker() as ticker:
            opening = asyncio.create_task(client.open())
            await until(lambda: peer.accepted)
            with pytest.raises(kv.Unavailable):
                await opening
        took = time.monotonic() - began
        await client.close()

    assert took < 10
    assert ticker.longest < 0.5


@needs_package
async def test_the_package_is_refused_at_once() -> None:
    """Nobody listens: ``Unavailable``, through a worker with the real package."""
    with pytest.raises(kv.Unavailable) as caught:
        await kv.connect(f"qdb://127.0.0.1:{closed_port()}")

    assert "qdb_connect" in str(caught.value.__cause__)


async def test_the_loop_ticks_while_the_stand_in_holds_the_lock(server: LocalServer) -> None:
    """The same for a call: the worker's interpreter stands still for half a second, this one does not."""
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        server.mishaps.append(Mishap(hold=0.5))
        began = time.monotonic()
        async with Ticker() as ticker:
            assert await client.get("k") == b"x"

    assert time.monotonic() - began > 0.45
    assert ticker.longest < 0.4


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_a_late_read_is_timed_out_and_its_worker_killed(server: LocalServer) -> None:
    """``TimedOut``; the process is gone, and the next call gets another one."""
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        (pid,) = client.worker_pids
        client.timeout = 0.3
        server.mishaps.append(Mishap(hold=30))
        began = time.monotonic()
        with pytest.raises(kv.TimedOut):
            await client.get("k")
        assert time.monotonic() - began < 1.8  # Left alone, the worker would end itself after two seconds more.
        assert client.worker_pids == []
        await until(lambda: not is_alive(pid))
        client.timeout = 10
        assert await client.get("k") == b"x"
        assert client.worker_pids != [pid]


async def test_a_late_worker_ends_itself_if_nobody_does(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is stopped kills nobody: a timer in the worker's kernel does, whoever holds the lock."""
    monkeypatch.setattr(Worker, "_expire", lambda self: None)
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        (pid,) = client.worker_pids
        client.timeout = 0.2
        server.mishaps.append(Mishap(hold=60))
        with pytest.raises(kv.OutcomeUnknown):
            await client.update("k", b"y")
        await until(lambda: not is_alive(pid))


async def test_a_late_write_is_unknown(server: LocalServer) -> None:
    """It was done in fact, and nobody can know: never ``TimedOut``, which says that nothing was sent."""
    async with client_of(server, workers=1) as client:
        client.timeout = 0.5
        server.mishaps.append(Mishap(hold=30))
        with pytest.raises(kv.OutcomeUnknown):
            await client.put("k", b"x")
        client.timeout = 10
        assert await client.get("k") == b"x"


async def test_waiting_for_a_busy_worker_ends_too(server: LocalServer) -> None:
    """What was not sent is ``TimedOut``, a write as well."""
    async with client_of(server, workers=1) as client:
        server.mishaps.append(Mishap(hold=1.5))
        slow = asyncio.create_task(client.update("a", b"1"))
        await until(lambda: server.calls)
        client.timeout = 0.2
        with pytest.raises(kv.TimedOut):
            await client.update("b", b"2")
        await slow
        client.timeout = 10
        assert not await client.exists("b")


async def test_a_stopped_worker_is_killed(server: LocalServer) -> None:
    """Not even one that can't run any more outlives the deadline of its call."""
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        (pid,) = client.worker_pids
        os.kill(pid, signal.SIGSTOP)
        client.timeout = 0.3
        with pytest.raises(kv.TimedOut):
            await client.get("k")
        await until(lambda: not is_alive(pid))


# --- order, concurrency, cancellation ---------------------------------------------------------------------------------


async def test_calls_on_one_key_are_carried_out_in_order(server: LocalServer) -> None:
    """However many workers there are, and whoever waits."""
    async with client_of(server, workers=3) as client:
        keys = [f"k{number}" for number in range(6)]
        await asyncio.gather(*(client.update(key, b"%d" % turn) for turn in range(20) for key in keys))
        assert await client.get_many(keys) == [b"19"] * 6
        assert 1 < len(client.worker_pids) <= 3


async def test_a_key_always_has_the_same_worker_and_others_run_beside(server: LocalServer) -> None:
    """A call that hangs holds up its own worker's keys, no others."""
    async with client_of(server, workers=2) as client:
        lanes: dict[int, str] = {}
        for number in range(50):
            lanes.setdefault(client._pool.lane_of(f"k{number}"), f"k{number}")
        one, other = lanes[0], lanes[1]
        await client.put(other, b"x")
        server.mishaps.append(Mishap(hold=1.0))
        slow = asyncio.create_task(client.update(one, b"1"))
        await until(lambda: server.calls[-1:] == ["update"])
        assert await client.get(other) == b"x"
        assert not slow.done()
        await slow


async def test_a_cancelled_read_leaves_nothing_behind(server: LocalServer) -> None:
    """Its reply is dropped when it comes, and is nobody else's."""
    async with client_of(server, workers=1) as client:
        await client.put("a", b"a")
        await client.put("b", b"b")
        server.mishaps.append(Mishap(hold=0.3))
        reading = asyncio.create_task(client.get("a"))
        await until(lambda: server.calls[-1:] == ["get"])
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        (pid,) = client.worker_pids
        assert await client.get("b") == b"b"
        assert client.worker_pids == [pid]


async def test_a_cancelled_write_is_unknown(server: LocalServer) -> None:
    """It is on its way, and the caller is to know that."""
    async with client_of(server, workers=1) as client:
        server.mishaps.append(Mishap(hold=0.3))
        writing = asyncio.create_task(client.put("a", b"a"))
        await until(lambda: server.calls)
        writing.cancel()
        with pytest.raises(kv.OutcomeUnknown):
            await writing
        assert await client.get("a") == b"a"


async def test_a_cancelled_batch_ends_there(server: LocalServer) -> None:
    """What was under way is of unknown outcome; what comes behind it is not begun."""
    async with client_of(server, workers=1) as client:
        server.mishaps.append(Mishap(hold=0.3))
        batch = asyncio.create_task(client.run_batch([("put", "a", b"a"), ("put", "b", b"b")]))
        await until(lambda: server.calls)
        batch.cancel()
        with pytest.raises(kv.OutcomeUnknown):
            await batch
        assert await client.get_many(["a", "b"]) == [b"a", None]


async def test_what_cannot_be_encoded_leaves_the_worker_free(server: LocalServer) -> None:
    """The call fails, and the next one is carried out by the same worker."""
    async with client_of(server, workers=1) as client:
        pids = client.worker_pids
        with pytest.raises(OverflowError):
            await client.call("put_integer", "n", 1 << 70, key="n", until=time.monotonic() + 5)
        await client.put_integer("n", 1)
        assert client.worker_pids == pids


async def test_who_waits_in_the_queue_may_be_cancelled(server: LocalServer) -> None:
    """Nothing was sent for him, and those behind him get their turn."""
    async with client_of(server, workers=1) as client:
        server.mishaps.append(Mishap(hold=0.3))
        first = asyncio.create_task(client.update("a", b"1"))
        await until(lambda: server.calls)
        second, third = (asyncio.create_task(client.update("a", value)) for value in (b"2", b"3"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await asyncio.gather(first, third)
        assert server.calls == ["update", "update"]


# --- death ------------------------------------------------------------------------------------------------------------


async def test_a_worker_killed_in_mid_call(server: LocalServer) -> None:
    """A read is asked again of another worker; a write is unknown."""
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        for call, result in ((client.get, b"x"), (lambda key: client.update(key, b"y"), kv.OutcomeUnknown)):
            (pid,) = client.worker_pids
            count = len(server.calls)
            server.mishaps.append(Mishap(hold=30))
            asked = asyncio.ensure_future(call("k"))
            await until(lambda count=count: len(server.calls) > count)
            os.kill(pid, signal.SIGKILL)
            if result is kv.OutcomeUnknown:
                with pytest.raises(kv.OutcomeUnknown):
                    await asked
            else:
                assert await asked == result
        assert await client.get("k") == b"y"


async def test_a_worker_killed_between_calls_is_replaced(server: LocalServer) -> None:
    """Nobody notices."""
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        (pid,) = client.worker_pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: client.worker_pids == [])
        await client.update("k", b"y")
        assert await client.get("k") == b"y"


async def test_a_worker_that_talks_nonsense_is_killed(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ProtocolError`` for a read; the process is not used again."""
    async with client_of(server, workers=1) as client:
        await client.put("k", b"x")
        (pid,) = client.worker_pids
        received = Worker.data_received
        monkeypatch.setattr(Worker, "data_received", lambda self, data: received(self, b"\0\0\0\2\x91\x07"))
        with pytest.raises(kv.ProtocolError):
            await client.get("k")
        monkeypatch.undo()
        await until(lambda: not is_alive(pid))
        assert await client.get("k") == b"x"


async def test_a_library_that_is_missing_says_what_to_install(server: LocalServer) -> None:
    """The package is an extra; so it is told by the worker, not by a traceback."""
    client = QuasardbClient(server.address, library="no_such_library_here")
    with pytest.raises(kv.Unsupported, match=r"kvmodel\[quasardb\]"):
        await client.open()
    await client.close()


async def test_a_library_that_breaks_at_once(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ends before it is connected is no riddle."""
    (tmp_path / "breaking_library.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    client = QuasardbClient(server.address, library="breaking_library")
    with pytest.raises(kv.Unavailable):
        await client.open()
    assert client.worker_pids == []
    await client.close()


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_closing_ends_all_workers(server: LocalServer) -> None:
    """What is under way is finished first; afterwards there is no process, and every call says so."""
    client = client_of(server, workers=2)
    await client.open()
    await asyncio.gather(*(client.update(f"k{number}", b"x") for number in range(10)))
    pids = client.worker_pids
    server.mishaps.append(Mishap(hold=0.2))
    writing = asyncio.create_task(client.update("last", b"x"))
    await until(lambda: len(server.calls) > 10)

    await client.close()
    await client.close()

    await writing
    assert len(pids) == 2
    assert [pid for pid in pids if is_alive(pid)] == []
    with pytest.raises(kv.Closed):
        await client.get("k1")
    await until(lambda: server.connections == 0)


_PROGRAM = """
import asyncio, sys
from kvmodel.drivers.quasardb import QuasardbClient

async def main():
    client = QuasardbClient(sys.argv[1], library=sys.argv[2], connect_timeout=60, library_timeout=60, workers=1)
    try:
        await client.open()
    finally:
        await client.update("k", b"x")
        print(*client.worker_pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def program_of(hosts: str, library: str) -> subprocess.Popen[bytes]:
    """Start a program with one worker; it says which."""
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, hosts, library], stdout=subprocess.PIPE)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text(encoding="ascii").split()]
    return found


async def test_idle_workers_end_when_the_program_is_killed(server: LocalServer) -> None:
    """Killed with signal 9, it can't tell anybody: the socket does."""
    with program_of(server.address, SERVED) as program:
        assert program.stdout is not None
        pid = int(await asyncio.to_thread(program.stdout.readline))
        assert is_alive(pid)
        program.kill()
    await until(lambda: not is_alive(pid))


@needs_package
async def test_busy_workers_end_when_the_program_is_killed() -> None:
    """In the middle of a call of the real package that holds the lock for a minute: the kernel ends the worker."""
    with Peer("silent") as peer:
        with program_of(f"127.0.0.1:{peer.port}", "quasardb") as program:
            await until(lambda: peer.accepted)
            (pid,) = children(program.pid)
            program.kill()
        await until(lambda: not is_alive(pid), 10)


# --- a store of the program's own -------------------------------------------------------------------------------------


async def test_the_stand_in_needs_no_server() -> None:
    """Its data is shared by the workers of a program, and by its connections, for as long as it runs."""
    url = f"qdb://db1:2836,db2:2837?library={OWN}&workers=3"
    async with kv.connect(url) as db:
        client = db.native
        assert isinstance(client, QuasardbClient)
        keys = [f"own{number}" for number in range(12)]
        for key in keys:
            await client.update(key, key.encode())
        assert len(client.worker_pids) > 1
        assert await client.prefix_get("own") == sorted(keys)
        for pid in client.worker_pids:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: client.worker_pids == [])
        assert await client.get_many(keys) == [key.encode() for key in keys]
    async with kv.connect(url) as db:
        assert isinstance(db.native, QuasardbClient)
        assert await db.native.prefix_count("own") == 12
    async with kv.connect(f"qdb://elsewhere?library={OWN}") as db:
        assert isinstance(db.native, QuasardbClient)
        assert await db.native.prefix_count("own") == 0


async def test_a_programs_own_store_ends_with_it() -> None:
    """Its socket goes too."""
    with program_of("db1", OWN) as program:
        assert program.stdout is not None
        await asyncio.to_thread(program.stdout.readline)
        path = local_path("db1:2836", program.pid)
        assert path.exists()
        program.kill()
    await until(lambda: not path.exists())


async def test_a_server_that_was_stopped_is_refused(server: LocalServer) -> None:
    """The stand-in for a server started by hand never makes a store of its own."""
    server.stop()
    with pytest.raises(kv.Unavailable):
        await kv.connect(server.url)
