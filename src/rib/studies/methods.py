"""Methods at each size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rib.metrics.estimates import Estimate
from rib.metrics.missing import interval_of, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name, spanned
from rib.studies.base import Study
from rib.studies.cohorts import Cohort
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs


class Methods(Study):
    """Every method of the suite compared with plain fine-tuning, at every size."""

    name: ClassVar[str] = "methods"
    question: ClassVar[str] = "Do other methods keep more robustness than plain fine-tuning, and at which sizes?"
    claim: ClassVar[str] = "Regularised, partial and averaged fine-tuning keep more robustness than plain fine-tuning."
    limits: ClassVar[tuple[str, ...]] = (
        "Each method has the strength that its authors or the paper chose, not the best for these models.",
        "To keep robustness is half of it: a method that learns nothing loses nothing.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """All methods at all sizes."""
        taken.require_sizes(1)
        others = _others(taken)
        taken.require(
            bool(others),
            f"compares methods with {FINETUNE}",
            f"no method but {FINETUNE}",
            'name more methods in the suite\'s runs, or [study.methods] methods = ["linear_probe", "wise_ft"]',
        )
        return (taken.block(FINETUNE, *others),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """Every method minus fine-tuning: the mean over pretraining sets and sizes."""
        return [
            contrast(family, f"{method} minus {FINETUNE}", "above", _gain(numbers, cohorts, method, numbers.sizes))
            for family, cohorts in numbers.families.items()
            for method in _methods(numbers)
        ]

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI by method, one row per pretraining set, one panel per family and size."""
        ticks = (FINETUNE, *_methods(numbers))
        return [
            AnswerPanel(
                f"{family}, n = {size_name(size)}",
                "method",
                ticks,
                tuple(
                    numbers.line(numbers.label(one), ((one, method, size) for method in ticks), one) for one in cohorts
                ),
                joined=False,
            )
            for family, cohorts in numbers.families.items()
            for size in numbers.sizes
        ]

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """The sizes at which a method is not distinguishably ahead of fine-tuning."""
        said = []
        for family, cohorts in numbers.families.items():
            for method in _methods(numbers):
                gains = {size: interval_of(_gain(numbers, cohorts, method, [size])) for size in numbers.sizes}
                level = [
                    f"{size_name(size)}: {spanned(gain)}"
                    for size, gain in gains.items()
                    if gain and not (gain.differs and gain.value > 0)
                ]
                if level:
                    said.append(f"{family}, {method} is not distinguishably ahead at n = {'; '.join(level)}.")
        return said


def _gain(
    numbers: StudyNumbers, cohorts: Sequence[Cohort], method: str, sizes: Sequence[int | None]
) -> Estimate | None:
    """mRI of a method minus that of fine-tuning: the mean over cohorts and sizes."""
    return minus(numbers.mean(cohorts, method, sizes), numbers.mean(cohorts, FINETUNE, sizes))


def _others(taken: Taken) -> list[str]:
    """The methods that are compared with fine-tuning, as the suite names them."""
    named = taken.choice.methods or tuple(method for run in taken.base.runs for method in run.methods)
    return [name for name in dict.fromkeys(named) if name not in (FINETUNE, "pretrained")]


def _methods(numbers: StudyNumbers) -> list[str]:
    """The methods as they ran: each member of a sweep by itself."""
    names = dict.fromkeys(run.method for run in numbers.results.plan.runs)
    return [name for name in names if name not in (FINETUNE, "pretrained")]
