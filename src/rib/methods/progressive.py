"""Progressive networks: a new column beside the frozen net, with connections from its blocks."""

from __future__ import annotations

from typing import ClassVar

from rib.methods.base import TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier


class Progressive(TrainedMethod):
    """Trains a new column that also sees the blocks of the frozen one (Rusu et al. 2016, arXiv 1606.04671, eq. 2).

    The new column is a net of the same kind with random weights. After each block but the last it adds U relu(V a h),
    where h is the output of that block in the pretrained column and a is learned from 0.1 on. Deviations: U starts at
    zero. The paper's new column has a new head. Here the pretrained head sees f + P f', where f' are the new column's
    features and P starts at zero, so training starts from the pretrained function and no class is learned from scratch.
    """

    name: ClassVar[str] = "progressive"
    key_name: ClassVar[str] = "rib.methods.progressive:Progressive"
    takes: ClassVar[str] = "a net of blocks"

    def extend(self, architecture: Architecture) -> Architecture:
        """The model with a new column."""
        return architecture.extended("rib.models.extensions:progressive")

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Parameters of the new column, its connections, and the head."""
        return classifier.extension_parameters | classifier.head_parameters
