"""Churn: images that became wrong or right through tuning, by data set and by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.analysis.churn import Churn, churn_by_class
from rib.metrics.bootstrap import example_weights
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval
from rib.plan import Run
from rib.results.inside.averages import OTHERS, average, cells, pretrained, tested_on, tuned_groups
from rib.results.results import Results

WORST = 6
"""Number of classes that a report names."""

AT_ONCE = 50_000_000
"""Maximum number of answers in memory together: of many models on a small data set, of few on a large one."""


@dataclass(frozen=True)
class ChurnRow:
    """Shares of test images whose answer became wrong or right, in percent, with 95 % intervals as for mRI.

    Attributes:
        model, method, size: the group.
        tested_on: a data set, or the name of an average.
        lost: right before, wrong after.
        gained: wrong before, right after.
    """

    model: str
    method: str
    size: int | None
    tested_on: str
    lost: Interval
    gained: Interval


@dataclass(frozen=True)
class ClassLoss:
    """Losses and gains of one class, in images.

    Attributes:
        name: name of the class.
        images: test images, summed over tuned sets, other downstream sets and seeds.
        lost: right before, wrong after.
        gained: wrong before, right after.
    """

    name: str
    images: int
    lost: int
    gained: int

    @property
    def net(self) -> float:
        """Change of accuracy in points."""
        return 100 * (self.gained - self.lost) / self.images


@dataclass(frozen=True)
class WorstClasses:
    """The classes with the largest losses on the other downstream sets, worst first; empty if no class lost an
    image."""

    model: str
    method: str
    size: int | None
    classes: tuple[ClassLoss, ...]


def churn_rows(results: Results) -> Iterator[ChurnRow]:
    """Churn of every tuned group with complete predictions, before and after."""
    found = _Found(results)
    for (model, method, size), runs in tuned_groups(results):
        for on in tested_on(results):
            lost = average(results, runs, on, found.lost)
            gained = average(results, runs, on, found.gained)
            if lost and gained:
                yield ChurnRow(results.model_name(model), method, size, on, lost.interval(), gained.interval())


class _Found:
    """The churn of every tuned model on every data set, computed one data set at a time."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._churn: dict[str, Churn] = {}
        for name in results.suite.tested:
            self._look_at(name)

    def lost(self, run: Run, name: str) -> Estimate | None:
        churn = self._of(run, name)
        return churn.lost if churn else None

    def gained(self, run: Run, name: str) -> Estimate | None:
        churn = self._of(run, name)
        return churn.gained if churn else None

    def _of(self, run: Run, name: str) -> Churn | None:
        return self._churn.get(run.scores[name].key) if name in run.scores else None

    def _look_at(self, name: str) -> None:
        data, index = self.results.plan.world[name], self.results.plan.world[name].index("test")
        weights = example_weights(index.cells, len(index))
        runs = {run.scores[name].key: run for run in self.results.plan.runs if run.tuned_on and name in run.scores}
        step = max(1, AT_ONCE // len(index))
        for first in range(0, len(runs), step):
            keys = list(runs)[first : first + step]
            known = {key: answers for key in keys if (answers := _answers(self.results, runs[key], name))}
            flags = [pair for before, after in known.values() for pair in (before & ~after, ~before & after)]
            if flags:
                found = self.results.accuracies.bootstrap.accuracies(
                    data.units, index.sources, weights, np.stack(flags)
                )
                self._churn |= {key: Churn(*found[2 * at : 2 * at + 2]) for at, key in enumerate(known)}


def _answers(results: Results, run: Run, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Which images the pretrained and the tuned model get right; None if a prediction is missing."""
    before, after = results.accuracies.right(pretrained(results, run), name), results.accuracies.right(run, name)
    return None if before is None or after is None else (before, after)


def worst_classes(results: Results) -> Iterator[WorstClasses]:
    """The worst classes of every tuned group with complete predictions on the other downstream sets."""
    for (model, method, size), runs in tuned_groups(results):
        counts = _class_counts(results, runs)
        if counts is not None:
            losses = (ClassLoss(name, *row.tolist()) for name, row in counts.items())
            worst = sorted((loss for loss in losses if loss.lost > loss.gained), key=lambda loss: loss.net)
            yield WorstClasses(results.model_name(model), method, size, tuple(worst[:WORST]))


def _class_counts(results: Results, runs: Sequence[Run]) -> dict[str, NDArray[Any]] | None:
    """Images, lost and gained, summed by the name of the class; None if a prediction is missing."""
    counts: dict[str, NDArray[Any]] = {}
    for run in runs:
        for name in cells(results, run, OTHERS):
            answers = _answers(results, run, name)
            if answers is None:
                return None
            data = results.plan.world[name]
            found = churn_by_class(*answers, data.index("test").labels, len(data.classes))
            for place, label in enumerate(data.classes):
                row = np.array([found.images[place], found.lost[place], found.gained[place]])
                counts[label] = counts.get(label, 0) + row
    return {label: row for label, row in counts.items() if row[0]}
