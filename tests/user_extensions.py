"""A method of a user's that adds something to a net."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from rib.methods import TrainedMethod
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.extensions import Site


def shift(site: Site, by: float) -> None:
    """The head sees features plus a vector."""
    added = nn.ParameterList([nn.Parameter(torch.full((site.width,), by))])
    site.before_head(lambda inputs, features: features + added[0])
    site.add(added)


class Shifted(TrainedMethod):
    """Trains the vector."""

    name: ClassVar[str] = "shifted"

    def extend(self, architecture: Architecture) -> Architecture:
        return architecture.extended("user_extensions:shift", by=0.1)

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        return classifier.extension_parameters
