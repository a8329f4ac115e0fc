"""Objective of the pretraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rib.metrics.missing import mean_if_whole, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import Cohort, largest, sized, smallest
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs

BASELINE = "supervised"


class ObjectiveStudy(Study):
    """The objective of pretraining in addition to its amount: is the collapse specific to contrastive pretraining?"""

    name: ClassVar[str] = "objective"
    question: ClassVar[str] = "Is the loss a matter of how a model was pretrained, or of how much it was shown?"
    claim: ClassVar[str] = (
        "Left open by the paper, whose largest sets were all pretrained on contrastively; put as a claim: "
        "contrastive pretraining loses more than supervised, and more the larger its set."
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Each objective has its own recipe and is followed by its own stage on the reference set: what is compared is "
        "the whole way to the pretrained model.",
    )

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """Families with supervised pretraining and at least one other objective."""
        by_family: dict[str, set[str]] = {one.family: set() for one in taken.cohorts}
        known = [one for one in taken.cohorts if one.declared and one.objective]
        for one in known:
            by_family[one.family].add(one.objective)
        taken.require(
            all(len({name.casefold() for name in names}) == len(names) for names in by_family.values()),
            "cannot tell objectives apart that differ in case alone",
            "; ".join(f"{family}: {', '.join(sorted(names))}" for family, names in by_family.items()),
            "spell one objective in one way",
        )
        several = {family for family, objectives in by_family.items() if {BASELINE} < objectives}
        taken.require(
            bool(several),
            f"compares models of one family with {BASELINE} and with another pretraining",
            "; ".join(f"{family}: {', '.join(sorted(found)) or 'none'}" for family, found in by_family.items()),
            "name such models in the suite; a model of your own says its `family`, `objective`, `pretraining` and "
            "`pretraining_images`",
        )
        return [one for one in known if one.family in several]

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """Every objective minus supervised, on equal sets if there are any; and its largest set minus its smallest
        one."""
        found = []
        for family, objectives in _by_objective(numbers):
            plain: dict[str, list[Cohort]] = {}
            for one in objectives[BASELINE]:
                plain.setdefault(one.pretraining, []).append(one)
            for objective, cohorts in objectives.items():
                if objective == BASELINE:
                    continue
                equal = [one for one in cohorts if one.pretraining in plain]
                level = (
                    mean_if_whole(minus(numbers.mean([one]), numbers.mean(plain[one.pretraining])) for one in equal)
                    if equal
                    else minus(numbers.mean(cohorts), numbers.mean(objectives[BASELINE]))
                )
                where = "equal sets" if equal else "each on its own sets"
                found.append(contrast(family, f"{objective} minus {BASELINE}, {where}", "below", level))
                if sized(cohorts):
                    growth = minus(numbers.mean(largest(cohorts)), numbers.mean(smallest(cohorts)))
                    found.append(contrast(family, f"{objective}: largest minus smallest set", "below", growth))
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI against the pretraining set, one line per objective, one panel per family and size."""
        panels = []
        for family, objectives in _by_objective(numbers):
            ticks = list(dict.fromkeys(one.pretraining for one in numbers.families[family]))
            for size in numbers.sizes:
                lines = []
                for objective, cohorts in objectives.items():
                    places = {one.pretraining: (one, FINETUNE, size) for one in cohorts}
                    lines.append(numbers.line(objective, (places.get(tick) for tick in ticks)))
                panels.append(
                    AnswerPanel(f"{family}, n = {size_name(size)}", "pretraining set", tuple(ticks), tuple(lines))
                )
        return panels


def _by_objective(numbers: StudyNumbers) -> Iterator[tuple[str, dict[str, Sequence[Cohort]]]]:
    """The cohorts of every family by objective, supervised first."""
    for family, cohorts in numbers.families.items():
        names = sorted({one.objective for one in cohorts}, key=lambda name: (name != BASELINE, name))
        yield family, {name: [one for one in cohorts if one.objective == name] for name in names}
