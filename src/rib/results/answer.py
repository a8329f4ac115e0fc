"""Answer: the result of a study as plain values: contrasts with intervals, and the points of its figure and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rib.metrics.intervals import Interval, as_family

AnswerVerdict = Literal["shown", "not shown", "reversed", "incomplete"]

RULE = (
    "Every contrast is a two-sided test at the level of 5 %, of which half is on the claimed side. It is shown or "
    "reversed, by the side of 0 that it is on, when it is distinguishable from 0 among all contrasts of the study "
    "(Holm: if none is true, one of them is shown or reversed in about 5 % of studies at most); else it is not shown. "
    "A claim of several contrasts needs all of them: it is shown when the 95 % interval of each, by itself, lies "
    "wholly on the claimed side of 0, and reversed when each lies on the other (an intersection-union test, which "
    "needs no adjustment). A contrast that lacks seeds of a kind that is random is not tested."
)
"""The rule of every verdict. It was fixed before any study was run under it."""


@dataclass(frozen=True)
class Contrast:
    """A number whose sign a claim predicts.

    Attributes:
        family: model family; empty if the number covers several families.
        says: description of the number.
        claimed: the side of 0 on which the claim expects the number.
        interval: the number in points; None if a run is missing.
    """

    family: str
    says: str
    claimed: Literal["above", "below"]
    interval: Interval | None

    @property
    def verdict(self) -> AnswerVerdict:
        """Whether its interval supports the claim, after adjustment for the other contrasts of the study."""
        return self._verdict(self.interval is not None and self.interval.differs)

    @property
    def alone(self) -> AnswerVerdict:
        """The verdict without that adjustment."""
        return self._verdict(self.interval is not None and self.interval.tests and self.interval.excludes_zero)

    def _verdict(self, differs: bool) -> AnswerVerdict:
        if self.interval is None:
            return "incomplete"
        if not differs:
            return "not shown"
        return "shown" if (self.interval.value > 0) == (self.claimed == "above") else "reversed"


def as_one_family(contrasts: Sequence[Contrast]) -> tuple[Contrast, ...]:
    """The same contrasts as one family of tests; contrasts without a p value stay out of it."""
    tested = as_family(one.interval if one.interval and one.interval.tests else None for one in contrasts)
    return tuple(replace(one, interval=found or one.interval) for one, found in zip(contrasts, tested, strict=True))


def power(contrasts: Iterable[Contrast]) -> str:
    """The smallest differences that this design could detect, in one sentence; empty if nothing can be tested."""
    known = [(one.interval.detectable, one) for one in contrasts if one.interval and one.interval.tests]
    seen = [(least, one) for least, one in known if least is not None]
    if not seen:
        return ""
    (low, _), (high, worst) = min(seen, key=lambda each: each[0]), max(seen, key=lambda each: each[0])
    many = f"{low:z.1f} to {high:z.1f} (the largest: {' '.join(filter(None, (worst.family, worst.says)))})"
    return (
        f"Power: with these images and seeds a contrast is found with a probability of 80 %, taken by itself, if it is "
        f"truly {many if len(seen) > 1 else f'{low:z.1f}'} or more on either side of 0."
    )


def verdict(contrasts: Iterable[Contrast]) -> AnswerVerdict:
    """The common verdict of several contrasts. All must hold, so no contrast is adjusted for the others."""
    found = {one.alone for one in contrasts}
    if "incomplete" in found or not found:
        return "incomplete"
    return found.pop() if len(found) == 1 else "not shown"


@dataclass(frozen=True)
class AnswerLine:
    """One row of a panel.

    Attributes:
        name: label for readers.
        rank: index of its colour: 0 for the smallest pretraining set, and so on; None for a row without a scale.
        shape: index of its marker among rows of one colour.
        spans: mRI in points at each tick; None if it is missing or was not planned.
    """

    name: str
    rank: int | None
    shape: int
    spans: tuple[Interval | None, ...]


@dataclass(frozen=True)
class AnswerPanel:
    """One panel of the figure, and one table.

    Attributes:
        title: what the lines have in common.
        across: the quantity on the horizontal axis.
        ticks: names of its values, in order.
        lines: the rows.
        joined: whether lines connect their points, because the points are one quantity at several ticks.
    """

    title: str
    across: str
    ticks: tuple[str, ...]
    lines: tuple[AnswerLine, ...]
    joined: bool = True


@dataclass(frozen=True)
class Answer:
    """The result of a study.

    Attributes:
        study: name of the study.
        suite: name of the suite that was derived for it.
        question: the question, in one sentence.
        claim: the claim, and who made it.
        measure: the quantity on the figure's vertical axis.
        contrasts: the numbers whose signs the claim predicts.
        panels: the points of its figure.
        surface: whether the figure is a contour map over ticks and lines.
        intervals: what the intervals cover, in sentences.
        notes: further results, in sentences.
        limits: what the study cannot show, in sentences.
        power: the smallest differences that it could detect, in one sentence; empty if nothing can be tested.
        missing: names of missing runs. A number that needs one of them is missing too.
        caveats: known or possible faults of data and models, in sentences.
    """

    study: str
    suite: str
    question: str
    claim: str
    measure: str
    contrasts: tuple[Contrast, ...]
    panels: tuple[AnswerPanel, ...]
    surface: bool = False
    intervals: str = ""
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    power: str = ""
    missing: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    @property
    def verdict(self) -> AnswerVerdict:
        """The verdict of all contrasts together."""
        return verdict(self.contrasts)

    @property
    def families(self) -> dict[str, AnswerVerdict]:
        """The verdict of each model family that has its own contrasts."""
        names = dict.fromkeys(one.family for one in self.contrasts)
        return {name: verdict(one for one in self.contrasts if one.family == name) for name in names}
