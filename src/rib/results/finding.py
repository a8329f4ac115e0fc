"""Claim: the results in a few sentences: what tuning gained, what it cost, and which method kept most accuracy.

A method that learns nothing loses nothing. So RIB ranks methods by mRI only if their gain on the tuned set matches the
largest gain of the same model and size (`rib.results.rows.MATCHED`). The first sentence gives both gain and cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rib.analysis.signatures import LOSS
from rib.metrics.intervals import Interval, as_family
from rib.results.inside.signatures import reference_changes
from rib.results.results import Results
from rib.results.rows import Group, Summary, learned, main_size, shown_first
from rib.results.words import ordered, signed
from rib.text.wording import about


@dataclass(frozen=True)
class Claim:
    """The finding: one short sentence, and the details.

    Attributes:
        lead: gain and cost, without intervals.
        detail: intervals, names of models, and the method that kept most; may be empty.
    """

    lead: str
    detail: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.lead, self.detail)))


def finding(results: Results) -> str:
    """The finding, in sentences that claim no more than the intervals allow."""
    return str(claim(results))


def claim(results: Results) -> Claim:
    """The finding in two parts."""
    if not results.records:
        return Claim(f"Nothing is measured yet: 0 of {len(results.plan.steps):,} steps are done.")
    changes = reference_changes(results)
    contests = [contest for model in results.suite.models if (contest := _contest(results, model, changes))]
    if not contests:
        return _start(results)
    partial = any(row.missing for row in results.summaries)
    cost = _cost(contests)
    detail = " ".join(filter(None, (cost.detail, _by_heart(contests), _chance(contests), _ranking(contests))))
    lead = f"{cost.lead}{_hidden(contests)}{_forgotten(contests)}"
    lead = f"{'Of the rows that are complete: ' if partial else ''}{lead}"
    return Claim(about(results.plan.noun, lead), about(results.plan.noun, detail))


@dataclass(frozen=True)
class _Contest:
    """The complete rows of one model at its main size.

    Attributes:
        shown: the row whose gain and cost the finding reports: `finetune`, or the method with the largest gain.
        rows: rows of matched gain, best mRI first; empty if no method gained or if gains are unknown.
        rivals: methods whose mRI is not distinguishable from that of the best.
        less: rows that keep more than the best and gained less.
        of: number of methods.
        reference: change of accuracy of `shown` on the reference set, tested together with the other rows.
    """

    shown: Summary
    rows: list[Summary]
    rivals: list[str]
    less: list[Summary]
    of: int
    reference: Interval | None

    @property
    def best(self) -> Summary:
        return self.rows[0]


def _contest(results: Results, model: str, changes: Mapping[Group, Interval | None]) -> _Contest | None:
    tuned = [(group, row) for group, row in ordered(results) if group[0] == model and row.mri]
    if not tuned:
        return None
    main = main_size(row for _, row in tuned)
    rows = sorted((pair for pair in tuned if pair[0][2] == main), key=lambda pair: -_value(pair[1].mri))
    most = max((row for _, row in rows), key=lambda row: gain.value if (gain := learned(row)) else float("-inf"))
    shown = shown_first(row for _, row in tuned) or most
    matched = [pair for pair in rows if pair[1].matched] if _gained(most) else []
    rivals = _rivals(results, matched)
    ahead = matched[0][1].mri if matched else None
    less = [row for _, row in rows if ahead and not row.matched and _value(row.mri) > ahead.value]
    reference = next(changes[group] for group, row in tuned if row is shown)
    return _Contest(shown, [row for _, row in matched], rivals, less, len(rows), reference)


def _rivals(results: Results, matched: Sequence[tuple[Group, Summary]]) -> list[str]:
    """Methods whose mRI is not distinguishably below the best one's, tested together (Holm)."""
    if not matched:
        return []
    leads = as_family(results.estimates.compare(matched[0][0], group) for group, _ in matched[1:])
    return [row.method for (_, row), lead in zip(matched[1:], leads, strict=True) if not (lead and lead.differs)]


def _gained(row: Summary) -> bool:
    """Whether accuracy on the tuned set is distinguishably above that of the pretrained model."""
    return row.gain is not None and row.gain.low > 0


def _value(interval: Interval | None) -> float:
    assert interval is not None
    return interval.value


# -- what was gained, and what it cost ---------------------------------------------------------------------------------


def _cost(contests: Sequence[_Contest]) -> Claim:
    """Gain and cost, on one model or on several."""
    shown = [contest.shown for contest in contests]
    return _one_cost(shown[0]) if len(shown) == 1 else _several_costs(shown)


def _one_cost(row: Summary) -> Claim:
    """One model: "finetune gained +20.1 points on the set tuned on and lost 1.3 elsewhere, on resnet_small."."""
    assert row.mri is not None
    gain, where = _learned(row)
    if gain is None:
        return Claim(f"{row.method} {_change(row.mri, ' points')} on the other sets, on {row.model}.", _UNMEASURED)
    ends = f"With 95 % intervals: {_spanned(gain)} on {where}, {_spanned(row.mri)} elsewhere."
    return Claim(f"{row.method} {_gain(gain)} on {where} and {_change(row.mri)} elsewhere, on {row.model}.", ends)


def _hidden(contests: Sequence[_Contest]) -> str:
    """The largest certain loss after tuning on one set, as a sentence, of models whose mean over the sets shows no
    certain loss; empty if none exceeds `LOSS` points."""
    rows = [one.shown for one in contests if not (one.shown.mri and one.shown.mri.marked and one.shown.mri.value < 0)]
    lost = [
        (ri.value, name, row.model)
        for row in rows
        for name, ri in row.ri.items()
        if ri and ri.marked and ri.value < LOSS and len(row.ri) > 1
    ]
    if not lost:
        return ""
    value, name, model = min(lost)
    return f" But tuned on {name}, {'it' if len(contests) == 1 else model} lost {-value:z.1f} points elsewhere."


def _forgotten(contests: Sequence[_Contest]) -> str:
    """The certain losses on the reference set, as a sentence; empty if none exceeds `LOSS` points."""
    known = [one.reference for one in contests]
    lost = sorted(-one.value for one in known if one and one.marked and one.value < LOSS)
    if not lost:
        return ""
    points = " to ".join(dict.fromkeys((f"{lost[0]:z.1f}", f"{lost[-1]:z.1f}")))
    where = "it" if len(contests) == 1 else f"{_of(len(lost), len(contests))} models"
    return f" On the reference set {where} lost {points} points."


_OWN, _SEEN = "the set tuned on", "the very images tuned on"
_UNMEASURED = "What it gained on the set tuned on was not measured on unseen images."


def _learned(row: Summary) -> tuple[Interval | None, str]:
    """The gain on unseen images of the tuned set, or else on the tuning images, and the name of the one that it is."""
    return learned(row), _SEEN if row.gain is None and row.seen_gain else _OWN


def _by_heart(contests: Sequence[_Contest]) -> str:
    """A warning if the gain was measured on the tuning images themselves."""
    if any(contest.shown.gain is None and contest.shown.seen_gain for contest in contests):
        return "No images of the sets tuned on were kept apart, so that gain may be learned by heart."
    return ""


def _gain(gain: Interval) -> str:
    if not gain.excludes_zero:
        return "shows no distinguishable gain"
    return f"gained {signed(gain.value)} points" if gain.value > 0 else f"lost {abs(gain.value):z.1f} points"


def _change(mri: Interval, unit: str = "") -> str:
    if not mri.marked:
        return "shows no distinguishable change"
    return f"gained {signed(mri.value)}{unit}" if mri.value > 0 else f"lost {abs(mri.value):z.1f}{unit}"


def _several_costs(rows: Sequence[Summary]) -> Claim:
    """The range of gains over several models, and the range of changes on the other sets."""
    methods = list(dict.fromkeys(row.method for row in rows))
    name = methods[0] if len(methods) == 1 else "The method that gained most"
    if len(methods) > 1 and "finetune" in methods:
        name = "finetune, or the method that gained most where it was not run,"
    changed, extremes = _over([_value(row.mri) for row in rows]), _extremes(rows)
    gains = [gain for gain, _ in map(_learned, rows)]
    places = dict.fromkeys(where for _, where in map(_learned, rows))
    if None in gains or len(places) > 1:
        return Claim(f"{name} {changed} on the other sets: {_certain(rows)}.", f"{_UNMEASURED} {extremes}.")
    least, most = _ends_of(rows, gains)
    idle = [row.model for row, gain in zip(rows, gains, strict=True) if gain and not gain.low > 0]
    sure = f" (on {listed(idle)} no distinguishable gain)" if idle else ""
    gained = f"{_over([_value(gain) for gain in gains])} on {next(iter(places))}"
    detail = f"{most} gained most and {least} least{sure}; {extremes}."
    return Claim(f"{name} {gained} and {changed} elsewhere: {_certain(rows)}.", detail)


def _extremes(rows: Sequence[Summary]) -> str:
    """The models with the largest and the smallest loss on the other sets, or with the largest gain."""
    values = [_value(row.mri) for row in rows]
    low, high = _ends_of(rows, [row.mri for row in rows])
    if min(values) >= 0:
        return f"{high} gained most elsewhere and {low} least"
    return f"{low} lost most elsewhere and {high} {'least' if max(values) <= 0 else 'gained most'}"


def _certain(rows: Sequence[Summary]) -> str:
    """On how many models the change on the other sets is distinguishable from zero."""
    lost = sum(bool(row.mri and row.mri.marked and row.mri.value < 0) for row in rows)
    more = sum(bool(row.mri and row.mri.marked and row.mri.value > 0) for row in rows)
    sure = [f"a distinguishable loss on {_of(lost, len(rows))} models" if lost else ""]
    sure += [f"a distinguishable gain on {_of(more, len(rows))} models" if more else ""]
    return listed([*filter(None, sure)]) or "no distinguishable change"


def _over(values: Sequence[float]) -> str:
    """A range of changes: "gained +0.1 to +3.1 points", "lost 1.0 to 9.4 points"."""
    low, high = min(values), max(values)
    if signed(high).startswith("-"):
        return f"lost {abs(high):z.1f} to {abs(low):z.1f} points"
    verb = "changed by" if signed(low).startswith("-") else "gained"
    return f"{verb} {signed(low)} to {signed(high)} points"


def _ends_of(rows: Sequence[Summary], numbers: Sequence[Interval | None]) -> tuple[str, str]:
    """The models with the lowest and with the highest number, each with that number in parentheses."""
    ends = sorted(zip(rows, map(_value, numbers), strict=True), key=lambda end: end[1])
    low, high = (f"{row.model} ({signed(value)})" for row, value in (ends[0], ends[-1]))
    return low, high


def _chance(contests: Sequence[_Contest]) -> str:
    """The trainings of the shown rows that ended at chance or diverged, a sentence each."""
    endings = (
        (contest.shown, how, sets)
        for contest in contests
        for how, sets in (("ended at chance", contest.shown.at_chance), ("diverged", contest.shown.diverged))
    )
    return " ".join(f"{row.method} of {row.model} {how} on {listed(sets)}." for row, how, sets in endings if sets)


# -- who kept most, at matched gain ------------------------------------------------------------------------------------


def _ranking(contests: Sequence[_Contest]) -> str:
    if all(contest.of == 1 for contest in contests):
        return ""
    if all(contest.shown.gain is None for contest in contests):
        return "What each method gained on unseen images is not known, so none is ranked by what it kept elsewhere."
    ranked = [contest for contest in contests if contest.rows and contest.of > 1]
    if not ranked:
        return (
            "No method shows a distinguishable gain on the set tuned on, so none is ranked by what it kept elsewhere."
        )
    if len(ranked) == 1:
        return _alone(ranked[0], contests) + _one_ranking(ranked[0])
    return _several_rankings(ranked, len(contests))


def _alone(ranked: _Contest, contests: Sequence[_Contest]) -> str:
    """Why only one of several models has a ranking: the others gained nothing, or have a single method with a gain."""
    if len(contests) == 1:
        return ""
    if any(contest.rows for contest in contests if contest is not ranked):
        return f"Only {ranked.best.model} has several methods to compare at matched gain. "
    return f"Only {ranked.best.model} shows a distinguishable gain there. "


def _one_ranking(contest: _Contest) -> str:
    best = contest.best
    if len(contest.rows) == 1:
        text = f"No other method gained as much as {best.method} ({_points(best.gain)})"
    else:
        lead = (
            f"not distinguishable from {listed(contest.rivals)}"
            if contest.rivals
            else "distinguishably ahead of the rest"
        )
        text = (
            f"Of the {len(contest.rows)} methods that gained as much as any, {best.method} kept most elsewhere: "
            f"{_quoted(best)}, {lead}"
        )
    if contest.less:
        kept = [f"{row.method} ({_points(row.mri)}) gained {_points(row.gain)}" for row in contest.less]
        text += f"; what kept more learned less: {listed(kept)}"
    return text + "."


def _several_rankings(contests: Sequence[_Contest], models: int) -> str:
    method, count = Counter(contest.best.method for contest in contests).most_common(1)[0]
    won = [contest for contest in contests if contest.best.method == method]
    bests = sorted((contest.best for contest in contests), key=lambda row: _value(row.mri))
    where = "At matched gain" if len(contests) == models else f"At matched gain, on the {len(contests)} that gained,"
    if count == 1:
        text = f"{where} which method kept most differs from model to model{_lead(contests)}"
    else:
        text = f"{where} {method} kept most on {_of(count, len(contests))} models{_lead(won)}"
    ends = [f"{_quoted(row)} with {row.method} on {row.model}" for row in (bests[0], bests[-1])]
    text += f". The best of each model runs from {' to '.join(ends)}."
    if less := Counter(row.method for contest in contests for row in contest.less):
        text += f" What kept more on some learned less there: {listed(list(less))}."
    return text


def _lead(contests: Sequence[_Contest]) -> str:
    """On how many of these models the best method is distinguishable from all others."""
    clear = sum(not contest.rivals and len(contest.rows) > 1 for contest in contests)
    return f", distinguishably ahead on {_of(clear, len(contests))}" if clear else ", by no clear margin"


def _start(results: Results) -> Claim:
    starts = [row for row in results.summaries if row.method == "pretrained" and row.ood_before]
    if not starts:
        return Claim("No row is complete yet.")
    best = max(starts, key=lambda row: _value(row.ood_before))
    assert best.ood_before is not None
    level = f"{best.ood_before.value:z.1f} % ({best.ood_before.low:z.1f} to {best.ood_before.high:z.1f})"
    tuned = any(run.tuned_on for run in results.plan.runs)
    why = "No tuned model is complete" if tuned else "This suite tunes nothing"
    if not tuned and results.plan.merges:
        why = "This suite only merges models"
    what = "the highest mean OOD accuracy," if len(starts) > 1 else "a mean OOD accuracy of"
    return Claim(f"{why}; {best.model} starts with {what} {level}.")


def _points(interval: Interval | None) -> str:
    return signed(interval.value) if interval else "an unknown amount"


def _ends(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"


def _spanned(interval: Interval) -> str:
    return f"{signed(interval.value)} ({_ends(interval)})"


def _quoted(row: Summary) -> str:
    assert row.mri is not None
    return f"{signed(row.mri.value)} points ({_ends(row.mri)})"


def _of(count: int, total: int) -> str:
    if count == total:
        return "both" if total == 2 else f"all {total}"
    return f"{count} of {total}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names as a phrase; of many names, the first few."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
