"""Groups: RI, mRI and mean accuracies over all runs of one model, method and size, as paired estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rib.metrics.estimates import Estimate, Seeds, mean, mean_over_seeds, robustness_improvement
from rib.metrics.intervals import Interval
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.plan import Plan, Run
from rib.results.accuracies import Accuracies
from rib.results.presence import ByClasses, Presence
from rib.results.rows import MATCHED, Group


def runs_by_group(plan: Plan) -> dict[Group, list[Run]]:
    """Runs by model, method and size, in the order of the suite."""
    grouped: dict[Group, list[Run]] = {}
    for run in plan.runs:
        grouped.setdefault((run.model, run.method, run.size), []).append(run)
    return grouped


class GroupEstimates:
    """Estimates of groups. An estimate is None if one of its predictions is missing; no mean leaves one out.

    All estimates use the same source images and tuning seeds, so their differences are paired.

    Args:
        plan: the runs and their data sets.
        accuracies: accuracies of the finished predictions.
        groups: the runs, by model, method and size.
    """

    def __init__(self, plan: Plan, accuracies: Accuracies, groups: Mapping[Group, Sequence[Run]]) -> None:
        self._plan, self._suite = plan, plan.suite
        self._accuracies, self._groups = accuracies, groups
        self._by_classes = ByClasses(plan, accuracies.bootstrap, accuracies.right)
        self._recent: dict[Group, dict[tuple[object, ...], Estimate | None]] = {}
        self._gains: dict[Group, float | None] = {}

    def _once(self, group: Group, what: tuple[object, ...], make: Callable[[], Estimate | None]) -> Estimate | None:
        """An estimate of a group, which is kept while no more than one other group is asked for: all would not fit."""
        known = self._recent[group] = self._recent.pop(group, {})  # the last used is last
        if len(self._recent) > 2:
            del self._recent[next(iter(self._recent))]
        if what not in known:
            known[what] = make()
        return known[what]

    # -- RI --------------------------------------------------------------------------------------------------------

    def mri(self, group: Group, kind: str = "masked") -> Estimate | None:
        """mRI: the mean of RI over the sets tuned on, in points."""
        sets = tuned_sets(self._groups[group])
        return self._once(group, (kind,), lambda: mean_if_whole([self.ri(group, name, kind) for name in sets]))

    def ri(self, group: Group, tuned_on: str, kind: str = "masked", disjoint: bool = False) -> Estimate | None:
        """RI after tuning on one data set, averaged over tuning seeds, in points.

        Args:
            group: model, method and size.
            tuned_on: the tuned set.
            kind: "masked" or "unmasked" accuracy.
            disjoint: use only sets of other source families; the result is None if there are none.
        """
        runs, what = self._runs(group, tuned_on), (tuned_on, kind, disjoint)
        return self._once(
            group, what, lambda: over_seeds_if_whole(runs, [self._ri_of(run, kind, disjoint) for run in runs])
        )

    def mri_disjoint(self, group: Group) -> Estimate | None:
        """The mean of all source-disjoint RIs that exist; None if a prediction of any RI is missing."""
        sets = tuned_sets(self._groups[group])
        if any(self.ri(group, name) is None for name in sets):
            return None
        known = [value for name in sets if (value := self.ri(group, name, disjoint=True)) is not None]
        return mean(known) if known else None

    def ri_by_presence(self, group: Group, tuned_on: str, presence: Presence) -> Estimate | None:
        """RI over images of the classes that the tuned set contains, or lacks, averaged over tuning seeds."""
        runs, what = self._runs(group, tuned_on), (tuned_on, presence)
        if presence == "present" and all(map(self._by_classes.lacks_none, runs)):
            return self.ri(group, tuned_on)
        return self._once(
            group, what, lambda: over_seeds_if_whole(runs, [self._by_classes.ri(run, presence) for run in runs])
        )

    def mri_by_presence(self, group: Group, presence: Presence) -> Estimate | None:
        """The mean of `ri_by_presence` over the tuned sets that have such images; None if mRI is missing."""
        if self.mri(group) is None:
            return None
        by_set = [self.ri_by_presence(group, name, presence) for name in tuned_sets(self._groups[group])]
        known = [estimate for estimate in by_set if estimate is not None]
        return mean(known) if known else None

    def compare(self, group: Group, other: Group) -> Interval | None:
        """mRI of one group minus that of another, paired, in points; None if either is missing or seeds differ."""
        same = {run.seed for run in self._groups[group]} == {run.seed for run in self._groups[other]}
        mine, theirs = self.mri(group), self.mri(other)
        return interval_of(mine - theirs if same and mine and theirs else None)

    def seed_spread(self, group: Group) -> float | None:
        """Standard deviation of mRI over tuning seeds, in points; None with fewer than two."""
        runs = self._groups[group]
        seeds = sorted({run.seed for run in runs if run.seed is not None})
        by_seed = [mean_if_whole([self._ri_of(run) for run in runs if run.seed == seed]) for seed in seeds]
        values = [estimate.value for estimate in by_seed if estimate]
        return float(np.std(values, ddof=1)) if len(values) == len(seeds) > 1 else None

    def _ri_of(self, run: Run, kind: str = "masked", disjoint: bool = False) -> Estimate | None:
        assert run.tuned_on is not None
        if disjoint and run.tuned_on not in self._suite.tested:
            return None  # the source images of the user's own data are unknown
        world = self._plan.world
        others = [
            name
            for name in self._suite.downstream
            if name != run.tuned_on and not (disjoint and world[name].family == world[run.tuned_on].family)
        ]
        before = {name: self.pretrained(run.model, name, kind) for name in others}
        after = {name: self._accuracies.of(run, name, kind) for name in others}
        if not others or None in before.values() or None in after.values():
            return None
        return robustness_improvement(before, after, others)  # type: ignore[arg-type]  # nothing is missing

    # -- accuracies, in percent --------------------------------------------------------------------------------------

    def pretrained(self, model: str, name: str, kind: str = "masked") -> Estimate | None:
        """Accuracy of the pretrained model on a data set."""
        return self._accuracies.of(self._groups[model, "pretrained", None][0], name, kind)

    def own_before(self, model: str) -> Estimate | None:
        """Mean accuracy of the pretrained model on the tuned sets that have unseen images."""
        tuned = dict.fromkeys(run.tuned_on for run in self._plan.runs if run.tuned_on)
        own = [name for name in tuned if self._plan.world[name].disjoint]
        return mean_if_whole([self.pretrained(model, name) for name in own])

    def ood_before(self, model: str) -> Estimate | None:
        """Mean accuracy of the pretrained model on the downstream sets."""
        return mean_if_whole([self.pretrained(model, name) for name in self._suite.downstream])

    def own(self, group: Group, before: bool = False) -> Estimate | None:
        """Mean accuracy on unseen images of the tuned sets, after tuning or before."""
        return self.on(group, None, before)

    def gain(self, group: Group) -> Estimate | None:
        """Mean change of accuracy on unseen images of the tuned sets, in points."""
        return minus(self.own(group), self.own(group, before=True))

    def ood(self, group: Group, before: bool = False) -> Estimate | None:
        """Mean accuracy on the downstream sets not tuned on, averaged over the tuned sets; after tuning or before."""
        means = []
        for tuned_on in tuned_sets(self._groups[group]):
            others = [name for name in self._suite.downstream if name != tuned_on]
            means.append(mean_if_whole([self._level(group, tuned_on, name, before) for name in others]))
        return mean_if_whole(means)

    def on(self, group: Group, name: str | None, before: bool = False) -> Estimate | None:
        """Accuracy on one data set, averaged over the tuned sets, after tuning or before.

        With `name` None, it is the accuracy of each run on its tuned set.
        """
        levels = []
        for tuned_on in tuned_sets(self._groups[group]):
            tested_on = name or tuned_on
            tested = tested_on in self._runs(group, tuned_on)[0].scores
            levels.append(self._level(group, tuned_on, tested_on, before) if tested else None)
        return mean_if_whole(levels)

    def change(self, group: Group, tuned_on: str, name: str) -> Estimate | None:
        """Change of accuracy on one data set after tuning on another, in points."""
        before, after = (self._level(group, tuned_on, name, before) for before in (True, False))
        return minus(after, before)

    def seen(self, group: Group) -> tuple[Estimate | None, Estimate | None]:
        """Accuracy on the tuning images themselves, before and after; None unless every set was tuned on whole."""
        if not all(run.seen for run in self._groups[group]):
            return None, None
        sets, after = tuned_sets(self._groups[group]), []
        for tuned_on in sets:
            runs = self._runs(group, tuned_on)
            after.append(over_seeds_if_whole(runs, [self._accuracies.of_step(run.seen) for run in runs]))
        return mean_if_whole([self.pretrained(group[0], tuned_on) for tuned_on in sets]), mean_if_whole(after)

    def matched(self, group: Group) -> bool | None:
        """Whether the gain of a group matches the largest gain of its model and size; None if that is unknown."""
        model, _, size = group
        rivals = [other for other in self._groups if other[::2] == (model, size) and other[1] != "pretrained"]
        gains = {other: gain for other in rivals if (gain := self._gain_value(other)) is not None}
        if group not in gains or len(gains) < len(rivals):
            return None
        best = max(gains, key=gains.__getitem__)
        own, most = self.gain(group), self.gain(best)
        assert own is not None
        assert most is not None
        return group == best or not (own - most / (1 / MATCHED)).interval().high < 0

    def _gain_value(self, group: Group) -> float | None:
        if group not in self._gains:
            found = self.gain(group)
            self._gains[group] = found.value if found else None
        return self._gains[group]

    def _runs(self, group: Group, tuned_on: str) -> list[Run]:
        return [run for run in self._groups[group] if run.tuned_on == tuned_on]

    def _level(self, group: Group, tuned_on: str, name: str, before: bool) -> Estimate | None:
        if before:
            return self.pretrained(group[0], name)
        runs = self._runs(group, tuned_on)
        return over_seeds_if_whole(runs, [self._accuracies.of(run, name) for run in runs])


def tuned_sets(runs: Sequence[Run]) -> list[str]:
    """The tuned sets, in order, each once."""
    return list(dict.fromkeys(run.tuned_on for run in runs if run.tuned_on is not None))


def over_seeds(runs: Sequence[Run], estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one estimate per run of one tuned set over their seeds, the same draws in every row of a report.

    A checkpoint from elsewhere has no known seed, so it is treated as fixed.
    """
    if any(run.seed is None for run in runs):
        return mean(estimates)
    return mean_over_seeds(estimates, Seeds("tuning", tuple(run.seed or 0 for run in runs)), runs[0].tuned_on or "")


def over_seeds_if_whole(runs: Sequence[Run], estimates: Sequence[Estimate | None]) -> Estimate | None:
    """`over_seeds`; None if an estimate is missing or if there are no runs."""
    present = [estimate for estimate in estimates if estimate is not None]
    return over_seeds(runs, present) if present and len(present) == len(estimates) else None
