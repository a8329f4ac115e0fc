"""Size of the tuning set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rib.metrics.missing import mean_if_whole, minus
from rib.results.answer import AnswerPanel, Contrast
from rib.results.words import size_name
from rib.studies.base import Study
from rib.studies.numbers import FINETUNE, StudyNumbers, contrast
from rib.studies.selection import Taken, counted
from rib.suite.suite import Runs, Size


class TuningSize(Study):
    """Few images or many, in two regimes: fixed epochs, where more images mean more steps, and fixed steps.

    The fixed number of steps is that of the recipe at the middle size, so the two regimes are equal there. Fixed steps
    run at the smallest, the middle and the largest size.
    """

    name: ClassVar[str] = "size"
    question: ClassVar[str] = "Is more robustness lost when fewer images are tuned on?"
    claim: ClassVar[str] = "The smaller the set that a model is tuned on, the more of its robustness is lost."
    limits: ClassVar[tuple[str, ...]] = (
        "Smaller tuning sets are parts of larger ones: fewer images are also less varied ones.",
    )

    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """Fine-tuning at every size, and with fixed steps."""
        taken.require_sizes()
        own = [size for size, method in _fixed(taken).items() if method != FINETUNE]
        return taken.block(FINETUNE), taken.block(_steps_name(taken), sizes=own)

    def methods(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """Fine-tuning with the fixed number of steps."""
        return {_steps_name(taken): {"kind": FINETUNE, "steps": _steps(taken)}}

    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """mRI at the smallest size minus that at the largest, in both regimes."""
        found = []
        for family, cohorts in numbers.families.items():
            for regime, runs in _regimes(numbers.taken).items():
                first, last = min(runs, key=numbers.sizes.index), max(runs, key=numbers.sizes.index)
                found.append(
                    contrast(
                        family,
                        f"{regime}: n = {size_name(first)} minus n = {size_name(last)}",
                        "below",
                        mean_if_whole(
                            minus(numbers.mri(one, runs[first], first), numbers.mri(one, runs[last], last))
                            for one in cohorts
                        ),
                    )
                )
        return found

    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """mRI against size, one line per pretraining set, one panel per family and regime."""
        return [
            AnswerPanel(
                f"{family}, {regime}",
                "images tuned on",
                tuple(map(size_name, runs)),
                tuple(
                    numbers.line(numbers.label(one), ((one, method, size) for size, method in runs.items()), one)
                    for one in cohorts
                ),
            )
            for family, cohorts in numbers.families.items()
            for regime, runs in _regimes(numbers.taken).items()
        ]


def _regimes(taken: Taken) -> dict[str, dict[int | None, str]]:
    """The method at each size, for both regimes."""
    recipe = taken.base.recipe
    length = f"{recipe.steps} steps by recipe" if recipe.steps else f"{recipe.epochs} epochs"
    fixed = {counted(size): method for size, method in _fixed(taken).items()}
    return {length: {counted(size): FINETUNE for size in taken.sizes}, f"{_steps(taken)} steps": fixed}


def _fixed(taken: Taken) -> dict[Size, str]:
    """The sizes with fixed steps, and their method; plain fine-tuning at the size where the regimes are equal."""
    middle = _middle(taken)
    sizes = dict.fromkeys(size for size in (taken.sizes[0], middle, taken.sizes[-1]) if size is not None)
    return {size: FINETUNE if _meets(taken, size) else _steps_name(taken) for size in sizes}


def _meets(taken: Taken, size: Size) -> bool:
    """Whether every model's own recipe takes the fixed number of steps at this size."""
    recipes = [taken.base.recipe_of(model) for model in taken.models]
    return size != "all" and all(recipe.total_steps(size) == _steps(taken) for recipe in recipes)


def _middle(taken: Taken) -> int | None:
    known = [size for size in taken.sizes if size != "all"]
    return known[len(known) // 2] if known else None


def _steps(taken: Taken) -> int:
    middle = _middle(taken)
    if taken.choice.steps or not middle:
        return taken.choice.steps or 1000
    return taken.base.recipe.total_steps(middle)


def _steps_name(taken: Taken) -> str:
    return f"{FINETUNE}_{_steps(taken)}_steps"
