"""Stores that keep records for ever: no deadline is promised."""

from __future__ import annotations

from datetime import timedelta

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, Lease, refused

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_denied("expiry")]

_TEN = timedelta(seconds=10)


async def test_deadlines_are_refused(kv_db: kv.Database) -> None:
    """A record that should go and stays would be worse than none."""
    await kv_db.prepare(Item, Lease)

    with refused():
        await Item.objects.using(kv_db).save(Item("s", "a"), expires_in=_TEN)
    with refused():
        await Lease.objects.using(kv_db).save(Lease("s", "a"))
    await Item.objects.using(kv_db).save(Item("s", "a"), expires_in=None)
