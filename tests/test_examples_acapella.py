"""The AcapellaDB example runs as a reader runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "acapella_tour.py"

OUTPUT = """\
entry: somebody was faster
entry: value 2 at version 2
range: [('first', {'age': 25}), ('second', {'age': 32})]
range, behind it: [('third', {'age': 21})]
queue: 0 1 2 3 4 5 6 7 8 9
queue: 10 11 12 13 14 15 16 17 18 19
queue: 20 21 22 23 24 25 26 27 28 29
queue, from 12 s to 15 s: 12 13 14
tree: b c d
tree, behind a up to d: b c d
transactions: [{'age': 26}, {'age': 33}, {'age': 21}]
model: it is there already
model: Note(name='note-1', text='value 4') value 4
model, range: [User(name='first', age=26), User(name='second', age=33)]
model, range, behind it: [User(name='third', age=21)]
model, for others: {'age': 40}
model, queue: 0 1 2 3 4 5 6 7 8 9
model, queue, behind it: 10 11 12 13 14 15 16 17 18 19
model, queue, from 12 s to 15 s: 12 13 14
model, for others: [{'number': 0}, {'number': 1}, {'number': 2}]
model, tree: B C D
model, tree, behind a up to d: B C D
model, for others: {'value': 'below C'}
model, units: [27, 34, 21] Note(name='note-2', text='both are a year older')
"""


def run(*arguments: str) -> str:
    """Run it with this Python, warnings as errors; what it prints comes back."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tour() -> None:
    """Client and models see the same, stop by stop."""
    assert run() == OUTPUT


def test_tour_of_a_server_of_ones_own() -> None:
    """Given by its URL, and as often as one likes."""
    command = [sys.executable, "-m", "kvmodel.testing.acapella", "--hide-deleted"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("ready ").strip()
            assert run(url) == OUTPUT
            assert run(url) == OUTPUT
        finally:
            process.terminate()
