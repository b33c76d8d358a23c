"""Turn generated source into functions whose lines show up in tracebacks."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_numbers = itertools.count(1)


def compile_function(name: str, lines: Sequence[str], names: Mapping[str, object], label: str) -> Callable[..., Any]:
    """Compile one function and answer it.

    Args:
        name: The function's name.
        lines: Its source.
        names: What it may refer to.
        label: Says in tracebacks whose function it is.
    """
    source = "\n".join(lines) + "\n"
    filename = f"<kvmodel {label} {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = dict(names)
    exec(compile(source, filename, "exec"), scope)  # the source holds no text of a user but checked identifiers
    function: Callable[..., Any] = scope[name]
    return function
