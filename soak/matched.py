"""Matched: how often the studies of methods at matched gain err, in simulated worlds with a known truth.

Every method lies on a straight line from the pretrained model: it loses a fixed number of points for each point gained.
If all lines are one, every contrast of `architecture` and `remedies` is truly 0. If those of the architectural methods
are flatter, its first contrasts are truly `KEPT`. The contrasts are computed by the code of the studies, from estimates
with noise of images, tuning seeds and pretraining seeds. The second table is about the extension of a line beyond a
method's gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from rib.metrics.estimates import Estimate, Seeds, mean, mean_over_seeds
from rib.plan import swept
from rib.results.answer import Contrast, as_one_family
from rib.results.matched_gain import CurvePoint, read_curve
from rib.studies.architecture import GROUPS, ArchitectureStudy
from rib.studies.base import Study
from rib.studies.cohorts import Cohort
from rib.studies.matched import strengths, swept_names
from rib.studies.numbers import StudyNumbers
from rib.studies.remedies import Remedies

TARGET, LOST, KEPT = 3.0, 1.3, 2.0
"""Gain of fine-tuning, points; points lost for each point gained; points that architectural methods keep more at that
gain. The first two are about those of the ResNet in `digits-remedies`."""

SHARES: Mapping[str, tuple[float, ...]] = {
    "wise_ft": (0.35, 0.65, 0.9),
    "lines": (0.5, 0.65, 0.8, 0.95),
    "l2_sp": (1.05, 0.8, 0.4),
    "lwf": (1.05, 0.8, 0.4),
    **{"ldifs": (0.7,), "spd": (0.95,), "ftp": (0.55,), "digrap": (1.0,), "ema": (0.75,), "swa": (1.05,)},
    **{"adapter": (0.65,), "side_tuning": (0.9,), "progressive": (1.0,), "bitfit": (0.6,), "norm_tuning": (0.55,)},
    **{"lp_ft": (0.9,), "llrd": (0.7,), "surgical": (0.8,), "sam": (1.1,), "replay": (0.95,)},
}
"""True gain of each method at each strength, as a share of the target."""

STUDIES: Mapping[str, tuple[Study, tuple[str, ...]]] = {
    "architecture": (ArchitectureStudy(), tuple(SHARES)[:15]),
    "remedies": (Remedies(), tuple(name for name in SHARES if name not in ("adapter", "side_tuning", "progressive"))),
}
"""Each study with its methods, as in `digits-remedies`."""

SETS, TUNING, PRETRAINING, DRAWS = 2, 3, 3, 100


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a number of one run, in points: the part common to all methods, and that of each.

    Attributes:
        images: over source images.
        tuning: over tuning seeds, on each set.
        pretraining: over pretraining seeds.
    """

    images: tuple[float, float]
    tuning: tuple[float, float]
    pretraining: tuple[float, float]


GAIN, MRI = Noise((0.9, 0.7), (0.7, 0.7), (1.0, 0.5)), Noise((0.5, 0.4), (0.5, 0.7), (1.0, 0.7))
"""About those of `resnet_small` with 200 images; the differences in the tables of docs/findings.md are as wide."""

COHORT = Cohort("net", "", "small", 1000, tuple(f"net {seed}" for seed in range(PRETRAINING)), True)


class World:
    """Estimates of gain and mRI of all methods in one world.

    Args:
        generator: source of all random numbers.
        scale: factor of all noise.
    """

    def __init__(self, generator: np.random.Generator, scale: float = 1.0) -> None:
        self.generator, self.scale = generator, scale
        self.seeds = Seeds("tuning", tuple(range(TUNING)))
        normal = generator.standard_normal
        self.common = [
            (normal(SETS), normal((SETS, DRAWS)), normal((SETS, TUNING)), normal(PRETRAINING)) for _ in range(2)
        ]

    def point(self, gain: float, lost: float) -> tuple[Estimate, Estimate]:
        """Gain and mRI of a method with this true gain, over all sets and seeds."""
        return self._estimate(0, GAIN, gain), self._estimate(1, MRI, -lost * gain)

    def _estimate(self, kind: int, noise: Noise, truth: float) -> Estimate:
        images, resampled, tuning, pretraining = self.common[kind]
        normal = self.generator.standard_normal
        own = normal(PRETRAINING)
        models = []
        for model in range(PRETRAINING):
            moved = noise.pretraining[0] * pretraining[model] + noise.pretraining[1] * own[model]
            by_set = []
            for place in range(SETS):
                runs = []
                for seed in range(TUNING):
                    of_seed = noise.tuning[0] * tuning[place, seed] + noise.tuning[1] * normal()
                    of_images = noise.images[0] * images[place] + noise.images[1] * normal()
                    value = truth + self.scale * (moved + of_seed + of_images)
                    drawn = noise.images[0] * resampled[place] + noise.images[1] * normal(DRAWS)
                    runs.append(Estimate(value, value + self.scale * drawn))
                by_set.append(mean_over_seeds(runs, self.seeds, f"set {place}"))
            models.append(mean(by_set))
        return mean_over_seeds(models, COHORT.seeds)


def contrasts(world: World, study: Study, methods: Sequence[str], kept: float = 0.0) -> tuple[Contrast, ...]:
    """The contrasts of a study, tested as one family, by its own code.

    Args:
        world: draws the estimates.
        study: the study.
        methods: its methods, whose true gains are `SHARES`.
        kept: points that architectural methods truly keep more at the gain of fine-tuning.
    """
    names = swept_names(methods)
    suite = SimpleNamespace(runs=[SimpleNamespace(methods=names)], method=strengths(methods))
    places = swept(cast(Any, suite))
    points = {"finetune": world.point(TARGET, LOST)}
    for method, name in zip(methods, names, strict=True):
        lost = LOST - kept / TARGET if method in GROUPS["architectural"] else LOST
        labels = [label for label, place in places.items() if place.name == name] or [name]
        for label, share in zip(labels, SHARES[method], strict=True):
            points[label] = world.point(share * TARGET, lost)
    results = SimpleNamespace(suite=suite, plan=SimpleNamespace(runs=[SimpleNamespace(method=one) for one in points]))
    numbers = SimpleNamespace(
        results=results,
        families={"net": (COHORT,)},
        sizes=(200,),
        gain=lambda cohort, method, size: points[method][0],
        mri=lambda cohort, method, size: points[method][1],
    )
    return as_one_family(study.contrasts(cast(StudyNumbers, numbers)))


@dataclass(frozen=True)
class Errors:
    """How often a study errs.

    Attributes:
        wrong: share of worlds in which a contrast that is truly 0 is shown or reversed.
        held: share of the intervals of contrasts that contain the truth.
        found: share of the true differences that are shown.
    """

    wrong: float
    held: float
    found: float


def errors(study: str, repetitions: int, kept: float = 0.0, seed: int = 0, scale: float = 1.0) -> Errors:
    """How often a study errs if architectural methods truly keep `kept` points more.

    Args:
        study: "architecture" or "remedies".
        repetitions: number of worlds.
        kept: points; 0 for no difference between methods.
        seed: seed of the draws.
        scale: factor of all noise.
    """
    generator, (code, methods) = np.random.default_rng([seed, len(study)]), STUDIES[study]
    wrong, held, found = 0, list[bool](), list[bool]()
    for _ in range(repetitions):
        tested = [one for one in contrasts(World(generator, scale), code, methods, kept) if one.interval is not None]
        truths = [kept if one.says.startswith(("architectural", "a second", "added")) else 0.0 for one in tested]
        pairs = [(one, one.interval, truth) for one, truth in zip(tested, truths, strict=True) if one.interval]
        wrong += any(one.verdict != "not shown" for one, _, truth in pairs if not truth)
        held += [span.low <= truth <= span.high for _, span, truth in pairs]
        found += [one.verdict == "shown" for one, _, truth in pairs if truth]
    return Errors(wrong / repetitions, float(np.mean(held)), float(np.mean(found)) if found else 0.0)


@dataclass(frozen=True)
class Extended:
    """How often a line is extended from a method's gain to the target, and the interval contains the truth.

    Attributes:
        reached: share of worlds in which the method is compared.
        held: share of these in which the interval of its difference from fine-tuning contains 0.
        length: median length of that interval, points.
    """

    reached: float
    held: float
    length: float


def extended(share: float, repetitions: int, seed: int = 0, scale: float = 1.0) -> Extended:
    """A method with one strength, whose true gain is this share of fine-tuning's, and which loses as much per point."""
    generator = np.random.default_rng([seed, int(100 * share)])
    held, lengths = list[bool](), list[float]()
    for _ in range(repetitions):
        world = World(generator, scale)
        base, one = (
            CurvePoint(name, None, *world.point(part * TARGET, LOST)) for name, part in (("a", 1), ("b", share))
        )
        if (mri := read_curve(base, [one]).mri) is not None:
            span = (mri - base.mri).interval()
            held.append(span.low <= 0 <= span.high)
            lengths.append(span.high - span.low)
    reached = len(held) / repetitions
    return Extended(reached, float(np.mean(held)), float(np.median(lengths))) if held else Extended(0.0, 1.0, 0.0)


def main(words: Sequence[str]) -> int:
    """Print both tables; exit code 1 if a study errs in more than 7 % of worlds."""
    parser = argparse.ArgumentParser(prog="python -m soak matched", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    bad = 0
    print(
        "| study | noise | no difference: a contrast shown or reversed | interval holds 0 | 2 points: holds | shown |"
    )
    print("|---|---|---|---|---|---|")
    for study in STUDIES:
        for scale in (0.5, 1.0):
            null = errors(study, options.repetitions, 0.0, options.seed, scale)
            bad += null.wrong > 0.07
            row = [f"{100 * null.wrong:.1f} %", f"{100 * null.held:.1f} %"]
            if study == "architecture":
                true = errors(study, options.repetitions, KEPT, options.seed, scale)
                row += [f"{100 * true.held:.1f} %", f"{100 * true.found:.1f} %"]
            else:
                row += ["", ""]
            print(f"| {study} | × {scale:g} | {' | '.join(row)} |", flush=True)
    print("\n| true gain, share of fine-tuning's | noise | compared | interval holds 0 | its length, points |")
    print("|---|---|---|---|---|")
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1):
        for scale in (0.5, 1.0):
            one = extended(share, options.repetitions, options.seed, scale)
            print(
                f"| {share:g} | × {scale:g} | {100 * one.reached:.0f} % | {100 * one.held:.1f} % | {one.length:.1f} |"
            )
    return int(bad > 0)
