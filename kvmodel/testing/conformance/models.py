"""The models that the tests of the suite share."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

import kvmodel as kv

__all__ = ["Bare", "Item", "Lease", "Log", "Reading", "fits", "gather_all", "names", "refused"]

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


def fits(db: kv.Database, value: object) -> bool:
    """Whether a store that keeps typed columns takes a value; the others take all of them."""
    if not db.capabilities.typed_columns:
        return True
    if isinstance(value, str):
        return "\0" not in value
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return value == value
    if isinstance(value, datetime):
        return value.replace(tzinfo=None) not in (datetime.min, datetime.max)  # noqa: DTZ901 - of any zone
    if isinstance(value, Decimal):
        if not value.is_finite():
            return False
        _, digits, exponent = value.as_tuple()
        return isinstance(exponent, int) and len(digits) + max(exponent, 0) <= 28 and exponent >= -28
    return True


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
