"""The quasardb example runs as a reader runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "quasardb_documents.py"


def run(*arguments: str) -> str:
    """Run it with this Python, warnings as errors; what it prints comes back."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tour() -> None:
    """Upload, download, list, expire, delete: nothing is left."""
    output = run()

    assert "uploaded report.bin: 26214400 bytes in 3 slices" in output
    assert "uploaded empty: 0 bytes in 0 slices" in output
    assert output.count(": the same") == 2
    assert "NotFound" in output
    assert "ends in an hour: True" in output
    assert output.endswith("names left below document-: 0\n")


def test_its_commands_on_a_server(tmp_path: Path) -> None:
    """What one run uploads, another one lists, downloads, lets expire and deletes."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    command = [sys.executable, "-m", "kvmodel.testing.quasardb"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("ready ").strip()
            key = run("--url", url, "upload", str(source)).strip()
            listed = run("--url", url, "list")
            run("--url", url, "download", key, str(target))
            run("--url", url, "expire", key, "3600")
            run("--url", url, "delete", key)
            left = run("--url", url, "list")
        finally:
            process.terminate()

    assert re.fullmatch(rf"{key} +7  source\n", listed)
    assert target.read_bytes() == b"content"
    assert left == ""
