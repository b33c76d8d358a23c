"""An emulator of Elevator, over real ZeroMQ: ``python -m kvmodel.testing.elevator``, or in a test::

with ElevatorServer() as server:
    async with kv.connect(server.url) as db:
        ...
"""

from kvmodel.testing.elevator.quirks import Quirks
from kvmodel.testing.elevator.server import ElevatorServer
from kvmodel.testing.elevator.store import Storage

__all__ = ["ElevatorServer", "Quirks", "Storage"]
