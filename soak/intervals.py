"""Intervals: how often a 95 % interval contains the truth, and how often a mark or verdict is wrong if all effects are
0.

The model is a table of images x seeds with normal effects and a known truth. The simulation draws the means of runs,
and the variances over images that a report would estimate. Variances over seeds, lengths of intervals and tests are
computed by `rib`, for all repetitions at once. `--answers` simulates single images instead and runs the code of a
report on them, which is a hundred times slower.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.metrics.estimates import Cell, Seeds, variances_by_set
from rib.metrics.intervals import LEVEL, Variance, half_length, pooled
from soak import _answers

SEEDS, IMAGES, RATIOS = (1, 2, 3, 5, 10), (50, 300, 5000), (0.0, 0.5, 1.0, 2.0)
SETS, PRETRAINING, OTHERS = 4, 3, 3
"""Number of tuned sets, of pretraining seeds of a cohort, and of methods or cohorts that are compared with one."""

MAIN, OWN = 0.6, 0.4
"""Shares of the variance of RI over images with one seed: common to all seeds of a method, and specific to a run.
Two methods share all of the first part, so their difference has only the second, which is the hardest case."""

COMMON = 0.5
"""Share of the variance over tuning seeds that is common to all methods on one set, as they draw the same images."""

SPREAD = 0.5
"""Standard deviation of the logarithm of the seeds' standard deviation over sets. In `digits` it is 0.5 on average over
models and methods, and 1 in `resnet_small`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Shares of the repetitions.

    Attributes:
        held: share in which the interval of a quantity contains the truth, by the quantity's name.
        marks: share in which one of three equal methods is marked as different from a fourth.
        verdicts: share in which one of three contrasts of a study, all truly 0, is shown or reversed.
    """

    held: dict[str, float]
    marks: float
    verdicts: float


def main(words: Sequence[str]) -> int:
    """Print the table; exit code 1 if an interval covers less than 93 %, or a family errs in more than 5.5 %."""
    parser = argparse.ArgumentParser(prog="python -m soak intervals", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES)
    parser.add_argument("--sets", type=int, default=SETS, help="tuned on")
    parser.add_argument("--spread", type=float, default=SPREAD, help="of the seeds' sd over sets")
    parser.add_argument("--shared", type=float, default=0.0, help="of the seeds' variance: what all sets share")
    parser.add_argument("--answers", action="store_true", help="make up single images")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    bad = 0
    print("| seeds | images | seed sd / image sd | RI | mRI | difference of methods | contrast | marks | verdicts |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seeds, images, ratio in ((s, i, r) for s in options.seeds for i in options.images for r in RATIOS):
        if options.answers:
            seen = _answers.coverage(seeds, images, ratio, options.repetitions, options.seed)
            found = Coverage(seen.held, math.nan, seen.wrong)
        else:
            sets = options.sets, options.spread, options.shared
            found = coverage(seeds, images, ratio, options.repetitions, options.seed, *sets)
        numbers = [*found.held.values(), found.marks, found.verdicts]
        print(
            f"| {seeds} | {images:,} | {ratio:g} | {' | '.join(f'{100 * share:.1f}' for share in numbers)} |",
            flush=True,
        )
        bad += seeds > 1 and (min(found.held.values()) < 0.93 or max(found.marks, found.verdicts) > 0.055)
    return int(bad > 0)


def coverage(
    seeds: int,
    images: int,
    ratio: float,
    repetitions: int,
    seed: int = 0,
    sets: int = SETS,
    spread: float = SPREAD,
    shared: float = 0.0,
) -> Coverage:
    """How often intervals contain the truth.

    Args:
        seeds: number of tuning seeds; a contrast also has `PRETRAINING` pretraining seeds per cohort.
        images: number of images of a data set.
        ratio: standard deviation of RI over seeds, divided by that over images with one seed; over sets, the root of
            the mean square.
        repetitions: number of simulations.
        seed: seed of the draws.
        sets: number of tuned sets.
        spread: as `SPREAD`.
        shared: share of the variance over tuning seeds that is common to the runs on all sets.
    """
    generator = np.random.default_rng([seed, seeds, images, int(10 * ratio)])
    law = Law(generator, seeds, images, ratio, repetitions, sets, spread, shared)
    methods = [law.method() for _ in range(1 + OTHERS)]
    cohorts = [law.cohort(f"cohort {number}") for number in range(1 + OTHERS)]
    differences = [law.difference(one, methods[0], 0.0) for one in methods[1:]]
    contrasts = [law.difference(one, cohorts[0], 0.0) for one in cohorts[1:]]
    alone = {"RI": law.method(1), "mRI": methods[0]}
    held = {name: law.with_images(one, MAIN / len(one.cells)).holds().mean() for name, one in alone.items()}
    held |= {"methods": differences[0].holds().mean(), "contrast": contrasts[0].holds().mean()}
    marks, verdicts = (false_marks(family) if seeds > 1 else 0.0 for family in (differences, contrasts))
    return Coverage({name: float(share) for name, share in held.items()}, marks, verdicts)


@dataclass(frozen=True)
class Drawn:
    """Estimates of one quantity that is truly 0, one per repetition.

    Attributes:
        cells: for each tuned set, float64 (repetitions,), contribution of the runs of each cell of seeds.
        common: float64 (repetitions,), contribution of images that all seeds share.
        images, known: estimated variance over images with fixed seeds, and the part of it that all seeds share.
        together: estimated variance of the interaction of images and seeds.
        df: degrees of freedom of the variances over images.
    """

    cells: dict[str, dict[Cell, Floats]]
    common: Floats
    images: Floats
    known: Floats
    together: Floats
    df: float

    @property
    def value(self) -> Floats:
        """The estimates."""
        return np.asarray(self.common + np.sum([each for cells in self.cells.values() for each in cells.values()], 0))

    def misses(self, level: float = LEVEL) -> NDArray[np.bool_]:
        """Repetitions in which the interval of this level excludes 0."""
        seeds = pooled(variances_by_set(self.cells), self.together)
        half = half_length(Variance(self.images, self.df), Variance(self.known, self.df), seeds, level)
        return np.asarray(np.abs(self.value) > half)

    def holds(self) -> NDArray[np.bool_]:
        """Repetitions in which the 95 % interval contains 0."""
        return ~self.misses()


def false_marks(family: Sequence[Drawn]) -> float:
    """Share of the repetitions in which one of a family is marked: Holm's first step, at the level divided by their
    number."""
    marked = [one.misses(LEVEL / len(family)) & one.misses() for one in family]
    return float(np.logical_or.reduce(marked).mean())


class Law:
    """Draws estimates.

    Args:
        generator: source of all random numbers.
        seeds, images, ratio, repetitions, sets, spread, shared: as in `coverage`.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        seeds: int,
        images: int,
        ratio: float,
        repetitions: int,
        sets: int = SETS,
        spread: float = SPREAD,
        shared: float = 0.0,
    ) -> None:
        self.generator, self.ratio, self.size, self.df = generator, ratio, repetitions, images - 1
        self.tuning = Seeds("tuning", tuple(range(seeds)))
        self.sets = [f"set {place}" for place in range(sets)]
        of_seeds = [self.normal(shared) for _ in range(seeds)]
        self._noise, self._common = dict[str, Floats](), dict[str, list[Floats]]()
        for name in self.sets:
            self._noise[name] = ratio * np.exp(self.normal(spread**2) - spread**2)
            drawn = [each + self.normal((1 - shared) * COMMON) for each in of_seeds]
            self._common[name] = [self._noise[name] * each for each in drawn]
        self._rest = (1 - shared) * (1 - COMMON)

    def normal(self, variance: float) -> Floats:
        """Normal numbers of this variance: float64 (repetitions,)."""
        return math.sqrt(variance) * self.generator.standard_normal(self.size)

    def estimated(self, variance: float, times: int) -> Floats:
        """Estimates of a variance over images: float64 (repetitions,)."""
        df = max(times, 1) * self.df
        return variance * self.generator.chisquare(df, self.size) / df

    def method(self, sets: int | None = None) -> Drawn:
        """mRI of a method over its seeds; with one set, its RI."""
        names, seeds = self.sets[:sets], len(self.tuning.names)
        cells = {
            name: {((self.tuning, place),): self._run(name, place) / seeds / len(names) for place in range(seeds)}
            for name in names
        }
        return self._drawn(cells, OWN / len(names) / seeds, seeds)

    def cohort(self, name: str) -> Drawn:
        """mRI of a cohort: each pretraining seed shifts all runs of its model, and the cohort has its own images."""
        seeds, models = len(self.tuning.names), Seeds("pretraining", tuple(range(PRETRAINING)), name)
        runs, sets = len(self.sets) * seeds * PRETRAINING, len(self.sets)
        moved = [self.normal((OWN + self.ratio**2) / sets) for _ in range(PRETRAINING)]
        cells = {
            tuned_on: {
                ((self.tuning, place), (models, model)): (self._run(tuned_on, place) + moved[model]) / runs
                for model in range(PRETRAINING)
                for place in range(seeds)
            }
            for tuned_on in self.sets
        }
        return self._drawn(cells, (OWN + OWN / seeds) / PRETRAINING / sets, PRETRAINING)

    def _run(self, name: str, place: int) -> Floats:
        """RI of one run on a set, with a seed."""
        return self._common[name][place] + self._noise[name] * self.normal(self._rest) + self.normal(OWN)

    def _drawn(self, cells: dict[str, dict[Cell, Floats]], together: float, seeds: int) -> Drawn:
        nothing, found = np.zeros(self.size), self.estimated(together, seeds - 1)
        return Drawn(cells, nothing, found, nothing, found if seeds > 1 else nothing, self.df)

    def with_images(self, one: Drawn, variance: float) -> Drawn:
        """The same, plus a contribution of images that all seeds share."""
        images = one.images + self.estimated(variance, 1)
        known = np.maximum(images - one.together, 0)
        return Drawn(one.cells, self.normal(variance), images, known, one.together, one.df)

    def difference(self, one: Drawn, other: Drawn, variance: float) -> Drawn:
        """The difference of two methods or of two cohorts, paired by set and seed."""
        cells = {
            name: {
                cell: np.asarray(mine.get(cell, 0.0) - other.cells[name].get(cell, 0.0))
                for cell in dict.fromkeys([*mine, *other.cells[name]])
            }
            for name, mine in one.cells.items()
        }
        images, together = one.images + other.images, one.together + other.together
        found = Drawn(cells, one.common - other.common, images, one.known, together, one.df)
        return self.with_images(found, variance) if variance else found
