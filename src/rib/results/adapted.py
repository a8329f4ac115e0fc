"""Adapted predictions: what models gain if they may adapt to the unlabelled test inputs. A table of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rib.metrics.estimates import Estimate, Seeds, mean_over_seeds
from rib.metrics.intervals import Interval, as_family
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.plan import AdaptedRun
from rib.results.results import Results


@dataclass(frozen=True)
class AdaptedRow:
    """An adaptation of the models of one method and size; None if a prediction is missing.

    It is never among the rows of methods, nor ranked with them: it has seen test inputs.

    Attributes:
        kind: the adaptation.
        model, method, size: whose predictions.
        seeds: tuning seeds that it is a mean over.
        before, after: mean accuracy on the other downstream sets, percent, without and with adaptation: of a pretrained
            model on all of them.
        change: after minus before, paired, points.
        missing: what is missing, in words.
    """

    kind: str
    model: str
    method: str
    size: int | None
    seeds: tuple[int, ...]
    before: Interval | None
    after: Interval | None
    change: Interval | None
    missing: tuple[str, ...] = ()


def adapted_rows(results: Results) -> list[AdaptedRow]:
    """A row for each adaptation, model, method and size; their changes are one family of tests (Holm)."""
    grouped: dict[tuple[str, str, str, int | None], list[AdaptedRun]] = {}
    for each in results.plan.adapted:
        run = each.run
        grouped.setdefault((each.kind, run.model, run.method, run.size), []).append(each)
    rows = [_row(results, each) for each in grouped.values()]
    family = as_family(row.change for row in rows)
    return [replace(row, change=change) for row, change in zip(rows, family, strict=True)]


def _row(results: Results, runs: Sequence[AdaptedRun]) -> AdaptedRow:
    first = runs[0].run
    by_set: dict[str | None, list[AdaptedRun]] = {}
    for each in runs:
        by_set.setdefault(each.run.tuned_on, []).append(each)
    pairs = [
        (_level(results, mine, name, adapted=False), _level(results, mine, name, adapted=True))
        for tuned_on, mine in by_set.items()
        for name in results.suite.downstream
        if name != tuned_on
    ]
    before, after = (mean_if_whole([pair[place] for pair in pairs]) for place in (0, 1))
    return AdaptedRow(
        kind=runs[0].kind,
        model=results.model_name(first.model),
        method=first.method,
        size=first.size,
        seeds=tuple(sorted({each.run.seed for each in runs if each.run.seed is not None})),
        before=interval_of(before),
        after=interval_of(after),
        change=interval_of(minus(after, before)),
        missing=tuple(step.title for each in runs for step in each.scores.values() if step.key not in results.records),
    )


def _level(results: Results, runs: Sequence[AdaptedRun], name: str, adapted: bool) -> Estimate | None:
    """Accuracy on a data set, the mean over tuning seeds; None if one is missing."""
    steps = [(each.scores if adapted else each.run.scores)[name] for each in runs]
    found = [results.accuracies.of_step(step) for step in steps]
    whole = [each for each in found if each is not None]
    if len(whole) < len(found):
        return None
    seeds = tuple(each.run.seed for each in runs if each.run.seed is not None)
    return mean_over_seeds(whole, Seeds("tuning", seeds)) if seeds else whole[0]
