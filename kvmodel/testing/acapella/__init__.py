"""An emulator of AcapellaDB: the wire protocol over real HTTP, everything in memory.

``python -m kvmodel.testing.acapella`` starts one; in a test, :class:`AcapellaServer` does, tells what it was asked, and
can be told how the next request goes wrong. It settles in one way what the product's sources leave open.
"""

from kvmodel.testing.acapella.mishaps import Answer, Mishap, Seen
from kvmodel.testing.acapella.server import AcapellaServer

__all__ = ["AcapellaServer", "Answer", "Mishap", "Seen"]
