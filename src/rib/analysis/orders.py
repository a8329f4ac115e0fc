"""Orders: whether a model's answers are right but for the order of its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.metrics.chance import binomial_tail

LEVEL = 0.001
"""How likely guessing may be to do as well as the other order does, where that order is reported."""

AT_CHANCE = 0.05
"""A model is no better than chance where guessing does as well with at least this probability."""

GAIN = 20.0
"""Points by which another order must be better for a model that is better than chance itself."""

MOST_CLASSES = 5000
"""Maximum number of classes: the assignment needs memory for the square of their number."""


@dataclass(frozen=True)
class Order:
    """Another order of the classes with which a model is right far more often.

    Attributes:
        accuracy: in percent, as the classes are ordered.
        better: in percent, in the other order, on images that it was not chosen on.
        means: for each class that the model answers with, the class that it means; int64 (classes,).
    """

    accuracy: float
    better: float
    means: NDArray[np.int64]


def better_order(labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> Order | None:
    """The order of the classes that a model seems to have, if it is not that of the data set.

    The one-to-one renaming of answers that is right most often (an assignment problem on the confusion matrix) is
    chosen on every other image of each class and tried on the rest, so that it owes nothing to the choice. It is
    reported where guessing does as well with a probability below `LEVEL` and either the model as it is does no better
    than chance or the renaming gains `GAIN` points.

    Args:
        labels: (N,), the right classes.
        answers: (N,), what the model says, among the same classes.
        classes: how many there are.
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second

    if not 1 < classes <= MOST_CLASSES or len(labels) < 4:
        return None
    rows = np.argsort(labels, kind="stable")
    chosen, tried = rows[::2], rows[1::2]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (answers[chosen], labels[chosen]), 1)
    confusion[np.diag_indices(classes)] += 0.5  # if nothing speaks for another class, a class is itself

    means = linear_sum_assignment(confusion, maximize=True)[1].astype(np.int64)
    right, renamed = answers == labels, means[answers[tried]] == labels[tried]
    gain = 100 * float(renamed.mean() - right[tried].mean())
    if _by_guessing(renamed, labels[tried], classes) >= LEVEL or gain <= 0:
        return None
    if _by_guessing(right, labels, classes) < AT_CHANCE and gain < GAIN:
        return None
    return Order(100 * float(right.mean()), 100 * float(renamed.mean()), means)


def _by_guessing(right: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> float:
    """How likely the best constant answer, or guessing, is right as often."""
    chance = max(float(np.bincount(labels).max()) / len(labels), 1 / classes)
    return binomial_tail(int(right.sum()), len(labels), chance)
