"""The shipped suite, on the stores of this repository."""

from kvmodel.testing.conformance.test_machine import *  # noqa: F403
