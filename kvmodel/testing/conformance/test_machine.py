"""Random programs, of all that can be done, beside a dictionary."""

from __future__ import annotations

import secrets

import pytest

import kvmodel as kv
from kvmodel.testing.clock import VirtualClock

stateful = pytest.importorskip("hypothesis.stateful", reason="random programs need Hypothesis")


def test_random_programs(kv_url: str) -> None:
    """A database does what a dictionary with a clock does, and units of work what the design promises."""
    from hypothesis import Phase, settings

    from kvmodel.testing.machine import make_machine

    examples = settings().max_examples if settings().max_examples > 100 else 30

    async def open_database(clock: VirtualClock) -> kv.Database:
        return await kv.connect(kv_url, namespace=f"test-{secrets.token_hex(6)}", clock=clock)

    stateful.run_state_machine_as_test(
        make_machine(open_database),
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
        ),
    )
