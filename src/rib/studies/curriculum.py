"""Growing tuning sets."""

from __future__ import annotations

from typing import ClassVar

from rib.metrics.missing import minus
from rib.results.answer import AnswerPanel, Contrast
from rib.studies.base import Study
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs

CURRICULUM = "curriculum"


class GrowingSets(Study):
    """Tuning on the whole set at once, or on nested sets that grow to it, with the same number of steps."""

    name: ClassVar[str] = "curriculum"
    question: ClassVar[str] = "Is less lost when the tuning set grows in stages than when it is whole from the start?"
    claim: ClassVar[str] = (
        "Not the paper's, but a remedy that its account of small sets suggests: growing tuning sets keep more "
        "robustness than the whole set at once, in as many steps."
    )
    limits: ClassVar[tuple[str, ...]] = (
        "One order of the images, drawn at random: growing from easy to hard, or from near to far, is not tried.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning on the whole set and on growing sets."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE, CURRICULUM),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """Growing sets minus the whole set at once: the mean over pretraining sets and sizes."""
        return [
            contrast(
                family,
                "growing sets minus the whole at once",
                "above",
                minus(numbers.mean(cohorts, CURRICULUM), numbers.mean(cohorts)),
            )
            for family, cohorts in numbers.families.items()
        ]

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI of every pretraining set with both, one panel per family and size."""
        rows = {"the whole at once": FINETUNE, "growing sets": CURRICULUM}
        return [
            panel for family, cohorts in numbers.families.items() for panel in numbers.by_size(family, cohorts, rows)
        ]
