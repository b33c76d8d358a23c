"""What others need to test with kvmodel: a virtual clock, planned faults, a proxy that spoils connections, histories to
judge, a state machine, and the suite that every driver is held to.

* :class:`VirtualClock` and :class:`FaultPlan` go to ``kv.connect("memory://", clock=..., plan=...)``.
* The pytest plugin (:mod:`kvmodel.testing.plugin`) gives each test a database: ``kv_db``, with ``kv_clock``.
* :mod:`kvmodel.testing.conformance` is run by ``pytest --pyargs kvmodel.testing.conformance --kv-url=STORE://...``.
* :mod:`kvmodel.testing.machine` needs Hypothesis, and is not imported here.
"""

from kvmodel.testing.clock import VirtualClock
from kvmodel.testing.faults import Call, Fault, FaultPlan
from kvmodel.testing.proxy import Proxy, Way

__all__ = ["Call", "Fault", "FaultPlan", "Proxy", "VirtualClock", "Way"]
