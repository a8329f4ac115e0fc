"""The rows of a report: scores, summaries, changes, notes and the values of analyses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rib.metrics.intervals import LEVEL, PARTS, Interval
from rib.plan import Run


@dataclass(frozen=True)
class Score:
    """Accuracy of one model on one data set. Percent; None if the prediction is missing.

    Attributes:
        model, method, size, seed, tuned_on: the model; size None means all images, tuned_on None means pretrained.
        tested_on: the test set.
        role: "downstream", "own" (unseen images of the tuned set), "seen" (the tuning images, of a set that is tuned on
            whole), "reference" or "evaluate".
        masked: accuracy among the data set's classes, in percent.
        unmasked: accuracy among all classes of the model, in percent.
        examples: number of test images.
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

    A number is None if one of its cells is missing. Accuracies are masked unless the name says otherwise.

    Attributes:
        model, method, size: the group.
        seeds: seeds of the mean; empty for the pretrained model.
        mri: mean RI over the tuned sets, points.
        mri_disjoint: the mean of source-disjoint RIs, points.
        mri_unmasked: mRI of unmasked accuracy, points.
        mri_present, mri_absent: mean of `ri_present` and of `ri_absent` over the tuned sets that have them.
        seed_spread: standard deviation of mRI over seeds, points; None with fewer than two.
        ri: RI by tuned set, points.
        ri_disjoint: RI over the sets of other source families only, points; None without such sets.
        ri_present: RI over test images of classes in the tuned set, points; equal to RI if it lacks no class.
        ri_absent: RI over test images of other classes; None if it lacks no class. See `rib.results.presence`.
        ood_before, ood_after: mean accuracy on the other downstream sets, averaged over the tuned sets, percent.
        own_before, own_after: mean accuracy on unseen images of the tuned sets, percent.
        gain: `own_after` minus `own_before`, paired, points.
        seen_before, seen_after: mean accuracy on the tuning images, if sets are tuned on whole, percent.
        seen_gain: `seen_after` minus `seen_before`, paired, points. It shows how well the images are learned, or
            memorised, and ranks nothing.
        matched: whether `gain` is not distinguishably below `MATCHED` times the largest gain of its model and size.
        at_chance: tuned sets on which a training ended no better than a constant answer, with the seed.
        diverged: tuned sets on which a training ended with a loss well above its start, with the seed.
        reference_before, reference_after: accuracy on the reference set, percent.
        evaluate: accuracy (before, after) on each evaluation-only set, percent.
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
    ri: dict[str, Interval | None] = field(default_factory=dict)
    ri_disjoint: dict[str, Interval | None] = field(default_factory=dict)
    ri_present: dict[str, Interval | None] = field(default_factory=dict)
    ri_absent: dict[str, Interval | None] = field(default_factory=dict)
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
    diverged: tuple[str, ...] = ()
    reference_before: Interval | None = None
    reference_after: Interval | None = None
    evaluate: dict[str, tuple[Interval | None, Interval | None]] = field(default_factory=dict)
    against_finetune: Interval | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One cell of the change matrix: mean over seeds of the accuracy change in points; None if missing."""

    model: str
    method: str
    size: int | None
    tuned_on: str
    tested_on: str
    role: str
    change: Interval | None


@dataclass(frozen=True)
class ResultNote:
    """Notes of a method about the training of a model: losses, choices and their reasons."""

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
        name: name of the analysis in the suite.
        run: the analysed model.
        on: the data sets that the analysis read.
        values: its values.
    """

    name: str
    run: Run
    on: tuple[str, ...]
    values: dict[str, Any]


MATCHED = 0.9
"""Share of the largest gain. RIB ranks methods only if their gain on the tuned set is at least this share of the
largest gain, or not distinguishable from it. A method that learns little loses little, which is no merit."""

Group = tuple[str, str, int | None]
"""model, method, size"""


def size_order(size: int | None) -> float:
    """Sort key for sizes; all images come last."""
    return float("inf") if size is None else size


def main_size(rows: Iterable[Summary]) -> int | None:
    """The size with the most methods; of several such sizes, the largest."""
    counts = Counter(row.size for row in rows if row.method != "pretrained")
    return max(counts, key=lambda size: (counts[size], size_order(size)), default=None)


def learned(row: Summary) -> Interval | None:
    """The gain on unseen images of the tuned set, or else the gain on the tuning images."""
    return row.gain or row.seen_gain


def shown_first(rows: Iterable[Summary]) -> Summary | None:
    """The row of one model whose gain and cost come first: `finetune`, or the method with the largest gain.

    The row has the main size. None if no row is complete.
    """
    tuned = [row for row in rows if row.method != "pretrained" and row.mri]
    main = main_size(tuned)
    compared: Sequence[Summary] = [row for row in tuned if row.size == main]
    plain = [row for row in compared if row.method == "finetune"]
    most = max(compared, key=lambda row: gain.value if (gain := learned(row)) else float("-inf"), default=None)
    return plain[0] if plain else most


def folded_rows(rows: list[Summary]) -> list[bool]:
    """Which rows of a long table are left out.

    The table keeps `finetune`, the best row of each model and size, the best among rows of matched gain, and every row
    that is incomplete or distinguishable from `finetune`.
    """
    best: dict[tuple[str, int | None, bool], float] = {}
    for row in rows:
        for learned in (False, True):
            if row.mri and not (learned and row.matched is False):
                place = (row.model, row.size, learned)
                best[place] = max(best.get(place, row.mri.value), row.mri.value)

    def like_finetune(row: Summary) -> bool:
        compared = row.against_finetune
        if row.mri is None or compared is None or row.method == "finetune":
            return False
        return not compared.differs and all(
            row.mri.value != best.get((row.model, row.size, learned)) for learned in (False, True)
        )

    return [like_finetune(row) for row in rows]


def unmarked_reason(rows: Iterable[Summary]) -> str:
    """Says why rows whose interval excludes 0 have no mark; empty if there is no such row, or if it needs no reason.

    Rows outside of the first sentence are tested at the whole level only if all rows of it are distinguishable from 0
    (`Results.summaries`).
    """
    tuned = [row for row in rows if row.method != "pretrained" and row.mri]
    models = dict.fromkeys(row.model for row in tuned)
    first = [row for model in models if (row := shown_first(row for row in tuned if row.model == model))]
    unclear = [row for row in first if row.mri and not row.mri.marked]
    others = [row for row in tuned if not any(row is one for one in first)]
    if not unclear or not any(row.mri and row.mri.excludes_zero and not row.mri.marked for row in others):
        return ""
    methods = " or ".join(dict.fromkeys(row.method for row in unclear))
    names = ", ".join(row.model for row in unclear[:3])
    more = f" and {len(unclear) - 3} more" if len(unclear) > 3 else ""
    return (
        f"The rows of the first sentence are tested first. As {methods} on {names}{more} is not distinguishable "
        f"from 0, all other rows together are tested at {100 * LEVEL * PARTS[1]:g} %, so one may have no mark though "
        "its interval excludes 0."
    )
