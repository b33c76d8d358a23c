"""The models that the tests of the suite share."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import pytest

import kvmodel as kv

__all__ = ["Bare", "Item", "Lease", "Log", "Reading", "gather_all", "names", "refused"]

T = TypeVar("T")


class Item(kv.Model, table="items"):
    """A record like many: a partition, a clustering key, a few values."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    count: int = 0
    note: str | None = None
    tags: list[str] = kv.field(factory=list)


class Reading(kv.Model, table="readings"):
    """A clustering key of two components, the second one descending."""

    station: str = kv.partition_key()
    kind: str = kv.clustering_key()
    at: int = kv.clustering_key(descending=True)
    value: int = 0


class Bare(kv.Model, table="bare"):
    """Partitions of one record each."""

    name: str = kv.partition_key()
    value: int = 0


class Log(kv.Model, table="logs"):
    """One partition for the whole table."""

    number: int = kv.clustering_key()
    text: str = ""


class Lease(kv.Model, table="leases", expires_in=timedelta(hours=1)):
    """Expires by default. Its partitions are those of ``Item``."""

    shelf: str = kv.partition_key()
    name: str = kv.clustering_key()
    holder: str = ""


def names(items: Iterable[Item | None]) -> list[str | None]:
    """Answer the names of items."""
    return [None if item is None else item.name for item in items]


async def gather_all(stream: AsyncIterable[T]) -> list[T]:
    """Answer all that a stream gives."""
    return [each async for each in stream]


@contextmanager
def refused(error: type[kv.KvModelError] = kv.Unsupported) -> Iterator[None]:
    """What is done in this block is refused, and nothing is sent for it."""
    with pytest.raises(error), kv.budget(round_trips=0):
        yield
