"""The judge of histories finds every anomaly, and takes none for one."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.testing import Fault, FaultPlan
from kvmodel.testing.histories import History, judge
from kvmodel.testing.ledger import Ledger


def play(program: str, **seen: dict[str, list[int]]) -> History:
    """Make a history of a program: ``a+`` begins a, ``ax`` appends to x, and a ends by ``a.``, ``a!`` or ``a?``.

    ``seen`` tells what each transaction read under which key.
    """
    history = History()
    known = {}
    for step in program.split():
        letter, what = step[0], step[1]
        if what == "+":
            known[letter] = history.begin()
            for key, numbers in seen.get(letter, {}).items():
                known[letter].saw(key, numbers)
        elif what in ".!?":
            history.end(known[letter], committed={".": True, "!": False, "?": None}[what])
        else:
            known[letter].appends.add(what)
    return history


def verdict(history: History, **final: list[int]) -> str:
    """Answer what the judge says, in one line."""
    return "; ".join(judge(history, {key: numbers for key, numbers in final.items()}))  # noqa: C416 - other key type


def test_one_after_the_other_is_fine() -> None:
    """Each saw what the one before left."""
    history = play("a+ ax a. b+ bx by b. c+ c.", b={"x": [1], "y": []}, c={"x": [1, 2], "y": [2]})

    assert verdict(history, x=[1, 2], y=[2]) == ""


def test_concurrent_transactions_may_be_put_in_either_order() -> None:
    """b began before a ended, and saw nothing of it: it comes first."""
    history = play("a+ b+ ax a. by b.", b={"x": []})

    assert verdict(history, x=[1], y=[2]) == ""


def test_a_lost_update() -> None:
    """Both read the same state and wrote: one of the writes is gone, or was built on what it had not seen."""
    history = play("a+ b+ ax bx a. b.", a={"x": []}, b={"x": []})

    assert "lost" in verdict(history, x=[2])
    assert "no order" in verdict(history, x=[1, 2])


def test_write_skew() -> None:
    """Each wrote what the other had read."""
    history = play("a+ b+ ax by a. b.", a={"x": [], "y": []}, b={"x": [], "y": []})

    assert "no order" in verdict(history, x=[1], y=[2])


def test_a_phantom() -> None:
    """Each put into the range what the other one had not seen in it."""
    history = play("a+ b+ c+ ax by a. b. c.", a={"y": []}, b={"x": []}, c={"x": [1], "y": []})

    assert "no order" in verdict(history, x=[1], y=[2])


def test_a_ring_of_three() -> None:
    """No two of them are in each other's way."""
    history = play("a+ b+ c+ ax by cz a. b. c.", a={"y": []}, b={"z": []}, c={"x": []})

    assert "no order" in verdict(history, x=[1], y=[2], z=[3])


def test_a_stale_read() -> None:
    """What had ended before a transaction began must be seen by it."""
    history = play("a+ ax a. b+ b.", b={"x": []})

    assert "ended before" in verdict(history, x=[1])


def test_a_dirty_read() -> None:
    """What did not commit must be seen by nobody."""
    history = play("a+ ax b+ b. a!", b={"x": [1]})

    assert "which became" in verdict(history)


def test_a_read_between_two_writes() -> None:
    """Half of a transaction was seen."""
    history = play("a+ b+ ax ay a. b.", b={"x": [1], "y": []})

    assert "no order" in verdict(history, x=[1], y=[1])


def test_half_a_transaction() -> None:
    """Whether it committed or not, or nobody knows, it is there as a whole or not at all."""
    for end in (".", "!", "?"):
        assert verdict(play(f"a+ ax ay a{end}"), x=[1]) != ""
    assert verdict(play("a+ ax ay a?"), x=[1], y=[1]) == ""
    assert verdict(play("a+ ax ay a?")) == ""


def test_writes_that_nobody_made() -> None:
    """Twice, or under a key that was not meant."""
    history = play("a+ ax a.")

    assert "twice" in verdict(history, x=[1, 1])
    assert "never meant" in verdict(history, x=[1], y=[1])
    assert "never meant" in verdict(history, x=[1, 7])


async def test_the_workload_finds_what_unchecked_ranges_do() -> None:
    """The same tasks with ranges that are not checked show phantoms: the workload is hard enough to tell."""
    found = 0
    for seed in range(20):
        async with kv.connect("memory://") as db:
            ledger = Ledger(db=db, seed=seed, lines=5, steps=4, checked=False)
            found += bool(judge(await ledger.run(), await ledger.final()))

    assert found >= 3


@pytest.mark.parametrize("seed", range(12))
async def test_units_are_serialisable_when_things_go_wrong(seed: int) -> None:
    """Lost replies, broken connections, late writes: what was told is true, and nothing is half done."""
    plan = FaultPlan(seed, conflict=0.05, cut_before=0.05, cut_after=0.1, late=0.1, delay=0.3)
    async with kv.connect("memory://", plan=plan) as db:
        ledger = Ledger(db=db, seed=seed, tasks=8, units=10)
        history = await ledger.run()
        await plan.settle()
        plan.quiet()

        assert judge(history, await ledger.final()) == []
    assert {Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.LATE, Fault.DELAY} <= set(plan.counts)
    assert any(each.committed is None for each in history.transactions)
