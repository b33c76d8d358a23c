"""The examples run as a reader runs them: as programs, and more than once."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(example: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an example with this Python, its warnings as errors; what it prints comes back."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / example), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_quickstart(tmp_path: Path) -> None:
    """It shows what it says, and ends with the table as it was read back from disk."""
    output = run("quickstart.py", tmp_path).stdout

    assert "range, limit=2:  ['ada', 'alan']" in output
    assert re.search(r"^conflict: +\S", output, re.MULTILINE)
    assert re.search(r"^rolled back: +None$", output, re.MULTILINE)
    table = [line.split() for line in output.partition("\n\n")[2].splitlines()[2:]]
    assert sorted(table) == [
        ["red", "ada", "37"],
        ["red", "alan", "41", "alan@example.org"],
        ["red", "bob", "30"],
        ["red", "eve", "33"],
    ]


def test_quickstart_again(tmp_path: Path) -> None:
    """On a file that is there already it tells the same."""
    first = run("quickstart.py", tmp_path).stdout

    assert run("quickstart.py", tmp_path).stdout == first


def test_quickstart_in_a_temporary_folder() -> None:
    """Without an argument it needs nothing."""
    assert run("quickstart.py").stdout.count("\n") > 10


def test_site_packages_twice(tmp_path: Path) -> None:
    """The first run stores every package and file, the second one finds them all and writes nothing."""
    first = run("site_packages.py", tmp_path)
    second = run("site_packages.py", tmp_path)

    packages, files = counts(first.stdout)
    assert packages > 10
    assert files > 1_000
    assert f"{packages} packages, {files:,} files" in first.stdout
    assert counts(second.stdout) == (0, 0)
    assert second.stdout.partition("\n")[2] == first.stdout.partition("\n")[2]
    assert f"{packages:>4}/{packages}" in first.stderr


def test_site_packages_tells_the_truth(tmp_path: Path) -> None:
    """What is streamed back from the store is what importlib says, record for record."""
    output = run("site_packages.py", tmp_path).stdout

    found = re.search(
        r"^Of the ([\d,]+) files of (\S+), ([\d,]+) are under (\S*): ([\d,]+) bytes", output, re.MULTILINE
    )
    assert found is not None
    package, folder = found[2], found[4]
    sizes = {path.as_posix(): path.size or 0 for path in distribution(package).files or ()}
    below = {path: size for path, size in sizes.items() if path.startswith(folder)}
    assert [f"{len(sizes):,}", f"{len(below):,}", f"{sum(below.values()):,}"] == [found[1], found[3], found[5]]
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:5]
    lines = [f"{size:>14,}  {path}" for path, size in largest]
    assert "\n".join(lines) in output


def counts(output: str) -> tuple[int, int]:
    """The numbers of packages and files that a run says it has written."""
    found = re.search(r"^written: (\d+) packages, (\d+) files$", output, re.MULTILINE)
    assert found is not None
    return int(found.group(1)), int(found.group(2))
