"""The rows of a report: scores, summaries, changes, notes and the values of analyses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rib.metrics.intervals import Interval
from rib.plan import Run


@dataclass(frozen=True)
class Score:
    """Accuracy of one model on one data set. Percent; None if the prediction is missing.

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

    Every number is None if a cell it needs is missing. Accuracies are masked unless said otherwise.

    Attributes:
        model, method, size: which.
        seeds: the seeds it is a mean over; empty for the pretrained model.
        mri: mean RI over the downstream sets, points.
        mri_disjoint: the same over source-disjoint RIs.
        mri_unmasked: mRI of unmasked accuracy.
        mri_present, mri_absent: mean of `ri_present` and of `ri_absent` over the sets tuned on that have them.
        seed_spread: standard deviation of mRI over seeds, points; None with fewer than two.
        ri: RI by downstream set, points.
        ri_disjoint: RI over the sets of other source families only, points; None if there are none.
        ri_present: RI over the test images whose class the set tuned on shows, points; equal to RI where it lacks none.
        ri_absent: RI over those whose class it lacks; None if it lacks none. See `rib.results.presence`.
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
        on: the data sets it read.
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


def size_order(size: int | None) -> float:
    """Sorts sizes, all last."""
    return float("inf") if size is None else size


def main_size(rows: Iterable[Summary]) -> int | None:
    """The size at which most methods are compared; of several such, the largest."""
    counts = Counter(row.size for row in rows if row.method != "pretrained")
    return max(counts, key=lambda size: (counts[size], size_order(size)), default=None)


def learned(row: Summary) -> Interval | None:
    """The gain on unseen images of the tuned set, or else the gain on the tuning images."""
    return row.gain or row.seen_gain


def shown_first(rows: Iterable[Summary]) -> Summary | None:
    """Of the rows of one model, the one whose gain and cost come first: `finetune`, or the method that gained most.

    It is one of the main size. None if no row is complete.
    """
    tuned = [row for row in rows if row.method != "pretrained" and row.mri]
    main = main_size(tuned)
    compared: Sequence[Summary] = [row for row in tuned if row.size == main]
    plain = [row for row in compared if row.method == "finetune"]
    most = max(compared, key=lambda row: gain.value if (gain := learned(row)) else float("-inf"), default=None)
    return plain[0] if plain else most
