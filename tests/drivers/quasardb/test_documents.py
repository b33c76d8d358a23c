"""Files in slices: whole or not at all, whatever breaks on the way."""

from __future__ import annotations

import io
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import kvmodel as kv
from kvmodel.drivers.quasardb import QuasardbClient, documents
from kvmodel.testing.quasardb.server import LocalServer, Mishap
from tests.drivers.quasardb.conftest import SERVED

SLICE = 1000
OWN = "kvmodel.testing.quasardb"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices that tests can afford."""
    monkeypatch.setattr(documents, "SLICE_BYTES", SLICE)


class Endless(io.RawIOBase):
    """A file of so many bytes that is nowhere in memory; it gives them a few at a time, as a pipe does."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = cast("memoryview", buffer)
        size = min(len(view), self._left, 1 << 20)
        view[:size] = b"x" * size
        self._left -= size
        return size


class Sink(io.RawIOBase):
    """Takes what it is given, a few bytes at a time, and keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        return min(len(cast("memoryview", data)), 1 << 20)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [0, 1, SLICE - 1, SLICE, SLICE + 1, 5 * SLICE + 7])
async def test_what_is_uploaded_is_downloaded(client: QuasardbClient, tmp_path: Path, size: int) -> None:
    """Byte for byte, from open files and from paths; an empty file is a document too."""
    data = bytes(number % 251 for number in range(size))
    source = tmp_path / "source"
    source.write_bytes(data)

    keys = [
        await client.upload(io.BytesIO(data)),
        await client.upload(source),
        await client.upload(str(source), "mine"),
    ]

    assert len(set(keys)) == 3
    assert keys[2] == "mine"
    for key in keys:
        sink = io.BytesIO()
        assert await client.download(key, sink) == size
        assert sink.getvalue() == data
        assert await client.download(key, tmp_path / "target") == size
        assert (tmp_path / "target").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


async def test_slices_are_of_ten_mebibytes_and_memory_is_bounded() -> None:
    """A file of 45 MiB never stands in memory as a whole; it becomes five slices and a head."""
    async with QuasardbClient("db1", library=OWN, workers=1, timeout=30) as client:
        tracemalloc.start()
        try:
            key = await client.upload(cast("BinaryIO", Endless(45 << 20)))
            await client.download(key, cast("BinaryIO", Sink()))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        names = await client.prefix_get(f"{key}/")
        sizes = [len(await client.get(name)) for name in names]
        await client.delete_document(key)

    assert sorted(sizes) == [5 << 20] + [10 << 20] * 4
    assert peak < 60 << 20


async def test_a_slice_is_no_larger_than_a_value_may_be(server: LocalServer) -> None:
    """Where the server takes less, slices are smaller."""
    async with QuasardbClient(server.address, library=SERVED, workers=1, max_value_bytes=500) as client:
        key = await client.upload(io.BytesIO(b"x" * 1200))
        assert len(await client.prefix_get(f"{key}/")) == 3


async def test_a_missing_document(client: QuasardbClient, tmp_path: Path) -> None:
    """``NotFound``, and no file."""
    for call in (
        client.download("none", tmp_path / "target"),
        client.delete_document("none"),
        client.expire_document("none", None),
    ):
        with pytest.raises(kv.NotFound) as caught:
            await call
        assert caught.value.key == ("none",)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        await client.upload(tmp_path / "none")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("broken", [0, 1, 2, 3])
async def test_a_broken_upload_is_never_downloadable(client: QuasardbClient, server: LocalServer, broken: int) -> None:
    """Whichever of its writes fails: there is no document, and what was written of it is removed."""
    server.mishaps.append(Mishap("too_large", call="put", skips=broken))

    with pytest.raises(kv.TooLarge):
        await client.upload(io.BytesIO(b"x" * (3 * SLICE)), "doc")

    with pytest.raises(kv.NotFound):
        await client.download("doc", io.BytesIO())
    assert await client.prefix_get("doc") == []


@pytest.mark.usefixtures("small")
async def test_an_upload_whose_last_answer_is_lost_leaves_no_head(client: QuasardbClient, server: LocalServer) -> None:
    """A head without slices would be listed, and stand in the way of the next upload."""
    server.mishaps.append(Mishap("timed_out", call="put", skips=2, applies=True))

    with pytest.raises(kv.OutcomeUnknown):
        await client.upload(io.BytesIO(b"x" * (2 * SLICE)), "doc")

    assert await client.prefix_get("doc") == []
    assert await client.upload(io.BytesIO(b"y"), "doc") == "doc"


@pytest.mark.usefixtures("small")
async def test_an_upload_that_was_killed_leaves_what_can_be_removed(client: QuasardbClient) -> None:
    """Slices without a head: not downloadable, in the way of no other upload, removed by ``delete_document``."""
    await client.put(f"doc/{'a' * 24}/0", b"half")
    with pytest.raises(kv.NotFound):
        await client.download("doc", io.BytesIO())
    await client.put("doc/notes", b"of somebody else")

    await client.upload(io.BytesIO(b"y" * 10), "doc")
    sink = io.BytesIO()
    await client.download("doc", sink)
    await client.delete_document("doc")

    assert sink.getvalue() == b"y" * 10
    assert await client.prefix_get("doc") == ["doc/notes"]


@pytest.mark.usefixtures("small")
async def test_deleting_removes_all_slices(client: QuasardbClient) -> None:
    """The head and every slice; other documents stay."""
    key = await client.upload(io.BytesIO(b"x" * (3 * SLICE)))
    other = await client.upload(io.BytesIO(b"y"), f"{key}-more")

    await client.delete_document(key)

    assert await client.list_documents() == [other]
    assert await client.prefix_get(f"{key}/") == []
    with pytest.raises(kv.NotFound):
        await client.delete_document(key)


async def test_a_key_is_not_taken_twice(client: QuasardbClient) -> None:
    """What is there stays as it was."""
    await client.upload(io.BytesIO(b"one"), "doc")
    with pytest.raises(kv.AlreadyExists):
        await client.upload(io.BytesIO(b"two"), "doc")

    sink = io.BytesIO()
    await client.download("doc", sink)
    assert sink.getvalue() == b"one"


async def test_the_manuals_layout_is_read(client: QuasardbClient) -> None:
    """Key and number, ended by absence."""
    for number, slice in enumerate([b"one ", b"two ", b"three"]):
        await client.put(f"old{number}", slice)
    await client.put("old4", b"behind a gap")

    sink = io.BytesIO()
    assert await client.download("old", sink) == 13
    assert sink.getvalue() == b"one two three"
    with pytest.raises(kv.AlreadyExists):
        await client.upload(io.BytesIO(b"x"), "old")

    await client.delete_document("old")
    assert await client.prefix_get("old") == ["old4"]


@pytest.mark.usefixtures("small")
async def test_a_document_is_no_slice_of_another(client: QuasardbClient) -> None:
    """``doc-10`` goes on where ``doc-1`` ends, as slices in the manual's layout do, and is another document."""
    for number in (0, 1):
        await client.upload(io.BytesIO(b"ten"), f"doc-1{number}")

    with pytest.raises(kv.NotFound):
        await client.download("doc-1", io.BytesIO())
    with pytest.raises(kv.NotFound):
        await client.delete_document("doc-1")
    with pytest.raises(kv.NotFound):
        await client.expire_document("doc-1", None)
    await client.upload(io.BytesIO(b"one"), "doc-1")
    await client.delete_document("doc-1")

    sink = io.BytesIO()
    assert await client.download("doc-10", sink) == 3
    assert sink.getvalue() == b"ten"
    assert await client.list_documents("doc-") == ["doc-10", "doc-11"]


async def test_the_manuals_layout_ends_at_a_document(client: QuasardbClient) -> None:
    """Neither reading nor deleting goes on into a document whose key is the next number."""
    await client.put("old0", b"all of it")
    await client.upload(io.BytesIO(b"another"), "old1")

    sink = io.BytesIO()
    assert await client.download("old", sink) == 9
    await client.delete_document("old")

    assert sink.getvalue() == b"all of it"
    assert await client.list_documents("old") == ["old1"]


@pytest.mark.usefixtures("small")
async def test_a_damaged_document_is_told(client: QuasardbClient, tmp_path: Path) -> None:
    """A slice that is gone or shorter, a head that is none: ``DecodingError``, and the file that was there stays."""
    target = tmp_path / "target"
    target.write_bytes(b"before")
    key = await client.upload(io.BytesIO(b"x" * (2 * SLICE)))
    last = (await client.prefix_get(f"{key}/"))[-1]
    await client.update(last, b"shorter")
    with pytest.raises(kv.DecodingError):
        await client.download(key, target)
    await client.remove(last)
    with pytest.raises(kv.DecodingError):
        await client.download(key, target)
    for content in (b"something else", b"kvmodel document\nnonsense"):
        await client.update("blob", content)
        with pytest.raises(kv.DecodingError):
            await client.download("blob", target)

    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("small")
async def test_a_document_expires_with_its_slices(client: QuasardbClient) -> None:
    """Head and slices; ``None`` takes it back."""
    moment = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    key = await client.upload(io.BytesIO(b"x" * (2 * SLICE)))
    for wanted in (moment, None):
        await client.expire_document(key, wanted)
        assert {await client.get_expiry_time(name) for name in await client.prefix_get(key)} == {wanted}


async def test_text_files_and_long_keys_are_refused(client: QuasardbClient) -> None:
    """A file has to be open in binary mode; a key has to leave room for the names of slices."""
    with pytest.raises(kv.ValidationError):
        await client.upload(cast("BinaryIO", io.StringIO("text")))
    with pytest.raises(kv.ValidationError), kv.budget(round_trips=0):
        await client.upload(io.BytesIO(b"x"), "k" * 1000)
