"""P8: the interval of a mean RI over eight sets of 50,000 images, compared with a numpy loop that gathers images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.base import Row, Setting, Timings, Work, at_least, interleaved
from rib.metrics.bootstrap import Bootstrap, example_weights
from rib.metrics.estimates import Estimate, robustness_improvement

SETS, IMAGES, DRAWS = 8, 50_000, 2000
GATHERED = 40
"""Number of draws that the loop is timed on. Every draw takes the same time, so the time is scaled up."""

Flags = NDArray[np.bool_]


def measure(setting: Setting) -> list[Row]:
    """Time from right and wrong answers to the interval, for sets with their own images and for sets that share
    them."""
    rows = []
    for shared, what in ((False, "images of their own"), (True, "the same images")):
        before, after = answers(shared)
        draws = 4 if setting.quick else GATHERED
        timings = timed(before, after, shared, draws, setting.repeats(5))
        require_equal(before, after, shared)
        rows += told(timings, what, DRAWS / draws)
    return rows


def timed(before: Flags, after: Flags, shared: bool, draws: int, repeats: int) -> Timings:
    """Time both sides, the loop with fewer draws."""
    works: dict[str, Work] = {
        "ours": lambda: ours(before, after, shared).interval(),
        "loop": lambda: loop(before, after, draws, shared),
    }
    return interleaved(works, repeats)


def told(timings: Timings, what: str, scale: float) -> list[Row]:
    """The two rows of one case."""
    took, ratio = 1e3 * timings.median("ours"), scale * timings.ratio("loop", "ours")
    task = f"RI interval, {DRAWS:,} draws x {SETS} sets x {IMAGES:,} images, {what}"
    return [
        at_least("P8", task, "numpy gather loop", 300, ratio),
        Row("P8", task, "the clock", "≤ 50 ms", f"{took:.3g} ms", took <= 50),
    ]


def answers(shared: bool) -> tuple[Flags, Flags]:
    """Right and wrong answers before and after, bool (SETS, IMAGES). If images are shared, some are easy in all
    sets."""
    generator = np.random.default_rng(int(shared))
    skill = generator.uniform(0.3, 1.0, IMAGES if shared else (SETS, IMAGES))
    before = generator.random((SETS, IMAGES)) < skill
    changed = generator.random((SETS, IMAGES)) < 0.15
    return before, np.where(changed, generator.random((SETS, IMAGES)) < skill - 0.1, before)


def ours(before: Flags, after: Flags, shared: bool, draws: int = DRAWS) -> Estimate:
    """Accuracies and then RI, as in a report."""
    bootstrap, sources, weights = Bootstrap(draws), np.arange(IMAGES), example_weights(None, IMAGES)
    names = [f"set {number}" for number in range(SETS)]
    units = {name: "photo" if shared else name for name in names}
    for name in names:
        bootstrap.declare(units[name], sources)
    start, end = {}, {}
    for name, flags in zip(names, zip(before, after, strict=True), strict=True):
        start[name], end[name] = bootstrap.accuracies(units[name], sources, weights, flags)
    return robustness_improvement(start, end, names)


def loop(before: Flags, after: Flags, draws: int, shared: bool, seed: int = 0) -> NDArray[np.float64]:
    """The plain way: draw images, gather their answers, average; float64 (draws,)."""
    generator, found = np.random.default_rng(seed), np.empty(draws)
    for draw in range(draws):
        rows = generator.integers(IMAGES, size=IMAGES)
        changes = []
        for one, other in zip(before, after, strict=True):
            if not shared:
                rows = generator.integers(IMAGES, size=IMAGES)
            changes.append(100 * (other[rows].mean() - one[rows].mean()))
        found[draw] = np.mean(changes)
    return found


def require_equal(before: Flags, after: Flags, shared: bool) -> None:
    """Assert the same value, and the same mean, spread and ends of the interval within the accuracy of 400 draws."""
    estimate, drawn = ours(before, after, shared), loop(before, after, 400, shared, seed=1)
    spread = drawn.std()
    assert abs(estimate.value - 100 * (after.mean() - before.mean())) < 1e-9
    assert abs(estimate.draws.std() / spread - 1) < 0.15
    assert abs(estimate.draws.mean() - drawn.mean()) < 0.2 * spread
    ends, theirs = (np.percentile(draws, [2.5, 97.5]) for draws in (estimate.draws, drawn))
    assert np.abs(ends - theirs).max() < 0.5 * spread
