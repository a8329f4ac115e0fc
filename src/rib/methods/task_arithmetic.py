"""Task arithmetic: the sum of task vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from rib.methods.merging import MergeContext, SetMerge, task_vectors
from rib.models.weights import Weights


class TaskArithmetic(SetMerge):
    """θ0 + scale · Σ (θi - θ0) (Ilharco et al. 2023, arXiv 2212.04089); scale = "mean" is the mean of the models.

    Its authors advise a scale of 0.4 if there are no data to choose it on (quoted in arXiv 2306.01708).
    """

    name: ClassVar[str] = "task_arithmetic"
    key_name: ClassVar[str] = "rib.methods.task_arithmetic:TaskArithmetic"
    scale: float | Literal["mean"] = Field(0.4, description="λ, or 'mean' for one over the number of models")

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """scale · Σ (θi - θ0)."""
        scale = 1 / len(models) if self.scale == "mean" else self.scale
        return {name: scale * sum_ for name, sum_ in summed(task_vectors(start, models)).items()}


def summed(vectors: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The sums of tensors with the same name."""
    found = dict(vectors[0])
    for vector in vectors[1:]:
        found = {name: tensor + vector[name] for name, tensor in found.items()}
    return found
