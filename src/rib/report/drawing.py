"""Drawing: what the figures for papers share; matplotlib is imported when the first one is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rib.report.figure_data import Span, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^",
    "cross": "P", "x": "X", "triangle-down": "v", "star": "*",
}  # fmt: skip
"""Shapes as matplotlib names them."""


def slug(name: str) -> str:
    """A name that a file can have."""
    return re.sub(r"[^\w.-]+", "-", name.replace(",", ""))


def new(width: float, height: float) -> Figure:
    """A figure in inches that no global state knows of."""
    from matplotlib.figure import Figure as New

    return New(figsize=(width, height), layout="constrained")


def panels(count: int, width: float, height: float, most: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, `most` a row, each of that size in inches."""
    columns = min(count, most)
    lines = -(-count // columns)
    figure = new(width * columns, height * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def whiskers(spans: Iterable[Span]) -> tuple[list[float], list[list[float]]]:
    """Values, and distances to the low and high ends as matplotlib wants them."""
    listed = list(spans)
    below = [max(value - low, 0.0) for value, low, _ in listed]
    above = [max(high - value, 0.0) for value, _, high in listed]
    return [value for value, _, _ in listed], [below, above]


def legend(figure: Figure, styles: Sequence[Style], shape: str | None = None) -> None:
    """A legend above everything, as wide as the figure."""
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color=style.colour, marker=shape or MARKERS[style.symbol], ls="", ms=5) for style in styles]
    longest = max(len(style.name) for style in styles)
    columns = max(1, int(figure.get_figwidth() / (0.45 + 0.07 * longest)))
    figure.legend(
        marks, [style.name for style in styles], loc="outside upper center", ncols=min(columns, len(styles)),
        handletextpad=0.2, columnspacing=1.0,
    )  # fmt: skip
