"""The site builds without a warning and without the network, and holds what it should."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import attrs
import pytest

import kvmodel as kv
from benchmarks.peers_picture import draw
from kvmodel import errors, testing
from tests.docs.pages import DOCS, PAGES, ROOT

NO_NETWORK = """
import socket, sys

def refuse(*_):
    raise AssertionError("the build wants the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse

from sphinx.cmd.build import main

sys.exit(main(sys.argv[1:]))
"""
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//|<link\b[^>]*\bhref=["'](?:https?:)?//"""
)
FETCHED_BY_STYLE = re.compile(r"""@import|url\(["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``sphinx-build -W docs`` does, in a process that has no network."""
    if find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed: pip install 'kvmodel[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "-W", "--keep-going", "-q", "-d", str(folder / "tree"), "docs", str(folder)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


def read(path: Path) -> str:
    """The text of a file."""
    return path.read_text(encoding="utf-8")


def cells(page: str) -> list[list[str]]:
    """All rows of the first table of a page, as text."""
    return [
        [
            html.unescape(re.sub("<[^>]+>", "", cell)).strip()
            for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)
        ]
        for row in re.findall("<tr.*?</tr>", page.partition("</table>")[0], re.DOTALL)
    ]


def test_every_page_is_there(site: Path) -> None:
    """Every Markdown file has become a page, and can be reached from the index."""
    index = read(site / "index.html")

    for page in PAGES:
        built = page.relative_to(DOCS).with_suffix(".html")
        assert (site / built).exists(), built
        assert built.as_posix() in index or built.parent.name == "adr" or built.name == "index.html", built


def test_readers_need_no_network(site: Path) -> None:
    """No page loads a script, style, font or picture from elsewhere."""
    pages = {path.name: FETCHED.findall(read(path)) for path in site.rglob("*.html")}
    styles = {path.name: FETCHED_BY_STYLE.findall(read(path)) for path in site.rglob("*.css")}

    assert pages
    assert styles
    assert {name: found for name, found in (pages | styles).items() if found} == {}


def test_the_matrix_is_that_of_the_drivers(site: Path) -> None:
    """The matrix has every capability, and a column for every store, with what the class of its driver claims."""
    from kvmodel.drivers.lmdb import LmdbDriver

    rows = {row[0]: row[1:] for row in cells(read(site / "stores" / "index.html")) if row}

    assert {field.name for field in attrs.fields(kv.Capabilities)} - {"store"} <= rows.keys()
    lmdb = rows["capability"].index("lmdb://")
    assert "memory://" in rows["capability"]
    assert rows["atomicity"][lmdb] == LmdbDriver.capabilities.atomicity.name
    assert rows["max_key_bytes"][lmdb] == str(LmdbDriver.capabilities.max_key_bytes)
    assert rows["range_checks"][lmdb] == "yes"
    assert rows["watch_resumes"][lmdb] == "no"


def test_all_that_is_public_is_in_the_reference(site: Path) -> None:
    """Every public name has an entry: errors on their page, the rest on that of the API."""
    of_errors = read(site / "reference" / "errors.html")
    of_api = read(site / "reference" / "api.html")
    described = [
        name for name in kv.__all__ if f'id="kvmodel.{name}"' in (of_errors if name in errors.__all__ else of_api)
    ]

    assert described == kv.__all__
    assert [name for name in testing.__all__ if f'id="kvmodel.testing.{name}"' not in of_api] == []


def test_the_errors_say_what_they_are(site: Path) -> None:
    """The table of errors names the built-in that each of them is, and the text is that of its docstring."""
    rows = {row[0]: row[1:] for row in cells(read(site / "reference" / "errors.html")) if row}

    assert rows["kv.NotFound"] == ["LookupError", "No record has this key (an expired one counts as none)."]
    assert {f"kv.{name}" for name in errors.__all__} - {"kv.KvModelError"} <= rows.keys()
    for name in set(errors.__all__) - {"KvModelError"}:
        assert rows[f"kv.{name}"][0]


def test_the_picture_is_that_of_the_figures() -> None:
    """The picture in the README is drawn from the figures beside it, of a run that was not a short one."""
    figures = json.loads(read(DOCS / "pictures" / "peers.json"))

    assert read(DOCS / "pictures" / "peers.svg") == draw(figures)
    assert figures["quick"] is False
    get = figures["times"]["get"]
    assert min(times for side, times in get.items() if side.startswith("SQLAlchemy")) >= 60


@pytest.mark.parametrize("name", ["peers", "queues", "trees"])
def test_published_figures_are_of_full_runs(name: str) -> None:
    """What the page on costs shows was not measured in a short run, and says what it was measured on."""
    pytest.importorskip("sphinx")
    from docs.extensions.tables import figures_of, measured_on

    figures = json.loads(read(DOCS / "pictures" / f"{name}.json"))

    assert figures["quick"] is False
    assert {"kvmodel", "lmdb"} <= figures["versions"].keys()
    assert measured_on(figures) in figures_of(name)
