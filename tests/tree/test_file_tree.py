"""The example that mirrors a folder, run as a reader runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kvmodel

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, data: Path) -> str:
    """Run the example; what it prints comes back."""
    return run_it(folder, data).stdout


def run_it(folder: Path, data: Path) -> subprocess.CompletedProcess[str]:
    """Run the example with this Python, its warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "file_tree.py"), str(folder), str(data)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done


def written(output: str) -> tuple[int, int, int]:
    """How many entries a run says that it has written: new, changed, removed."""
    found = re.match(r"written: (\d+) new, (\d+) changed, (\d+) removed\n", output)
    assert found is not None, output
    return int(found[1]), int(found[2]), int(found[3])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some files, all of one time."""
    top = tmp_path / "mirrored"
    (top / "docs" / "old").mkdir(parents=True)
    (top / "empty").mkdir()
    for name, size in (("a.txt", 10), ("docs/b.txt", 200), ("docs/old/c.txt", 3_000), ("zwölf", 12)):
        (top / name).write_bytes(b"x" * size)
    for path in (top, *top.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return top


def test_first_run(folder: Path, tmp_path: Path) -> None:
    """Everything is new; the tree is printed with sizes, times and totals."""
    lines = run(folder, tmp_path / "data").splitlines()

    assert lines == [
        "written: 7 new, 0 changed, 0 removed",
        "",
        f"file_tree {folder}",
        "├── a.txt  10 bytes, 2001-09-09 01:46",
        "├── docs/  3,200 bytes in 2 files",
        "├── empty/  0 bytes in 0 files",
        "└── zwölf  12 bytes, 2001-09-09 01:46",
        "",
        "in all: 3,222 bytes in 4 files",
        lines[9],
        "",
        "The largest folder:",
        "docs/  3,200 bytes in 2 files",
        "├── b.txt  200 bytes, 2001-09-09 01:46",
        "└── old/  3,000 bytes in 1 files",
    ]
    assert re.fullmatch(r"7 entries are stored, \d were read to print this", lines[9])


def test_second_run(folder: Path, tmp_path: Path) -> None:
    """Nothing is written where nothing has changed, and the output is the same."""
    first = run(folder, tmp_path / "data")
    second = run(folder, tmp_path / "data")

    assert written(second) == (0, 0, 0)
    assert second.splitlines()[1:] == first.splitlines()[1:]


def test_after_changes(folder: Path, tmp_path: Path) -> None:
    """Only what has changed is written: here one file, and the sums of the folders above it."""
    run(folder, tmp_path / "data")
    (folder / "docs" / "old" / "c.txt").write_bytes(b"y" * 5_000)
    assert written(run(folder, tmp_path / "data")) == (0, 3, 0)

    (folder / "new.txt").write_bytes(b"z")
    (folder / "empty").rmdir()
    output = run(folder, tmp_path / "data")
    assert written(output) == (1, 0, 1)
    assert "in all: 5,223 bytes in 5 files" in output


def test_a_real_folder(tmp_path: Path) -> None:
    """The files of kvmodel itself are counted as the disk counts them."""
    package = Path(kvmodel.__file__).parent / "drivers"
    output = run(package, tmp_path / "data")

    files = [path for path in package.rglob("*") if not path.is_dir()]
    stored = written(output)[0]
    assert stored == sum(1 for _ in package.rglob("*"))
    assert f"in {len(files):,} files" in output
    assert f"{stored:,} entries are stored" in output


def test_paths_that_are_too_long(tmp_path: Path) -> None:
    """A path that is too long for a key is left out and named, and the rest is stored."""
    deep = tmp_path / "mirrored"
    for _ in range(3):
        deep /= "d" * 150
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")

    done = run_it(tmp_path / "mirrored", tmp_path / "data")

    assert written(done.stdout)[0] in (2, 3)
    assert "in all: 0 bytes in 0 files" in done.stdout
    assert done.stderr.startswith("left out")
