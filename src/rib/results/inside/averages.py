"""Averages over tuned sets and test sets. A missing value makes an average missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rib.metrics.estimates import Estimate, mean
from rib.plan import Run
from rib.results.groups import over_seeds
from rib.results.results import Results
from rib.results.rows import Group

OTHERS = "other downstream sets"
"""Name of the average over all downstream sets that the model was not tuned on, as in RI."""

OWN = "the set tuned on"
"""Name of the average over unseen images of the tuned sets."""


@dataclass(frozen=True)
class Spread:
    """A number over several runs (tuned sets, seeds): its mean, lowest and highest value, and the number of runs."""

    value: float
    low: float
    high: float
    runs: int


def spread(values: Sequence[float | None]) -> Spread | None:
    """The spread of one number per run; None if a number is missing or there are no runs."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Spread(float(np.mean(known)), min(known), max(known), len(known))


def tested_on(results: Results) -> list[str]:
    """The averages to compute: the other downstream sets, the tuned set, and each data set by itself."""
    suite = results.suite
    own = any(run.tuned_on in run.scores for run in results.plan.runs if run.tuned_on)
    return [OTHERS, *([OWN] if own else []), *map(results.set_name, suite.tested)]


def tuned_groups(results: Results) -> Iterator[tuple[Group, list[Run]]]:
    """Runs by model, method and size, without the pretrained models."""
    return ((group, runs) for group, runs in results.groups.items() if group[1] != "pretrained")


def pretrained(results: Results, run: Run) -> Run:
    """The pretrained model of a run."""
    return results.groups[run.model, "pretrained", None][0]


def cells(results: Results, run: Run, on: str) -> list[str]:
    """The data sets in one average for one run; empty if the run has no part in it."""
    if on == OWN:
        return [run.tuned_on] if run.tuned_on else []
    names = results.suite.downstream if on == OTHERS else results.suite.tested
    return [name for name in names if name != run.tuned_on and on in (OTHERS, results.set_name(name))]


def average(
    results: Results, runs: Sequence[Run], on: str, cell: Callable[[Run, str], Estimate | None]
) -> Estimate | None:
    """Mean over the test sets, then over seeds, then over tuned sets; None if a value is missing or there are none."""
    by_set: dict[str | None, list[tuple[Run, Estimate]]] = {}
    for run in runs:
        if names := cells(results, run, on):
            found = [estimate for name in names if (estimate := cell(run, name))]
            if len(found) < len(names):
                return None
            by_set.setdefault(run.tuned_on, []).append((run, mean(found)))
    return mean(over_seeds(*zip(*seeds, strict=True)) for seeds in by_set.values()) if by_set else None


def spread_over_runs(
    results: Results, runs: Sequence[Run], on: str, cell: Callable[[Run, str], float | None]
) -> Spread | None:
    """The spread over runs of each run's mean over its test sets; None if a value is missing or there are none."""
    means = []
    for run in runs:
        if names := cells(results, run, on):
            found = [value for name in names if (value := cell(run, name)) is not None]
            means.append(float(np.mean(found)) if len(found) == len(names) else None)
    return spread(means)
