"""Results: what a plan's records say, as values. A pure function of plan and store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.analysis import Analysis
from rib.errors import UserError
from rib.metrics.estimates import (
    Bootstrap,
    Estimate,
    Interval,
    Seeds,
    example_weights,
    mean,
    mean_over_seeds,
    robustness_improvement,
)
from rib.metrics.intervals import as_family
from rib.plan import Plan, Run
from rib.results.orders import order_faults
from rib.results.presence import ByClasses, Presence
from rib.steps import Predict, Step, distinct
from rib.store.record import Record, unpack_bits
from rib.store.store import Store


@dataclass(frozen=True)
class Score:
    """Accuracy of one model on one data set. Percent; None where the prediction is missing.

    Attributes:
        model, method, size, seed, tuned_on: which model; size None means all, tuned_on None means pretrained.
        tested_on: the data set.
        role: "downstream", "own" (unseen images of the set tuned on), "seen" (the very images tuned on, of a set
            that is tuned on whole), "reference" or "evaluate".
        masked: over the data set's own classes, in percent.
        unmasked: over all of the model's classes, in percent.
        examples: number of images.
        label_map: name of the label map.
    """

    model: str
    method: str
    size: int | None
    seed: int | None
    tuned_on: str | None
    tested_on: str
    role: str
    masked: float | None
    unmasked: float | None
    examples: int
    label_map: str


@dataclass(frozen=True)
class Summary:
    """One row of the headline table: a model, a method and a size, over all downstream sets and seeds.

    Every number is None where a cell it needs is missing. Accuracies are masked unless said otherwise.

    Attributes:
        model, method, size: which.
        seeds: the seeds it is a mean over; empty for the pretrained model.
        mri: mean RI over the downstream sets, points.
        mri_disjoint: the same over source-disjoint RIs.
        mri_unmasked: mRI of unmasked accuracy.
        mri_present, mri_absent: mean of `ri_present` and of `ri_absent` over the sets tuned on that have them.
        seed_spread: standard deviation of mRI over seeds, points; None with fewer than two.
        ri: RI by downstream set, points.
        ri_disjoint: RI over the sets of other source families only, points; None where there are none.
        ri_present: RI over the test images whose class the set tuned on shows, points; equal to RI where it lacks none.
        ri_absent: RI over those whose class it lacks; None where it lacks none. See `rib.results.presence`.
        ood_before, ood_after: mean accuracy on the other downstream sets, averaged over what was tuned on, percent.
        own_before, own_after: mean accuracy on the held-out part of the set tuned on, percent.
        gain: own_after minus own_before, paired, points.
        seen_before, seen_after: mean accuracy on the very images tuned on, where sets are tuned on whole, percent.
        seen_gain: seen_after minus seen_before, paired, points. It says how well the images are learned, or learned by
            heart, and ranks nothing.
        matched: whether `gain` is not distinguishably below `MATCHED` of the largest gain of its model and size.
        at_chance: sets on which a training ended no better than one class for every answer, with the seed.
        reference_before, reference_after: accuracy on the reference set, percent.
        evaluate: by evaluation-only set, accuracy (before, after), percent.
        against_finetune: mRI minus that of `finetune` at the same model, size and seeds, points.
        missing: what is missing, in words.
    """

    model: str
    method: str
    size: int | None
    seeds: tuple[int, ...]
    mri: Interval | None = None
    mri_disjoint: Interval | None = None
    mri_unmasked: Interval | None = None
    mri_present: Interval | None = None
    mri_absent: Interval | None = None
    seed_spread: float | None = None
    ri: dict[str, Interval | None] = None  # type: ignore[assignment]
    ri_disjoint: dict[str, Interval | None] = None  # type: ignore[assignment]
    ri_present: dict[str, Interval | None] = None  # type: ignore[assignment]
    ri_absent: dict[str, Interval | None] = None  # type: ignore[assignment]
    ood_before: Interval | None = None
    ood_after: Interval | None = None
    own_before: Interval | None = None
    own_after: Interval | None = None
    gain: Interval | None = None
    seen_before: Interval | None = None
    seen_after: Interval | None = None
    seen_gain: Interval | None = None
    matched: bool | None = None
    at_chance: tuple[str, ...] = ()
    reference_before: Interval | None = None
    reference_after: Interval | None = None
    evaluate: dict[str, tuple[Interval | None, Interval | None]] = None  # type: ignore[assignment]
    against_finetune: Interval | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One cell of the change matrix: mean over seeds of the accuracy change in points; None where missing."""

    model: str
    method: str
    size: int | None
    tuned_on: str
    tested_on: str
    role: str
    change: Interval | None


@dataclass(frozen=True)
class ResultNote:
    """A method's notes from making a model: losses, its choices and their reasons."""

    model: str
    method: str
    size: int | None
    seed: int | None
    tuned_on: str
    values: dict[str, float | str | list[float]]


@dataclass(frozen=True)
class SeenSet:
    """The values of an analysis in a run.

    Attributes:
        name: of the analysis, as the suite has it.
        run: the model.
        on: the data sets it looked at.
        values: what it found.
    """

    name: str
    run: Run
    on: tuple[str, ...]
    values: dict[str, Any]


MATCHED = 0.9
"""Methods are ranked by what they keep elsewhere among those that gained this share of the largest gain on the set
tuned on, or are not distinguishable from it: a method that learns little loses little, and that is no merit."""

Group = tuple[str, str, int | None]
"""model, method, size"""


class Results:
    """The results in a plan's records.

    Args:
        plan: the plan.
        store: its records.
        draws: bootstrap resamples.
    """

    def __init__(self, plan: Plan, store: Store, draws: int = 2000) -> None:
        self.plan, self.suite, self.store = plan, plan.suite, store
        self.draws = draws

    # -- what things are called ----------------------------------------------------------------------------------

    def set_name(self, name: str) -> str:
        """Name of a data set of the suite in tables: short if no other has that name."""
        return self.suite.set_names.short(name)

    def model_name(self, name: str) -> str:
        """Name of a model of the suite in tables: short if no other has that name."""
        return self.suite.model_names.short(name)

    # -- what is there -------------------------------------------------------------------------------------------

    @cached_property
    def records(self) -> dict[str, Record]:
        """Record of every finished step of the plan, by key."""
        found = {step.key: self.store.record(step.key) for step in self.plan.steps}
        return {key: record for key, record in found.items() if record is not None}

    @cached_property
    def failures(self) -> dict[str, str]:
        """Title and reason of every step that failed when it was last tried."""
        failed: dict[str, str] = {}
        for step in self.unfinished():
            if reason := self.store.failure(step.key):
                failed[distinct(step, failed)] = reason
        return failed

    @cached_property
    def groups(self) -> dict[Group, list[Run]]:
        """Runs by model, method and size, in the order of the suite."""
        grouped: dict[Group, list[Run]] = {}
        for run in self.plan.runs:
            grouped.setdefault((run.model, run.method, run.size), []).append(run)
        return grouped

    def role(self, run: Run, tested_on: str) -> str:
        """Role of a data set for a run."""
        if tested_on == run.tuned_on:
            return "own" if tested_on in run.scores else "seen"
        if tested_on in self.suite.downstream:
            return "downstream"
        return "reference" if tested_on == self.suite.reference else "evaluate"

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """Caveats for readers: incomplete copies, a wrong label map, another order of classes, excluded files."""
        of_data = (
            f"{self.set_name(name)}: {data.caveat or data.map_name}"
            for name in self.suite.tested
            if (data := self.plan.world[name]).caveat or data.map_warning
        )
        return (*of_data, *self.plan.world.left_out, *order_faults(self.plan, self.records, self.store))

    # -- numbers -------------------------------------------------------------------------------------------------

    @cached_property
    def scores(self) -> list[Score]:
        """Accuracy of every model on every data set it is scored on."""
        return [self._score(run, *scored) for run in self.plan.runs for scored in run.predictions]

    def _score(self, run: Run, name: str, predict: Predict) -> Score:
        masked, unmasked = (self._accuracies[kind].get(predict.key) for kind in ("masked", "unmasked"))
        return Score(
            model=self.model_name(run.model),
            method=run.method,
            size=run.size,
            seed=run.seed,
            tuned_on=self.set_name(run.tuned_on) if run.tuned_on else None,
            tested_on=self.set_name(name),
            role=self.role(run, name),
            masked=masked.value if masked else None,
            unmasked=unmasked.value if unmasked else None,
            examples=len(self.plan.world[name].index("test")),
            label_map=predict.data.label_map.name,
        )

    @cached_property
    def notes(self) -> list[ResultNote]:
        """The methods' notes, one entry per tuned model."""
        return [
            ResultNote(
                self.model_name(run.model),
                run.method,
                run.size,
                run.seed,
                self.set_name(run.tuned_on),
                self.records[run.fit.key].values,
            )
            for run in self.plan.runs
            if run.tuned_on and run.fit.key in self.records and self.records[run.fit.key].values
        ]

    def seen(self, analysis: type[Analysis]) -> list[SeenSet]:
        """The values of all finished analyses of a kind, in the order of the suite."""
        return [
            SeenSet(look.name, look.run, look.on, self.records[look.step.key].values)
            for look in self.plan.looks
            if isinstance(look.step.analysis, analysis) and look.step.key in self.records
        ]

    @cached_property
    def summaries(self) -> list[Summary]:
        """The headline table, in the order of the suite; each kind of mark is one family of tests (Holm)."""
        rows = [self._summary(group) for group in self.groups]
        zero = as_family(row.mri for row in rows)
        against = [row.against_finetune for row in rows]
        tested = iter(as_family(each if each and each.tests else None for each in against))
        compared = [found or each for each, found in zip(against, tested, strict=True)]
        return [
            replace(row, mri=mri, against_finetune=other) for row, mri, other in zip(rows, zero, compared, strict=True)
        ]

    @cached_property
    def changes(self) -> list[Change]:
        """Every cell of the change matrix; the cells of one model, method and size are one family of tests (Holm)."""
        return [change for group in self.groups for change in self._matrix(group)]

    def _matrix(self, group: Group) -> list[Change]:
        model, method, size = group
        cells = [
            Change(
                self.model_name(model),
                method,
                size,
                self.set_name(tuned_on),
                self.set_name(name),
                role,
                _interval(change),
            )
            for tuned_on in _tuned_on(self.groups[group])
            for name, role, change in self._changes(
                model, [run for run in self.groups[group] if run.tuned_on == tuned_on]
            )
        ]
        found = as_family(cell.change for cell in cells)
        return [replace(cell, change=change) for cell, change in zip(cells, found, strict=True)]

    def _changes(self, model: str, runs: list[Run]) -> Iterable[tuple[str, str, Estimate | None]]:
        for name in runs[0].scores:
            before = self._before(model, name)
            after = self._over_seeds(runs, [self._after(run, name) for run in runs])
            yield name, self.role(runs[0], name), after - before if before and after else None

    def _summary(self, group: Group) -> Summary:
        model, method, size = group
        runs = self.groups[group]
        if method == "pretrained":
            return self._baseline(group)
        ri = {name: self._ri_over_seeds(runs, name) for name in _tuned_on(runs)}
        disjoint = {name: self._ri_over_seeds(runs, name, disjoint=True) for name in ri}
        usable = [value for value in disjoint.values() if value is not None]
        seeds = tuple(sorted({run.seed for run in runs if run.seed is not None}))
        before, after = self._seen(runs)
        return Summary(
            model=self.model_name(model),
            method=method,
            size=size,
            seeds=seeds,
            mri=_interval(self.mri(group)),
            mri_disjoint=_interval(mean(usable) if usable and None not in ri.values() else None),
            mri_unmasked=_interval(self.mri(group, kind="unmasked")),
            mri_present=_interval(self.mri_by_presence(group, "present")),
            mri_absent=_interval(self.mri_by_presence(group, "absent")),
            seed_spread=self._spread(runs),
            ri=dict(zip(map(self.set_name, ri), as_family(_interval(value) for value in ri.values()), strict=True)),
            ri_disjoint={self.set_name(name): _interval(value) for name, value in disjoint.items()},
            ri_present=self._ri_intervals(group, "present"),
            ri_absent=self._ri_intervals(group, "absent"),
            ood_before=_interval(self._ood(runs, before=True)),
            ood_after=_interval(self._ood(runs, before=False)),
            own_before=self._mean_of(runs, None, before=True),
            own_after=self._mean_of(runs, None, before=False),
            gain=_interval(self.gain(group)),
            seen_before=_interval(before),
            seen_after=_interval(after),
            seen_gain=_interval(after - before if before is not None and after is not None else None),
            matched=self._matched(group),
            at_chance=self.at_chance(runs),
            reference_before=self._mean_of(runs, self.suite.reference, before=True),
            reference_after=self._mean_of(runs, self.suite.reference, before=False),
            evaluate={
                self.set_name(name): (
                    self._mean_of(runs, name, before=True),
                    self._mean_of(runs, name, before=False),
                )
                for name in self.suite.evaluate
            },
            against_finetune=self._against_finetune(group),
            missing=self._missing(runs),
        )

    def _baseline(self, group: Group) -> Summary:
        model, method, size = group
        runs = self.groups[group]
        before = [self._before(model, name) for name in self.suite.downstream]
        level = _interval(_mean_or_none(before))
        reference = _interval(self._before(model, self.suite.reference))
        return Summary(
            model=self.model_name(model),
            method=method,
            size=size,
            seeds=(),
            ri={},
            ri_disjoint={},
            ri_present={},
            ri_absent={},
            ood_before=level,
            ood_after=level,
            reference_before=reference,
            reference_after=reference,
            evaluate={
                self.set_name(name): (_interval(self._before(model, name)), _interval(self._before(model, name)))
                for name in self.suite.evaluate
            },
            missing=self._missing(runs),
        )

    def mri(self, group: Group, kind: str = "masked") -> Estimate | None:
        """mRI of a group over its seeds, with draws that are paired with those of every other; None with a hole."""
        runs = self.groups[group]
        return _mean_or_none([self._ri_over_seeds(runs, name, kind=kind) for name in _tuned_on(runs)])

    def ri(self, group: Group, tuned_on: str) -> Estimate | None:
        """RI of a group tuned on one data set over its seeds, with draws that are paired with those of every other."""
        return self._ri_over_seeds(self.groups[group], tuned_on)

    def ri_by_presence(self, group: Group, tuned_on: str, presence: Presence) -> Estimate | None:
        """RI over the images of the classes that the set tuned on shows, or lacks, over its seeds."""
        runs = [run for run in self.groups[group] if run.tuned_on == tuned_on]
        return self._over_seeds(runs, [self._by_classes.ri(run, presence) for run in runs])

    def mri_by_presence(self, group: Group, presence: Presence) -> Estimate | None:
        """Mean of `ri_by_presence` over the sets tuned on that have such images; None with a hole in mRI."""
        if self.mri(group) is None:
            return None
        by_set = [self.ri_by_presence(group, name, presence) for name in _tuned_on(self.groups[group])]
        known = [estimate for estimate in by_set if estimate is not None]
        return mean(known) if known else None

    def _ri_intervals(self, group: Group, presence: Presence) -> dict[str, Interval | None]:
        sets = _tuned_on(self.groups[group])
        return {self.set_name(name): _interval(self.ri_by_presence(group, name, presence)) for name in sets}

    def own(self, group: Group) -> Estimate | None:
        """Accuracy in percent on unseen images of the set tuned on, averaged over what was tuned on."""
        return self._mean_level(self.groups[group], None, before=False)

    def gain(self, group: Group) -> Estimate | None:
        """Change of accuracy on unseen images of the set tuned on, in points, averaged over what was tuned on."""
        before, after = (self._mean_level(self.groups[group], None, before=before) for before in (True, False))
        return after - before if before is not None and after is not None else None

    def _seen(self, runs: list[Run]) -> tuple[Estimate | None, Estimate | None]:
        """Accuracy on the very images tuned on, before and after; None unless every set was tuned on whole."""
        if not all(run.seen for run in runs):
            return None, None
        after = []
        for tuned_on in _tuned_on(runs):
            mine = [run for run in runs if run.tuned_on == tuned_on]
            found = [self._accuracies["masked"].get(run.seen.key) for run in mine if run.seen]
            after.append(self._over_seeds(mine, found))
        before = [self._before(runs[0].model, tuned_on) for tuned_on in _tuned_on(runs)]
        return _mean_or_none(before), _mean_or_none(after)

    def _matched(self, group: Group) -> bool | None:
        """Whether a method learned as much as the one that learned most; None where that is not known."""
        model, _, size = group
        mine = self.gain(group)
        gains = [self.gain(other) for other in self.groups if other[::2] == (model, size) and other[1] != "pretrained"]
        known = [gain for gain in gains if gain is not None]
        if mine is None or len(known) < len(gains):
            return None
        most = max(known, key=lambda gain: gain.value)
        return mine is most or not (mine - most / (1 / MATCHED)).interval().high < 0

    def at_chance(self, runs: Sequence[Run]) -> tuple[str, ...]:
        """Sets on which a training of these runs ended at chance, as its record says; with the seed of several."""
        several = len({run.seed for run in runs}) > 1
        found = [run for run in runs if (record := self.records.get(run.fit.key)) and record.values.get("at_chance")]
        return tuple(self.set_name(str(run.tuned_on)) + (f" (seed {run.seed})" if several else "") for run in found)

    def ood(self, group: Group) -> Estimate | None:
        """Accuracy in percent on the downstream sets not tuned on, averaged over what was tuned on."""
        return self._ood(self.groups[group], before=False)

    def own_before(self, model: str) -> Estimate | None:
        """Accuracy in percent of the pretrained model on the sets tuned on that have images of their own to test."""
        own = [name for name in self.suite.roles.tuned if self.plan.world[name].disjoint]
        return _mean_or_none([self._before(model, name) for name in own])

    def ood_before(self, model: str) -> Estimate | None:
        """Mean accuracy in percent of the pretrained model on the downstream sets."""
        return _mean_or_none([self._before(model, name) for name in self.suite.downstream])

    def _spread(self, runs: list[Run]) -> float | None:
        seeds = sorted({run.seed for run in runs if run.seed is not None})
        by_seed = [_mean_or_none([self._ri(run) for run in runs if run.seed == seed]) for seed in seeds]
        values = [estimate.value for estimate in by_seed if estimate]
        return float(np.std(values, ddof=1)) if len(values) == len(seeds) > 1 else None

    def compare(self, group: Group, other: Group) -> Interval | None:
        """mRI of one group minus that of another, paired, in points; None where either is missing or seeds differ."""
        same = {run.seed for run in self.groups[group]} == {run.seed for run in self.groups[other]}
        mine, theirs = self.mri(group), self.mri(other)
        return _interval(mine - theirs if same and mine and theirs else None)

    def _against_finetune(self, group: Group) -> Interval | None:
        model, method, size = group
        other = (model, "finetune", size)
        return None if method == "finetune" or other not in self.groups else self.compare(group, other)

    def _ri_over_seeds(
        self, runs: list[Run], tuned_on: str, kind: str = "masked", disjoint: bool = False
    ) -> Estimate | None:
        mine = [run for run in runs if run.tuned_on == tuned_on]
        return self._over_seeds(mine, [self._ri(run, kind, disjoint) for run in mine])

    def _over_seeds(self, runs: Sequence[Run], estimates: Sequence[Estimate | None]) -> Estimate | None:
        present = [estimate for estimate in estimates if estimate is not None]
        return over_seeds(runs, present) if present and len(present) == len(estimates) else None

    def _ri(self, run: Run, kind: str = "masked", disjoint: bool = False) -> Estimate | None:
        assert run.tuned_on is not None
        if disjoint and run.tuned_on not in self.suite.tested:
            return None  # tuned on the user's own data: their source images are unknown
        world = self.plan.world
        others = [
            name
            for name in self.suite.downstream
            if name != run.tuned_on and not (disjoint and world[name].family == world[run.tuned_on].family)
        ]
        before = {name: self._before(run.model, name, kind) for name in others}
        after = {name: self._after(run, name, kind) for name in others}
        if not others or None in before.values() or None in after.values():
            return None
        return robustness_improvement(before, after, others)  # type: ignore[arg-type]  # no hole is left

    def _ood(self, runs: list[Run], before: bool) -> Estimate | None:
        """Mean accuracy on the sets not tuned on, averaged over what was tuned on."""
        means = []
        for tuned_on in _tuned_on(runs):
            others = [name for name in self.suite.downstream if name != tuned_on]
            means.append(_mean_or_none([self._level(runs, tuned_on, name, before) for name in others]))
        return _mean_or_none(means)

    def _mean_of(self, runs: list[Run], name: str | None, before: bool) -> Interval | None:
        return _interval(self._mean_level(runs, name, before))

    def _mean_level(self, runs: list[Run], name: str | None, before: bool) -> Estimate | None:
        """Accuracy on a data set (None: on the set tuned on), averaged over what was tuned on."""
        levels = []
        for tuned_on in _tuned_on(runs):
            run = next(run for run in runs if run.tuned_on == tuned_on)
            tested_on = name or tuned_on
            levels.append(self._level(runs, tuned_on, tested_on, before) if tested_on in run.scores else None)
        return _mean_or_none(levels)

    def _level(self, runs: list[Run], tuned_on: str, name: str, before: bool) -> Estimate | None:
        if before:
            return self._before(runs[0].model, name)
        mine = [run for run in runs if run.tuned_on == tuned_on]
        return self._over_seeds(mine, [self._after(run, name) for run in mine])

    def _before(self, model: str, name: str, kind: str = "masked") -> Estimate | None:
        return self._after(self.groups[model, "pretrained", None][0], name, kind)

    def _after(self, run: Run, name: str, kind: str = "masked") -> Estimate | None:
        return self._accuracies[kind].get(run.scores[name].key) if name in run.scores else None

    def _missing(self, runs: list[Run]) -> tuple[str, ...]:
        return tuple(
            f"{self.set_name(run.tuned_on or 'pretrained')} → "
            + ("the images tuned on" if predict is run.seen else self.set_name(name))
            for run in runs
            for name, predict in run.predictions
            if predict.key not in self.records
        )

    # -- accuracies with their draws -----------------------------------------------------------------------------

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resamples of source images that every interval of this report comes from."""
        bootstrap = Bootstrap(self.draws)
        for name in self.suite.tested:
            data = self.plan.world[name]
            bootstrap.declare(data.units, data.index("test").sources)
        return bootstrap

    @cached_property
    def _by_classes(self) -> ByClasses:
        return ByClasses(self.plan, self.bootstrap, self.right)

    def accuracy(self, run: Run, name: str) -> Estimate | None:
        """Accuracy of a model on a data set, masked, in percent; None where it is missing."""
        return self._after(run, name)

    def right(self, run: Run, name: str) -> NDArray[np.bool_] | None:
        """bool (N,), which test images of a data set a model gets right, masked; None where it is not known."""
        record = self.records.get(run.scores[name].key) if name in run.scores else None
        return self._right(record, "masked", len(self.plan.world[name].index("test"))) if record else None

    @cached_property
    def _accuracies(self) -> dict[str, dict[str, Estimate]]:
        """Estimate of every finished prediction, masked and unmasked, by key."""
        found: dict[str, dict[str, Estimate]] = {"masked": {}, "unmasked": {}}
        for name in self.suite.tested:
            for kind, estimates in found.items():
                estimates.update(self._accuracies_on(name, kind))
        return found

    def _accuracies_on(self, name: str, kind: str) -> dict[str, Estimate]:
        data, index = self.plan.world[name], self.plan.world[name].index("test")
        keys = {predict.key for run in self.plan.runs for tested, predict in run.predictions if tested == name}
        finished = sorted(key for key in keys if key in self.records)
        if not finished:
            return {}
        right = (self._right(self.records[key], kind, len(index)) for key in finished)
        weights = example_weights(index.cells, len(index))
        estimates = self.bootstrap.accuracies(data.units, index.sources, weights, right)
        return dict(zip(finished, estimates, strict=True))

    def _right(self, record: Record, kind: str, count: int) -> NDArray[np.bool_]:
        if record.values["examples"] != count:
            raise UserError(
                f"the record of {record.title!r} has another number of examples than its data set",
                got=record.values["examples"],
                valid=count,
                remedy=f"remove records/{record.key[:2]}/{record.key}.json from the store and run again",
            )
        return unpack_bits(record.values[f"{kind}_right"], count)

    # -- cost ----------------------------------------------------------------------------------------------------

    def cost(self) -> dict[str, tuple[int, float, int]]:
        """Number of finished steps, seconds and images by kind of step."""
        totals: dict[str, tuple[int, float, int]] = {}
        for record in self.records.values():
            count, seconds, images = totals.get(record.kind, (0, 0.0, 0))
            totals[record.kind] = (count + 1, seconds + record.seconds, images + record.images)
        return totals

    def unfinished(self) -> list[Step]:
        """Steps without a record; features are for other steps and may be left out."""
        return [step for step in self.plan.steps if step.key not in self.records and not step.optional]


def over_seeds(runs: Sequence[Run], estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one estimate a run over their tuning seeds, which are the same draws in every row of a report.

    A checkpoint that was not tuned here has no seed: it stands for itself.
    """
    if any(run.seed is None for run in runs):
        return mean(estimates)
    return mean_over_seeds(estimates, Seeds("tuning", tuple(run.seed or 0 for run in runs)))


def _tuned_on(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(run.tuned_on for run in runs if run.tuned_on is not None))


def _interval(estimate: Estimate | None) -> Interval | None:
    return estimate.interval() if estimate is not None else None


def _mean_or_none(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The mean, or None where there is a hole or nothing at all."""
    present = [estimate for estimate in estimates if estimate is not None]
    return mean(present) if present and len(present) == len(estimates) else None
