"""The code of the documentation runs as it stands, and prints what is written behind it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing import VirtualClock
from kvmodel.testing.picodata import MissingPostgres
from kvmodel.testing.plugin import Connect
from kvmodel.testing.redis import NoServer
from tests.docs.pages import DOCS, PAGES, blocks, names_of_tests, run

WITH_CODE = [page for page in PAGES if blocks(page)]
NO_FEATURES = {"index", "tutorial", "performance"}
TESTS = [(page, name) for page in WITH_CODE for name in names_of_tests(page)]


def title(page: Path) -> str:
    """The name of a page, for the name of its test."""
    return page.relative_to(DOCS).with_suffix("").as_posix()


@pytest.mark.parametrize("page", WITH_CODE, ids=title)
async def test_blocks_run(page: Path, tmp_path: Path) -> None:
    """Every python block runs, in order, each on top of the one before, and prints what the page says."""
    try:
        async for block, output in run(page, tmp_path, {}):
            assert output == (block.printed or ""), block.source.lstrip()
    except (MissingPostgres, NoServer) as error:
        pytest.skip(str(error))


@pytest.fixture
async def names(page: Path, tmp_path: Path) -> dict[str, object]:
    """What the blocks of a page define."""
    names: dict[str, object] = {}
    async for _ in run(page, tmp_path, names):
        pass
    return names


@pytest.mark.parametrize(("page", "name"), TESTS, ids=[f"{title(page)}-{name}" for page, name in TESTS])
async def test_tests_pass(
    page: Path, name: str, names: dict[str, object], kv_connect: Connect, kv_db: kv.Database, kv_clock: VirtualClock
) -> None:
    """The tests that the pages show are tests: they pass, with the fixtures of the pytest plugin."""
    test = names[name]
    assert callable(test)
    fixtures = {"kv_connect": kv_connect, "kv_db": kv_db, "kv_clock": kv_clock}
    wanted = inspect.signature(test).parameters
    if "kv_db" not in wanted:
        await kv_db.close()  # Or the database that the test opens would not be the only one.

    await test(**{fixture: fixtures[fixture] for fixture in wanted})


def test_every_page_has_what_a_page_has() -> None:
    """A page on a feature shows code, and says what it costs, when it is refused and how to test it."""
    wanted = {"What it costs", "When it is refused", "How to test it"}
    features = [page for page in PAGES if page.parent == DOCS and page.stem not in NO_FEATURES]

    lacking = {
        title(page): sorted(heading for heading in wanted if f"\n## {heading}\n" not in page.read_text("utf-8"))
        for page in features
    }

    assert {page: headings for page, headings in lacking.items() if headings} == {}
    assert set(features) <= set(WITH_CODE)
    assert len(features) >= 13
