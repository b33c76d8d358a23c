"""Keys that do not fit the types that a model names."""

from __future__ import annotations

from datetime import timedelta

from tests.typing.right.models import Reading, Setting, Sheet


async def of_another_type() -> None:
    """A component is of the wrong type."""
    await Reading.objects.get("s", "1")
    await Reading.objects.get(1, "s")
    await Reading.objects.find(b"s", 1)
    await Reading.objects.exists("s", 1.5)
    await Reading.objects.update("s", "1", value=0.5)
    await Reading.objects.expire("s", None, expires_in=timedelta(hours=1))
    await Reading.objects.delete("s", "1")
    await Setting.objects.get(1)
    await Sheet.objects.get("b", 1, "2")


async def of_another_length() -> None:
    """There are too few components, or too many."""
    await Reading.objects.get("s")
    await Reading.objects.get("s", 1, 2)
    await Reading.objects.find()
    await Reading.objects.exists("s", 1, 2)
    await Reading.objects.update("s", value=0.5)
    await Reading.objects.expire("s", expires_in=timedelta(hours=1))
    await Reading.objects.delete("s")
    await Setting.objects.get("a", "b")
    await Sheet.objects.get("b", 1)


async def not_a_component(keys: list[str]) -> None:
    """A whole key in one argument, or components of any number."""
    await Reading.objects.get(("s", 1))
    await Reading.objects.get(*keys)
