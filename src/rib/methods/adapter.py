"""Adapter: a bottleneck after each block."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier


class Adapter(TrainedMethod):
    """Trains y + U relu(D y) after each block, and the head (Houlsby et al. 2019, arXiv 1902.00751; one per block, as
    in Pfeiffer et al. 2021, arXiv 2005.00247).

    U starts at zero, so training starts from the pretrained function. In a convolutional net, all positions of a map
    share one bottleneck, as with 1 × 1 convolutions (Rebuffi et al. 2017, arXiv 1705.08045).
    """

    name: ClassVar[str] = "adapter"
    key_name: ClassVar[str] = "rib.methods.adapter:Adapter"
    takes: ClassVar[str] = "a net of blocks"
    width: int = Field(8, ge=1, description="width of the bottleneck")

    def extend(self, architecture: Architecture) -> Architecture:
        """The model with its bottlenecks."""
        return architecture.extended("rib.models.extensions:adapter", width=self.width)

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Parameters of the bottlenecks and the head."""
        return classifier.extension_parameters | classifier.head_parameters
