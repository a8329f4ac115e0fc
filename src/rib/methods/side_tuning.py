"""Side-tuning: a second net beside the frozen one."""

from __future__ import annotations

from typing import ClassVar

from rib.methods.base import Task, TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.weights import EXTENSION, Weights


class SideTuning(TrainedMethod):
    """Trains a side network S, the α of the features α B(x) + (1 - α) S(x), and the head (Zhang et al. 2020,
    arXiv 1912.13503, eq. 1).

    The base B is frozen. S starts as a copy of it and α at ½, so training starts from the pretrained function. A step
    costs a backward pass of S and two forward passes.
    """

    name: ClassVar[str] = "side_tuning"
    key_name: ClassVar[str] = "rib.methods.side_tuning:SideTuning"

    def extend(self, architecture: Architecture) -> Architecture:
        """The model with a side network."""
        return architecture.extended("rib.models.extensions:side")

    def initial(self, start: Weights, task: Task) -> Weights:
        """The pretrained weights, with a copy of them for the side network."""
        begun, column = task.initial(start), f"{EXTENSION}.column."
        copied = {name: start[name.removeprefix(column)] for name in begun if name.startswith(column)}
        return {**begun, **copied}

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Parameters of the side network and the head, and α."""
        return classifier.extension_parameters | classifier.head_parameters
