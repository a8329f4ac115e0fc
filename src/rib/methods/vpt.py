"""VPT: visual prompt tuning."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier


class VPT(TrainedMethod):
    """Trains prompt tokens for every block of a vision transformer, and the head (Jia et al. 2022, arXiv 2203.12119,
    VPT-Deep).

    The tokens follow the class token. Their outputs in a block are dropped, and the next block has its own tokens.
    """

    name: ClassVar[str] = "vpt"
    key_name: ClassVar[str] = "rib.methods.vpt:VPT"
    takes: ClassVar[str] = "timm's VisionTransformer"
    count: int = Field(10, ge=1, description="number of tokens per block")

    def extend(self, architecture: Architecture) -> Architecture:
        """The model with prompt tokens."""
        return architecture.extended("rib.models.extensions:vpt", count=self.count)

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """The prompt tokens, and the parameters of the head."""
        return classifier.extension_parameters | classifier.head_parameters
