"""Options of drivers, from text and by keyword, and paths in URLs."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from kvmodel.drivers.base import Atomicity
from kvmodel.drivers.options import choose, local_path, parse_bool, parse_enum, parse_int, parse_size, parse_text
from kvmodel.errors import ValidationError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("64mib", 64 << 20),
        ("64 MB", 64_000_000),
        ("2k", 2_000),
        ("3Gi", 3 << 30),
        ("1TiB", 1 << 40),
        ("5b", 5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number with a unit: with an i powers of 1024, without one powers of 1000."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_size, ""),
        (parse_size, "MiB"),
        (parse_size, "-1"),
        (parse_size, "1.5G"),
        (parse_size, "5ib"),
        (parse_size, "9" * 30),
        (parse_bool, "maybe"),
        (parse_bool, ""),
        (parse_int, "x"),
        (parse_text, ""),
        (parse_enum(Atomicity), "total"),
    ],
)
def test_bad_texts(parse: Callable[[str], object], text: str) -> None:
    """What can't be read raises a ValueError that shows it."""
    with pytest.raises(ValueError, match="expected"):
        parse(text)


def test_words() -> None:
    """Truth has several spellings, and members of enumerations go by their names."""
    assert [parse_bool(word) for word in ("1", "true", "YES", "on", "0", "False", "no", "off")] == [True] * 4 + [
        False
    ] * 4
    assert parse_enum(Atomicity)("partition") is Atomicity.PARTITION
    assert parse_int(" 12 ") == 12


def test_choosing_checks_types() -> None:
    """An option of the wrong type names itself; a bool is no number."""
    assert choose({}, "sync", bool, True) is True
    assert choose({"sync": False}, "sync", bool, True) is False
    for options, kind in (({"sync": "no"}, bool), ({"sync": True}, int)):
        with pytest.raises(ValidationError) as caught:
            choose(options, "sync", kind, kind(1))
        assert caught.value.field == "sync"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("lmdb:///var/lib/data", "/var/lib/data"),
        ("lmdb://rel/data", "rel/data"),
        ("lmdb://Mixed/Case", "Mixed/Case"),
        ("lmdb://./data", "./data"),
        ("lmdb:///a%20b/%23%3F", "/a b/#?"),
        ("lmdb://%C3%A4", "ä"),
        ("lmdb:///x?sync=no", "/x"),
    ],
)
def test_paths(url: str, path: str) -> None:
    """A path follows two or three slashes and is percent-decoded."""
    assert local_path(urlsplit(url)) == path


@pytest.mark.parametrize("url", ["lmdb://", "lmdb:///a#b", "lmdb:///a%00b"])
def test_bad_paths(url: str) -> None:
    """A missing path, a stray # and a zero byte are refused."""
    with pytest.raises(ValidationError):
        local_path(urlsplit(url))
