"""Intervals: a number with its 95 % interval, what noise that holds, and what it is worth as a test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.05
"""Of every test: two-sided, and of the whole family where there are several."""

FEW = 10
"""Draws beyond 0 below which their share says too little."""

POWER = 0.8
"""Probability with which the smallest difference that a design can see is found."""

Kind = Literal["images", "images only", "seeds", "images and seeds", "nothing", "own draws"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; equal to another where their numbers are.

    Attributes:
        value: the estimate itself, not the mean of the draws.
        low, high: the ends.
        kind: what it is drawn over. "images": nothing else is random; "images only": seeds are, and there was one of
            them; "seeds" or "images and seeds"; "nothing": one seed and no images; "own draws": pairs or models, say.
        lacks: which seeds are random and were not drawn: "tuning seeds", "pretraining seeds".
        se: standard error, in the units of the value; None where it is not known.
        df: degrees of freedom of the t distribution that it is from; None for percentiles of draws.
        p: p value of the two-sided test that the true value is 0; None where it is not known.
        adjusted: the same, adjusted for all tests of its family (Holm 1979); None for a test by itself.
    """

    value: float
    low: float
    high: float
    kind: Kind = field(default="own draws", compare=False)
    lacks: tuple[str, ...] = field(default=(), compare=False)
    se: float | None = field(default=None, compare=False)
    df: float | None = field(default=None, compare=False)
    p: float | None = field(default=None, compare=False)
    adjusted: float | None = field(default=None, compare=False)

    @property
    def excludes_zero(self) -> bool:
        """Whether the value is distinguishable from zero, taken by itself."""
        return self.low > 0 or self.high < 0

    @property
    def marked(self) -> bool:
        """Whether it is distinguishable from zero among all tests of its family."""
        return self.excludes_zero and (self.adjusted is None or self.adjusted <= LEVEL)

    @property
    def tests(self) -> bool:
        """Whether it holds every kind of noise that there is, so that it can say what another seed would give."""
        return not self.lacks

    @property
    def differs(self) -> bool:
        """Whether it shows a difference that is not one of the seeds at hand: `marked`, and no kind of noise lacks."""
        return self.tests and self.marked

    @property
    def detectable(self) -> float | None:
        """The true value that this design finds with a probability of 80 %; None without a standard error."""
        if self.se is None:
            return None
        df = self.df or math.inf
        return self.se * (t_quantile(1 - LEVEL / 2, df) + t_quantile(POWER, df))

    def times(self, factor: float) -> Interval:
        """The same in other units, or turned around."""
        low, high = sorted((factor * self.low, factor * self.high))
        se = None if self.se is None else abs(factor) * self.se
        return replace(self, value=factor * self.value, low=low, high=high, se=se)

    def beyond(self, limit: float) -> float | None:
        """p value of the one-sided test that the true value is not beyond a limit, on the value's side of it."""
        if self.se is None:
            return None
        return tail(abs(self.value - limit), self.se, self.df or math.inf)


@dataclass(frozen=True)
class Variance:
    """A part of the variance of an estimate, and its degrees of freedom."""

    amount: float
    df: float


def t_interval(
    value: float, images: Variance, parts: Sequence[Variance], kind: Kind, lacks: tuple[str, ...] = ()
) -> Interval:
    """The interval of a value whose variance is estimated part by part, each with its own degrees of freedom.

    Its t quantile lies halfway between those of Welch and Satterthwaite (Satterthwaite 1946), which is too small where
    a part with few degrees of freedom is most of the variance, and of Cochran and Cox (1950), which is too large; with
    two seeds it is the latter. It is never narrower than the interval over images alone. docs/analyses.md has its
    coverage.

    Args:
        value: the estimate.
        images: its variance over images, the seeds being held.
        parts: the parts that its whole variance is the sum of.
        kind, lacks: as in `Interval`.
    """
    both = [[part for part in each if part.amount > 0] for each in (parts, [images])]
    spreads = [math.sqrt(sum(part.amount for part in each)) for each in both]
    halves = [se * _quantile(each, 1 - LEVEL / 2) for se, each in zip(spreads, both, strict=True)]
    wider = halves.index(max(halves))
    centre, half = round(value, 10), halves[wider]  # rounded, so that what cancels is exactly nothing
    return Interval(
        value=value,
        low=round(centre - half, 10),
        high=round(centre + half, 10),
        kind=kind,
        lacks=lacks,
        se=spreads[wider],
        df=_df_of(half / spreads[wider], sum(part.df for part in both[wider])) if half else math.inf,
        p=max(_p_value(abs(centre), se, each) for se, each in zip(spreads, both, strict=True)),
    )


def _quantile(parts: Sequence[Variance], share: float) -> float:
    """Upper quantile of a value with these parts of variance, over its standard error."""
    amount = sum(part.amount for part in parts)
    if not amount:
        return t_quantile(share, math.inf)
    strict = sum(part.amount * t_quantile(share, part.df) for part in parts) / amount
    if min(part.df for part in parts) < 2:
        return strict
    return (t_quantile(share, amount**2 / sum(part.amount**2 / part.df for part in parts)) + strict) / 2


def _p_value(distance: float, se: float, parts: Sequence[Variance]) -> float:
    """The level at which an interval of this half length is given."""
    if not distance:
        return 1.0
    low, high = math.log(1e-12), 0.0
    if se * _quantile(parts, 1 - 1e-12 / 2) <= distance:
        return 1e-12
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if se * _quantile(parts, 1 - math.exp(middle) / 2) > distance else (low, middle)
    return math.exp(high)


def _df_of(quantile: float, most: float) -> float:
    """The degrees of freedom of a t distribution with this upper quantile: at most `most`, at least 1."""
    low, high = 1.0, min(max(most, 1.0), 1e7)
    if t_quantile(1 - LEVEL / 2, high) >= quantile:
        return most
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if t_quantile(1 - LEVEL / 2, middle) > quantile else (low, middle)
    return high


def drawn_interval(value: float, draws: Floats, kind: Kind, lacks: tuple[str, ...] = ()) -> Interval:
    """The percentile interval of a value, from float64 (B,), what it was in bootstrap draws.

    Where fewer than ten draws are on the other side of 0, its p value is that of the normal distribution, so that it
    can be smaller than the number of draws allows.
    """
    low, high = np.percentile(draws, [2.5, 97.5])
    beyond, se = int(min((draws <= 0).sum(), (draws >= 0).sum())), float(draws.std())
    share = beyond / len(draws)
    if beyond < FEW:
        share = min(FEW / len(draws), tail(abs(round(value, 10)), se, math.inf))
    return Interval(value, float(low), float(high), kind, lacks, se, None, min(1.0, 2 * share))


def t_quantile(share: float, df: float) -> float:
    """Quantile of Student's t distribution; of the normal one for infinite degrees of freedom."""
    from scipy.special import ndtri, stdtrit  # takes a tenth of a second

    return float(ndtri(share) if df > 1e7 else stdtrit(df, share))


def tail(distance: float, se: float, df: float) -> float:
    """Probability that a t variable is `distance` or more above its centre."""
    from scipy.special import ndtr, stdtr

    if se <= 0 or distance <= 0:
        return 0.5 if distance <= 0 else 0.0
    return float(ndtr(-distance / se) if df > 1e7 else stdtr(df, -distance / se))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for each other, so that the family-wise error is controlled whatever they share (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def as_family(intervals: Iterable[Interval | None]) -> list[Interval | None]:
    """The same intervals, each with its p value adjusted for all of those that have one."""
    listed = list(intervals)
    adjusted = iter(holm([each.p for each in listed if each is not None and each.p is not None]))
    return [
        replace(each, adjusted=next(adjusted)) if each is not None and each.p is not None else each for each in listed
    ]
