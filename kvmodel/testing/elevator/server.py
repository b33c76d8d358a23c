"""The emulator's server: a thread with a ROUTER socket, workers that can be lost, and faults to order."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final

import attrs
import msgpack
import zmq

from kvmodel.drivers.elevator.protocol import Malformed, Reply, Request, decode_request, encode_reply
from kvmodel.testing.elevator.quirks import Quirks
from kvmodel.testing.elevator.store import Silent, Storage

__all__ = ["ElevatorServer"]

_WAKE: Final = b"wake"


@attrs.define
class _Faults:
    """What goes wrong next. Each is used up by the requests that it befalls."""

    swallow: int = 0
    repeat: int = 0
    late: deque[float] = attrs.Factory(deque)
    replies: deque[list[bytes]] = attrs.Factory(deque)


class ElevatorServer:
    """A server on loopback, for the length of a ``with`` block or from :meth:`start` to :meth:`stop`.

    Args:
        endpoint: Where it listens; a port of 0 is one that is free.
        workers: How many workers it has.
        quirks: How it behaves.
        storage: What it serves; left out, one database, which is empty.

    Attributes:
        commands: The commands of all requests that came, the swallowed ones too.
        lost_workers: How many workers are gone.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:0",
        *,
        workers: int = 4,
        quirks: Quirks | None = None,
        storage: Storage | None = None,
    ) -> None:
        self.storage = storage or Storage(quirks)
        self.quirks = self.storage.quirks
        self.endpoint = endpoint
        self.commands: list[str] = []
        self._workers = [True] * workers
        self._turn = itertools.cycle(range(workers))
        self._faults = _Faults()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._frozen = False
        self._order = itertools.count()
        self._due: list[tuple[float, int, bytes, list[bytes]]] = []
        self._mounting: dict[bytes, float] = {}

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What to connect to."""
        scheme, _, rest = self.endpoint.partition("://")
        return f"elevator://{rest}" if scheme == "tcp" else f"elevator+ipc://{rest.replace('/', '%2F')}"

    @property
    def lost_workers(self) -> int:
        """How many workers are gone."""
        return self._workers.count(False)

    def start(self) -> None:
        """Listen. When this returns, requests are answered."""
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.setsockopt(zmq.IPV6, int("[" in self.endpoint))
        self._bind()
        self._waker, self._wakened = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._wakened.bind("inproc://wake")
        self._waker.connect("inproc://wake")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="elevator", daemon=True)
        self._thread.start()

    def _bind(self) -> None:
        """Listen, at the same place as before if there was one: its last connections may still be on their way out."""
        until = time.monotonic() + 5
        while True:
            try:
                self._router.bind(self.endpoint)
                break
            except zmq.ZMQError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        bound = self._router.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.rstrip(b"\0").decode()

    def stop(self) -> None:
        """Go, without a farewell."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._lock:
            self._stopping = True
            self._waker.send(_WAKE)
        thread.join()
        for socket in (self._router, self._waker, self._wakened):
            socket.close(0)
        self._context.term()
        self._due.clear()

    def restart(self) -> None:
        """Stop, and start again at the same place, on the same files, with all workers."""
        self.stop()
        self.storage.restart()
        self._workers = [True] * len(self._workers)
        self.start()

    def __enter__(self) -> ElevatorServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- faults -------------------------------------------------------------------------------------------------------

    def swallow(self, count: int = 1) -> None:
        """Take the next requests, and neither do nor answer them."""
        with self._lock:
            self._faults.swallow += count

    def delay(self, *seconds: float) -> None:
        """Answer the next requests, which are done at once, so much later."""
        with self._lock:
            self._faults.late.extend(seconds)

    def answer_with(self, *replies: Iterable[bytes]) -> None:
        """Answer the next requests, which are done, with these frames instead."""
        with self._lock:
            self._faults.replies.extend(list(frames) for frames in replies)

    def repeat(self, count: int = 1) -> None:
        """Send the next answers twice."""
        with self._lock:
            self._faults.repeat += count

    def freeze(self) -> None:
        """Take nothing more, until :meth:`thaw`: what comes is kept, and done then."""
        with self._lock:
            self._frozen = True

    def thaw(self) -> None:
        """Do what was kept, and go on."""
        with self._lock:
            self._frozen = False
            self._waker.send(_WAKE)

    def lose_workers(self, count: int) -> None:
        """Lose so many workers."""
        with self._lock:
            for number in range(count):
                self._workers[number] = False

    def forget_faults(self) -> None:
        """Let nothing go wrong any more, and have all workers again."""
        with self._lock:
            self._faults = _Faults()
            self._workers = [True] * len(self._workers)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wakened, zmq.POLLIN)
        while True:
            poller.register(self._router, 0 if self._frozen else zmq.POLLIN)
            ready = dict(poller.poll(self._patience()))
            with self._lock:
                if self._wakened in ready:
                    self._wakened.recv()
                if self._stopping:
                    return
                if not self._frozen:
                    self._take_all()
                self._send_due()

    def _patience(self) -> int | None:
        """Milliseconds until something is due."""
        return int(max(self._due[0][0] - time.monotonic(), 0) * 1000) + 1 if self._due else None

    def _take_all(self) -> None:
        replies: list[tuple[bytes, list[bytes], float]] = []
        while True:
            try:
                identity, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            answer = self._handle(frames)
            if answer is not None:
                replies += [(identity, *answer)] * (2 if self._faults.repeat else 1)
                self._faults.repeat = max(self._faults.repeat - 1, 0)
        if self.quirks.out_of_order:
            replies.reverse()
        for identity, reply, seconds in replies:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), identity, reply))

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, identity, reply = heapq.heappop(self._due)
            self._router.send_multipart([identity, *reply])

    def _handle(self, frames: Sequence[bytes]) -> tuple[list[bytes], float] | None:
        """Answer the frames of a reply and how late it is to be, ``None`` for silence."""
        worker = next(self._turn)
        try:
            request = decode_request(frames)
            self.commands.append(_name(request))
            if not self._workers[worker]:
                return None
            if self._faults.swallow:
                self._faults.swallow -= 1
                return None
            seconds = self._mount(request)
            reply = self.storage.answer(request)
        except (Malformed, Silent):
            if self.quirks.lose_workers:
                self._workers[worker] = False
            return None
        late = self._faults.late.popleft() if self._faults.late else 0.0
        other = self._faults.replies.popleft() if self._faults.replies else None
        return other or self._encode(reply), seconds + late

    def _mount(self, request: Request) -> float:
        """Mount or make what has to be. Who comes in the middle of that falls over it."""
        now, span = time.monotonic(), self.quirks.mount_seconds
        what, is_ready = self.storage.concerns(request)
        if what is None or not span:
            return 0
        if self._mounting.get(what, 0) > now:
            raise Silent
        if is_ready:
            return 0
        self._mounting[what] = now + span
        return span

    def _encode(self, reply: Reply) -> list[bytes]:
        frames = encode_reply(reply)
        if self.quirks.new_msgpack:
            frames[1] = msgpack.packb({"datas": reply.data}) or b""
        return frames


def _name(request: Request) -> str:
    return request.command.decode(errors="replace") if isinstance(request.command, bytes) else repr(request.command)
