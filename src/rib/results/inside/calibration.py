"""Calibration before and after tuning, from the records of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rib.plan import Run
from rib.results.inside.averages import Spread, pretrained, spread_over_runs, tested_on, tuned_groups
from rib.results.results import Results

SCORES = ("ece", "nll", "brier")
"""Names of the scores in a record; lower is better."""


@dataclass(frozen=True)
class CalibrationChange:
    """Calibration of a pretrained model and of its tuned models, over tuned sets and seeds.

    Attributes:
        model, method, size: the group.
        tested_on: a data set, or the name of an average.
        score: "ece" in percent, "nll" in nats, or "brier".
        before: score of the pretrained model. It has a spread, because the tuned set determines the test sets.
        after: score of the tuned models.
        change: after minus before, run by run.
    """

    model: str
    method: str
    size: int | None
    tested_on: str
    score: str
    before: Spread
    after: Spread
    change: Spread


def calibration_changes(results: Results) -> Iterator[CalibrationChange]:
    """Calibration of every tuned group, for every average whose predictions are complete."""
    for (model, method, size), runs in tuned_groups(results):
        for on in tested_on(results):
            for score in SCORES:
                level = _Level(results, score)
                found = (
                    spread_over_runs(results, runs, on, each) for each in (level.before, level.after, level.change)
                )
                before, after, change = found
                if before and after and change:
                    yield CalibrationChange(results.model_name(model), method, size, on, score, before, after, change)


@dataclass(frozen=True)
class _Level:
    """One score of single predictions; None if the record lacks it."""

    results: Results
    score: str

    def after(self, run: Run, name: str) -> float | None:
        record = self.results.records.get(run.scores[name].key) if name in run.scores else None
        return record.values.get(self.score) if record else None

    def before(self, run: Run, name: str) -> float | None:
        return self.after(pretrained(self.results, run), name)

    def change(self, run: Run, name: str) -> float | None:
        before, after = self.before(run, name), self.after(run, name)
        return None if before is None or after is None else after - before
