"""Figures: the page's figures, drawn with matplotlib, as files for papers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.errors import UserError, nearest
from rib.given import text_in
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
from rib.report.panel_figures import DRAWN, panel_figures
from rib.report.plotting import MARKERS, dotted, in_style, legend, new, outer, panels, slug, whiskers, write_drawn
from rib.results.inside import inside
from rib.results.results import Results
from rib.results.words import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_figures(
    results: Results,
    folder: Path,
    formats: Sequence[str] = ("pdf", "png"),
    wrote: Callable[[Path], None] = lambda _: None,
) -> list[Path]:
    """Write every figure with matplotlib, for papers.

    Args:
        results: the results to draw.
        folder: target folder; created if missing.
        formats: file suffixes that matplotlib knows.
        wrote: called with each file.

    Returns:
        The files.

    Raises:
        UserError: matplotlib is not installed, or the folder is not writable.
    """
    data = figure_data(results)
    own = ((name, dotted(figure) if data.lacking else figure) for name, figure in _figures(data))
    drawn = itertools.chain(own, panel_figures(inside(results, DRAWN), data.methods))
    return write_drawn(drawn, folder, formats, wrote)


def plot(results: Results, kind: str) -> Figure:
    """One figure of the main size, for a notebook or a script.

    Args:
        results: the results to draw.
        kind: "mri", "accuracy", "tradeoff" or "sizes".

    Raises:
        UserError: matplotlib is not installed, there is no such kind, or the results have nothing for it.
    """
    data = figure_data(results)
    main = next(one for one in data.comparisons if one.size == data.size)
    tradeoffs = [one for one in data.tradeoffs if one.size == data.size]
    kinds: dict[str, tuple[bool, Callable[[], Figure]]] = {
        "mri": (any(span for line in main.mri for span in line), lambda: _mri_figure(data, main)),
        "accuracy": (True, lambda: _accuracy_figure(data, main)),
        "tradeoff": (bool(tradeoffs), lambda: _tradeoff_figure(data, tradeoffs)),
        "sizes": (bool(data.curves), lambda: _sizes_figure(data)),
    }
    if text_in(kind, "the kind of plot") not in kinds:
        raise nearest(kind, kinds, "plot")
    there, draw = kinds[kind]
    if not there:
        having = ", ".join(name for name, (known, _) in kinds.items() if known)
        raise UserError(f"these results have nothing to show as {kind!r}", got=results.suite.name, valid=having)
    with in_style():
        figure = draw()
        return dotted(figure) if data.lacking else figure


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
    alike = len({(one.tuned_on == first.tuned_on, one.downstream == first.downstream) for one in matrices}) == 1
    for place, (matrix, axes) in enumerate(zip(matrices, all_axes, strict=True)):
        _draw_matrix(axes, matrix, limit, outer(place, len(matrices), 2) if alike else (True, True))
    words = "change of accuracy in points\ngrey: the set tuned on itself; bold: distinguishable from 0 among all cells"
    figure.suptitle(f"{first.model}: {words}", fontsize=8)
    return figure


def _draw_matrix(axes: Axes, matrix: Matrix, limit: float, named: tuple[bool, bool]) -> None:
    """Draw one matrix: downstream sets, RI, and the other sets, separated by gaps.

    Args:
        axes: the panel.
        matrix: its numbers.
        limit: the change that has the strongest colour, in points.
        named: whether rows and columns have their names here.
    """
    inner = len(matrix.downstream)
    ri_x = inner + 0.3
    xs = [*range(inner), *(ri_x + 1.3 + at for at in range(len(matrix.others)))]
    names = [*matrix.downstream, *matrix.others]
    cells = [cell for y in range(len(matrix.cells)) for cell in _cells(matrix, y, xs, ri_x, names, limit)]
    _draw_cells(axes, cells)
    axes.set_xlim(-0.5, xs[-1] + 0.5)
    axes.set_ylim(len(matrix.tuned_on) - 0.5, -0.5)
    rows, columns = named
    axes.set_xticks(
        [*xs, ri_x] if columns else [], [*names, "RI"] if columns else [],
        rotation=40, ha="right", rotation_mode="anchor", fontsize=6.5,
    )  # fmt: skip
    axes.set_yticks(range(len(matrix.tuned_on)) if rows else [], matrix.tuned_on if rows else [], fontsize=6.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{matrix.method}, n = {matrix.size}", fontsize=8)


@dataclass(frozen=True)
class _Cell:
    """A coloured square with its number; `share` of the colour scale from 0 to 1, None for grey."""

    x: float
    y: int
    text: str
    bold: bool
    share: float | None

    @property
    def dark(self) -> bool:
        """Whether white reads better on its colour."""
        return self.share is not None and abs(self.share - 0.5) > 0.32


def _cells(
    matrix: Matrix, y: int, xs: Sequence[float], ri_x: float, names: Sequence[str], limit: float
) -> Iterator[_Cell]:
    """The cells of one row."""
    row = zip(xs, names, matrix.cells[y], matrix.measured[y], matrix.marked[y], strict=True)
    for x, tested, span, measured, marked in row:
        own = tested == matrix.tuned_on[y]
        yield _cell(x, y, span, marked, "–" if own and not measured else "miss.", None if own else limit)
    yield _cell(ri_x, y, matrix.ri[y], matrix.ri_marked[y], "miss.", limit)


def _cell(x: float, y: int, span: Interval | None, marked: bool, empty: str, limit: float | None) -> _Cell:
    text = signed(span.value).replace("-", "−") if span else empty
    share = None if limit is None or span is None else 0.5 + 0.5 * max(-1.0, min(1.0, span.value / limit))
    return _Cell(x, y, text, marked, 0.5 if span is None and limit is not None else share)


def _draw_cells(axes: Axes, cells: Sequence[_Cell]) -> None:
    """All squares as one collection, and all numbers as one artist."""
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection

    from rib.report.cell_texts import CellText, CellTexts

    corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    squares = [[(cell.x + dx, cell.y + dy) for dx, dy in corners] for cell in cells]
    scale = colormaps["RdBu"]  # each look-up of a name makes a new one
    colours: list[Any] = ["#cfd3d9" if cell.share is None else scale(cell.share) for cell in cells]
    axes.add_collection(PolyCollection(squares, facecolors=colours, edgecolors="white", linewidths=0.5))
    texts = [CellText(cell.x, cell.y, cell.text, "white" if cell.dark else "black", cell.bold) for cell in cells]
    axes.add_artist(CellTexts(texts))


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
    figure.supxlabel(f"{data.noun} tuned on", fontsize=8)
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
    figure.supxlabel(
        f"accuracy on unseen {data.noun} of the set tuned on, % (black edge, dotted: Pareto front)", fontsize=8
    )
    figure.supylabel("mRI, percentage points", fontsize=8)
    legend(figure, [style for style in data.methods if style.name in used])
    return figure
