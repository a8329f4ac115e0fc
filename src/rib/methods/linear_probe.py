"""Linear probing."""

from __future__ import annotations

from typing import ClassVar

from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier


class LinearProbe(TrainedMethod):
    """Trains only the head, on frozen features; norm layers keep their parameters and statistics.

    Starts from the pretrained head. It is stricter than the paper's "HeadOnly", whose code also trains class token,
    position embedding and norms.
    """

    name: ClassVar[str] = "linear_probe"
    key_name: ClassVar[str] = "rib.methods.linear_probe:LinearProbe"
    reads_features: ClassVar[bool] = True
    keeps_backbone: ClassVar[bool] = True

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """The head's weight and bias."""
        return classifier.head_parameters
