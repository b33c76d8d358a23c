"""The models that the files beside this one ask for."""

from __future__ import annotations

from typing import Annotated

import annotated_types as at

import kvmodel as kv


class User(kv.Model, table="users"):
    """Names no key types: any key goes."""

    team: str = kv.partition_key()
    name: str = kv.clustering_key()
    age: int = 0
    email: str | None = None


class Reading(kv.Model[str, int], table="readings"):
    """Names its key types: keys are checked."""

    sensor: str = kv.partition_key()
    second: int = kv.clustering_key(descending=True)
    value: Annotated[float, at.Ge(0)] = 0.0


class Setting(kv.Model[str], table="settings"):
    """Has a key of one component."""

    name: str = kv.partition_key()
    text: str = ""


class Sheet(kv.Model[str, int, int], table="sheets"):
    """Has a key of three components."""

    book: str = kv.partition_key()
    row: int = kv.clustering_key()
    column: int = kv.clustering_key()
    text: str = ""
