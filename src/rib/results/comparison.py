"""Comparison: how tuning changed one model, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rib.analysis.base import typed
from rib.analysis.cka import CKA, CKAValues
from rib.analysis.drift import Drift, DriftValues
from rib.analysis.signatures import Evidence, Signature, signatures, worded
from rib.analysis.statistics import StatisticsShare, StatisticsValues
from rib.gates import Gate, GateVerdict, quantity_names, tested_together, worst_of
from rib.metrics.intervals import LEVEL, Interval
from rib.plan.pair import Pair, keeps_statistics
from rib.results.inside.averages import OWN
from rib.results.inside.calibration import calibration_changes
from rib.results.inside.churn import ChurnRow, ClassLoss, churn_rows, worst_classes
from rib.results.inside.statistics import statistics_shares
from rib.results.plausible import chance, implausible
from rib.results.presence import lacks_classes
from rib.results.results import Results
from rib.results.rows import Change, Summary
from rib.text.names import folded, short


@dataclass(frozen=True)
class Tested:
    """One data set before and after tuning. A number is None if a prediction is missing.

    Attributes:
        name: name of the data set.
        role: "downstream", "own", "reference" or "evaluate".
        images: number of test images.
        before, after: accuracy, percent.
        change: change of accuracy, paired, points.
        lost: share of the images that were right before and are wrong after, percent.
        gained: share of the images that were wrong before and are right after, percent.
    """

    name: str
    role: str
    images: int
    before: Interval | None
    after: Interval | None
    change: Interval | None
    lost: Interval | None
    gained: Interval | None


class Comparison:
    """The result of comparing two models.

    Args:
        pair: the two models.
        results: the results of the plan for the pair.
        gates: conditions that must not be true.
        done: number of steps that this comparison ran; records of the other steps existed.
    """

    def __init__(self, pair: Pair, results: Results, gates: Sequence[Gate] = (), done: int = 0) -> None:
        self.pair, self.results, self.gates, self.done = pair, results, tuple(gates), done

    @property
    def base(self) -> str:
        """Short name of the base model."""
        return called(self.pair.base, self.pair.tuned)

    @property
    def tuned(self) -> str:
        """Short name of the tuned model."""
        return called(self.pair.tuned, self.pair.base)

    @property
    def page_name(self) -> str:
        """File name of its page."""
        return self.pair.page_name([str(gate) for gate in self.gates])

    @property
    def tuned_on(self) -> str | None:
        """The suite's data set that it was tuned on; None for the user's own data."""
        return self.results.set_name(self.pair.tuned_on) if self.pair.tuned_on else None

    @cached_property
    def summary(self) -> Summary:
        """The tuned model's row of the headline table."""
        return self.results.summaries[1]

    @property
    def ri(self) -> Interval | None:
        """Mean change of accuracy on the downstream sets that it was not tuned on, in points."""
        return self.summary.mri

    @property
    def by_classes(self) -> dict[str, Interval | None]:
        """RI over images of classes in the tuned set ("present") and of all other classes ("absent"), in points.

        None if the tuned set has every class of the other sets, or if its classes are unknown.
        """
        absent = self.summary.mri_absent
        return {"present": self.summary.mri_present if absent else None, "absent": absent}

    @cached_property
    def tested(self) -> tuple[Tested, ...]:
        """Every data set with scores of both models, in the order of the suite."""
        churned = {row.tested_on: row for row in churn_rows(self.results)}
        changes = [change for change in self.results.changes if change.method == self.pair.after.method]
        return tuple(
            self._tested(name, change, churned.get(OWN if change.role == "own" else change.tested_on))
            for name, change in zip(self.pair.after.scores, changes, strict=True)
        )

    def _tested(self, name: str, change: Change, churned: ChurnRow | None) -> Tested:
        before, after = (self.results.accuracies.of(run, name) for run in (self.pair.before, self.pair.after))
        return Tested(
            name=change.tested_on,
            role=change.role,
            images=len(self.results.plan.world[name].index("test")),
            before=before.interval() if before else None,
            after=after.interval() if after else None,
            change=change.change,
            lost=churned.lost if churned else None,
            gained=churned.gained if churned else None,
        )

    def change_on(self, role: str) -> Interval | None:
        """Change of accuracy on the only data set with a role, in points; None if there is no such set or it is
        missing."""
        return next((row.change for row in self.tested if row.role == role), None)

    @cached_property
    def cka(self) -> CKAValues | None:
        """The values of `rib.analysis.cka.CKA`; None if missing."""
        return next((typed(seen.values, CKAValues) for seen in self.results.seen(CKA)), None)

    @cached_property
    def drift(self) -> DriftValues | None:
        """The values of `rib.analysis.drift.Drift`; None if missing."""
        return next((typed(seen.values, DriftValues) for seen in self.results.seen(Drift)), None)

    @cached_property
    def statistics(self) -> dict[str, StatisticsValues]:
        """Values of `rib.analysis.statistics` by data set, if they are finished; empty for a net without running
        statistics."""
        seen = self.results.seen(StatisticsShare)
        return {self.results.set_name(each.on[0]): typed(each.values, StatisticsValues) for each in seen}

    @cached_property
    def signs(self) -> tuple[Signature, ...]:
        """The signatures of lost robustness."""
        alike = [] if self.cka is None else self.cka["diagonal"]
        groups = (
            {} if self.drift is None else dict(zip(self.drift["group_names"], self.drift["group_change"], strict=True))
        )
        moved = [change for name, change in groups.items() if name != "head"]
        evidence = Evidence(
            ood_change=self.ri,
            size=self.pair.images,
            cka=_whole([None if value is None else min(max(value, 0.0), 1.0) for value in alike]),
            drift=_whole(moved),
            ri=self.ri,
            reference=self.change_on("reference"),
            shares=statistics_shares(self.results, (self.pair.after.model, self.pair.after.method, None)),
            keeps_statistics=keeps_statistics(self.pair.before.fit.architecture),
        )
        return worded(signatures(evidence), self.results.plan.noun)

    @cached_property
    def calibration_errors(self) -> dict[str, tuple[float, float]]:
        """Expected calibration error before and after, in percent, for each data set whose records contain it."""
        rows = [row for row in calibration_changes(self.results) if row.score == "ece"]
        names = {OWN: self.tuned_on or OWN}
        return {names.get(row.tested_on, row.tested_on): (row.before.value, row.after.value) for row in rows}

    @cached_property
    def worst_classes(self) -> tuple[ClassLoss, ...]:
        """The classes with the largest losses on the downstream sets that the model was not tuned on, worst first."""
        return next((found.classes for found in worst_classes(self.results)), ())

    @cached_property
    def quantities(self) -> dict[str, Interval | None]:
        """Values of the quantities that gates can name."""
        named = {"ri": self.ri, "reference": self.change_on("reference"), "own": self.change_on("own")}
        named |= {f"ri_{presence}": part for presence, part in self.by_classes.items()}
        worst = {"worst": self.worst[1] if self.worst else None}
        return named | worst | {f"change[{row.name}]": row.change for row in self.tested}

    @cached_property
    def worst(self) -> tuple[str, Interval] | None:
        """The data set with the lowest change, and that change. The reference set counts too (`rib.gates.worst_of`)."""
        return worst_of({row.name: row.change for row in self.tested})

    @cached_property
    def verdicts(self) -> tuple[GateVerdict, ...]:
        """The verdicts of the gates."""
        return tested_together([self._verdict(gate) for gate in self.gates])

    def _verdict(self, gate: Gate) -> GateVerdict:
        about = self.worst[0] if gate.quantity == "worst" and gate.bound == "value" and self.worst else ""
        found = self.quantities.get(gate.quantity)
        return GateVerdict(gate, found, about, self._missing(gate.quantity), self._p(gate, found))

    def _p(self, gate: Gate, found: Interval | None) -> float | None:
        """p value of a gate that claims a change.

        The gate `worst < LIMIT` claims such a change on at least one data set, so its p value is adjusted for their
        number. The gate `worst > LIMIT` claims it on every data set, so the least certain change decides.
        """
        if not gate.claims or found is None:
            return None
        asked = [row.change for row in self.tested] if gate.quantity == "worst" else [found]
        known = [p for each in asked if each and (p := _beyond(each, gate)) is not None]
        if not known:
            return None
        return min(1.0, len(known) * min(known)) if gate.some else max(known)

    def _missing(self, quantity: str) -> str:
        """The missing predictions behind a quantity, in words."""
        needed: tuple[str, ...] = (quantity,)
        if quantity in ("ri", "ri_present", "ri_absent"):
            needed = ("downstream",)
        elif quantity == "worst":
            needed = ("downstream", "own", "reference", "evaluate")
        rows = [row for row in self.tested if f"change[{row.name}]" == quantity or row.role in needed]
        lost = [row.name for row in rows if row.change is None]
        return f"no prediction on {', '.join(lost)}" if lost else "" if rows else "no data set has that role"

    @cached_property
    def errors(self) -> tuple[str, ...]:
        """Reasons not to trust the numbers, whatever the gates say; empty if there are none."""
        row = next((row for row in self.tested if row.role == "reference"), None)
        after = row.after if row and not self.forgotten else None
        found = list(implausible(self.results, self.pair, row.before, after)) if row else []
        own = next((row.after for row in self.tested if row.role == "own"), None)
        if (
            own is not None
            and not self.pair.identical
            and not own.low > (level := chance(self.results, str(self.pair.tuned_on)))
        ):
            found.append(
                f"TUNED is right on {own.value:z.1f} % [{own.low:z.1f}, {own.high:z.1f}] of {self.tuned_on}, the set "
                f"tuned on, no better than chance ({level:z.1f} %): its training ended at chance, or its outputs have "
                "another order of classes"
            )
        return tuple(found)

    @property
    def permuted(self) -> bool:
        """Whether the tuned model seems to have another order of classes."""
        return any(run is self.pair.after for run, _ in self.results.orders)

    @cached_property
    def forgotten(self) -> str:
        """The set that the tuned model knows best, if it is no better than chance on the reference set; else empty.

        A model that knows one set, tested together with the others, has the right order of classes and a training that
        did not collapse. So its accuracy on the reference set is a result, and no mistake of the call.
        """
        levels = {
            row.name: chance(self.results, name) for name, row in zip(self.pair.after.scores, self.tested, strict=True)
        }
        at_chance = [row for row in self.tested if row.after and not row.after.low > levels[row.name]]
        if self.permuted or all(row.role != "reference" for row in at_chance):
            return ""
        known = {
            row.name: row.after.value
            for row in self.tested
            if row.after and knows(row.after, levels[row.name], len(self.tested))
        }
        return max(known, key=known.__getitem__, default="")

    @property
    def passed(self) -> bool:
        """Whether no gate is broken, nothing is missing, and the reference accuracies are plausible."""
        broken = any(verdict.failed for verdict in self.verdicts)
        return not (self.results.unfinished() or broken or self.errors)


def _whole(values: Sequence[float | None]) -> list[float] | None:
    """The values; None if one of them is None."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def knows(accuracy: Interval, level: float, sets: int) -> bool:
    """Whether a model is better than chance on a data set, among several (Bonferroni, one-sided, 2.5 % in all).

    Args:
        accuracy: its accuracy there, percent.
        level: accuracy of guessing, percent.
        sets: number of data sets that are tested together.
    """
    p = accuracy.beyond(level)
    return accuracy.value > level and p is not None and p <= LEVEL / 2 / sets


def _beyond(found: Interval, gate: Gate) -> float | None:
    """One-sided p value for a number beyond the limit of a gate."""
    short_of = found.value >= gate.limit if gate.sign[0] == "<" else found.value <= gate.limit
    return 1.0 if short_of else found.beyond(gate.limit)


def gate_names(pair: Pair) -> dict[str, str]:
    """Maps every accepted name of a quantity in a gate to the name that the comparison uses."""
    names = pair.plan.suite.set_names
    known = quantity_names(names, pair.tuned_on in pair.after.scores, lacks_classes(pair.plan, pair.after))
    lost = {f"change[{names.short(name)}]" for name in names.full if name not in pair.after.scores}
    return {given: quantity for given, quantity in known.items() if quantity not in lost}


def called(text: str, other: str) -> str:
    """A model's name without its namespace or parent folders; the full name if the other model has the same short
    name."""
    ends = ["/".join(Path(each).parts[-2:]) if "/" in each else short(each) for each in (text, other)]
    return text if folded(ends[0]) == folded(ends[1]) else ends[0]
