"""What the results say in words: numbers with their signs, marks, and the one-sentence finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rib.metrics import Interval
from rib.report.results import Group, Results, Summary


def size_name(size: int | None) -> str:
    """Number of images tuned on, for people."""
    return "all" if size is None else f"{size:,}"


def size_order(size: int | None) -> float:
    """Sorts sizes, all last."""
    return float("inf") if size is None else size


def main_size(rows: Iterable[Summary]) -> int | None:
    """The size at which most methods are compared; of several such, the largest."""
    counts = Counter(row.size for row in rows if row.method != "pretrained")
    return max(counts, key=lambda size: (counts[size], size_order(size)), default=None)


def signed(value: float, width: int = 0) -> str:
    """Points with one decimal and the sign they have before rounding, so that -0.0 is seen to be below zero."""
    return f"{value + 0.0:+{width}.1f}"


def spanned(interval: Interval, width: int = 0) -> str:
    """Points with their interval."""
    return f"{signed(interval.value, width)} [{signed(interval.low, width)}, {signed(interval.high, width)}]"


def marks(row: Summary) -> str:
    """≈ where the mRI is not distinguishable from 0; ▲ ▼ where it is distinguishable from finetune's."""
    zero = "≈" if row.mri and not row.mri.excludes_zero else ""
    against = row.against_finetune
    return zero + ("" if against is None or not against.excludes_zero else "▲" if against.value > 0 else "▼")


def ordered(results: Results) -> list[tuple[Group, Summary]]:
    """The rows of the headline table: by model as in the suite, then size, then method as in the suite."""
    models = list(dict.fromkeys(model for model, _, _ in results.groups))
    rows = list(zip(results.groups, results.summaries, strict=True))

    def place(row: tuple[Group, Summary]) -> tuple[int, bool, float]:
        (model, method, size), _ = row
        return models.index(model), method != "pretrained", size_order(size)

    return sorted(rows, key=place)


def extent(results: Results) -> str:
    """How much was compared, in one line."""
    tuned = [run for run in results.plan.runs if run.tuned_on]
    steps, done = len(results.plan.steps), len(results.records)
    counts = [
        _count(len(results.suite.models), "model"),
        _count(len({run.method for run in tuned}), "method"),
        _count(len(results.suite.downstream), "downstream set"),
        _count(len({run.seed for run in tuned}), "seed"),
        f"{done:,} of {steps:,} steps done" if done < steps else f"{steps:,} steps",
    ]
    return " · ".join(text for text in counts if not text.startswith("0 m") and not text.startswith("0 s"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def holes(results: Results) -> list[tuple[str, tuple[str, ...]]]:
    """Rows with missing predictions: name of the row, and what is missing."""
    several = len({size for _, _, size in results.groups}) > 1
    return [
        (
            f"{row.model} {row.method}" + (f" n={size_name(size)}" if several and method != "pretrained" else ""),
            row.missing,
        )
        for (_, method, size), row in ordered(results)
        if row.missing
    ]


# -- the finding ---------------------------------------------------------------------------------------------------


def finding(results: Results) -> str:
    """What the numbers say, in one sentence that claims no more than their intervals allow."""
    if not results.records:
        return f"Nothing is measured yet: 0 of {len(results.plan.steps):,} steps are done."
    contests = [contest for model in results.suite.models if (contest := _contest(results, model))]
    if not contests:
        return _start_finding(results)
    partial = any(row.missing for row in results.summaries)
    said = _one_model(contests[0]) if len(contests) == 1 else _several_models(contests)
    return f"Of the rows that are complete: {said}" if partial else said


@dataclass(frozen=True)
class _Contest:
    """The complete rows of one model at its main size, best mRI first."""

    rows: list[Summary]
    rivals: list[str]  # methods whose mRI is not distinguishable from the best

    @property
    def best(self) -> Summary:
        return self.rows[0]

    @property
    def finetune(self) -> Summary | None:
        return next((row for row in self.rows[1:] if row.method == "finetune"), None)


def _contest(results: Results, model: str) -> _Contest | None:
    tuned = [(group, row) for group, row in ordered(results) if group[0] == model and row.mri]
    if not tuned:
        return None
    main = main_size(row for _, row in tuned)
    rows = sorted((pair for pair in tuned if pair[0][2] == main), key=lambda pair: -_value(pair[1].mri))
    leads = [(row.method, results.compare(rows[0][0], group)) for group, row in rows[1:]]
    return _Contest([row for _, row in rows], [method for method, lead in leads if not (lead and lead.low > 0)])


def _value(interval: Interval | None) -> float:
    assert interval is not None
    return interval.value


def _quoted(row: Summary) -> str:
    assert row.mri is not None
    return f"{signed(row.mri.value)} points ({signed(row.mri.low)} to {signed(row.mri.high)})"


def _one_model(contest: _Contest) -> str:
    best = contest.best
    assert best.mri is not None
    zero = "" if best.mri.excludes_zero else ", not distinguishable from no change"
    if len(contest.rows) == 1:
        return f"{best.method} changed the OOD accuracy of {best.model} by {_quoted(best)}{zero}."
    lead = f"not distinguishable from {_listed(contest.rivals)}"
    if not contest.rivals:
        lead = "distinguishably ahead of " + _count(len(contest.rows) - 1, "other method")
    text = f"{best.method} has the highest mRI on {best.model}, {_quoted(best)}{zero}; it is {lead}"
    if contest.finetune and contest.finetune.method not in contest.rivals:
        text += f"; finetune: {_quoted(contest.finetune)}"
    return text + "."


def _several_models(contests: Sequence[_Contest]) -> str:
    bests = sorted((contest.best for contest in contests), key=lambda row: _value(row.mri))
    if all(len(contest.rows) == 1 for contest in contests):
        return f"mRI runs from {_range(bests)}."
    method, count = Counter(contest.best.method for contest in contests).most_common(1)[0]
    if count == 1:
        text = f"The best method differs from model to model{_lead(contests)}: mRI from {_range(bests, named=True)}"
    else:
        won = [contest for contest in contests if contest.best.method == method]
        where = _of(count, len(contests)) + " models"
        text = f"{method} has the highest mRI on {where}{_lead(won)}; the best of each model runs from {_range(bests)}"
    tuned = sorted((row for contest in contests if (row := contest.finetune)), key=lambda row: _value(row.mri))
    if len(tuned) == len(contests):
        text += f"; finetune from {signed(_value(tuned[0].mri))} to {signed(_value(tuned[-1].mri))}"
    return text + "."


def _lead(contests: Sequence[_Contest]) -> str:
    """Whether the best method is distinguishable from all others, on how many of these models."""
    clear = sum(not contest.rivals for contest in contests)
    if not clear:
        return ", by no clear margin"
    return f", distinguishably ahead of every other method on {_of(clear, len(contests))}"


def _range(rows: Sequence[Summary], named: bool = False) -> str:
    low, high = (
        f"{_quoted(row)}{f' with {row.method}' if named else ''} on {row.model}" for row in (rows[0], rows[-1])
    )
    return f"{low} to {high}"


def _of(count: int, total: int) -> str:
    if count == total:
        return "both" if total == 2 else f"all {total}"
    return f"{count} of {total}"


def _start_finding(results: Results) -> str:
    starts = [row for row in results.summaries if row.method == "pretrained" and row.ood_before]
    if not starts:
        return "No row is complete yet."
    best = max(starts, key=lambda row: _value(row.ood_before))
    assert best.ood_before is not None
    level = f"{best.ood_before.value:.1f} % ({best.ood_before.low:.1f} to {best.ood_before.high:.1f})"
    tuned = any(run.tuned_on for run in results.plan.runs)
    why = "No tuned model is complete" if tuned else "This suite tunes nothing"
    return f"{why}; {best.model} starts with the highest mean OOD accuracy, {level}."


def _listed(names: Sequence[str], most: int = 3) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
