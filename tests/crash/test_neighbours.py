"""Two processes write one file at the same time: neither loses what the other has written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import kvmodel as kv
from tests.crash.processes import worker
from tests.crash.worker import Counter


async def test_three_processes_count_together(tmp_path: Path) -> None:
    """Every update and every unit of each of them is in the sum, while all of them read and write."""
    path = tmp_path / "data"
    async with kv.connect(f"lmdb://{path}", timeout=60) as db:
        await Counter.objects.save_many([Counter("hits"), Counter("up"), Counter("down")])
        with worker("count", path) as one, worker("count", path) as two:
            for _ in range(50):
                await Counter.objects.update("hits", value=lambda value: value + 1)
                async with db.unit_of_work(verify=True):
                    up, down = await Counter.objects.get_many(["up", "down"])
                    assert up is not None
                    assert down is not None
                    assert up.value + down.value == 0
            for other in (one, two):
                assert await asyncio.to_thread(other.heard) == ["done"]
                assert await asyncio.to_thread(other.ended) == 0

        counters = await Counter.objects.get_many(["hits", "up", "down"])
        assert [counter and counter.value for counter in counters] == [150, 100, -100]
