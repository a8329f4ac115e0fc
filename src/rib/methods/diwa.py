"""DiWA: the mean of trainings with different seeds and learning rates (Ramé et al. 2022, arXiv 2205.09739)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from rib.methods.base import Ingredient, Method, Passes, Task
from rib.methods.merging import MergedMethod
from rib.methods.soup import greedy, mean_weights
from rib.models.weights import Weights
from rib.recipe import Recipe

Rates = tuple[Annotated[float, Field(gt=0)], ...]
RATES = (1.0, 1 / 3, 5 / 3)
"""The learning rates of the source are in the ratio 1 : 3 : 5; here they surround the suite's own rate."""


class DiWA(Method):
    """Adds members, best first, while the held-out accuracy of their mean does not fall: the source's "restricted".

    Member k has its own order of the data and the learning rate `rates[k % len(rates)]` times that of `tuned`. The
    source has 20 or more members, and also varies weight decay, dropout and augmentation.
    """

    name: ClassVar[str] = "diwa"
    key_name: ClassVar[str] = "rib.methods.diwa:DiWA"
    needs_held_out: ClassVar[bool] = True
    takes_diverged: ClassVar[bool] = True
    runs: int = Field(6, ge=2, description="number of members")
    rates: Rates = Field(RATES, min_length=1, description="factors of the learning rate, in turn")
    tuned: str = Field("finetune", description="the method that makes the members")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The trainings that are members."""
        return members(self.tuned, self.runs, self.rates)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the held-out examples once per member, and once per mean that is tried."""
        return Passes(seen=(2 * self.runs - 1) * held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The mean of the chosen members. The record has their numbers."""
        kept = greedy(task, fitted)
        task.note("members_kept", ", ".join(map(str, sorted(kept))))
        return mean_weights([fitted[member] for member in kept])


class UniformDiWA(MergedMethod):
    """The mean of all members of `diwa`, without a choice: the source's "uniform"."""

    name: ClassVar[str] = "diwa_uniform"
    key_name: ClassVar[str] = "rib.methods.diwa:UniformDiWA"
    runs: int = Field(6, ge=2, description="number of members")
    rates: Rates = Field(RATES, min_length=1, description="factors of the learning rate, in turn")
    tuned: str = Field("finetune", description="the method that makes the members")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The trainings that are members."""
        return members(self.tuned, self.runs, self.rates)

    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """The mean."""
        return mean_weights(fitted)


def members(tuned: str, runs: int, rates: Sequence[float]) -> tuple[Ingredient, ...]:
    """Trainings of a method, each with its own seed and rate. The first is the one in the table if its rate is 1."""
    return tuple(Ingredient(tuned, run, rates[run % len(rates)]) for run in range(runs))
