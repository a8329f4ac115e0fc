"""The worst group of every data set with groups, as a table for a terminal."""

from __future__ import annotations

from rich.text import Text

from rib.report.grid import ABSENT, grid, wrapped
from rib.results.inside.worst_group import WorstGroup, worst_groups
from rib.results.results import Results
from rib.results.rows import main_size
from rib.results.words import size_name, spanned, suite_word

HEADS = ("worst group, accuracy %", "change of the lowest [95 %]")
LEGEND = (
    "The group with the lowest accuracy, before → after. Change: the lowest accuracy after tuning less the lowest "
    "before, points; ≈: not distinguishable from 0 among all rows. The lowest of small groups is low partly by chance."
)
FEW = 12
"""Number of rows from which a terminal shows only the pretrained models and `finetune`, at one size."""


def group_lines(results: Results, width: int, every: bool = False) -> list[Text]:
    """One table per data set with groups; empty if there are none.

    Args:
        results: the results to show.
        width: columns of the terminal.
        every: whether to show every row of long tables.
    """
    found = worst_groups(results)
    lines: list[Text] = []
    for name, own in dict.fromkeys((row.tested_on, row.own) for row in found):
        rows = [row for row in found if (row.tested_on, row.own) == (name, own)]
        shown = rows if every or len(rows) <= FEW else _main(results, rows)
        on = "unseen rows of the set tuned on, " if own else ""
        lines += [
            Text(),
            *wrapped(f"Worst of {rows[0].groups:,} groups: {on}{name}", width, "bold"),
            *grid("", [_title(row) for row in shown], HEADS, [[_levels(row), _change(row)] for row in shown], width),
        ]
        if len(shown) < len(rows):
            lines.append(
                Text(f"  … {len(rows) - len(shown):,} more rows (rib report {suite_word(results)} --all)", style="dim")
            )
    return [*lines, *wrapped(LEGEND, width, "dim")] if lines else []


def _main(results: Results, rows: list[WorstGroup]) -> list[WorstGroup]:
    size = main_size(results.summaries)
    there = {row.method for row in rows}
    kept = {"pretrained", "finetune"} if "finetune" in there else there
    return [row for row in rows if row.method in kept and row.size in (None, size)]


def _title(row: WorstGroup) -> str:
    return f"{row.model} {row.method}" + ("" if row.size is None else f" n={size_name(row.size)}")


def _levels(row: WorstGroup) -> Text:
    after = f"{row.after.group} {row.after.accuracy.value:z.1f}"
    if row.change is None:
        return Text(after)
    if row.before.group == row.after.group:
        return Text(f"{row.before.group} {row.before.accuracy.value:z.1f} → {row.after.accuracy.value:z.1f}")
    return Text(f"{row.before.group} {row.before.accuracy.value:z.1f} → {after}")


def _change(row: WorstGroup) -> Text:
    if row.change is None:
        return Text(ABSENT, style="dim")
    style = "" if not row.change.marked else "green" if row.change.value > 0 else "red"
    return Text(f"{'' if row.change.marked else '≈'}{spanned(row.change)}", style=style)
