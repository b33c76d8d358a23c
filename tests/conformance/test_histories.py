"""The shipped suite, on the stores of this repository."""

from kvmodel.testing.conformance.test_histories import *  # noqa: F403
