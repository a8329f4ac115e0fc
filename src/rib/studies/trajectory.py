"""Trajectory: when during fine-tuning robustness is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from rib.analysis.base import typed
from rib.analysis.cka import CKA, CKAValues
from rib.metrics.estimates import Estimate
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.results.answer import AnswerLine, AnswerPanel, Contrast
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.cohorts import Cohort
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken, counted
from rib.suite.suite import Looks, Runs

STEPS = tuple(factor * 10**power for power in range(6) for factor in (1, 2, 5))
"""1, 2, 5, 10, 20, 50, ... steps."""


class Trajectory(Study):
    """mRI, gain and CKA after 1, 2, 5, 10 ... steps of one run, with the learning-rate schedule of the whole run."""

    name: ClassVar[str] = "trajectory"
    by_name: ClassVar[bool] = True
    question: ClassVar[str] = "When in a run of fine-tuning is robustness lost?"
    claim: ClassVar[str] = (
        "Not the paper's: it is lost early. After a tenth of the steps, more than half of what the whole run loses is "
        "lost."
    )
    measure: ClassVar[str] = "mRI, and gain on the set tuned on, points"
    limits: ClassVar[tuple[str, ...]] = (
        "The runs warm up and end on a half cosine: early is also where the rate is not yet small.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size, complete and stopped early."""
        taken.require_sizes(1)
        return tuple(
            taken.block(FINETUNE, *(_name(step) for step in _steps(taken, counted(size))), sizes=[size])
            for size in taken.sizes
        )

    def methods(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """Fine-tuning that stops early."""
        steps = {step for size in taken.sizes for step in _steps(taken, counted(size))}
        return {_name(step): {"kind": "stopped", "after": step} for step in sorted(steps)}

    def looks(self, taken: Taken) -> tuple[Looks, ...]:
        """CKA for the first tuning seed only, because it costs as much as tuning."""
        return (Looks(names=("cka",), seeds=taken.seeds[:1]),)

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """mRI after a tenth of the run, minus half of mRI at its end: the mean over pretraining sets and sizes."""
        says = "mRI after a tenth of the steps minus half of that after all"
        return [
            contrast(
                family, says, "below", mean_if_whole(_early(numbers, one, n) for one in cohorts for n in numbers.sizes)
            )
            for family, cohorts in numbers.families.items()
        ]

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI and gain against the number of steps, two lines per pretraining set, one panel per family and size."""
        panels = []
        for family, cohorts in numbers.families.items():
            for size in numbers.sizes:
                methods = _methods(numbers, size)
                lines: list[AnswerLine] = []
                for one in cohorts:
                    label = numbers.label(one)
                    lines.append(
                        numbers.drawn(f"{label}, mRI", [interval_of(numbers.mri(one, m, size)) for m in methods], one)
                    )
                    lines.append(
                        numbers.drawn(f"{label}, gain", [interval_of(numbers.gain(one, m, size)) for m in methods])
                    )
                title = f"{family}, n = {size_name(size)}"
                panels.append(AnswerPanel(title, "steps", tuple(map(_tick, methods)), tuple(lines)))
        return panels

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """CKA with the pretrained model, averaged over layers and runs."""
        said = []
        for family, cohorts in numbers.families.items():
            models = {model for one in cohorts for model in one.models}
            for size in numbers.sizes:
                values: dict[str, list[float]] = {}
                for seen in numbers.results.seen(CKA):
                    if seen.run.model in models and seen.run.size == size:
                        diagonal = np.array(typed(seen.values, CKAValues)["diagonal"], np.float64)
                        values.setdefault(seen.run.method, []).append(float(np.nanmean(diagonal)))
                known = [f"{_tick(m)}: {np.mean(values[m]):.2f}" for m in _methods(numbers, size) if m in values]
                if known:
                    said.append(
                        f"{family}, n = {size_name(size)}, CKA, mean over layers, after steps {', '.join(known)}."
                    )
        return said


def _name(step: int) -> str:
    return f"stopped_after_{step}"


def _tick(method: str) -> str:
    return "all" if method == FINETUNE else method.rpartition("_")[2]


def _steps(taken: Taken, size: int | None) -> tuple[int, ...]:
    """The numbers of steps after which a run is evaluated before its end."""
    taken.require(size is not None, "counts steps", "size 'all'", f"[study.{taken.study}] sizes = [200]")
    total = taken.base.recipe.total_steps(size or 1)
    found = tuple(step for step in STEPS if step < total)
    taken.require(bool(found), "needs runs of at least two steps", f"{total} steps", "raise epochs")
    return found


def _methods(numbers: StudyNumbers, size: int | None) -> list[str]:
    return [*map(_name, _steps(numbers.taken, size)), FINETUNE]


def _early(numbers: StudyNumbers, cohort: Cohort, size: int | None) -> Estimate | None:
    """mRI after the last listed step within a tenth of the run, minus half of mRI at its end."""
    steps, total = _steps(numbers.taken, size), numbers.taken.base.recipe.total_steps(size or 1)
    early = max([step for step in steps if step <= total / 10], default=steps[0])
    whole = numbers.mri(cohort, FINETUNE, size)
    return minus(numbers.mri(cohort, _name(early), size), whole / 2 if whole is not None else None)
