"""Resamples: the values of numbers that are linear in source images, in each bootstrap draw."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Floats

KEPT = 32 << 20
"""Maximum bytes of counts (draws x sources) to draw once and cache: about two thousand source images."""

BLOCK = 16 << 20
"""Bytes of counts in memory at a time if they are not cached."""

FEW = 1000
"""Distinct rows up to which one multinomial over them is faster."""


class Population:
    """The source images of a namespace, which each draw resamples with replacement.

    A sum over sources depends on a draw only through the number of times that it takes each *value*. So 50,000 images
    that are right or wrong, before and after, are drawn as one multinomial over a table of four cells. This has the
    same distribution at a thousandth of the cost. For few sources the counts are drawn once.

    Args:
        units: the namespace.
        sources: int64 (N,), distinct and ascending.
        draws: number of resamples.
        seed: of the draws.
    """

    def __init__(self, units: str, sources: NDArray[np.int64], draws: int, seed: int) -> None:
        self.sources, self.draws = sources, draws
        self._seeds = [seed, *np.frombuffer(units.encode().ljust(4, b"\0"), np.uint8).tolist()]
        self._parts: list[ResampledPart] = []

    def part(self, weights: Floats) -> ResampledPart:
        """A data set's weights in this population; weights that are equal up to rounding give the same object.

        Args:
            weights: float64 (N,), at most 1, and 0 for a source without an image in the set.
        """
        for part in self._parts:
            if np.abs(part.weights - weights).max() < 1e-12:
                return part
        self._parts.append(ResampledPart(self, weights))
        return self._parts[-1]

    def sums(self, columns: Floats) -> Floats:
        """Sum of columns (N, C) over the sources of each draw: float64 (draws, C). Every call uses the same draws."""
        if self.draws * len(columns) * 8 <= KEPT:
            return self._kept @ columns
        rows, counts = distinct_rows(columns)
        if len(rows) <= FEW:
            found: Floats = self._generator().multinomial(len(columns), counts / len(columns), self.draws) @ rows
            return found
        generator, step = self._generator(), max(1, BLOCK // (8 * len(columns)))
        blocks = (min(step, self.draws - first) for first in range(0, self.draws, step))
        return np.concatenate([self._counts(generator, block) @ columns for block in blocks])

    @cached_property
    def _kept(self) -> Floats:
        return self._counts(self._generator(), self.draws)

    def _counts(self, generator: np.random.Generator, draws: int) -> Floats:
        """The number of times that each of the next draws takes each source: float64 (draws, N)."""
        count = len(self.sources)
        chosen = generator.integers(count, size=(draws, count))
        chosen += np.arange(draws)[:, None] * count
        return np.bincount(chosen.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self._seeds)


class ResampledPart:
    """The weights of one data set, or of several equal ones, in a population; made by `Population.part`.

    Attributes:
        population: the sources.
        weights: float64 (N,), of each source.
        whole: whether every source has weight 1, so that all draws have the same total.
    """

    def __init__(self, population: Population, weights: Floats) -> None:
        self.population, self.weights = population, weights
        self.whole = bool(weights.min() > 1 - 1e-12)

    def influence(self, amounts: Floats) -> Floats:
        """Contribution of each source to a share: amounts (N,) over the weights; to first order, (N,)."""
        total = float(self.weights.sum())
        found: Floats = (amounts - self.weights * (float(amounts.sum()) / total)) / total
        return found


def shares(population: Population, amounts: list[tuple[ResampledPart, Floats]]) -> Floats:
    """Sum of amounts over sum of weights, in each draw: float64 (draws, len(amounts)).

    Args:
        population: the population of all parts.
        amounts: parts with float64 (N,), the amount of each source. A draw without any source of a part gets the share
            of the whole population.
    """
    parts = list(dict.fromkeys(part for part, _ in amounts if not part.whole))
    sums = population.sums(np.column_stack([*(each for _, each in amounts), *(part.weights for part in parts)]))
    held = dict(zip(parts, sums.T[len(amounts) :], strict=True))
    found = sums[:, : len(amounts)]
    for place, (part, each) in enumerate(amounts):
        if part.whole:
            found[:, place] /= len(population.sources)
        else:
            total, usual = held[part], each.sum() / part.weights.sum()
            found[:, place] = np.where(total > 0, found[:, place] / np.where(total > 0, total, 1), usual)
    return found


def distinct_rows(columns: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The distinct rows of (N, C), to 12 digits of the largest, and their counts: (K, C) and (K,)."""
    largest = np.abs(columns).max(axis=0)
    largest[largest == 0] = 1
    rounded = np.round(columns / largest, 12)
    if len(largest) == 1:
        values, counts = np.unique(rounded[:, 0], return_counts=True)
        return values[:, None] * largest, counts
    codes = np.zeros(len(columns), np.int64)
    for column in rounded.T:
        values, inverse = np.unique(column, return_inverse=True)
        codes = np.unique(codes * len(values) + inverse, return_inverse=True)[1]
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return columns[first], counts
