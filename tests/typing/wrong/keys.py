"""Keys that do not fit the types that a model names."""

from __future__ import annotations

from datetime import timedelta

from tests.typing.right.models import Reading, Setting, Sheet


async def of_another_type() -> None:
    """A component is of the wrong type."""
    await Reading.objects.get("s", "1")  # refused: arg-type / reportArgumentType
    await Reading.objects.get(1, "s")  # refused: arg-type / reportArgumentType
    await Reading.objects.find(b"s", 1)  # refused: arg-type / reportArgumentType
    await Reading.objects.exists("s", 1.5)  # refused: arg-type / reportArgumentType
    await Reading.objects.update("s", "1", value=0.5)  # refused: arg-type / reportArgumentType
    await Reading.objects.expire("s", None, expires_in=timedelta(hours=1))  # refused: arg-type / reportArgumentType
    await Reading.objects.delete("s", "1")  # refused: call-overload / reportArgumentType
    await Setting.objects.get(1)  # refused: arg-type / reportArgumentType
    await Sheet.objects.get("b", 1, "2")  # refused: arg-type / reportArgumentType


async def of_another_length() -> None:
    """There are too few components, or too many."""
    await Reading.objects.get("s")  # refused: call-arg / reportCallIssue
    await Reading.objects.get("s", 1, 2)  # refused: call-arg / reportCallIssue
    await Reading.objects.find()  # refused: call-arg / reportCallIssue
    await Reading.objects.exists("s", 1, 2)  # refused: call-arg / reportCallIssue
    await Reading.objects.update("s", value=0.5)  # refused: call-arg / reportCallIssue
    await Reading.objects.expire("s", expires_in=timedelta(hours=1))  # refused: call-arg / reportCallIssue
    await Reading.objects.delete("s")  # refused: call-overload / reportArgumentType
    await Reading.objects.delete("s", 1, 2)  # refused: call-overload / reportCallIssue
    await Setting.objects.get("a", "b")  # refused: call-arg / reportCallIssue
    await Sheet.objects.get("b", 1)  # refused: call-arg / reportCallIssue


async def not_a_component(keys: list[str]) -> None:
    """A whole key in one argument, or components of any number."""
    await Reading.objects.get(("s", 1))  # refused: arg-type, call-arg / reportCallIssue
    await Reading.objects.get(*keys)  # refused: arg-type / reportArgumentType
