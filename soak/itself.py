"""Itself: plain fine-tuning compared with itself in another batch order, so that every mark of a difference is false.

Four copies of one method are tuned on every set of the embedded suite with many seeds. A family is one table: a few
seeds, and for each of them the four copies in random order under four names, one of which is `finetune`. The copies of
a seed have the same tuning images and the same distribution, so every order is an equally good experiment. Families
share seeds, so they are not independent trials.

A second test checks that the copies have the same distribution: `finetune` itself minus the mean of its copies, seed by
seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rib.execute.run import execute
from rib.metrics.estimates import Estimate, mean_over_seeds
from rib.metrics.intervals import Interval, as_family
from rib.plan import make_plan
from rib.plan.plan import Run
from rib.results.groups import GroupEstimates
from rib.results.results import Results
from rib.results.rows import Group
from rib.steps import How
from rib.store.store import Store
from rib.suite.suite import Suite

METHODS = ("finetune", "second", "third", "fourth")
DRAWN = (1, 2, 3, 5)
MOST = 0.05
"""Maximum share of families with a false mark. If it is exceeded by three standard errors, the exit code is 1."""


def main(words: Sequence[str]) -> int:
    """Tune, count false marks, and report whether they are few enough."""
    parser = argparse.ArgumentParser(prog="python -m soak itself", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("soak-itself"), help="store of what is tuned; kept")
    parser.add_argument("--model", default="digits:resnet_small")
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--families", type=int, default=60, help="for every number of seeds")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(words)
    store = Store(options.folder)
    seeds = range(options.first, options.first + options.seeds)
    whole = make_plan(suite(options.model, options.size, seeds), store.facts)
    outcome = execute(whole, store, How(workers=options.workers, device="cpu"))
    if outcome.failed:
        print(*outcome.failed.items(), sep="\n")
        return 1
    results = Results(whole, store)
    groups = {method: (options.model, method, options.size) for method in METHODS}
    apart = against_copies(results, groups)
    ends = f"[{apart.low:+.2f}, {apart.high:+.2f}], p {apart.p:.3f}"
    print(f"finetune less the mean of its copies: {apart.value:+.2f} {ends}")
    bad = apart.p is not None and apart.p < 0.001
    for count in DRAWN:
        plain, adjusted = marks(results, groups, count, options.families)
        bad |= adjusted > MOST * options.families + 3 * math.sqrt(MOST * (1 - MOST) * options.families)
        print(
            f"{count} seed{'' if count == 1 else 's'}: of {options.families} families, with a false mark: {adjusted} "
            f"(without Holm's adjustment {plain})"
        )
    return int(bad)


def against_copies(results: Results, groups: dict[str, Group]) -> Interval:
    """mRI of `finetune` minus the mean mRI of its copies, over seeds: a t test for a systematic difference."""
    by_seed: dict[int, list[float]] = {}
    for name in METHODS:
        for seed in results.suite.seeds:
            only = {groups[name]: [run for run in results.groups[groups[name]] if run.seed == seed]}
            by_seed.setdefault(seed, []).append(_mri(results, groups[name], only))
    differences = [values[0] - float(np.mean(values[1:])) for values in by_seed.values()]
    return mean_over_seeds([Estimate(each) for each in differences]).interval()


def _mri(results: Results, group: Group, runs: dict[Group, list[Run]]) -> float:
    """mRI of a group from some of its runs."""
    found = GroupEstimates(results.plan, results.accuracies, {**results.groups, **runs}).mri(group)
    assert found is not None, "a number is missing"
    return found.value


def suite(model: str, size: int, seeds: Sequence[int]) -> Suite:
    """One model, four copies of one method, all sets of the embedded world."""
    sets = ("v2", "adversarial", "renditions", "sketch", "viewpoint", "cartoon", "drawing")
    return Suite.model_validate(
        {
            "name": "itself",
            "reference": "digits:ref",
            "downstream": [f"digits:{name}" for name in sets],
            "models": [model],
            "held_out": 0.15,
            "seeds": list(seeds),
            "runs": [{"methods": list(METHODS), "sizes": [size]}],
            "method": {
                name: {"kind": "soak._reshuffled:Reshuffled", "by": 1000 * at} for at, name in enumerate(METHODS) if at
            },
            "recipe": {"epochs": 10, "batch_size": 32, "lr": 0.001, "warmup_fraction": 0.1},
        }
    )


def marks(results: Results, groups: dict[str, Group], count: int, families: int) -> tuple[int, int]:
    """The number of families with a false mark, without and with the adjustment."""
    generator, whole = np.random.default_rng(count), dict(results.groups)
    plain = adjusted = 0
    for _ in range(families):
        renamed = {group: runs for group, runs in whole.items() if group not in groups.values()}
        for seed in generator.permutation(results.suite.seeds)[:count]:
            for name, copy in zip(METHODS, generator.permutation(METHODS), strict=True):
                mine = [run for run in whole[groups[copy]] if run.seed == seed]
                renamed.setdefault(groups[name], []).extend(mine)
        estimates = GroupEstimates(results.plan, results.accuracies, renamed)
        found = as_family(estimates.compare(groups[other], groups["finetune"]) for other in METHODS[1:])
        known = [each for each in found if each is not None]
        assert len(known) == len(METHODS) - 1, "a number is missing"
        plain += any(each.tests and each.excludes_zero for each in known)
        adjusted += any(each.differs for each in known)
    return plain, adjusted
