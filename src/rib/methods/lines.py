"""LiNeS: interpolation with a strength that grows with depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from rib.methods.base import Ingredient, Method
from rib.methods.merging import MergeContext, Merging
from rib.models.blocks import units
from rib.models.classifier import Classifier
from rib.models.weights import Weights


class LiNeS(Merging):
    """θ0 + λ (θ1 - θ0), with λ growing from α in the first block to 1 in the last (Wang et al. 2024, arXiv 2410.17146).

    λ = α + (1 - α) l / (L - 1) in block l of 0 to L - 1. Tensors outside the blocks have λ = α, as in the source's code
    for one model. The head, which the source does not tune, has λ = 1.
    """

    name: ClassVar[str] = "lines"
    key_name: ClassVar[str] = "rib.methods.lines:LiNeS"
    alpha: float = Field(0.5, ge=0, le=1, description="λ of the first block")
    tuned: str = Field("finetune", description="the method whose weights are θ1")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The fine-tuned model."""
        return (self.tuned,)

    def combine(self, start: Weights, fitted: Sequence[Weights], place: MergeContext) -> Weights:
        """θ0 + λ (θ1 - θ0); counters are those of θ1."""
        strength = strengths(place.classifier, start, self.alpha)
        return {
            name: torch.lerp(start[name], tensor, strength[name]) if tensor.is_floating_point() else tensor
            for name, tensor in fitted[0].items()
        }


def strengths(classifier: Classifier, weights: Weights, alpha: float) -> dict[str, float]:
    """λ of every tensor."""
    places, head = units(classifier), tuple(f"{name}." for name in classifier.head_names)
    found = {}
    for name in weights:
        depth = next((at for at, unit in enumerate(places) if f"{name}.".startswith(f"{unit}.")), None)
        share = 0.0 if depth is None else depth / max(1, len(places) - 1)
        found[name] = 1.0 if name.startswith(head) else alpha + (1 - alpha) * share
    return found
