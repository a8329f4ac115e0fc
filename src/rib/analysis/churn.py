"""Churn: images that tuning changed from right to wrong, and from wrong to right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Flags, Floats
from rib.errors import UserError
from rib.metrics.bootstrap import Bootstrap
from rib.metrics.estimates import Estimate

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Churn:
    """Changes on one data set, in percent of its images (of their weight if there are cells).

    An unchanged accuracy may hide large changes. `gained - lost` is the change of accuracy in points, in every draw.
    `lost` is the negative flip rate of Yan et al. 2021 (arXiv 2011.09161).

    Attributes:
        lost: right before, wrong after.
        gained: wrong before, right after.
    """

    lost: Estimate
    gained: Estimate

    @property
    def change(self) -> Estimate:
        """Change of accuracy, in points."""
        return self.gained - self.lost


@dataclass(frozen=True)
class ClassChurn:
    """Changes on one data set, as numbers of images for each of its K classes.

    Attributes:
        images: int64 (K,), test images.
        lost: int64 (K,), right before, wrong after.
        gained: int64 (K,), wrong before, right after.
    """

    images: Counts
    lost: Counts
    gained: Counts


def churn(
    before: Flags, after: Flags, bootstrap: Bootstrap, units: str, sources: NDArray[np.int64], weights: Floats
) -> Churn:
    """Churn over one data set of N examples.

    Args:
        before: bool (N,), which images the pretrained model gets right.
        after: bool (N,), which images the tuned model gets right.
        bootstrap: the bootstrap in which the sources are declared; its draws are those of accuracies.
        units: namespace of the sources.
        sources: int64 (N,), source image of each example.
        weights: float64 (N,), as from `example_weights`.

    Raises:
        UserError: the arrays differ in length.
    """
    _require_same_length(before, after, sources, weights)
    lost, gained = bootstrap.accuracies(units, sources, weights, np.stack([before & ~after, ~before & after]))
    return Churn(lost, gained)


def churn_by_class(before: Flags, after: Flags, labels: NDArray[np.int64], classes: int) -> ClassChurn:
    """Churn by class.

    Args:
        before, after: bool (N,), as in `churn`.
        labels: int64 (N,), in 0 … classes - 1.
        classes: K.

    Raises:
        UserError: the arrays differ in length, or a label is out of range.
    """
    _require_same_length(before, after, labels)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError("a label is not among the classes", got=int(labels.max()), valid=f"0 … {classes - 1}")

    def count(chosen: Flags) -> Counts:
        return np.bincount(labels[chosen], minlength=classes)

    return ClassChurn(
        images=np.bincount(labels, minlength=classes), lost=count(before & ~after), gained=count(~before & after)
    )


def _require_same_length(*arrays: NDArray[np.generic]) -> None:
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) != 1:
        raise UserError(
            "churn compares two models on the same examples",
            got=f"arrays of {', '.join(map(str, lengths))} examples",
            valid="arrays of one length",
        )
