"""Groups of a data set: the accuracy of each group and of the worst one, before and after tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rib.arrays import Flags
from rib.metrics.bootstrap import example_weights
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval, as_family
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.plan import Run
from rib.results.groups import over_seeds_if_whole, tuned_sets
from rib.results.inside.averages import pretrained
from rib.results.results import Results


@dataclass(frozen=True)
class GroupRow:
    """Accuracy of one group of a data set, averaged over tuned sets and seeds.

    Attributes:
        model, method, size: the row of the headline table.
        tested_on: the data set.
        own: whether the data set is the tuned set itself; otherwise the mean is over the other tuned sets.
        group: name of the group.
        images: number of test examples in the group.
        accuracy: masked accuracy, percent.
        change: change from the pretrained model, points; None for the pretrained model.
    """

    model: str
    method: str
    size: int | None
    tested_on: str
    own: bool
    group: str
    images: int
    accuracy: Interval
    change: Interval | None


@dataclass(frozen=True)
class WorstGroup:
    """The group with the lowest accuracy before tuning, and the one with the lowest after it; they may be the same.

    Attributes:
        model, method, size, tested_on, own: as in `GroupRow`.
        before, after: the groups.
        change: the lowest accuracy after tuning minus the lowest before, points; the changes of all rows are one family
            of tests (Holm). None for the pretrained model.
        groups: number of groups.
    """

    model: str
    method: str
    size: int | None
    tested_on: str
    own: bool
    before: GroupRow
    after: GroupRow
    change: Interval | None
    groups: int


def worst_groups(results: Results) -> list[WorstGroup]:
    """The worst group of every data set with groups, for every model, method and size with complete predictions."""
    found = [group.worst(results) for group in _found(results)]
    tested = as_family(row.change for row in found)
    return [replace(row, change=change) for row, change in zip(found, tested, strict=True)]


def group_rows(results: Results) -> Iterator[GroupRow]:
    """One row per group, for the same data sets and models."""
    for group in _found(results):
        yield from group.rows(results)


@dataclass(frozen=True)
class _Groups:
    """Estimates of the groups of one data set, before and after tuning; for a pretrained model both are the same."""

    model: str
    method: str
    size: int | None
    name: str
    own: bool
    images: Mapping[str, int]
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]

    def worst(self, results: Results) -> WorstGroup:
        rows, lowest = {row.group: row for row in self.rows(results)}, _lowest(self.after)
        first = _lowest(self.before)
        change = None if self.method == "pretrained" else interval_of(self.after[lowest] - self.before[first])
        start = replace(rows[first], accuracy=self.before[first].interval(), change=None)
        return WorstGroup(
            results.model_name(self.model), self.method, self.size, results.set_name(self.name), self.own, start,
            rows[lowest], change, len(rows),
        )  # fmt: skip

    def rows(self, results: Results) -> Iterator[GroupRow]:
        for group, estimate in self.after.items():
            change = None if self.method == "pretrained" else interval_of(minus(estimate, self.before[group]))
            yield GroupRow(
                results.model_name(self.model), self.method, self.size, results.set_name(self.name), self.own, group,
                self.images[group], estimate.interval(), change,
            )  # fmt: skip


def _lowest(estimates: Mapping[str, Estimate]) -> str:
    """The group with the lowest accuracy; of several, the first by name."""
    return min(estimates, key=lambda group: (estimates[group].value, group))


def _found(results: Results) -> Iterator[_Groups]:
    """Every data set with groups in the order of the suite, and for each, every model, method and size."""
    for name in results.suite.tested:
        index = results.plan.world[name].index("test")
        if index.groups is None:
            continue
        accuracies = _Accuracies(results, name)
        images = dict(zip(index.group_names, np.bincount(index.groups, minlength=len(index.group_names)), strict=True))
        counts = {group: int(count) for group, count in images.items() if count}
        for (model, method, size), runs in results.groups.items():
            start = accuracies.of(pretrained(results, runs[0]))
            if start is None:
                continue
            for own, chosen in ((False, [run for run in runs if run.tuned_on != name]),
                                (True, [run for run in runs if run.tuned_on == name])):  # fmt: skip
                after = _averaged(chosen, accuracies) if method != "pretrained" else start
                if chosen and after:
                    yield _Groups(model, method, size, name, own, counts, start, after)


def _averaged(runs: Sequence[Run], accuracies: _Accuracies) -> dict[str, Estimate] | None:
    """Accuracy of each group, averaged over seeds and then over tuned sets; None if a prediction is missing."""
    found: dict[str, Estimate] = {}
    of = {id(run): accuracies.of(run) for run in runs}
    for group in accuracies.groups:
        by_set = []
        for tuned_on in tuned_sets(runs):
            here = [run for run in runs if run.tuned_on == tuned_on]
            by_set.append(over_seeds_if_whole(here, [(of[id(run)] or {}).get(group) for run in here]))
        if (mean := mean_if_whole(by_set)) is None:
            return None
        found[group] = mean
    return found


class _Accuracies:
    """The accuracy of each group of one data set, as estimates that share their resamples with all others."""

    def __init__(self, results: Results, name: str) -> None:
        self._results, self._name = results, name
        self._data, self._index = results.plan.world[name], results.plan.world[name].index("test")
        assert self._index.groups is not None
        there = np.unique(self._index.groups).tolist()
        self._rows = {self._index.group_names[place]: self._index.groups == place for place in there}
        self._known: dict[str, dict[str, Estimate]] = {}

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that have examples."""
        return tuple(self._rows)

    def of(self, run: Run) -> dict[str, Estimate] | None:
        """Accuracy of each group, in percent; None if the prediction is missing."""
        right = self._results.accuracies.right(run, self._name)
        if right is None:
            return None
        key = run.scores[self._name].key
        if key not in self._known:
            self._known[key] = {group: self._share(rows, right) for group, rows in self._rows.items()}
        return self._known[key]

    def _share(self, rows: Flags, right: Flags) -> Estimate:
        cells = None if self._index.cells is None else self._index.cells[rows]
        weights = example_weights(cells, int(rows.sum()))
        bootstrap = self._results.accuracies.bootstrap
        return bootstrap.accuracies(self._data.units, self._index.sources[rows], weights, [right[rows]])[0]
