"""Estimates: numbers with the contribution of each source image and each seed. Percent and percentage points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Floats
from rib.metrics.intervals import Interval, Kind, Variance, drawn_interval, pooled, t_interval
from rib.metrics.resample import Population, ResampledPart, shares


@dataclass(frozen=True)
class Seeds:
    """Seeds of one kind that an estimate is a mean over.

    Attributes:
        what: "tuning" or "pretraining".
        names: names of the seeds; equal names of one kind are the same draw in every estimate.
        of: the owner, if several owners draw their seeds independently; empty if all share the seeds.
    """

    what: str
    names: tuple[int | str, ...]
    of: str = ""


Cell = tuple[tuple[Seeds, int], ...]
"""The seeds of a run: for each kind, the position of the seed. Empty for a number that does not depend on seeds."""

Place = tuple[str, Cell]
"""The tuned set of a run, and its seeds. The name is empty for no set, or for several."""


@dataclass(frozen=True)
class _Term:
    """Key of the amounts of an estimate.

    Attributes:
        part: the sources of the amounts, which are shares of their weight; None for amounts that are draws themselves.
        cell: the seeds of the amounts.
    """

    part: ResampledPart | None
    cell: Cell = ()


@dataclass(frozen=True)
class _Amounts:
    """Amounts as small whole numbers with a scale, such as right answers per source image; exact while scales agree."""

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
    """A number that is linear in source images and in seeds, with the contribution of each.

    Sums, differences, multiples and means are computed per source image and per seed, so estimates stay paired by both.
    An interval is computed only on request. Subtract estimates, not their draws: the draws of large data sets are
    independent for each estimate.

    Args:
        value: the number.
        draws: float64 (B,), its values in its own draws; None for an estimate over source images.
    """

    def __init__(self, value: float, draws: Floats | None = None) -> None:
        self.value = value
        self._terms: dict[_Term, _Amounts] = {} if draws is None else {_Term(None): _Amounts(1, draws)}
        self._cells: dict[Place, float] = {("", ()): value}
        self._weights: dict[Seeds, float] = {}

    @classmethod
    def of_sources(cls, value: float, part: ResampledPart, scale: float, whole: NDArray[Any]) -> Estimate:
        """An estimate that is a share: sum of `scale * whole`, (sources,), over the sum of the part's weights."""
        found = cls(value)
        found._terms[_Term(part)] = _Amounts(scale, whole)
        return found

    @classmethod
    def _sum(cls, value: float, parts: Sequence[tuple[float, Estimate, Cell]], tuned_on: str = "") -> Estimate:
        """A weighted sum of estimates. Each may add seeds to its own; `tuned_on` names their tuned set."""
        found, grouped = cls(value), dict[_Term, list[_Amounts]]()
        found._cells = {}
        for factor, each, cell in parts:
            for term, amounts in each._terms.items():
                grouped.setdefault(_Term(term.part, (*term.cell, *cell)), []).append(amounts.times(factor))
            for (name, own), contribution in each._cells.items():
                place = (name or tuned_on, (*own, *cell))
                found._cells[place] = found._cells.get(place, 0.0) + factor * contribution
            for seeds, weight in chain(each._weights.items(), ((seeds, 1.0) for seeds, _ in cell)):
                found._weights[seeds] = found._weights.get(seeds, 0.0) + factor * weight
        found._terms = {term: _Amounts.sum(several) for term, several in grouped.items()}
        return found

    def __sub__(self, other: Estimate) -> Estimate:
        if not self._is_bare or not other._is_bare or self._terms.keys() != other._terms.keys():
            return self._sum(self.value - other.value, [(1, self, ()), (-1, other, ())])
        found = Estimate(self.value - other.value)  # the same sum in a quarter of the time, for most differences
        found._terms = {
            term: _Amounts.sum((amounts, other._terms[term].times(-1))) for term, amounts in self._terms.items()
        }
        return found

    @property
    def _is_bare(self) -> bool:
        """Whether it depends on no seeds and on no other estimate, as the accuracy of one prediction."""
        return not self._weights and len(self._cells) == 1 and self._cells.get(("", ())) == self.value

    def __truediv__(self, number: float) -> Estimate:
        return self._sum(self.value / number, [(1 / number, self, ())])

    @property
    def draws(self) -> Floats:
        """float64 (B,), the number under resampled images and fixed seeds, to ten digits."""
        grouped: dict[ResampledPart | None, list[_Amounts]] = {}
        for term, amounts in self._terms.items():
            grouped.setdefault(term.part, []).append(amounts)
        by_population: dict[Population, list[tuple[ResampledPart, Floats]]] = {}
        whole: Floats = np.zeros(())
        for part, several in grouped.items():
            if part is None:
                whole = whole + _Amounts.sum(several).values
            else:
                by_population.setdefault(part.population, []).append((part, _Amounts.sum(several).values))
        for population, drawn in by_population.items():
            whole = whole + shares(population, drawn).sum(axis=1)
        return np.round(whole, 10)  # rounding makes what cancels exactly 0

    def interval(self) -> Interval:
        """The 95 % interval over source images and seeds.

        If no kind of seeds was drawn more than once, it covers images alone: percentiles of a paired bootstrap.
        Otherwise it is a t interval. docs/analyses.md, "Intervals", gives the reasons.
        """
        lacks, drawn = self._lacks(), any(len(seeds.names) > 1 for seeds in self._seeds())
        with_images = bool(self._terms)
        if drawn:
            kind: Kind = "images and seeds" if with_images else "seeds"
            return t_interval(self.value, *self._variances(), kind, lacks)
        if not with_images:
            return Interval(self.value, self.value, self.value, "nothing", lacks)
        kind = "images only" if lacks else "images"
        if all(term.part is None for term in self._terms):
            kind = "own draws"
        return drawn_interval(self.value, self.draws, kind, lacks)

    def _seeds(self) -> list[Seeds]:
        """Every kind of seeds that it depends on; an exact 0 depends on none."""
        cells = [cell for (_, cell), amount in self._cells.items() if abs(amount) > TINY]
        cells += [term.cell for term, amounts in self._terms.items() if amounts.whole.any()]
        return list(dict.fromkeys(seeds for cell in cells for seeds, _ in cell))

    def _lacks(self) -> tuple[str, ...]:
        """The kinds of seeds that are random but were drawn only once.

        A single pretrained model can be the subject itself, but a difference of two pretrained models also contains
        the difference of their seeds.
        """
        lacking = []
        for seeds in self._seeds():
            alike = [weight for other, weight in self._weights.items() if other.what == seeds.what and other.of]
            apart = bool(alike) and min(alike) < -TINY and max(alike) > TINY
            if len(seeds.names) == 1 and (apart and abs(self._weights[seeds]) > TINY if seeds.of else True):
                lacking.append(f"{seeds.what} seeds")
        return tuple(dict.fromkeys(lacking))

    def _variances(self) -> tuple[Variance, Variance, Variance]:
        """Its variance over images with fixed seeds, the part of it that all seeds share, and the variance over seeds.

        The interaction of images and seeds is part of both variances. As in a table of images x seeds, it is subtracted
        from the variance over images.
        """
        held, squared, least = 0.0, 0.0, 0.0
        for influences, size in self._influences():
            correction = size / (size - 1) if 1 < size < math.inf else 1.0
            variance = correction * float(np.square(sum(influences.values())).sum())
            held, squared = held + variance, squared + variance**2 / max(size - 1, 1)
            least += correction * sum(float(found.sum()) for found, _ in seed_variances(influences).values())
        df, least = held**2 / squared if squared else math.inf, max(least, 0.0)
        by_set: dict[str, dict[Cell, Floats]] = {}
        for (name, cell), amount in self._cells.items():
            by_set.setdefault(name, {})[cell] = np.array([amount])
        parts = [Variance(float(np.sum(part.amount)), part.df) for part in variances_by_set(by_set)]
        return Variance(held, df), Variance(max(held - least, 0.0), df), pooled(parts, least)

    def _influences(self) -> Iterator[tuple[dict[Cell, Floats], float]]:
        """For each independent group of images: the contribution of each image by cell, and the number of images."""
        lots: dict[Population | None, list[tuple[_Term, _Amounts]]] = {}
        for term, amounts in self._terms.items():
            lots.setdefault(term.part.population if term.part else None, []).append((term, amounts))
        for population, terms in lots.items():
            found: dict[Cell, Floats] = {}
            for term, amounts in terms:
                influence = term.part.influence(amounts.values) if term.part else _centred(amounts.values)
                found[term.cell] = found[term.cell] + influence if term.cell in found else influence
            yield found, len(population.sources) if population else math.inf


TINY = 1e-9
"""Weights below this are rounding errors of 0."""


def _centred(draws: Floats) -> Floats:
    """Draws, centred and scaled so that their squares add up to the variance."""
    found: Floats = (draws - draws.mean()) / np.sqrt(len(draws))
    return found


def seed_variances(contributions: Mapping[Cell, Floats]) -> dict[Seeds, tuple[Floats, float]]:
    """The variance of a sum due to each kind of seeds, with its degrees of freedom.

    Two kinds of seeds are crossed, so the variance over either kind contains their interaction. It is counted once,
    with the kind that has an owner (pretraining). The variance of the other kind may then be below 0.

    Args:
        contributions: float64 (K,), contributions to K sums, by their seeds.
    """
    kinds = list(dict.fromkeys(seeds for cell in contributions for seeds, _ in cell if len(seeds.names) > 1))
    found: dict[Seeds, tuple[Floats, float]] = {}
    for seeds in kinds:
        table = _table(contributions, seeds)
        count = len(seeds.names)
        found[seeds] = count * np.square(table - table.mean(axis=0)).sum(axis=0) / (count - 1), count - 1
    for shared, owned in product(kinds, kinds):
        if owned.of and not shared.of:
            table = _table(contributions, owned, shared)
            rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
            rest = np.square(table - rows - columns + table.mean(axis=(0, 1))).sum(axis=(0, 1))
            size = table.shape[0] * table.shape[1]
            both = size * rest / ((table.shape[0] - 1) * (table.shape[1] - 1))
            found[shared] = found[shared][0] - both, found[shared][1]
    return found


def variances_by_set(contributions: Mapping[str, Mapping[Cell, Floats]]) -> list[Variance]:
    """The parts of the variance of K sums due to seeds: one per tuned set, and one that the runs of all sets share.

    A tuning seed draws other images from each set, so runs on different sets are independent even if their seeds have
    the same number. If the sums by seed nevertheless vary more than sums of independent runs would, the excess is the
    shared part. A pretraining seed gives the same model for every set.

    Args:
        contributions: as in `seed_variances`, for each set. If some belong to no set, all count as one.
    """
    whole: dict[Cell, Floats] = {}
    for cells in contributions.values():
        for cell, amounts in cells.items():
            whole[cell] = whole[cell] + amounts if cell in whole else amounts
    by_set = [seed_variances(cells) for name, cells in contributions.items() if name and any(cells)]
    together = any(contributions.get("", {}))
    parts: list[Variance] = []
    for seeds, (amount, df) in seed_variances(whole).items():
        own = [np.maximum(found[seeds][0], 0) for found in by_set if seeds in found]
        split = [amount] if together or seeds.of or len(own) < 2 else _with_shared_part(own, amount)
        parts += [Variance(np.maximum(each, 0), df) for each in split]
    return parts


def _with_shared_part(own: Sequence[Floats], amount: Floats) -> list[Floats]:
    """The variances of independent runs, one per set, followed by the part that the runs of all sets share.

    The shared part is 0 unless `amount`, the variance of the sums, exceeds the sum of `own`. For k sets, an analysis of
    variance (sets x seeds) estimates it as k / (k - 1) times the excess. The sum of all parts is then `amount`.
    """
    apart: Floats = np.sum(own, axis=0)
    shared = np.minimum(np.maximum(amount - apart, 0) * len(own) / (len(own) - 1), amount)
    scale = np.where(shared > 0, (amount - shared) / np.maximum(apart, 1e-300), 1.0)
    return [*(scale * each for each in own), np.maximum(shared, 0)]


def _table(contributions: Mapping[Cell, Floats], *kinds: Seeds) -> Floats:
    """Contributions of cells with all these kinds of seeds: (seeds of the first, seeds of the second, ..., K)."""
    width = len(next(iter(contributions.values())))
    table = np.zeros((*(len(seeds.names) for seeds in kinds), width))
    for cell, amounts in contributions.items():
        places = dict(cell)
        if all(seeds in places for seeds in kinds):
            table[tuple(places[seeds] for seeds in kinds)] += amounts
    return table


def mean(estimates: Iterable[Estimate]) -> Estimate:
    """The mean. Raises ValueError for no estimates."""
    listed = list(estimates)
    if not listed:
        raise ValueError("the mean of no estimates")
    value = float(np.mean([each.value for each in listed]))
    return Estimate._sum(value, [(1 / len(listed), each, ()) for each in listed])


def mean_over_seeds(estimates: Sequence[Estimate], seeds: Seeds | None = None, tuned_on: str = "") -> Estimate:
    """The mean over seeds, with the contribution of each seed.

    Args:
        estimates: one per seed.
        seeds: the seeds; default: numbered tuning seeds.
        tuned_on: the tuned set of all of these runs; empty if they have several.
    """
    seeds = seeds or Seeds("tuning", tuple(range(len(estimates))))
    parts = [(1 / len(estimates), each, ((seeds, place),)) for place, each in enumerate(estimates)]
    return Estimate._sum(float(np.mean([each.value for each in estimates])), parts, tuned_on)


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
