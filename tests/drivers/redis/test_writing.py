"""What a write ends with when answers are missing, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest

import kvmodel as kv
from kvmodel.drivers.base import Put, Table
from kvmodel.drivers.redis.catalogue import Catalogue, CatalogueRow
from kvmodel.drivers.redis.courier import Courier, Request
from kvmodel.drivers.redis.layout import Place
from kvmodel.drivers.redis.writing import Writer
from tests.drivers.rows import USERS, stamp, until


class _Courier:
    """Ends requests as it is told, and reads nothing."""

    store = "redis+cluster://localhost"

    def __init__(self, *results: kv.StoreError) -> None:
        self.results = results

    async def tell(self, requests: Sequence[Request], until: float, *, keys: int = 0) -> None:
        for request, result in zip(requests, self.results, strict=True):
            request.result = result

    async def ask(self, requests: Sequence[Request], until: float, *, keys: int = 0) -> list[Any]:
        raise kv.Unavailable("nobody answers")


class _Catalogue:
    """Lacks nothing."""

    async def missing(self, places: Iterable[Place], until: float) -> list[CatalogueRow]:
        return []


def _writer(*results: kv.StoreError) -> Writer:
    places: dict[Table, Place] = {}

    def place_of(table: Table) -> Place:
        return places.setdefault(table, Place(table, "redis", in_cluster=True))

    courier, catalogue = cast("Courier", _Courier(*results)), cast("Catalogue", _Catalogue())
    return Writer(courier, catalogue, place_of, in_cluster=True)


async def test_a_batch_of_which_a_part_may_have_happened() -> None:
    """It is told as unknown, also where another part surely did not happen and comes first."""
    puts = [Put(USERS, (team, "ada"), {"age": 1}, stamp()) for team in ("red", "blue")]
    writer = _writer(kv.Unavailable("not sent"), kv.OutcomeUnknown("lost"))

    with pytest.raises(kv.OutcomeUnknown):
        await writer.write(puts, atomic=False, now=0, until=until())
