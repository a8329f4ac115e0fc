"""Matched gain: how much robustness a method keeps at the gain that plain fine-tuning reaches.

A method that learns nothing loses nothing. So RIB reads mRI as a function of the gain on the tuned set. A sweep of one
hyper-parameter, the method's *strength*, gives several points of this function. Straight lines join neighbouring
points.
Below the weakest point, a line leads to the pretrained model, whose gain and loss are zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakKeyDictionary

from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval, as_family
from rib.metrics.missing import interval_of, minus
from rib.plan import Swept, swept
from rib.results.results import Results
from rib.results.rows import Group

FINETUNE = "finetune"

Reach = Literal["reached", "never", "beyond", "uncertain", "idle", "unknown"]
"""Whether a method reaches the gain of fine-tuning.

"never": it gains distinguishably less at every strength. "beyond": it has one strength, and gains distinguishably more.
"uncertain": its largest gain is less than half of the target, but not distinguishably less. "idle": fine-tuning itself
shows no distinguishable gain. "unknown": a prediction is missing, or the seeds differ.
"""

SHARE_TO_EXTEND = 0.5
"""The smallest share of the target gain from which the line from the pretrained model is extended to the target. With
less, the extension multiplies the noise of a small gain until the number says nothing."""


@dataclass(frozen=True)
class StrengthPoint:
    """A method at one strength.

    Attributes:
        method: as the headline table names it.
        value: value of the hyper-parameter; None for a method without a sweep.
        gain: change of accuracy on unseen images of the set tuned on, points.
        mri: points.
        lost_per_point: points of OOD accuracy lost for each point gained (Fieller's interval); None without a
            distinguishable gain.
    """

    method: str
    value: float | None
    gain: Interval | None
    mri: Interval | None
    lost_per_point: Interval | None


@dataclass(frozen=True)
class MatchedGain:
    """A method compared with plain fine-tuning of the same model and size, at the gain that fine-tuning reaches.

    Attributes:
        model, method, size: the group; a sweep counts as one method.
        field: the swept hyper-parameter; None for a method with one strength.
        points: points in the order of strength, from the end with the smaller gain.
        target: gain of `finetune`, points.
        reach: whether the method reaches it.
        most: its largest gain, points.
        between: the methods between which it reaches the target; the pretrained model may be the first.
        mri: mRI at the target, points; None unless it is reached.
        against_finetune: `mri` minus the mRI of `finetune`, paired, points.
    """

    model: str
    method: str
    size: int | None
    field: str | None
    points: tuple[StrengthPoint, ...]
    target: Interval
    reach: Reach
    most: Interval | None
    between: tuple[str, ...] = ()
    mri: Interval | None = None
    against_finetune: Interval | None = None


def matched_gains(results: Results) -> list[MatchedGain]:
    """One row per method other than `finetune`, in the order of the suite; empty if `finetune` does not gain.

    The differences from `finetune` are one family of tests (Holm). Differences that lack seeds are not part of it.
    """
    if results not in _KNOWN:
        _KNOWN[results] = _matched_gains(results)
    return _KNOWN[results]


_KNOWN: WeakKeyDictionary[Results, list[MatchedGain]] = WeakKeyDictionary()
"""Cache of rows, because several outputs show them."""


def _matched_gains(results: Results) -> list[MatchedGain]:
    rows = [row for model, size in _places(results) for row in _rows(results, model, size)]
    against = [row.against_finetune for row in rows]
    tested = as_family(each if each and each.tests else None for each in against)
    return [
        replace(row, against_finetune=found or each) for row, each, found in zip(rows, against, tested, strict=True)
    ]


def _places(results: Results) -> list[tuple[str, int | None]]:
    return [(model, size) for model, method, size in results.groups if method == FINETUNE]


def _rows(results: Results, model: str, size: int | None) -> Iterable[MatchedGain]:
    base, sweeps = _known(results, (model, FINETUNE, size), None), swept(results.suite)
    if base is None or not gains(base):
        return
    here = [method for one, method, at in results.groups if (one, at) == (model, size)]
    for name, methods in curves(here, sweeps).items():
        yield _row(results, (model, FINETUNE, size), base, name, methods, sweeps)


def curves(methods: Iterable[str], sweeps: Mapping[str, Swept]) -> dict[str, list[str]]:
    """The methods of each curve, without `finetune` and the pretrained model. A method without a sweep is a curve by
    itself."""
    found: dict[str, list[str]] = {}
    for method in methods:
        if method not in (FINETUNE, "pretrained"):
            found.setdefault(sweeps[method].name if method in sweeps else method, []).append(method)
    return found


# -- a curve -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CurvePoint:
    """A method at one strength, as estimates; also used for the mean over several models.

    Attributes:
        method: name of the method.
        value: value of the hyper-parameter; None for a method without a sweep.
        gain: change of accuracy on unseen images of the tuned set, points.
        mri: points.
    """

    method: str
    value: float | None
    gain: Estimate
    mri: Estimate


@dataclass(frozen=True)
class CurveReading:
    """The value of a curve at a gain.

    Attributes:
        reach: whether the curve reaches the gain.
        between: the two methods between which it was interpolated.
        mri: mRI at the gain; None unless it is reached.
    """

    reach: Reach
    between: tuple[str, ...] = ()
    mri: Estimate | None = None


def _known(results: Results, group: Group, value: float | None) -> CurvePoint | None:
    gain, mri = results.estimates.gain(group), results.estimates.mri(group)
    return CurvePoint(group[1], value, gain, mri) if gain is not None and mri is not None else None


def _row(
    results: Results, place: Group, base: CurvePoint, name: str, methods: Sequence[str], sweeps: Mapping[str, Swept]
) -> MatchedGain:
    model, _, size = place
    found = [
        _known(results, (model, method, size), sweeps[method].value if method in sweeps else None) for method in methods
    ]
    curve = by_strength([each for each in found if each is not None])
    row = MatchedGain(
        model=results.model_name(model),
        method=name,
        size=size,
        field=sweeps[methods[0]].field if methods[0] in sweeps else None,
        points=tuple(map(_point, curve)),
        target=base.gain.interval(),
        reach="unknown",
        most=max((each.gain for each in curve), key=lambda gain: gain.value).interval() if curve else None,
    )
    if len(curve) < len(methods) or not all(_same_seeds(results, place, (model, name, size)) for name in methods):
        return row
    read = read_curve(base, curve)
    return replace(
        row,
        reach=read.reach,
        between=read.between,
        mri=interval_of(read.mri),
        against_finetune=interval_of(minus(read.mri, base.mri)),
    )


def _same_seeds(results: Results, one: Group, other: Group) -> bool:
    return {run.seed for run in results.groups[one]} == {run.seed for run in results.groups[other]}


def by_strength(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The points in the order of the hyper-parameter, from the end with the smaller gain."""
    ordered = sorted(curve, key=lambda each: each.value or 0.0)
    return ordered[::-1] if ordered and ordered[-1].gain.value < ordered[0].gain.value else ordered


def gains(base: CurvePoint) -> bool:
    """Whether plain fine-tuning gains distinguishably on the set tuned on. Else its gain is no target."""
    return base.gain.interval().low > 0


def read_curve(base: CurvePoint, curve: Sequence[CurvePoint]) -> CurveReading:
    """The value of a curve at the gain of `base`: at the first crossing from the weak end, or else at its largest gain.

    Args:
        base: plain fine-tuning.
        curve: points of a method in the order of `by_strength`; at least one.
    """
    if not gains(base):
        return CurveReading("idle")
    target, several = base.gain.value, len(curve) > 1
    for before, after in zip([None, *curve], curve, strict=False):
        low = before.gain.value if before else 0.0
        if several and min(low, after.gain.value) <= target <= max(low, after.gain.value):
            names = (before.method if before else "pretrained", after.method)
            return CurveReading("reached", names, _between(base, before, after))
    top = max(curve, key=lambda each: each.gain.value)
    short = (top.gain - base.gain).interval()
    if short.high < 0:
        return CurveReading("never")
    if short.low > 0 and not several:
        return CurveReading("beyond")
    if top.gain.value < SHARE_TO_EXTEND * target:
        return CurveReading("uncertain")
    return CurveReading("reached", (top.method,), _between(base, None, top))


def _between(base: CurvePoint, before: CurvePoint | None, after: CurvePoint) -> Estimate:
    """mRI at the gain of `base` on the line through two points; without `before`, on the line from the pretrained
    model.

    Linearised: m = (1 - w) m1 + w m2 + s (g - (1 - w) g1 - w g2), with slope s and weight w from the estimates. So the
    interval covers the noise of all three gains.
    """
    low_gain, low_mri = (before.gain.value, before.mri.value) if before else (0.0, 0.0)
    run = after.gain.value - low_gain
    share = (base.gain.value - low_gain) / run if run else 1.0
    slope = (after.mri.value - low_mri) / run if run else 0.0
    parts = [(share, after.mri), (-slope * share, after.gain), (slope, base.gain)]
    if before:
        parts += [(1 - share, before.mri), (-slope * (1 - share), before.gain)]
    return _sum(parts)


def _sum(parts: Iterable[tuple[float, Estimate]]) -> Estimate:
    """A weighted sum of estimates."""
    first, *others = [estimate / (1 / factor) for factor, estimate in parts if factor]
    for other in others:
        first = first - other / -1
    return first


# -- a point -----------------------------------------------------------------------------------------------------------


def _point(at: CurvePoint) -> StrengthPoint:
    return StrengthPoint(
        at.method, at.value, interval_of(at.gain), interval_of(at.mri), lost_per_point(at.mri, at.gain)
    )


def lost_per_point(mri: Estimate, gain: Estimate) -> Interval | None:
    """-mRI / gain with Fieller's interval: the ratios r for which mRI + r · gain is not distinguishable from 0.

    None if the gain is not distinguishable from 0, so that the ratio has no bounds; or without standard errors.
    """
    lost, gained, apart = mri.interval(), gain.interval(), (mri - gain).interval()
    if lost.se is None or gained.se is None or apart.se is None or not gained.value:
        return None
    both = (lost.se**2 + gained.se**2 - apart.se**2) / 2  # covariance of mRI and gain
    t = max(_quantile(each) for each in (lost, gained, apart))
    square = gained.value**2 - (t * gained.se) ** 2
    if square <= 0 or not gained.low > 0:
        return None
    middle = -(lost.value * gained.value - t**2 * both)
    root = math.sqrt(max(middle**2 - square * (lost.value**2 - (t * lost.se) ** 2), 0.0))
    value = -lost.value / gained.value
    low, high = ((middle + sign * root) / square for sign in (-1, 1))
    return Interval(
        value, min(low, value), max(high, value), lost.kind, tuple(dict.fromkeys(lost.lacks + gained.lacks))
    )


def _quantile(interval: Interval) -> float:
    """Half the length of an interval, divided by its standard error."""
    return (interval.high - interval.low) / 2 / interval.se if interval.se else 0.0
