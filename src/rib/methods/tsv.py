"""TSV-M: task singular vectors, orthogonalised across tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.merging import MergeContext, SetMerge, task_vectors
from rib.models.weights import Weights


class TSV(SetMerge):
    """Keeps 1/N of the singular vectors of each matrix's change, and orthogonalises those of all N models.

    Gargiulo et al. 2025, arXiv 2412.00081. A convolution is treated as the matrix (outputs, inputs · positions); the
    source has ViTs, and averages their only convolution. Tensors that are no matrices are averaged.
    """

    name: ClassVar[str] = "tsv"
    key_name: ClassVar[str] = "rib.methods.tsv:TSV"
    kept: ClassVar[bool] = True
    scale: float = Field(1.0, gt=0, description="α, factor of the merged change")

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """The merged changes of all matrices, and the mean change of all other tensors, times `scale`."""
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
    """U Σ V' (m, n) from the first singular vectors of every change (m, n), with U and V orthogonalised."""
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
