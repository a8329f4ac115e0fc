"""Intervals, marks and verdicts in simulations of which the truth is known; `python -m soak intervals` is longer."""

from __future__ import annotations

import pytest
from soak import _answers
from soak.intervals import coverage

REPETITIONS = 4000
ERROR = 3 * (0.05 * 0.95 / REPETITIONS) ** 0.5


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("images", [50, 5000])
def test_intervals_hold_as_often_as_they_say(seeds: int, ratio: float, images: int) -> None:
    """93 to 97 %, three standard errors of the simulation aside; where that cannot be, more (docs/analyses.md)."""
    found = coverage(seeds, images, ratio, REPETITIONS)
    assert set(found.held) == {"RI", "mRI", "methods", "contrast"}
    assert min(found.held.values()) > 0.93 - ERROR, found
    few = seeds == 2 or ratio == 0  # what images alone give is the least that may be given
    assert max(found.held.values()) < (0.99 if few else 0.97) + ERROR, found
    assert found.marks < 0.05 + ERROR
    assert found.verdicts < 0.05 + ERROR


def test_one_seed_does_not_hold_what_another_would_give() -> None:
    """With seeds that are twice as noisy as images, intervals over images only hold it far less often than 95 %."""
    found = coverage(1, 300, 2.0, REPETITIONS)
    assert found.held["mRI"] < 0.75
    assert (found.marks, found.verdicts) == (0, 0)  # nothing is tested


@pytest.mark.parametrize(("seeds", "ratio", "repetitions"), [(3, 1.0, 120), (2, 2.0, 100)])
def test_a_report_finds_those_variances_in_single_answers(seeds: int, ratio: float, repetitions: int) -> None:
    """The whole code of a report on made-up answers. A percentile bootstrap over so few seeds holds 51 to 76 %."""
    found = _answers.coverage(seeds, 60, ratio, repetitions)
    error = 3 * (0.05 * 0.95 / repetitions) ** 0.5
    assert set(found.held) == set(_answers.QUANTITIES)
    assert all(share > 0.95 - error for share in found.held.values()), found
    assert found.wrong < 0.05 + error


def test_answers_of_one_seed_are_not_tested() -> None:
    assert _answers.coverage(1, 60, 2.0, 30).wrong == 0
