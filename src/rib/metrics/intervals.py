"""Intervals: a number with its 95 % interval, the noise that it covers, and its p value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from rib.arrays import Floats

LEVEL = 0.05
"""Level of every test: two-sided, for the whole family if there are several tests."""

PARTS = (0.8, 0.2)
"""Parts of the level with which the two families of `gated` are tested."""

FEW = 10
"""Number of draws beyond 0 below which their share is too uncertain."""

POWER = 0.8
"""Probability of finding the smallest detectable difference of a design."""

Kind = Literal["images", "images only", "seeds", "images and seeds", "nothing", "own draws"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval. Two intervals are equal if value and ends are.

    Attributes:
        value: the estimate itself, not the mean of the draws.
        low, high: the ends.
        kind: the noise that it covers. "images": nothing else is random; "images only": seeds are random, but there is
            only one; "seeds" or "images and seeds"; "nothing": one seed and no images; "own draws": for example pairs
            or models.
        lacks: the random seeds that it does not cover: "tuning seeds", "pretraining seeds".
        se: standard error, in the units of the value; None if unknown.
        df: degrees of freedom of its t distribution; None for percentiles of draws.
        p: p value of the two-sided test that the true value is 0; None if unknown.
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
        """Whether the value is distinguishable from zero by itself."""
        return self.low > 0 or self.high < 0

    @property
    def marked(self) -> bool:
        """Whether it is distinguishable from zero among all tests of its family."""
        return self.excludes_zero and (self.adjusted is None or self.adjusted <= LEVEL)

    @property
    def tests(self) -> bool:
        """Whether it covers every kind of noise, so that it also holds for other seeds."""
        return not self.lacks

    @property
    def differs(self) -> bool:
        """Whether it shows a difference beyond the observed seeds: `marked`, with every kind of noise covered."""
        return self.tests and self.marked

    @property
    def detectable(self) -> float | None:
        """The smallest true value that this design finds with a probability of 80 %; None without a standard error."""
        if self.se is None:
            return None
        df = self.df or math.inf
        return self.se * (t_quantile(1 - LEVEL / 2, df) + t_quantile(POWER, df))

    def times(self, factor: float) -> Interval:
        """The interval multiplied by a factor."""
        low, high = sorted((factor * self.low, factor * self.high))
        se = None if self.se is None else abs(factor) * self.se
        return replace(self, value=factor * self.value, low=low, high=high, se=se)

    def beyond(self, limit: float) -> float | None:
        """p value of the one-sided test that the true value is beyond a limit, on the side of the value.

        Intended for intervals over images, as in `rib compare`. With seeds it uses the degrees of freedom of the 95 %
        interval, so below 2.5 % it is less cautious than `p`.
        """
        if self.se is None:
            return None
        return tail(abs(self.value - limit), self.se, self.df or math.inf)


@dataclass(frozen=True)
class Variance:
    """A part of the variance of one estimate, or of many estimates in arrays of one shape.

    Attributes:
        amount: the estimated variance.
        df: its degrees of freedom.
        least: the part of it that images add, which is known from the images.
    """

    amount: float | Floats
    df: float | Floats
    least: float | Floats = 0.0


def pooled(parts: Sequence[Variance], least: float | Floats = 0.0) -> Variance:
    """The sum of independent variances, with the degrees of freedom of Satterthwaite (1946, Biometrics Bulletin 2).

    Args:
        parts: the variances; none: a variance of 0.
        least: the part of the sum that images add.
    """
    if not parts:
        return Variance(0.0, 1.0, least)
    total, squared = np.zeros(()), np.zeros(())
    for part in parts:
        total, squared = total + part.amount, squared + np.square(part.amount) / part.df
    fewest = min(float(np.min(part.df)) for part in parts)
    return Variance(total, np.maximum(np.square(total) / np.maximum(squared, 1e-300), fewest), least)


def t_interval(
    value: float, images: Variance, shared: Variance, seeds: Variance, kind: Kind, lacks: tuple[str, ...] = ()
) -> Interval:
    """The interval of a value over images and seeds. `half_length` computes its length; docs/analyses.md has its
    coverage.

    Args:
        value: the estimate.
        images, shared, seeds: as in `half_length`, of one estimate.
        kind, lacks: as in `Interval`.
    """
    se = math.sqrt(max(float(images.amount), float(shared.amount) + float(seeds.amount)))
    centre, half = round(value, 10), float(half_length(images, shared, seeds))  # rounding makes what cancels 0
    known = sum(float(part.df) for part in (images, seeds) if part.amount > 0)
    return Interval(
        value=value,
        low=round(centre - half, 10),
        high=round(centre + half, 10),
        kind=kind,
        lacks=lacks,
        se=se,
        df=_df_of(half / se, known) if half else math.inf,
        p=_p_value(abs(centre), images, shared, seeds),
    )


def half_length(images: Variance, shared: Variance, seeds: Variance, level: float = LEVEL) -> Floats:
    """Half the length of an interval whose variance is partly known (images) and partly estimated from a few seeds.

    Its square is the sum of t² s² over the two parts: never too short for independent normal parts (Banerjee 1960,
    Sankhya 22, 357-358), and too long at 5 % if both parts matter. The interaction of images and seeds is known from
    the images, but a part of the variance over seeds. So at 5 % it counts as known but for a share √u / df, where u is
    its share of the variance over images. As the level falls, so does what counts as known: with (level / 5 %)³. In
    simulations (docs/analyses.md) this keeps coverage near 95 %, and errors at most at the lower levels of Holm's
    adjustment. The length is at least that of the interval over images alone.

    Args:
        images: the variance over images with fixed seeds.
        shared: the part of it that all seeds share.
        seeds: the variance over seeds, which includes their interaction with images.
        level: 1 minus the coverage.
    """
    sure, few = (np.square(t_quantiles(1 - level / 2, part.df)) for part in (images, seeds))
    unsure = np.sqrt(np.minimum(seeds.least / np.maximum(images.amount, 1e-300), 1)) / seeds.df
    known = np.minimum((1 - unsure) * min(1.0, level / LEVEL) ** 3 * seeds.least, seeds.amount)
    squared = (shared.amount + known) * sure + (seeds.amount - known) * few
    return np.asarray(np.sqrt(np.maximum(squared, images.amount * sure)))


def _p_value(distance: float, images: Variance, shared: Variance, seeds: Variance) -> float:
    """The level whose interval has this half length."""
    from scipy.optimize import brentq  # takes half a second

    def too_long(log_level: float) -> float:
        return float(half_length(images, shared, seeds, math.exp(log_level))) - distance

    if not distance:
        return 1.0
    least = math.log(1e-12)
    return math.exp(brentq(too_long, least, 0.0, xtol=1e-10)) if too_long(least) > 0 else 1e-12


def _df_of(quantile: float, most: float) -> float:
    """The degrees of freedom of a t distribution with this upper quantile: at most `most`, at least 1."""
    from scipy.special import stdtridf

    if t_quantile(1 - LEVEL / 2, min(max(most, 1.0), 1e7)) >= quantile:
        return most
    return max(1.0, float(stdtridf(1 - LEVEL / 2, quantile)))


def drawn_interval(value: float, draws: Floats, kind: Kind, lacks: tuple[str, ...] = ()) -> Interval:
    """The percentile interval of a value from bootstrap draws, float64 (B,).

    If fewer than ten draws are on the other side of 0, the p value comes from the normal distribution, which allows
    smaller values than the number of draws.
    """
    low, high = np.percentile(draws, [2.5, 97.5])
    beyond, se = int(min((draws <= 0).sum(), (draws >= 0).sum())), float(draws.std())
    share = beyond / len(draws)
    if beyond < FEW:
        share = min(FEW / len(draws), tail(abs(round(value, 10)), se, math.inf))
    return Interval(value, float(low), float(high), kind, lacks, se, None, min(1.0, 2 * share))


def t_quantile(share: float, df: float) -> float:
    """Quantile of Student's t distribution; of the normal one for infinite degrees of freedom."""
    return float(t_quantiles(share, df))


def t_quantiles(share: float, df: float | Floats) -> Floats:
    """The same for many degrees of freedom."""
    from scipy.special import ndtri, stdtrit  # takes a tenth of a second

    if isinstance(df, float):  # in a third of the time, for the steps of a search
        return np.asarray(ndtri(share) if df > 1e7 else stdtrit(df, share))
    many = np.asarray(df, np.float64)
    return np.where(many > 1e7, ndtri(share), stdtrit(np.minimum(many, 1e7), share))


def tail(distance: float, se: float, df: float) -> float:
    """Probability that a t variable is `distance` or more above its centre."""
    from scipy.special import ndtr, stdtr

    if se <= 0 or distance <= 0:
        return 0.5 if distance <= 0 else 0.0
    return float(ndtr(-distance / se) if df > 1e7 else stdtr(df, -distance / se))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted by Holm (1979), which controls the family-wise error under any dependence."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def gated(intervals: Sequence[Interval | None], first: Sequence[bool]) -> list[Interval | None]:
    """The same intervals, tested as two families: the first with most of the level, the second with the rest.

    Holm tests each family at its part of `LEVEL` (`PARTS`). A family whose tests are all significant passes its part
    to the other one, which is then tested at the whole level. The total error is at most that level. If both families
    have a true null hypothesis, no part is passed before an error, and the parts add up to the level. If only one
    family has, its errors are among those of Holm at the whole level (fallback procedure: Wiens 2003, Pharmaceutical
    Statistics 2, 211-215; passed in both directions: Bretz et al. 2009, Statistics in Medicine 28, 586-604).

    Args:
        intervals: both families.
        first: whether each belongs to the first family.
    """
    families = [
        as_family(each if is_first == member else None for each, is_first in zip(intervals, first, strict=True))
        for member in (True, False)
    ]
    largest = [
        max((each.adjusted for each in family if each and each.adjusted is not None), default=0.0)
        for family in families
    ]
    ahead, behind = (
        [_passed(each, part, other / rest) for each in family]
        for family, part, other, rest in zip(families, PARTS, reversed(largest), reversed(PARTS), strict=True)
    )
    return [one if is_first else other for one, other, is_first in zip(ahead, behind, first, strict=True)]


def _passed(interval: Interval | None, part: float, other: float) -> Interval | None:
    """An interval of a family that is tested at a part of the level, and at the whole level if the other family's
    largest p value, adjusted for its own part, allows it."""
    if interval is None or interval.adjusted is None:
        return interval
    alone = interval.adjusted / part
    return replace(interval, adjusted=min(1.0, alone, max(other, interval.adjusted)))


def as_family(intervals: Iterable[Interval | None]) -> list[Interval | None]:
    """The same intervals as one family: each p value is adjusted for all p values."""
    listed = list(intervals)
    adjusted = iter(holm([each.p for each in listed if each is not None and each.p is not None]))
    return [
        replace(each, adjusted=next(adjusted)) if each is not None and each.p is not None else each for each in listed
    ]
