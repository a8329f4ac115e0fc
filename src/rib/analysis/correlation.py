"""Correlation of two numbers of data sets, or of pairs of data sets, with a permutation test.

Pairs of data sets are not independent: pairs that share a set correlate, and so do models that see the same sets. So
the test permutes the sets, in the same way for all models, and compares the correlation with those of the permuted
orders (Mantel 1967; Legendre and Fortin 2010). docs/analyses.md has its error rate under the null.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Floats
from rib.data.splits import named_generator
from rib.errors import UserError
from rib.metrics.intervals import Interval

FEWEST = 5
"""Minimum number of points of a model. With four points, 1 of 24 orders is perfectly correlated by chance."""

EXACT = 7
"""Maximum number of sets for which every order is tried: seven sets have 5,040."""

SAMPLED = 4999
"""Number of random orders for more sets, in addition to the actual order."""


def mantel(first: Sequence[Floats], second: Sequence[Floats], ranked: bool = True, seed: int = 0) -> Interval | None:
    """The mean over models of a correlation over data sets, or over pairs of them, with its permutation test.

    Args:
        first: for each model float64 (S,) or (S, S), a number of each set or ordered pair of sets, such as a distance;
            the diagonal of a matrix is ignored.
        second: the same shape, such as a loss; NaN for a set or a pair that is not a point.
        ranked: Spearman's correlation of each model; else Pearson's.
        seed: seed of the random orders, if there are more than `EXACT` sets.

    Returns:
        The correlation, -1 … 1. Its `p` is two-sided: twice the share of orders whose correlation is at least as far on
            its side. Its ends are its value minus the 97.5th and the 2.5th percentile over the orders, so they exclude
            0 if p is below 0.05, up to rounding. None if no model has `FEWEST` points that differ.

    Raises:
        UserError: shapes differ, or a number of `first` is not finite although `second` has a point.
    """
    models = [_prepared(*pair, ranked) for pair in zip(first, second, strict=True)]
    known = [model for model in models if model is not None]
    if not known:
        return None
    orders = _orders(len(known[0][0]), seed)
    found: Floats = np.array([_correlations(*model, orders) for model in known]).mean(axis=0)
    value, rest = float(found[0]), np.round(found, 10)
    tails = [float((rest >= rest[0]).mean()), float((rest <= rest[0]).mean())]
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(
        value,
        max(value - float(high), -1.0),
        min(value - float(low), 1.0),
        "own draws",
        (),
        float(found.std()),
        None,
        min(1.0, 2 * min(tails)),
    )


def _prepared(first: Floats, second: Floats, ranked: bool) -> tuple[Floats, Floats, NDArray[np.bool_]] | None:
    """The numbers of a model, ranked if asked for, and the positions of its points; None if too few of them differ."""
    one, other = np.array(first, np.float64), np.array(second, np.float64)
    points = np.isfinite(other)
    if one.ndim == 2:
        np.fill_diagonal(points, False)
    if one.shape != other.shape or len(set(one.shape)) != 1 or not np.isfinite(one[points]).all():
        raise UserError(
            "a correlation needs two numbers per set, or per pair of sets",
            got=f"arrays of {first.shape} and {second.shape}",
            valid="two of one square shape, finite where the second has a point",
            remedy="mark values that are missing in either as NaN in the second",
        )
    if points.sum() < FEWEST or np.ptp(one[points]) == 0 or np.ptp(other[points]) == 0:
        return None
    if not ranked:
        return one, other, points
    off = np.isfinite(one) if one.ndim == 1 else np.isfinite(one) & ~np.eye(len(one), dtype=bool)
    return _ranks(one, off), _ranks(other, points), points


def _ranks(numbers: Floats, chosen: NDArray[np.bool_]) -> Floats:
    from scipy.stats import rankdata  # importing takes half a second

    found = np.full(numbers.shape, np.nan)
    found[chosen] = rankdata(numbers[chosen])
    return found


@cache
def _orders(count: int, seed: int) -> NDArray[np.int64]:
    """Orders of the sets (B, S); the first one is the actual order."""
    if count <= EXACT:
        return np.array(list(itertools.permutations(range(count))), np.int64)
    generator = named_generator("permuted sets", seed)
    drawn = [generator.permutation(count) for _ in range(SAMPLED)]
    return np.array([np.arange(count), *drawn], np.int64)


def _correlations(one: Floats, other: Floats, points: NDArray[np.bool_], orders: NDArray[np.int64]) -> Floats:
    """Pearson's correlation over a model's points after permuting the sets of `one`, for each order: (B,)."""
    places = np.nonzero(points)
    fixed = other[places] - other[places].mean()
    whole = len(places[0]) == points.size - (len(points) if points.ndim == 2 else 0)
    filled = np.where(np.isfinite(one), one, np.nanmean(one)) - one[places].mean()
    moved = filled[tuple(orders[:, axis] for axis in places)]
    if whole:  # permutation keeps mean and variance
        scale = np.sqrt((filled[places] ** 2).sum() * (fixed**2).sum())
    else:
        moved = moved - moved.mean(axis=1, keepdims=True)
        scale = np.sqrt((moved**2).sum(axis=1) * (fixed**2).sum())
    found: Floats = np.clip(moved @ fixed / np.where(scale > 0, scale, math.inf), -1, 1)
    return found
