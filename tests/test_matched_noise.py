"""Studies at matched gain in simulated worlds of which the truth is known; `python -m soak matched` is longer."""

from __future__ import annotations

import numpy as np
import pytest
from soak import matched
from soak.matched import KEPT, STUDIES, World, contrasts, errors, extended


def test_a_study_of_equal_methods_seldom_shows_a_contrast() -> None:
    """The level is 5 %: 5 of 20 worlds have a probability of 0.3 %."""
    found = errors("architecture", 20, scale=0.5)
    assert found.wrong <= 0.2
    assert found.held >= 0.85


def test_a_difference_that_is_there_is_found_in_its_contrasts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With little noise, and methods of one strength that truly gain as much as fine-tuning: all are compared."""
    alone = {name: (1.0,) if len(shares) == 1 else shares for name, shares in matched.SHARES.items()}
    monkeypatch.setattr(matched, "SHARES", alone)
    code, methods = STUDIES["architecture"]
    for kept in (0.0, KEPT):
        tested = contrasts(World(np.random.default_rng(1), scale=0.02), code, methods, kept)
        values = [one.interval.value if one.interval else None for one in tested]
        assert values == pytest.approx([kept] * 4, abs=0.15)
        assert {one.verdict for one in tested} == ({"shown"} if kept else {"not shown"})


def test_a_line_is_extended_from_gains_that_are_large_enough() -> None:
    """A method that truly gains 0.3 of the target is hardly ever compared; one with 0.9 mostly, and its interval
    holds."""
    small, large = (extended(share, 60, scale=0.5) for share in (0.3, 0.9))
    assert small.reached <= 0.1
    assert large.reached >= 0.7
    assert large.held >= 0.85
