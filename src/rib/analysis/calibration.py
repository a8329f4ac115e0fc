"""Calibration: whether a model's confidence equals its accuracy, over the classes of the data set (masked)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Floats
from rib.errors import UserError
from rib.metrics.bootstrap import example_weights

BINS = 15
"""Number of confidence bins of equal width, as in Guo et al. 2017."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Lower bound of a probability, 1.2e-38: the smallest normal float32. So its logarithm is finite; such an image adds
87.3 nats."""

COLUMNS = ("masked_confidence", "masked_label_probability", "masked_brier", "masked_right", "cell")
"""Columns of the predictions' Parquet file from which calibration is computed."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of one model's probabilities on one data set. Lower is better.

    All are NaN if a diverged model gives no probabilities.

    Attributes:
        ece: expected calibration error, in percent (0 … 100).
        nll: negative log-likelihood of the right class, in nats (0 … 87.3).
        brier: Brier score (0 … 2).
    """

    ece: float
    nll: float
    brier: float

    @property
    def values(self) -> dict[str, float | None]:
        """The three numbers by name, for a record; None for NaN, which JSON does not have."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def calibration(
    confidence: NDArray[np.float32],
    label_probability: NDArray[np.float32],
    brier: NDArray[np.float32],
    right: NDArray[np.bool_],
    cells: NDArray[np.int16] | None = None,
) -> Calibration:
    """Calibration from the masked predictions of N examples. Every cell has the same weight, as in accuracy.

    Args:
        confidence: (N,), probability of the predicted class.
        label_probability: (N,), probability of the right class.
        brier: (N,), Σ (probability - truth)² over the classes.
        right: (N,), whether the predicted class is the right one.
        cells: (N,), as in `Index`.

    Raises:
        UserError: there are no examples, or the arrays differ in length.
    """
    lengths = {len(array) for array in (confidence, label_probability, brier, right)}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(
            "calibration needs one number of each kind for each example",
            got=f"arrays of {', '.join(map(str, sorted(lengths)))} examples",
            valid="arrays of one length, at least 1",
        )
    weights = example_weights(cells, len(right))
    return Calibration(
        ece=expected_error(confidence, right, weights),
        nll=float(log_losses(label_probability) @ weights),
        brier=float(np.asarray(brier, np.float64) @ weights),
    )


def expected_error(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], weights: Floats, bins: int = BINS
) -> float:
    """Expected calibration error in percent (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599).

    100 · Σ_b |Σ_{i in b} w_i (right_i - confidence_i)| over `bins` bins of equal width: bin b is (b / bins, (b + 1) /
    bins]. With equal weights this is the mean of |accuracy - mean confidence| over bins, weighted by their numbers of
    examples. With finite N it is positive even for a calibrated model.

    Args:
        confidence: (N,), in 0 … 1.
        right: (N,).
        weights: (N,), sums to 1.
        bins: number of bins.
    """
    sure = np.asarray(confidence, np.float64)
    if np.isnan(sure).any():
        return math.nan
    where = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(where, weights * (right - sure), bins)
    return 100 * float(np.abs(gaps).sum())


def log_losses(label_probability: NDArray[np.float32]) -> Floats:
    """-ln p of the right class in nats, elementwise, for an array of any shape. See `SMALLEST`."""
    losses: Floats = -np.log(np.maximum(np.asarray(label_probability, np.float64), SMALLEST))
    return losses


def recorded(values: Mapping[str, Any], read: Callable[[], Mapping[str, NDArray[Any]]]) -> Calibration:
    """The calibration in the record of a prediction. For records of older versions it is computed from the predictions.

    Args:
        values: values of the record.
        read: reads the columns `COLUMNS` of the predictions as arrays; called only if the record lacks the scores.
    """
    names = [field.name for field in fields(Calibration)]
    if all(name in values for name in names):
        return Calibration(**{name: math.nan if values[name] is None else float(values[name]) for name in names})
    confidence, probability, brier, right, cells = (read()[name] for name in COLUMNS)
    return calibration(confidence, probability, brier, right, cells if (cells >= 0).all() else None)
