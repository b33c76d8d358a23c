"""Public names that are imported at their first use, so that a module of models stays cheap to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["importer", "present"]


def importer(module: dict[str, Any], sources: Mapping[str, str]) -> Callable[[str], object]:
    """Answer a ``__getattr__`` for a module, given by its globals: ``sources`` says where each name comes from."""

    def find(name: str) -> object:
        if name not in sources:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        found: object = getattr(import_module(sources[name]), name)
        present(module, name, found)
        return found

    return find


def present(module: dict[str, Any], name: str, found: object) -> None:
    """Show a name in a module as it may be imported from there: in a repr, a traceback, an editor."""
    module[name] = found
    if getattr(found, "__module__", "").startswith("kvmodel."):
        found.__module__ = module["__name__"]
