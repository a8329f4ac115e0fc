"""Side-tuning: a second net beside the frozen one."""

from __future__ import annotations

from typing import ClassVar

from rib.methods.base import Task, TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.weights import EXTENSION, Weights


class SideTuning(TrainedMethod):
    """Trains a side network S and α of features α B(x) + (1 - α) S(x), and the head (Zhang et al. 2020,
    arXiv 1912.13503, eq. 1).

    The base B is frozen. S starts as a copy of it, and α at ½, so training starts from the pretrained function; a step
    costs a backward pass of S and two forward passes.
    """

    name: ClassVar[str] = "side_tuning"
    key_name: ClassVar[str] = "rib.methods.side_tuning:SideTuning"

    def extend(self, architecture: Architecture) -> Architecture:
        """The model with the other beside it."""
        return architecture.extended("rib.models.extensions:side")

    def initial(self, start: Weights, task: Task) -> Weights:
        """The side network is a copy of the base."""
        begun, column = task.initial(start), f"{EXTENSION}.column."
        copied = {name: start[name.removeprefix(column)] for name in begun if name.startswith(column)}
        return {**begun, **copied}

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """The side network, α, and the head."""
        return classifier.extension_parameters | classifier.head_parameters
