"""Distances between data sets against what tuning on one costs on the other, or on the reference set."""

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
"""Tested on the reference set: its distance to each set tuned on, against what is lost on it."""

ROLES = {OTHERS: "downstream", REFERENCE: "reference"}
"""Role of the sets that accuracy is lost on."""


@dataclass(frozen=True)
class DistancePair:
    """A set tuned on and another tested on.

    Attributes:
        tuned_on, tested_on: the data sets.
        distance: between them, in the unit of the measure.
        loss: accuracy lost there, in points.
    """

    tuned_on: str
    tested_on: str
    distance: float
    loss: Interval


@dataclass(frozen=True)
class DistanceLoss:
    """Whether distance foretells loss, for one model, method and size.

    Attributes:
        analysis: its name in the suite.
        measure: "frechet", "mmd" or "otdd".
        model, method, size: which.
        lost_on: where the accuracy is lost: `OTHERS`, or `REFERENCE`.
        pairs: of a set tuned on and one of these, whose change of accuracy is known.
        spearman, pearson: correlation over the pairs, tested by permuting the sets; None if undefined.
        spearman_p, pearson_p: its p value, two-sided.
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
    """Losses of every measured model, measure and tuned group: on the other sets, and on the reference set."""
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
    """Distances and losses, float64 (S,) each, by tuned set; each has one pair."""
    return np.array([pair.distance for pair in pairs]), np.array([pair.loss.value for pair in pairs])


def as_matrices(pairs: Sequence[DistancePair]) -> tuple[Floats, Floats]:
    """Distances and losses, float64 (S, S) each, by the sets tuned on and tested on; NaN for what is no pair."""
    sets = list(dict.fromkeys(name for pair in pairs for name in (pair.tuned_on, pair.tested_on)))
    distances, losses = np.full((2, len(sets), len(sets)), np.nan)
    for pair in pairs:
        row, column = sets.index(pair.tuned_on), sets.index(pair.tested_on)
        distances[row, column] = pair.distance
        distances[column, row] = pair.distance
        losses[row, column] = pair.loss.value
    return distances, losses
