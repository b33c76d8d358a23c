"""Trees as they are shown, with ``rich`` and without."""

from __future__ import annotations

import inspect
import io
import re
import sys

import pytest

import kvmodel as kv
from tests.tree.models import Leaf, Shade, fill, tree

pytestmark = pytest.mark.usefixtures("db")

PATHS = ["a", "a/b", "a/b/c", "a/d", "x/y"]

PLAIN = """\
nodes t
├── a  value=1
│   ├── b  value=2
│   │   └── c  value=3
│   └── d  value=4
└── (x)
    └── y  value=5
"""


class Terminal(io.StringIO):
    """A file that says it is one."""

    def isatty(self) -> bool:
        return True


async def test_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines and corners; what is no node, but has some below it, stands in parentheses."""
    nodes = await fill(PATHS)
    await nodes.print_tree()

    assert capsys.readouterr().out == PLAIN


async def test_a_part_of_it() -> None:
    """From any place on, down to any level, with labels of one's own."""
    nodes = await fill(PATHS)

    out = io.StringIO()
    await nodes.print_tree("a", depth=1, label=lambda node: f"{node.path[-1]}: {node.value}", file=out)
    assert out.getvalue() == "a: 1\n├── b: 2\n└── d: 4\n"
    out = io.StringIO()
    await nodes.print_tree(depth=1, label=lambda node: str(node.path[-1]), file=out)
    assert out.getvalue() == "nodes t\n├── a\n└── (x)\n"
    out = io.StringIO()
    await nodes.print_tree("nowhere", file=out)
    assert out.getvalue() == "(nowhere)\n"
    with pytest.raises(kv.ValidationError, match="levels"):
        await nodes.print_tree(depth=0)


async def test_what_is_below_a_level_is_not_read() -> None:
    """A level costs what it shows."""
    nodes = await fill(["a", *(f"a/b/{number}" for number in range(500)), "c"])
    with kv.budget(keys=10):
        await nodes.print_tree(depth=1, file=io.StringIO())


async def test_control_characters_are_shown() -> None:
    """What is stored can't move the cursor of a terminal or begin a line."""
    nodes = await fill([("a\nb",), ("\x1b[2J",)])
    for file in (io.StringIO(), Terminal()):
        await nodes.print_tree(label=lambda node: f"{node.path[-1]}\r", file=file)
        assert "\\n" in file.getvalue()
        assert "\\x1b[2J\\r" in file.getvalue()


async def test_long_fields_are_cut() -> None:
    """A label stays a line."""
    leaves = Leaf.objects.tree(Shade.DARK, 2024)
    await leaves.cursor("a").set("x" * 1_000)
    out = io.StringIO()
    await leaves.print_tree(file=out)

    lines = out.getvalue().splitlines()
    assert lines[0] == "leaves Shade.DARK 2024"
    assert lines[1].startswith("└── a  text='xxx")
    assert len(lines[1]) < 120


async def test_narrow_encodings() -> None:
    """Where the output can't take the lines, or a name, plain characters stand for them."""
    nodes = await fill(["a", "a/ä"])
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    await nodes.print_tree(label=lambda node: str(node.path[-1]), file=out)
    out.flush()

    assert raw.getvalue().decode() == "nodes t\n`-- a\n    `-- \\xe4\n"


async def test_deep_trees() -> None:
    """As deep as a path may be: nothing is done by recursion."""
    path = ("d",) * 150
    nodes = await fill([path])
    out = io.StringIO()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        await nodes.print_tree(label=lambda node: "end", file=out)
    finally:
        sys.setrecursionlimit(limit)

    assert out.getvalue().splitlines()[-1] == "    " * 149 + "└── end"


async def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """With rich the same lines have colours; no label is taken for markup."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pytest.importorskip("rich")
    nodes = await fill([*PATHS, "x/z[red]"])
    out = Terminal()
    await nodes.print_tree(file=out)

    text = re.sub("\x1b[^m]*m", "", out.getvalue())
    assert text != out.getvalue()
    assert text == PLAIN.replace("└── y", "├── y") + "    └── z[red]  value=6\n"


async def test_on_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rich it is printed all the same."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    await fill(PATHS)
    out = Terminal()
    await tree().print_tree(file=out)

    assert out.getvalue() == PLAIN


async def test_pending_changes_are_shown(db: kv.Database) -> None:
    """Inside a unit of work the tree is printed as the unit sees it."""
    nodes = await fill(PATHS)
    out = io.StringIO()
    async with db.unit_of_work() as uow:
        await nodes.delete_subtree("a")
        await nodes.cursor("z").set(9)
        await nodes.print_tree(file=out)
        await uow.rollback()

    assert out.getvalue() == "nodes t\n├── (x)\n│   └── y  value=5\n└── z  value=9\n"
