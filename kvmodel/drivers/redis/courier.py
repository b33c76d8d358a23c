"""Carries commands to the servers that they are for, and what comes back.

Rules.

* What was surely not carried out is sent again, to whoever it is for by then, until time runs out: what was refused
  with MOVED, ASK, TRYAGAIN, NOSCRIPT and the like, and what there was no connection for.
* A read whose answer was lost is sent again a few times. A write whose answer was lost is never sent again here: it is
  ``OutcomeUnknown``, and so is one that was cancelled or ran out of time on its way.
* Commands for one server travel together, and several servers are asked at the same time: that is one round trip.
* Everything ends when its time is over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import attrs
from redis.exceptions import RedisError

from kvmodel.drivers.meter import spend
from kvmodel.drivers.redis.link import LinkLost, Reply, Unreachable, Words
from kvmodel.drivers.redis.nodes import Node
from kvmodel.drivers.redis.refusals import Verdict, Way, error_of, is_final, judge, outcome_unknown, unreachable
from kvmodel.drivers.redis.scripts import Script
from kvmodel.drivers.redis.topology import Cluster, Shared, Topology
from kvmodel.errors import BudgetExceeded, Closed, KvModelError, StoreError, TimedOut, Unavailable

__all__ = ["Courier", "Request", "call"]

_MAX_LOST_READS: Final = 4
_DEAD_ROUNDS: Final = 8
"""How often nobody at all may be reached before that is taken for the truth."""
_REPLICA_PATIENCE: Final = 2.0
_TOGETHER: Final = 4096
"""How many commands travel in one exchange."""
_MAX_MOVES: Final = 3
_SHORTEST_WAIT: Final = 1.0

Result: TypeAlias = "Reply | KvModelError"


@attrs.define(eq=False)
class Request:
    """One command on its way.

    Attributes:
        slot: Where it is for.
        words: The command.
        script: The script that it calls, if it does.
        may_ask: Whether it may be sent to a server that a slot is just moving to.
        tidies: Which of the words says whether to tidy up. Where a slot is just moving to, nothing is: records that
            have not come yet would seem to be gone.
        result: The reply, or the error that it ended with.
        asks: Who is asked out of turn, the next time.
        loads: Whether the script's text is sent along, from then on: who lacked it may be asked in turns with another.
        waits: Whether there is to be a pause before.
        is_sent: Whether it was sent, the last time.
        lost, moves: How often its answer was lost, and how often it was sent elsewhere.
        trouble: Why there is no reply.
    """

    slot: int
    words: Words
    script: Script | None = None
    may_ask: bool = False
    tidies: int | None = None
    result: Result = None
    asks: Node | None = None
    loads: bool = False
    waits: bool = False
    is_sent: bool = False
    lost: int = 0
    moves: int = 0
    trouble: BaseException | None = None

    def commands(self) -> list[Words]:
        """Answer what to send."""
        words = self.words
        if self.loads and self.script is not None:
            words = (b"EVAL", self.script.source, *words[2:])
        if self.asks is None:
            return [words]
        if self.tidies is not None:
            words = (*words[: self.tidies], 0, *words[self.tidies + 1 :])
        return [(b"ASKING",), words]


def call(
    script: Script, slot: int, keys: Sequence[bytes], arguments: Iterable[bytes | int], *, may_ask: bool = False
) -> Request:
    """Answer the request that calls a script."""
    return Request(slot, (b"EVALSHA", script.digest, len(keys), *keys, *arguments), script, may_ask)


class Courier:
    """The way to the store.

    Args:
        topology: Where to ask.
        store: The store's address, for messages.
    """

    def __init__(self, topology: Topology, store: str) -> None:
        self.topology = topology
        self.store = store
        self._is_closed = False

    async def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        self.topology.close()
        await self.topology.closed()
        await asyncio.sleep(0)  # The event loop closes what was aborted at its next turn.

    async def ask(self, requests: Sequence[Request], until: float, *, keys: int = 0) -> list[Reply]:
        """Send reads; answer the replies in order. Raises what the first one that failed ended with."""
        await self._carry(requests, until, keys, writes=False)
        for request in requests:
            if isinstance(request.result, KvModelError):
                raise request.result
        return [request.result for request in requests]

    async def tell(self, requests: Sequence[Request], until: float, *, keys: int = 0) -> None:
        """Send writes. What became of each is in its ``result``: the reply, or a ``StoreError``.

        Raises ``OutcomeUnknown`` when it is cancelled after anything was sent.
        """
        await self._carry(requests, until, keys, writes=True)

    # --- one call -----------------------------------------------------------------------------------------------------

    async def _carry(self, requests: Sequence[Request], until: float, keys: int, *, writes: bool) -> None:
        journey = _Journey(self, until, keys, writes)
        try:
            while True:
                self._check_open()
                await journey.go(requests)
                requests = [request for request in requests if not self._settle(request, journey)]
                if not requests:
                    return
                if not await self._rest(requests, journey):
                    for request in requests:
                        request.result = self._final(request)
                    return
        except asyncio.CancelledError as cancelled:
            if writes and journey.has_sent:
                raise outcome_unknown(self.store, cancelled) from cancelled
            raise

    def _settle(self, request: Request, journey: _Journey) -> bool:
        """Look at what came back for a request; answer whether it is at its end."""
        request.asks, request.waits = None, False
        trouble = request.trouble
        if trouble is None:
            return not isinstance(request.result, RedisError) or self._judge(request, request.result, journey)
        if isinstance(trouble, Unreachable):
            request.waits = True
            return False
        if journey.writes and request.is_sent:
            self._doubt(request, trouble)
            request.result = outcome_unknown(self.store, trouble)
            return True
        if isinstance(trouble, TimeoutError):
            self._doubt(request, trouble)
            request.result = _timed_out(self.store, trouble)
            return time.monotonic() >= journey.until or not self.topology.is_patient
        request.lost += 1
        request.waits = request.lost > 1 or self.topology.is_patient
        if request.lost < _MAX_LOST_READS:
            return False
        request.result = Unavailable("the connection was lost again and again: is the server well?", store=self.store)
        request.result.__cause__ = trouble
        return True

    def _judge(self, request: Request, refusal: RedisError, journey: _Journey) -> bool:
        """Look at a refusal; answer whether the request is at its end."""
        way = judge(refusal)
        match way.verdict:
            case Verdict.MOVED | Verdict.ASK if isinstance(self.topology, Cluster):
                self._redirect(request, way, self.topology)
            case Verdict.LOAD if request.script is not None:
                request.loads = True
            case Verdict.WAIT:
                request.waits = True
            case Verdict.STEP_DOWN:
                request.waits = True
                request.trouble = refusal
            case Verdict.REPLICAS if journey.age < _REPLICA_PATIENCE:
                request.waits = True
            case _:
                request.result = error_of(refusal, self.store)
                return True
        return False

    def _redirect(self, request: Request, way: Way, topology: Cluster) -> None:
        teller = topology.node(request.slot)
        address = topology.place(way.host, way.port, None if teller is None else teller.address)
        if way.verdict is Verdict.MOVED:
            topology.moved(way.slot, address)
            request.moves += 1
            request.waits = request.moves > _MAX_MOVES  # The nodes don't agree yet.
        elif request.may_ask:
            request.asks = topology.known(address)
        else:
            request.waits = True

    def _doubt(self, request: Request, trouble: BaseException) -> None:
        """Have it looked up, for those who come after, whether somebody else has taken over."""
        if isinstance(trouble, TimeoutError) and isinstance(self.topology, Shared):
            self.topology.doubt(self.topology.node(request.slot))

    async def _rest(self, requests: Sequence[Request], journey: _Journey) -> bool:
        """Wait before another attempt, and look up who has what; answer whether there is to be one."""
        self._check_open()
        troubled = next((request for request in requests if request.trouble is not None), None)
        if troubled is not None:
            suspect = self.topology.node(troubled.slot)
            failure = await self.topology.refresh(journey.until, suspect=suspect)
            is_dead = failure is not None if self.topology.is_patient else isinstance(troubled.trouble, Unreachable)
            journey.dead = journey.dead + 1 if is_dead else 0
            if is_final(troubled.trouble) or is_final(failure):
                return False
            if journey.dead == (_DEAD_ROUNDS if self.topology.is_patient else 2):
                return False
        if any(request.waits for request in requests):
            journey.attempt += 1
            span = random.uniform(0.5, 1.0) * min(0.01 * 2 ** min(journey.attempt, 5), 0.2)  # noqa: S311 - not a secret
            await asyncio.sleep(min(span, max(journey.until - time.monotonic(), 0)))
        return time.monotonic() < journey.until

    def _final(self, request: Request) -> KvModelError:
        """Answer the error of a request for which there is no further attempt. It was not carried out."""
        trouble = request.trouble
        if isinstance(request.result, RedisError):
            return error_of(request.result, self.store)
        if isinstance(trouble, Unreachable):
            node = self.topology.node(request.slot)
            return unreachable(trouble.__cause__ or trouble, node.address if node else None, self.store)
        return _timed_out(self.store, trouble)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this connection is closed: connect again", store=self.store)


@attrs.define(eq=False)
class _Journey:
    """One call.

    Attributes:
        has_sent: Whether anything was sent.
        attempt: How often it has waited.
        dead: How often in a row nobody could be reached.
    """

    courier: Courier
    until: float
    keys: int
    writes: bool
    has_sent: bool = False
    attempt: int = 0
    dead: int = 0
    _began: float = attrs.field(factory=time.monotonic)
    _error: BudgetExceeded | None = None
    _is_counted: bool = False

    @property
    def age(self) -> float:
        """How long it has been under way, in seconds."""
        return time.monotonic() - self._began

    async def go(self, requests: Sequence[Request]) -> None:
        """Send requests to where they belong, and note at each what came back."""
        node_of = self.courier.topology.node
        self._is_counted = False
        if len(requests) == 1:
            await self._send(requests[0].asks or node_of(requests[0].slot), requests)
            if self._error is not None:
                raise self._error
            return
        groups: dict[Node | None, list[Request]] = {}
        for request in requests:
            groups.setdefault(request.asks or node_of(request.slot), []).append(request)
        if len(groups) == 1:
            ((node, group),) = groups.items()
            await self._send(node, group)
        else:
            async with asyncio.TaskGroup() as tasks:
                for node, group in groups.items():
                    tasks.create_task(self._send(node, group))
        if self._error is not None:
            raise self._error

    async def _send(self, node: Node | None, requests: Sequence[Request]) -> None:
        for start in range(0, len(requests), _TOGETHER):
            part = requests[start : start + _TOGETHER]
            for request in part:
                request.result = request.trouble = None
                request.is_sent = False
            try:
                if node is None:
                    raise Unreachable("no server is known for this slot")
                await self._exchange(node, part)
            except BudgetExceeded as error:
                self._error = error
            except (Unreachable, LinkLost, TimeoutError) as trouble:
                for request in part:
                    request.trouble = trouble

    async def _exchange(self, node: Node, requests: Sequence[Request]) -> None:
        commands: list[Words] = []
        for request in requests:
            commands += request.commands()

        def before() -> None:
            if self._error is not None:
                raise self._error
            if not self._is_counted:
                self._is_counted = True
                spend(1, self.keys)
                self.keys = 0
            self.has_sent = True
            for request in requests:
                request.is_sent = True

        replies = iter(await node.exchange(commands, self._limit(), before))
        for request in requests:
            if request.asks is not None:
                next(replies)
            request.result = next(replies)

    def _limit(self) -> float:
        """When to give up waiting for one server: a read can be asked again of another one that takes over."""
        if self.writes or not self.courier.topology.is_patient:
            return self.until
        now = time.monotonic()
        return min(self.until, now + max((self.until - now) / 3, _SHORTEST_WAIT))


def _timed_out(store: str, cause: BaseException | None) -> StoreError:
    error = TimedOut("no answer in time: raise the timeout", store=store)
    error.__cause__ = cause
    return error
