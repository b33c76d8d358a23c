"""The tree of errors: what they say, what they carry, and that they cross process boundaries."""

from __future__ import annotations

import copy
import pickle

import pytest

import kvmodel as kv
from kvmodel import errors

SAMPLES: list[kv.KvModelError] = [
    kv.NotFound("no record has this key", table="users", key=("red", 1), store="lmdb:///x"),
    kv.ValidationError("refused", field="age"),
    kv.TooLarge("too large", size=10, limit=5, table="users"),
    kv.Conflict("lost", keys=[("users", ("red",))]),
    kv.AlreadyExists("taken", keys=[("users", ("red",))], table="users", key=("red",)),
    kv.BatchError("some failed", outcomes=[kv.Outcome(kv.Status.UNSENT)], done=3),
    kv.BudgetExceeded("too much", spent=3, limit=2, unit="keys"),
    kv.OutcomeUnknown("who knows", store="etcd"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_keep_their_facts(error: kv.KvModelError) -> None:
    """Pickled or copied, an error is of the same class, says the same and carries the same facts."""
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(same) is type(error)
        assert str(same) == str(error)
        assert {k: v for k, v in vars(same).items() if k != "remaining"} == {
            k: v for k, v in vars(error).items() if k != "remaining"
        }


def test_the_text_is_static_and_the_facts_follow() -> None:
    """Messages can be searched and grouped; facts stand behind them in a fixed order."""
    assert str(SAMPLES[0]) == "no record has this key [table='users', key=('red', 1), store='lmdb:///x']"
    assert str(kv.NotFound("gone")) == "gone"


def test_facts_that_cannot_be_shown_do_not_hide_the_message() -> None:
    """Huge integers and long keys are cut, not raised over."""
    huge = kv.NotFound("gone", key=(10**5000,))
    long = kv.NotFound("gone", key=("x" * 10_000,))

    assert str(huge).startswith("gone [key=")
    assert len(str(long)) < 600


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (kv.SchemaError, TypeError),
        (kv.ValidationError, ValueError),
        (kv.TooLarge, ValueError),
        (kv.NotFound, LookupError),
        (kv.Conflict, RuntimeError),
        (kv.AlreadyExists, kv.Conflict),
        (kv.BatchError, RuntimeError),
        (kv.DecodingError, ValueError),
        (kv.Unsupported, NotImplementedError),
        (kv.NoDatabase, LookupError),
        (kv.Closed, RuntimeError),
        (kv.BudgetExceeded, RuntimeError),
        (kv.WatchLost, RuntimeError),
        (kv.StoreError, OSError),
        (kv.Unavailable, ConnectionError),
        (kv.TimedOut, TimeoutError),
        (kv.OutcomeUnknown, kv.StoreError),
        (kv.AuthenticationFailed, PermissionError),
        (kv.ProtocolError, kv.StoreError),
    ],
)
def test_ordinary_handlers_work(error: type[Exception], builtin: type[Exception]) -> None:
    """Every error has the one root, and the closest built-in too."""
    assert issubclass(error, kv.KvModelError)
    assert issubclass(error, builtin)


def test_every_error_is_drawn_in_the_tree() -> None:
    """The drawing at the top of the module is complete."""
    assert errors.__doc__ is not None
    for name in errors.__all__:
        assert name in errors.__doc__
