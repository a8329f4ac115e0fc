"""Figures: the page's figures, drawn with matplotlib, as files for papers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.metrics.intervals import Interval
from rib.report.figure_data import (
    GREY,
    FigureComparison,
    FigureData,
    Matrix,
    Tradeoff,
    colour_limit,
    figure_data,
    slots,
)
from rib.report.panel_figures import panel_figures
from rib.report.plotting import MARKERS, dotted, legend, new, panels, slug, whiskers, write_drawn
from rib.results.inside import inside
from rib.results.results import Results
from rib.results.words import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_figures(results: Results, folder: Path, formats: Sequence[str] = ("pdf", "png")) -> list[Path]:
    """Write every figure with matplotlib, for papers.

    Args:
        results: the results to draw.
        folder: target folder; created if missing.
        formats: file suffixes that matplotlib knows.

    Returns:
        The files.

    Raises:
        UserError: matplotlib is not installed, or the folder is not writable.
    """
    data = figure_data(results)
    own = ((name, dotted(figure) if data.lacking else figure) for name, figure in _figures(data))
    drawn = itertools.chain(own, panel_figures(inside(results), data.methods))
    return write_drawn(drawn, folder, formats)


def _figures(data: FigureData) -> Iterator[tuple[str, Figure]]:
    for comparison in data.comparisons:
        suffix = "" if len(data.comparisons) == 1 else f"_n{comparison.size}"
        yield slug(f"accuracy{suffix}"), _accuracy_figure(data, comparison)
        if any(span for line in comparison.mri for span in line):
            yield slug(f"mri{suffix}"), _mri_figure(data, comparison)
        for model in comparison.models:
            matrices = [one for one in data.matrices if (one.model, one.size) == (model, comparison.size)]
            if matrices:
                yield slug(f"change_{model}{suffix}"), _change_figure(matrices)
        tradeoffs = [one for one in data.tradeoffs if one.size == comparison.size]
        if tradeoffs:
            yield slug(f"tradeoff{suffix}"), _tradeoff_figure(data, tradeoffs)
    if data.curves:
        yield "sizes", _sizes_figure(data)


def _accuracy_figure(data: FigureData, comparison: FigureComparison) -> Figure:
    styles = {style.name: style for style in data.methods}
    series = [("pretrained", comparison.before), *zip(comparison.methods, comparison.after, strict=True)]
    places = slots(len(series))
    width = min(places[1] - places[0] if len(places) > 1 else 0.4, 0.4)
    wide = max(0.14 * len(series), 1.1) * len(comparison.models) + 1
    lines = max(model.label.count("\n") for model in data.models)
    figure = new(min(max(5.2, wide), 14), 2.8 + 0.12 * lines)
    axes = figure.subplots()
    for (name, spans), place in zip(series, places, strict=True):
        shown = [(at + place, span) for at, span in enumerate(spans) if span]
        values, errors = whiskers(span for _, span in shown)
        centres = [at for at, _ in shown]
        axes.bar(centres, values, width * 0.92, color=styles[name].colour, label=name)
        axes.errorbar(centres, values, errors, fmt="none", ecolor="black", elinewidth=0.6, capsize=1)
    _mark_missing(axes, comparison, places)
    axes.set_xticks(range(len(data.models)), [model.label for model in data.models])
    axes.set_ylabel("mean OOD accuracy, %")
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    legend(figure, [styles[name] for name, _ in series], "s")
    return figure


def _mark_missing(axes: Axes, comparison: FigureComparison, places: list[float]) -> None:
    """Mark the place of each missing bar at its foot."""
    for spans, planned, place in zip(comparison.after, comparison.planned, places[1:], strict=True):
        for at, (span, asked) in enumerate(zip(spans, planned, strict=True)):
            if asked and not span:
                axes.text(at + place, 0.5, "missing", rotation=90, ha="center", va="bottom", fontsize=6, color=GREY)


def _mri_figure(data: FigureData, comparison: FigureComparison) -> Figure:
    places = slots(len(comparison.models))
    figure = new(5.2, 0.9 + 0.11 * len(comparison.methods) * (len(comparison.models) + 1.5))
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.7)
    for column, (model, place) in enumerate(zip(data.models, places, strict=True)):
        spans = [line[column] for line in comparison.mri]
        shown = [(row + place, span) for row, span in enumerate(spans) if span]
        values, errors = whiskers(span for _, span in shown)
        marker = MARKERS[model.symbol]
        axes.errorbar(
            values,
            [at for at, _ in shown],
            xerr=errors,
            fmt=marker,
            color=model.colour,
            ms=3.5,
            lw=0.9,
            label=model.name,
        )
    axes.set_yticks(range(len(comparison.methods)), comparison.methods)
    axes.set_ylim(len(comparison.methods) - 0.5, -0.5)
    axes.set_xlabel("mRI, percentage points")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    legend(figure, data.models)
    return figure


def _change_figure(matrices: list[Matrix]) -> Figure:
    first = matrices[0]
    columns = len(first.downstream) + len(first.others) + 1
    longest = max(map(len, [*first.downstream, *first.others]))
    width, height = 0.4 + 0.05 * longest + 0.36 * columns, 0.75 + 0.035 * longest + 0.26 * len(first.tuned_on)
    figure, all_axes = panels(len(matrices), width, height, most=2)
    limit = colour_limit(matrices)
    for matrix, axes in zip(matrices, all_axes, strict=True):
        _draw_matrix(axes, matrix, limit)
    words = "change of accuracy in points\ngrey: the set tuned on itself; bold: distinguishable from 0 among all cells"
    figure.suptitle(f"{first.model}: {words}", fontsize=8)
    return figure


def _draw_matrix(axes: Axes, matrix: Matrix, limit: float) -> None:
    """Draw one matrix: downstream sets, RI, and the other sets, separated by gaps."""
    inner = len(matrix.downstream)
    ri_x = inner + 0.3
    xs = [*range(inner), *(ri_x + 1.3 + at for at in range(len(matrix.others)))]
    names = [*matrix.downstream, *matrix.others]
    for y, line in enumerate(matrix.cells):
        for x, tested, span, measured in zip(xs, names, line, matrix.measured[y], strict=True):
            own = tested == matrix.tuned_on[y]
            empty, place = "–" if own and not measured else "miss.", names.index(tested)
            _draw_cell(axes, x, y, span, matrix.marked[y][place], empty, None if own else limit)
        _draw_cell(axes, ri_x, y, matrix.ri[y], matrix.ri_marked[y], "miss.", limit)
    axes.set_xlim(-0.5, xs[-1] + 0.5)
    axes.set_ylim(len(matrix.tuned_on) - 0.5, -0.5)
    axes.set_xticks([*xs, ri_x], [*names, "RI"], rotation=40, ha="right", rotation_mode="anchor", fontsize=6.5)
    axes.set_yticks(range(len(matrix.tuned_on)), matrix.tuned_on, fontsize=6.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{matrix.method}, n = {matrix.size}", fontsize=8)


def _draw_cell(
    axes: Axes, x: float, y: int, span: Interval | None, marked: bool, empty: str, limit: float | None
) -> None:
    """Draw a coloured square with its number; without a limit it is grey."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    share = 0.5 if limit is None or span is None else 0.5 + 0.5 * max(-1.0, min(1.0, span.value / limit))
    colour: Any = "#cfd3d9" if limit is None else "none" if span is None else colormaps["RdBu"](share)
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.5))
    text = signed(span.value).replace("-", "−") if span else empty
    weight = "bold" if marked else "normal"
    dark = limit is not None and span is not None and abs(share - 0.5) > 0.32
    axes.text(x, y, text, ha="center", va="center", fontsize=5.5, weight=weight, color="white" if dark else "black")


def _sizes_figure(data: FigureData) -> Figure:
    styles = {style.name: style for style in data.methods}
    figure, all_axes = panels(len(data.curves), 2.6, 2.2)
    used: set[str] = set()
    for curves, axes in zip(data.curves, all_axes, strict=True):
        axes.axhline(0, color="black", linewidth=0.7)
        offsets = [place * 0.25 for place in slots(len(curves.methods))]
        for name, spans, offset in zip(curves.methods, curves.mri, offsets, strict=True):
            shown = [(at + offset, span) for at, span in enumerate(spans) if span]
            values, errors = whiskers(span for _, span in shown)
            marker = MARKERS[styles[name].symbol]
            used.add(name)
            axes.errorbar(
                [at for at, _ in shown], values, errors, fmt=f"{marker}-", color=styles[name].colour, ms=3.5, lw=1
            )
        axes.set_xticks(range(len(curves.sizes)), curves.sizes)
        axes.set_xlim(-0.4, len(curves.sizes) - 0.6)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.set_title(curves.model, fontsize=8)
    figure.supxlabel("images tuned on", fontsize=8)
    figure.supylabel("mRI, percentage points", fontsize=8)
    legend(figure, [style for style in data.methods if style.name in used])
    return figure


def _tradeoff_figure(data: FigureData, tradeoffs: list[Tradeoff]) -> Figure:
    styles = {style.name: style for style in data.methods}
    figure, all_axes = panels(len(tradeoffs), 2.6, 2.8)
    used: set[str] = set()
    for tradeoff, axes in zip(tradeoffs, all_axes, strict=True):
        axes.axhline(0, color="black", linewidth=0.7)
        front = sorted((point for point in tradeoff.points if point.front), key=lambda point: point.own.value)
        axes.plot([p.own.value for p in front], [p.mri.value for p in front], ":", color=GREY, lw=1.2, zorder=1)
        for point in tradeoff.points:
            (x,), across = whiskers([point.own])
            (y,), along = whiskers([point.mri])
            style = styles[point.method]
            used.add(point.method)
            axes.errorbar(
                [x], [y], along, across, fmt=MARKERS[style.symbol], color=style.colour,
                ms=4.5, elinewidth=0.5, markeredgecolor="black" if point.front else style.colour,
            )  # fmt: skip
        axes.grid(linewidth=0.4, alpha=0.5)
        axes.set_title(tradeoff.model, fontsize=8)
    figure.supxlabel("accuracy on unseen images of the set tuned on, % (black edge, dotted: Pareto front)", fontsize=8)
    figure.supylabel("mRI, percentage points", fontsize=8)
    legend(figure, [style for style in data.methods if style.name in used])
    return figure
