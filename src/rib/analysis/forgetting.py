"""Forgetting: which part of a loss of accuracy comes from the head, which from the features, and what a new head
recovers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from rib.analysis.base import Analysis, Scene, Seen, typed
from rib.analysis.sample import sample
from rib.arrays import Flags
from rib.data.examples import Index
from rib.data.splits import carve
from rib.errors import StepError
from rib.metrics.bootstrap import Bootstrap, example_weights
from rib.metrics.estimates import Estimate
from rib.models.classifier import Classifier
from rib.training.predict import collect

ForgettingPart = Literal["together", "by_head", "by_features", "probe"]
"""A difference of accuracies, as `Forgetting` defines it."""


class ForgettingValues(TypedDict):
    """Values of `Forgetting`: lists with one element per set; a difference is [value, low, high]."""

    sets: list[str]
    images: list[int]
    classes: list[int]
    before: list[float]
    new_head: list[float]
    new_features: list[float]
    after: list[float]
    probe_before: list[float]
    probe_after: list[float]
    by_head: list[list[float]]
    by_features: list[list[float]]
    together: list[list[float]]
    probe: list[list[float]]
    reading: list[str]


class Forgetting(Analysis):
    """Combines features and heads from before and after tuning, and fits a new linear head on each features.

    A(f, h) is the masked accuracy of head h on features f, each from before (0) or after (1):

        by the head      A(f0, h1) - A(f0, h0)        by the features   A(f1, h0) - A(f0, h0)
        together         A(f1, h1) - A(f0, h0)        the probe         P(f1) - P(f0)

    Head and features adapt to each other, so the parts need not sum to the whole. P is the accuracy of logistic
    regression (Alain and Bengio 2017, arXiv 1610.01644) with two folds: each half of the examples is scored by the
    regression fitted on the other half, and no source image is in both. Features are standardised on the half for
    fitting; every class has the same weight in the fit. All differences are in points, with the 95 % interval of a
    paired bootstrap over source images. The interval covers the scored examples only: the regressions are not fitted
    again.

    A set's reading is "kept" if the whole change is not below 0. Otherwise it is "mis-read" if the probe keeps more
    than half of the loss, "lost" if it keeps less, and "unclear" if the intervals do not decide.

    Values, lists with one element per set: `sets`, `images`, `classes`; accuracies in percent `before` A(f0, h0),
    `new_head` A(f0, h1), `new_features` A(f1, h0), `after` A(f1, h1), `probe_before`, `probe_after`; differences
    [value, low, high] `by_head`, `by_features`, `together`, `probe`; `reading`.
    """

    name: ClassVar[str] = "forgetting"
    key_name: ClassVar[str] = "rib.analysis.forgetting:Forgetting"
    on: ClassVar[str] = "tested"
    together: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True
    images: int = Field(5000, ge=8, description="maximum number per data set, drawn at random")
    c: float = Field(0.1, gt=0, description="inverse of the strength of the regression's L2 penalty, as in sklearn")

    def image_passes(self, images: int) -> float:
        """Two forward passes per image. The regressions cost little compared with a large model."""
        return 2.0 * min(images, self.images)

    def look(self, scene: Scene) -> ForgettingValues:
        """Measure all values, one row per data set."""
        before, after = scene.build(scene.before), scene.build(scene.after)
        rows = []
        for name, whole in scene.data.items():
            seen = Seen(sample(whole.examples, self.images), whole.label_map)
            folds = halves(seen.examples.index, name)
            features = [
                collect(model, model.features, seen.examples, scene.batch_size, scene.precision, scene.watch)
                for model in (before, after)
            ]
            crossed = [right(_logits(part, model), seen) for part in features for model in (before, after)]
            probes = [probe(part.numpy(), seen.examples.labels, folds, self.c) for part in features]
            rows.append({"sets": name} | _row(seen, np.stack([*crossed, *probes])))
        return typed({column: [row[column] for row in rows] for column in rows[0]}, ForgettingValues)


def right(logits: Tensor, seen: Seen) -> Flags:
    """bool (N,): whether the masked logits, float32 (N, outputs), are highest for the right class."""
    flags: Flags = seen.label_map.mask(logits).argmax(dim=1).numpy() == seen.examples.labels
    return flags


def halves(index: Index, data: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two halves, stratified by class, without common source images.

    Raises:
        StepError: there are fewer than two source images per class on average, or fewer than two classes.
    """
    classes, sources = len(np.unique(index.labels)), len(np.unique(index.sources))
    if classes < 2 or sources < 2 * classes:
        raise StepError(
            f"a probe on {data!r} needs two classes, and two source images of each: there are {sources} of {classes} "
            "classes; raise `images`, or leave the data set out"
        )
    return carve(index, 0.5, 0, "probe")


def probe(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: tuple[NDArray[np.int64], NDArray[np.int64]],
    c: float = 0.1,
) -> Flags:
    """Which examples a linear head gets right that was fitted on the other fold.

    Args:
        features: (N, D).
        labels: (N,).
        folds: rows of the two folds, N in total.
        c: inverse strength of the L2 penalty.

    Returns:
        bool (N,).

    Raises:
        StepError: a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise StepError("the features hold values that are not finite; predict in fp32")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    flags = np.zeros(len(labels), bool)
    for judged, fitted in (folds, folds[::-1]):
        regression = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
        head = make_pipeline(StandardScaler(), regression).fit(features[fitted].astype(np.float64), labels[fitted])
        flags[judged] = head.predict(features[judged].astype(np.float64)) == labels[judged]
    return flags


def reading(together: Estimate, probe: Estimate) -> str:
    """Interpret a change of accuracy and the change of its probe, by their 95 % intervals.

    Args:
        together: the whole change of accuracy, points.
        probe: change of the probe's accuracy, with paired draws, points.

    Returns:
        "kept", "mis-read", "lost" or "unclear".
    """
    if together.interval().high >= 0:
        return "kept"
    regained = (probe - together / 2).interval()
    if not regained.excludes_zero:
        return "unclear"
    return "mis-read" if regained.low > 0 else "lost"


@torch.inference_mode()
def _logits(features: Tensor, model: Classifier) -> Tensor:
    logits: Tensor = model.head(features.to(model.device)).cpu()
    return logits


def _row(seen: Seen, flags: Flags) -> dict[str, Any]:
    """One data set's values from bool (6, N): A(f0, h0), A(f0, h1), A(f1, h0), A(f1, h1), P(f0), P(f1)."""
    index = seen.examples.index
    bootstrap = Bootstrap()
    bootstrap.declare("forgetting", index.sources)
    weights = example_weights(index.cells, len(index))
    found = bootstrap.accuracies("forgetting", index.sources, weights, flags)
    before, new_head, new_features, after, probe_before, probe_after = found
    together, probed = after - before, probe_after - probe_before
    names = ("before", "new_head", "new_features", "after", "probe_before", "probe_after")
    return {
        "images": len(index),
        "classes": len(np.unique(index.labels)),
        **{name: round(estimate.value, 4) for name, estimate in zip(names, found, strict=True)},
        "by_head": _triple(new_head - before),
        "by_features": _triple(new_features - before),
        "together": _triple(together),
        "probe": _triple(probed),
        "reading": reading(together, probed),
    }


def _triple(estimate: Estimate) -> list[float]:
    interval = estimate.interval()
    return [round(value, 4) for value in (interval.value, interval.low, interval.high)]
