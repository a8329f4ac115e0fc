"""Effective robustness: accuracy beyond the value that the accuracy on the reference set predicts, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rib.analysis.effective import SENSIBLE, Line, deviations, fit_line
from rib.analysis.imagenet_lines import shipped_lines
from rib.errors import UserError
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval
from rib.results.inside.averages import OTHERS
from rib.results.results import Results
from rib.results.rows import Summary

OWN_LINE = "the suite's pretrained models"
PUBLISHED_LINE = "published ImageNet models"


@dataclass(frozen=True)
class EffectivePoint:
    """One row of the headline table.

    Attributes:
        model, method: the group; the method may be "pretrained".
        reference: accuracy on the reference set, in percent.
        accuracy: accuracy on the test set, in percent.
        above: distance above the line, in points. Its interval covers the uncertainty of the line; for a published
            line,
            whose uncertainty is negligible, it is the value alone.
        change: `above` minus that of the pretrained model, paired; None for the pretrained model.
    """

    model: str
    method: str
    reference: float
    accuracy: float
    above: Interval
    change: Interval | None


@dataclass(frozen=True)
class EffectiveRobustness:
    """Models of one size and one line.

    Attributes:
        tested_on: a data set, or the mean over the other downstream sets.
        source: origin of the line.
        size: number of tuning images.
        line: the line, on the probit scale.
        sensible: whether the line has enough models to be meaningful.
        points: pretrained and tuned models.
    """

    tested_on: str
    source: str
    size: int | None
    line: Line
    sensible: bool
    points: tuple[EffectivePoint, ...]


@dataclass(frozen=True)
class _Place:
    row: Summary
    reference: float
    accuracy: float


def effective_robustness(results: Results) -> Iterator[EffectiveRobustness]:
    """Effective robustness for every available line: through the suite's pretrained models, and published lines."""
    suite = results.suite
    published = {each.tested_on: each.line for each in shipped_lines() if each.reference == "imagenet"}
    levels = _levels(results)
    for name in (OTHERS, *suite.downstream, *suite.evaluate):
        places = _places(results, levels, results.set_name(name))
        starts = [place for place in places if place.row.method == "pretrained"]
        for size in dict.fromkeys(place.row.size for place in places if place.row.method != "pretrained"):
            shown = [
                *starts,
                *(place for place in places if place.row.method != "pretrained" and place.row.size == size),
            ]
            if name in published and suite.reference == "imagenet:val":
                yield _about(published[name], results.set_name(name), size, shown)
            try:
                yield _through(starts, results.set_name(name), size, shown)
            except UserError:  # too few models for a line
                continue


def _levels(results: Results) -> dict[tuple[str, str, int | None, str], list[float | None]]:
    """Accuracies by model, method, size and test set. A set never counts as the test set of a model tuned on it."""
    levels: dict[tuple[str, str, int | None, str], list[float | None]] = {}
    for score in results.scores:
        if score.role not in ("own", "seen"):
            place = (score.model, score.method, score.size, score.tested_on)
            levels.setdefault(place, []).append(score.masked)
    return levels


def _places(
    results: Results, levels: dict[tuple[str, str, int | None, str], list[float | None]], name: str
) -> list[_Place]:
    places = []
    for row in results.summaries:
        found = levels.get((row.model, row.method, row.size, name), [])
        level = row.ood_after.value if name == OTHERS and row.ood_after else None
        if found and None not in found:
            level = float(np.mean([value for value in found if value is not None]))
        if level is not None and row.reference_after:
            places.append(_Place(row, row.reference_after.value, level))
    return places


def _through(starts: list[_Place], name: str, size: int | None, shown: list[_Place]) -> EffectiveRobustness:
    x, y = (np.array([getattr(place, axis) for place in starts]) for axis in ("reference", "accuracy"))
    of_x, of_y = (np.array([getattr(place, axis) for place in shown]) for axis in ("reference", "accuracy"))
    points = _points(shown, deviations(x, y, of_x, of_y))
    return EffectiveRobustness(name, OWN_LINE, size, fit_line(x, y), len(starts) >= SENSIBLE, points)


def _about(line: Line, name: str, size: int | None, shown: list[_Place]) -> EffectiveRobustness:
    above = [float(line.deviation(place.reference, place.accuracy)) for place in shown]
    points = _points(shown, [Estimate(value, np.array([value])) for value in above])
    return EffectiveRobustness(name, PUBLISHED_LINE, size, line, True, points)


def _points(shown: list[_Place], above: list[Estimate]) -> tuple[EffectivePoint, ...]:
    """The distance of each model above a line, and its change from its pretrained model if that is shown."""
    pairs = list(zip(shown, above, strict=True))
    before = {place.row.model: found for place, found in pairs if place.row.method == "pretrained"}
    return tuple(
        EffectivePoint(
            place.row.model,
            place.row.method,
            place.reference,
            place.accuracy,
            found.interval(),
            (found - before[place.row.model]).interval()
            if place.row.method != "pretrained" and place.row.model in before
            else None,
        )
        for place, found in pairs
    )
