"""A comparison for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from rib.analysis.signatures import Signature
from rib.gates import GateVerdict, level_of
from rib.metrics.intervals import Interval
from rib.plan.pair import OWN_DATA
from rib.report.grid import first_line
from rib.report.views import seen_by_both, unstated
from rib.report.worst_group import group_lines
from rib.results.comparison import Comparison
from rib.results.comparison_finding import comparison_claim, meaning_of_ri
from rib.results.failures import alike
from rib.results.words import spanned
from rib.text.wording import about

ROOMY = 100
"""Minimum number of terminal columns that shows every column of the table."""

MARKS = {"present": "●", "suggested": "◐", "absent": "○", "unknown": "?"}


def comparison_lines(found: Comparison, width: int = 80) -> Lines:
    """The comparison for a terminal with `width` columns."""
    suite = found.results.suite
    on, said = found.tuned_on or OWN_DATA, comparison_claim(found)
    lines: list[Any] = [
        Text(f"{found.base} → {found.tuned}, tuned on {on} · {suite.name}", style="bold"),
        Text(),
        _table(found, width),
        Text(),
        Text(said.lead, style="bold"),
        *([Text(said.detail)] if said.detail else []),
    ]
    lines += [_hung("✗", f"error: {error}", "bold red") for error in found.errors if error not in said.lead]
    if not found.pair.identical:
        lines += [Text(), *(_hung(MARKS[sign.verdict], sign.words, _sign_style(sign)) for sign in found.signs)]
    if found.verdicts:
        lines += [Text(), *(_hung("✗" if each.failed else "✓", each.words, _style(each)) for each in found.verdicts)]
        lines += [Text(level, style="dim")] if (level := level_of(found.verdicts)) else []
    lines += group_lines(found.results, width)
    lines += [Text(), Text(_legend(found), style="dim")]
    lines += [Text(suite.note, style="dim")] if suite.note else []
    lines += [Text(f"both see {seen_by_both(found.results.plan, found.pair.view).words}", style="dim")]
    lines += [Text(f"data: {caveat}", style="yellow") for caveat in found.results.caveats]
    lines += [Text(f"models: {words}", style="yellow") for words in unstated(found.results.plan)]
    lines += [Text(f"note: {words}", style="yellow") for words in found.pair.plan.notes]
    lines += [
        Text(f"failed: {one.who}: {first_line(one.reason)}", style="red") for one in alike(found.results.failures)
    ]
    return Lines(*lines)


def _legend(found: Comparison) -> str:
    signs = "" if found.pair.identical else " ● sign of lost robustness, ◐ perhaps, ○ not there, ? not known."
    key = about(
        found.results.plan.noun,
        "Accuracy over each data set's own classes. [ ]: 95 % interval, paired bootstrap over "
        "source images; ≈: not distinguishable from 0, all sets tested together. lost: right before and wrong after; "
        f"gained: the reverse.{signs}",
    )
    return f"{meaning_of_ri(found)} {key}"


def _table(found: Comparison, width: int) -> Table:
    roomy = width >= ROOMY
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("tested on", overflow="fold")
    for head in (
        "before",
        "after",
        "change, points",
        *(["lost", "gained", found.results.plan.noun] if roomy else ["lost"]),
    ):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("role", style="dim", no_wrap=True)
    for row in sorted(found.tested, key=lambda row: row.role != "downstream"):
        churned = [_percent(row.lost), *([_percent(row.gained), Text(f"{row.images:,}")] if roomy else [])]
        table.add_row(row.name, _percent(row.before), _percent(row.after), _change(row.change), *churned, row.role)
        if row.name == [each.name for each in found.tested if each.role == "downstream"][-1]:
            empty = [Text()] * len(churned)
            before, after = found.summary.ood_before, found.summary.ood_after
            table.add_row(Text("RI", "bold"), _percent(before), _percent(after), _change(found.ri), *empty, "mean")
            for presence, part in found.by_classes.items():
                if part:
                    table.add_row(f"RI {presence}", Text(), Text(), _change(part), *empty, "classes")
    return table


def _percent(interval: Interval | None) -> Text:
    return Text(f"{interval.value:z.1f}") if interval else Text("missing", style="yellow")


def _change(interval: Interval | None) -> Text:
    if interval is None:
        return Text("missing", style="yellow")
    style = "" if not interval.marked else "green" if interval.value > 0 else "red"
    return Text(("" if interval.marked else "≈ ") + spanned(interval, 5), style=style)


def _hung(mark: str, words: str, style: str) -> Table:
    """A mark, and wrapped text to the right of it."""
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(Text(mark, style), Text(words, style))
    return row


def _sign_style(sign: Signature) -> str:
    return {"present": "red", "suggested": "yellow"}.get(sign.verdict, "dim")


def _style(verdict: GateVerdict) -> str:
    return "bold red" if verdict.failed else "green"
