"""Arithmetic of estimates that may be missing. No mean or difference leaves a missing one out: it is missing too."""

from __future__ import annotations

from collections.abc import Iterable

from rib.metrics.estimates import Estimate, mean
from rib.metrics.intervals import Interval


def mean_if_whole(estimates: Iterable[Estimate | None]) -> Estimate | None:
    """The mean; None if an estimate is missing or there are none."""
    listed = list(estimates)
    present = [estimate for estimate in listed if estimate is not None]
    return mean(present) if present and len(present) == len(listed) else None


def minus(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """One minus the other, paired; None if either is missing."""
    return one - other if one is not None and other is not None else None


def interval_of(estimate: Estimate | None) -> Interval | None:
    """The 95 % interval; None if the estimate is missing."""
    return estimate.interval() if estimate is not None else None
