"""What is taken for an answer to a command: the last guard against another request's reply."""

from __future__ import annotations

import pytest

from kvmodel.drivers.elevator import answers
from kvmodel.drivers.elevator.answers import Accept
from kvmodel.drivers.elevator.protocol import Code, Data, Reply, Status

UID = b"8b05720d-77a3-4d40-bf7a-9bf328e4af7f"
PAIRS: Data = [[b"a", b"1"], [b"b", b"2"]]

GOOD: list[tuple[Accept, Data]] = [
    (answers.nothing, None),
    (answers.pong, [b"PONG"]),
    (answers.flag, [True]),
    (answers.flag, False),
    (answers.value, [b"v"]),
    (answers.names, []),
    (answers.names, [b"default"]),
    (answers.uid, [UID]),
    (answers.rows(True, True), PAIRS),
    (answers.rows(True, True, 2), PAIRS),
    (answers.rows(True, False, 2), [b"a"]),
    (answers.rows(False, False), [None, None]),
    (answers.values(2), [b"v", b"w"]),
]
BAD: list[tuple[Accept, Data]] = [
    (answers.nothing, []),
    (answers.nothing, [b"PONG"]),
    (answers.pong, [b"v"]),
    (answers.flag, [b"v"]),
    (answers.flag, None),
    (answers.value, [b"v", b"w"]),
    (answers.value, [None]),
    (answers.value, []),
    (answers.names, [None]),
    (answers.uid, [b"v"]),
    (answers.uid, [UID + b"0"]),
    (answers.uid, [UID, UID]),
    (answers.rows(True, True, 1), PAIRS),
    (answers.rows(True, True), [b"a", b"b"]),
    (answers.rows(True, True), [[b"a"]]),
    (answers.rows(True, True), [[b"a", None]]),
    (answers.rows(True, False), PAIRS),
    (answers.rows(False, False), [b"v"]),
    (answers.rows(True, True), None),
    (answers.values(2), [b"v"]),
    (answers.values(1), [[b"v"]]),
    (answers.values(1), None),
]


@pytest.mark.parametrize(("accept", "data"), GOOD)
def test_answers_that_fit(accept: Accept, data: Data) -> None:
    """Are taken; so is a failure, whatever was asked."""
    assert accept(Reply(Status.SUCCESS, data))
    assert accept(Reply(Status.FAILURE, None, Code.TYPE, b"no"))


@pytest.mark.parametrize(("accept", "data"), BAD)
def test_answers_that_do_not(accept: Accept, data: Data) -> None:
    """Are those to something else."""
    assert not accept(Reply(Status.SUCCESS, data))


@pytest.mark.parametrize(("accept", "data"), GOOD)
def test_failures_say_why_and_bring_nothing(accept: Accept, data: Data) -> None:
    """What brings data, or has no code, is none."""
    assert not accept(Reply(Status.FAILURE, None, None, b"no"))
    if data:
        assert not accept(Reply(Status.FAILURE, data, Code.KEY, b"no"))


def test_only_values_may_be_missing_with_a_warning() -> None:
    """No other command warns."""
    assert answers.values(2)(Reply(Status.WARNING, [b"v", None]))
    for accept, data in GOOD[:-1]:
        assert not accept(Reply(Status.WARNING, data))
