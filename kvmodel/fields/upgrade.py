"""Steps that bring stored values from one schema number to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

StepT = TypeVar("StepT", bound="Callable[..., Any] | staticmethod[..., Any]")


@attrs.frozen
class UpgradeStep:
    """One step, as it stands in a class body."""

    number: int
    function: Any

    def __call__(self, values: dict[str, Any]) -> dict[str, Any]:
        """Bring values from ``number`` to the number after it."""
        upgraded: dict[str, Any] = self.function(values)
        return upgraded


def upgrade(number: int) -> Callable[[StepT], StepT]:
    """Declare how records of schema ``number`` become records of the number after it.

    It stands in the class body, over a static function from the stored values to the new ones::

        class User(kv.Model, table="users", schema=2):
            ...

            @kv.upgrade(1)
            @staticmethod
            def _(values: dict[str, object]) -> dict[str, object]:
                return {**values, "email": None}

    The steps run when an older record is read; it is stored in the new form when it is saved. There must be a step for
    every number from 1 to that of the class.
    """

    def mark(function: Any) -> Any:
        return UpgradeStep(number, function.__func__ if isinstance(function, staticmethod) else function)

    return mark
