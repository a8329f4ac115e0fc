"""The change matrix of one model and method for a terminal, by tuned set and test set."""

from __future__ import annotations

from rich.console import Group as Lines
from rich.text import Text

from rib.metrics.intervals import Interval
from rib.report.grid import ABSENT, MISSING, cut, grid, wrapped
from rib.results.results import Results
from rib.results.rows import Change
from rib.results.words import signed, size_name


def ri_matrix(results: Results, model: str, method: str, size: int | None = None, console_width: int = 80) -> Lines:
    """Change of accuracy in points by tuned set (rows) and test set (columns), with RI.

    Args:
        results: the results to show.
        model: name of the model, with or without its namespace.
        method: name of the method in the suite.
        size: number of tuning images; None for all.
        console_width: columns of the terminal.
    """
    model = results.model_name(results.suite.model_names.find(model, "model"))
    mine = [change for change in results.changes if (change.model, change.method, change.size) == (model, method, size)]
    row = next(row for row in results.summaries if (row.model, row.method, row.size) == (model, method, size))
    tuned_on = list(row.ri)
    tested_on = [results.set_name(name) for name in results.suite.tested]
    found = {(change.tuned_on, change.tested_on): change for change in mine}
    cells = [
        [*(_change(found.get((tuned, tested))) for tested in tested_on), _point(row.ri[tuned]) + Text(" ")]
        for tuned in tuned_on
    ]
    title = f"{row.model}, {method}, n = {size_name(size)}: change of accuracy in points"
    lines = grid("tuned on \\ tested on", tuned_on, [*tested_on, "RI"], cells, console_width)
    legend = (
        "( ): the set tuned on itself, not part of RI. ≈: not distinguishable from 0 when all cells are tested "
        "together (Holm), and RIs together."
    )
    lines = [Text(title, style="bold"), *lines, *wrapped(legend, console_width, "dim")]
    return Lines(*(cut(line, console_width) for line in lines))


def _change(change: Change | None) -> Text:
    if change is None:
        return Text(ABSENT, style="dim")
    if change.role == "own" and change.change:
        return Text(f"({signed(change.change.value)})")
    return _point(change.change) + Text(" ")


def _point(interval: Interval | None) -> Text:
    if interval is None:
        return Text(MISSING, style="yellow")
    style = "" if not interval.marked else "green" if interval.value > 0 else "red"
    return Text(("" if interval.marked else "≈") + signed(interval.value), style=style)
