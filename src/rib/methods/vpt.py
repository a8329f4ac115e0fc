"""VPT: visual prompt tuning."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier


class VPT(TrainedMethod):
    """Trains tokens that every block of a vision transformer sees, and the head (Jia et al. 2022, arXiv 2203.12119,
    VPT-Deep).

    The tokens stand after the class token; what a block makes of them is dropped, and the next block has its own.
    """

    name: ClassVar[str] = "vpt"
    key_name: ClassVar[str] = "rib.methods.vpt:VPT"
    takes: ClassVar[str] = "timm's VisionTransformer"
    count: int = Field(10, ge=1, description="tokens at each block")

    def extend(self, architecture: Architecture) -> Architecture:
        """The model with its tokens."""
        return architecture.extended("rib.models.extensions:vpt", count=self.count)

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Tokens, and the head."""
        return classifier.extension_parameters | classifier.head_parameters
