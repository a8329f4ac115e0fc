"""TSV-M: task singular vectors, made orthogonal across tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.merging import MergeContext, SetMerge, task_vectors
from rib.models.weights import Weights


class TSV(SetMerge):
    """Of each change of a matrix 1/N of its singular vectors, those of all N models made orthogonal to each other.

    Gargiulo et al. 2025, arXiv 2412.00081. A convolution is taken as the matrix (outputs, inputs · places); the source
    has ViTs, whose only one it averages. All that is no matrix is averaged.
    """

    name: ClassVar[str] = "tsv"
    key_name: ClassVar[str] = "rib.methods.tsv:TSV"
    kept: ClassVar[bool] = True
    scale: float = Field(1.0, gt=0, description="α, factor of the merged change")

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """scale · the merged changes."""
        vectors, found = task_vectors(start, models), {}
        for name, tensor in start.items():
            changes = [vector[name] for vector in vectors]
            if tensor.ndim in (2, 4):
                merged = merged_matrix([change.flatten(1) for change in changes]).view(tensor.shape)
            else:
                merged = torch.stack(changes).mean(dim=0)
            found[name] = self.scale * merged
        return found


def merged_matrix(changes: Sequence[Tensor]) -> Tensor:
    """U Σ V' (m, n) of the first singular vectors of every change (m, n), U and V made orthogonal."""
    lefts, values, rights = [], [], []
    for change in changes:
        left, value, right = torch.linalg.svd(change.double(), full_matrices=False)
        kept = max(1, len(value) // len(changes))
        lefts.append(left[:, :kept])
        values.append(value[:kept])
        rights.append(right[:kept])
    left, right = _orthogonal(torch.cat(lefts, dim=1)), _orthogonal(torch.cat(rights, dim=0))
    return (left * torch.cat(values) @ right).float()


def _orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns (rows, if it is wide)."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right
