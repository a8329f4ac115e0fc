"""Forgetting: is robustness lost in the head or in the features?"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from rib.analysis.base import typed
from rib.analysis.forgetting import Forgetting as Analysis
from rib.analysis.forgetting import ForgettingPart, ForgettingValues
from rib.metrics.missing import interval_of, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.rows import SeenSet
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.inside import InsideStudy, Number
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Looks, Runs

PARTS: dict[ForgettingPart, str] = {
    "together": "tuned",
    "by_head": "head tuned",
    "by_features": "features tuned",
    "probe": "probe refitted",
}
"""The differences of the analysis, in words."""


class Forgotten(Study):
    """Combines heads and features from before and after tuning, and fits a new probe on each features, on every
    other set."""

    name: ClassVar[str] = "forgetting"
    question: ClassVar[str] = "Is the representation lost, or only mis-read by the head?"
    claim: ClassVar[str] = (
        "Not the paper's: what fine-tuning forgets of other data sets is still in the features, and a new linear head "
        "on them would lose less than the model did."
    )
    measure: ClassVar[str] = "change on the other sets, points"
    intervals: ClassVar[str] = (
        "A 95 % interval is a t interval over tuning seeds, where there are several, and pretraining seeds. It covers "
        "no images: each analysis has one number for its images."
    )
    limits: ClassVar[tuple[str, ...]] = (
        "A probe is fitted on half of a test set: with few images it is a weak reader, before as after.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE),)

    def looks(self, taken: Taken) -> tuple[Looks, ...]:
        """The analysis of every run, on all downstream sets."""
        return (Looks(names=("forgetting",), on=taken.downstream),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """The probe's change minus the model's own change: above 0 if a new head recovers accuracy."""
        inside, called = InsideStudy(numbers, Analysis), numbers.results.suite.set_names.short
        return [
            contrast(
                family,
                "change of a refitted probe minus change of the model",
                "above",
                minus(
                    inside.mean(cohorts, _elsewhere("probe", called)),
                    inside.mean(cohorts, _elsewhere("together", called)),
                ),
            )
            for family, cohorts in numbers.families.items()
        ]

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """The parts by pretraining set, one panel per family and size."""
        inside, called = InsideStudy(numbers, Analysis), numbers.results.suite.set_names.short
        return [
            AnswerPanel(
                f"{family}, n = {size_name(size)}",
                "pretraining set",
                tuple(numbers.label(cohort) for cohort in cohorts),
                tuple(
                    numbers.drawn(
                        words, [interval_of(inside.of(cohort, size, _elsewhere(part, called))) for cohort in cohorts]
                    )
                    for part, words in PARTS.items()
                ),
                joined=False,
            )
            for family, cohorts in numbers.families.items()
            for size in numbers.sizes
        ]


def _elsewhere(part: ForgettingPart, called: Callable[[str], str]) -> Number:
    """The mean of a part over the sets that a run was not tuned on, points."""

    def number(seen: SeenSet) -> float:
        values = typed(seen.values, ForgettingValues)
        pairs = zip(values["sets"], values[part], strict=True)
        return float(np.mean([triple[0] for name, triple in pairs if called(name) != called(seen.run.tuned_on or "")]))

    return number
