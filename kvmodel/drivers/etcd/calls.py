"""Calls: one question and one answer, with all that can go wrong between them.

Rules.

* What was surely not done is sent again, to the next node, until time is up; where no node can be reached at all, for
  about a second.
* A read whose answer was lost is sent again too. A write whose answer was lost never is: it is ``OutcomeUnknown``, and
  so is one that was cancelled, or ran out of time, on its way.
* A read that its node does not answer is sent to the next one after a moment, if there is one.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final, Generic, NamedTuple, TypeVar

import grpc
import grpc.aio

from kvmodel.drivers.etcd.administration import AuthenticateRequest, AuthenticateResponse
from kvmodel.drivers.etcd.endpoints import Endpoint, Endpoints
from kvmodel.drivers.etcd.errors import GARBLED, Fault, Then, fault_of, outcome_unknown
from kvmodel.drivers.etcd.wire import Malformed, Message
from kvmodel.drivers.meter import spend
from kvmodel.errors import AuthenticationFailed, Closed, KvModelError, TimedOut, Unavailable

__all__ = ["Calls", "Method", "pause"]

R = TypeVar("R", bound=Message)

_MOMENT: Final = 1.5
"""How long a node may take to answer a read, or to be connected to, before another one is asked, in seconds."""

_PATIENCE: Final = 1.0
"""How long it is tried again when no node can be reached, in seconds."""

_GRACE: Final = 5.0
"""How long closing waits for writes that are under way, in seconds."""


class Method(NamedTuple, Generic[R]):
    """One call of etcd's API: its path, what it answers, whether it changes anything, whether it is a stream."""

    path: str
    response: type[R]
    writes: bool = False
    streams: bool = False


AUTHENTICATE: Final = Method("/etcdserverpb.Auth/Authenticate", AuthenticateResponse)


class _Failed(Exception):
    """One attempt came to nothing."""

    def __init__(self, fault: Fault, cause: BaseException) -> None:
        super().__init__()
        self.fault = fault
        self.cause = cause


class Calls:
    """Sends calls to a cluster.

    Args:
        endpoints: Its nodes.
        user, password: Who asks; ``None`` where the cluster wants nobody.
        store: The cluster's address, for messages.
    """

    def __init__(self, endpoints: Endpoints, user: str | None, password: str, store: str) -> None:
        self.endpoints = endpoints
        self.store = store
        self._user = user
        self._password = password
        self._token: str | None = None
        self._renewing = asyncio.Lock()
        self._writes: set[asyncio.Future[None]] = set()
        self._is_closed = True

    # --- life ---------------------------------------------------------------------------------------------------------

    async def open(self, until: float) -> None:
        """Make channels, and log in."""
        self.endpoints.open()
        self._is_closed = False
        if self._user is not None:
            await self._log_in(None, until)

    async def close(self) -> None:
        """Wait for the writes that are under way, then close all channels. Closing twice is allowed."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._writes:
            await asyncio.wait(self._writes, timeout=_GRACE)
        await self.endpoints.close()

    def check_open(self) -> None:
        """Raise ``Closed`` unless it is open."""
        if self._is_closed:
            raise Closed("this connection is closed: connect again", store=self.store)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: Method[R],
        request: Message | bytes,
        *,
        until: float,
        node: str | None = None,
        resendable: bool = False,
    ) -> R:
        """Send a request and answer what comes back.

        Args:
            method: What is called.
            request: What is asked, encoded or not.
            until: When it has to be over, on the monotonic clock.
            node: Which node to ask, and no other.
            resendable: Of a write: whether its caller can find out what became of it, and so need not wait for a node
                that does not answer.

        Raises:
            TimedOut: Time ran out for a read, or for a write that was surely not sent.
            OutcomeUnknown: A write was sent, and nobody knows what became of it.
            KvModelError: What the store said.
        """
        data = request if isinstance(request, bytes) else request.encode()
        patience: float | None = None
        last: KvModelError | None = None
        attempt = 0
        while True:
            self.check_open()
            endpoint = self.endpoints.current if node is None else self.endpoints.find(node)
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise last or TimedOut("time ran out before anything was sent: raise the timeout", store=self.store)
            alone = node is not None or len(self.endpoints) == 1
            if not await endpoint.connect(until if alone else min(until, time.monotonic() + _MOMENT)):
                self.check_open()
                patience = patience or time.monotonic() + _PATIENCE
                if time.monotonic() > min(patience, until):
                    raise await self._unreachable(endpoint)
                self._leave(endpoint, node)
                attempt += 1
                await pause(attempt, until)
                continue
            patience = None
            cut = None if alone or (method.writes and not resendable) else _MOMENT * (2 if method.writes else 1)
            try:
                return await self._attempt(endpoint, method, data, until, cut)
            except _Failed as failed:
                last = failed.fault.make(failed.cause, self.store)
                await self._judge(failed, method, endpoint, node, until)
            attempt += 1
            await pause(attempt, until)

    async def _judge(
        self, failed: _Failed, method: Method[R], endpoint: Endpoint, node: str | None, until: float
    ) -> None:
        """Get ready for another attempt, or raise what this one came to."""
        fault, then = failed.fault, failed.fault.then
        if then is Then.RENEW and self._user is not None and method is not AUTHENTICATE:
            if time.monotonic() >= until:
                raise fault.make(failed.cause, self.store)
            await self._log_in(self._token, until)
            return
        self._leave(endpoint, node)
        if method.writes and then in (Then.AGAIN_IF_READ, Then.UNKNOWN_IF_WRITE):
            raise outcome_unknown(self.store) from failed.cause
        again = then in (Then.AGAIN, Then.AGAIN_IF_READ)
        if not again or time.monotonic() >= until:
            raise fault.make(failed.cause, self.store)

    async def _attempt(self, endpoint: Endpoint, method: Method[R], data: bytes, until: float, cut: float | None) -> R:
        """Send once. Raises ``_Failed``, or ``OutcomeUnknown`` for a write that was cancelled."""
        spend(1)
        remaining = max(until - time.monotonic(), 0.001)
        limit = remaining if cut is None else min(remaining, cut)
        under_way: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if method.writes:
            self._writes.add(under_way)
        try:
            exchange = self._converse if method.streams else self._ask
            return method.response.decode(await exchange(endpoint, method.path, data, limit))
        except grpc.aio.AioRpcError as error:
            fault = fault_of(error)
            if fault.error is TimedOut and limit < remaining:
                fault = _SLOW
            raise _Failed(fault, error) from None
        except Malformed as error:
            raise _Failed(GARBLED, error) from None
        except grpc.aio.UsageError:  # It was closed a moment ago, and nothing was sent.
            self.check_open()
            raise
        except asyncio.CancelledError as cancelled:
            if method.writes:
                raise outcome_unknown(self.store) from cancelled
            self._check_cancelled()
            raise
        finally:
            self._writes.discard(under_way)
            under_way.cancel()

    async def _ask(self, endpoint: Endpoint, path: str, data: bytes, limit: float) -> bytes:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = endpoint.channel.unary_unary(path)
        # Logging in with a token that is not known any more would be refused.
        metadata = () if path == AUTHENTICATE.path else self.metadata()
        return await ask(data, timeout=limit, metadata=metadata)

    async def _converse(self, endpoint: Endpoint, path: str, data: bytes, limit: float) -> bytes:
        """Say one thing in a stream, and listen to one answer."""
        converse: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = endpoint.channel.stream_stream(path)
        stream = converse(timeout=limit, metadata=self.metadata())
        try:
            await stream.write(data)
            await stream.done_writing()
            answer = await stream.read()
        finally:
            stream.cancel()
        if not isinstance(answer, bytes):
            raise Malformed("the stream ended without an answer")
        return answer

    def _check_cancelled(self) -> None:
        """Calls are cancelled by closing, too: that is no cancellation of the caller."""
        task = asyncio.current_task()
        if self._is_closed and (task is None or not task.cancelling()):
            self.check_open()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with every call."""
        return () if self._token is None else (("token", self._token),)

    def _leave(self, endpoint: Endpoint, node: str | None) -> None:
        if node is None:
            self.endpoints.leave(endpoint)

    async def _unreachable(self, endpoint: Endpoint) -> KvModelError:
        """Answer the error for a cluster no node of which can be reached, with the library's words for why."""
        try:
            await self._ask(endpoint, "/etcdserverpb.Maintenance/Status", b"", 0.2)
        except grpc.aio.AioRpcError as cause:
            error = Unavailable(
                "no node of the cluster can be reached: check the URL, and whether they run", store=self.store
            )
            error.__cause__ = cause
            return error
        return Unavailable("the cluster could not be reached until just now: try again", store=self.store)

    # --- tokens -------------------------------------------------------------------------------------------------------

    async def renew(self, stale: str | None, until: float) -> bool:
        """Log in again, if a user is given and nobody has since the token went stale. Answers whether that helps."""
        if self._user is None:
            return False
        await self._log_in(stale, until)
        return True

    @property
    def token(self) -> str | None:
        """What proves who asks, at the moment."""
        return self._token

    async def _log_in(self, stale: str | None, until: float) -> None:
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await self._renewing.acquire()
        except TimeoutError as error:
            raise TimedOut("time ran out while logging in: raise the timeout", store=self.store) from error
        try:
            if self._token != stale:
                return
            # Until there is another one, calls go on with the old one: without any they would be refused for good.
            request = AuthenticateRequest(self._user or "", self._password)
            self._token = (await self.call(AUTHENTICATE, request, until=until)).token
        except KvModelError as error:
            said = error.__cause__
            is_off = isinstance(said, grpc.aio.AioRpcError) and "is not enabled" in (said.details() or "")
            if not is_off:
                raise
            self._token = None
        finally:
            self._renewing.release()
        if self._token is None and stale is not None:
            raise AuthenticationFailed("the store gave a token and knows it no more: connect again", store=self.store)


async def pause(attempt: int, until: float) -> None:
    """Wait a little before another attempt, longer and with more jitter each time."""
    longest = min(0.01 * 2 ** min(attempt, 6), 0.3)
    remaining = max(until - time.monotonic(), 0)
    await asyncio.sleep(min(random.uniform(0, longest), remaining))  # noqa: S311 - not a secret


_SLOW: Final = Fault(Unavailable, "the node does not answer: look at it, or try again", Then.AGAIN_IF_READ)
