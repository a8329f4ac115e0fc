"""Answer: what a study found, as plain values: contrasts with intervals, and the points of its figure and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rib.metrics import Interval

Verdict = Literal["shown", "not shown", "reversed", "incomplete"]

RULE = (
    "A contrast is shown when its 95 % interval lies wholly on the claimed side of 0, reversed when it lies wholly on "
    "the other side, else not shown. A claim is shown when all its contrasts are, reversed when all are reversed, and "
    "otherwise not shown. Intervals are not corrected for the number of contrasts."
)
"""Fixed before any study was run."""


@dataclass(frozen=True)
class Contrast:
    """One number that a claim predicts the sign of.

    Attributes:
        family: of models; empty where it runs over several.
        says: which number it is, in words.
        claimed: on which side of 0 the claim puts it.
        interval: the number in points; None where a run is missing.
    """

    family: str
    says: str
    claimed: Literal["above", "below"]
    interval: Interval | None

    @property
    def verdict(self) -> Verdict:
        """What its interval says of the claim."""
        if self.interval is None:
            return "incomplete"
        if not self.interval.excludes_zero:
            return "not shown"
        return "shown" if (self.interval.value > 0) == (self.claimed == "above") else "reversed"


def verdict(contrasts: Iterable[Contrast]) -> Verdict:
    """The common verdict of several contrasts."""
    found = {one.verdict for one in contrasts}
    if "incomplete" in found or not found:
        return "incomplete"
    return found.pop() if len(found) == 1 else "not shown"


@dataclass(frozen=True)
class Line:
    """One row of a panel.

    Attributes:
        name: for people.
        rank: place of its colour: 0 for the smallest pretraining set, counted up; None for what has no scale.
        shape: place of its marker among those of one colour.
        spans: mRI in points at each tick; None where missing or not asked for.
    """

    name: str
    rank: int | None
    shape: int
    spans: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Panel:
    """One panel of the figure, and one table.

    Attributes:
        title: what the lines have in common.
        across: what the ticks are.
        ticks: names, in order.
        lines: the rows.
        joined: whether the points of a line are one quantity at several ticks, and joined.
    """

    title: str
    across: str
    ticks: tuple[str, ...]
    lines: tuple[Line, ...]
    joined: bool = True


@dataclass(frozen=True)
class Answer:
    """What a study found.

    Attributes:
        study: its name.
        suite: name of the suite that it was derived as.
        question: in one sentence.
        claim: what is claimed, and by whom.
        measure: what the points are.
        contrasts: what the claim predicts.
        panels: the points of its figure.
        surface: whether the figure is a map, contours over ticks and lines, rather than lines.
        notes: more that was found, in sentences.
        limits: what it cannot tell, in sentences.
        missing: what is missing, by name; nothing runs over a hole.
    """

    study: str
    suite: str
    question: str
    claim: str
    measure: str
    contrasts: tuple[Contrast, ...]
    panels: tuple[Panel, ...]
    surface: bool = False
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Of all contrasts together."""
        return verdict(self.contrasts)

    @property
    def families(self) -> dict[str, Verdict]:
        """Of each model family that has contrasts of its own."""
        names = dict.fromkeys(one.family for one in self.contrasts)
        return {name: verdict(one for one in self.contrasts if one.family == name) for name in names}
