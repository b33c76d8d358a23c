"""The README is true: its code runs as it stands, its commands are the ones that are tested, its links lead on."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN_PATH = "/tmp/kvmodel-walk"


def blocks(language: str) -> list[str]:
    """All fenced blocks of a language, each moved down to its own line, so that tracebacks point into the README."""
    return [
        "\n" * README.count("\n", 0, found.start(1)) + found.group(1)
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    ]


def compile_block(source: str) -> CodeType:
    """Compile as ``python -m asyncio`` does: ``await`` may stand at the top level."""
    code: CodeType = compile(source, str(ROOT / "README.md"), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def test_walk_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every python block runs, in order, each on top of the one before, against one LMDB file."""
    names: dict[str, object] = {"__name__": "readme"}
    sources = blocks("python")

    for source in sources:
        result = eval(compile_block(source.replace(WRITTEN_PATH, str(tmp_path / "data"))), names)
        if inspect.isawaitable(result):
            await result

    assert len(sources) == README.count("```python")
    assert capsys.readouterr().out.splitlines() == ["ada 37", "alan 41"]
    assert any(tmp_path.iterdir())


def test_two_commands() -> None:
    """There are two commands; each makes its own environment, and CI runs the one for the tests word for word."""
    commands = [block.strip() for block in blocks("sh")]

    assert len(commands) == 2
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)
    assert commands[0].endswith("examples/quickstart.py")
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_links() -> None:
    """Every relative link leads to a file."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
