"""Whatever bytes are stored or handed in: a decoder answers, or raises an error of ours, and takes little memory.

``KVMODEL_FUZZ_INPUTS`` says how many inputs there are in all; the nightly job has a million.
"""

from __future__ import annotations

import base64
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import kvmodel as kv
from kvmodel._binding import Bound
from kvmodel.drivers.base import Row, Table
from kvmodel.drivers.formats import catalogue
from kvmodel.drivers.formats.codec import ByteCodec, compile_codec
from kvmodel.drivers.formats.records import pack, unpack
from kvmodel.schema import schema_of
from kvmodel.testing.conformance.keyed import CASES
from kvmodel.testing.conformance.models import Item, Lease, Log, Reading
from kvmodel.testing.conformance.test_plain import Blob, Document, Word
from kvmodel.testing.conformance.test_values import Colour, Line, Point, Sample
from tests.faults.mutations import inputs

pytestmark = pytest.mark.timeout(120 + int(os.environ.get("KVMODEL_FUZZ_INPUTS", "0")) // 1000)

INPUTS = int(os.environ.get("KVMODEL_FUZZ_INPUTS", "20000"))
SEED = int(os.environ.get("KVMODEL_FUZZ_SEED", "1"))
NOW = 1_800_000_000_000_000
STAMP = b"twelve bytes"
ROOM = 16 << 20
"""What one input may take: a list's header in a small record is believed as far as there are bytes behind it."""

_UTC = timezone.utc
_SAMPLES = [
    Sample("a"),
    Sample("b", True, -1, 1.5, "text", b"data", Decimal("1.50"), UUID(int=7), datetime(2024, 1, 1, tzinfo=_UTC)),
    Sample("c", day=date(2024, 1, 1), span=timedelta(1), number=10**40, colour=Colour.GREEN, words={"x", "y"}),
    Sample("d", numbers=list(range(40)), pair=(1, "a"), row=(1.0,), by_name={"a": 1}, by_day={date(2024, 1, 1): ["x"]}),
    Sample("e", line=Line([Point(1), Point(2, 3, "end")], Colour.RED), shape=Point(1)),
]
_PLAIN = [Blob("a", b"data"), Word("b", "a", "text"), Document("a", 7, ["x", "é"])]


def codec_of(model: type[Any]) -> ByteCodec:
    """Answer the codec of a model's table."""
    return compile_codec(schema_of(model).make_table(), store="test")


@contextmanager
def little_memory() -> Iterator[Callable[[bytes], None]]:
    """Watch the memory; yields what is called after each input, and fails if that one took too much."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]

        def watch(data: bytes) -> None:
            nonlocal before
            after, peak = tracemalloc.get_traced_memory()
            assert peak - before < ROOM + 200 * len(data), data
            before = after
            tracemalloc.reset_peak()

        yield watch
    finally:
        tracemalloc.stop()


def fuzz(corpus: list[bytes], share: float, decode: Callable[[bytes], None]) -> None:
    """Decode a share of the inputs. What it raises but must not is shown with the input that caused it."""
    slowest = 0.0
    with little_memory() as watch:
        for data in inputs(corpus, int(INPUTS * share), SEED):
            begun = time.perf_counter()
            try:
                decode(data)
            except kv.DecodingError:
                pass
            except Exception as error:
                raise AssertionError(f"{error!r} for {data!r}") from error
            slowest = max(slowest, time.perf_counter() - begun)
            watch(data)
    assert slowest < 5


def test_bad_decoders_are_found_out() -> None:
    """One that raises something else, and one that takes more memory than its input is worth."""

    def takes_much(data: bytes) -> None:
        bytearray(2 * ROOM)

    for decode in (lambda data: data[1000], takes_much):
        with pytest.raises(AssertionError):
            fuzz([b"data"], 0.001, decode)


@pytest.mark.parametrize(
    "objects", [_SAMPLES, [Lease("s", "a", "me")], [Reading("s", "a", 1, 5)]], ids=["all", "few", "int"]
)
def test_records(objects: list[kv.Model]) -> None:
    """From stored bytes to objects, with and without a deadline: the record's format, then the model's types."""
    model = type(objects[0])
    schema, codec = schema_of(model), codec_of(model)
    corpus = [codec.dump(schema.dump(obj), STAMP, deadline) for obj in objects for deadline in (None, NOW - 1, NOW + 1)]

    def decode(data: bytes) -> None:
        row = codec.load(("a",), data, NOW)
        header = codec.peek_header(data, NOW)
        assert (header is None) is not isinstance(row, Row)
        assert codec.version(data) == STAMP or len(codec.version(data)) == len(STAMP)  # type: ignore[arg-type]
        if isinstance(row, Row):
            obj = schema.load(row._replace(key=schema.key_of(objects[0])))
            # What was taken can be stored again, and is then the same.
            assert schema.dump(obj) == schema.dump(schema.load(Row(schema.key_of(obj), schema.dump(obj), STAMP)))

    fuzz(corpus, 0.12, decode)


def test_bodies() -> None:
    """The fields alone: what is taken gives the same bytes again, as values are compared by them."""
    corpus = [pack(schema_of(Sample).dump(obj)) for obj in _SAMPLES]

    def decode(data: bytes) -> None:
        packed = pack(unpack(data))
        assert pack(unpack(packed)) == packed

    fuzz(corpus, 0.12, decode)


@pytest.mark.parametrize("case", list(CASES))
def test_keys(case: str) -> None:
    """A decoder takes what an encoder writes, and nothing else: what it takes, encodes to the same bytes."""
    for model in (CASES[case].up, CASES[case].down):
        schema, codec = schema_of(model), codec_of(model)
        corpus = [codec.encode_key(schema.make_key("s", part)) for part in CASES[case].ordered]

        def decode(data: bytes, codec: ByteCodec = codec) -> None:
            assert codec.encode_key(codec.decode_key(data)) == data

        fuzz(corpus, 0.01, decode)


@pytest.mark.parametrize("obj", _PLAIN, ids=lambda obj: type(obj).__name__)
def test_plain_records(obj: kv.Model) -> None:
    """What other programs wrote, or something else."""
    schema, codec = schema_of(type(obj)), codec_of(type(obj))
    key, value = codec.encode_key(schema.key_of(obj)), codec.dump(schema.dump(obj), STAMP, None)

    def decode(data: bytes) -> None:
        row = codec.load(schema.key_of(obj), data, NOW)
        assert isinstance(row, Row)
        schema.load(row)

    def decode_key(data: bytes) -> None:
        assert codec.encode_key(codec.decode_key(data)) == data

    fuzz([value], 0.04, decode)
    fuzz([key], 0.02, decode_key)


def test_catalogue_rows() -> None:
    """A row that says something else, or nothing that can be read, is a ``SchemaError``."""
    table: Table = schema_of(Reading).make_table()
    corpus = [catalogue.encode_entry(schema_of(model).make_table()) for model in (Reading, Item, Log)]

    def decode(data: bytes) -> None:
        with suppress(kv.SchemaError):
            catalogue.check_entry(table, data, store="test")
        with suppress(kv.SchemaError):
            catalogue.check_marker(data, store="test")

    fuzz([*corpus, catalogue.encode_marker()], 0.1, decode)


@pytest.mark.parametrize("sealed", [False, True])
async def test_tokens(sealed: bool) -> None:
    """Page tokens, in the clear and encrypted: a position inside the query, or a ``ValidationError``."""
    if sealed:
        pytest.importorskip("cryptography")
    options = {"token_key": bytes(32)} if sealed else {}
    async with kv.connect("memory://", **options) as db:
        await Item.objects.save_many([Item(shelf, f"{number:02}") for shelf in "rst" for number in range(20)])
        query = Item.objects.range("s", first="03", before="17")
        token = (await query.page(4)).next_token
        assert token is not None
        bound: Bound[Item] = db._bound(schema_of(Item))
        corpus = [
            base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)),
            bound.order.encode_key(("s", "05")),
        ]
        with little_memory() as watch:
            for data in inputs(corpus, int(INPUTS * 0.05), SEED):
                for text in (base64.urlsafe_b64encode(data).rstrip(b"=").decode(), data.decode("latin-1")):
                    try:
                        page = await query.page(4, text)
                    except kv.ValidationError:
                        continue
                    assert all(item.shelf == "s" and "03" <= item.name < "17" for item in page.items)
                watch(data)


def test_version_tokens() -> None:
    """What ``if_version`` takes is what ``kv.version`` gave, or it is refused."""
    from kvmodel._state import decode_version, format_version

    corpus = [format_version(version).encode() for version in (STAMP, b"", 7, -1, 2**70, "text", "")]

    def decode(data: bytes) -> None:
        text = data.decode("latin-1")
        with suppress(kv.ValidationError):
            assert format_version(decode_version(text)) == text

    fuzz(corpus, 0.05, decode)
