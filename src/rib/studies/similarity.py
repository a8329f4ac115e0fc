"""Similarity of layers before and after."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from rib.analysis.base import typed
from rib.analysis.cka import CKA, CKAValues
from rib.analysis.correlation import mantel
from rib.arrays import Floats
from rib.metrics.intervals import Interval
from rib.metrics.missing import interval_of, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.rows import SeenSet
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import Cohort, by_family, largest, sized, smallest
from rib.studies.inside import InsideStudy, Number
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast, in_percent
from rib.studies.selection import Taken
from rib.suite.suite import Looks, Runs


class Similarity(Study):
    """CKA of every layer with itself before and after fine-tuning, on the reference set's test images."""

    name: ClassVar[str] = "similarity"
    question: ClassVar[str] = "Do the layers of models pretrained on more images change more, and late ones most?"
    claim: ClassVar[str] = (
        "The larger the pretraining set, the less alike are the layers before and after tuning, late layers least; "
        "and the less alike they are, the more robustness was lost."
    )
    measure: ClassVar[str] = "100 × (1 − CKA), before and after"
    intervals: ClassVar[str] = (
        "A 95 % interval of 1 − CKA is a t interval over tuning and pretraining seeds. It covers no images, as CKA "
        "uses one sample of reference images. A correlation is the mean over models and sizes of each model's "
        "correlation over the tuned sets; its test and interval come from permuting the data sets, in the same way for "
        "all models, and cover neither images nor seeds."
    )
    limits: ClassVar[tuple[str, ...]] = ("CKA is of reference images alone.",)

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """Families with several pretraining sets; or all families, if each is known to have a single one."""
        families = by_family(taken.cohorts).values()
        if all(one.declared for one in taken.cohorts) and not any(len(family) > 1 for family in families):
            return taken.cohorts
        return taken.scaled()

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size."""
        taken.require_sizes(1)
        return (taken.block(FINETUNE),)

    def looks(self, taken: Taken) -> tuple[Looks, ...]:
        """CKA of every run."""
        return (Looks(names=("cka",)),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """Largest minus smallest pretraining set, if there are several; late minus early layers; correlation with
        RI."""
        found = []
        inside = InsideStudy(numbers, CKA)
        for family, cohorts in numbers.families.items():
            if known := sized(cohorts):
                growth = minus(inside.mean(largest(known), WHOLE), inside.mean(smallest(known), WHOLE))
                found.append(contrast(family, "1 − CKA: largest minus smallest pretraining set", "above", growth))
            depth = minus(inside.mean(cohorts, LATE), inside.mean(cohorts, EARLY))
            found.append(contrast(family, "1 − CKA: late minus early layers", "above", depth))
            found.append(
                Contrast(family, "100 × rank correlation of 1 − CKA and RI", "below", _with_ri(inside, cohorts))
            )
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """1 − CKA by layer, one line per pretraining set, one panel per family and size."""
        inside = InsideStudy(numbers, CKA)
        panels = []
        for family, cohorts in numbers.families.items():
            layers = _layers(inside, cohorts)
            for size in numbers.sizes:
                lines = [
                    numbers.drawn(
                        numbers.label(cohort),
                        [interval_of(inside.of(cohort, size, _of_layer(at))) for at in range(len(layers))],
                        cohort,
                    )
                    for cohort in cohorts
                ]
                panels.append(AnswerPanel(f"{family}, n = {size_name(size)}", "layer", tuple(layers), tuple(lines)))
        return panels


def _of_layer(at: int) -> Number:
    return lambda seen: 100 * float(_unlike(seen)[at])


def _unlike(seen: SeenSet) -> Floats:
    """1 − CKA of every layer with itself; NaN for a layer with the same output for every image."""
    return 1 - np.array(typed(seen.values, CKAValues)["diagonal"], np.float64)


def _layers(inside: InsideStudy, cohorts: Sequence[Cohort]) -> list[str]:
    """Names of a family's layers."""
    seen = inside.any_of(cohorts)
    return typed(seen.values, CKAValues)["layers"] if seen else []


def _thirds(place: slice) -> Number:
    """100 × the mean 1 − CKA over some thirds of the layers."""

    def number(seen: SeenSet) -> float:
        thirds = np.array_split(_unlike(seen), 3)
        return 100 * float(np.mean(np.concatenate(thirds[place])))

    return number


WHOLE, EARLY, LATE = _thirds(slice(3)), _thirds(slice(1)), _thirds(slice(2, 3))


def _with_ri(inside: InsideStudy, cohorts: Sequence[Cohort]) -> Interval | None:
    """100 × Spearman's correlation of mean 1 − CKA with RI over tuned sets, averaged over models and sizes.

    Both are means over tuning seeds. The correlation is within each model, because differences between models would
    affect both numbers.
    """
    numbers = inside.numbers
    models = [model for cohort in cohorts for model in cohort.models]
    unlike: dict[tuple[str, int | None], list[float]] = {}
    kept: dict[tuple[str, int | None], list[float]] = {}
    for model, size, tuned_on in itertools.product(models, numbers.sizes, numbers.taken.downstream):
        seeds, ri = (
            inside.seeds(model, size, tuned_on, WHOLE),
            numbers.results.estimates.ri((model, FINETUNE, size), tuned_on),
        )
        if seeds is None or ri is None:
            return None
        unlike.setdefault((model, size), []).append(float(np.mean(seeds)))
        kept.setdefault((model, size), []).append(ri.value)
    return in_percent(mantel([np.array(row) for row in unlike.values()], [np.array(row) for row in kept.values()]))
