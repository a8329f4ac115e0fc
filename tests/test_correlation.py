"""Correlations over data sets: their value, their permutation test, and its error where there is nothing."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rib.analysis.correlation import SAMPLED, mantel
from rib.errors import UserError

Matrix = np.ndarray[Any, Any]


def world(seed: int, sets: int = 7, truth: float = 0.0) -> tuple[Matrix, Matrix]:
    """Distances of sets in a plane, and losses: what is of the set tuned on and tested on, noise, and the truth."""
    generator = np.random.default_rng(seed)
    at = generator.normal(size=(sets, 2))
    distances = np.linalg.norm(at[:, None] - at, axis=2)
    losses = generator.normal(size=(sets, 1)) + generator.normal(size=sets) + 0.3 * generator.normal(size=(sets, sets))
    np.fill_diagonal(losses, np.nan)
    return distances, losses + truth * distances


def off(matrix: Matrix) -> Matrix:
    return matrix[~np.eye(len(matrix), dtype=bool)]


@pytest.mark.parametrize("ranked", [True, False])
def test_one_model_against_scipy_and_a_loop(ranked: bool) -> None:
    distances, losses = world(1, sets=4)
    distances = np.round(distances, 1).astype(np.float64)  # with ties
    theirs = stats.spearmanr if ranked else stats.pearsonr
    values = [
        theirs(off(distances[np.ix_(order, order)]), off(losses)).statistic
        for order in itertools.permutations(range(4))
    ]
    found = mantel([distances], [losses], ranked)
    assert found is not None
    assert found.value == pytest.approx(values[0])
    more, less = (sum(sign * value >= sign * values[0] - 1e-9 for value in values) for sign in (1, -1))
    assert found.p == pytest.approx(min(1, 2 * min(more, less) / 24))
    assert found.low == pytest.approx(max(-1, values[0] - np.percentile(values, 97.5)))
    assert found.high == pytest.approx(min(1, values[0] - np.percentile(values, 2.5)))


def test_several_models_have_the_mean_of_their_correlations_and_are_permuted_together() -> None:
    pairs = [world(seed, sets=5) for seed in (1, 2, 3)]
    pairs[1] = (1000 * pairs[1][0], pairs[1][1])  # the unit of a model plays no part
    found = mantel([d for d, _ in pairs], [loss for _, loss in pairs])
    assert found is not None

    def together(order: tuple[int, ...]) -> float:
        return float(np.mean([stats.spearmanr(off(d[np.ix_(order, order)]), off(loss)).statistic for d, loss in pairs]))

    values = [together(order) for order in itertools.permutations(range(5))]
    assert found.value == pytest.approx(values[0])
    more, less = (sum(sign * value >= sign * values[0] - 1e-9 for value in values) for sign in (1, -1))
    assert found.p == pytest.approx(min(1, 2 * min(more, less) / 120))


def test_numbers_of_sets_are_permuted_too() -> None:
    found = mantel([np.arange(7.0)], [np.arange(7.0) ** 3])
    assert found is not None
    assert (found.value, found.p) == (pytest.approx(1), pytest.approx(2 / 5040))


def test_the_error_under_the_null_is_the_level() -> None:
    """Losses that go with sets, not with distances: 5 % are called a correlation; 300 worlds, seeded.

    A bootstrap over pairs takes 42 pairs for independent, and is wrong more often.
    """
    p_values = [found.p for seed in range(300) if (found := mantel(*([part] for part in world(seed))))]
    shown = np.mean([p is not None and p <= 0.05 for p in p_values])
    assert 0.02 <= shown <= 0.08  # 5 % and 2.5 standard errors
    assert np.mean([p is not None and p <= 0.5 for p in p_values]) == pytest.approx(0.5, abs=0.08)
    wrong = 0
    for seed in range(120):
        distances, losses = (off(part) for part in world(seed))
        rows = np.random.default_rng(seed).integers(42, size=(300, 42))
        ranks = [stats.rankdata(part[rows], axis=1) - 21.5 for part in (distances, losses)]
        draws = (ranks[0] * ranks[1]).sum(axis=1)
        wrong += bool(np.percentile(draws, 2.5) > 0 or np.percentile(draws, 97.5) < 0)
    assert wrong / 120 > 0.08


def test_a_true_correlation_is_found() -> None:
    found = [mantel(*([part] for part in world(seed, truth=3.0))) for seed in range(30)]
    assert np.mean([bool(each and each.excludes_zero and each.value > 0) for each in found]) > 0.8


def test_more_sets_than_can_be_enumerated_are_drawn_the_same_way_again() -> None:
    distances, losses = world(5, sets=9, truth=2.0)
    found = mantel([distances], [losses])
    assert found == mantel([distances], [losses])
    assert found is not None
    assert found.p is not None
    assert found.p >= 2 / (SAMPLED + 1)


def test_points_that_are_missing_or_too_few() -> None:
    distances, losses = world(3, sets=5)
    losses[0, 1:] = np.nan  # one set was not tuned on
    found = mantel([distances], [losses])
    assert found is not None
    known = np.isfinite(losses)
    assert found.value == pytest.approx(stats.spearmanr(distances[known], losses[known]).statistic, abs=0.05)
    few = np.full((5, 5), np.nan)
    few[0, 1:] = [1, 2, 3, 4]
    assert mantel([distances], [few]) is None
    assert mantel([np.ones((5, 5))], [losses]) is None
    distances[1, 2] = math.nan
    with pytest.raises(UserError, match="mark values that are missing"):
        mantel([distances], [losses])
    with pytest.raises(UserError, match="two numbers per set"):
        mantel([np.arange(5.0)], [np.arange(6.0)])
