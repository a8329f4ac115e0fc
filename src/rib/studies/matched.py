"""Matched: methods of a study at the gain of plain fine-tuning, as estimates that cover pretraining seeds too."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from rib.metrics.estimates import Estimate
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.plan import swept
from rib.results.answer import AnswerPanel
from rib.results.matched_gain import CurvePoint, CurveReading, Reach, by_strength, curves, gains, read_curve
from rib.results.words import size_name
from rib.studies.cohorts import Cohort
from rib.studies.numbers import FINETUNE, StudyNumbers

STRENGTHS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "finetune": ("epochs", (1, 2, 5)),
    "wise_ft": ("alpha", (0.25, 0.5, 0.75)),
    "lines": ("alpha", (0.0, 0.25, 0.5, 0.75)),
    "l2_sp": ("strength", (0.003, 0.03, 0.3)),
    "ewc": ("strength", (0.003, 0.03, 0.3)),
    "lwf": ("weight", (0.1, 1.0, 10.0)),
}
"""The strength of each method, and the values that studies sweep. Fixed before any study was run with them."""


def strengths(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Methods with a study's values, by name, such as `wise_ft_by_alpha`; methods without a strength stay as they
    are."""
    return {
        f"{name}_by_{STRENGTHS[name][0]}": {"kind": name, "sweep": {STRENGTHS[name][0]: list(STRENGTHS[name][1])}}
        for name in methods
        if name in STRENGTHS
    }


def swept_names(methods: Iterable[str]) -> tuple[str, ...]:
    """Names of these methods in the study's suite."""
    return tuple(f"{name}_by_{STRENGTHS[name][0]}" if name in STRENGTHS else name for name in methods)


class MatchedNumbers:
    """Methods of a study at the gain of fine-tuning.

    A cohort's curve is the mean over its pretraining seeds, for gains and for mRI.

    Args:
        numbers: numbers of the study.
    """

    def __init__(self, numbers: StudyNumbers) -> None:
        self.numbers = numbers
        self._sweeps = swept(numbers.results.suite)
        self._read: dict[tuple[Cohort, str, int | None], CurveReading] = {}

    @cached_property
    def curves(self) -> dict[str, list[str]]:
        """The methods of each curve by its name, in the order of the suite."""
        return curves(dict.fromkeys(run.method for run in self.numbers.results.plan.runs), self._sweeps)

    def reading(self, cohort: Cohort, name: str, size: int | None) -> CurveReading:
        """The value of a curve at the gain of fine-tuning."""
        place = (cohort, name, size)
        if place not in self._read:
            base, points = (
                self._point(cohort, FINETUNE, size),
                [self._point(cohort, m, size) for m in self.curves[name]],
            )
            known = [point for point in points if point is not None]
            whole = base is not None and len(known) == len(points)
            self._read[place] = read_curve(base, by_strength(known)) if base and whole else CurveReading("unknown")
        return self._read[place]

    def against(self, cohort: Cohort, name: str, size: int | None) -> Estimate | None:
        """mRI of a curve at the gain of fine-tuning, minus mRI of fine-tuning."""
        if name == FINETUNE:
            return minus(self.numbers.mri(cohort, name, size), self.numbers.mri(cohort, name, size))
        return minus(self.reading(cohort, name, size).mri, self.numbers.mri(cohort, FINETUNE, size))

    def places(self, cohorts: Iterable[Cohort]) -> list[tuple[Cohort, int | None]]:
        """All pairs of a cohort and a size."""
        return list(itertools.product(cohorts, self.numbers.sizes))

    def reached(self, cohorts: Sequence[Cohort], name: str) -> int:
        """The number of cohorts and sizes at which a curve reaches the gain."""
        return sum(self.reading(one, name, size).reach == "reached" for one, size in self.places(cohorts))

    def mean(self, cohorts: Sequence[Cohort], name: str) -> Estimate | None:
        """The mean of `against` over cohorts and sizes; None unless all of them reach the gain."""
        return mean_if_whole(self.against(one, name, size) for one, size in self.places(cohorts))

    def of_group(self, cohorts: Sequence[Cohort], names: Iterable[str]) -> Estimate | None:
        """The mean over the curves of a group that reach the gain everywhere; None without any."""
        found = [each for name in names if name in self.curves if (each := self.mean(cohorts, name)) is not None]
        return mean_if_whole(found)

    def panels(self) -> list[AnswerPanel]:
        """Difference from fine-tuning at its gain by method, one row per pretraining set."""
        return [
            AnswerPanel(
                f"{family}, n = {size_name(size)}",
                "method",
                (FINETUNE, *self.curves),
                tuple(
                    self.numbers.drawn(
                        self.numbers.label(one),
                        [interval_of(self.against(one, name, size)) for name in (FINETUNE, *self.curves)],
                        one,
                    )
                    for one in cohorts
                ),
                joined=False,
            )
            for family, cohorts in self.numbers.families.items()
            for size in self.numbers.sizes
        ]

    def notes(self) -> list[str]:
        """The methods that do not reach the gain everywhere, and where fine-tuning has none."""
        said = []
        for family, cohorts in self.numbers.families.items():
            places = self.places(cohorts)
            idle = sum(not self._gains(one, size) for one, size in places)
            if idle:
                said.append(
                    f"{family}: no method is compared where finetune shows no distinguishable gain, "
                    f"in {idle} of {len(places)} pretraining sets and sizes."
                )
            for name in self.curves:
                reaches = [self.reading(one, name, size).reach for one, size in places]
                for reach, words in WORDS.items():
                    if count := reaches.count(reach):
                        said.append(
                            f"{family}, {name}: {words} in {count} of {len(places)} pretraining sets and sizes."
                        )
        return said

    def _gains(self, cohort: Cohort, size: int | None) -> bool:
        """Whether fine-tuning gains distinguishably, or is not known."""
        base = self._point(cohort, FINETUNE, size)
        return base is None or gains(base)

    def _point(self, cohort: Cohort, method: str, size: int | None) -> CurvePoint | None:
        gain, mri = self.numbers.gain(cohort, method, size), self.numbers.mri(cohort, method, size)
        value = self._sweeps[method].value if method in self._sweeps else None
        return CurvePoint(method, value, gain, mri) if gain is not None and mri is not None else None


WORDS: Mapping[Reach, str] = {
    "never": "never reaches the gain of finetune",
    "beyond": "gains more than finetune at its one strength",
    "uncertain": "gains less than half of what finetune gains, too uncertainly to compare them,",
    "unknown": "predictions are missing",
}
