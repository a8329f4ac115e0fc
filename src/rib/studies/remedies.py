"""Remedies: methods that keep robustness, at the gain of plain fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rib.methods import METHODS
from rib.results.answer import AnswerPanel, Contrast
from rib.studies.base import Study
from rib.studies.matched import MatchedNumbers, strengths, swept_names
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs

METHODS_TRIED = (
    "finetune", "wise_ft", "lines", "l2_sp", "ewc", "lwf", "lp_ft", "ema", "swa", "spd", "ftp", "digrap", "ldifs",
    "llrd", "surgical", "bitfit", "norm_tuning", "sam", "replay", "lora", "model_stock", "diwa_uniform", "soup",
)  # fmt: skip
"""The default methods, as far as this version of RIB has them."""


class Remedies(Study):
    """Each method compared with plain fine-tuning, at the same gain on the tuned set."""

    name: ClassVar[str] = "remedies"
    by_name: ClassVar[bool] = True
    question: ClassVar[str] = "Which methods keep more robustness than plain fine-tuning that gains as much?"
    claim: ClassVar[str] = (
        "Not the paper's, which compares methods at one strength each: each of these methods keeps more than plain "
        "fine-tuning at the same gain on the set tuned on."
    )
    measure: ClassVar[str] = "mRI minus finetune's at finetune's gain, points"
    limits: ClassVar[tuple[str, ...]] = (
        "Between the strengths of a sweep a curve is a straight line. A method without a sweep is compared only where "
        "its gain is not distinguishable from fine-tuning's.",
        "A contrast needs the gain to be reached with each pretraining set at each size; the notes name the others.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning, and the methods at all of their strengths."""
        taken.require_sizes(1)
        names = [name for name in swept_names(_chosen(taken)) if name != FINETUNE]
        taken.require(bool(names), f"compares methods with {FINETUNE}", "no other", "give [study.NAME] methods")
        return (taken.block(FINETUNE, *names),)

    def methods(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """The sweeps over strengths."""
        return strengths(_chosen(taken))

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """Every method that reaches the gain, minus fine-tuning at that gain."""
        matched, found = MatchedNumbers(numbers), []
        for family, cohorts in numbers.families.items():
            reach = [name for name in matched.curves if matched.reached(cohorts, name) == len(matched.places(cohorts))]
            for name in reach:
                says = f"{name} minus {FINETUNE} at its gain"
                found.append(contrast(family, says, "above", matched.mean(cohorts, name)))
            if not reach:
                found.append(contrast(family, f"no method reaches the gain of {FINETUNE}", "above", None))
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """The difference by method, one row per pretraining set, one panel per family and size."""
        return MatchedNumbers(numbers).panels()

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """The methods that do not reach the gain."""
        return MatchedNumbers(numbers).notes()


def _chosen(taken: Taken) -> tuple[str, ...]:
    known = tuple(name for name in METHODS_TRIED if name in METHODS.classes)
    return taken.choice.methods or known
