"""WiSE-FT: interpolation between pretrained and fine-tuned weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from rib.methods.base import Ingredient, Method
from rib.methods.merging import MergedMethod
from rib.models.weights import Weights, interpolate


class WiseFT(MergedMethod):
    """θ0 + α (θ1 - θ0) over all parameters and statistics, including the head (Wortsman et al. 2022,
    arXiv 2109.01903).
    """

    name: ClassVar[str] = "wise_ft"
    key_name: ClassVar[str] = "rib.methods.wise_ft:WiseFT"
    alpha: float = Field(0.5, ge=0, le=1)
    tuned: str = Field("finetune", description="the method whose weights are θ1")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The fine-tuned model."""
        return (self.tuned,)

    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """θ0 + α (θ1 - θ0)."""
        return interpolate(start, fitted[0], self.alpha)
