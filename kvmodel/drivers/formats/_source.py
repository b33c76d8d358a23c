"""Functions that are written for one table, and stay visible: their source is in the line cache, so that a traceback
shows the line that failed."""

from __future__ import annotations

import itertools
import linecache
import weakref
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Final

__all__ = ["compile_function"]

_serial: Final = itertools.count(1)


def compile_function(name: str, lines: Sequence[str], scope: Mapping[str, object], origin: str) -> FunctionType:
    """Compile one function and register its source, for as long as the function lives.

    Args:
        name: The function's name in ``lines``.
        lines: Its source.
        scope: The names that it uses.
        origin: What it was written for, for the file name that tracebacks show.
    """
    source = "\n".join(lines) + "\n"
    filename = f"<kvmodel {name} of {origin} #{next(_serial)}>"
    namespace: dict[str, object] = dict(scope)
    exec(compile(source, filename, "exec"), namespace)
    function = namespace[name]
    assert isinstance(function, FunctionType)
    # Codecs come and go with namespaces: their source must not stay behind.
    weakref.finalize(function, linecache.cache.pop, filename, None)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return function
