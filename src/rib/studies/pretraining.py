"""Size and diversity of the pretraining set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rib.metrics.estimates import Estimate
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name, spanned
from rib.studies.base import Study
from rib.studies.cohorts import Cohort, largest
from rib.studies.cohorts import smallest as smallest_of
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs


class Pretraining(Study):
    """The effect of the pretraining set's size; and of its diversity, if the suite names pairs of sets of one size.

    Two pairs at two sizes separate the two effects: size at equal diversity, and diversity at equal size. Their sum is
    the difference between the ends.
    """

    name: ClassVar[str] = "pretraining"
    question: ClassVar[str] = "Do models with larger and more diverse pretraining sets lose more in fine-tuning?"
    claim: ClassVar[str] = "Models pretrained on the largest and most diverse sets lose the most robustness."
    limits: ClassVar[tuple[str, ...]] = (
        "A model that starts higher has more to lose: mRI is in points, not as a share of what there was.",
    )

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """Families with several pretraining sets."""
        return taken.scaled(taken.choice.diversity)

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """The largest set minus the smallest; with pairs, also size and diversity by themselves."""
        found = []
        for family, cohorts in numbers.families.items():
            pairs = _pairs(numbers, cohorts)
            low, high = _ends(cohorts, pairs)
            ends = f"{_named(numbers, high)} minus {_named(numbers, low)}"
            found.append(contrast(family, ends, "below", _difference(numbers, high, low)))
            if len(pairs) == 2:
                plain, diverse = zip(*pairs, strict=True)
                size = mean_if_whole(_difference(numbers, [big], [small]) for small, big in (plain, diverse))
                variety = mean_if_whole(_difference(numbers, [more], [less]) for less, more in pairs)
                found.append(contrast(family, "size alone, at equal diversity", "below", size))
                found.append(contrast(family, "diversity alone, at equal size", "below", variety))
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI against the pretraining set, one line per size of the tuning set."""
        panels = []
        for family, cohorts in numbers.families.items():
            pairs = _pairs(numbers, cohorts)
            odd = [one for pair in pairs for one in pair if one not in (pairs[0][0], pairs[-1][1])]
            panels.append(_panel(numbers, family, [one for one in cohorts if one not in odd], joined=True))
            if pairs:
                flat = [one for pair in pairs for one in pair]
                panels.append(_panel(numbers, f"{family}, less and more diverse", flat, joined=False))
        return panels

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """The difference between the ends at each size of the tuning set."""
        said = []
        for family, cohorts in numbers.families.items():
            low, high = _ends(cohorts, _pairs(numbers, cohorts))
            for size in numbers.sizes:
                found = interval_of(_difference(numbers, high, low, [size]))
                if found:
                    ends = f"{_named(numbers, high)} minus {_named(numbers, low)}"
                    said.append(f"{family}, n = {size_name(size)}: {ends}: {spanned(found)} points.")
        return said


def _panel(numbers: StudyNumbers, title: str, cohorts: Sequence[Cohort], joined: bool) -> AnswerPanel:
    return AnswerPanel(
        title,
        "pretraining set",
        tuple(numbers.label(one) for one in cohorts),
        tuple(
            numbers.line(f"n = {size_name(size)}", ((one, FINETUNE, size) for one in cohorts)) for size in numbers.sizes
        ),
        joined,
    )


Pair = tuple[Cohort, Cohort]


def _pairs(numbers: StudyNumbers, cohorts: Sequence[Cohort]) -> list[Pair]:
    """The suite's pairs of sets of one size: the less diverse set first, pairs of smaller sets first."""
    by_name = {one.pretraining: one for one in cohorts}
    named = numbers.taken.choice.diversity
    pairs = [(by_name[less], by_name[more]) for less, more in named if less in by_name and more in by_name]
    return sorted(pairs, key=lambda pair: pair[0].images or 0)


def _ends(cohorts: Sequence[Cohort], pairs: Sequence[Pair]) -> tuple[list[Cohort], list[Cohort]]:
    """The smallest sets and the largest; of a pair, the less diverse set counts as the smaller."""
    less, more = ([pair[at] for pair in pairs] for at in (0, 1))
    return [one for one in smallest_of(cohorts) if one not in more], [
        one for one in largest(cohorts) if one not in less
    ]


def _difference(
    numbers: StudyNumbers, high: Sequence[Cohort], low: Sequence[Cohort], sizes: Sequence[int | None] | None = None
) -> Estimate | None:
    return minus(numbers.mean(high, sizes=sizes), numbers.mean(low, sizes=sizes))


def _named(numbers: StudyNumbers, cohorts: Sequence[Cohort]) -> str:
    return " and ".join(numbers.label(one) for one in cohorts)
