"""Chance: the probability that guessing is right as often as a model."""

from __future__ import annotations


def binomial_tail(right: int, count: int, chance: float) -> float:
    """Probability that guessing is right at least as often: P(X >= right) for X binomial.

    Args:
        right: number of right images.
        count: number of images.
        chance: probability, from 0 to 1, that a guess is right.
    """
    from scipy.special import bdtrc  # takes a tenth of a second; scipy.stats, half a second

    return float(bdtrc(right - 1, count, chance)) if right > 0 else 1.0
