"""Orders: whether a model's answers are right except for a permutation of its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.metrics.chance import binomial_tail

LEVEL = 0.001
"""A permutation is reported only if guessing reaches its accuracy with a probability below this."""

AT_CHANCE = 0.05
"""A model counts as no better than chance if guessing reaches its accuracy with at least this probability."""

GAIN = 20.0
"""Points by which a permutation must improve a model that is better than chance."""

MOST_CLASSES = 5000
"""Maximum number of classes. Memory grows with its square, for the assignment."""


@dataclass(frozen=True)
class Order:
    """A permutation of the classes that makes a model far more accurate.

    Attributes:
        accuracy: accuracy with the order of the data set, in percent.
        better: accuracy with the permutation, in percent, on images that were not used to choose it.
        means: int64 (classes,), the class that each answered class stands for.
    """

    accuracy: float
    better: float
    means: NDArray[np.int64]


def better_order(labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> Order | None:
    """The permutation of classes that a model seems to use, if it is not that of the data set.

    RIB chooses the permutation of answers with the highest accuracy (an assignment problem on the confusion matrix) on
    every other image of each class, and scores it on the rest, so the score is unbiased. It is reported if guessing
    reaches that score with a probability below `LEVEL`, and if the model itself is no better than chance or the
    permutation gains `GAIN` points.

    Args:
        labels: (N,), the right classes.
        answers: (N,), the model's answers, among the same classes.
        classes: number of classes.
    """
    if not 1 < classes <= MOST_CLASSES or len(labels) < 4:
        return None
    rows = np.argsort(labels, kind="stable")
    chosen, tried = rows[::2], rows[1::2]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (answers[chosen], labels[chosen]), 1)
    confusion[np.diag_indices(classes)] += 0.5  # a class without evidence for another one stays itself
    if _is_diagonal(confusion):
        return None
    from scipy.optimize import linear_sum_assignment  # importing takes half a second

    means = linear_sum_assignment(confusion, maximize=True)[1].astype(np.int64)
    right, renamed = answers == labels, means[answers[tried]] == labels[tried]
    gain = 100 * float(renamed.mean() - right[tried].mean())
    if _by_guessing(renamed, labels[tried], classes) >= LEVEL or gain <= 0:
        return None
    if _by_guessing(right, labels, classes) < AT_CHANCE and gain < GAIN:
        return None
    return Order(100 * float(right.mean()), 100 * float(renamed.mean()), means)


def _is_diagonal(confusion: NDArray[np.float64]) -> bool:
    """Whether the largest number of each column is on the diagonal, so that no permutation is as good as none."""
    others = confusion.copy()
    np.fill_diagonal(others, -1)
    return bool((np.diag(confusion) > others.max(axis=0)).all())


def _by_guessing(right: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> float:
    """The probability that guessing, or the best constant answer, is right at least as often."""
    chance = max(float(np.bincount(labels).max()) / len(labels), 1 / classes)
    return binomial_tail(int(right.sum()), len(labels), chance)
