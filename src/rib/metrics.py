"""Metrics: arrays in, numbers out. Accuracies in percent, RI in percentage points (arXiv 2410.21582, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval.

    Attributes:
        value: the estimate itself, not the mean of the draws.
        low: 2.5th percentile of the draws.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the value is distinguishable from zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """A number and what it was in each bootstrap draw; sums and means of estimates pair their draws.

    Attributes:
        value: the number.
        draws: float64 (B,).
    """

    value: float
    draws: Floats

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(self.value - other.value, self.draws - other.draws)

    def interval(self) -> Interval:
        """The 95 % percentile interval."""
        low, high = np.percentile(self.draws, [2.5, 97.5])
        return Interval(self.value, float(low), float(high))


def mean(estimates: Iterable[Estimate]) -> Estimate:
    """The mean, draw by draw. Raises ValueError for none: no mean runs over a hole."""
    listed = list(estimates)
    if not listed:
        raise ValueError("the mean of no estimates")
    return Estimate(
        float(np.mean([estimate.value for estimate in listed])),
        np.mean([estimate.draws for estimate in listed], axis=0),
    )


def mean_over_seeds(estimates: Sequence[Estimate], seed: int = 0) -> Estimate:
    """The mean over seeds; with several, every draw also draws the seeds anew, with replacement.

    Args:
        estimates: one a seed, with paired draws.
        seed: of the draw of seeds.
    """
    if len(estimates) == 1:
        return estimates[0]
    draws = np.stack([estimate.draws for estimate in estimates])
    count = len(estimates)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws.shape[1])
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])), np.einsum("bs,sb->b", weights, draws) / count
    )


def robustness_improvement(
    before: Mapping[str, Estimate], after: Mapping[str, Estimate], others: Iterable[str]
) -> Estimate:
    """RI: the mean change of accuracy on the other downstream sets, in percentage points.

    Args:
        before: accuracy of the pretrained model by data set, in percent.
        after: accuracy of the tuned model.
        others: the downstream sets that it was not tuned on.

    Raises:
        KeyError: an accuracy is missing.
    """
    return mean(after[name] - before[name] for name in others)


def example_weights(cells: NDArray[np.int16] | None, count: int) -> Floats:
    """What each of `count` examples weighs in an accuracy: float64 (count,), sums to 1.

    Every cell (corruption x severity) weighs the same, however many examples it has; without cells every example
    does.
    """
    if cells is None:
        return np.full(count, 1 / count)
    names, where, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    weights: Floats = 1 / (len(names) * sizes[where])
    return weights


def accuracy(right: NDArray[np.bool_], weights: Floats) -> float:
    """Percent of weight that is right."""
    scaled = weights / weights.max()  # whole numbers where all weigh the same, so that sums are exact
    return 100 * float(right @ scaled) / float(scaled.sum())


class Bootstrap:
    """Resamples source images, the same ones for every model: intervals of differences are paired.

    Data sets whose sources share a namespace are resampled together, so that one scan or photograph that appears in
    several sets is in or out of all of them at once.

    Args:
        draws: number of resamples.
        seed: of the draws.
    """

    def __init__(self, draws: int = 2000, seed: int = 0) -> None:
        self.draws, self.seed = draws, seed
        self._counts: dict[str, NDArray[np.float32]] = {}
        self._sizes: dict[str, int] = {}
        self._positions: dict[str, dict[int, int]] = {}

    def declare(self, units: str, sources: NDArray[np.int64]) -> None:
        """Say which sources a data set has, before the first draw of its namespace."""
        assert units not in self._counts, "all data sets of a namespace are declared before it is drawn"
        position = self._positions.setdefault(units, {})
        for source in np.unique(sources).tolist():
            position.setdefault(source, len(position))

    def accuracies(
        self, units: str, sources: NDArray[np.int64], weights: Floats, right: NDArray[np.bool_]
    ) -> list[Estimate]:
        """Accuracy in percent of several models on one data set.

        Args:
            units: namespace of the sources.
            sources: int64 (N,), source image of each example.
            weights: float64 (N,), as from `example_weights`.
            right: bool (models, N).
        """
        scaled = weights / weights.max()  # whole numbers where all weigh the same: exact in float32
        totals = self._totals(units, sources, np.column_stack([right.T * scaled[:, None], scaled]))
        values = np.array([accuracy(flags, weights) for flags in right])
        drawn = totals[:, -1:] > 0  # a draw of a shared namespace may hold no source of a small set
        shares = np.where(drawn, 100 * totals[:, :-1] / np.where(drawn, totals[:, -1:], 1), values)
        return [Estimate(float(value), shares[:, model]) for model, value in enumerate(values)]

    def means(self, units: str, sources: NDArray[np.int64], weights: Floats, values: Floats) -> list[Estimate]:
        """Weighted mean of a number of several models on one data set, such as a loss of every example.

        Args:
            units, sources, weights: as in `accuracies`, and paired with it: the same draws.
            values: float64 (models, N).
        """
        scaled = weights / weights.sum()
        (total,) = self._totals(units, sources, scaled[:, None]).T
        drawn = total > 0
        found = []
        for row in values:  # one at a time: equal models then differ by exactly nothing
            value = float(row @ scaled)
            (sums,) = self._totals(units, sources, (row * scaled)[:, None]).T
            found.append(Estimate(value, np.where(drawn, sums / np.where(drawn, total, 1), value)))
        return found

    def _totals(self, units: str, sources: NDArray[np.int64], columns: Floats) -> Floats:
        """Sum of every column (N, columns) over each draw's examples: float64 (draws, columns)."""
        position = self._positions[units]
        rows = np.array([position[source] for source in sources.tolist()])
        per_source = np.zeros((len(position), columns.shape[1]), np.float32)
        np.add.at(per_source, rows, columns.astype(np.float32))
        return (self._draw(units) @ per_source).astype(np.float64)

    def _draw(self, units: str) -> NDArray[np.float32]:
        """How often each draw takes each source: float32 (draws, sources)."""
        if units not in self._counts:
            count = len(self._positions[units])
            names = np.frombuffer(units.encode().ljust(4, b"\0"), np.uint8).tolist()
            generator = np.random.default_rng([self.seed, *names])
            chosen = generator.integers(count, size=(self.draws, count))
            chosen += np.arange(self.draws)[:, None] * count
            counts = np.bincount(chosen.ravel(), minlength=self.draws * count)
            self._counts[units] = counts.reshape(self.draws, count).astype(np.float32)
        return self._counts[units]


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats in both coordinates, higher being better."""
    return [
        index
        for index, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
    ]
