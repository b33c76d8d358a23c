"""Pages and streams: all of a range, piece by piece, each record at most once."""

from __future__ import annotations

import base64

import pytest

import kvmodel as kv
from kvmodel.testing.conformance.models import Item, Reading, gather_all, names

pytestmark = [pytest.mark.asyncio, pytest.mark.kv_requires("ordered")]


async def _store(db: kv.Database, count: int = 10, shelf: str = "s") -> None:
    await Item.objects.using(db).save_many([Item(shelf, f"{number:04}") for number in range(count)])


async def _all_pages(query: kv.Range[Item], size: int) -> list[list[str | None]]:
    pages, token = [], None
    while True:
        page = await query.page(size, token)
        pages.append(names(page.items))
        token = page.next_token
        if token is None:
            return pages


@pytest.mark.parametrize("size", [1, 3, 9, 10, 11])
async def test_pages_are_the_range_in_pieces(kv_db: kv.Database, size: int) -> None:
    """Full pages, then one with the rest; the last page is known to be the last, so none is empty."""
    await _store(kv_db)

    pages = await _all_pages(Item.objects.using(kv_db).range("s"), size)

    assert [name for page in pages for name in page] == [f"{number:04}" for number in range(10)]
    assert {len(page) for page in pages[:-1]} <= {size}
    assert 1 <= len(pages[-1]) <= size


async def test_an_empty_range_is_one_empty_page(kv_db: kv.Database) -> None:
    """It has no next one."""
    page = await Item.objects.using(kv_db).range("s").page(5)

    assert (page.items, page.next_token) == ([], None)


@pytest.mark.kv_requires(reverse=kv.Reverse.NATIVE)
async def test_pages_backwards(kv_db: kv.Database) -> None:
    """Pages follow the direction, inside the bounds."""
    await _store(kv_db)
    query = Item.objects.using(kv_db).range("s", first="0002", before="0007", reverse=True)

    assert await _all_pages(query, 2) == [["0006", "0005"], ["0004", "0003"], ["0002"]]


async def test_pages_show_what_is_there_when_they_are_read(kv_db: kv.Database) -> None:
    """A page begins behind the last one, whatever came or went meanwhile, the last record seen included."""
    await _store(kv_db)
    objects = Item.objects.using(kv_db)
    page = await objects.range("s").page(3)

    await objects.delete("s", "0002")
    await objects.save(Item("s", "0001a"))
    await objects.save(Item("s", "0003a"))
    page = await objects.range("s").page(3, page.next_token)

    assert names(page.items) == ["0003", "0003a", "0004"]


async def test_a_token_belongs_to_its_query(kv_db: kv.Database) -> None:
    """Another partition, bound, table or direction refuses it; the same query asked by another object takes it."""
    await _store(kv_db)
    await _store(kv_db, shelf="t")
    objects = Item.objects.using(kv_db)
    token = (await objects.range("s", first="0001").page(2)).next_token

    others: list[kv.Range[Item] | kv.Range[Reading]] = [
        objects.range("t", first="0001"),
        objects.range("s"),
        objects.range("s", first="0002"),
        objects.range("s", after="0001"),
        Reading.objects.using(kv_db).range("s", first="0001"),
    ]
    if kv_db.capabilities.reverse is kv.Reverse.NATIVE:
        others.append(objects.range("s", first="0001", reverse=True))
    for other in others:
        with pytest.raises(kv.ValidationError):
            await other.page(2, token)
    assert names((await objects.range("s", first="0001").page(2, token)).items) == ["0003", "0004"]


async def test_a_forged_token_reaches_nothing_new(kv_db: kv.Database) -> None:
    """Whatever position a token claims, the query's own bounds apply."""
    await _store(kv_db)
    await _store(kv_db, shelf="t")
    query = Item.objects.using(kv_db).range("s", first="0002", before="0006")
    token = (await query.page(2)).next_token
    assert token is not None
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

    for place in range(len(data)):
        for change in (1, 0x80):
            forged = data[:place] + bytes((data[place] ^ change,)) + data[place + 1 :]
            try:
                page = await query.page(10, base64.urlsafe_b64encode(forged).rstrip(b"=").decode())
            except kv.ValidationError:
                continue
            assert all(item.shelf == "s" and "0002" <= item.name < "0006" for item in page.items)


async def test_what_is_no_token_is_refused(kv_db: kv.Database) -> None:
    """Damaged, cut, lengthened or invented: a ``ValidationError``."""
    await _store(kv_db)
    query = Item.objects.using(kv_db).range("s")
    token = (await query.page(2)).next_token
    assert token is not None

    for bad in ("", "?", "ä", "AAAA", token[:-5], token + "AAAA", "A" * 100_000, token[1:]):
        with pytest.raises(kv.ValidationError):
            await query.page(2, bad)


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1000])
async def test_a_stream_gives_everything_in_order(kv_db: kv.Database, count: int) -> None:
    """However many pages it takes."""
    await _store(kv_db, count)
    query = Item.objects.using(kv_db).range("s")

    assert names(await gather_all(query)) == [f"{number:04}" for number in range(count)]
    assert names(await gather_all(Item.objects.using(kv_db).range("s", limit=70))) == [
        f"{number:04}" for number in range(min(count, 70))
    ]


async def test_a_stream_gives_each_record_once_while_others_write(kv_db: kv.Database) -> None:
    """What comes in behind the reader is not seen, what is ahead of it is seen as it is then, and nothing twice."""
    await _store(kv_db, 400)
    objects = Item.objects.using(kv_db)
    seen = []

    async for item in objects.range("s"):
        seen.append(item.name)
        if item.name == "0010":
            await objects.save(Item("s", "0000a"))
            await objects.save(Item("s", "0399a"))
            await objects.delete("s", "0390")

    assert seen == sorted(set(seen))
    assert "0000a" not in seen
    assert "0399a" in seen
    assert "0390" not in seen


async def test_a_stream_may_be_left_at_any_time(kv_db: kv.Database) -> None:
    """What was under way is given up, and the database goes on working."""
    await _store(kv_db, 200)
    objects = Item.objects.using(kv_db)

    for stop in (0, 1, 63, 64, 100):
        seen = 0
        async for _ in objects.range("s"):
            if seen == stop:
                break
            seen += 1

    assert await objects.range("s").count() == 200
