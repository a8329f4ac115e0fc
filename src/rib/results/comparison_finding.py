"""The finding of a comparison, in sentences that claim no more than the intervals allow, with reasons."""

from __future__ import annotations

from rib.metrics.intervals import Interval
from rib.results.comparison import Comparison
from rib.results.finding import Claim, listed
from rib.results.inside.signatures import VERDICTS
from rib.results.words import signed

INSIDE = {"low CKA", "late shift"}
"""Signs of what changed inside the model. By themselves they are no sign that accuracy was lost."""


def comparison_finding(found: Comparison) -> str:
    """The finding of a comparison: sentences that claim no more than the intervals allow."""
    return str(comparison_claim(found))


def comparison_claim(found: Comparison) -> Claim:
    """The finding in two parts: gain, cost and the largest loss; then the intervals and the share of running
    statistics."""
    ri = found.ri
    if wrong := [error for error in found.errors if error.startswith("BASE") or found.permuted]:
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
    other = "" if found.tuned_on is None else "other "
    where = f"the {other}downstream set" if count == 1 else f"the {count} {other}downstream sets"
    change = f"{_points(ri)} points on average on {where}."
    lead = f"{found.tuned} {_own_gain(found)}{verb}: {change}{_unnamed(found)}{_largest_loss(found)}"
    own, reference = found.change_on("own"), found.change_on("reference")
    spans = [f"{_ended(own)} on {found.tuned_on}" if own else "", f"{_ended(ri)} on {where}"]
    if reference:
        spans.append(f"{_ended(reference)} on the reference set")
    said = f"Changes of accuracy against {found.base}, with 95 % intervals: {listed([*filter(None, spans)])}."
    return Claim(lead, f"{said}{_by_statistics(found)}")


def _ended(interval: Interval) -> str:
    return f"{signed(interval.value)} ({signed(interval.low)} to {signed(interval.high)})"


def _own_gain(found: Comparison) -> str:
    """The gain on the tuned set, as the start of a sentence; empty if it was not measured."""
    own = found.change_on("own")
    if own is None:
        return ""
    where = f"on {found.tuned_on}, the set tuned on"
    if not own.marked:
        return f"shows no distinguishable gain {where}, and "
    verb = f"gained {signed(own.value)}" if own.value > 0 else f"lost {abs(own.value):z.1f}"
    return f"{verb} points {where}, and "


def _unnamed(found: Comparison) -> str:
    """Without a named tuned set, the set with the largest gain, which may be it; as a sentence."""
    gains = [row for row in found.tested if row.role == "downstream" and row.change and row.change.marked]
    best = max(gains, key=lambda row: row.change.value if row.change else 0.0, default=None)
    if found.tuned_on is not None or best is None or best.change is None or best.change.value <= 0:
        return ""
    option = f"--tuned-on {best.name}"
    return f" No set is named as the one tuned on; if it is {best.name} ({_points(best.change)}), give {option}."


def _largest_loss(found: Comparison) -> str:
    """The largest loss on any data set, as a sentence; the reference set counts too. Empty if no accuracy fell."""
    if found.worst is None or not found.worst[1].value < 0:
        return ""
    name, change = found.worst
    role = next(row.role for row in found.tested if row.name == name)
    what = {"reference": f"the reference set {name}", "own": f"{name}, the set tuned on"}.get(role, name)
    own = next(row.change for row in found.tested if row.name == name)
    beyond = "" if own is None or own.marked else ", which chance may explain"  # the largest of several changes
    return f" The largest loss is on {what}: {_points(change)} points{beyond}.{_forgotten(found)}"


def _forgotten(found: Comparison) -> str:
    """The accuracies of a tuned model that is at chance on the reference set alone, as a sentence; else empty."""
    if not found.forgotten:
        return ""
    right = {row.name: row.after.value for row in found.tested if row.after}
    reference = next(row.name for row in found.tested if row.role == "reference")
    known = f"{right[found.forgotten]:z.1f} % of {found.forgotten}"
    return f" On {reference} it is right on {right[reference]:z.1f} %, no better than chance, though on {known}."


def _by_statistics(found: Comparison) -> str:
    """The part of the largest loss that running statistics cause, as sentences; empty without a loss or without
    values."""
    name, change = found.worst or ("", None)
    if change is None or not change.value < 0 or name not in found.statistics:
        return ""
    split = found.statistics[name]
    return (
        f" Of the change on {name}, the weights' share is {signed(split['of_weights'])} points and that of BatchNorm's "
        f"running statistics {signed(split['of_statistics'])}: with the tuned weights and the statistics of "
        f"{found.base}, accuracy there is {split['accuracy']['weights']:z.1f} %."
    )


def reason(found: Comparison) -> str:
    """The signatures that are present, in one sentence. It does not deny one that may be due to chance."""
    present = [sign.name for sign in found.signs if sign.present]
    if found.pair.identical or found.ri is None:
        return ""
    if set(present) - INSIDE:
        return f"Signs of a lost robustness: {', '.join(present)}."
    open_ones = [sign for sign in found.signs if sign.verdict != "absent" and sign.name not in INSIDE]
    if open_ones:
        named = ", ".join(f"{sign.name} ({VERDICTS[sign.verdict]})" for sign in open_ones)
        return f"No sign of a lost robustness is certain: {named}."
    if present:
        return f"No sign of a lost robustness; inside the model: {', '.join(present)}."
    return "None of the signs of a lost robustness is there."


def gates_finding(found: Comparison) -> str:
    """The number of broken gates, in words; empty without gates."""
    broken, count = sum(verdict.failed for verdict in found.verdicts), len(found.verdicts)
    if not found.verdicts:
        return ""
    if count == 1:
        return "The gate is broken." if broken else "The gate holds."
    if broken:
        return f"{broken} of {count} gates {'is' if broken == 1 else 'are'} broken."
    return f"All {count} gates hold."


def meaning_of_ri(found: Comparison) -> str:
    """The data sets behind the RI of this comparison, in words."""
    count = sum(row.role == "downstream" for row in found.tested)
    if found.tuned_on is None:
        return f"RI: mean change over all {count} downstream sets, as none was named as the one tuned on (--tuned-on)."
    text = f"RI: mean change over the {count} downstream sets other than {found.tuned_on}, which was tuned on."
    if found.pair.tuned_on not in found.pair.after.scores:
        text += f" {found.tuned_on} is not in the table: it has no {found.results.plan.noun} that are never tuned on."
    if found.by_classes["absent"]:
        noun = found.results.plan.noun
        text += f" RI present, RI absent: over {noun} whose class {found.tuned_on} has, and over the others."
    return text


def _points(interval: Interval | None) -> str:
    return signed(interval.value) if interval else "missing"
