"""DARE: drop most of each task vector at random and rescale the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.data.splits import named_seed
from rib.methods.merging import MergeContext, SetMerge, task_vectors
from rib.methods.task_arithmetic import summed
from rib.models.weights import Weights


class DARE(SetMerge):
    """Task arithmetic with task vectors whose entries are set to 0 with probability `drop`, else divided by 1 - `drop`.

    Yu et al. 2024, arXiv 2311.03099. The run's seed determines the draws, which are independent between models.
    """

    name: ClassVar[str] = "dare"
    key_name: ClassVar[str] = "rib.methods.dare:DARE"
    seeded: ClassVar[bool] = True
    drop: float = Field(0.9, ge=0, lt=1, description="probability that an entry is dropped")
    scale: float = Field(0.4, gt=0, description="λ, as in task_arithmetic")

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """scale · Σ of the sparse task vectors."""
        generator = torch.Generator().manual_seed(named_seed("dare", place.seed or 0))
        thinned = [
            {name: thin(tensor, self.drop, generator) for name, tensor in vector.items()}
            for vector in task_vectors(start, models)
        ]
        return {name: self.scale * total for name, total in summed(thinned).items()}


def thin(tensor: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    """Entries set to 0 with probability `drop`, and the others divided by 1 - drop, which keeps the mean."""
    kept = torch.rand(tensor.shape, generator=generator) >= drop
    return tensor * kept / (1 - drop)
