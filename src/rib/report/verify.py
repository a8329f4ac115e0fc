"""The output of `rib verify`: measured numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from rib.results.published import Check
from rib.text.names import names_of


def checks_json(found: Sequence[Check]) -> list[dict[str, Any]]:
    """Checks as JSON types."""
    return [asdict(check) | {"difference": check.difference, "verdict": check.verdict} for check in found]


def checks_table(found: Sequence[Check]) -> Table:
    """One row per model, one column per published number: measured minus published, in points."""
    columns = list(dict.fromkeys(check.what for check in found))
    table = Table(box=None, padding=(0, 2, 0, 0), title="measured minus published, points", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    names = names_of(tuple(dict.fromkeys(check.model for check in found)))
    for model in names.full:
        own = {check.what: check for check in found if check.model == model}
        table.add_row(names.short(model), *(_cell(own.get(column)) for column in columns))
    return table


def _cell(check: Check | None) -> Text:
    if check is None:
        return Text("")
    if check.difference is None:
        return Text("missing", style="dim")
    return Text(
        f"{check.difference + 0.0:+.2f}".replace("-0.00", "0.00") + ("" if check.verdict == "agrees" else " !"),
        style=_STYLE[check.verdict],
    )


_STYLE = {"agrees": "", "differs": "bold red", "missing": "dim"}


def summary(found: Sequence[Check]) -> str:
    """The outcome in one line."""
    counts = {verdict: sum(check.verdict == verdict for check in found) for verdict in ("agrees", "differs", "missing")}
    return f"{len(found)} published numbers: {counts['agrees']} agree, {counts['differs']} differ (!), " + (
        f"{counts['missing']} missing"
    )
