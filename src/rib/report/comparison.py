"""Comparison: what tuning made of one model, as values, for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from rib.analysis.base import typed
from rib.analysis.cka import CKA, CKAValues
from rib.analysis.drift import Drift, DriftValues
from rib.analysis.signatures import Evidence, Signature, signatures
from rib.gates import Gate, GateVerdict, level_of, quantity_names, tested_together, worst_of
from rib.metrics.estimates import Interval
from rib.plan.pair import OWN_DATA, Pair
from rib.report.claim import Claim, listed
from rib.report.classes import lacks_classes
from rib.report.failures import alike
from rib.report.finding import signed, spanned
from rib.report.inside.averages import OWN
from rib.report.inside.calibration import calibration_changes
from rib.report.inside.churn import ChurnRow, ClassLoss, churn_rows, worst_classes
from rib.report.inside.signs import VERDICTS
from rib.report.plausible import chance, implausible
from rib.report.results import Change, Results, Summary
from rib.report.tables import first_line, provenance
from rib.report.views import unstated, view_json, view_words, views
from rib.text.names import folded, short
from rib.text.terminal import console


@dataclass(frozen=True)
class Tested:
    """One data set before and after tuning. Percent and points; None where a prediction is missing.

    Attributes:
        name: of the data set.
        role: "downstream", "own", "reference" or "evaluate".
        images: tested on.
        before, after: accuracy.
        change: of accuracy, paired.
        lost: share of the images that were right before and are wrong after.
        gained: share that was wrong and is right.
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
        pair: the two.
        results: of its plan.
        gates: conditions that must not hold.
        done: number of steps done for it now; the others were done before.
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
        """RI over images of the classes of the set tuned on ("present") and of the others ("absent"), in points.

        None where that set lacks no class of another, and where it is not known.
        """
        absent = self.summary.mri_absent
        return {"present": self.summary.mri_present if absent else None, "absent": absent}

    @cached_property
    def tested(self) -> tuple[Tested, ...]:
        """Every data set that both models are scored on, in the order of the suite."""
        churned = {row.tested_on: row for row in churn_rows(self.results)}
        changes = [change for change in self.results.changes if change.method == self.pair.after.method]
        return tuple(
            self._tested(name, change, churned.get(OWN if change.role == "own" else change.tested_on))
            for name, change in zip(self.pair.after.scores, changes, strict=True)
        )

    def _tested(self, name: str, change: Change, churned: ChurnRow | None) -> Tested:
        before, after = (self.results.accuracy(run, name) for run in (self.pair.before, self.pair.after))
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
        """Change of accuracy on the one data set of a role, in points; None where there is none, or it is missing."""
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
    def signs(self) -> tuple[Signature, ...]:
        """The four signatures of a robustness that was lost."""
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
        )
        return signatures(evidence)

    @cached_property
    def calibration_errors(self) -> dict[str, tuple[float, float]]:
        """Expected calibration error before and after, in percent, by data set; of those where it is known."""
        rows = [row for row in calibration_changes(self.results) if row.score == "ece"]
        names = {OWN: self.tuned_on or OWN}
        return {names.get(row.tested_on, row.tested_on): (row.before.value, row.after.value) for row in rows}

    @cached_property
    def worst_classes(self) -> tuple[ClassLoss, ...]:
        """The classes that lost most on the downstream sets that it was not tuned on, worst first."""
        return next((found.classes for found in worst_classes(self.results)), ())

    @cached_property
    def quantities(self) -> dict[str, Interval | None]:
        """The quantities of gates, by name."""
        named = {"ri": self.ri, "reference": self.change_on("reference"), "own": self.change_on("own")}
        named |= {f"ri_{presence}": part for presence, part in self.by_classes.items()}
        worst = {"worst": self.worst[1] if self.worst else None}
        return named | worst | {f"change[{row.name}]": row.change for row in self.tested}

    @cached_property
    def worst(self) -> tuple[str, Interval] | None:
        """The data set of the lowest change, the reference set included, and that change (`rib.gates.worst_of`)."""
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

        `worst` below a limit claims it of some data set: adjusted for their number. Above a limit, it claims it of
        every one, so the least certain of them decides.
        """
        if not gate.claims or found is None:
            return None
        asked = [row.change for row in self.tested] if gate.quantity == "worst" else [found]
        known = [p for each in asked if each and (p := _beyond(each, gate)) is not None]
        if not known:
            return None
        return min(1.0, len(known) * min(known)) if gate.some else max(known)

    def _missing(self, quantity: str) -> str:
        """Which predictions a quantity lacks."""
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
        """Why the numbers cannot be trusted, whatever the gates say; empty if nothing speaks against them."""
        row = next((row for row in self.tested if row.role == "reference"), None)
        found = list(implausible(self.results, self.pair.base, row.before, row.after)) if row else []
        own = next((row.after for row in self.tested if row.role == "own"), None)
        if own is not None and not own.low > (level := chance(self.results, str(self.pair.tuned_on))):
            found.append(
                f"TUNED is right on {own.value:.1f} % [{own.low:.1f}, {own.high:.1f}] of {self.tuned_on}, the set "
                f"tuned on, no better than chance ({level:.1f} %): its training ended at chance"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether all gates hold, nothing is missing, and the reference accuracies are plausible."""
        broken = any(verdict.failed for verdict in self.verdicts)
        return not (self.results.unfinished() or broken or self.errors)

    def table(self) -> None:
        """Print what `rib compare` prints."""
        screen = console(highlight=False)
        screen.print(comparison_lines(self, screen.width))

    def page(self, path: str | Path) -> None:
        """Write the page. Raises UserError where the place is not writable."""
        from rib.report.comparison_page import write_comparison

        write_comparison(self, Path(path))


def _whole(values: Sequence[float | None]) -> list[float] | None:
    """The values; None if one of them is."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _beyond(found: Interval, gate: Gate) -> float | None:
    """One-sided p value of a number being beyond the limit of a gate."""
    short_of = found.value >= gate.limit if gate.sign[0] == "<" else found.value <= gate.limit
    return 1.0 if short_of else found.beyond(gate.limit)


def gate_names(pair: Pair) -> dict[str, str]:
    """Every way to name a quantity of this comparison, with its name there."""
    names = pair.plan.suite.set_names
    known = quantity_names(names, pair.tuned_on in pair.after.scores, lacks_classes(pair.plan, pair.after))
    lost = {f"change[{names.short(name)}]" for name in names.full if name not in pair.after.scores}
    return {given: quantity for given, quantity in known.items() if quantity not in lost}


def called(text: str, other: str) -> str:
    """A model's name without its namespace, or the end of a path; in full if the other model is called that too."""
    ends = ["/".join(Path(each).parts[-2:]) if "/" in each else short(each) for each in (text, other)]
    return text if folded(ends[0]) == folded(ends[1]) else ends[0]


# -- in words ----------------------------------------------------------------------------------------------------------


def comparison_finding(found: Comparison) -> str:
    """The finding of a comparison: sentences that claim no more than the intervals allow."""
    return str(comparison_claim(found))


def comparison_claim(found: Comparison) -> Claim:
    """The same in two parts: what was gained and what it cost, then its intervals and the largest loss."""
    ri = found.ri
    if wrong := [error for error in found.errors if error.startswith("BASE")]:
        return Claim(f"No comparison: {wrong[0]}.")
    if found.pair.identical:
        return Claim(f"{found.tuned} is the same checkpoint as {found.base}: nothing changed.")
    if ri is None:
        done, planned = len(found.results.records), len(found.results.plan.steps)
        return Claim(f"The comparison is not complete: {done} of {planned} steps are done.")
    verb = "neither lost nor gained robustness for certain"
    if ri.excludes_zero:
        verb = "lost robustness" if ri.value < 0 else "gained robustness"
    count = sum(row.role == "downstream" and row.change is not None for row in found.tested)
    where = f"the {count} {'' if found.tuned_on is None else 'other '}downstream sets"
    lead = f"{found.tuned} {_own_gain(found)}{verb}: {_points(ri)} points on average on {where}."
    own, reference = found.change_on("own"), found.change_on("reference")
    spans = [f"{_ended(own)} on {found.tuned_on}" if own else "", f"{_ended(ri)} on {where}"]
    if reference and not (found.worst and _is_loss(found.worst, found)):
        spans.append(f"{_ended(reference)} on the reference set")
    said = f"Changes of accuracy against {found.base}, with 95 % intervals: {listed([*filter(None, spans)])}."
    return Claim(lead, f"{said}{_largest_loss(found)}")


def _ended(interval: Interval) -> str:
    return f"{signed(interval.value)} ({signed(interval.low)} to {signed(interval.high)})"


def _own_gain(found: Comparison) -> str:
    """The gain on the tuned set, before its cost; empty if it was not measured."""
    own = found.change_on("own")
    if own is None:
        return ""
    where = f"on {found.tuned_on}, the set tuned on"
    if not own.excludes_zero:
        return f"shows no distinguishable gain {where}, and "
    verb = f"gained {signed(own.value)}" if own.value > 0 else f"lost {abs(own.value):.1f}"
    return f"{verb} points {where}, and "


def _largest_loss(found: Comparison) -> str:
    """The largest loss on any data set, the reference set included, as a sentence; empty if nothing was lost."""
    if found.worst is None or not found.worst[1].value < 0:
        return ""
    name, change = found.worst
    role = next(row.role for row in found.tested if row.name == name)
    what = {"reference": f"the reference set {name}", "own": f"{name}, the set tuned on"}.get(role, name)
    own = next(row.change for row in found.tested if row.name == name)
    beyond = "" if own is None or own.marked else ", which chance may explain"  # the largest of several
    return f" The largest loss is on {what}: {_points(change)} points{beyond}."


def _is_loss(worst: tuple[str, Interval], found: Comparison) -> bool:
    """Whether the lowest change is a loss on the reference set."""
    return worst[1].value < 0 and any(row.name == worst[0] and row.role == "reference" for row in found.tested)


def reason(found: Comparison) -> str:
    """Which of the four signs are there, in one sentence; one that chance may explain is not denied."""
    present = [sign.name for sign in found.signs if sign.present]
    if found.pair.identical or found.ri is None:
        return ""
    if present:
        return f"Signs of a lost robustness: {', '.join(present)}."
    if doubtful := [f"{sign.name} ({VERDICTS[sign.verdict]})" for sign in found.signs if sign.verdict != "absent"]:
        return f"No sign of a lost robustness is certain: {', '.join(doubtful)}."
    return "None of the four signs of a lost robustness is there."


def gates_finding(found: Comparison) -> str:
    """How many gates are broken, in words; empty without any."""
    broken, count = sum(verdict.failed for verdict in found.verdicts), len(found.verdicts)
    if not found.verdicts:
        return ""
    if broken:
        return f"{broken} of {count} gates {'is' if broken == 1 else 'are'} broken."
    return "The gate holds." if count == 1 else f"All {count} gates hold."


def meaning_of_ri(found: Comparison) -> str:
    """The sets over which RI is a mean in this comparison."""
    count = sum(row.role == "downstream" for row in found.tested)
    if found.tuned_on is None:
        return f"RI: mean change over all {count} downstream sets, as none was named as the one tuned on (--tuned-on)."
    text = f"RI: mean change over the {count} downstream sets other than {found.tuned_on}, which was tuned on."
    if found.by_classes["absent"]:
        text += f" RI present, RI absent: over images whose class {found.tuned_on} has, and over the others."
    return text


def _points(interval: Interval | None) -> str:
    return signed(interval.value) if interval else "missing"


# -- for a terminal ----------------------------------------------------------------------------------------------------

ROOMY = 100
"""Columns of a terminal from which everything is shown."""

MARKS = {"present": "●", "suggested": "◐", "absent": "○", "unknown": "?"}


def comparison_lines(found: Comparison, width: int = 80) -> Lines:
    """The comparison for a terminal with `width` columns."""
    suite = found.results.suite
    on, said = found.tuned_on or OWN_DATA, comparison_claim(found)
    lines: list[Any] = [
        Text(f"{found.base} → {found.tuned}, tuned on {on} · {suite.name}", style="bold"),
        Text(),
        _table(found, width),
        Text(),
        Text(said.lead, style="bold"),
        *([Text(said.detail)] if said.detail else []),
    ]
    lines += [_hung("✗", f"error: {error}", "bold red") for error in found.errors]
    if not found.pair.identical:
        lines += [Text(), *(_hung(MARKS[sign.verdict], sign.words, _sign_style(sign)) for sign in found.signs)]
    if found.verdicts:
        lines += [Text(), *(_hung("✗" if each.failed else "✓", each.words, _style(each)) for each in found.verdicts)]
        lines += [Text(level, style="dim")] if (level := level_of(found.verdicts)) else []
    lines += [Text(), Text(_legend(found), style="dim")]
    lines += [Text(suite.note, style="dim")] if suite.note else []
    lines += [Text(f"both see {view_words(next(iter(views(found.results.plan).values())))}", style="dim")]
    lines += [Text(f"data: {caveat}", style="yellow") for caveat in found.results.caveats]
    lines += [Text(f"models: {words}", style="yellow") for words in unstated(found.results.plan)]
    lines += [
        Text(f"failed: {one.who}: {first_line(one.reason)}", style="red") for one in alike(found.results.failures)
    ]
    return Lines(*lines)


def _legend(found: Comparison) -> str:
    signs = "" if found.pair.identical else " ● sign of lost robustness, ◐ perhaps, ○ not there, ? not known."
    return (
        f"{meaning_of_ri(found)} Accuracy over each data set's own classes. [ ]: 95 % interval, paired bootstrap over "
        "source images; ≈: not distinguishable from 0, all sets tested together. lost: right before and wrong after; "
        f"gained: the reverse.{signs}"
    )


def _table(found: Comparison, width: int) -> Table:
    roomy = width >= ROOMY
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("tested on", overflow="fold")
    for head in ("before", "after", "change, points", *(["lost", "gained", "images"] if roomy else ["lost"])):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("role", style="dim", no_wrap=True)
    for row in sorted(found.tested, key=lambda row: row.role != "downstream"):
        churned = [_percent(row.lost), *([_percent(row.gained), Text(f"{row.images:,}")] if roomy else [])]
        table.add_row(row.name, _percent(row.before), _percent(row.after), _change(row.change), *churned, row.role)
        if row.name == [each.name for each in found.tested if each.role == "downstream"][-1]:
            empty = [Text()] * len(churned)
            before, after = found.summary.ood_before, found.summary.ood_after
            table.add_row(Text("RI", "bold"), _percent(before), _percent(after), _change(found.ri), *empty, "mean")
            for presence, part in found.by_classes.items():
                if part:
                    table.add_row(f"RI {presence}", Text(), Text(), _change(part), *empty, "classes")
    return table


def _percent(interval: Interval | None) -> Text:
    return Text(f"{interval.value:.1f}") if interval else Text("missing", style="yellow")


def _change(interval: Interval | None) -> Text:
    if interval is None:
        return Text("missing", style="yellow")
    style = "" if not interval.marked else "green" if interval.value > 0 else "red"
    return Text(("" if interval.marked else "≈ ") + spanned(interval, 5), style=style)


def _hung(mark: str, words: str, style: str) -> Table:
    """A mark, and words that stay to the right of it."""
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(Text(mark, style), Text(words, style))
    return row


def _sign_style(sign: Signature) -> str:
    return {"present": "red", "suggested": "yellow"}.get(sign.verdict, "dim")


def _style(verdict: GateVerdict) -> str:
    return "bold red" if verdict.failed else "green"


# -- plain values ------------------------------------------------------------------------------------------------------


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Everything as JSON types. Accuracies in percent, changes in points, intervals as value, low, high."""
    return {
        "suite": found.results.suite.name,
        "base": found.pair.base,
        "tuned": found.pair.tuned,
        "tuned_on": found.pair.tuned_on,
        "tuned_images": found.pair.images,
        "identical": found.pair.identical,
        "finding": comparison_finding(found),
        "passed": found.passed,
        "errors": list(found.errors),
        "worst": {"on": found.worst[0], "change": asdict(found.worst[1])} if found.worst else None,
        "gates_level": level_of(found.verdicts),
        "gates": [
            {
                "gate": str(verdict.gate),
                "requires": verdict.gate.requirement,
                "verdict": verdict.state,
                "failed": verdict.failed,
                "alone": verdict.alone,
                "p": verdict.p,
                "adjusted": verdict.adjusted,
                "quantity": verdict.gate.quantity,
                "about": verdict.about or None,
                "missing": verdict.missing or None,
                "interval": asdict(verdict.found) if verdict.found else None,
                "value": verdict.number,
                "limit": verdict.gate.limit,
                "margin": verdict.margin,
                "words": verdict.words,
            }
            for verdict in found.verdicts
        ],
        "ri": asdict(found.ri) if found.ri else None,
        **{f"ri_{name}": asdict(part) if part else None for name, part in found.by_classes.items()},
        "tested": [asdict(row) for row in found.tested],
        "calibration_error": found.calibration_errors,
        "worst_classes": [asdict(row) for row in found.worst_classes],
        "signatures": [asdict(sign) for sign in found.signs],
        "cka": found.cka,
        "drift": found.drift,
        "failures": dict(found.results.failures),
        "unfinished": [step.title for step in found.results.unfinished()],
        "caveats": list(found.results.caveats),
        "view": next(iter(view_json(found.results.plan).values())),
        "unstated": list(unstated(found.results.plan)),
        "provenance": provenance(found.results),
    }
