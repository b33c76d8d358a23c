"""The models that these tests share."""

from __future__ import annotations

import kvmodel as kv


class User(kv.Model, table="users"):
    """Ordered within a team."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0


class Team(kv.Model, table="teams"):
    """Beside its users: the partition is the same."""

    name: str = kv.partition_key()
    size: int = 0


class Raw(kv.Model, table="raw", layout="plain"):
    """What other programs write."""

    name: str = kv.partition_key()
    text: str = kv.field(whole_value=True)
