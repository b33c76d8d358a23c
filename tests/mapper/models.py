"""Models that the mapper's tests share."""

from __future__ import annotations

from datetime import timedelta

import attrs

import kvmodel as kv


class User(kv.Model, table="users"):
    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0
    email: str | None = None
    tags: list[str] = attrs.field(factory=list)


class Counter(kv.Model, table="counters"):
    name: str = kv.clustering_key()
    value: int = 0


class Session(kv.Model, table="sessions", expires_in=timedelta(hours=1)):
    token: str = kv.partition_key()
    user: str = ""


class Score(kv.Model, table="scores"):
    game: str = kv.partition_key()
    points: int = kv.clustering_key(descending=True)
    player: str = kv.clustering_key()


class Fixed(kv.Model, table="fixed", frozen=True):
    name: str = kv.partition_key()
    value: int = 0


class Clock:
    """Microseconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.micros = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.micros

    def advance(self, seconds: float) -> None:
        self.micros += round(seconds * 1_000_000)
