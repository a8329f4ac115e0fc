"""Calibration before and after tuning, from what the records of predictions hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rib.plan import Run
from rib.results.inside.averages import Spread, pretrained, spread_over_runs, tested_on, tuned_groups
from rib.results.results import Results

SCORES = ("ece", "nll", "brier")
"""Names of the scores in a record; less is better in each."""


@dataclass(frozen=True)
class CalibrationChange:
    """Calibration of a pretrained model and of what a method made of it, over sets tuned on and seeds.

    Attributes:
        model, method, size: which.
        tested_on: a data set, or what the average is taken on.
        score: "ece" in percent, "nll" in nats, "brier".
        before: of the pretrained model; a spread, as the other sets differ with the set tuned on.
        after: of the tuned models.
        change: after less before, run by run.
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
    """Calibration of every tuned group and every average with complete predictions."""
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
