"""Inside: one number of an analysis per run, as estimates over seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from rib.analysis import Analysis
from rib.metrics.estimates import Estimate, Seeds, mean_over_seeds
from rib.metrics.missing import mean_if_whole
from rib.results.rows import SeenSet
from rib.studies.cohorts import Cohort
from rib.studies.numbers import StudyNumbers

Number = Callable[[SeenSet], float]
"""Reads one number from the values of an analysis in a run."""


class InsideStudy:
    """The values of an analysis in the fine-tuned models of a study.

    The numbers have no draws over images, so estimates cover tuning and pretraining seeds alone.

    Args:
        numbers: numbers of the study.
        analysis: type of the analysis.
    """

    def __init__(self, numbers: StudyNumbers, analysis: type[Analysis]) -> None:
        self.numbers = numbers
        self._found = {
            (seen.run.model, seen.run.size, seen.run.seed, seen.run.tuned_on): seen
            for seen in numbers.results.seen(analysis)
        }

    def any_of(self, cohorts: Sequence[Cohort]) -> SeenSet | None:
        """The values of one of the runs; None if no run has values."""
        models = {model for cohort in cohorts for model in cohort.models}
        return next((seen for (model, *_), seen in self._found.items() if model in models), None)

    def seeds(self, model: str, size: int | None, tuned_on: str, number: Number) -> list[float] | None:
        """A number for each tuning seed; None if one is missing or not finite."""
        found = [self._found.get((model, size, seed, tuned_on)) for seed in self.numbers.taken.seeds]
        values = [number(seen) for seen in found if seen]
        return values if len(values) == len(found) and np.isfinite(values).all() else None

    def of(self, cohort: Cohort, size: int | None, number: Number) -> Estimate | None:
        """A number of a cohort, averaged over the tuned sets; None if a run is missing."""
        models = [self._of_model(model, size, number) for model in cohort.models]
        whole = [estimate for estimate in models if estimate is not None]
        return mean_over_seeds(whole, cohort.seeds) if len(whole) == len(models) else None

    def _of_model(self, model: str, size: int | None, number: Number) -> Estimate | None:
        by_set = [self.seeds(model, size, tuned_on, number) for tuned_on in self.numbers.taken.downstream]
        if None in by_set:
            return None
        by_seed = np.mean([values for values in by_set if values], axis=0).tolist()
        seeds = Seeds("tuning", self.numbers.taken.seeds)
        return mean_over_seeds([Estimate(value) for value in by_seed], seeds)

    def mean(self, cohorts: Sequence[Cohort], number: Number) -> Estimate | None:
        """The mean over cohorts and sizes."""
        return mean_if_whole(self.of(*place, number) for place in itertools.product(cohorts, self.numbers.sizes))
