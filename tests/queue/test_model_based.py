"""Random programs on two connections do what a plain Python queue does: lost leases, clock steps, races, and all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import kvmodel as kv
from kvmodel._queue.ids import time_of
from kvmodel.queue import Message
from tests.queue.conftest import STORES
from tests.queue.models import Clock, Event, Result, Wide
from tests.queue.reference import PlainLease, PlainQueue

T = TypeVar("T")
MICRO = timedelta(microseconds=1)
SECOND = 1_000_000

_connections = st.integers(0, 1)
_leases = st.sampled_from([1, 10, 60])
_limits = st.sampled_from([None, 1, 2, 3])
_spans = st.sampled_from([0, 1, 5, 30])
_numbers = itertools.count()

# Which of those that there are. Not drawn from them: ids are random, and what is drawn must not be.
_any = st.integers(0, 63)


class QueueMachine(RuleBasedStateMachine):
    """One program. Subclasses say where, and with which model."""

    model: Any
    url: str
    is_ordered = True
    """Whether it can be foretold which message comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.plain = PlainQueue(self.clock, time_of)
        self.held: list[tuple[Message[Any], PlainLease, int | None]] = []
        self.databases: list[kv.Database] = []
        self.run(self._open())

    async def _open(self) -> None:
        namespace = f"run-{next(_numbers)}"
        for _ in range(2):
            self.databases.append(await kv.connect(self.url, clock=self.clock, namespace=namespace))

    def run(self, call: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        """Await something."""

        async def awaited() -> T:
            return await call

        return self.loop.run_until_complete(asyncio.wait_for(awaited(), 30))

    def teardown(self) -> None:
        for db in self.databases:
            self.run(db.close())
        self.loop.close()

    def objects(self, connection: int) -> Any:
        """The queries, on one of the connections."""
        return self.model.objects.using(self.databases[connection])

    # --- putting ---

    @rule(connection=_connections, delay=_spans)
    def put(self, connection: int, delay: int) -> None:
        event = self.run(self.objects(connection).put(self.model("q", f"{next(_numbers)}"), delay=delay))
        self.plain.put(event.id, event.data, delay * SECOND)

    @rule(connection=_connections, count=st.integers(0, 5))
    def put_many(self, connection: int, count: int) -> None:
        events = [self.model("q", f"{next(_numbers)}") for _ in range(count)]
        assert self.run(self.objects(connection).put_many(events)) == count
        for event in events:
            self.plain.put(event.id, event.data)

    # --- taking ---

    @rule(connection=_connections, lease=_leases, limit=_limits)
    def take(self, connection: int, lease: int, limit: int | None) -> None:
        self._take(connection, 1, lease, limit)

    @rule(connection=_connections, count=st.integers(2, 4), lease=_leases, limit=_limits)
    def take_several(self, connection: int, count: int, lease: int, limit: int | None) -> None:
        self._take(connection, count, lease, limit)

    def _take(self, connection: int, count: int, lease: int, limit: int | None) -> None:
        consumer = self.objects(connection).consume("q", lease=lease, wait=False, max_attempts=limit, prefetch=count)

        async def take() -> list[Message[Any]]:
            message = await anext(consumer, None)
            return [] if message is None else [message, *[await anext(consumer) for _ in list(consumer._ahead)]]

        if not self.is_ordered and limit is not None:
            limit = None
            consumer = self.objects(connection).consume("q", lease=lease, wait=False, max_attempts=None, prefetch=count)
        messages = self.run(take())
        if self.is_ordered:
            self._took(messages, list(self.plain.take(count, lease * SECOND, limit)), limit)
        else:
            self._took_any(messages, count, lease, limit)

    def _took(self, messages: list[Message[Any]], leases: list[PlainLease], limit: int | None) -> None:
        assert [(each.id, each.attempts) for each in messages] == [(each.id, each.attempts) for each in leases]
        for message, lease in zip(messages, leases, strict=True):
            assert message.item.data == self.plain.messages[lease.id].data
            assert message.leased_until == self.clock.now + (self.plain.messages[lease.id].due - self.clock()) * MICRO
            self.held.append((message, lease, limit))

    def _took_any(self, messages: list[Message[Any]], count: int, lease: int, limit: int | None) -> None:
        due = {each.id: each for each in self.plain.due()}
        assert len(messages) == min(count, len(due))
        assert {each.id for each in messages} <= set(due)
        assert len({each.id for each in messages}) == len(messages)
        self._took(messages, [self.plain.lease(due[each.id], lease * SECOND) for each in messages], limit)

    @rule(shares=st.lists(_connections, min_size=2, max_size=6))
    def take_at_once(self, shares: list[int]) -> None:
        """Consumers race, on both connections: each gets one as long as there are any, and nobody the same."""
        consumers = [self.objects(share).consume("q", wait=False, max_attempts=None) for share in shares]

        async def race() -> Any:
            return await asyncio.gather(*(anext(consumer, None) for consumer in consumers))

        messages = [message for message in self.run(race()) if message is not None]
        self._took_any(messages, len(shares), 30, None)

    @rule(connection=_connections, count=st.integers(1, 4), handed=st.integers(0, 3), settled=st.integers(0, 2))
    @precondition(lambda self: self.is_ordered)
    def leave_a_block(self, connection: int, count: int, handed: int, settled: int) -> None:
        """What was taken ahead was never taken; what was handed out comes back, or is done."""
        consumer = self.objects(connection).consume("q", lease=5, wait=False, max_attempts=None, prefetch=count)
        origins = {each.id: each.due for each in self.plain.due()}

        async def block() -> tuple[list[Any], list[Any]]:
            async with consumer:
                first = await anext(consumer, None)
                out: list[Any] = [] if first is None else [first]
                while len(out) < handed and consumer._ahead:
                    out.append(await anext(consumer))
                for message in out[:settled]:
                    await message.ack()
                return out, list(consumer._ahead)

        out, ahead = self.run(block())
        leases = list(self.plain.take(count, 5 * SECOND, None))
        assert [each.id for each in (*out, *ahead)] == [each.id for each in leases]
        for number, lease in enumerate(leases):
            message = self.plain.messages[lease.id]
            if number < len(out[:settled]):
                self.plain.ack(message)
            elif number < len(out):
                self.plain.nack(message, 0, None)
            else:
                self.plain.untake(message, origins[lease.id])

    # --- settling ---

    @rule(which=_any, way=st.sampled_from(["ack", "unit", "nack", "extend"]), span=_spans)
    def settle(self, which: int, way: str, span: int) -> None:
        """Do something with a message that somebody has, or once had."""
        if not self.held:
            return
        message, lease, limit = self.held[which % len(self.held)]
        mine = self.plain.held(lease)
        done = self.run(self._settle(message, way, span))
        if lease.is_gone:  # It was purged: whether its ticket is still there depends on who has met it.
            return
        assert done == (mine is not None)
        if mine is None:
            return
        match way:
            case "nack":
                self.plain.nack(mine, span * SECOND, limit)
            case "extend":
                self.plain.extend(mine, (span + 1) * SECOND)
            case _:
                self.plain.ack(mine)

    async def _settle(self, message: Message[Any], way: str, span: int) -> bool:
        try:
            match way:
                case "ack":
                    await message.ack()
                case "nack":
                    await message.nack(delay=span)
                case "extend":
                    await message.extend(span + 1)
                case _:
                    await self._ack_in_unit(message)
        except kv.Conflict:
            return False
        return True

    async def _ack_in_unit(self, message: Message[Any]) -> None:
        connection = message._lease.place.tables.connection
        (db,) = [each for each in self.databases if each._connection is connection]
        async with db.unit_of_work() as uow:
            uow.put(Result("q", str(message.id)))
            await message.ack()

    # --- time ---

    @rule(span=st.sampled_from([MICRO, timedelta(seconds=1), timedelta(seconds=10), timedelta(minutes=1)]))
    def advance(self, span: timedelta) -> None:
        self.clock.advance(span)

    @rule(span=st.sampled_from([MICRO, timedelta(seconds=5), timedelta(minutes=2)]))
    def step_back(self, span: timedelta) -> None:
        self.clock.step_back(span)

    # --- as a whole ---

    @rule(connection=_connections, age=_spans)
    def purge(self, connection: int, age: int) -> None:
        before = self.clock() - age * SECOND
        old = [id for id in self.plain.messages if time_of(id) < before]
        assert self.run(self.objects(connection).purge("q", older_than=age)) == len(old)
        for id in old:
            self.plain.remove(id)

    @rule(connection=_connections, which=_any)
    def delete(self, connection: int, which: int) -> None:
        id = self._one_of_them(which)
        if id is None:
            return
        self.run(self.objects(connection).delete("q", id))
        self.plain.remove(id)

    @rule(connection=_connections, limit=st.none() | st.integers(0, 3))
    @precondition(lambda self: self.is_ordered)
    def redrive(self, connection: int, limit: int | None) -> None:
        assert self.run(self.objects(connection).redrive("q", limit=limit)) == self.plain.redrive(limit)

    def _one_of_them(self, which: int) -> UUID | None:
        ids = sorted(self.plain.messages)
        return ids[which % len(ids)] if ids else None

    @rule(connection=_connections, which=st.none() | _any, limit=st.none() | st.integers(0, 3))
    def read(self, connection: int, which: int | None, limit: int | None) -> None:
        after = None if which is None else self._one_of_them(which)
        found = self.run(self.objects(connection).read("q", after=after, limit=limit))
        assert [each.id for each in found] == self.plain.read(after)[:limit]

    @rule(connection=_connections, back=_spans, forth=_spans)
    def between(self, connection: int, back: int, forth: int) -> None:
        start, end = self.clock.now - timedelta(seconds=back), self.clock.now + timedelta(seconds=forth)
        found = self.run(self.objects(connection).between("q", start, end))
        assert [each.id for each in found] == self.plain.between(
            self.clock() - back * SECOND, self.clock() + forth * SECOND
        )

    @invariant()
    def nothing_is_lost(self) -> None:
        """What is stored is what should be."""
        stored = {each.id: each.data for each in self.run(self.objects(0).read("q"))}
        assert stored == {each.id: each.data for each in self.plain.messages.values()}
        dead = {each.id: each.data for each in self.run(self.objects(1).dead("q"))}
        assert dead == self.plain.dead
        assert self.run(self.objects(1).length("q")) == len(stored)


@pytest.mark.parametrize("model", [Event, Wide])
@pytest.mark.parametrize("store", ["memory", "lmdb", "record"])
def test_random_programs(tmp_path: Path, store: str, model: type[Any]) -> None:
    """A queue does what the plain one does, on every kind of store, in one partition and in eight."""
    machine: Any = type(
        "Machine",
        (QueueMachine,),
        {"model": model, "url": STORES[store].format(path=tmp_path), "is_ordered": model is Event},
    )
    if store == "record":
        machine._ack_in_unit = lambda self, message: message.ack()
    examples = settings().max_examples if settings().max_examples > 100 else 12
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, phases=[Phase.generate, Phase.shrink]
        ),
    )
