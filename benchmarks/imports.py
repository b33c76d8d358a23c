"""What ``import kvmodel`` costs on top of what it depends on."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping

PROGRAM = """
from time import perf_counter
start = perf_counter()
import annotated_types, attrs, cattrs, msgpack
dependencies = perf_counter()
import asyncio
loop = perf_counter()
import kvmodel
print(dependencies - start, loop - dependencies, perf_counter() - loop)
"""


def import_times(runs: int) -> Mapping[str, float]:
    """Import in fresh processes; medians, in milliseconds. asyncio is told apart, as every user needs it anyway."""
    samples = []
    for _ in range(runs + 1):
        output = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True, timeout=60)
        samples.append([float(seconds) * 1e3 for seconds in output.split()])
    dependencies, asyncio, kvmodel = (statistics.median(column) for column in zip(*samples[1:], strict=True))
    return {
        "dependencies_ms": dependencies,
        "asyncio_ms": asyncio,
        "kvmodel_ms": kvmodel,
        "added_ms": asyncio + kvmodel,
    }
