"""Watches that outlive their nodes: they go on where they were, without losing or repeating anything.

Theory of operation. Changes have revisions, the same on every node, and those of one revision come in the same order
each time. So a place in the changes of a range is a revision, and how many of its changes were told; when all were, it
is the revision behind. A stream that breaks is followed by another one, on the next node, from there on, and what was
told is left out.

It begins one revision early. A compaction keeps its own revision readable, but servers as late as 3.4.23 drop
the deletions of that revision; so only where the one before it can be read too is nothing missing, and the server
itself sees to that.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final, NamedTuple, Self

import attrs

from kvmodel.drivers.etcd.calls import Calls, pause
from kvmodel.drivers.etcd.commands import RANGE
from kvmodel.drivers.etcd.errors import Then
from kvmodel.drivers.etcd.messages import Event, RangeRequest, WatchCreateRequest, WatchResponse
from kvmodel.drivers.etcd.streams import REFUSED, Broken, WatchStream
from kvmodel.errors import (
    AuthenticationFailed,
    Closed,
    NotFound,
    StoreError,
    TimedOut,
    Unavailable,
    ValidationError,
    WatchLost,
)

__all__ = ["EtcdWatch", "Place", "Told"]

RETRIES: Final = 60.0
"""How long a broken watch is tried to be put in place again before its reader is told, in seconds."""

_MOMENT: Final = 3.0


class Place(NamedTuple):
    """How far a watch is: everything before a revision was told, and so many of the revision's own changes."""

    revision: int
    told: int = 0

    @property
    def text(self) -> str:
        """The place as text."""
        return f"{self.revision}.{self.told}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read it back. Raises ``ValidationError``."""
        revision, _, told = text.partition(".")
        if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (revision, told)):
            raise ValidationError("this position is none of this store's: read again, then watch without position=")
        return cls(int(revision), int(told))


class Told(NamedTuple):
    """A change, and where to go on behind it."""

    event: Event
    place: Place


class EtcdWatch:
    """The changes of a range: ``async with client.watch(...) as changes: async for event in changes: ...``.

    It is in place when the block is entered. Cancelling a step loses nothing. After ``Unavailable`` the next step tries
    again, where it was.

    Attributes:
        place: Where to go on behind what was given out: ``client.watch(..., place=...)``.
    """

    def __init__(self, calls: Calls, request: WatchCreateRequest, place: Place | None, timeout: float) -> None:
        self._calls = calls
        self._request = request
        self._timeout = timeout
        self.place = place or Place(0)
        self._knows_place = place is not None
        self._at = self.place
        self._skip = 0
        self._is_fresh = False
        self._stream: WatchStream | None = None
        self._waiting: deque[Told] = deque()
        self._is_closed = False

    # --- its life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open(time.monotonic() + self._timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self, until: float) -> None:
        """Put it in place.

        Raises:
            WatchLost: The store has forgotten the changes from there on.
            Unavailable: No node can be reached.
            TimedOut: None answered in time.
        """
        # A node may lag behind: its own idea of now could be a while ago.
        now = await self._revision(0, until)
        if not self._knows_place:
            self.place = self._at = Place(now + 1)
            self._knows_place = self._is_fresh = True
        elif self._at.revision > now + 1:
            raise WatchLost(
                "the store has not come to this position yet, so it is another one, or was restored from a copy: read "
                "again, then watch from now",
                store=self._store,
            )
        else:
            await self._revision(self._begins, until)
        await self._connect(until)

    async def _revision(self, at: int, until: float) -> int:
        """Answer the store's revision. Raises ``WatchLost`` where ``at`` has been forgotten."""
        request = RangeRequest(self._request.key, count_only=True, revision=at)
        try:
            answer = await self._calls.call(RANGE, request, until=until)
        except NotFound as error:
            raise self._lost() from error
        assert answer.header is not None
        return answer.header.revision

    async def close(self) -> None:
        """End it. Who waits for its next change gets ``Closed``."""
        self._is_closed = True
        self._waiting.clear()
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    # --- changes ------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            self._waiting.extend(await self._read())
            if not self._waiting:
                self.place = self._at
        event, self.place = self._waiting.popleft()
        return event

    async def next(self) -> list[Told]:
        """Wait for changes, and answer all that came; none when only :attr:`place` has moved on."""
        if not self._waiting:
            self._waiting.extend(await self._read())
        told = list(self._waiting)
        self._waiting.clear()
        self.place = self._at
        return told

    async def _read(self) -> list[Told]:
        self._check_open()
        if self._stream is None:
            await self._connect(time.monotonic() + RETRIES)
        while True:
            stream = self._stream
            self._check_open()
            assert stream is not None
            try:
                response = await stream.read()
            except Broken as broken:
                self._check_open()
                await self._drop(stream)
                self._judge(broken)
                await self._connect(time.monotonic() + RETRIES)
                continue
            self._check_open()
            if response.canceled:
                await self._drop(stream)
                self._refuse(response)
                await self._connect(time.monotonic() + RETRIES)
                continue
            return self._take(response)

    def _take(self, response: WatchResponse) -> list[Told]:
        """Move on, and leave out what was told before."""
        fresh: list[Told] = []
        revisions = [event.kv.mod_revision for event in response.events if event.kv]
        # A revision comes whole, unless the answer is a fragment: then its last one may go on in the next fragment.
        following = [*revisions[1:], revisions[-1] if revisions and response.fragment else 0]
        for event, revision, next_one in zip(response.events, revisions, following, strict=False):
            if revision < self._at.revision:
                continue
            is_known = self._skip > 0 and revision == self._at.revision
            self._skip = self._skip - 1 if is_known else 0
            if not is_known:
                self._at = Place(revision, self._at.told + 1 if revision == self._at.revision else 1)
            if next_one != revision:
                self._skip, self._at = 0, Place(revision + 1)
            if not is_known:
                fresh.append(Told(event, self._at))
        if not response.events and response.header is not None and response.header.revision >= self._at.revision:
            self._skip = 0
            self._at = Place(response.header.revision + 1)
        return fresh

    @property
    def _begins(self) -> int:
        """The revision that a stream begins with."""
        return self._at.revision if self._is_fresh else max(self._at.revision - 1, 1)

    # --- streams ------------------------------------------------------------------------------------------------------

    async def _connect(self, until: float) -> None:
        """Put the watch in place on a node that lives."""
        endpoints = self._calls.endpoints
        attempt = 0
        renewed = False
        problem: BaseException | None = None
        while True:
            self._check_open()
            endpoint = endpoints.current
            moment = min(until, time.monotonic() + _MOMENT)
            if await endpoint.connect(moment):
                request = attrs.evolve(self._request, start_revision=self._begins)
                token = self._calls.token
                stream = WatchStream(endpoint, self._calls.metadata(), request)
                try:
                    response = await stream.begin(max(moment - time.monotonic(), 0.1))
                    if response.canceled and not renewed and await self._calls.renew(token, until):
                        # A token that is not known any more is told as if the user were not allowed.
                        renewed = True
                        await stream.close()
                        continue
                    if response.canceled:
                        self._refuse(response)
                        raise Broken(REFUSED, ConnectionError(response.cancel_reason))
                except Broken as broken:
                    problem = broken.cause
                    await stream.close()
                    self._check_open()
                    if not await self._renewed(broken, token, until):
                        self._judge(broken)
                except BaseException:
                    await stream.close()
                    raise
                else:
                    self._stream = stream
                    self._skip = self._at.told
                    self._is_fresh = False
                    return
            endpoints.leave(endpoint)
            attempt += 1
            if time.monotonic() >= until:
                error = Unavailable("no node of the cluster could be reached to watch: try again", store=self._store)
                raise error from problem
            await pause(attempt, until)

    async def _renewed(self, broken: Broken, token: str | None, until: float) -> bool:
        return broken.fault.then is Then.RENEW and await self._calls.renew(token, until)

    async def _drop(self, stream: WatchStream) -> None:
        self._stream = None
        self._calls.endpoints.leave(stream.endpoint)
        await stream.close()

    def _judge(self, broken: Broken) -> None:
        """Raise what a stream came to, unless another one may do better."""
        if broken.fault.then in (Then.AGAIN, Then.AGAIN_IF_READ, Then.RENEW):
            return
        error = broken.fault.make(broken.cause or ConnectionError("the stream ended"), self._store)
        if isinstance(error, StoreError) and not isinstance(error, AuthenticationFailed | TimedOut):
            return
        raise error

    def _refuse(self, response: WatchResponse) -> None:
        """Raise why the store ended a watch, unless it may be put in place again."""
        if response.compact_revision:
            raise self._lost()
        if "permission denied" in response.cancel_reason:
            raise AuthenticationFailed(
                "this user may not watch these keys: grant it a role that may", store=self._store
            ) from ConnectionError(response.cancel_reason)

    def _lost(self) -> WatchLost:
        return WatchLost(
            "the store has forgotten the changes since this position: read again, then watch from now",
            store=self._store,
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this watch is closed: begin another one", store=self._store)
        self._calls.check_open()

    @property
    def _store(self) -> str:
        return self._calls.store
