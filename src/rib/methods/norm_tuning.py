"""Norm tuning: the scales and shifts of the norm layers, and the head."""

from __future__ import annotations

from typing import ClassVar

from rib.errors import UserError
from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier


class NormTuning(TrainedMethod):
    """Trains only norm layers and the head (Frankle et al. 2021, arXiv 2003.00152, for BatchNorm; Zhao et al. 2024,
    arXiv 2312.11420, for LayerNorm).

    BatchNorm's statistics are updated as in `finetune`, unless the recipe's `batchnorm` says otherwise.
    """

    name: ClassVar[str] = "norm_tuning"
    key_name: ClassVar[str] = "rib.methods.norm_tuning:NormTuning"
    takes: ClassVar[str] = "norm layers"

    def require(self, classifier: Classifier) -> None:
        """Refuse a model whose norm layers have no parameters.

        Raises:
            UserError: they have none.
        """
        if not classifier.norm_parameters:
            raise UserError("norm_tuning trains norm layers, and this model has none", remedy="leave it out")

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Parameters of the norm layers and the head."""
        return classifier.norm_parameters | classifier.head_parameters
