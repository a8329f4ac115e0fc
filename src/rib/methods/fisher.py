"""Fisher merging: a mean weighted by Fisher information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.data.splits import named_generator, named_seed
from rib.methods.base import Ingredient, Method, Passes, Task
from rib.methods.ewc import diagonal_fisher
from rib.methods.merging import MergeContext, SetMerge
from rib.models.weights import Weights
from rib.recipe import Recipe


class FisherInformation(Method):
    """The diagonal Fisher information of a tuned model on images of its tuned set, as `ewc` computes it."""

    name: ClassVar[str] = "fisher_information"
    key_name: ClassVar[str] = "rib.methods.fisher:FisherInformation"
    listed: ClassVar[bool] = False
    takes_single_gradients: ClassVar[bool] = True
    tuned: str = "finetune"
    samples: int = 200

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The tuned model."""
        return (self.tuned,)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts one forward pass to draw each label, and one gradient per image."""
        samples = min(self.samples, images)
        return Passes(trained=samples, seen=samples)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The Fisher information by parameter name, in place of weights."""
        rows = named_generator("fisher samples", task.seed).permutation(len(task.tuning))[: self.samples]
        seed = named_seed("fisher labels", task.seed)
        found = diagonal_fisher(task.build(fitted[0]), task.tuning.take(rows), task.label_map, seed)
        task.watch(len(rows))
        if task.seen:
            task.seen(len(rows))
        return {name: value.cpu() for name, value in found.items()}


class Fisher(SetMerge):
    """The mean Σ (Fi + floor) θi / Σ (Fi + floor) of each entry (Matena and Raffel 2022, arXiv 2111.09832).

    Fi is the diagonal Fisher information of model i on its tuning images, with labels drawn from the model.
    """

    name: ClassVar[str] = "fisher"
    key_name: ClassVar[str] = "rib.methods.fisher:Fisher"
    samples: int = Field(200, ge=1, description="maximum number of tuning images per set for the Fisher information")
    floor: float = Field(1e-6, gt=0, description="minimum of F, with which entries without information are averaged")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The tuned model and its Fisher information."""
        return (self.tuned, FisherInformation(tuned=self.tuned, samples=self.samples))

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """The weighted mean minus θ0; for parameters that are never trained, the plain mean minus θ0."""
        found = {}
        for name, tensor in start.items():
            moved = torch.stack([model[name].float() - tensor.float() for model in models])
            known = [other[0][name].clamp(min=self.floor) if name in other[0] else torch.ones(()) for other in others]
            weights = torch.stack(known).expand_as(moved) if known[0].ndim == tensor.ndim else torch.ones_like(moved)
            found[name] = (weights * moved).sum(dim=0) / weights.sum(dim=0)
        return found
