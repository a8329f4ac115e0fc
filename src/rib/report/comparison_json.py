"""A comparison as JSON types."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rib.gates import GateVerdict, level_of
from rib.report.results_json import provenance
from rib.report.views import seen_by_both, unstated
from rib.results.comparison import Comparison
from rib.results.comparison_finding import comparison_finding
from rib.results.inside.worst_group import group_rows, worst_groups


def comparison_json(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON types. Accuracies are in percent, changes in points, intervals are value, low, high."""
    return {
        "suite": found.results.suite.name,
        "base": found.pair.base,
        "tuned": found.pair.tuned,
        "tuned_on": found.pair.tuned_on,
        "tuned_images": found.pair.images,
        "identical": found.pair.identical,
        "finding": comparison_finding(found),
        "passed": found.passed,
        "errors": list(found.errors),
        "worst": {"on": found.worst[0], "change": asdict(found.worst[1])} if found.worst else None,
        "gates_level": level_of(found.verdicts),
        "gates": [_gate(verdict) for verdict in found.verdicts],
        "ri": asdict(found.ri) if found.ri else None,
        **{f"ri_{name}": asdict(part) if part else None for name, part in found.by_classes.items()},
        "tested": [asdict(row) for row in found.tested],
        "calibration_error": found.calibration_errors,
        "worst_classes": [asdict(row) for row in found.worst_classes],
        "groups": [asdict(row) for row in group_rows(found.results)],
        "worst_groups": [asdict(row) for row in worst_groups(found.results)],
        "signatures": [asdict(sign) for sign in found.signs],
        "cka": found.cka,
        "drift": found.drift,
        "statistics": found.statistics,
        "failures": dict(found.results.failures),
        "unfinished": [step.title for step in found.results.unfinished()],
        "caveats": list(found.results.caveats),
        "notes": list(found.pair.plan.notes),
        "view": dict(seen_by_both(found.results.plan, found.pair.view).document),
        "unstated": list(unstated(found.results.plan)),
        "provenance": provenance(found.results),
    }


def _gate(verdict: GateVerdict) -> dict[str, Any]:
    return {
        "gate": str(verdict.gate),
        "requires": verdict.gate.requirement,
        "verdict": verdict.state,
        "failed": verdict.failed,
        "alone": verdict.alone,
        "p": verdict.p,
        "adjusted": verdict.adjusted,
        "quantity": verdict.gate.quantity,
        "about": verdict.about or None,
        "missing": verdict.missing or None,
        "interval": asdict(verdict.found) if verdict.found else None,
        "value": verdict.number,
        "limit": verdict.gate.limit,
        "margin": verdict.margin,
        "words": verdict.words,
    }
