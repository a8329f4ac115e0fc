"""TIES: trim, elect signs, merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.merging import MergeContext, SetMerge, task_vectors
from rib.models.weights import Weights


class TIES(SetMerge):
    """Keeps the largest entries of each task vector, and averages those that agree with the elected sign.

    Yadav et al. 2023, arXiv 2306.01708. Trimming ranks all entries of a model together. The elected sign of a position
    is that of the sum of the trimmed entries; if the sum is 0, it is the most common sign over all positions. The
    defaults are the source's for the case without data to choose them on.
    """

    name: ClassVar[str] = "ties"
    key_name: ClassVar[str] = "rib.methods.ties:TIES"
    density: float = Field(0.2, gt=0, le=1, description="share of the entries of each model that are kept")
    scale: float = Field(1.0, gt=0, description="λ, factor of the merged task vector")

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """scale · the merged task vector."""
        vectors = torch.stack([_flat(vector) for vector in task_vectors(start, models)])
        merged = self.scale * ties(vectors, self.density)
        parts = merged.split([tensor.numel() for tensor in start.values()])
        return {name: part.view(start[name].shape) for name, part in zip(start, parts, strict=True)}


def _flat(vector: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in vector.values()])


def ties(vectors: Tensor, density: float) -> Tensor:
    """The merged task vector (D,) of several (N, D)."""
    kept = max(1, int(density * vectors.shape[1]))
    trimmed = torch.stack([_trimmed(vector, kept) for vector in vectors])
    total = trimmed.sum(dim=0)
    sign = total.sign()
    sign[sign == 0] = sign.sum().sign()
    agrees = (trimmed * sign) > 0
    return (trimmed * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def _trimmed(vector: Tensor, kept: int) -> Tensor:
    """A vector (D,) with all but its largest entries set to 0."""
    least = vector.abs().kthvalue(len(vector) - kept + 1).values
    return torch.where(vector.abs() >= least, vector, 0.0)
