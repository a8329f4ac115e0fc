"""Model soups: the mean of several methods' weights (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.base import Ingredient, Method, Passes, Task
from rib.methods.merging import MergedMethod
from rib.models.weights import Weights
from rib.recipe import Recipe

PAPER_MEMBERS = ("pretrained", "finetune", "l2_sp", "lwf")
"""The soup of arXiv 2410.21582; what its code calls EWC is L2-SP."""


class Soup(MergedMethod):
    """The uniform mean of the members' weights; BatchNorm statistics are averaged too, as in the paper."""

    name: ClassVar[str] = "soup"
    key_name: ClassVar[str] = "rib.methods.soup:Soup"
    members: tuple[str, ...] = Field(PAPER_MEMBERS, min_length=2)

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The names of the members."""
        return self.members

    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """The mean."""
        return mean_weights(fitted)


class GreedySoup(Method):
    """Adds members, best first, while the accuracy of their mean on held-out images does not fall."""

    name: ClassVar[str] = "greedy_soup"
    key_name: ClassVar[str] = "rib.methods.soup:GreedySoup"
    needs_held_out: ClassVar[bool] = True
    members: tuple[str, ...] = Field(PAPER_MEMBERS, min_length=2)

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The names of the members."""
        return self.members

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the held-out examples once per member, and once per soup that is tried."""
        return Passes(seen=(2 * len(self.members) - 1) * held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The greedy soup. The record has its members."""
        kept = greedy(task, fitted)
        task.note("members_kept", ", ".join(self.members[member] for member in sorted(kept)))
        return mean_weights([fitted[index] for index in kept])


def greedy(task: Task, fitted: Sequence[Weights]) -> list[int]:
    """Indices of the chosen members. They join, best first, while the held-out accuracy of the mean does not fall.

    The record gets that accuracy.
    """
    alone = [task.held_out_accuracy(weights) for weights in fitted]
    ranking = sorted(range(len(fitted)), key=lambda member: -alone[member])
    kept, best = [ranking[0]], alone[ranking[0]]
    for member in ranking[1:]:
        accuracy = task.held_out_accuracy(mean_weights([fitted[index] for index in [*kept, member]]))
        if accuracy >= best:
            kept, best = [*kept, member], accuracy
    task.note("held_out_accuracy", best)
    return kept


def mean_weights(members: Sequence[Weights]) -> dict[str, Tensor]:
    """The mean of floating-point tensors; counters are those of the last member."""
    return {
        name: torch.stack([member[name] for member in members]).mean(dim=0) if last.is_floating_point() else last
        for name, last in members[-1].items()
    }
