"""Map of tuning size and pretraining."""

from __future__ import annotations

from typing import ClassVar

from rib.metrics.missing import mean_if_whole, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import Cohort, largest, smallest
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs


class Map(Study):
    """Both together: where on the map of tuning size and pretraining is robustness lost?"""

    name: ClassVar[str] = "map"
    question: ClassVar[str] = "Is the loss worst where the largest pretraining set meets the smallest tuning set?"
    claim: ClassVar[str] = (
        "The collapse has a corner of its own: a model of the largest pretraining set tuned on the smallest set; "
        "elsewhere on the map less is lost."
    )
    surface: ClassVar[bool] = True
    limits: ClassVar[tuple[str, ...]] = (
        "Only the marked points are measured: the surface between them is interpolated, on axes of equal spacing.",
    )

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """Families with several pretraining sets."""
        return taken.scaled()

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes()
        return (taken.block(FINETUNE),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """The corner minus the rest; and the effect of more pretraining at the smallest size, minus that at the
        largest."""
        found = []
        first, last = numbers.sizes[0], numbers.sizes[-1]
        for family, cohorts in numbers.families.items():
            low, high = smallest(cohorts), largest(cohorts)
            rest = mean_if_whole(
                numbers.mri(one, FINETUNE, size)
                for one in cohorts
                for size in numbers.sizes
                if not (one in high and size == first)
            )
            corner = minus(numbers.mean(high, sizes=[first]), rest)
            found.append(contrast(family, "the corner minus the rest of the map", "below", corner))
            effects = [
                minus(numbers.mean(high, sizes=[size]), numbers.mean(low, sizes=[size])) for size in (first, last)
            ]
            says = f"largest minus smallest pretraining set: at n = {size_name(first)} minus at n = {size_name(last)}"
            found.append(contrast(family, says, "below", minus(*effects)))
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI by size (horizontal) and pretraining set (vertical)."""
        return [
            AnswerPanel(
                family,
                "images tuned on",
                tuple(map(size_name, numbers.sizes)),
                tuple(
                    numbers.line(numbers.label(one), ((one, FINETUNE, size) for size in numbers.sizes), one)
                    for one in cohorts
                ),
            )
            for family, cohorts in numbers.families.items()
        ]
