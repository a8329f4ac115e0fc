"""Figure data: the content of the figures as plain values, computed once for the page and for matplotlib."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rib.metrics.intervals import Interval
from rib.metrics.pareto import pareto
from rib.results.matched_gain import MatchedGain, matched_gains
from rib.results.results import Results
from rib.results.rows import Change, Summary, folded_rows, main_size, size_order
from rib.results.words import ordered, size_name

GREY = "#8b919b"
METHOD_COLOURS = (
    "#e09a1f", "#2c9e74", "#8f63c4", "#19a6b0", "#c26aa8", "#8f9a2b", "#a5693f", "#6fb23a", "#7a3e6e", "#c9b037",
)  # fmt: skip
"""Neither red nor blue, which mean lost and gained, nor grey, which means no distinguishable change."""

MODEL_COLOURS = (
    "#3d6fb6", "#d9822b", "#3f9b5f", "#b4548c", "#7a6cc9", "#b89a2a", "#2b9aa8", "#a65a4a", "#6b8e23", "#708090",
)  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "star")
"""Marker shapes, by plotly's names."""


@dataclass(frozen=True)
class Style:
    """The style of a method or a model in every figure. `label` is its name, wrapped if it is long."""

    name: str
    label: str
    colour: str
    symbol: str


@dataclass(frozen=True)
class FigureComparison:
    """Every model and method at one size.

    Attributes:
        size: name of the size.
        models: names of the models.
        methods: names of the methods with a row at this size.
        before: mean OOD accuracy of each pretrained model, percent.
        after: mean OOD accuracy of each method (outer) on each model, percent; None if missing.
        mri: mRI of each method (outer) on each model, points; None if missing.
        marked: whether each mRI is distinguishable from 0 among all rows of the table.
        planned: whether the suite plans that model and method at this size.
    """

    size: str
    models: list[str]
    methods: list[str]
    before: list[Interval | None]
    after: list[list[Interval | None]]
    mri: list[list[Interval | None]]
    marked: list[list[bool]]
    planned: list[list[bool]]


@dataclass(frozen=True)
class Matrix:
    """Change of accuracy in points, by tuned set (outer) and test set.

    Attributes:
        model, method, size: the group.
        tuned_on: names of the rows.
        downstream: names of the first columns.
        others: names of the columns that are not part of RI: reference and evaluation-only sets.
        cells: change for each row and column, first `downstream`, then `others`; None if missing.
        measured: whether a cell is expected to exist; False for a tuned set without unseen images.
        ri: RI of each row; None if missing.
        marked: whether each cell is distinguishable from 0 among all cells; if not, the table shows ≈.
        ri_marked: the same for RI, among the RIs of all rows.
    """

    model: str
    method: str
    size: str
    tuned_on: list[str]
    downstream: list[str]
    others: list[str]
    cells: list[list[Interval | None]]
    measured: list[list[bool]]
    ri: list[Interval | None]
    marked: list[list[bool]]
    ri_marked: list[bool]


@dataclass(frozen=True)
class Curves:
    """mRI in points against the number of tuning images, for one model and the methods tuned at several sizes."""

    model: str
    sizes: list[str]
    methods: list[str]
    mri: list[list[Interval | None]]


@dataclass(frozen=True)
class Point:
    """A method as a point: own accuracy in percent against mRI in points."""

    method: str
    own: Interval
    mri: Interval
    front: bool


@dataclass(frozen=True)
class Tradeoff:
    """Accuracy on the tuned set against mRI, for one model and size; the pretrained model is a point too.

    Attributes:
        model, size: the group.
        points: the methods.
        paths: names of the methods of each sweep, by strength, with the pretrained model first.
    """

    model: str
    size: str
    points: list[Point]
    paths: list[list[str]]


@dataclass(frozen=True)
class FigureData:
    """The content of all figures. `size` is shown first; `lacking` explains intervals that lack seeds.

    `noun` is the plural of what the sets hold. `first` names the methods that a long figure shows first: those
    with a row that a long table keeps (`folded_rows`).
    """

    methods: list[Style]
    models: list[Style]
    size: str
    comparisons: list[FigureComparison]
    matrices: list[Matrix]
    curves: list[Curves]
    tradeoffs: list[Tradeoff]
    lacking: bool
    noun: str
    first: list[str]


def figure_data(results: Results) -> FigureData:
    """The numbers of the figures, computed once."""
    rows = [row for _, row in ordered(results)]
    tuned = [row for row in rows if row.method != "pretrained"]
    models = list(dict.fromkeys(row.model for row in rows))
    methods = list(dict.fromkeys(row.method for row in tuned))
    sizes = sorted({row.size for row in tuned}, key=size_order) or [None]
    found = {(row.model, row.method, row.size): row for row in rows}
    return FigureData(
        methods=_method_styles(methods),
        models=[
            Style(name, folded(name), MODEL_COLOURS[at % len(MODEL_COLOURS)], SYMBOLS[at % len(SYMBOLS)])
            for at, name in enumerate(models)
        ],
        size=size_name(main_size(rows)),
        comparisons=[_comparison(size, models, methods, found) for size in sizes],
        matrices=list(_matrices(results, tuned)),
        curves=list(_curves(models, methods, sizes, found)) if len(sizes) > 1 else [],
        tradeoffs=list(_tradeoffs(models, sizes, tuned, matched_gains(results))),
        lacking=any(row.mri and row.mri.lacks for row in tuned),
        noun=results.plan.noun,
        first=list(dict.fromkeys(row.method for row, like in zip(tuned, folded_rows(tuned), strict=True) if not like)),
    )


def _is_marked(interval: Interval | None) -> bool:
    return interval is not None and interval.marked


def _method_styles(methods: Sequence[str]) -> list[Style]:
    """A hue per method; the members of a sweep are shades of one hue."""
    families = list(dict.fromkeys(name.split(" ")[0] for name in methods))
    styles = [Style("pretrained", "pretrained", GREY, "star")]
    for name in methods:
        family = name.split(" ")[0]
        members = [other for other in methods if other.split(" ")[0] == family]
        place = families.index(family)
        colour = METHOD_COLOURS[place % len(METHOD_COLOURS)]
        styles.append(
            Style(name, folded(name), _shade(colour, members.index(name), len(members)), SYMBOLS[place % len(SYMBOLS)])
        )
    return styles


def _shade(colour: str, place: int, count: int) -> str:
    """One of `count` shades of a colour, from light to dark."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    light += 0.0 if count == 1 else 0.16 - 0.32 * place / (count - 1)
    mixed = colorsys.hls_to_rgb(hue, min(max(light, 0.25), 0.75), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)


def folded(name: str, most: int = 16) -> str:
    """A name wrapped to lines of about `most` characters. It breaks between words, so names that differ only at the
    end stay readable."""
    lines = [""]
    for part in re.split(r"(?<=[._ -])", name):
        if lines[-1] and len(lines[-1]) + len(part) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


Found = dict[tuple[str, str, int | None], Summary]


def _comparison(size: int | None, models: list[str], methods: list[str], found: Found) -> FigureComparison:
    here = [method for method in methods if any((model, method, size) in found for model in models)]
    table = [[found.get((model, method, size)) for model in models] for method in here]
    return FigureComparison(
        size=size_name(size),
        models=models,
        methods=here,
        before=[found[model, "pretrained", None].ood_before for model in models],
        after=[[row.ood_after if row else None for row in line] for line in table],
        mri=[[row.mri if row else None for row in line] for line in table],
        marked=[[row is not None and _is_marked(row.mri) for row in line] for line in table],
        planned=[[row is not None for row in line] for line in table],
    )


def _matrices(results: Results, tuned: list[Summary]) -> Iterator[Matrix]:
    downstream = [results.set_name(name) for name in results.suite.downstream]
    others = [results.set_name(name) for name in (results.suite.reference, *results.suite.evaluate)]
    changes: dict[tuple[str, str, int | None], dict[tuple[str, str], Change]] = {}
    for change in results.changes:
        group = changes.setdefault((change.model, change.method, change.size), {})
        group[change.tuned_on, change.tested_on] = change
    for row in tuned:
        mine = changes.get((row.model, row.method, row.size), {})
        places = [[(tuned_on, tested_on) for tested_on in downstream + others] for tuned_on in row.ri]
        yield Matrix(
            model=row.model,
            method=row.method,
            size=size_name(row.size),
            tuned_on=list(row.ri),
            downstream=downstream,
            others=others,
            cells=[[mine[at].change if at in mine else None for at in line] for line in places],
            measured=[[at in mine for at in line] for line in places],
            ri=list(row.ri.values()),
            marked=[[at in mine and _is_marked(mine[at].change) for at in line] for line in places],
            ri_marked=[_is_marked(interval) for interval in row.ri.values()],
        )


def _curves(models: list[str], methods: list[str], sizes: list[int | None], found: Found) -> Iterator[Curves]:
    for model in models:
        rows = {
            method: [found.get((model, method, size)) for size in sizes]
            for method in methods
            if sum((model, method, size) in found for size in sizes) > 1
        }
        mri = [[row.mri if row else None for row in line] for line in rows.values()]
        if any(span for line in mri for span in line):
            yield Curves(model, [size_name(size) for size in sizes], list(rows), mri)


def _tradeoffs(
    models: list[str], sizes: list[int | None], tuned: list[Summary], matched: list[MatchedGain]
) -> Iterator[Tradeoff]:
    for model in models:
        for size in sizes:
            rows = [row for row in tuned if (row.model, row.size) == (model, size)]
            spans = [(row.method, row.own_after, row.mri) for row in rows]
            start = next((row.own_before for row in rows if row.own_before), None)
            known = [("pretrained", start, Interval(0.0, 0.0, 0.0)), *spans]
            whole = [(method, own, mri) for method, own, mri in known if own and mri]
            front = pareto([(own.value, mri.value) for _, own, mri in whole])
            points = [Point(*point, at in front) for at, point in enumerate(whole)]
            if len(points) > 1:
                curves = [row for row in matched if (row.model, row.size) == (model, size) and row.field]
                paths = [["pretrained", *(point.method for point in row.points)] for row in curves]
                yield Tradeoff(model, size_name(size), points, paths)


def slots(count: int) -> list[float]:
    """Positions of `count` marks around the centre of their group; group centres are 1 apart."""
    width = 0.84 / max(count, 1)
    return [width * (at - (count - 1) / 2) for at in range(count)]


def colour_limit(matrices: Iterable[Matrix]) -> float:
    """Largest absolute change in points, without the tuned sets' own cells, which would dominate the colour scale."""
    sizes = [
        abs(span.value)
        for matrix in matrices
        for name, line in zip(matrix.tuned_on, matrix.cells, strict=True)
        for tested, span in zip(matrix.downstream + matrix.others, line, strict=True)
        if span and tested != name
    ]
    return max([1.0, *sizes])
