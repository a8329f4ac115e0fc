"""The report of `rib data check`: a table and faults, or one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rib.data.check import Checked
from rib.data.overlap import Overlap

MOST = 3
"""Maximum number of faults and unreadable files per set in the table; the JSON document has all of them."""


def check_table(found: Sequence[Checked], shared: Sequence[Overlap] = ()) -> RenderableType:
    """One line per data set, one paragraph per data set with faults, and one for images that sets share."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("set", no_wrap=True)
    table.add_column("state", no_wrap=True)
    counted = any(checked.survey.expected for checked in found)
    nouns = dict.fromkeys(checked.noun for checked in found)
    for column in (" or ".join(nouns) or "images", *(["expected"] if counted else []), "classes"):
        table.add_column(column, justify="right", no_wrap=True)
    for checked in found:
        survey = checked.survey
        table.add_row(
            survey.name,
            _state(checked),
            f"{survey.images:,}",
            *([f"{survey.expected:,}" if survey.expected else ""] if counted else []),
            f"{survey.classes:,}",
        )
    missing = [checked for checked in found if checked.survey.state == "missing"]
    wrong = [item for item in found if item not in missing and (not item.fine or item.survey.faults or item.notes)]
    parts = [_details(missing[0])] if len(missing) == 1 else [_absent(missing)] if missing else []
    return Group(table, *[_details(checked) for checked in wrong], *parts, *map(_overlap, shared))


def _overlap(found: Overlap) -> Text:
    if not found.refused:
        return Text(f"\nnote: {found.words}")
    return Text(f"\nrefused: {found.words}\n  → {found.remedy}")


def _absent(missing: Sequence[Checked]) -> Text:
    """The data sets that are missing altogether, in two lines each, so that all of them fit one screen."""
    lines = ["\nnot there, and where to get them:"]
    for checked in missing:
        known = " · ".join(filter(None, (checked.url, checked.licence)))
        lines += [f"  {checked.survey.where or checked.survey.name}", *([f"    {known}"] if known else [])]
    published = next((checked.survey.name for checked in missing if checked.survey.expected), None)
    if published:
        remedy = f'If one is elsewhere, say so in rib.toml: [paths] "{published}" = "/path"'
    else:
        remedy = "If they are elsewhere, correct the paths in the suite file, or set --data / RIB_DATA"
    return Text("\n".join([*lines, f"  {remedy}"]))


def _state(checked: Checked) -> str:
    if checked.unreadable:
        return f"{len(checked.unreadable):,} unreadable"
    allowed = checked.allowed and checked.survey.state == "incomplete"
    return "incomplete, allowed" if allowed else checked.survey.state


def _details(checked: Checked) -> Text:
    survey = checked.survey
    repeated = any(survey.where in fault for fault in survey.faults)
    lines = [f"\n{survey.name}" + (f" in {survey.where}" if survey.where and not repeated else "")]
    lines += [f"  {fault}" for fault in survey.faults[:MOST]]
    pairs = list(zip(checked.unreadable, checked.reasons, strict=True))[:MOST]
    lines += [f"  cannot be decoded: {name}" + (f" ({why})" if why else "") for name, why in pairs]
    lines += [f"  {note}" for note in checked.notes]
    left = len(checked.unreadable) - MOST
    if left > 0:
        lines.append(f"  … and {left:,} more")
    ways_out = list(dict.fromkeys(checked.ways_out))
    remedy = "" if checked.fine else survey.remedy or "; ".join(ways_out[:MOST])
    lines += [f"  → {remedy}"] if remedy else []
    lines += [f"  licence: {checked.licence}"] if checked.licence and survey.state == "missing" else []
    return Text("\n".join(lines))


def check_json(found: Sequence[Checked], shared: Sequence[Overlap] = ()) -> list[dict[str, Any]]:
    """All results of the check. A shared image is listed under every set that contains it."""
    return [
        asdict(checked.survey)
        | {
            "title": checked.title,
            "fine": checked.fine,
            "allowed": checked.allowed,
            "decoded": checked.decoded,
            "unreadable": list(checked.unreadable),
            "reasons": list(checked.reasons),
            "notes": list(checked.notes),
            "licence": checked.licence,
            "url": checked.url,
            "shared": [
                {"words": one.words, "refused": one.refused, "remedy": one.remedy}
                for one in shared
                if checked.survey.name in one.sets
            ],
        }
        for checked in found
    ]
