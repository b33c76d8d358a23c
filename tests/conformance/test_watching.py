"""The shipped suite, on the stores of this repository."""

from kvmodel.testing.conformance.test_watching import *  # noqa: F403
