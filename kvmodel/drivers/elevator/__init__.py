"""Elevator: LevelDB databases behind ZeroMQ and msgpack."""

from kvmodel.drivers.elevator.client import ElevatorClient
from kvmodel.drivers.elevator.driver import ElevatorDriver

__all__ = ["ElevatorClient", "ElevatorDriver"]
