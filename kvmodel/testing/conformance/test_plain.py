"""The plain layout: data as other programs write it, without an envelope."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, fits, refused

pytestmark = pytest.mark.asyncio


class Blob(kv.Model, table="blobs", layout="plain"):
    """One field is the whole value."""

    name: str = kv.partition_key()
    data: bytes = kv.field(whole_value=True)


class Word(kv.Model, table="words", layout="plain"):
    """A text is the whole value, and may be empty."""

    book: str = kv.partition_key()
    name: str = kv.clustering_key()
    text: str = kv.field(whole_value=True)


class Document(kv.Model, table="documents", layout="plain"):
    """The fields are a document."""

    name: str = kv.partition_key()
    count: int = 0
    tags: list[str] = kv.field(factory=list)


async def _prepare(db: kv.Database, model: type[kv.Model]) -> None:
    """Prepare a model, or skip the test where the store has no plain layout."""
    try:
        await db.prepare(model)
    except (kv.Unsupported, kv.SchemaError):
        pytest.skip("this store has no plain layout")


@pytest.mark.parametrize("data", [b"", b"\0", b"\x10" * 20, bytes(range(256)), b"x" * 2000])
async def test_bytes_come_back_as_they_stand(kv_db: kv.Database, data: bytes) -> None:
    """Whatever they look like."""
    await _prepare(kv_db, Blob)
    await Blob.objects.using(kv_db).save(Blob("a", data))

    assert (await Blob.objects.using(kv_db).get("a")).data == data


@pytest.mark.parametrize("text", ["", "\0", "é\U0001f600", "null", "x" * 2000])
async def test_texts_come_back_as_they_stand(kv_db: kv.Database, text: str) -> None:
    """Keys of two parts too."""
    await _prepare(kv_db, Word)
    if not fits(kv_db, text):
        with refused(kv.ValidationError):
            await Word.objects.using(kv_db).save(Word("b", "a", text))
        return
    await Word.objects.using(kv_db).save(Word("b", "a", text))

    assert (await Word.objects.using(kv_db).get("b", "a")).text == text


async def test_documents_come_back(kv_db: kv.Database) -> None:
    """Fields by name."""
    await _prepare(kv_db, Document)
    await Document.objects.using(kv_db).save(Document("a", 7, ["x", "é"]))

    assert await Document.objects.using(kv_db).get("a") == Document("a", 7, ["x", "é"])


@pytest.mark.kv_requires("conditional")
async def test_changes_are_noticed(kv_db: kv.Database) -> None:
    """The content is the version where there is no other: what differs is a ``Conflict``."""
    await _prepare(kv_db, Blob)
    objects = Blob.objects.using(kv_db)
    mine = await objects.create(Blob("a", b"1"))
    await objects.update("a", data=b"2")

    mine.data = b"3"
    with pytest.raises(kv.Conflict):
        await objects.save(mine)
    with pytest.raises(kv.AlreadyExists):
        await objects.create(Blob("a", b"4"))
    async with kv_db.unit_of_work():
        blob = await objects.get("a")
        blob.data += b"!"

    assert (await objects.get("a")).data == b"2!"
    assert await objects.delete("a") in (True, None)


async def test_deadlines_are_refused(kv_db: kv.Database) -> None:
    """There is no place for one, and nothing is sent."""
    await _prepare(kv_db, Blob)
    error: Any = (kv.ValidationError, kv.Unsupported)

    with refused(error):
        await Blob.objects.using(kv_db).save(Blob("a", b"1"), expires_in=timedelta(seconds=1))

    assert not await Blob.objects.using(kv_db).exists("a")


async def test_plain_tables_live_beside_others(kv_db: kv.Database) -> None:
    """Neither sees the other, and neither is removed with the other."""
    await _prepare(kv_db, Blob)
    await Item.objects.using(kv_db).save(Item("blobs", "a"))
    await Blob.objects.using(kv_db).save(Blob("a", b"1"))

    if kv_db.capabilities.scan_table:
        assert await Item.objects.using(kv_db).scan().count() == 1
        assert await Blob.objects.using(kv_db).scan().delete() == 1
    await kv_db.purge_expired(Item, Blob, force=not kv_db.capabilities.conditional)

    assert await Item.objects.using(kv_db).exists("blobs", "a")
