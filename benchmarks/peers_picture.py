"""Draws the figures of :mod:`benchmarks.peers`: one panel an operation, one bar a side, as long as the operation takes.

The bars of a panel begin at zero and share one scale, so that lengths can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

WIDTH = 900
COLUMNS = 2
GAP = 24
ROW = 20
TITLE = 26
LABEL = 184
VALUE = 116
TOP = 40

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.head { font-weight: 600; font-size: 15px; }
.value { fill: #57606a; }
.bar { fill: #afb8c1; }
.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .value { fill: #9198a1; }
  .bar { fill: #545d68; }
  .ours { fill: #4493f8; }
}
"""


def draw(figures: Mapping[str, Any]) -> str:
    """Answer the picture as SVG."""
    panels: Mapping[str, Mapping[str, float]] = figures["microseconds"]
    times: Mapping[str, Mapping[str, float]] = figures["times"]
    rows = max(len(sides) for sides in panels.values())
    panel_width = (WIDTH - GAP * (COLUMNS + 1)) // COLUMNS
    panel_height = TITLE + rows * ROW + GAP
    height = TOP + -(-len(panels) // COLUMNS) * panel_height
    heading = (
        f"Time for one operation, and times kvmodel's; shorter is better "
        f"(Python {figures['python']}, {figures['platform']})"
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        f"aria-label={quoteattr(heading)}>",
        f"<style>{STYLE}</style>",
        f'<text class="head" x="{GAP}" y="24">{escape(heading)}</text>',
    ]
    for number, (operation, sides) in enumerate(panels.items()):
        left = GAP + number % COLUMNS * (panel_width + GAP)
        top = TOP + number // COLUMNS * panel_height
        lines.append(f'<g transform="translate({left} {top})">')
        lines.append(f'<text class="title" x="0" y="16">{escape(operation)}</text>')
        lines += _bars(sides, times[operation], panel_width - LABEL - VALUE)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bars(sides: Mapping[str, float], times: Mapping[str, float], width: int) -> Iterator[str]:
    """One bar a side, the first one ours."""
    longest = max(sides.values())
    for number, (side, microseconds) in enumerate(sides.items()):
        top = TITLE + number * ROW
        length = max(width * microseconds / longest, 1)
        text = _duration(microseconds) + (f" · {_short(times[side])}×" if number else "")
        kind = "bar" if number else "ours"
        yield f'<text x="0" y="{top + 13}">{escape(side)}</text>'
        yield f'<rect class="{kind}" x="{LABEL}" y="{top + 3}" width="{length:.1f}" height="13" rx="2"/>'
        yield f'<text class="value" x="{LABEL + length + 6:.1f}" y="{top + 13}">{text}</text>'


def _duration(microseconds: float) -> str:
    return f"{_short(microseconds)} µs" if microseconds < 1000 else f"{_short(microseconds / 1000)} ms"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
