"""The shipped suite, on the stores of this repository."""

from kvmodel.testing.conformance.test_queues import *  # noqa: F403
