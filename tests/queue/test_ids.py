"""Ids are UUIDs of version 7 that only grow, whatever their clock does."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvmodel as kv
from kvmodel._queue.ids import IdSource, first_id, source_of, time_of
from tests.queue.models import Clock, Event

MICROSECOND = timedelta(microseconds=1)
_moments = st.integers(0, (1 << 48) * 1000 - 1)


@given(_moments)
def test_an_id_is_of_version_7(moment: int) -> None:
    """The first 48 bits are milliseconds, version and variant are where RFC 9562 has them."""
    id = IdSource().next(moment)

    assert id.version == 7
    assert id.variant == RFC_4122
    assert id.int >> 80 == moment // 1000


@given(_moments)
def test_an_id_carries_its_time(moment: int) -> None:
    """To the microsecond; so a range over ids is one over time."""
    assert time_of(IdSource().next(moment)) == moment
    assert time_of(first_id(moment)) == moment


@given(_moments, _moments)
def test_first_id_is_a_bound(one: int, other: int) -> None:
    """Every id of a moment is at or above its first one, and below the first one of any later moment."""
    id = IdSource().next(one)

    assert (id >= first_id(other)) == (one >= other)


@given(st.lists(st.integers(0, 10_000), max_size=50))
def test_ids_only_grow(moments: list[int]) -> None:
    """Also while the clock stands still or goes back; then they carry the latest time there was."""
    source = IdSource()

    ids = [source.next(moment) for moment in moments]

    assert sorted(set(ids)) == ids
    assert [time_of(id) for id in ids] == [max(moments[: number + 1]) for number in range(len(ids))]


def test_a_full_counter_goes_on_with_the_next_tick() -> None:
    """There is no moment in which ids run out."""
    source = IdSource()
    before = source.next(1_000)
    source._counter = (1 << 62) - 1

    after = source.next(1_000)

    assert after > before
    assert after.version == 7
    assert time_of(after) <= 1_001


def test_ids_of_two_sources_differ() -> None:
    """The counter begins at random, and grows by random steps: processes that share a moment share no id."""
    one, other = IdSource(), IdSource()

    ids = [source.next(1_000) for _ in range(1_000) for source in (one, other)]

    assert len(set(ids)) == 2_000
    assert len({id.int & 0xFFFF for id in ids}) > 1_900


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_gives_other_ids() -> None:
    """It was given the parent's state, and goes on from another random start, above what its parent had given."""
    source = IdSource()
    before = source.next(1_000)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"".join(source.next(1_000).bytes for _ in range(100)))
        os._exit(0)
    mine = [source.next(1_000) for _ in range(100)]
    os.waitpid(child, 0)
    data = os.read(reading, 1_600)
    theirs = [UUID(bytes=data[start : start + 16]) for start in range(0, 1_600, 16)]

    assert before < theirs[0]
    assert theirs == sorted(theirs)
    assert not set(theirs) & set(mine)
    assert theirs[0].int >> 64 > before.int >> 64 == mine[0].int >> 64, "the child goes on one tick later"


def test_a_clock_has_one_source() -> None:
    """All connections that share it, so that ids are monotonic within the process; another clock has another."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> int:
            return 0

    clock, connection, other = Clock(), Clock(), Clock()

    assert source_of(clock, connection) is source_of(clock, other)
    assert source_of(clock, connection) is not source_of(Clock(), connection)
    assert source_of(Unhashable(), connection) is source_of(Unhashable(), connection)


async def test_put_gives_ids_from_the_databases_clock(db: kv.Database, clock: Clock) -> None:
    """Not from the machine's: what a virtual clock shows is what the id carries."""
    event = await Event.objects.put(Event("q"))

    assert time_of(event.id) == clock()
    assert clock.now > datetime(2099, 1, 1, tzinfo=timezone.utc)


async def test_ids_stay_monotonic_when_the_clock_steps_back(db: kv.Database, clock: Clock) -> None:
    """Readers that follow by id see every message, in the order in which it was put."""
    first = await Event.objects.put(Event("q", "first"))
    clock.step_back(3600)
    second = await Event.objects.put(Event("q", "second"))
    clock.advance(7200)
    third = await Event.objects.put(Event("q", "third"))

    assert first.id < second.id < third.id
    assert [event.data for event in await Event.objects.read("q", after=first.id)] == ["second", "third"]
