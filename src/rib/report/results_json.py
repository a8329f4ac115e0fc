"""Results as JSON types, with their provenance."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from rib.metrics.intervals import LEVEL
from rib.report.views import unstated, view_json
from rib.results.adapted import adapted_rows
from rib.results.draws import class_lists, rows_json
from rib.results.finding import finding
from rib.results.inside import inside
from rib.results.matched_gain import matched_gains
from rib.results.merges import merge_rows
from rib.results.results import Results


def results_json(results: Results) -> dict[str, Any]:
    """The whole report as JSON types. Accuracies are in percent, RI in points, intervals are value, low, high."""
    return {
        "suite": results.suite.name,
        "finding": finding(results),
        "summaries": [asdict(row) for row in results.summaries],
        "matched_gain": [asdict(row) for row in matched_gains(results)],
        "adapted_on_test_inputs": [asdict(row) for row in adapted_rows(results)],
        "merges": [asdict(row) | {"protocol": "leave-one-out"} for row in merge_rows(results)],
        "changes": [asdict(change) for change in results.changes],
        "scores": [asdict(score) for score in results.scores],
        "notes": [asdict(note) for note in results.notes],
        "inside": asdict(inside(results)),
        "failures": dict(results.failures),
        "unfinished": [step.title for step in results.unfinished()],
        "caveats": list(results.caveats),
        "views": view_json(results.plan),
        "unstated": list(unstated(results.plan)),
        "classes": class_lists(results.plan),
        "tuning": rows_json(results.plan),
        "provenance": provenance(results),
    }


def provenance(results: Results) -> dict[str, Any]:
    """Provenance of the results: suite, versions, machines, data, cost, statistics."""
    made: Counter[tuple[tuple[str, str], ...]] = Counter(
        tuple(sorted((name, str(value)) for name, value in record.made_by.items()))
        for record in results.records.values()
    )
    cost = {
        kind: {"steps": count, "seconds": round(seconds, 3), "images": images}
        for kind, (count, seconds, images) in results.cost().items()
    }
    return {
        "suite": results.suite.model_dump(mode="json"),
        "made_by": [{"steps": count, **dict(fields)} for fields, count in made.most_common()],
        "steps": {"planned": len(results.plan.steps), "done": len(results.records)},
        "cost": cost,
        "data": [_data_row(results, name) for name in results.suite.tested],
        "bootstrap": {"draws": results.draws, "level": 0.95},
        "tests": {"level": LEVEL, "adjusted": "Holm, within each kind of mark of a table", "plain": "p, low, high"},
    }


def _data_row(results: Results, name: str) -> dict[str, Any]:
    data, test, tune = results.plan.world[name], results.plan.world.part(name, "test"), _tune_part(results, name)
    role = "reference" if name == results.suite.reference else "evaluate"
    return {
        "name": name,
        "role": "downstream" if name in results.suite.downstream else role,
        "family": data.family,
        "classes": len(data.classes),
        "tested_classes": len(np.unique(data.index("test").labels)),
        "tested_images": len(data.index("test")),
        "label_map": test.label_map.name,
        "fingerprint": test.fingerprint,
        "tuning_fingerprint": tune,
    }


def _tune_part(results: Results, name: str) -> str | None:
    """Fingerprint of a set's tune part; None if nothing is tuned on it, so that the part need not be read."""
    tuned = any(run.tuned_on == name for run in results.plan.runs)
    return results.plan.world.part(name, "tune").fingerprint if tuned else None
