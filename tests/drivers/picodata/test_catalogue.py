"""Every statement that the driver can emit, listed, and checked against the grammar of Picodata's dialect.

``catalogue.txt`` holds them; a statement that is not in it fails the test, and so does one that never comes. After a
change that is meant: ``KVMODEL_WRITE_CATALOGUE=1 python -m pytest tests/drivers/picodata/test_catalogue.py``, and read
what became of the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.drivers.picodata.discovery import DISCOVER
from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.picodata import LocalPicodata, PostgresServer, Refusal, parse
from kvmodel.testing.picodata.tokens import tokens_of
from tests.drivers.picodata.helpers import native, statements

CATALOGUE = Path(__file__).with_name("catalogue.txt")
_SECOND = timedelta(seconds=1)


class Own(kv.Model, table="own"):
    """Created by kvmodel: a composite clustering key, the second part descending."""

    shelf: str = kv.partition_key()
    kind: str = kv.clustering_key()
    at: int = kv.clustering_key(descending=True)
    count: int = 0
    note: str | None = None


class Bare(kv.Model, table="bare"):
    """No clustering fields."""

    name: str = kv.partition_key()
    count: int = 0


class Single(kv.Model, table="single"):
    """No partition fields."""

    number: int = kv.clustering_key()
    count: int = 0


class Cold(kv.Model, table="cold", store_options={"picodata": {"engine": "vinyl", "tier": "cold", "ddl_timeout": 3.0}}):
    """On disk."""

    name: str = kv.partition_key()
    count: int = 0


class Found(kv.Model, table="found"):
    """Created by SQL, without a version, and with a column that is to be left alone."""

    id: int = kv.partition_key()
    count: int | None = None
    note: str | None = None


class Dated(kv.Model, table="dated", store_options={"picodata": {"version_column": "ver", "expires_column": "until"}}):
    """Created by SQL, with nullable columns for version and deadline."""

    id: int = kv.partition_key()
    count: int = 0


class Lasting(kv.Model, table="lasting", store_options={"picodata": {"expires_column": "until"}}):
    """Created by SQL, with a deadline and no version."""

    id: int = kv.partition_key()
    count: int = 0


class Keys(kv.Model, table="keys_only", layout="plain"):
    """Nothing outside the key."""

    name: str = kv.partition_key()


class More(kv.Model, table="bare"):
    """``Bare``, with one more field."""

    name: str = kv.partition_key()
    count: int = 0
    colour: str = ""


SQL = (
    'CREATE TABLE "found" ("id" INTEGER NOT NULL, "count" INTEGER, "note" TEXT, "more" TEXT, PRIMARY KEY ("id"))',
    'CREATE TABLE "dated" ("id" INTEGER NOT NULL, "count" INTEGER, "ver" TEXT, "until" DATETIME, PRIMARY KEY ("id"))',
    'CREATE TABLE "lasting" ("id" INTEGER NOT NULL, "count" INTEGER, "until" INTEGER NOT NULL, PRIMARY KEY ("id"))',
)


async def _try(call: Awaitable[object]) -> None:
    with suppress(kv.Conflict, kv.NotFound, kv.Unsupported, kv.SchemaError, kv.ValidationError):
        await call


async def _use(
    db: kv.Database, clock: VirtualClock, model: Any, keys: list[tuple[Any, ...]], *, changes: bool = True
) -> None:
    """Do everything that can be done with records."""
    objects = model.objects.using(db, outside=True)
    await _try(objects.create(model(*keys[0])))
    await _try(objects.get(*keys[0]))
    await _try(objects.exists(*keys[0]))
    for count in range(1, 4):
        await objects.get_many([key if len(key) > 1 else key[0] for key in keys[:count]])
    await objects.save(model(*keys[1]))
    loaded = await objects.get(*keys[1])
    if changes:
        await _try(objects.update(*keys[1], count=lambda count: (count or 0) + 1))
        await _try(objects.save(loaded))
        loaded = await objects.get(*keys[1])
        await _try(objects.expire(*keys[1], expires_in=_SECOND))
        await _try(objects.save(model(*keys[2], 5), expires_in=_SECOND))
        await _try(objects.save(model(*keys[2]), if_version=kv.version(loaded)))
    await objects.save_many([model(*key) for key in keys[:2]])
    await _try(objects.delete(loaded))
    await _try(objects.delete(*keys[1]))
    clock.advance(2)
    await _try(objects.create(model(*keys[2])))
    await objects.save_many([model(*key) for key in keys])
    for one in (True, False):
        await _try(_commit(db, model, keys, one))
    await objects.save_many([model(*key) for key in keys])
    loaded = [await objects.get(*key) for key in keys[:2]]
    with suppress(kv.BatchError, kv.Unsupported):
        async with db.batch() as batch:
            for each in loaded:
                batch.delete(each)
            batch.add(model(*keys[2]))
    await objects.scan().count()
    await objects.scan(limit=2)
    for number in range(40, 43):
        with suppress(kv.SchemaError, kv.ValidationError):
            await objects.save(model(*_other(keys[0], number)), expires_in=_SECOND)
    clock.advance(2)
    with suppress(kv.Unsupported):
        await db.purge_expired(model)
    with suppress(kv.SchemaError, kv.ValidationError):
        await objects.save(model(*keys[0]), expires_in=_SECOND)
    clock.advance(2)
    with suppress(kv.Unsupported):
        await db.purge_expired(model)


def _other(key: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    last = number if isinstance(key[-1], int) else f"{number}"
    return (*key[:-1], last)


async def _commit(db: kv.Database, model: Any, keys: list[tuple[Any, ...]], one: bool) -> None:
    """One unit of work that relies on records, present and absent, and changes some."""
    objects = model.objects.using(db, outside=True)
    await objects.delete(*keys[2])
    async with db.unit_of_work(verify=True) as uow:
        inside = model.objects.using(uow)
        await inside.find(*keys[2])
        if one:
            return
        loaded = await inside.find(*keys[0])
        if loaded is not None and hasattr(loaded, "count"):
            loaded.count = 77
        uow.put(model(*keys[1]))
        uow.add(model(*keys[2]))
        with suppress(kv.NotFound):
            await inside.delete(*_other(keys[0], 99))


async def _read_ranges(db: kv.Database) -> None:
    """Every kind of bound, in every combination that gives another statement."""
    objects = Own.objects.using(db)
    await objects.save_many([Own("s", kind, at) for kind in "abc" for at in range(120)])
    await objects.range("s")
    async for _ in objects.range("s", reverse=True):
        pass
    lower: list[dict[str, Any]] = [{}, {"first": "a"}, {"first": ("a", 5)}, {"after": "a"}, {"after": ("a", 5)}]
    upper: list[dict[str, Any]] = [{}, {"last": "b"}, {"last": ("b", 5)}, {"before": "b"}, {"before": ("b", 5)}]
    for one in lower:
        await objects.range("s", **one, limit=1)
        await objects.range("s", **one).count()
    for one in upper:
        await objects.range("s", **one, limit=1)
    await objects.range("s", first=("a", 5), before=("b", 2), limit=1)
    await objects.range("s", first=("a\0", 5), last=("b", 2**70), limit=1)
    await objects.range("s", first=("a", 2**70), limit=1)
    for prefix in ("a", ("a",), ("a", 5), (kv.starts("a"),), (kv.starts("\U0010ffff"),)):
        await objects.range("s", prefix=prefix, limit=1)
    page = await objects.range("s", first="a").page(2)
    await objects.range("s", first="a").page(2, page.next_token)
    async for _ in objects.scan():
        pass
    await Bare.objects.using(db).range("a")
    await Single.objects.using(db).range(first=1, limit=2)
    await Single.objects.using(db).range(first=1).count()


async def _run(version: str, postgres: PostgresServer) -> list[str]:
    """Do everything on one version; answer what was sent."""
    clock = VirtualClock()
    async with LocalPicodata(1, version=version, postgres=postgres) as cluster:
        async with kv.connect(cluster.url, clock=clock, discovery=True) as db:
            for text in SQL:
                await native(db).execute(text)
            for model, keys in (
                (Own, [("s", "a", 1), ("s", "b", 2), ("s", "c", 3)]),
                (Bare, [("a",), ("b",), ("c",)]),
                (Single, [(1,), (2,), (3,)]),
                (Cold, [("a",), ("b",), ("c",)]),
                (Found, [(1,), (2,), (3,)]),
                (Dated, [(1,), (2,), (3,)]),
                (Lasting, [(1,), (2,), (3,)]),
            ):
                with suppress(kv.Unsupported):
                    await _use(db, clock, model, keys)
            await _use(db, clock, Keys, [("a",), ("b",), ("c",)], changes=False)
            await _read_ranges(db)
            await db.prepare(More)
            await More.objects.using(db).save_many([More("a"), More("b")])
        cluster.readable_catalogue = False
        async with kv.connect(cluster.url) as db:
            await db.prepare(Bare)
        options = {"server_settings": {"options": "sql_vdbe_opcode_max=20"}}
        async with kv.connect(cluster.url, connect_kwargs=options) as db:
            await Own.objects.using(db).range("s")
        return [text for text in statements(cluster) if text not in SQL]


def _normal(text: str) -> str:
    """Leave out what depends on how much time was left."""
    return re.sub(r"TIMEOUT = [\d.]+", "TIMEOUT = 9.000", text)


async def test_every_statement_is_listed(postgres: PostgresServer) -> None:
    """The catalogue is what is sent, no more and no less, for servers with blocks and without."""
    found: set[str] = set()
    for version in ("25.5.1", "26.1.3", "26.2.1"):
        found |= set(map(_normal, await _run(version, postgres)))
    found.add('SELECT * FROM "bare"')  # It is prepared and not run.
    if os.environ.get("KVMODEL_WRITE_CATALOGUE"):
        CATALOGUE.write_text("\n".join(sorted(found)) + "\n", encoding="utf-8")
    listed = set(_listed())

    assert found - listed == set()
    assert listed - found == set()
    assert DISCOVER in listed


def _listed() -> list[str]:
    return CATALOGUE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("text", _listed() if CATALOGUE.exists() else [])
def test_the_catalogue_is_of_the_dialect(text: str) -> None:
    """The grammar takes every statement, and none holds a value: no text, and no number but those of its structure."""
    parse(text)
    inner = text.split("$$")[1] if "$$" in text else ""
    for part in (text, inner):
        tokens = tokens_of(part)
        for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
            assert token.kind != "string"
            if token.kind == "number":
                around = (before.value, token.value, after.value)
                assert before.value in ("limit", "=", "select", "/", "(") or around == ("and", "1", "="), around


@pytest.mark.parametrize(
    "text", ["SELECT (a, b) > ($1, $2) FROM t", "SELECT a FROM t LIMIT $1", "UPDATE t SET a = 1 RETURNING a"]
)
def test_the_check_is_no_formality(text: str) -> None:
    """What only PostgreSQL knows is refused by it."""
    with pytest.raises(Refusal):
        parse(text)
