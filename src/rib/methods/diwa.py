"""DiWA: the mean of trainings that differ in seed and learning rate (Ramé et al. 2022, arXiv 2205.09739)."""

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
"""The learning rates of the source are in the proportion 1 : 3 : 5; here they lie around the suite's own."""


class DiWA(Method):
    """Members join, best first, while the held-out accuracy of their mean does not fall: the source's "restricted".

    Member k has an order of the data of its own and the learning rate `rates[k % len(rates)]` times that of `tuned`.
    The source has 20 members or more, and also varies weight decay, dropout and augmentation.
    """

    name: ClassVar[str] = "diwa"
    key_name: ClassVar[str] = "rib.methods.diwa:DiWA"
    needs_held_out: ClassVar[bool] = True
    takes_diverged: ClassVar[bool] = True
    runs: int = Field(6, ge=2, description="members")
    rates: Rates = Field(RATES, min_length=1, description="factors of the learning rate, in turn")
    tuned: str = Field("finetune", description="the method that makes the members")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The members."""
        return members(self.tuned, self.runs, self.rates)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """The held-out examples once for each member, and once for each mean that is tried."""
        return Passes(seen=(2 * self.runs - 1) * held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The mean of the members that are kept; the record notes which they are, by number."""
        kept = greedy(task, fitted)
        task.note("members_kept", ", ".join(map(str, sorted(kept))))
        return mean_weights([fitted[member] for member in kept])


class UniformDiWA(MergedMethod):
    """The mean of all members of `diwa`, without a choice: the source's "uniform"."""

    name: ClassVar[str] = "diwa_uniform"
    key_name: ClassVar[str] = "rib.methods.diwa:UniformDiWA"
    runs: int = Field(6, ge=2, description="members")
    rates: Rates = Field(RATES, min_length=1, description="factors of the learning rate, in turn")
    tuned: str = Field("finetune", description="the method that makes the members")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The members."""
        return members(self.tuned, self.runs, self.rates)

    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """The mean."""
        return mean_weights(fitted)


def members(tuned: str, runs: int, rates: Sequence[float]) -> tuple[Ingredient, ...]:
    """Trainings of a method with a seed and a rate of their own; the first is that of the table if its rate is 1."""
    return tuple(Ingredient(tuned, run, rates[run % len(rates)]) for run in range(runs))
