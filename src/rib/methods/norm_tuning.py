"""Norm tuning: the scales and shifts of the norm layers, and the head."""

from __future__ import annotations

from typing import ClassVar

from rib.errors import UserError
from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier


class NormTuning(TrainedMethod):
    """Only norm layers and the head train (Frankle et al. 2021, arXiv 2003.00152, of BatchNorm; Zhao et al. 2024,
    arXiv 2312.11420, of LayerNorm).

    BatchNorm's statistics are updated as in `finetune`; the recipe's `batchnorm` says otherwise.
    """

    name: ClassVar[str] = "norm_tuning"
    key_name: ClassVar[str] = "rib.methods.norm_tuning:NormTuning"
    takes: ClassVar[str] = "norm layers"

    def require(self, classifier: Classifier) -> None:
        """Refuse a model whose norm layers have no parameters."""
        if not classifier.norm_parameters:
            raise UserError("norm_tuning trains norm layers, and this model has none", remedy="leave it out")

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Norm layers, and the head."""
        return classifier.norm_parameters | classifier.head_parameters
