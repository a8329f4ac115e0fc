"""Connectivity: whether accuracy stays high on the straight line between the weights before and after tuning."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from rib.analysis.base import Analysis, Scene, Seen
from rib.analysis.sample import sample
from rib.metrics.bootstrap import accuracy, example_weights
from rib.models.weights import interpolate, put_weights
from rib.training.predict import collect


class ConnectivityValues(TypedDict):
    """Values of `Connectivity`."""

    images: int
    alphas: list[float]
    accuracy: list[float]
    loss: list[float]
    barrier: float
    loss_barrier: float


class Connectivity(Analysis):
    """Masked accuracy and loss at θ0 + α (θ1 - θ0), α from 0 to 1, and the barriers in between (Frankle et al. 2020,
    arXiv 1912.05671).

    All parameters and the running statistics of BatchNorm are interpolated. The statistics are not estimated again, so
    a barrier of a BatchNorm net may come from them. Every cell of a set has the same weight.

    Values: `images`; `alphas`; `accuracy` in percent and `loss`, mean cross-entropy in nats, one per point; `barrier`
    in points of accuracy and `loss_barrier` in nats, as `barrier` defines them.
    """

    name: ClassVar[str] = "connectivity"
    key_name: ClassVar[str] = "rib.analysis.connectivity:Connectivity"
    same_net: ClassVar[bool] = True
    on: ClassVar[str] = "tested"
    points: int = Field(11, ge=3, description="how many, both ends included")
    images: int = Field(2000, ge=1, description="maximum number per data set, drawn at random")

    def image_passes(self, images: int) -> float:
        """One forward pass per image and point."""
        return float(self.points * min(images, self.images))

    def look(self, scene: Scene) -> ConnectivityValues:
        """Measure the line on one data set."""
        (seen,) = scene.data.values()
        seen = Seen(sample(seen.examples, self.images), seen.label_map)
        classifier = scene.build(scene.before)
        alphas = np.linspace(0, 1, self.points).round(6)
        scores = []
        for alpha in alphas.tolist():
            put_weights(classifier.net, interpolate(scene.before, scene.after, alpha))
            logits = collect(
                classifier, classifier.forward, seen.examples, scene.batch_size, scene.precision, scene.watch
            )
            scores.append(score(logits, seen))
        accuracies, losses = np.array(scores).T
        return {
            "images": len(seen.examples),
            "alphas": alphas.tolist(),
            "accuracy": accuracies.round(6).tolist(),
            "loss": losses.round(6).tolist(),
            "barrier": round(barrier(alphas, accuracies), 6),
            "loss_barrier": round(barrier(alphas, -losses), 6),
        }


def score(logits: Tensor, seen: Seen) -> tuple[float, float]:
    """Masked accuracy in percent and mean cross-entropy in nats of logits, float32 (N, outputs)."""
    labels = torch.from_numpy(seen.examples.labels)
    masked = seen.label_map.mask(logits)
    weights = example_weights(seen.examples.index.cells, len(labels))
    losses = F.cross_entropy(masked.double(), labels, reduction="none").numpy()
    return accuracy((masked.argmax(dim=1) == labels).numpy(), weights), float(losses @ weights)


def barrier(alphas: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The largest distance of values below the chord between their ends: max of (1 - α) v(0) + α v(1) - v(α).

    It is 0 if no value is below the chord. With equal ends it is the error barrier of Frankle et al. 2020. With unequal
    ends it leaves out the difference between them.

    Args:
        alphas: float64 (P,), ascending from 0 to 1.
        values: float64 (P,), higher is better.
    """
    chord = (1 - alphas) * values[0] + alphas * values[-1]
    return max(0.0, float((chord - values).max()))
