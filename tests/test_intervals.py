"""Intervals and p values by hand and against scipy: draws, tails, quantiles, and the ends of each rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rib.arrays import Floats
from rib.metrics.estimates import Estimate, mean_over_seeds
from rib.metrics.intervals import FEW, Interval, as_family, drawn_interval, gated, t_quantile, t_quantiles, tail


def draws(below: int, count: int = 1000) -> Floats:
    """`count` draws around 1, of which `below` are not above 0."""
    return np.concatenate([np.full(below, -0.5), np.linspace(0.5, 1.5, count - below)])


def test_ends_are_percentiles_of_the_draws() -> None:
    found = drawn_interval(50.0, np.arange(1001.0), "images")
    assert (found.value, found.low, found.high) == (50.0, 25.0, 975.0)
    assert found.se == pytest.approx(np.arange(1001).std())
    assert found.df is None


@pytest.mark.parametrize("below", [FEW, 25, 400])
def test_p_is_twice_the_share_of_draws_beyond_zero(below: int) -> None:
    assert drawn_interval(1.0, draws(below), "images").p == pytest.approx(2 * below / 1000)
    assert drawn_interval(-1.0, -draws(below), "images").p == pytest.approx(2 * below / 1000)


def test_p_of_few_draws_beyond_zero_is_that_of_the_normal_law() -> None:
    found = drawn_interval(1.0, draws(FEW - 1), "images")
    assert found.p == pytest.approx(2 * stats.norm.sf(1.0 / draws(FEW - 1).std()))
    near = drawn_interval(0.01, draws(0), "images")  # the normal law gives more than the draws allow
    assert near.p == pytest.approx(2 * FEW / 1000)


def test_a_draw_at_zero_counts_on_both_sides() -> None:
    assert drawn_interval(0.0, np.zeros(100), "images").p == 1.0


@pytest.mark.parametrize("df", [1.0, 2.0, 7.5, 1e6, math.inf])
def test_quantiles_and_tails_are_scipys(df: float) -> None:
    law = stats.norm if math.isinf(df) else stats.t(df)
    for share in (0.6, 0.975, 0.9999):
        assert t_quantile(share, df) == pytest.approx(law.ppf(share), rel=1e-9)
        assert t_quantile(share, df) == t_quantiles(share, np.array([df]))[0]  # bit for bit
    for distance in (0.1, 1.0, 4.0):
        assert tail(distance * 3, 3.0, df) == pytest.approx(law.sf(distance), rel=1e-7)
    assert t_quantiles(0.975, np.array([df, 3.0])) == pytest.approx([law.ppf(0.975), stats.t.ppf(0.975, 3)])


def test_a_tail_without_a_distance_is_a_half_and_without_noise_nothing() -> None:
    assert (tail(0.0, 1.0, 5), tail(-1.0, 1.0, 5), tail(0.0, 0.0, 5)) == (0.5, 0.5, 0.5)
    assert tail(1e-9, 0.0, 5) == 0.0


def test_p_of_a_certain_difference_is_the_least_that_is_computed() -> None:
    found = mean_over_seeds([Estimate(value) for value in (1e6, 1e6 + 1e-3, 1e6 - 1e-3)]).interval()
    assert found.low > 999_999
    assert found.p == 1e-12


def test_an_interval_without_a_standard_error_claims_nothing() -> None:
    found = Interval(1.0, 0.5, 1.5)
    assert (found.detectable, found.beyond(0.0), found.times(2.0).se) == (None, None, None)


@pytest.mark.parametrize(
    ("low", "adjusted", "lacks", "expected"),
    [
        (0.1, None, (), (True, True, True)),
        (0.1, 0.05, (), (True, True, True)),
        (0.1, 0.0501, (), (True, False, False)),
        (0.0, 0.01, (), (False, False, False)),
        (0.1, 0.01, ("tuning seeds",), (True, True, False)),
    ],
)
def test_what_an_interval_distinguishes(
    low: float, adjusted: float | None, lacks: tuple[str, ...], expected: tuple[bool, bool, bool]
) -> None:
    above = Interval(1.0, low, 2.0, lacks=lacks, p=0.01, adjusted=adjusted)
    below = Interval(-1.0, -2.0, -low, lacks=lacks, p=0.01, adjusted=adjusted)
    for found in (above, below):
        assert (found.excludes_zero, found.marked, found.differs) == expected


def test_the_second_family_is_tested_at_its_part_or_after_the_first() -> None:
    listed = [Interval(1.0, 0.5, 1.5, p=p) for p in (0.02, 0.001, 0.03, 0.005)]
    found = [each and each.adjusted for each in gated([*listed, None], [True, True, False, False, False])]
    assert found[:4] == pytest.approx([0.025, 0.0025, 0.03, 0.025])
    assert found[4] is None


def test_without_a_first_family_the_second_is_tested_as_it_is() -> None:
    listed = [Interval(1.0, 0.5, 1.5, p=p) for p in (0.01, 0.04)]
    assert [each and each.adjusted for each in gated(listed, [False, False])] == [0.02, 0.04]
    assert [each and each.adjusted for each in as_family([None, *listed, Interval(1.0, 0.5, 1.5)])] == [
        None, 0.02, 0.04, None,
    ]  # fmt: skip


def test_no_difference_has_a_p_value_of_one() -> None:
    found = mean_over_seeds([Estimate(value) for value in (-1.0, 0.0, 1.0)]).interval()
    assert (found.value, found.p, found.excludes_zero) == (0.0, 1.0, False)
