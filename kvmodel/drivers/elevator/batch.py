"""Batches: writes that are done together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

from kvmodel.drivers.elevator.checks import encode
from kvmodel.drivers.elevator.protocol import Value
from kvmodel.drivers.elevator.refusals import Refusal
from kvmodel.errors import KvModelError, OutcomeUnknown

__all__ = ["DELETE", "PUT", "WriteBatch"]

DELETE = 0
PUT = 1


class WriteBatch:
    """Writes that the server does together, or not at all. Made by ``client.write_batch()``.

    For one key the last operation wins. Once a batch may have reached the server it is empty again, whatever came of
    it: what was refused is not sent a second time along with what comes next. What surely was not sent stays in it.
    """

    def __init__(self, write: Callable[[list[Value], float | None], Awaitable[None]]) -> None:
        self._write = write
        self._operations: list[Value] = []

    def __len__(self) -> int:
        return len(self._operations)

    def put(self, key: str | bytes, value: str | bytes) -> None:
        """Store a value when the batch is written."""
        self._operations.append([PUT, encode("key", key), encode("value", value)])

    def delete(self, key: str | bytes) -> None:
        """Remove a key when the batch is written."""
        self._operations.append([DELETE, encode("key", key)])

    def clear(self) -> None:
        """Forget what was put and deleted."""
        self._operations = []

    async def write(self, *, timeout: float | None = None) -> None:
        """Write it, in one request. An empty batch sends nothing.

        Args:
            timeout: Seconds; left out, those that the batch was made with.
        """
        operations, self._operations = self._operations, []
        if not operations:
            return
        try:
            await self._write(operations, timeout)
        except KvModelError as error:
            if not isinstance(error, OutcomeUnknown) and not isinstance(error.__cause__, Refusal):
                self._operations = operations + self._operations
            raise

    async def __aenter__(self) -> WriteBatch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.write()
        else:
            self.clear()
