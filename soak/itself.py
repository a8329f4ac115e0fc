"""Itself: plain fine-tuning against itself in another batch order; every mark of a difference is a false one.

Four copies of one method are tuned on every set of the embedded suite with ten seeds. A family is one table: one copy
in the place of `finetune`, the other three beside it, with some of the seeds. There are 60 families for every number
of seeds: each copy in that place, with 15 subsets of the seeds, drawn at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from rib.execute.local import execute
from rib.intervals import as_family
from rib.plan import make_plan
from rib.report.results import Results
from rib.store import Store
from rib.suite import Suite
from rib.work import How

METHODS = ("finetune", "second", "third", "fourth")
SEEDS, DRAWN, SUBSETS = 10, (1, 2, 3, 5), 15
MOST = 0.05
"""False marks a family."""


def main(words: Sequence[str]) -> int:
    """Tune, count marks, and say whether they are few enough."""
    parser = argparse.ArgumentParser(prog="python -m soak itself", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("soak-itself"), help="store of what is tuned; kept")
    parser.add_argument("--model", default="digits:resnet_small")
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(words)
    store = Store(options.folder)
    whole = make_plan(suite(options.model, options.size, range(SEEDS)), store.facts)
    outcome = execute(whole, store, How(workers=options.workers, device="cpu"))
    if outcome.failed:
        print(*outcome.failed.items(), sep="\n")
        return 1
    bad = 0
    for count in DRAWN:
        plain, adjusted, families = marks(options.model, options.size, count, store)
        bad += adjusted > MOST * families
        print(
            f"{count} seed{'' if count == 1 else 's'}: of {families} families, with a false mark: {adjusted} "
            f"(without Holm's adjustment {plain})"
        )
    return int(bad > 0)


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


def marks(model: str, size: int, count: int, store: Store) -> tuple[int, int, int]:
    """Families with a false mark without and with the adjustment, and how many families there are."""
    subsets = list(combinations(range(SEEDS), count))
    order = np.random.default_rng(count).permutation(len(subsets))[:SUBSETS]
    plain = adjusted = 0
    for chosen in order:
        results = Results(make_plan(suite(model, size, subsets[chosen]), store.facts), store)
        groups = {method: (model, method, size) for method in METHODS}
        for base in METHODS:
            found = [results.compare(groups[other], groups[base]) for other in METHODS if other != base]
            family = [each for each in as_family(found) if each is not None]
            assert len(family) == len(METHODS) - 1, "a number is missing"
            plain += any(each.tests and each.excludes_zero for each in family)
            adjusted += any(each.differs for each in family)
    return plain, adjusted, len(order) * len(METHODS)
