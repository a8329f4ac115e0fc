"""Results: the content of a plan's records, as values. A pure function of plan and store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial

from rib.analysis import Analysis
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval, as_family, gated
from rib.metrics.missing import interval_of, minus
from rib.plan import Plan, Run
from rib.results.accuracies import Accuracies
from rib.results.endings import Ending, ended
from rib.results.groups import GroupEstimates, runs_by_group, tuned_sets
from rib.results.orders import called, order_faults
from rib.results.rows import Change, Group, ResultNote, Score, SeenSet, Summary, shown_first
from rib.steps import Predict, Step, distinct
from rib.store.record import Record
from rib.store.store import Store


class Results:
    """The results in a plan's records.

    Args:
        plan: the plan.
        store: the store with its records.
        draws: number of bootstrap resamples.
    """

    def __init__(self, plan: Plan, store: Store, draws: int = 2000) -> None:
        self.plan, self.suite, self.store = plan, plan.suite, store
        self.draws = draws
        self._set_names = self.suite.set_names

    # -- names ---------------------------------------------------------------------------------------------------

    def set_name(self, name: str) -> str:
        """Name of a data set of the suite in tables: short if no other has that name."""
        return self._set_names.short(name)

    def model_name(self, name: str) -> str:
        """Name of a model of the suite in tables: short if no other has that name."""
        return self.suite.model_names.short(name)

    # -- records ------------------------------------------------------------------------------------------------

    @cached_property
    def records(self) -> dict[str, Record]:
        """Record of every finished step of the plan, by key."""
        found = {step.key: self.store.record(step.key) for step in self.plan.steps}
        return {key: record for key, record in found.items() if record is not None}

    @cached_property
    def failures(self) -> dict[str, str]:
        """Title and reason of every step whose last attempt failed."""
        failed: dict[str, str] = {}
        for step in self.unfinished():
            if reason := self.store.failure(step.key):
                failed[distinct(step, failed)] = reason
        return failed

    @cached_property
    def groups(self) -> dict[Group, list[Run]]:
        """Runs by model, method and size, in the order of the suite."""
        return runs_by_group(self.plan)

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
        orders = (f"{called(self.plan, run)}: {words}" for run, words in self.orders)
        return (*of_data, *self.plan.world.left_out, *orders)

    @cached_property
    def orders(self) -> tuple[tuple[Run, str], ...]:
        """The runs that seem to have another order of classes, each with a sentence."""
        return tuple(order_faults(self.plan, self.records, self.store))

    # -- numbers -------------------------------------------------------------------------------------------------

    @cached_property
    def accuracies(self) -> Accuracies:
        """The accuracy of every finished prediction, as an estimate."""
        return Accuracies(self.plan, self.records, self.draws)

    @cached_property
    def estimates(self) -> GroupEstimates:
        """RI, mRI and mean accuracies of every model, method and size, as estimates."""
        return GroupEstimates(self.plan, self.accuracies, self.groups)

    @cached_property
    def scores(self) -> list[Score]:
        """Accuracy of every model on every data set with a planned prediction."""
        return [self._score(run, *scored) for run in self.plan.runs for scored in run.predictions]

    def _score(self, run: Run, name: str, predict: Predict) -> Score:
        masked, unmasked = (self.accuracies.of_step(predict, kind) for kind in ("masked", "unmasked"))
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
        """The notes of methods, one entry per tuned model."""
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
        """The values of all finished analyses of one kind, in the order of the suite."""
        return [
            SeenSet(look.name, look.run, look.on, self.records[look.step.key].values)
            for look in self.plan.looks
            if isinstance(look.step.analysis, analysis) and look.step.key in self.records
        ]

    @cached_property
    def summaries(self) -> list[Summary]:
        """The headline table, in the order of the suite.

        Each kind of mark has one level over all rows. The mRI of the rows in the first sentence is one family of
        tests, and that of the other rows another (`rib.metrics.intervals.gated`).
        """
        rows = [self._summary(group) for group in self.groups]
        first = [shown_first(row for row in rows if row.model == model) for model in {row.model for row in rows}]
        zero = gated([row.mri for row in rows], [any(row is one for one in first) for row in rows])
        against = [row.against_finetune for row in rows]
        tested = iter(as_family(each if each and each.tests else None for each in against))
        compared = [found or each for each, found in zip(against, tested, strict=True)]
        return [
            replace(row, mri=mri, against_finetune=other) for row, mri, other in zip(rows, zero, compared, strict=True)
        ]

    @cached_property
    def changes(self) -> list[Change]:
        """Every cell of the change matrix. The cells of one model, method and size are one family of tests (Holm)."""
        return [change for group in self.groups for change in self.changes_of(group)]

    def ri_of(self, group: Group) -> dict[str, Interval | None]:
        """RI of one model, method and size by tuned set, which are one family of tests (Holm)."""
        return self._by_tuned_set(group, self.estimates.ri, tested_together=True)

    def changes_of(self, group: Group) -> list[Change]:
        """The change matrix of one model, method and size."""
        model, method, size = group
        first = {run.tuned_on: run for run in reversed(self.groups[group]) if run.tuned_on is not None}
        cells = [
            Change(
                model=self.model_name(model),
                method=method,
                size=size,
                tuned_on=self.set_name(tuned_on),
                tested_on=self.set_name(name),
                role=self.role(first[tuned_on], name),
                change=interval_of(self.estimates.change(group, tuned_on, name)),
            )
            for tuned_on in tuned_sets(self.groups[group])
            for name in first[tuned_on].scores
        ]
        tested = as_family(cell.change for cell in cells)
        return [replace(cell, change=change) for cell, change in zip(cells, tested, strict=True)]

    def _summary(self, group: Group) -> Summary:
        model, method, size = group
        if method == "pretrained":
            return self._baseline(group)
        runs, of = self.groups[group], self.estimates
        seen_before, seen_after = of.seen(group)
        return Summary(
            model=self.model_name(model),
            method=method,
            size=size,
            seeds=tuple(sorted({run.seed for run in runs if run.seed is not None})),
            mri=interval_of(of.mri(group)),
            mri_disjoint=interval_of(of.mri_disjoint(group)),
            mri_unmasked=interval_of(of.mri(group, kind="unmasked")),
            mri_present=interval_of(of.mri_by_presence(group, "present")),
            mri_absent=interval_of(of.mri_by_presence(group, "absent")),
            seed_spread=of.seed_spread(group),
            ri=self.ri_of(group),
            ri_disjoint=self._by_tuned_set(group, partial(of.ri, disjoint=True)),
            ri_present=self._by_tuned_set(group, partial(of.ri_by_presence, presence="present")),
            ri_absent=self._by_tuned_set(group, partial(of.ri_by_presence, presence="absent")),
            ood_before=interval_of(of.ood(group, before=True)),
            ood_after=interval_of(of.ood(group)),
            own_before=interval_of(of.own(group, before=True)),
            own_after=interval_of(of.own(group)),
            gain=interval_of(of.gain(group)),
            seen_before=interval_of(seen_before),
            seen_after=interval_of(seen_after),
            seen_gain=interval_of(minus(seen_after, seen_before)),
            matched=of.matched(group),
            at_chance=self.ended(runs, "at_chance"),
            diverged=self.ended(runs, "diverged"),
            reference_before=interval_of(of.on(group, self.suite.reference, before=True)),
            reference_after=interval_of(of.on(group, self.suite.reference)),
            evaluate={
                self.set_name(name): (interval_of(of.on(group, name, before=True)), interval_of(of.on(group, name)))
                for name in self.suite.evaluate
            },
            against_finetune=self._against_finetune(group),
            missing=self._missing(runs),
        )

    def _by_tuned_set(
        self, group: Group, estimate: Callable[[Group, str], Estimate | None], tested_together: bool = False
    ) -> dict[str, Interval | None]:
        sets = tuned_sets(self.groups[group])
        found = [interval_of(estimate(group, name)) for name in sets]
        return dict(zip(map(self.set_name, sets), as_family(found) if tested_together else found, strict=True))

    def _against_finetune(self, group: Group) -> Interval | None:
        model, method, size = group
        other = (model, "finetune", size)
        return None if method == "finetune" or other not in self.groups else self.estimates.compare(group, other)

    def _baseline(self, group: Group) -> Summary:
        model, method, size = group
        ood = interval_of(self.estimates.ood_before(model))
        reference = interval_of(self.estimates.pretrained(model, self.suite.reference))
        evaluate = {name: interval_of(self.estimates.pretrained(model, name)) for name in self.suite.evaluate}
        return Summary(
            model=self.model_name(model),
            method=method,
            size=size,
            seeds=(),
            ood_before=ood,
            ood_after=ood,
            reference_before=reference,
            reference_after=reference,
            evaluate={self.set_name(name): (level, level) for name, level in evaluate.items()},
            missing=self._missing(self.groups[group]),
        )

    def ended(self, runs: Sequence[Run], how: Ending) -> tuple[str, ...]:
        """Tuned sets on which a training of these runs ended like that; with the seed if there are several."""
        return tuple(ended(self.records, runs, how, self.set_name))

    def _missing(self, runs: list[Run]) -> tuple[str, ...]:
        return tuple(
            f"{self.set_name(run.tuned_on or 'pretrained')} → "
            + ("the images tuned on" if predict is run.seen else self.set_name(name))
            for run in runs
            for name, predict in run.predictions
            if predict.key not in self.records
        )

    # -- cost ----------------------------------------------------------------------------------------------------

    def cost(self) -> dict[str, tuple[int, float, int]]:
        """Number of finished steps, seconds and images by kind of step."""
        totals: dict[str, tuple[int, float, int]] = {}
        for record in self.records.values():
            count, seconds, images = totals.get(record.kind, (0, 0.0, 0))
            totals[record.kind] = (count + 1, seconds + record.seconds, images + record.images)
        return totals

    def unfinished(self) -> list[Step]:
        """Steps without a record. Missing features count only if a missing step needs them."""
        return [step for step in self.plan.steps if step.key not in self.records and not step.optional]
