"""What ``import kvmodel`` costs on top of what it depends on."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping

PROGRAM = """
from time import perf_counter
start = perf_counter()
import annotated_types, attrs, cattrs, msgpack
dependencies = perf_counter()
import kvmodel
models = perf_counter()
import asyncio
print(dependencies - start, perf_counter() - models, models - dependencies)
"""


def import_times(runs: int) -> Mapping[str, float]:
    """Import in fresh processes; medians, in milliseconds. asyncio is told apart: importing
    kvmodel does not load it, the first use of a store does.

    The first run, which does not count, compiles everything into a folder of its own: what is measured is the same
    for an installed package and for sources that nobody has imported yet.
    """
    with tempfile.TemporaryDirectory() as compiled:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        samples = [import_once(environment) for _ in range(runs + 1)]
    dependencies, asyncio, kvmodel = (statistics.median(column) for column in zip(*samples[1:], strict=True))
    return {
        "dependencies_ms": dependencies,
        "asyncio_ms": asyncio,
        "kvmodel_ms": kvmodel,
        "added_ms": kvmodel,
    }


def import_once(environment: Mapping[str, str]) -> list[float]:
    """Import in a fresh process; milliseconds for the dependencies, for asyncio, for kvmodel."""
    output = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True, timeout=60, env=dict(environment))
    return [float(seconds) * 1e3 for seconds in output.split()]
