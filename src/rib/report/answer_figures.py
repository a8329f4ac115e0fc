"""The figure of a study's answer: line styles for all outputs, and the figure with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.metrics.intervals import Interval
from rib.report.answer_text import half
from rib.report.figure_data import METHOD_COLOURS, SYMBOLS, Style, folded, slots
from rib.report.plotting import MARKERS, explained, legend, panels, slug, whiskers, write_drawn
from rib.results.answer import Answer, AnswerLine, AnswerPanel
from rib.results.words import ONE_SEED, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALE_COLOURS = ("#e09a1f", "#9fae3c", "#4aa577", "#2a93a8", "#3f74c4", "#6d55bd", "#a03f98")
"""Colours from the smallest pretraining set to the largest, the same in every study of a suite."""


def scale_colour(rank: int, top: int) -> str:
    """The colour of a pretraining set, by its rank among sets of other sizes."""
    last = len(SCALE_COLOURS) - 1
    return SCALE_COLOURS[round(last * rank / top) if top else 0]


def line_style(answer: Answer, line: AnswerLine, place: int) -> Style:
    """Style of a line: the colour of its pretraining set, or else of its position in the panel."""
    if line.rank is None:
        colour, symbol = METHOD_COLOURS[place % len(METHOD_COLOURS)], SYMBOLS[place % len(SYMBOLS)]
    else:
        top = max(one.rank or 0 for panel in answer.panels for one in panel.lines)
        colour, symbol = scale_colour(line.rank, top), SYMBOLS[line.shape % len(SYMBOLS)]
    return Style(line.name, folded(line.name), colour, symbol)


def is_lacking(interval: Interval | None) -> bool:
    """Whether an interval lacks seeds, so that it is drawn dotted."""
    return interval is not None and bool(interval.lacks)


def bounds(shown: Sequence[AnswerPanel]) -> tuple[float, float]:
    """Range of the axis of points, the same in every panel: it contains all intervals and 0."""
    spans = [span for panel in shown for line in panel.lines for span in line.spans if span]
    low, high = min([0.0, *(span.low for span in spans)]), max([0.0, *(span.high for span in spans)])
    margin = 0.05 * ((high - low) or 1.0)
    return low - margin, high + margin


def write_answer_figure(answer: Answer, folder: Path) -> list[Path]:
    """Write the figure of an answer as PDF and PNG, named by the study.

    Raises:
        UserError: matplotlib is not installed, or the folder is not writable.
    """
    return write_drawn(answer_figures(answer), folder)


def answer_figures(answer: Answer) -> Iterator[tuple[str, Figure]]:
    """The figure of an answer with its name; nothing if all numbers are missing."""
    if any(span for panel in answer.panels for line in panel.lines for span in line.spans):
        yield slug(answer.study), _map_figure(answer) if answer.surface else _line_figure(answer)


def _line_figure(answer: Answer) -> Figure:
    wide = max(len(panel.ticks) for panel in answer.panels)
    columns = _columns(answer)
    figure, axes = panels(len(answer.panels), min(max(2.3, 0.42 * wide + 0.6), 3.6), 2.3, columns)
    low, high = bounds(answer.panels)
    styles: dict[str, Style] = {}
    for panel, one in zip(answer.panels, axes, strict=True):
        one.axhline(0, color="black", linewidth=0.7)
        for at, (line, offset) in enumerate(zip(panel.lines, slots(len(panel.lines)), strict=True)):
            style = styles.setdefault(line.name, line_style(answer, line, at))
            _draw_line(one, panel, line, style, offset * (0.25 if panel.joined else 0.8))
        turned = sum(map(len, panel.ticks)) > 34
        one.set_xticks(
            range(len(panel.ticks)), panel.ticks, rotation=40 if turned else 0, ha="right" if turned else "center",
            rotation_mode="anchor" if turned else "default", fontsize=7,
        )  # fmt: skip
        one.set_xlim(-0.5, len(panel.ticks) - 0.5)
        one.set_ylim(low, high)
        one.grid(axis="y", linewidth=0.4, alpha=0.5)
        one.set_title(panel.title, fontsize=8)
    figure.supxlabel(answer.panels[0].across, fontsize=8)
    figure.supylabel(answer.measure, fontsize=8)
    legend(figure, list(styles.values()))
    lacking = any(is_lacking(span) for panel in answer.panels for line in panel.lines for span in line.spans)
    return explained(figure) if lacking else figure


def _columns(answer: Answer) -> int:
    """Number of panels per row: a family's panels share a row, at most three per row."""
    families = {panel.title.split(",")[0] for panel in answer.panels}
    each = -(-len(answer.panels) // len(families))
    return each if 1 < each <= 3 else min(3, len(answer.panels))


def _draw_line(axes: Axes, panel: AnswerPanel, line: AnswerLine, style: Style, offset: float) -> None:
    shown = [(at + offset, span) for at, span in enumerate(line.spans) if span]
    values, errors = whiskers(span for _, span in shown)
    drawn = axes.errorbar(
        [at for at, _ in shown], values, errors, fmt=MARKERS[style.symbol] + ("-" if panel.joined else ""),
        color=style.colour, ms=3.8, lw=1.1, elinewidth=0.9,
    )  # fmt: skip
    for bars in drawn[2]:
        bars.set_linestyle([":" if is_lacking(one) else "-" for one in line.spans if one] or "-")


def _map_figure(answer: Answer) -> Figure:
    ticks = max(len(panel.ticks) for panel in answer.panels)
    rows = max(len(panel.lines) for panel in answer.panels)
    figure, axes = panels(len(answer.panels), max(3.4, 0.62 * ticks + 0.8), 1.1 + 0.55 * rows, 2)
    limit = reach(answer)
    for panel, one in zip(answer.panels, axes, strict=True):
        shade = _draw_map(one, panel, limit)
    figure.colorbar(shade, ax=axes, label=answer.measure, shrink=0.9, ticks=[-limit, -limit / 2, 0, limit / 2, limit])
    words = "dots: measured, ± half of the 95 % interval; bold: it excludes 0"
    figure.supxlabel(f"{answer.panels[0].across}\n{words}", fontsize=7)
    figure.supylabel("pretraining set", fontsize=8)
    return figure


def reach(answer: Answer) -> int:
    """The limit of a map's colour scale: the largest absolute mRI, rounded up to a whole point."""
    spans = [span for panel in answer.panels for line in panel.lines for span in line.spans if span]
    return max([1, *(math.ceil(abs(span.value)) for span in spans)])


def _draw_map(axes: Axes, panel: AnswerPanel, limit: int) -> Any:
    """Draw filled contours between the measured points, and the points with their numbers."""
    import numpy as np

    surface = np.ma.masked_invalid([[span.value if span else np.nan for span in line.spans] for line in panel.lines])
    across, up = range(len(panel.ticks)), range(len(panel.lines))
    levels = np.linspace(-limit, limit, 21)
    shade = axes.contourf(across, up, surface, levels=levels, cmap="RdBu", extend="both")
    axes.contour(across, up, surface, levels=levels[::2], colors="black", linewidths=0.3, alpha=0.5)
    for y, line in enumerate(panel.lines):
        for x, span in enumerate(line.spans):
            if span is None:
                axes.text(x, y, "missing", ha="center", va="center", fontsize=6)
                continue
            axes.plot([x], [y], "o", ms=3, color="black")
            number = f"{signed(span.value)}\n±{half(span):z.1f}{ONE_SEED if span.lacks else ''}"
            axes.text(
                x, y + 0.09, number.replace("-", "−"), ha="center", va="bottom",
                fontsize=6, weight="bold" if span.excludes_zero else "normal", linespacing=1.05,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )  # fmt: skip
    axes.set_xticks(across, panel.ticks)
    axes.set_yticks(up, [line.name for line in panel.lines])
    axes.set_xlim(-0.45, len(panel.ticks) - 0.55)
    axes.set_ylim(-0.25, len(panel.lines) - 0.4)
    axes.set_title(panel.title, fontsize=8)
    return shade
