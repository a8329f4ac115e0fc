"""Comparison page: what tuning made of one model, as one HTML file that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rib.analysis.signatures import LOW_CKA, Signature
from rib.files import write_aside
from rib.metrics import Interval
from rib.pair import OWN_DATA
from rib.report.comparison import Comparison, comparison_finding, gates_finding, meaning_of_ri, reason
from rib.report.finding import signed
from rib.report.page import render, scale, typeset
from rib.steps import short

VERDICTS = {"present": "present", "suggested": "perhaps", "absent": "absent", "unknown": "not known"}


@dataclass(frozen=True)
class Sign:
    """A signature as the page words it."""

    name: str
    verdict: str
    verdict_words: str
    words: str
    evidence: str
    threshold: str


def write_comparison(found: Comparison, path: Path) -> None:
    """Write everything a reader needs into one file.

    Args:
        found: what to show.
        path: the file; its folder is made if need be.

    Raises:
        UserError: the place is not writable.
    """
    finding = " ".join(filter(None, (comparison_finding(found), gates_finding(found))))
    tested = sorted(found.tested, key=lambda row: row.role != "downstream")
    page = render(
        "compare.html.jinja",
        ("plots.js", "compare.js"),
        found.results,
        figures(found),
        title=f"{found.base} → {found.tuned}",
        finding=typeset(finding),
        verdicts=found.verdicts,
        reason=reason(found),
        base=found.base,
        tuned=found.tuned,
        tuned_on=found.tuned_on or OWN_DATA,
        images=found.pair.images,
        identical=found.pair.identical,
        signs=[_sign(sign) for sign in found.signs],
        meaning=meaning_of_ri(found),
        cka=found.cka,
        cka_on=short(found.results.suite.reference),
        drift=found.drift,
        tested=tested,
        summary=found.summary,
        scale=scale([found.ri, *(row.change for row in tested)]),
    )
    write_aside(path, page.encode())


def figures(found: Comparison) -> dict[str, Any]:
    """What the page draws, as JSON types; each figure has a list of what it can show."""
    rows = [_row(row.name, f"{row.name} ({row.role})", row.change, row.before, row.after) for row in found.tested]
    inner = [row for row, each in zip(rows, found.tested, strict=True) if each.role == "downstream"]
    outer = [row | {"apart": True} for row in rows if row not in inner]
    ri = _row("RI", "RI, mean of the sets above the line", found.ri, None, None)
    return {
        "changes": [{"rows": [ri, *inner, *outer]}],
        "cka": [found.cka | {"threshold": LOW_CKA}] if found.cka else [],
        "drift": [found.drift] if found.drift else [],
    }


def _row(
    name: str, title: str, change: Interval | None, before: Interval | None, after: Interval | None
) -> dict[str, Any]:
    spans = {"change": _span(change), "before": _span(before), "after": _span(after)}
    return {"name": name, "title": title, "apart": False, **spans}


def _span(interval: Interval | None) -> tuple[float, float, float] | None:
    return (interval.value, interval.low, interval.high) if interval else None


def _sign(sign: Signature) -> Sign:
    write = _number if sign.name in ("low CKA", "late shift") else _points
    value = sign.evidence
    evidence = "nothing" if value is None else write(value.value)
    if value is not None and value.low < value.high:
        evidence += f" [{signed(value.low)}, {signed(value.high)}]"
    return Sign(sign.name, sign.verdict, VERDICTS[sign.verdict], sign.words, evidence, write(sign.threshold))


def _number(value: float) -> str:
    return f"{value:.2f}"


def _points(value: float) -> str:
    return f"{signed(value)} points"
