"""Panel figures: values of analyses for papers: CKA and drift by layer, CKA matrices, distance against loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rib.report.figure_data import METHOD_COLOURS, SYMBOLS, Style, slots
from rib.report.plotting import MARKERS, legend, outer, panels, slug, whiskers
from rib.results.inside import Inside
from rib.results.inside.averages import OTHERS
from rib.results.inside.distances import DistanceLoss
from rib.results.inside.layers import ALL, LayerProfile, Square
from rib.results.words import size_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

PROFILES = {"CKA": ("cka", "CKA, before with after"), "drift by layer": ("drift", "relative change of weights")}
"""The profiles to draw, each with its file name and the label of its axis."""

DRAWN = ("profiles", "squares", "distances")
"""The values of analyses that have a figure."""

SLANTED: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor", "fontsize": 6}
"""The names of layers below an axis."""

MOST = 20
"""Maximum number of layers with a name each on an axis."""


def panel_figures(found: Inside, methods: Sequence[Style]) -> Iterator[tuple[str, Figure]]:
    """Names and figures of the averages over tuned sets.

    Args:
        found: the values of the analyses.
        methods: style of each method.
    """
    styles = {style.name: style for style in methods}
    whole = [profile for profile in found.profiles if profile.tuned_on == ALL and profile.what in PROFILES]
    for profiles in _grouped(whole, lambda one: (one.what, one.analysis, one.on, one.size)):
        first = profiles[0]
        yield _name(PROFILES[first.what][0], first.analysis, first.on, first.size), _profiles_figure(profiles, styles)
    over_all = [square for square in found.squares if square.tuned_on == ALL]
    for squares in _grouped(over_all, lambda one: (one.analysis, one.on, one.model, one.size)):
        one = squares[0]
        yield _name("cka_matrix", one.analysis, f"{one.on}_{one.model}", one.size), _squares_figure(squares)
    for losses in _grouped(_telling(found.distances), lambda one: (one.analysis, one.measure, one.size, one.lost_on)):
        loss = losses[0]
        what = "distance" if loss.lost_on == OTHERS else "distance_reference"
        yield _name(what, loss.analysis, loss.measure, loss.size), _distances_figure(losses)


def _grouped(items: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    """Groups of items with equal keys, in the order of their first items."""
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _name(what: str, analysis: str, of: str, size: int | None) -> str:
    """File name; it contains the analysis' name in the suite if that is not the default."""
    own = "" if analysis in ("cka", "drift", "distance") else f"_{analysis}"
    return slug(f"{what}{own}{f'_{of}' if of else ''}_n{size_name(size)}")


def _telling(losses: Iterable[DistanceLoss]) -> list[DistanceLoss]:
    """The losses of `finetune`, or else of the first method, for each model, measure and size; without empty ones."""
    groups = _grouped(
        (loss for loss in losses if loss.pairs),
        lambda one: (one.analysis, one.measure, one.model, one.size, one.lost_on),
    )
    return [next((loss for loss in group if loss.method == "finetune"), group[0]) for group in groups]


def _profiles_figure(profiles: Sequence[LayerProfile], styles: dict[str, Style]) -> Figure:
    """One panel per model, one line per method."""
    longest = max(len(place) for profile in profiles for place in profile.places)
    figure, all_axes = panels(len(profiles), 3.0, 2.2 + 0.04 * longest)
    used: dict[str, None] = {}
    for profile, axes in zip(profiles, all_axes, strict=True):
        used |= dict.fromkeys(profile.methods)
        _draw_profile(axes, profile, styles)
    figure.supylabel(PROFILES[profiles[0].what][1], fontsize=8)
    legend(figure, [styles[name] for name in used])
    return figure


def _draw_profile(axes: Axes, profile: LayerProfile, styles: dict[str, Style]) -> None:
    offsets = [0.4 * place for place in slots(len(profile.methods))]
    for method, line, offset in zip(profile.methods, profile.values, offsets, strict=True):
        shown = [(at, item) for at, item in enumerate(line) if item]
        values, errors = whiskers(span for _, span in shown)
        style = styles[method]
        axes.errorbar(
            [at + offset for at, _ in shown], values, errors, fmt=f"{MARKERS[style.symbol]}-", color=style.colour,
            ms=2.5, lw=0.9, elinewidth=0.5,
        )  # fmt: skip
    step = -(-len(profile.places) // MOST)
    named = range(0, len(profile.places), step)
    labels = [profile.places[at] for at in named]
    axes.set_xticks(list(named), labels, **SLANTED)
    if profile.what == "CKA":  # the axis stays long enough for small changes to look small
        lowest = min((item.low for line in profile.values for item in line if item), default=0.0)
        axes.set_ylim(min(0.8, lowest) - 0.03, 1.03)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.set_title(profile.model, fontsize=8)


def _squares_figure(squares: Sequence[Square]) -> Figure:
    """One panel per method, from light (0) to dark (1)."""
    count, longest = len(squares[0].layers), max(map(len, squares[0].layers))
    side = 0.8 + 0.05 * longest + max(0.1, min(0.34, 4 / count)) * count
    figure, all_axes = panels(len(squares), side, side)
    alike = len({tuple(square.layers) for square in squares}) == 1
    for place, (square, axes) in enumerate(zip(squares, all_axes, strict=True)):
        _draw_square(axes, square, outer(place, len(squares)) if alike else (True, True))
    first = squares[0]
    figure.suptitle(f"{first.model}, n = {size_name(first.size)}: CKA of layers before (rows) and after", fontsize=8)
    return figure


def _draw_square(axes: Axes, square: Square, named: tuple[bool, bool]) -> None:
    """Draw one matrix; `named`: whether its rows and its columns have their names here."""
    cells = [[float("nan") if value is None else value for value in row] for row in square.cells]
    axes.imshow(cells, vmin=0, vmax=1, cmap="Blues")
    if len(cells) <= MOST // 2:
        from rib.report.cell_texts import CellText, CellTexts

        places = [(column, row, value) for row, line in enumerate(cells) for column, value in enumerate(line)]
        texts = [CellText(x, y, f"{max(value, 0):z.2f}", "white" if value > 0.6 else "black") for x, y, value in places]
        axes.add_artist(CellTexts(texts))
    rows, columns = named
    nameless = [""] * len(cells)
    axes.set_xticks(range(len(cells)), square.layers if columns else nameless, **SLANTED)
    axes.set_yticks(range(len(cells)), square.layers if rows else nameless, fontsize=6)
    axes.set_title(square.method, fontsize=8)


def _distances_figure(losses: Sequence[DistanceLoss]) -> Figure:
    """One panel per model, one mark per pair, coloured by the tuned set."""
    sets = list(dict.fromkeys(pair.tuned_on for loss in losses for pair in loss.pairs))
    styles = [
        Style(name, name, METHOD_COLOURS[at % len(METHOD_COLOURS)], SYMBOLS[at % len(SYMBOLS)])
        for at, name in enumerate(sets)
    ]
    figure, all_axes = panels(len(losses), 2.8, 2.5)
    for loss, axes in zip(losses, all_axes, strict=True):
        _draw_distances(axes, loss, styles)
    figure.supxlabel(f"distance, {losses[0].measure}", fontsize=8)
    figure.supylabel(f"accuracy lost on {losses[0].lost_on}, points", fontsize=8)
    legend(figure, styles)
    return figure


def _draw_distances(axes: Axes, loss: DistanceLoss, styles: Sequence[Style]) -> None:
    axes.axhline(0, color="black", linewidth=0.7)
    for style in styles:
        pairs = [pair for pair in loss.pairs if pair.tuned_on == style.name]
        values, errors = whiskers(pair.loss for pair in pairs)
        axes.errorbar(
            [pair.distance for pair in pairs], values, errors, fmt=MARKERS[style.symbol], color=style.colour,
            ms=3.5, elinewidth=0.5,
        )  # fmt: skip
    rank = loss.spearman
    said = f"\nSpearman {rank.value:z.2f} [{rank.low:z.2f}, {rank.high:z.2f}]" if rank else ""
    axes.set_title(f"{loss.model}, {loss.method}{said}", fontsize=8)
    axes.grid(linewidth=0.4, alpha=0.5)
