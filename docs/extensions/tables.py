"""Pages that are made from the code: the matrix of capabilities, the reference of errors, the tables of figures.

They are Markdown, put in place by directives: ``{capabilities}``, ``{errors}`` and ``{figures}``.
"""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from kvmodel import errors
from kvmodel.drivers.base import Capabilities

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# --- the matrix of capabilities ---------------------------------------------------------------------------------------


def drivers() -> Mapping[str, Capabilities]:
    """Answer what the class of every installed driver of kvmodel's own claims, by URL scheme."""
    points = sorted(entry_points(group="kvmodel.drivers"), key=lambda point: point.name)
    found: dict[str, Capabilities] = {}
    for point in points:
        if point.value.startswith("kvmodel."):
            capabilities = point.load().capabilities
            if capabilities not in found.values():  # a second scheme of the same store, such as rediss://
                found[point.name] = capabilities
    return found


def capability_table(claims: Mapping[str, Capabilities]) -> str:
    """Answer the matrix as a Markdown table: one row a capability, one column a store."""
    names = [field.name for field in attrs.fields(Capabilities) if field.name != "store"]
    header = ["capability", *(f"`{scheme}://`" for scheme in claims)]
    rows = [[f"`{name}`", *(shown(getattr(claim, name)) for claim in claims.values())] for name in names]
    return table(header, rows)


def shown(value: object) -> str:
    """Answer a capability in words."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case enum.Enum():
            return value.name
        case int():
            return f"{value:,}"
    return str(value)


# --- the reference of errors ------------------------------------------------------------------------------------------


def error_classes() -> Sequence[type[errors.KvModelError]]:
    """Answer all errors, the root first, in the order of the tree."""
    values = vars(errors).values()
    return [value for value in values if isinstance(value, type) and issubclass(value, errors.KvModelError)]


def error_table(classes: Sequence[type[errors.KvModelError]]) -> str:
    """Answer a Markdown table: what to catch, and what it says."""
    rows = [[f"[`kv.{cls.__name__}`](#kvmodel.{cls.__name__})", builtins(cls), summary(cls)] for cls in classes]
    return table(["error", "is also a", "raised when"], rows)


def builtins(cls: type) -> str:
    """Answer the built-in errors that a class is directly or through its parents, the closest first."""
    own = [base for base in cls.__mro__ if base.__module__ == "builtins"]
    plain = {BaseException, Exception, object}
    return ", ".join(f"`{base.__name__}`" for base in own if base not in plain and not _is_implied(base, own))


def _is_implied(base: type, others: Sequence[type]) -> bool:
    return any(other is not base and issubclass(other, base) for other in others)


def summary(cls: type) -> str:
    """Answer the first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def error_tree() -> str:
    """Answer the tree that is drawn in the docstring of the module."""
    drawn = (inspect.getdoc(errors) or "").partition("::\n\n")[2]
    return inspect.cleandoc(drawn.partition("\n\n")[0])


def error_reference() -> str:
    """Answer the whole page as Markdown."""
    root, *others = error_classes()
    documented = [line for cls in [root, *others] for line in _documented(cls)]
    return "\n".join(
        [
            "```text",
            error_tree(),
            "```",
            "",
            error_table(others),
            "",
            "```{eval-rst}",
            *documented,
            "```",
            "",
        ]
    )


def _documented(cls: type[errors.KvModelError]) -> Iterator[str]:
    yield f".. autoexception:: kvmodel.{cls.__name__}"
    yield "   :show-inheritance:"
    yield ""


# --- the figures of benchmarks ----------------------------------------------------------------------------------------

FIGURES = Path(__file__).parents[1] / "pictures"


def figures_table(figures: Mapping[str, Any]) -> str:
    """Answer a Markdown table: one row a side, one column an operation; microseconds, and times kvmodel's."""
    taken: Mapping[str, Mapping[str, float]] = figures["microseconds"]
    times: Mapping[str, Mapping[str, float]] = figures["times"]
    sides = max(taken.values(), key=len)
    rows = [
        [
            side,
            *(f"{taken[what][side]:,.1f} ({times[what][side]:.2f})" if side in taken[what] else "" for what in taken),
        ]
        for side in sides
    ]
    return table(["µs (times kvmodel's)", *taken], rows) + f"\n{measured_on(figures)}\n"


def measured_on(figures: Mapping[str, Any]) -> str:
    """Answer what the figures were measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return f"Python {figures['python']}, {figures['platform']}; {versions}."


def queue_table(figures: Mapping[str, Any]) -> str:
    """Answer a Markdown table: one row a workload; messages a second, and how many times kvmodel's that is."""
    sides = list(figures["figures"][0]["per_second"])
    rows = []
    for figure in figures["figures"]:
        speeds = figure["per_second"]
        others = (f"{speeds[side]:,.0f} ({1 / figure['times'][side]:.2f})" for side in sides[1:])
        name = f"{figure['workload']}, {'synced' if figure['synced'] else 'not synced'}"
        rows.append([name, f"{speeds[sides[0]]:,.0f}", *others])
    return table(["messages a second (times kvmodel's)", *sides], rows) + f"\n{measured_on(figures)}\n"


def tree_table(figures: Mapping[str, Any]) -> str:
    """Answer a Markdown table: one row a shape of tree; microseconds a child, and what is read for one call."""
    rows = [
        [
            f"{shape['children']:,} with {shape['below']:,} below each",
            f"{shape['each']['floor']:.1f}",
            f"{shape['each']['kvmodel']:.1f}",
            f"{shape['each']['ratio']:.2f}",
            f"{shape['call']['keys']:,}",
            f"{shape['call']['whole_subtree']:,.1f}",
        ]
        for shape in figures["shapes"]
    ]
    header = ["children", "by hand, µs", "kvmodel, µs", "ratio", "keys read", "times faster than reading all below"]
    return table(header, rows) + f"\n{measured_on(figures)}\n"


_FIGURES = {"peers": figures_table, "queues": queue_table, "trees": tree_table}


def figures_of(name: str) -> str:
    """Answer the figures of one benchmark as Markdown."""
    return _FIGURES[name](json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8")))


# --- Markdown ---------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Answer a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


class CapabilitiesDirective(SphinxDirective):
    """``{capabilities}``"""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        return self.parse_text_to_nodes(capability_table(drivers()))


class ErrorsDirective(SphinxDirective):
    """``{errors}``"""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        return self.parse_text_to_nodes(error_reference())


class FiguresDirective(SphinxDirective):
    """``{figures}``, of the benchmark that is named: ``peers``, ``queues`` or ``trees``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        self.env.note_dependency(str(FIGURES / f"{name}.json"))
        return self.parse_text_to_nodes(figures_of(name))


def setup(app: Sphinx) -> dict[str, object]:
    """Tell Sphinx."""
    app.add_directive("capabilities", CapabilitiesDirective)
    app.add_directive("errors", ErrorsDirective)
    app.add_directive("figures", FiguresDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
