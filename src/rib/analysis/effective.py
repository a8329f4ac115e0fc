"""Effective robustness: accuracy out of distribution beyond the value that reference accuracy predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rib.arrays import Floats
from rib.data.splits import named_generator
from rib.errors import UserError
from rib.metrics.estimates import Estimate

FEWEST = 3
"""Minimum number of models of distinct reference accuracy for a line, because any two points lie on one."""

SENSIBLE = 10
"""Minimum number of models for a meaningful line. Miller et al. 2021 use about two hundred."""

EDGE = 0.1
"""Accuracies are clipped to 0.1 … 99.9 %, because the probits of 0 and 100 % are infinite."""


@dataclass(frozen=True)
class Line:
    """A straight line between two accuracies, each on the probit scale Φ⁻¹(accuracy / 100).

    Attributes:
        slope: change of one probit per unit of the other.
        intercept: probit at a reference accuracy of 50 %.
        residual_sd: standard deviation of the points about the line, in probits, with N - 2 degrees of freedom.
        r2: share of the points' variance that the line explains, 0 … 1.
        points: N.
    """

    slope: float
    intercept: float
    residual_sd: float
    r2: float
    points: int

    def expected(self, reference: Floats | float) -> Floats:
        """The accuracy on the line, in percent, for reference accuracies in percent, of any shape."""
        return percent_below(self.intercept + self.slope * probit(reference))

    def deviation(self, reference: Floats | float, accuracy: Floats | float) -> Floats:
        """Effective robustness: the distance of an accuracy above the line, in points (Taori et al. 2020, ρ)."""
        found: Floats = np.asarray(accuracy, np.float64) - self.expected(reference)
        return found


def probit(accuracy: Floats | Sequence[float] | float) -> Floats:
    """Φ⁻¹ of an accuracy in percent, of any shape; finite because of `EDGE`."""
    from scipy.special import ndtri  # importing takes a tenth of a second

    found: Floats = ndtri(np.clip(np.asarray(accuracy, np.float64), EDGE, 100 - EDGE) / 100)
    return found


def percent_below(probits: Floats) -> Floats:
    """100 Φ: the accuracy in percent for a probit, of any shape."""
    from scipy.special import ndtr

    found: Floats = 100 * ndtr(probits)
    return found


def fit_line(reference: Floats, accuracy: Floats) -> Line:
    """The least-squares line through models on the probit scale (Miller et al. 2021, arXiv 2107.04649).

    Args:
        reference: (M,), each model's accuracy on the reference set, in percent.
        accuracy: (M,), its accuracy on another set, in percent.

    Raises:
        UserError: there are fewer than `FEWEST` models of distinct reference accuracy, or an accuracy is no percentage.
    """
    x, y = _checked(reference, accuracy)
    slope, intercept = (float(each[0]) for each in _fits(x[None], y[None]))
    residuals = y - intercept - slope * x
    spread = float(((y - y.mean()) ** 2).sum())
    return Line(
        slope=slope,
        intercept=intercept,
        residual_sd=float(np.sqrt((residuals**2).sum() / (len(x) - 2))),
        r2=1 - float((residuals**2).sum()) / spread if spread > 0 else 1.0,
        points=len(x),
    )


def deviations(
    reference: Floats,
    accuracy: Floats,
    of_reference: Floats,
    of_accuracy: Floats,
    draws: int = 2000,
    seed: int = 0,
) -> list[Estimate]:
    """Effective robustness of K models, relative to a line through M models, in points (Taori et al. 2020, arXiv
    2007.00644).

    Each bootstrap draw takes M of the line's models with replacement, with at least two distinct reference accuracies,
    and fits a line. Draws are paired, so the difference of two estimates is the change of effective robustness with its
    interval. The interval covers the uncertainty of the line, but not the sampling of images behind the K accuracies. A
    model that is also among the M pulls the line towards itself.

    Args:
        reference: (M,), accuracy on the reference set of the models that make the line, in percent.
        accuracy: (M,), on the other set.
        of_reference: (K,), accuracy on the reference set of the models to judge.
        of_accuracy: (K,), on the other set.
        draws: number of bootstrap resamples.
        seed: seed of the draws.

    Returns:
        K estimates. The standard deviation of an estimate's draws is its standard error.

    Raises:
        UserError: as `fit_line`.
    """
    x, y = _checked(reference, accuracy)
    at, reached = (np.asarray(each, np.float64) for each in (of_reference, of_accuracy))
    rows = _resamples(x, draws, seed)
    slope, intercept = _fits(x[rows], y[rows])
    drawn = reached - percent_below(intercept[:, None] + slope[:, None] * probit(at))
    values = fit_line(reference, accuracy).deviation(at, reached)
    return [Estimate(float(value), drawn[:, model]) for model, value in enumerate(values)]


def _resamples(x: Floats, draws: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Rows of each draw (draws, M), with at least two distinct values of x per draw."""
    generator = named_generator("effective robustness", seed)
    rows = generator.integers(len(x), size=(draws, len(x)))
    while (flat := np.ptp(x[rows], axis=1) == 0).any():
        rows[flat] = generator.integers(len(x), size=(int(flat.sum()), len(x)))
    return rows


def _fits(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept of the least-squares line for each row of two arrays (B, M)."""
    middle, level = x.mean(axis=1), y.mean(axis=1)
    apart = x - middle[:, None]
    slope = (apart * (y - level[:, None])).sum(axis=1) / (apart**2).sum(axis=1)
    return slope, level - slope * middle


def _checked(reference: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """Probits of both accuracies, after validation."""
    both = [np.asarray(each, np.float64) for each in (reference, accuracy)]
    if both[0].shape != both[1].shape or not all(((each >= 0) & (each <= 100)).all() for each in both):
        raise UserError(
            "a line needs two accuracies per model",
            got=f"{both[0].size} reference accuracies and {both[1].size} others",
            valid="two arrays of one length, each value 0 to 100 percent",
        )
    x, y = probit(both[0]), probit(both[1])
    if len(distinct := np.unique(x)) < FEWEST:
        raise UserError(
            "effective robustness needs a line, and there are too few models for one",
            got=f"{len(distinct)} of distinct reference accuracy",
            valid=f"{FEWEST} or more; {SENSIBLE} or more make the line meaningful",
            remedy="add models to the suite, or use the line through published ImageNet models",
        )
    return x, y
