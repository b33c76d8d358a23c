"""The documentation's pages, and how their code is run.

The python blocks of a page run in order, each on top of the one before, as in ``python -m asyncio``. What a block
prints is compared with the text block behind it, which :mod:`tests.docs.refresh` writes. Blocks that define
``test_...`` functions run like the others; the functions are tests of their own then, with the fixtures of kvmodel's
pytest plugin.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import attrs

import kvmodel as kv

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

_FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_LMDB = re.compile(r"lmdb:///tmp(/[\w.-]+)")


@attrs.frozen
class Block:
    """A block of python.

    Attributes:
        source: The code, moved down to its own line of the page, so that tracebacks point there.
        printed: What it has to print; ``None`` where the page does not say.
    """

    source: str
    printed: str | None


def blocks(page: Path) -> list[Block]:
    """Answer the python blocks of a page."""
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    found: list[Block] = []
    for number, fence in enumerate(fences):
        if fence["info"].strip() == "python":
            moved = "\n" * text.count("\n", 0, fence.start("text")) + fence["text"]
            found.append(Block(moved, _output(text, fence, fences[number + 1 : number + 2])))
    return found


def _output(text: str, fence: re.Match[str], behind: list[re.Match[str]]) -> str | None:
    """Answer the text block that stands right behind a block."""
    for other in behind:
        if other["info"].strip() == "text" and not text[fence.end() : other.start()].strip():
            return other["text"]
    return None


def names_of_tests(page: Path) -> list[str]:
    """Answer the names of the tests that a page defines."""
    return [
        node.name
        for block in blocks(page)
        for node in ast.parse(block.source).body
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


async def run(page: Path, folder: Path, names: dict[str, object]) -> AsyncIterator[tuple[Block, str]]:
    """Run a page, with ``folder`` for ``/tmp`` in the URLs of LMDB files; answer each block, and what it printed.

    Args:
        page: The page.
        folder: Where its files go.
        names: What its blocks define goes here.
    """
    names["__name__"] = page.stem
    opened: set[kv.Database] = set()
    try:
        for block in blocks(page):
            source = _LMDB.sub(rf"lmdb://{folder}\1", block.source)
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(source, str(page), "exec", flags=flags, dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                try:
                    result = eval(code, names)
                    if inspect.isawaitable(result):
                        await result
                finally:
                    opened |= {value for value in names.values() if isinstance(value, kv.Database)}
            yield block, output.getvalue().replace(str(folder), "/tmp")
    finally:
        for db in opened:
            await db.close()
