"""What type checkers make of kvmodel: the files in ``right`` are accepted, those in ``wrong`` refused line by line.

A line that must be refused ends with ``# refused: MYPY'S CODES / PYRIGHT'S RULES``. Both checkers run once, at the same
time, over everything.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import attrs
import pytest

import kvmodel as kv
from tests.typing.checkers import (
    Findings,
    lacks_pyright,
    mypy_findings,
    pyright_findings,
    start_mypy,
    start_pyright,
)

HERE = Path(__file__).resolve().parent
RIGHT = sorted((HERE / "right").glob("*.py"))
WRONG = sorted((HERE / "wrong").glob("*.py"))
MARK = re.compile(r"# refused: ([\w, -]+) / ([\w, ]+)$")
CHECKERS = ("mypy", "pyright")
NOT_EXPORTED = "nothing_like_this"


@attrs.frozen
class Checked:
    """What both checkers found, and where each public name was looked for."""

    mypy: Findings
    pyright: Findings | None
    probe: Path
    probed: tuple[str, ...]

    def by(self, checker: str) -> Findings:
        """Answer what one of them found; skip the test if it could not run."""
        found = self.mypy if checker == "mypy" else self.pyright
        if found is None:
            pytest.skip(str(lacks_pyright()))
        return found


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Run both."""
    folder = tmp_path_factory.mktemp("typing").resolve()
    probe, probed = folder / "probe.py", probed_names()
    probe.write_text("import kvmodel as kv\n" + "".join(f"print(kv.{name})\n" for name in probed), encoding="utf-8")
    files = [probe, *RIGHT, *WRONG]
    pyright = None if lacks_pyright() else start_pyright(files, folder)
    mypy = start_mypy(files, folder)
    return Checked(
        mypy_findings(mypy, folder), None if pyright is None else pyright_findings(pyright), probe, tuple(probed)
    )


def probed_names() -> list[str]:
    """Every public name that the package's module binds in whatever way, those of ``__all__``, and one that is not."""
    tree = ast.parse(Path(kv.__file__).read_text(encoding="utf-8"))
    bound = {NOT_EXPORTED, *kv.__all__}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names) | ast.ImportFrom(names=names):
                bound |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                bound.add(name)
            case ast.Name(name, ast.Store()):
                bound.add(name)
    return sorted(name for name in bound if not name.startswith("_"))


def refused(checker: str) -> dict[tuple[str, int], frozenset[str]]:
    """What the marks in the files ask of a checker."""
    marks: dict[tuple[str, int], frozenset[str]] = {}
    for path in WRONG:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            mark = MARK.search(line)
            if mark is not None:
                codes = mark.group(1 + CHECKERS.index(checker))
                marks[path.name, number] = frozenset(code.strip() for code in codes.split(","))
    return marks


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_uses_are_accepted(checked: Checked, checker: str) -> None:
    """Models are inferred from ``get``, ``find``, ranges, pages, units: every ``assert_type`` holds."""
    errors = {(path.name, line): codes for (path, line), codes in checked.by(checker).items() if path in RIGHT}

    assert errors == {}
    assert len(RIGHT) >= 5


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_refused(checked: Checked, checker: str) -> None:
    """Each mistake is a red line, for the reason that is marked, and no other line is."""
    errors = {(path.name, line): codes for (path, line), codes in checked.by(checker).items() if path in WRONG}

    assert errors == refused(checker)


@pytest.mark.parametrize("file", WRONG, ids=lambda path: path.stem)
def test_mistakes_are_marked_once_a_statement(file: Path) -> None:
    """Every file of mistakes holds some, and no mark is misspelt."""
    text = file.read_text(encoding="utf-8")

    marked = [line for line in text.splitlines() if MARK.search(line)]

    assert len(marked) == text.count("# refused") > 0


@pytest.mark.parametrize("checker", CHECKERS)
def test_all_is_what_is_visible(checked: Checked, checker: str) -> None:
    """A checker sees exactly the names of ``__all__`` in ``kvmodel``."""
    errors = checked.by(checker)

    visible = {name for line, name in enumerate(checked.probed, 2) if (checked.probe, line) not in errors}

    assert visible == set(kv.__all__)
    assert NOT_EXPORTED in checked.probed
