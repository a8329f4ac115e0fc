"""Learning rate."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from rib.metrics.missing import minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import largest, sized, smallest
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs

BEST = "best_rate"


class Rate(Study):
    """One learning rate for all runs, or for every run the rate that is best on held-out images of the tuned set."""

    name: ClassVar[str] = "rate"
    question: ClassVar[str] = "Does the loss survive when every model is tuned at its own best learning rate?"
    claim: ClassVar[str] = (
        "The loss does not come from one learning rate, nor does the largest loss of the largest pretraining set: both "
        "are there at the rate that is best on held-out downstream images."
    )
    limits: ClassVar[tuple[str, ...]] = (
        "The best rate is the best for the set tuned on, as somebody would choose who looks at no other set; it is "
        "chosen on at most as many held-out images as are tuned on.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at the common rate, and at the best of several rates."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE, BEST),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """At the best rate: mRI itself, and that of the largest pretraining set minus that of the smallest."""
        found = []
        for family, cohorts in numbers.families.items():
            found.append(contrast(family, "mRI at the best rate", "below", numbers.mean(cohorts, BEST)))
            if known := sized(cohorts):
                ends = minus(numbers.mean(largest(known), BEST), numbers.mean(smallest(known), BEST))
                found.append(contrast(family, "best rate: largest minus smallest pretraining set", "below", ends))
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI of every pretraining set at both rates, one panel per family and size."""
        rows = {"common rate": FINETUNE, "best held-out rate": BEST}
        return [
            panel for family, cohorts in numbers.families.items() for panel in numbers.by_size(family, cohorts, rows)
        ]

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """The chosen rates, by family and size."""
        families = {
            numbers.results.suite.model_names.short(name): one.family
            for many in numbers.families.values()
            for one in many
            for name in one.models
        }
        chosen: dict[tuple[str, int | None], Counter[float]] = {}
        for note in numbers.results.notes:
            if note.method == BEST:
                counter = chosen.setdefault((families[note.model], note.size), Counter())
                counter[float(str(note.values["chosen_lr"]))] += 1
        return [
            f"{family}, n = {size_name(size)}, rates chosen: "
            + ", ".join(f"{rate:g} in {count}" for rate, count in sorted(counter.items()))
            + f" of {counter.total()} runs."
            for (family, size), counter in chosen.items()
        ]
