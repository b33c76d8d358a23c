"""Sequences, step by step, safe as they are built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, TypeAlias

from kvmodel.drivers.arakoon import steps as s

__all__ = ["SequenceBuilder"]

Text: TypeAlias = "bytes | str"


class SequenceBuilder:
    """Collects the steps of one atomic update; ``await`` it, or its :meth:`run`, to send them in one request.

    Every method adds a step and answers the builder. A step that the server would not undo, or that may stop it, is
    refused with ``Unsupported`` when it is added.
    """

    def __init__(self, run: Callable[[list[s.Step], bool], Awaitable[None]]) -> None:
        self._run = run
        self._steps: list[s.Step] = []

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return f"<SequenceBuilder of {len(self._steps)} steps>"

    def __await__(self) -> Generator[Any, None, None]:
        return self.run().__await__()

    @property
    def steps(self) -> tuple[s.Step, ...]:
        """The steps so far."""
        return tuple(self._steps)

    async def run(self, sync: bool = False) -> None:
        """Send the steps. Raises as :meth:`~kvmodel.drivers.arakoon.commands.Commands.sequence` does."""
        await self._run(list(self._steps), sync)

    def set(self, key: Text, value: Text) -> SequenceBuilder:
        """Write a value, whatever is there."""
        return self._add(s.Set(key, value))

    def delete(self, key: Text) -> SequenceBuilder:
        """Remove a key; the sequence fails where it is missing."""
        return self._add(s.Delete(key))

    def replace(self, key: Text, value: Text | None) -> SequenceBuilder:
        """Write, or with ``None`` delete, whatever is there or not."""
        return self._add(s.Replace(key, value))

    def test_and_set(self, key: Text, test_value: Text | None, set_value: Text | None) -> SequenceBuilder:
        """Write if the value is the expected one; a mismatch fails nothing."""
        return self._add(s.TestAndSet(key, test_value, set_value))

    def assert_(self, key: Text, value: Text | None) -> SequenceBuilder:
        """Fail unless a key has this value (``None``: is absent)."""
        return self._add(s.Assert(key, value))

    def assert_exists(self, key: Text) -> SequenceBuilder:
        """Fail unless a key is there."""
        return self._add(s.AssertExists(key))

    def assert_range(self, prefix: Text, keys: Iterable[Text]) -> SequenceBuilder:
        """Fail unless the keys with this prefix are exactly these, in whatever order they are given.

        It does not see what earlier steps of the same sequence did.
        """
        return self._add(s.AssertRange(prefix, sorted({s.to_bytes(key) for key in keys}, reverse=True)))

    def delete_prefix(self, prefix: Text) -> SequenceBuilder:
        """Remove all keys that begin so. Nothing that can fail may follow, as this is not undone."""
        return self._add(s.DeletePrefix(prefix))

    def user_function(self, function: Text, argument: Text | None, *, force: bool = False) -> SequenceBuilder:
        """Call a function that was loaded into the server. If it fails the server stops: ``force`` says it cannot."""
        step = s.UserFunction(function, argument)
        if not force:
            s.check_safe([step])
        return self._add(step)

    def nop(self) -> SequenceBuilder:
        """Add a step that does nothing."""
        return self._add(s.Nop())

    def sequence(self, steps: Iterable[s.Step]) -> SequenceBuilder:
        """Add a sequence inside this one."""
        inner = s.Sequence(tuple(steps))
        s.check_safe([inner])
        return self._add(inner)

    def _add(self, step: s.Step) -> SequenceBuilder:
        s.check_safe([*self._deleting(), step], force=True)
        self._steps.append(step)
        return self

    def _deleting(self) -> list[s.Step]:
        """What makes later steps that can fail unsafe: the deletions of prefixes so far."""
        return [step for step in self._steps if isinstance(step, s.DeletePrefix | s.Sequence)]
