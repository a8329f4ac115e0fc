"""Comparison page: how tuning changed one model, as one HTML file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rib.analysis.signatures import LOW_CKA
from rib.files import write_aside
from rib.gates import level_of
from rib.metrics.intervals import Interval
from rib.plan.pair import OWN_DATA
from rib.report.page import render, scale, typeset
from rib.report.page_json import page_json
from rib.report.targets import PAGE_START, require_kind
from rib.report.views import seen_by_both
from rib.results.comparison import Comparison
from rib.results.comparison_finding import comparison_claim, gates_finding, meaning_of_ri, reason
from rib.results.inside.signatures import HEADS, VERDICTS, held_against
from rib.results.inside.worst_group import group_rows, worst_groups
from rib.results.words import suite_word


def write_comparison(found: Comparison, path: Path) -> None:
    """Write the page of a comparison.

    Args:
        found: the comparison.
        path: the file; its folder is created if missing.

    Raises:
        UserError: the file cannot be written.
    """
    said = comparison_claim(found)
    tested = sorted(found.tested, key=lambda row: row.role != "downstream")
    page = render(
        "compare.html.jinja",
        ("plots.js", "panels.js", "compare.js"),
        found.results,
        page_json(figures(found)),
        title=f"{found.base} → {found.tuned}",
        lead=typeset(" ".join(filter(None, (said.lead, gates_finding(found))))),
        detail=typeset(said.detail),
        gates_level=level_of(found.verdicts),
        verdicts=found.verdicts,
        errors_found=found.errors,
        notes=found.pair.plan.notes,
        reason=reason(found),
        base=found.base,
        tuned=found.tuned,
        tuned_on=found.tuned_on or OWN_DATA,
        known_set=found.tuned_on is not None,
        images=found.pair.images,
        identical=found.pair.identical,
        signs=found.signs,
        heads=HEADS,
        said=VERDICTS,
        held_against=held_against,
        meaning=meaning_of_ri(found),
        seen=seen_by_both(found.results.plan, found.pair.view).words,
        cka=found.cka,
        cka_on=found.results.set_name(found.results.suite.reference),
        drift=found.drift,
        statistics=found.statistics,
        tested=tested,
        summary=found.summary,
        errors=found.calibration_errors,
        **_tables(found),
        worst=found.worst_classes,
        scale=scale([found.ri, *found.by_classes.values(), *(row.change for row in tested)]),
    )
    require_kind(path, PAGE_START)
    write_aside(path, page.encode())


def _tables(found: Comparison) -> dict[str, Any]:
    """RI by presence of classes, the accuracy of groups, the number of images behind the split of a change, the name of
    the suite in commands, and the height of the first chart in pixels."""
    return {
        "called": suite_word(found.results),
        "chart_height": 84 + 30 * (1 + sum(row.change is not None for row in found.tested)),
        "by_classes": found.by_classes,
        "groups": list(group_rows(found.results)),
        "worst_groups": worst_groups(found.results),
        "most_images": max((split["images"] for split in found.statistics.values()), default=0),
    }


def figures(found: Comparison) -> dict[str, Any]:
    """The data of the page's figures: for each figure, a list of the entries that a reader can choose."""
    rows = [_row(row.name, f"{row.name} ({row.role})", row.change, row.before, row.after) for row in found.tested]
    inner = [row for row, each in zip(rows, found.tested, strict=True) if each.role == "downstream"]
    outer = [row | {"apart": True} for row in rows if row not in inner]
    ri = _row("RI", "RI, mean of the sets above the line", found.ri, None, None)
    return {
        "changes": [{"rows": [ri, *inner, *outer]}],
        "cka": [{**found.cka, "cells": found.cka["matrix"], "threshold": LOW_CKA}] if found.cka else [],
        "drift": [found.drift] if found.drift else [],
    }


def _row(
    name: str, title: str, change: Interval | None, before: Interval | None, after: Interval | None
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "apart": False,
        "change": change,
        "marked": bool(change and change.marked),
        "before": before,
        "after": after,
    }
