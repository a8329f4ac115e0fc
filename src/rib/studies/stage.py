"""Stage: pretraining with and without a stage on the reference set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.models.catalogue import ModelRow, find_row
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import Cohort
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken
from rib.suite.suite import Runs, Suite


class Stage(Study):
    """Models that differ only in whether the whole net was tuned on the reference set before."""

    name: ClassVar[str] = "stage"
    by_name: ClassVar[bool] = True
    question: ClassVar[str] = "Is the loss one of pretraining, or of a stage of tuning on the reference set after it?"
    claim: ClassVar[str] = (
        "Not the paper's, whose CLIP models were tuned on ImageNet first: a model that was tuned on the reference set "
        "before loses less afterwards, as it has lost what there was to lose."
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Both models of a pair have a head that is trained on the reference set; they differ in whether the rest of "
        "the net was trained with it.",
    )

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """The models that form pairs."""
        found = [one for pair in _pairs(taken.base, taken.cohorts) for one in pair]
        taken.require(
            bool(found),
            "compares models of the same weights with and without a stage on the reference set",
            ", ".join(taken.models),
            'give two rows the same weights and head = "new", one of them with finetune in [model.NAME.reference]',
        )
        return found

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """With the stage minus without: the mean over pairs and sizes."""
        return [
            contrast(
                family,
                "mRI with the stage minus without",
                "above",
                mean_if_whole(minus(numbers.mean([staged]), numbers.mean([plain])) for plain, staged in pairs),
            )
            for family, cohorts in numbers.families.items()
            if (pairs := list(_pairs(numbers.results.suite, cohorts)))
        ]

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI without and with the stage, one row per pair, one panel per family and size."""
        return [
            AnswerPanel(
                f"{family}, n = {size_name(size)}",
                "stage on the reference set",
                ("without", "with"),
                tuple(
                    numbers.drawn(
                        numbers.label(plain),
                        [interval_of(numbers.mri(one, FINETUNE, size)) for one in (plain, staged)],
                        plain,
                    )
                    for plain, staged in _pairs(numbers.results.suite, cohorts)
                ),
                joined=False,
            )
            for family, cohorts in numbers.families.items()
            for size in numbers.sizes
        ]


def _pairs(suite: Suite, cohorts: list[Cohort]) -> Iterator[tuple[Cohort, Cohort]]:
    """Pairs of cohorts with the same initial weights: without and with a stage on the reference set."""
    plain = {_weights(suite, one): one for one in cohorts if not _staged(_row(suite, one))}
    for one in cohorts:
        if _staged(_row(suite, one)) and (other := plain.get(_weights(suite, one))):
            yield other, one


def _row(suite: Suite, cohort: Cohort) -> ModelRow:
    return find_row(cohort.models[0], suite.model)


def _staged(row: ModelRow) -> bool:
    return bool(row.reference and row.reference.finetune)


def _weights(suite: Suite, cohort: Cohort) -> tuple[str, ...]:
    """The rows of a cohort's models without head, stage and pretraining: they identify the initial weights."""
    facts = {"head", "reference", "pretraining"}
    rows = (find_row(name, suite.model) for name in cohort.models)
    return tuple(row.model_dump_json(exclude=facts) for row in rows)
