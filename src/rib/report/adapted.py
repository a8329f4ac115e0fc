"""Adapted predictions in a terminal: a table of their own, below that of methods."""

from __future__ import annotations

from rich.text import Text

from rib.metrics.intervals import Interval
from rib.report.grid import MISSING, grid, wrapped
from rib.results.adapted import AdaptedRow, adapted_rows
from rib.results.results import Results
from rib.results.words import size_name, spanned

HEADS = ("without", "with", "change [95 %]")
LEGEND = (
    "These predictions adapt to the unlabelled test inputs: they are not ranked with the methods above, and no other "
    "number contains them. Mean accuracy on the other downstream sets, of pretrained models on all, in percent; its "
    "change in points, paired. ≈: not distinguishable from 0 when all rows are tested together (Holm)."
)


def adapted_lines(results: Results, width: int) -> list[Text]:
    """The table of adapted predictions; nothing without any."""
    rows = adapted_rows(results)
    if not rows:
        return []
    cells = [[_level(row.before), _level(row.after), _change(row)] for row in rows]
    return [
        Text(),
        Text("Adapted to the test inputs", style="bold"),
        *grid("adaptation", [row_name(row) for row in rows], HEADS, cells, width),
        *wrapped(LEGEND, width, "dim"),
    ]


def row_name(row: AdaptedRow) -> str:
    """Adaptation, model, method and size."""
    size = "" if row.method == "pretrained" else f" n={size_name(row.size)}"
    return f"{row.kind}, {row.model} {row.method}{size}"


def _level(interval: Interval | None) -> Text:
    return Text(f"{interval.value:z.1f}") if interval else Text(MISSING, style="yellow")


def _change(row: AdaptedRow) -> Text:
    if row.change is None:
        return Text(MISSING, style="yellow")
    style = "" if not row.change.marked else "green" if row.change.value > 0 else "red"
    return Text(f"{'' if row.change.marked else '≈'}{spanned(row.change)}", style=style)
