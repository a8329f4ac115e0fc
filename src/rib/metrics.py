"""Metrics: arrays in, numbers out. Accuracies in percent, RI in percentage points (arXiv 2410.21582, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.resample import Part, Population, seed_counts, shares

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
class _Term:
    """What the amounts of an estimate belong to.

    Attributes:
        part: amounts are of its sources, shares of their weight; None for amounts that are draws themselves.
        seeds: the seeds whose counts weigh it: seed of the draw, number of seeds, place among them.
    """

    part: Part | None
    seeds: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class _Amounts:
    """Numbers that stay whole, small and exact as long as their scales agree: right answers of each source image."""

    scale: float
    whole: NDArray[Any]

    @property
    def values(self) -> Floats:
        return self.scale * self.whole

    def times(self, factor: float) -> _Amounts:
        return _Amounts(factor * self.scale, self.whole)

    @staticmethod
    def sum(several: Sequence[_Amounts]) -> _Amounts:
        if len(several) == 1:
            return several[0]
        scale = abs(several[0].scale)
        if any(abs(each.scale) != scale for each in several):
            return _Amounts(1, np.sum([each.values for each in several], axis=0))
        whole = np.zeros(len(several[0].whole), np.result_type(np.int32, *(each.whole for each in several)))
        for each in several:
            (np.add if each.scale > 0 else np.subtract)(whole, each.whole, out=whole)
        return _Amounts(scale, whole)


class Estimate:
    """A number that is linear in source images, and what it is when they are drawn anew.

    Sums, differences, multiples and means are taken source by source, and drawn only when an interval is asked for:
    what two estimates share is paired. Subtract estimates, not their draws: those of large data sets are drawn for
    each estimate by itself.

    Args:
        value: the number.
        draws: float64 (B,), what it was in draws of its own; None for a number of source images.
    """

    def __init__(self, value: float, draws: Floats | None = None) -> None:
        self.value = value
        self._terms: dict[_Term, _Amounts] = {} if draws is None else {_Term(None): _Amounts(1, draws)}

    @classmethod
    def of_sources(cls, value: float, part: Part, scale: float, whole: NDArray[Any]) -> Estimate:
        """An estimate that is a share: sum of `scale * whole`, (sources,), over the sum of the part's weights."""
        found = cls(value)
        found._terms[_Term(part)] = _Amounts(scale, whole)
        return found

    @classmethod
    def _sum(cls, value: float, terms: Iterable[tuple[_Term, _Amounts]]) -> Estimate:
        found, grouped = cls(value), dict[_Term, list[_Amounts]]()
        for term, amounts in terms:
            grouped.setdefault(term, []).append(amounts)
        found._terms = {term: _Amounts.sum(several) for term, several in grouped.items()}
        return found

    def _times(self, factor: float, *seeds: tuple[int, int, int]) -> Iterator[tuple[_Term, _Amounts]]:
        """Its terms, multiplied, and weighed by how often a draw takes a seed."""
        return (
            (_Term(term.part, (*term.seeds, *seeds)), amounts.times(factor)) for term, amounts in self._terms.items()
        )

    def __sub__(self, other: Estimate) -> Estimate:
        return self._sum(self.value - other.value, chain(self._times(1), other._times(-1)))

    def __truediv__(self, number: float) -> Estimate:
        return self._sum(self.value / number, self._times(1 / number))

    @property
    def draws(self) -> Floats:
        """float64 (B,), what the number is in each bootstrap draw, to ten digits after the point."""
        whole: Floats = np.zeros(())
        for term, amounts in self._terms.items():
            if term.part is None:
                whole = whole + _weighted(amounts.values, term)
        for population, terms in self._by_population().items():
            found = shares(population, [(part, self._terms[term].values) for part, term in terms])
            for (_, term), drawn in zip(terms, found.T, strict=True):
                whole = whole + _weighted(drawn, term)
        return np.round(whole, 10)  # so that what cancels is exactly nothing

    def _by_population(self) -> dict[Population, list[tuple[Part, _Term]]]:
        grouped: dict[Population, list[tuple[Part, _Term]]] = {}
        for term in self._terms:
            if term.part is not None:
                grouped.setdefault(term.part.population, []).append((term.part, term))
        return grouped

    def interval(self) -> Interval:
        """The 95 % percentile interval."""
        low, high = np.percentile(self.draws, [2.5, 97.5])
        return Interval(self.value, float(low), float(high))


def _weighted(draws: Floats, term: _Term) -> Floats:
    """Draws times how often each takes the term's seeds."""
    for seed, count, place in term.seeds:
        draws = draws * seed_counts(count, len(draws), seed)[:, place]
    return draws


def mean(estimates: Iterable[Estimate]) -> Estimate:
    """The mean. Raises ValueError for none: no mean runs over a hole."""
    listed = list(estimates)
    if not listed:
        raise ValueError("the mean of no estimates")
    terms = chain.from_iterable(each._times(1 / len(listed)) for each in listed)
    return Estimate._sum(float(np.mean([each.value for each in listed])), terms)


def mean_over_seeds(estimates: Sequence[Estimate], seed: int = 0) -> Estimate:
    """The mean over seeds; with several, every draw also draws the seeds anew, with replacement.

    Args:
        estimates: one a seed.
        seed: of the draw of seeds.
    """
    if len(estimates) == 1:
        return estimates[0]
    count = len(estimates)
    terms = chain.from_iterable(each._times(1 / count, (seed, count, place)) for place, each in enumerate(estimates))
    return Estimate._sum(float(np.mean([each.value for each in estimates])), terms)


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
        self._declared: dict[str, list[NDArray[np.int64]]] = {}
        self._populations: dict[str, Population] = {}

    def declare(self, units: str, sources: NDArray[np.int64]) -> None:
        """Say which sources a data set has, before the first estimate of its namespace."""
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
            right: bool (N,) of each model; no more than one of them is held at once.
        """
        seen = _Seen(self._population(units), sources, weights)
        return [seen.share(100, accuracy(flags, weights), flags) for flags in right]

    def means(
        self, units: str, sources: NDArray[np.int64], weights: Floats, values: Iterable[Floats]
    ) -> list[Estimate]:
        """Weighted mean of a number of several models on one data set, such as a loss of every example.

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
        self._scaled = weights / weights.max()  # whole numbers where all weigh the same
        plain = np.array_equal(sources, population.sources) and bool((self._scaled == 1).all())
        self._rows = None if plain else np.searchsorted(population.sources, sources)
        totals = self._sums(np.ones(len(sources)))
        self._largest = float(totals.max())
        self._part = population.part(totals / self._largest)

    def share(self, unit: float, value: float, each: NDArray[Any]) -> Estimate:
        """The mean of a number of each example (N,), in units, whose value is known."""
        return Estimate.of_sources(value, self._part, unit / self._largest, _small(self._sums(each)))

    def _sums(self, each: NDArray[Any]) -> NDArray[Any]:
        """Of each source's examples, weighted: (sources,)."""
        return each if self._rows is None else np.bincount(self._rows, self._scaled * each, self._count)


def _small(sums: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers below 65,536 in two bytes each or fewer."""
    if sums.dtype == bool:
        return sums.view(np.uint8)
    if sums.min() < 0 or sums.max() >= 1 << 16:
        return sums
    whole = sums.astype(np.uint8 if sums.max() < 1 << 8 else np.uint16)
    return whole if np.array_equal(whole, sums) else sums


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats in both coordinates, higher being better."""
    return [
        index
        for index, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
    ]
