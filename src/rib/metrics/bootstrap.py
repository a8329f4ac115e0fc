"""Bootstrap: accuracies and means over resampled source images, as estimates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Floats
from rib.metrics.estimates import Estimate
from rib.metrics.resample import Population


def example_weights(cells: NDArray[np.int16] | None, count: int) -> Floats:
    """Weight of each of `count` examples in an accuracy: float64 (count,), sums to 1.

    Every cell (corruption x severity) has the same weight, whatever its number of examples. Without cells every example
    has the same weight.
    """
    if cells is None:
        return np.full(count, 1 / count)
    names, where, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    weights: Floats = 1 / (len(names) * sizes[where])
    return weights


def accuracy(right: NDArray[np.bool_], weights: Floats) -> float:
    """Percent of weight that is right."""
    scaled = weights / weights.max()  # whole numbers if all weights are equal, so that sums are exact
    return 100 * float(right @ scaled) / float(scaled.sum())


class Bootstrap:
    """Resamples source images, the same ones for every model, so intervals of differences are paired.

    Data sets whose sources share a namespace are resampled together: a scan or photograph in several sets is drawn
        equally
    often in all of them.

    Args:
        draws: number of resamples.
        seed: of the draws.
    """

    def __init__(self, draws: int = 2000, seed: int = 0) -> None:
        self.draws, self.seed = draws, seed
        self._declared: dict[str, list[NDArray[np.int64]]] = {}
        self._populations: dict[str, Population] = {}

    def declare(self, units: str, sources: NDArray[np.int64]) -> None:
        """Declare the sources of a data set, before the first estimate of its namespace."""
        assert units not in self._populations, "all data sets of a namespace are declared before it is drawn"
        declared = self._declared.setdefault(units, [])
        if not any(np.array_equal(sources, other) for other in declared):
            declared.append(sources)

    def accuracies(
        self, units: str, sources: NDArray[np.int64], weights: Floats, right: Iterable[NDArray[np.bool_]]
    ) -> list[Estimate]:
        """Accuracy in percent of several models on one data set.

        Args:
            units: namespace of the sources.
            sources: int64 (N,), source image of each example.
            weights: float64 (N,), as from `example_weights`.
            right: bool (N,) of each model; only one is in memory at a time.
        """
        seen = _Seen(self._population(units), sources, weights)
        return [seen.share(100, accuracy(flags, weights), flags) for flags in right]

    def means(
        self, units: str, sources: NDArray[np.int64], weights: Floats, values: Iterable[Floats]
    ) -> list[Estimate]:
        """Weighted mean over the examples of one data set, such as of a loss, for several models.

        Args:
            units, sources, weights: as in `accuracies`, and paired with it.
            values: float64 (N,) of each model.
        """
        seen, scaled = _Seen(self._population(units), sources, weights), weights / weights.sum()
        return [seen.share(1, float(row @ scaled), row) for row in values]

    def _population(self, units: str) -> Population:
        if units not in self._populations:
            sources = np.sort(np.concatenate(self._declared[units]))
            distinct = sources[np.append(True, np.diff(sources) > 0)]
            self._populations[units] = Population(units, distinct, self.draws, self.seed)
        return self._populations[units]


class _Seen:
    """A data set as a part of its population."""

    def __init__(self, population: Population, sources: NDArray[np.int64], weights: Floats) -> None:
        self._count = len(population.sources)
        self._scaled = weights / weights.max()  # whole numbers if all weights are equal
        plain = np.array_equal(sources, population.sources) and bool((self._scaled == 1).all())
        self._rows = None if plain else np.searchsorted(population.sources, sources)
        totals = self._sums(np.ones(len(sources)))
        self._largest = float(totals.max())
        self._part = population.part(totals / self._largest)

    def share(self, unit: float, value: float, each: NDArray[Any]) -> Estimate:
        """The estimate of a mean over examples (N,), in the given unit, with this value."""
        return Estimate.of_sources(value, self._part, unit / self._largest, _small(self._sums(each)))

    def _sums(self, each: NDArray[Any]) -> NDArray[Any]:
        """Weighted sums over the examples of each source: (sources,)."""
        return each if self._rows is None else np.bincount(self._rows, self._scaled * each, self._count)


def _small(sums: NDArray[Any]) -> NDArray[Any]:
    """Store whole numbers below 65,536 in one or two bytes each."""
    if sums.dtype == bool:
        return sums.view(np.uint8)
    if sums.min() < 0 or sums.max() >= 1 << 16:
        return sums
    whole = sums.astype(np.uint8 if sums.max() < 1 << 8 else np.uint16)
    return whole if np.array_equal(whole, sums) else sums
