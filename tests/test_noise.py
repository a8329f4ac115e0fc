"""Intervals and verdicts in a simulation of which the truth is known; `python -m soak intervals` is its long form."""

from __future__ import annotations

import pytest
from soak.intervals import QUANTITIES, coverage


@pytest.mark.parametrize(("seeds", "ratio", "repetitions"), [(3, 1.0, 200), (2, 2.0, 120)])
def test_intervals_hold_and_verdicts_are_wrong_as_often_as_they_may(seeds: int, ratio: float, repetitions: int) -> None:
    """95 % less three standard errors of the simulation; a percentile bootstrap over so few seeds holds 51 to 76."""
    found = coverage(seeds, 60, ratio, repetitions)
    error = 3 * (0.05 * 0.95 / repetitions) ** 0.5
    assert set(found.held) == set(QUANTITIES)
    assert all(share > 0.95 - error for share in found.held.values()), found
    assert found.wrong < 0.05 + error
    assert any(share < 1 for share in found.held.values())


def test_one_seed_does_not_hold_what_another_would_give() -> None:
    """With seeds that are twice as noisy as images, intervals over images only hold it far less often than 95 %."""
    found = coverage(1, 60, 2.0, 60)
    assert found.held["mRI"] < 0.85
    assert found.wrong == 0  # nothing is tested
