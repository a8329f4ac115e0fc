"""Words: numbers with signs, sizes, marks of rows and missing parts, as text."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rib.metrics.intervals import Interval
from rib.results.results import Results
from rib.results.rows import Group, Summary, size_order
from rib.suite.load import shipped


def size_name(size: int | None) -> str:
    """Number of tuning images, as text."""
    return "all" if size is None else f"{size:,}"


ONE_SEED = "°"
"""Mark behind an interval that does not cover seeds."""


def lacking(intervals: Iterable[Interval | None]) -> str:
    """A sentence that explains this mark; empty if none of the intervals has it."""
    lacks = dict.fromkeys(each for found in intervals if found for each in found.lacks)
    if not lacks:
        return ""
    return (
        f"{ONE_SEED} one draw of the {' and '.join(lacks)}, whose noise the interval lacks: it does not say what "
        "another would give, and no difference of methods is marked."
    )


def suite_word(results: Results) -> str:
    """What names the suite in a command: its name if it is shipped, else SUITE, which stands for the user's file."""
    return results.suite.name if results.suite.name in shipped() else "SUITE"


def signed(value: float, width: int = 0) -> str:
    """Points with one decimal and a sign. A negative number that rounds to zero is "0.0", never "-0.0"."""
    if not math.isfinite(value):
        return f"{'missing':>{width}}"
    text = f"{value + 0.0:+.1f}"
    return f"{'0.0' if text == '-0.0' else text:>{width}}"


def spanned(interval: Interval, width: int = 0) -> str:
    """Points with their interval, and a mark if seeds are random but the interval covers images alone."""
    ends = f"[{signed(interval.low, width)}, {signed(interval.high, width)}]"
    return f"{signed(interval.value, width)} {ends}{ONE_SEED if interval.lacks else ''}"


def marks(row: Summary) -> str:
    """Marks of a row: ∅ if it learned less than other methods, ✗ if a training ended at chance or
    diverged.

    ≈ means that mRI is not distinguishable from 0; ▲ and ▼ that it is distinguishable from the mRI of finetune. Each of
    these two holds for the whole table together (`Results.summaries`). A difference that lacks seeds has no mark.
    """
    zero = "≈" if row.mri and not row.mri.marked else ""
    against = row.against_finetune
    learned = ("∅" if row.matched is False else "") + ("✗" if row.at_chance or row.diverged else "")
    return learned + zero + ("" if against is None or not against.differs else "▲" if against.value > 0 else "▼")


def ordered(results: Results) -> list[tuple[Group, Summary]]:
    """The rows of the headline table: by model as in the suite, then by size, then by method as in the suite."""
    models = list(dict.fromkeys(model for model, _, _ in results.groups))
    rows = list(zip(results.groups, results.summaries, strict=True))

    def place(row: tuple[Group, Summary]) -> tuple[int, bool, float]:
        (model, method, size), _ = row
        return models.index(model), method != "pretrained", size_order(size)

    return sorted(rows, key=place)


def extent(results: Results) -> str:
    """What was compared, in one line: the numbers of models, methods, sets and seeds."""
    tuned = [run for run in results.plan.runs if run.tuned_on]
    steps, done = len(results.plan.steps), len(results.records)
    counts = [
        _count(len(results.suite.models), "model"),
        _count(len({run.method for run in tuned}), "method"),
        _count(len({merge.method for merge in results.plan.merges}), "merging method"),
        _count(len(results.suite.downstream), "downstream set"),
        _count(len({run.seed for run in tuned} | {merge.seed for merge in results.plan.merges}), "seed"),
        f"{done:,} of {steps:,} steps done" if done < steps else f"{steps:,} steps",
    ]
    return " · ".join(text for text in counts if not text.startswith("0 m") and not text.startswith("0 s"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def holes(results: Results) -> list[tuple[str, tuple[str, ...]]]:
    """Rows with missing predictions: the name of the row, and what is missing."""
    several = len({size for _, _, size in results.groups}) > 1
    return [
        (
            f"{row.model} {row.method}" + (f" n={size_name(size)}" if several and method != "pretrained" else ""),
            row.missing,
        )
        for (_, method, size), row in ordered(results)
        if row.missing
    ]
