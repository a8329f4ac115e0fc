"""Leave-one-out merges: models tuned on all downstream sets but one are merged, and tested on the one left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rib.metrics.estimates import Estimate, Seeds, mean_over_seeds
from rib.metrics.intervals import Interval, as_family
from rib.metrics.missing import interval_of, mean_if_whole, minus
from rib.plan import Merge
from rib.results.results import Results
from rib.results.rows import Group


@dataclass(frozen=True)
class MergeRow:
    """A merging method at one size, over the sets left out and the seeds. A number is None if a prediction is missing.

    These rows are not ranked with methods that tune on one set, because a merge has seen several sets.

    Attributes:
        model, method, size: the group.
        seeds: tuning seeds of the mean.
        merged: for each set left out, the tuned sets of the merged models.
        ri: for each set left out, its change of accuracy from the pretrained model, points.
        mri: mean of `ri` over the sets left out.
        singles: mean change of the single models on the same sets, points.
        against_singles: `mri` minus `singles`, paired, points.
        gain: mean change of accuracy on unseen images of the merged sets, points; None without such images.
        reference_before, reference_after: accuracy on the reference set, percent.
        missing: what is missing, in words.
    """

    model: str
    method: str
    size: int | None
    seeds: tuple[int, ...]
    merged: dict[str, tuple[str, ...]]
    ri: dict[str, Interval | None]
    mri: Interval | None
    singles: Interval | None
    against_singles: Interval | None
    gain: Interval | None
    reference_before: Interval | None
    reference_after: Interval | None
    missing: tuple[str, ...] = ()


def merge_rows(results: Results) -> list[MergeRow]:
    """One row per model, method and size. Each of the two kinds of mark is one family of tests (Holm)."""
    grouped: dict[Group, list[Merge]] = {}
    for merge in results.plan.merges:
        grouped.setdefault((merge.model, merge.method, merge.size), []).append(merge)
    rows = [_row(results, group, merges) for group, merges in grouped.items()]
    zero = as_family(row.mri for row in rows)
    against = as_family(row.against_singles for row in rows)
    return [replace(row, mri=mri, against_singles=other) for row, mri, other in zip(rows, zero, against, strict=True)]


def _row(results: Results, group: Group, merges: Sequence[Merge]) -> MergeRow:
    model, method, size = group
    by_set = {left: [merge for merge in merges if merge.left_out == left] for left in _left(merges)}
    found = {left: _change(results, mine) for left, mine in by_set.items()}
    singles = mean_if_whole([_singles(results, mine) for mine in by_set.values()])
    mri = mean_if_whole(list(found.values()))
    own = [gain for mine in by_set.values() for gain in _gains(results, mine)]
    reference = results.suite.reference
    after = [_over_seeds(mine, [_of(results, merge, reference) for merge in mine]) for mine in by_set.values()]
    names = results.set_name
    return MergeRow(
        model=results.model_name(model),
        method=method,
        size=size,
        seeds=tuple(sorted({merge.seed for merge in merges})),
        merged={names(left): tuple(map(names, mine[0].of)) for left, mine in by_set.items()},
        ri=dict(zip(map(names, found), as_family(map(interval_of, found.values())), strict=True)),
        mri=interval_of(mri),
        singles=interval_of(singles),
        against_singles=interval_of(minus(mri, singles)),
        gain=interval_of(mean_if_whole(own)),
        reference_before=interval_of(results.estimates.pretrained(model, reference)),
        reference_after=interval_of(mean_if_whole(after)),
        missing=tuple(
            f"all but {names(merge.left_out)} → {names(name)}"
            for merge in merges
            for name, predict in merge.predictions
            if predict.key not in results.records
        ),
    )


def _left(merges: Iterable[Merge]) -> list[str]:
    return list(dict.fromkeys(merge.left_out for merge in merges))


def _change(results: Results, merges: Sequence[Merge]) -> Estimate | None:
    """Change of accuracy on the set left out, over merges that differ only in their seed."""
    after = _over_seeds(merges, [results.accuracies.of_step(merge.score) for merge in merges])
    return minus(after, results.estimates.pretrained(merges[0].model, merges[0].left_out))


def _singles(results: Results, merges: Sequence[Merge]) -> Estimate | None:
    """The same for the single models, averaged."""
    before = results.estimates.pretrained(merges[0].model, merges[0].left_out)
    steps = [[merge.singles[name] for merge in merges] for name in merges[0].of]
    after = [_over_seeds(merges, [results.accuracies.of_step(step) for step in mine]) for mine in steps]
    return mean_if_whole([minus(level, before) for level in after])


def _gains(results: Results, merges: Sequence[Merge]) -> Iterable[Estimate | None]:
    """Change of accuracy on unseen images of each merged set."""
    for name in merges[0].of:
        if name in merges[0].others:
            after = _over_seeds(merges, [_of(results, merge, name) for merge in merges])
            yield minus(after, results.estimates.pretrained(merges[0].model, name))


def _of(results: Results, merge: Merge, name: str) -> Estimate | None:
    return results.accuracies.of_step(merge.others[name])


def _over_seeds(merges: Sequence[Merge], estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The mean over tuning seeds, which are the same draws as for other methods; None if an estimate is missing."""
    whole = [estimate for estimate in estimates if estimate is not None]
    if not whole or len(whole) < len(estimates):
        return None
    return mean_over_seeds(whole, Seeds("tuning", tuple(merge.seed for merge in merges)))
