"""The vendor's package, and what stands in for it, do what was observed."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmodel.testing import quasardb as standin
from tests.drivers.quasardb import observed
from tests.drivers.quasardb.observed import Line, Observer
from tests.drivers.quasardb.peers import odd_ports

HAS_PACKAGE = importlib.util.find_spec("quasardb") is not None
needs_package = pytest.mark.skipif(not HAS_PACKAGE, reason="the vendor's package is not installed: kvmodel[quasardb]")

OWN_PROCESS = ("gil.", "signal.")
LACKING = ("pool.", "retry.")  # What the stand-in has no use for, as nothing in kvmodel has.
SLOW = ("cluster.silent_peer.2s", *OWN_PROCESS)


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """A port for each of the words in the observations."""
    with odd_ports() as ports:
        yield ports


def each(lines: list[Line]) -> pytest.MarkDecorator:
    """Run a test with each of some lines."""
    return pytest.mark.parametrize("line", lines, ids=[line["name"] for line in lines])


def verify(observer: Observer, line: Line) -> None:
    """Repeat an observation, and compare."""
    kind, text = line["exception_class"], line.get("message_contains", "")
    began = time.monotonic()
    if kind is None:
        assert observer.repeat(line) == line["result"]
    else:
        wanted = getattr(observer.module, kind.removeprefix("quasardb."), None) or getattr(builtins, kind, None)
        assert wanted is not None
        with pytest.raises(wanted) as caught:
            observer.repeat(line)
        assert type(caught.value) is wanted
        assert text in str(caught.value)
    took = time.monotonic() - began
    assert took >= line.get("seconds_at_least", 0)
    # The upper bounds tell refusals from waiting; a machine under load is allowed some more.
    assert took <= line.get("seconds_at_most", 60) + 5


@needs_package
@each([line for line in observed.lines() if not line["name"].startswith(OWN_PROCESS)])
def test_the_package(line: Line, ports: dict[str, int]) -> None:
    """The installed package does what the driver was built on."""
    importlib.import_module("quasardb.pool")
    verify(Observer(importlib.import_module("quasardb"), ports), line)


@needs_package
@each([line for line in observed.lines() if line["name"].startswith(OWN_PROCESS)])
def test_the_package_keeps_the_interpreters_lock(line: Line, ports: dict[str, int]) -> None:
    """What the workers are for: nothing else runs during a call of the package, and a signal may end it."""
    code = (
        "import json, sys, quasardb; from tests.drivers.quasardb.observed import Observer;"
        "name, ports = json.loads(sys.argv[1]);"
        "print(json.dumps(Observer(quasardb, ports).repeat({'name': name, 'call': '', 'args': {}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([line["name"], ports])],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == line["result"]


def _is_here(line: Line) -> bool:
    """Whether the stand-in has what a line is about."""
    name = line["name"]
    if name.startswith((*LACKING, *SLOW, "signature.")):
        return False
    if name.startswith("construct.") and name != "construct.Metadata":
        return hasattr(standin, name.removeprefix("construct."))
    return name not in ("entry.inheritance", "check.Cluster.query_has_no_blobs")


@each([line for line in observed.lines() if _is_here(line)])
def test_the_stand_in(line: Line, ports: dict[str, int]) -> None:
    """What replaces the package in tests refuses what the package refuses, in its words."""
    verify(Observer(standin, ports), line)


def _has(line: Line) -> bool:
    """Whether the stand-in has the method of a signature; it has those that kvmodel has a use for."""
    if not line["name"].startswith("signature."):
        return False
    kind, method = line["name"].split(".")[1:]
    return method in dir(getattr(standin, kind, None))


@each([line for line in observed.lines() if _has(line)])
def test_the_stand_in_has_the_packages_parameters(line: Line) -> None:
    """What it has, it has with the same parameters."""
    kind, method = line["name"].split(".")[1:]
    function = getattr(getattr(standin, kind), method)

    inside = re.search(r"\((.*?)\) ->", line["result"])
    assert inside is not None
    wanted = [part.partition(":")[0].strip() for part in re.split(r", (?=\w+:|\*)", inside[1])]
    assert observed.parameters(function) == [name for name in wanted if name not in ("self", "*")]


@needs_package
def test_the_stand_in_has_nothing_that_the_package_lacks() -> None:
    """A call that works in a test only would be found out in production."""
    quasardb = importlib.import_module("quasardb")
    kinds = ("Blob", "Cluster", "Double", "Entry", "Integer", "Node", "Options", "String", "Tag", "Timestamp")
    missing = [name for name in standin.__all__ if not hasattr(quasardb, name)]
    for kind in kinds:
        ours, theirs = getattr(standin, kind), getattr(quasardb, kind)
        missing += [f"{kind}.{name}" for name in dir(ours) if not name.startswith("_") and not hasattr(theirs, name)]

    assert missing == []
