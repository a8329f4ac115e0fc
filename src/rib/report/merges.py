"""Leave-one-out merges for a terminal: a table below that of the methods that tune on one set."""

from __future__ import annotations

from rich.text import Text

from rib.metrics.intervals import Interval
from rib.report.grid import ABSENT, MISSING, grid, wrapped
from rib.results.merges import MergeRow, merge_rows
from rib.results.results import Results
from rib.results.words import signed, size_name, spanned
from rib.text.wording import about

HEADS = ("mRI [95 %]", "- its models", "gain", "reference %")
LEGEND = (
    "Each merge is made of the models tuned on all downstream sets but one (and its source family) and scored on that "
    "one. mRI: change of accuracy there, points, mean over the sets left out. - its models: minus the mean of the "
    "single models, paired. gain: on unseen images of the sets merged. A merge has seen several sets, so it is not "
    "ranked with the methods above. ≈: not distinguishable from 0 when all rows are tested together (Holm)."
)


def merge_lines(results: Results, width: int) -> list[Text]:
    """The table of merges; empty if there are none."""
    rows = merge_rows(results)
    if not rows:
        return []
    models, sizes = ({getattr(row, field) for row in rows} for field in ("model", "size"))
    names = [_name(row, len(models) > 1, len(sizes) > 1) for row in rows]
    cells = [
        [
            _points(row, row.mri),
            _points(row, row.against_singles),
            _plain(row, row.gain),
            Text(
                f"{row.reference_before.value:z.1f} → {row.reference_after.value:z.1f}"
                if row.reference_before and row.reference_after
                else MISSING
            ),
        ]
        for row in rows
    ]
    return [
        Text(),
        Text("Leave-one-out merging", style="bold"),
        *grid("method", names, HEADS, cells, width),
        *wrapped(about(results.plan.noun, LEGEND), width, "dim"),
    ]


def _name(row: MergeRow, with_model: bool, with_size: bool) -> str:
    model, size = f"{row.model} " if with_model else "", f" n={size_name(row.size)}" if with_size else ""
    return f"{model}{row.method}{size}"


def _points(row: MergeRow, interval: Interval | None) -> Text:
    if interval is None:
        return Text(MISSING if row.missing else ABSENT, style="yellow" if row.missing else "dim")
    style = "" if not interval.marked else "green" if interval.value > 0 else "red"
    return Text(f"{'' if interval.marked else '≈'}{spanned(interval)}", style=style)


def _plain(row: MergeRow, interval: Interval | None) -> Text:
    return Text(signed(interval.value)) if interval else Text(MISSING if row.missing else ABSENT)
