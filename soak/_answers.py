"""Answers: simulated single images with a known truth, passed through the code of a report.

An image is right if a normal variable is below a threshold. All models, and all sets that show the image, share part of
this variable. A seed shifts the threshold of a run; half of the variance of the shift is common to all runs of that
seed on one set.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.metrics.bootstrap import Bootstrap, example_weights
from rib.metrics.estimates import Estimate, Seeds, mean, mean_over_seeds, robustness_improvement
from rib.results.answer import Contrast, as_one_family

PRETRAINING = 3
BEFORE, AFTER = 0.5, 0.3
"""Thresholds of the pretrained and of the tuned models."""

SHARED, SET = 0.5, 0.2
"""Shares of the variance of an answer: common to all sets that show an image, and common to all runs on one set."""

QUANTITIES = ("RI", "mRI", "methods", "contrast")


@dataclass(frozen=True)
class Coverage:
    """Shares of the repetitions.

    Attributes:
        held: share in which the interval of a quantity contains the truth, by the quantity's name.
        wrong: share in which one of three contrasts of a study, all truly 0, is shown or reversed.
    """

    held: dict[str, float]
    wrong: float


def coverage(seeds: int, images: int, ratio: float, repetitions: int, seed: int = 0) -> Coverage:
    """How often intervals contain the truth.

    Args:
        seeds: number of tuning seeds; a contrast also has `PRETRAINING` pretraining seeds per cohort.
        images: number of images of each of three sets, two of which show the same ones.
        ratio: standard deviation of RI over seeds, divided by that over images with one seed.
        repetitions: number of simulations.
        seed: seed of the answers.
    """
    generator = np.random.default_rng([seed, seeds, images, int(10 * ratio)])
    unit = float(np.mean([_World(generator, images, 0.0).ri(1).interval().se or 0.0 for _ in range(40)]))
    spread = ratio * unit / (100 * _density(AFTER))
    held: Counter[str] = Counter()
    wrong = 0
    for _ in range(repetitions):
        world = _World(generator, images, spread)
        estimates, truths = world.estimates(seeds)
        for name, estimate in estimates.items():
            found = estimate.interval()
            held[name] += found.low <= truths[name] <= found.high
        wrong += world.wrong(seeds)
    return Coverage({name: held[name] / repetitions for name in QUANTITIES}, wrong / repetitions)


def _density(threshold: float) -> float:
    return math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)


def _below(threshold: float, spread: float) -> float:
    """Probability of a right answer in percent, over images and seeds with this standard deviation."""
    return 50 * (1 + math.erf(threshold / math.sqrt(2 * (1 + spread**2))))


class _World:
    """Three sets, of which `x` and `y` show the same images, and models that answer on them."""

    def __init__(self, generator: np.random.Generator, images: int, spread: float) -> None:
        self.generator, self.images, self.spread = generator, images, spread
        common = self._normal() * math.sqrt(SHARED)
        own = self._normal() * math.sqrt(SHARED)
        self.shared = {
            name: source + math.sqrt(SET) * self._normal()
            for name, source in (("x", common), ("y", common), ("z", own))
        }
        self.bootstrap, self.rows = Bootstrap(200), np.arange(images)
        self.weights = example_weights(None, images)
        for name in self.shared:
            self.bootstrap.declare(self._units(name), self.rows)

    def _normal(self) -> NDArray[np.float32]:
        return self.generator.standard_normal(self.images, np.float32)

    @staticmethod
    def _units(name: str) -> str:
        return "z" if name == "z" else "xy"

    def accuracy(self, name: str, threshold: float) -> Estimate:
        """Accuracy of a new model on a set."""
        answers = self.shared[name] + math.sqrt(1 - SHARED - SET) * self._normal() < threshold
        return self.bootstrap.accuracies(self._units(name), self.rows, self.weights, [answers])[0]

    def ri(self, seeds: int, tuned_on: str = "x", effects: NDArray[np.float64] | None = None) -> Estimate:
        """RI of a method over its seeds, relative to a pretrained model of its own."""
        shared = self.seeds(seeds) if effects is None else effects
        others = [name for name in self.shared if name != tuned_on]
        before = {name: self.accuracy(name, BEFORE) for name in others}
        runs = []
        for effect in shared:
            moved = AFTER + effect + math.sqrt(0.5) * self.spread * self.generator.standard_normal()
            after = {name: self.accuracy(name, moved) for name in others}
            runs.append(robustness_improvement(before, after, others))
        return mean_over_seeds(runs, None, tuned_on)

    def seeds(self, count: int) -> NDArray[np.float64]:
        """The shift that each tuning seed causes in all of its runs on one set."""
        return math.sqrt(0.5) * self.spread * self.generator.standard_normal(count)

    def estimates(self, seeds: int) -> tuple[dict[str, Estimate], dict[str, float]]:
        """One estimate of each quantity, and the truth of each."""
        effects = {name: self.seeds(seeds) for name in ("x", "y")}
        first, second = ([self.ri(seeds, name, effect) for name, effect in effects.items()] for _ in range(2))
        truth = _below(AFTER, self.spread) - _below(BEFORE, 0)
        estimates = {
            "RI": first[0],
            "mRI": mean(first),
            "methods": mean(first) - mean(second),
            "contrast": self.cohort(effects["x"], "a") - self.cohort(effects["x"], "b"),
        }
        return estimates, {"RI": truth, "mRI": truth, "methods": 0.0, "contrast": 0.0}

    def cohort(self, effects: NDArray[np.float64], name: str) -> Estimate:
        """RI over pretraining seeds. Each of them shifts all of its runs as much as a tuning seed does."""
        moves = self.spread * self.generator.standard_normal(PRETRAINING)
        models = [self.ri(len(effects), "x", effects + move) for move in moves]
        return mean_over_seeds(models, Seeds("pretraining", tuple(range(PRETRAINING)), name))

    def wrong(self, seeds: int) -> bool:
        """Whether a study of three contrasts that are truly 0 shows or reverses one."""
        effects = self.seeds(seeds)
        base, *others = (self.cohort(effects, name) for name in "abcd")
        contrasts = as_one_family([Contrast("", "", "above", (other - base).interval()) for other in others])
        return any(one.verdict != "not shown" for one in contrasts)
