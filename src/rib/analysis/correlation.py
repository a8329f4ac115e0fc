"""Correlation: whether distances between data sets foretell what tuning on one costs on another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rib.data.splits import named_generator
from rib.errors import UserError
from rib.metrics import Estimate, Floats, Interval

FEWEST = 5
"""Pairs below which no correlation is given: of four points, one of 24 orders is as good as a perfect one by chance."""


@dataclass(frozen=True)
class Correlation:
    """How two numbers go together over pairs of data sets, with 95 % intervals.

    Attributes:
        pairs: number of pairs.
        spearman: rank correlation, -1 … 1; None where it is undefined: fewer than `FEWEST` pairs, or one of the two
            numbers is the same for all.
        pearson: linear correlation, likewise.
    """

    pairs: int
    spearman: Interval | None
    pearson: Interval | None


def correlation(distances: Floats, losses: Floats, draws: int = 2000, seed: int = 0) -> Correlation:
    """Correlation of distance and loss over (tuned on, tested on) pairs.

    The interval is a percentile bootstrap over pairs: each draw takes as many pairs, with replacement, ranks them
    anew for Spearman, and is left out where either number is then the same for all. Pairs that share a data set are
    taken for independent, which they are not, so the interval is narrower than it should be.

    Args:
        distances: (P,), from the set tuned on to the set tested on.
        losses: (P,), accuracy lost there, in points.
        draws: bootstrap resamples.
        seed: of the draws.

    Raises:
        UserError: the two differ in length, or hold a number that is not finite.
    """
    first, second = np.asarray(distances, np.float64), np.asarray(losses, np.float64)
    if first.shape != second.shape or first.ndim != 1 or not np.isfinite([first, second]).all():
        raise UserError(
            "a correlation needs one distance and one loss for each pair",
            got=f"{first.shape} distances and {second.shape} losses",
            valid="two lists of one length, of finite numbers",
            remedy="leave out pairs of which either is missing",
        )
    if len(first) < FEWEST:
        return Correlation(len(first), None, None)
    from scipy.stats import rankdata  # takes half a second

    rows = named_generator("correlation", seed).integers(len(first), size=(draws, len(first)))
    rows = np.vstack([np.arange(len(first)), rows])  # the pairs themselves come first
    x, y = first[rows], second[rows]
    ranks = rankdata(x, axis=1), rankdata(y, axis=1)
    return Correlation(len(first), _interval(_pearson(*ranks)), _interval(_pearson(x, y)))


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlation of each row of two arrays (B, P); NaN where a row is constant."""
    constant = (np.ptp(x, axis=1) == 0) | (np.ptp(y, axis=1) == 0)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    found: Floats = np.where(constant, np.nan, (x * y).sum(axis=1) / np.where(constant, 1.0, scale))
    return np.clip(found, -1, 1)


def _interval(found: Floats) -> Interval | None:
    draws = found[1:][np.isfinite(found[1:])]
    return Estimate(float(found[0]), draws).interval() if np.isfinite(found[0]) and len(draws) else None
