"""The virtual clock stands still until it is told to move."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

import kvmodel as kv
from kvmodel.testing import VirtualClock


def test_it_shows_what_it_was_given() -> None:
    """In microseconds, and as a moment in UTC, whatever time zone it was given in."""
    start = datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5)))
    clock = VirtualClock(start)

    assert clock.now == start
    assert clock.now.utcoffset() == timedelta(0)
    assert clock() == 1_709_150_523_000_004
    assert clock() == clock()


def test_it_moves_by_spans_and_by_seconds() -> None:
    """To the microsecond, and never back."""
    clock = VirtualClock()
    before = clock()

    clock.advance(timedelta(microseconds=1))
    clock.advance(1.5)
    clock.advance(0)

    assert clock() - before == 1_500_001
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)
    assert clock() - before == 1_500_001


async def test_a_database_lives_by_it() -> None:
    """Deadlines and default deadlines are counted from its time."""
    from kvmodel.testing.conformance.models import Lease

    clock = VirtualClock(datetime(2000, 1, 1, tzinfo=timezone.utc))
    async with kv.connect("memory://", clock=clock) as db:
        lease = await Lease.objects.using(db).create(Lease("s", "a"))

        assert kv.expires_at(lease) == datetime(2000, 1, 1, 1, tzinfo=timezone.utc)
