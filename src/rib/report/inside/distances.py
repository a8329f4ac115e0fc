"""Distances between data sets against what tuning on one costs on the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rib.analysis.correlation import mantel
from rib.analysis.distance import Distance
from rib.metrics import Floats, Interval
from rib.names import Names
from rib.report.results import Change, Results, Seen


@dataclass(frozen=True)
class Pair:
    """A downstream set tuned on and another tested on.

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
        pairs: of downstream sets whose change of accuracy is known.
        spearman, pearson: correlation over the pairs, tested by permuting the sets; None where undefined.
        spearman_p, pearson_p: its p value, two-sided.
    """

    analysis: str
    measure: str
    model: str
    method: str
    size: int | None
    pairs: tuple[Pair, ...]
    spearman: Interval | None
    pearson: Interval | None
    spearman_p: float | None
    pearson_p: float | None


def distance_losses(results: Results) -> Iterator[DistanceLoss]:
    """Of every measured model, every measure and every tuned group."""
    changes: dict[tuple[str, str, int | None], list[Change]] = {}
    for change in results.changes:
        if change.role == "downstream" and change.method != "pretrained" and change.change:
            changes.setdefault((change.model, change.method, change.size), []).append(change)
    for seen in results.seen(Distance):
        for (model, method, size), found in changes.items():
            if model == results.suite.model_names.short(seen.run.model):
                for measure in ("frechet", "mmd", "otdd"):
                    if measure in seen.values:
                        yield _compared(results.suite.set_names, seen, measure, (model, method, size), found)


def _compared(
    names: Names, seen: Seen, measure: str, group: tuple[str, str, int | None], changes: list[Change]
) -> DistanceLoss:
    matrix: list[list[Any]] = seen.values[measure]
    place = {names.short(name): at for at, name in enumerate(seen.values["sets"])}
    pairs = tuple(
        Pair(
            change.tuned_on,
            change.tested_on,
            matrix[place[change.tuned_on]][place[change.tested_on]],
            change.change.times(-1),
        )
        for change in changes
        if change.change and change.tuned_on in place and change.tested_on in place
    )
    distances, losses = as_matrices(pairs)
    spearman, pearson = (mantel([distances], [losses], ranked) for ranked in (True, False))
    p_values = (found.p if found else None for found in (spearman, pearson))
    return DistanceLoss(seen.name, measure, *group, pairs, spearman, pearson, *p_values)


def as_matrices(pairs: Sequence[Pair]) -> tuple[Floats, Floats]:
    """Distances and losses, float64 (S, S) each, by the sets tuned on and tested on; NaN for what is no pair."""
    sets = list(dict.fromkeys(name for pair in pairs for name in (pair.tuned_on, pair.tested_on)))
    distances, losses = np.full((2, len(sets), len(sets)), np.nan)
    for pair in pairs:
        row, column = sets.index(pair.tuned_on), sets.index(pair.tested_on)
        distances[row, column] = pair.distance
        distances[column, row] = pair.distance
        losses[row, column] = pair.loss.value
    return distances, losses
