"""Statistics: the shares of weights and of BatchNorm's running statistics in a change of accuracy."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from typing_extensions import TypedDict

from rib.analysis.base import Analysis, Scene, Seen, Values
from rib.analysis.connectivity import score
from rib.analysis.sample import sample
from rib.models.weights import put_weights
from rib.training.predict import collect
from rib.training.statistics import statistics_names

CORNERS = ("before", "weights", "statistics", "after")
"""The combinations, named after the parts taken from the tuned model: nothing, its weights, its statistics, both."""


class StatisticsValues(TypedDict):
    """The values of `StatisticsShare`."""

    images: int
    accuracy: dict[str, float]
    change: float
    of_weights: float
    of_statistics: float


class StatisticsShare(Analysis):
    """Masked accuracy of four combinations: weights before or after tuning with running statistics before or after.

    The change of accuracy is the sum of two shares: that of the weights and that of the statistics. Each share is the
    mean of the change that its part causes with the other part before, and with the other part after (the Shapley value
    of two parts). In a net without BatchNorm the share of the weights is the whole change.

    Values: `images`; `accuracy`, in percent for each of `CORNERS`; `change`, `of_weights` and `of_statistics`, in
    points.
    """

    name: ClassVar[str] = "statistics"
    key_name: ClassVar[str] = "rib.analysis.statistics:StatisticsShare"
    same_net: ClassVar[bool] = True
    on: ClassVar[str] = "tested"
    images: int = Field(2000, ge=1, description="maximum number per data set, drawn at random")

    def image_passes(self, images: int) -> float:
        """One forward pass per image and combination."""
        return float(len(CORNERS) * min(images, self.images))

    def look(self, scene: Scene) -> Values:
        """Measure the four accuracies on one data set."""
        (seen,) = scene.data.values()
        seen = Seen(sample(seen.examples, self.images), seen.label_map)
        classifier = scene.build(scene.before)
        names = statistics_names(classifier.net)
        old = {name: scene.before[name] for name in names}
        new = {name: scene.after[name] for name in names}
        corners = (scene.before, {**scene.after, **old}, {**scene.before, **new}, scene.after)
        accuracy = {}
        for corner, weights in zip(CORNERS, corners, strict=True):
            put_weights(classifier.net, weights)
            logits = collect(
                classifier, classifier.forward, seen.examples, scene.batch_size, scene.precision, scene.watch
            )
            accuracy[corner], _ = score(logits, seen)
        of_weights, of_statistics = shares(*(accuracy[corner] for corner in CORNERS))
        return {
            "images": len(seen.examples),
            "accuracy": {corner: round(value, 6) for corner, value in accuracy.items()},
            "change": round(accuracy["after"] - accuracy["before"], 6),
            "of_weights": round(of_weights, 6),
            "of_statistics": round(of_statistics, 6),
        }


def shares(before: float, weights: float, statistics: float, after: float) -> tuple[float, float]:
    """The shares of the weights and of the statistics in `after - before`, in points; their sum is the whole change.

    Args:
        before: accuracy with neither part from the tuned model, percent.
        weights: accuracy with only its weights, percent.
        statistics: accuracy with only its statistics, percent.
        after: accuracy with both, percent.
    """
    return ((weights - before) + (after - statistics)) / 2, ((statistics - before) + (after - weights)) / 2
