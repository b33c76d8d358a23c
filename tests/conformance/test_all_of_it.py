"""The whole suite runs here, on stores that together lack everything that can be lacking."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import attrs

import kvmodel as kv
from kvmodel.drivers.memory import MemoryDriver
from kvmodel.testing import conformance
from tests.conformance.conftest import CONCERNS, STORES

SHIPPED = {path.stem for path in Path(conformance.__file__).parent.glob("test_*.py")}
HERE = {path.stem for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).stem}


def test_no_module_is_left_out() -> None:
    """Every shipped module has its counterpart, and every theme that a store concerns is one of them."""
    assert SHIPPED == HERE
    assert {f"test_{theme}" for themes in CONCERNS.values() for theme in themes} <= SHIPPED
    assert CONCERNS.keys() <= STORES.keys()


def test_every_capability_is_lacking_somewhere() -> None:
    """Of each that memory can be told to lack, there is a store that does: every refusal is exercised."""

    async def claims() -> list[dict[str, object]]:
        found = []
        for name in CONCERNS:
            async with kv.connect(STORES[name]) as db:
                found.append(attrs.asdict(db.capabilities))
        return found

    best = attrs.asdict(MemoryDriver.capabilities)
    claimed = asyncio.run(claims())

    same = {name for name, value in best.items() if all(each[name] == value for each in claimed)}
    unplayed = {
        "catalogue",
        "durability",
        "empty_texts",
        "failover_may_lose",
        "leaves_deleted",
        "max_batch",
        "max_read_batch",
        "shared_partitions",
        "store",
        "typed_columns",
        "watch_local",
        "watch_resumes",
    }
    assert same == unplayed


def test_the_tools_are_light() -> None:
    """Nothing is imported for testing that the program at hand does not use."""
    program = "import sys, kvmodel.testing; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60).split())

    assert loaded & {"pytest", "hypothesis", "pytest_asyncio", "lmdb", "kvmodel.drivers.memory"} == set()
