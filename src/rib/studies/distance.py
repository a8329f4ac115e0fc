"""Distance between data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from rib.analysis.correlation import mantel
from rib.metrics.intervals import Interval
from rib.results.answer import AnswerPanel, Contrast
from rib.results.inside.averages import OTHERS
from rib.results.inside.distances import DistanceLoss, as_matrices, distance_losses
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import Cohort
from rib.studies.numbers import FINETUNE, StudyNumbers, in_percent
from rib.studies.selection import Taken
from rib.suite.suite import Looks, Runs

MEASURES = ("frechet", "mmd", "otdd")


class DataDistance(Study):
    """Distances between data sets in each pretrained model's feature space, against the cost of tuning on one set
    for the other."""

    name: ClassVar[str] = "distance"
    question: ClassVar[str] = "Does tuning cost more accuracy on data that are farther from the set tuned on?"
    claim: ClassVar[str] = "The farther a data set is from the one tuned on, the more accuracy is lost on it."
    measure: ClassVar[str] = "100 × rank correlation of distance and loss of accuracy, mean over models"
    intervals: ClassVar[str] = (
        "A correlation is the mean over models of each model's own. Its test and its 95 % interval come from permuting "
        "the data sets, the same way for all models (all 5,040 orders of seven sets). They cover neither images nor "
        "seeds: distances and losses are taken as measured, losses as means over tuning seeds."
    )
    limits: ClassVar[tuple[str, ...]] = ("Sets with fewer classes come out farther away by every measure.",)

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE),)

    def looks(self, taken: Taken) -> tuple[Looks, ...]:
        """Distances between the tuned sets."""
        return (Looks(names=("distance",), on=taken.downstream),)

    def analyses(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """All three distances."""
        return {"distance": {"measures": list(MEASURES)}}

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """The correlation over all pairs of sets, for each family and measure: the mean over models and sizes."""
        losses = list(distance_losses(numbers.results))
        return [
            Contrast(family, f"100 × rank correlation, {measure}", "above", _over(found, measure))
            for family, cohorts in numbers.families.items()
            for found in [_of(losses, cohorts, numbers.results.suite.model_names.short)]
            for measure in MEASURES
        ]

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """The correlation by pretraining set, one line per measure, one panel per family and size."""
        losses, panels = list(distance_losses(numbers.results)), []
        called = numbers.results.suite.model_names.short
        for family, cohorts in numbers.families.items():
            for size in numbers.sizes:
                found = [[one for one in _of(losses, [cohort], called) if one.size == size] for cohort in cohorts]
                lines = [numbers.drawn(measure, (_over(each, measure) for each in found)) for measure in MEASURES]
                ticks = tuple(numbers.label(cohort) for cohort in cohorts)
                panels.append(
                    AnswerPanel(f"{family}, n = {size_name(size)}", "pretraining set", ticks, tuple(lines), False)
                )
        return panels


def _of(losses: Sequence[DistanceLoss], cohorts: Sequence[Cohort], called: Callable[[str], str]) -> list[DistanceLoss]:
    """The values of the models of some cohorts; empty if one of them is missing."""
    models = {called(model) for cohort in cohorts for model in cohort.models}
    found = [one for one in losses if one.model in models and one.method == FINETUNE and one.lost_on == OTHERS]
    return found if {one.model for one in found} == models else []


def _over(found: Sequence[DistanceLoss], measure: str) -> Interval | None:
    """100 × the mean over models of Spearman's correlation over pairs. It is averaged because distances of two
    models have no common unit."""
    mine = [as_matrices(one.pairs) for one in found if one.measure == measure]
    return in_percent(mantel([pair[0] for pair in mine], [pair[1] for pair in mine])) if mine else None
