"""Model Stock: a few fine-tuned models, whose angle determines how far to move from the pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.base import Ingredient, Method
from rib.methods.merging import MergedMethod, trained
from rib.methods.soup import mean_weights
from rib.models.weights import Weights


class ModelStock(MergedMethod):
    """t · mean + (1 - t) θ0 in each tensor, with t = N cos φ / (1 + (N - 1) cos φ) (Jang et al. 2024, arXiv
    2403.19522).

    φ is the angle between the changes of two of the N models in that tensor, cos φ is averaged over pairs, and t is
    limited to [0, 1]. The models differ in the order of their data and other random draws in training. They are merged
    once, at the end; the source also merges after each epoch.
    """

    name: ClassVar[str] = "model_stock"
    key_name: ClassVar[str] = "rib.methods.model_stock:ModelStock"
    runs: int = Field(2, ge=2, description="N, number of trainings of `tuned`")
    tuned: str = Field("finetune", description="the method whose models are merged")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """N trainings on the same images."""
        return tuple(Ingredient(self.tuned, replica) for replica in range(self.runs))

    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """The merged weights; statistics and counters are those of a uniform soup."""
        found = mean_weights(fitted)
        for name in trained(start):
            found[name] = torch.lerp(start[name], found[name], ratio([model[name] - start[name] for model in fitted]))
        return found


def ratio(changes: Sequence[Tensor]) -> float:
    """t of one tensor; 0 if a model did not change it."""
    flat = [change.flatten().double() for change in changes]
    norms = [float(change.norm()) for change in flat]
    if min(norms) == 0:
        return 0.0
    pairs = list(combinations(range(len(flat)), 2))
    cosine = sum(float(flat[one] @ flat[two]) / (norms[one] * norms[two]) for one, two in pairs) / len(pairs)
    return min(1.0, max(0.0, len(flat) * cosine / (1 + (len(flat) - 1) * cosine))) if cosine > 0 else 0.0
