"""Architecture: does keeping robustness take a changed architecture, or is regularisation enough? The paper's third
open question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rib.methods import METHODS, TrainedMethod
from rib.metrics.missing import minus
from rib.models.build import meta_classifier
from rib.results.answer import AnswerPanel, Contrast
from rib.steps import Fit
from rib.studies.base import Study
from rib.studies.matched import MatchedNumbers, strengths, swept_names
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs

GROUPS: Mapping[str, tuple[str, ...]] = {
    "regularised": ("l2_sp", "ewc", "lwf", "ldifs", "spd", "ftp", "digrap"),
    "averaged": ("wise_ft", "lines", "ema", "swa", "model_stock", "diwa_uniform"),
    "architectural": ("adapter", "vpt", "side_tuning", "progressive"),
    "few parameters": ("bitfit", "norm_tuning", "lora"),
}
"""The groups, fixed before any run. The value of a group is the mean over all of its methods that reach the gain,
never the best one."""

WHOLE, ADDED = ("side_tuning", "progressive"), ("adapter", "vpt")
"""The architectural methods that train a second net of the same size, and those that train few added parameters."""

CONTRASTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("architectural minus regularised", GROUPS["architectural"], "regularised"),
    ("architectural minus averaged", GROUPS["architectural"], "averaged"),
    ("a second net minus regularised, about equal trained parameters", WHOLE, "regularised"),
    ("added modules minus parts of the net, few trained parameters each", ADDED, "few parameters"),
)
"""For each contrast its words, the methods on the left and the group on the right. Fixed before any run, like the
groups."""


class ArchitectureStudy(Study):
    """Groups of methods at the gain of plain fine-tuning: regularised, averaged, and with a changed architecture."""

    name: ClassVar[str] = "architecture"
    by_name: ClassVar[bool] = True
    question: ClassVar[str] = "Is regularisation enough to keep robustness, or does it take architectural change?"
    claim: ClassVar[str] = (
        "Left open by the paper; put as a claim: at the gain of plain fine-tuning, methods that change the "
        "architecture keep more than regularised ones, and more than averaged ones."
    )
    measure: ClassVar[str] = "mRI minus finetune's at finetune's gain, points"
    limits: ClassVar[tuple[str, ...]] = (
        "A group is the mean of those of its methods that reach the gain of fine-tuning with each pretraining set at "
        "each size. The notes name the others, and the groups.",
        "The first two contrasts match gains alone. The last two compare methods that train about as many parameters; "
        "the notes have the counts.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning and the methods of all groups."""
        taken.require_sizes(1)
        there = _groups(taken)
        taken.require(
            bool(there["architectural"]) and bool(there["regularised"]),
            "compares architectural with regularised methods",
            "; ".join(f"{group}: {', '.join(names) or 'none'}" for group, names in there.items()),
            "name methods of both groups in [study.architecture] methods",
        )
        return (taken.block(FINETUNE, *swept_names(name for names in there.values() for name in names)),)

    def methods(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """The sweeps over strengths."""
        return strengths(name for names in _groups(taken).values() for name in names)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """Architectural minus regularised and minus averaged, at the same gain; and minus methods with as many
        trained parameters."""
        matched, found = MatchedNumbers(numbers), []
        for family, cohorts in numbers.families.items():
            for says, names, other in CONTRASTS:
                groups = [matched.of_group(cohorts, swept_names(each)) for each in (names, GROUPS[other])]
                found.append(contrast(family, f"{says}, at the gain of {FINETUNE}", "above", minus(*groups)))
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """The difference by method, one row per pretraining set, one panel per family and size."""
        return MatchedNumbers(numbers).panels()

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """The methods of each group, and those that do not reach the gain."""
        matched, said = MatchedNumbers(numbers), []
        for family, cohorts in numbers.families.items():
            for group, names in GROUPS.items():
                there = [name for name in swept_names(names) if name in matched.curves]
                kept = [name for name in there if matched.reached(cohorts, name) == len(matched.places(cohorts))]
                said.append(f"{family}, {group}: {', '.join(kept) or 'no method'} of {', '.join(there) or 'none'}.")
            models = {model for one in cohorts for model in one.models}
            fits = {run.fit.method.name: run.fit for run in numbers.results.plan.runs if run.model in models}
            counts = {name: trained_parameters(fit) for name, fit in fits.items()}
            listed = (f"{name} {count:,}" for name, count in counts.items() if count is not None)
            said.append(f"{family}, parameters trained: {', '.join(listed)}.")
        return said + matched.notes()


def trained_parameters(fit: Fit) -> int | None:
    """The number of parameters that a method trains; None if it trains none itself, such as an average of models."""
    if not isinstance(fit.method, TrainedMethod):
        return None
    classifier = meta_classifier(fit.architecture)
    chosen = fit.method.trainable(classifier)
    sizes = {name: value.numel() for name, value in classifier.net.named_parameters() if name not in classifier.frozen}
    return sum(size for name, size in sizes.items() if chosen is None or name in chosen)


def _groups(taken: Taken) -> dict[str, tuple[str, ...]]:
    """The methods of each group that the suite chooses and this version of RIB has."""
    chosen = taken.choice.methods
    return {
        group: tuple(name for name in names if name in METHODS.classes and (chosen is None or name in chosen))
        for group, names in GROUPS.items()
    }
