"""The model that is measured, and data for it."""

from __future__ import annotations

from pathlib import Path

import kvmodel as kv

TEAMS = 10


class User(kv.Model, table="users"):
    """The README's model."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0
    email: str | None = None


def fields(number: int) -> tuple[str, str, int, str]:
    """The fields of one of many users; neighbours are in one team, in the order of their numbers."""
    return f"team-{number % TEAMS}", f"user-{number:09}", number % 90, f"user-{number:09}@example.org"


def url(path: Path, **options: object) -> str:
    """The URL of an LMDB file."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"lmdb://{path.absolute()}" + (f"?{query}" if query else "")
