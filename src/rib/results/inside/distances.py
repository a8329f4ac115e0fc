"""Distances: the distance of a test set from the tuned set, against the accuracy that tuning costs on the test set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from rib.analysis.base import typed
from rib.analysis.correlation import mantel
from rib.analysis.distance import Distance, DistanceValues, Measure
from rib.arrays import Floats
from rib.metrics.intervals import Interval
from rib.results.inside.averages import OTHERS
from rib.results.results import Results
from rib.results.rows import Change, SeenSet
from rib.text.names import Names

REFERENCE = "the reference set"
"""Name of the pairs of the reference set and each tuned set."""

ROLES = {OTHERS: "downstream", REFERENCE: "reference"}
"""Role of the test sets, by the name of the pairs."""


@dataclass(frozen=True)
class DistancePair:
    """A tuned set and a test set.

    Attributes:
        tuned_on, tested_on: the data sets.
        distance: their distance, in the unit of the measure.
        loss: accuracy lost on the test set, in points.
    """

    tuned_on: str
    tested_on: str
    distance: float
    loss: Interval


@dataclass(frozen=True)
class DistanceLoss:
    """Whether distance predicts loss, for one model, method and size.

    Attributes:
        analysis: name of the analysis in the suite.
        measure: "frechet", "mmd" or "otdd".
        model, method, size: the group.
        lost_on: the test sets: `OTHERS` or `REFERENCE`.
        pairs: tuned and test sets with a known change of accuracy.
        spearman, pearson: correlation over the pairs, tested by permuting the sets; None if undefined.
        spearman_p, pearson_p: two-sided p value of the correlation.
    """

    analysis: str
    measure: str
    model: str
    method: str
    size: int | None
    lost_on: str
    pairs: tuple[DistancePair, ...]
    spearman: Interval | None
    pearson: Interval | None
    spearman_p: float | None
    pearson_p: float | None


def distance_losses(results: Results) -> Iterator[DistanceLoss]:
    """The losses of every model, measure and tuned group, on the other downstream sets and on the reference set."""
    changes: dict[tuple[str, str, int | None], list[Change]] = {}
    for change in results.changes:
        if change.role in ROLES.values() and change.method != "pretrained" and change.change:
            changes.setdefault((change.model, change.method, change.size), []).append(change)
    for seen in results.seen(Distance):
        for (model, method, size), found in changes.items():
            if model == results.suite.model_names.short(seen.run.model):
                for measure in get_args(Measure):
                    if measure in seen.values:
                        group = (model, method, size)
                        yield _compared(results.suite.set_names, seen, measure, group, OTHERS, found)
                        yield _compared(results.suite.set_names, seen, measure, group, REFERENCE, found)


def _compared(
    names: Names,
    seen: SeenSet,
    measure: Measure,
    group: tuple[str, str, int | None],
    lost_on: str,
    changes: list[Change],
) -> DistanceLoss:
    values = typed(seen.values, DistanceValues)
    matrix = values[measure]
    place = {names.short(name): at for at, name in enumerate(values["sets"])}
    pairs = tuple(
        DistancePair(
            change.tuned_on,
            change.tested_on,
            matrix[place[change.tuned_on]][place[change.tested_on]],
            change.change.times(-1),
        )
        for change in changes
        if change.role == ROLES[lost_on] and change.change and {change.tuned_on, change.tested_on} <= place.keys()
    )
    distances, losses = as_matrices(pairs) if lost_on == OTHERS else _as_columns(pairs)
    spearman, pearson = (mantel([distances], [losses], ranked) for ranked in (True, False))
    p_values = (found.p if found else None for found in (spearman, pearson))
    return DistanceLoss(seen.name, measure, *group, lost_on, pairs, spearman, pearson, *p_values)


def _as_columns(pairs: Sequence[DistancePair]) -> tuple[Floats, Floats]:
    """Distances and losses, float64 (S,) each, for tuned sets with one pair each."""
    return np.array([pair.distance for pair in pairs]), np.array([pair.loss.value for pair in pairs])


def as_matrices(pairs: Sequence[DistancePair]) -> tuple[Floats, Floats]:
    """Distances and losses, float64 (S, S) each, by tuned set and test set; NaN without a pair."""
    sets = list(dict.fromkeys(name for pair in pairs for name in (pair.tuned_on, pair.tested_on)))
    distances, losses = np.full((2, len(sets), len(sets)), np.nan)
    for pair in pairs:
        row, column = sets.index(pair.tuned_on), sets.index(pair.tested_on)
        distances[row, column] = pair.distance
        distances[column, row] = pair.distance
        losses[row, column] = pair.loss.value
    return distances, losses
