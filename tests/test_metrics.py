"""Metrics against numbers worked out by hand, brute force and scipy."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from rib.metrics import resample
from rib.metrics.bootstrap import Bootstrap, accuracy, example_weights
from rib.metrics.chance import binomial_tail
from rib.metrics.estimates import Estimate, Seeds, mean, mean_over_seeds, robustness_improvement
from rib.metrics.intervals import Interval, Variance, as_family, half_length, holm, pooled, t_interval
from rib.metrics.pareto import pareto

Flags = NDArray[np.bool_]


def point(value: float) -> Estimate:
    return Estimate(value, np.array([value]))


def estimates(
    right: Flags, sources: NDArray[np.int64] | None = None, draws: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Accuracies of several models on one set: right is bool (models, N)."""
    bootstrap = Bootstrap(draws, seed)
    where = np.arange(right.shape[1]) if sources is None else sources
    bootstrap.declare("set", where)
    return bootstrap.accuracies("set", where, example_weights(None, right.shape[1]), right)


def flags(seed: int, *shape: int, share: float = 0.6) -> Flags:
    return np.random.default_rng(seed).random(shape) < share


# -- numbers by hand ---------------------------------------------------------------------------------------------------


def test_ri_and_mri_by_hand() -> None:
    """Three sets. Tuned on a: b 60 → 50, c 40 → 44, so RI -3. On b: a 80 → 81, c 40 → 31, so -4. On c: a 80 → 90,
    b 60 → 60, so +5. mRI = -2/3."""
    before = {"a": point(80), "b": point(60), "c": point(40)}
    after = {
        "a": {"b": point(50), "c": point(44)},
        "b": {"a": point(81), "c": point(31)},
        "c": {"a": point(90), "b": point(60)},
    }
    ri = {name: robustness_improvement(before, after[name], set(before) - {name}) for name in before}
    assert {name: found.value for name, found in ri.items()} == {"a": -3, "b": -4, "c": 5}
    assert mean(ri.values()).value == pytest.approx(-2 / 3)
    assert mean(ri.values()).draws.tolist() == pytest.approx([-2 / 3])


def test_no_mean_runs_over_a_hole() -> None:
    with pytest.raises(KeyError):
        robustness_improvement({"a": point(1), "b": point(2)}, {"a": point(1)}, ["a", "b"])
    with pytest.raises(ValueError, match="no estimates"):
        mean([])
    with pytest.raises(ValueError, match="no estimates"):
        robustness_improvement({}, {}, [])


def test_accuracy_is_in_percent() -> None:
    assert accuracy(np.array([True, False, True, True]), example_weights(None, 4)) == 75


def test_cells_weigh_the_same() -> None:
    """Cell 0 has three images, all right; cell 7 has one, wrong: 50 %, and not 75."""
    weights = example_weights(np.array([0, 0, 7, 0], np.int16), 4)
    assert weights.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 2, 1 / 6])
    assert accuracy(np.array([True, True, False, True]), weights) == pytest.approx(50)
    bootstrap = Bootstrap(4000)
    bootstrap.declare("set", np.arange(40))
    cells = np.repeat(np.array([0, 1], np.int16), [30, 10])
    right = np.concatenate([flags(1, 30, share=0.9), flags(2, 10, share=0.3)])
    (found,) = bootstrap.accuracies("set", np.arange(40), example_weights(cells, 40), right[None])
    assert found.value == pytest.approx(50 * right[:30].mean() + 50 * right[30:].mean())
    assert found.draws.mean() == pytest.approx(found.value, abs=1.0)


def test_an_interval_says_whether_it_excludes_zero() -> None:
    assert Interval(1, 0.5, 2).excludes_zero
    assert Interval(-1, -2, -0.5).excludes_zero
    assert not Interval(1, 0.0, 2).excludes_zero
    assert not Interval(0, -1, 1).excludes_zero


# -- bootstrap against oracles -----------------------------------------------------------------------------------------


def test_intervals_against_brute_force() -> None:
    """Four examples a source: sources are drawn, and all of a source's examples with it."""
    sources = np.repeat(np.arange(30), 4)
    skill = np.random.default_rng(0).uniform(0.1, 0.9, 30)[sources]
    right = np.random.default_rng(1).random((2, 120)) < np.stack([skill, skill * 0.8])
    a, b = estimates(right, sources, draws=8000)
    generator, draws = np.random.default_rng(5), []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(sources == source) for source in generator.integers(30, size=30)])
        draws.append(100 * (right[0, rows].mean() - right[1, rows].mean()))
    found = (a - b).interval()
    assert found.value == pytest.approx(100 * (right[0].mean() - right[1].mean()))
    spread = float(np.std(draws))
    assert (a - b).draws.std() == pytest.approx(spread, rel=0.05)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.2 * spread)
    assert found.high == pytest.approx(high, abs=0.2 * spread)
    independent = np.hypot(a.draws.std(), b.draws.std())
    assert spread < 0.8 * independent  # pairing matters here, so that the test would see it missing


def test_intervals_against_scipy() -> None:
    right = np.stack([flags(1, 200, share=0.7), flags(2, 200, share=0.5)])
    right[1, :120] = right[0, :120]
    a, b = estimates(right, draws=9999)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = stats.bootstrap(
            (right[0].astype(float), right[1].astype(float)),
            lambda x, y, axis=-1: 100 * (x.mean(axis=axis) - y.mean(axis=axis)),
            paired=True,
            method="percentile",
            n_resamples=9999,
            rng=np.random.default_rng(3),
        ).confidence_interval
    found = (a - b).interval()
    spread = (a - b).draws.std()
    assert found.low == pytest.approx(theirs.low, abs=0.2 * spread)
    assert found.high == pytest.approx(theirs.high, abs=0.2 * spread)


def test_sets_that_share_their_sources_are_resampled_together() -> None:
    """Two sets that show the same sources: the draws of equal flags are equal; of another namespace, independent."""
    right = flags(0, 1, 80)
    order = np.random.default_rng(1).permutation(80)
    bootstrap = Bootstrap(2000)
    for units, sources in (("scan", np.arange(80)), ("scan", order), ("photo", np.arange(80))):
        bootstrap.declare(units, sources)
    weights = example_weights(None, 80)
    (first,) = bootstrap.accuracies("scan", np.arange(80), weights, right)
    (shuffled,) = bootstrap.accuracies("scan", order, weights, right[:, order])
    (other,) = bootstrap.accuracies("photo", np.arange(80), weights, right)
    np.testing.assert_allclose(first.draws, shuffled.draws, atol=1e-3)
    assert abs(np.corrcoef(first.draws, other.draws)[0, 1]) < 0.1


def test_a_difference_of_two_accuracies_is_the_weighted_sum_of_both() -> None:
    """Bit for bit, though most differences take a shorter way."""
    one, other, third = estimates(flags(0, 3, 80))
    seeded = mean_over_seeds([one, other])
    for left, right in ((one, other), (one, one), (one - other, third), (seeded, third), (third, seeded)):
        short, long = left - right, Estimate._sum(left.value - right.value, [(1, left, ()), (-1, right, ())])
        assert (short.value, short._cells, short._weights) == (long.value, long._cells, long._weights)
        assert short._terms.keys() == long._terms.keys()
        for term, amounts in short._terms.items():
            assert amounts.scale == long._terms[term].scale
            assert np.array_equal(amounts.whole, long._terms[term].whole)
        assert short.interval() == long.interval()
        again, by_hand = (
            short / 3 - third,
            Estimate._sum(short.value / 3 - third.value, [(1, long / 3, ()), (-1, third, ())]),
        )
        assert again.interval() == by_hand.interval()


def test_half_shared_sources_correlate_by_half() -> None:
    """Oracle: for sets of n sources of which m are common, with equal flags there, the correlation is m / n."""
    count, common = 400, 200
    first_sources = np.arange(count)
    second_sources = np.arange(count) + count - common
    right = flags(4, 2 * count - common)
    bootstrap = Bootstrap(6000)
    for sources in (first_sources, second_sources):
        bootstrap.declare("scan", sources)
    weights = example_weights(None, count)
    a = bootstrap.accuracies("scan", first_sources, weights, right[None, first_sources])[0]
    b = bootstrap.accuracies("scan", second_sources, weights, right[None, second_sources])[0]
    assert np.corrcoef(a.draws, b.draws)[0, 1] == pytest.approx(common / count, abs=0.06)


def test_draws_depend_on_the_seed_alone() -> None:
    right = flags(0, 1, 50)
    np.random.default_rng(0)
    assert np.array_equal(estimates(right)[0].draws, estimates(right)[0].draws)
    assert not np.array_equal(estimates(right)[0].draws, estimates(right, seed=1)[0].draws)


def test_seeds_alone_make_the_t_interval_of_a_textbook() -> None:
    """With no spread over images, the interval of a mean over seeds is Student's. Oracle: scipy."""
    values = [1.0, 2.0, 6.0]
    found = mean_over_seeds([Estimate(value) for value in values]).interval()
    theirs = stats.t.interval(0.95, df=2, loc=3, scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((3, *theirs))
    assert (found.kind, found.lacks, found.df) == ("seeds", (), pytest.approx(2))
    assert found.se == pytest.approx(stats.sem(values))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_paired_seeds_make_the_paired_t_test() -> None:
    """Oracle: scipy's paired t test; constants, and the order of differences and means, make no difference."""
    first, second = [3.0, 1.0, 4.0, 1.5], [2.0, 0.5, 3.8, 0.9]
    one, other = (mean_over_seeds([Estimate(value) for value in values]) for values in (first, second))
    theirs = stats.ttest_rel(first, second)
    ends = theirs.confidence_interval()
    within = mean_over_seeds([Estimate(a + 7) - Estimate(b + 7) for a, b in zip(first, second, strict=True)])
    for difference in (one - other, within, one - other - Estimate(0.0)):
        found = difference.interval()
        assert (found.p, found.low, found.high) == pytest.approx((theirs.pvalue, ends.low, ends.high))


def test_seeds_of_different_kinds_are_independent() -> None:
    """Two cohorts of pretraining seeds: the variances of their means add up. Oracle: Welch's t test has that se."""
    first, second = [3.0, 1.0, 4.0], [2.0, 0.5]
    one, other = (
        mean_over_seeds([Estimate(value) for value in values], Seeds("pretraining", tuple(range(len(values))), name))
        for values, name in ((first, "a"), (second, "b"))
    )
    found = (one - other).interval()
    assert found.se == pytest.approx(np.hypot(stats.sem(first), stats.sem(second)))
    assert found.lacks == ()
    same = mean_over_seeds([Estimate(value) for value in second], Seeds("pretraining", (0, 1), "b"))
    assert (other - same).interval() == Interval(0, 0, 0)


def test_crossed_seeds_count_their_interaction_once() -> None:
    """Three pretraining x two tuning seeds. Oracle: the mean squares of a two-way table, worked out by hand.

    Rows 1 3 | 2 2 | 6 10: row means 2 2 8, column means 3 5. MS of rows 24, of columns 6; residuals -0 0 | 1 -1 | -1 1,
    MS 2. Var = (24 + 6 - 2) / 6.
    """
    table = [[1.0, 3.0], [2.0, 2.0], [6.0, 10.0]]
    rows = [mean_over_seeds([Estimate(value) for value in row]) for row in table]
    found = mean_over_seeds(rows, Seeds("pretraining", (0, 1, 2), "a"))
    assert found.value == 4
    assert found.interval().se == pytest.approx(np.sqrt((24 + 6 - 2) / 6))


def test_a_difference_of_models_with_one_pretraining_seed_says_so() -> None:
    alone = [
        mean_over_seeds([mean_over_seeds([Estimate(value), Estimate(value + 1)])], Seeds("pretraining", (name,), name))
        for name, value in (("a", 1.0), ("b", 3.0))
    ]
    for difference in (alone[0] - alone[1], (alone[0] - alone[1]) / 8):
        assert difference.interval().lacks == ("pretraining seeds",)
    assert mean(alone).interval().lacks == ()  # of these two models
    other = mean_over_seeds([Estimate(0.0), Estimate(1.5)])
    method = mean_over_seeds([other], Seeds("pretraining", ("a",), "a"))
    assert (alone[0] - method).interval().lacks == ()  # two methods on the very same model


def test_one_seed_is_images_only() -> None:
    """And a model that is not tuned has no seeds; what is exactly nothing depends on none."""
    before, after = estimates(flags(1, 2, 80))
    one = mean_over_seeds([after]) - before
    assert (one.interval().kind, one.interval().lacks) == ("images only", ("tuning seeds",))
    assert not one.interval().differs
    assert ((after - before).interval().kind, (after - before).interval().lacks) == ("images", ())
    assert one.interval() == (after - before).interval()
    assert (one - one).interval().lacks == ()
    single = mean_over_seeds([Estimate(1.0)]).interval()
    assert (single.kind, single.low, single.high, single.p, single.differs) == ("nothing", 1, 1, None, False)


@pytest.mark.parametrize("overlap", [False, True], ids=["sets apart", "sets that share images"])
def test_images_and_seeds_add_up(overlap: bool) -> None:
    """Seeds that give the same answers, but for a shift of all: se² is that over images plus that over seeds.

    Where seeds give answers of their own, what images and seeds do together is counted once: oracle, the mean
    squares of a table of images x seeds.
    """
    count, generator = 200, np.random.default_rng(3)
    names = ("x", "x") if overlap else ("x", "y")
    bootstrap, right = Bootstrap(500), generator.random((2, 4, count)) < 0.6
    for name in names:
        bootstrap.declare(name, np.arange(count))
    sets = [
        bootstrap.accuracies(name, np.arange(count), example_weights(None, count), flags_)
        for name, flags_ in zip(names, right, strict=True)
    ]
    found = mean(mean_over_seeds(each) for each in sets).interval()
    table = 50 * right.astype(float)  # of each set's images: what it adds to the mean of the two sets
    tables = [table.sum(axis=0)] if overlap else list(table)
    by_seed = table.mean(axis=2).sum(axis=0)
    main = 0.0
    for each in tables:
        residual = each - each.mean(axis=0) - each.mean(axis=1, keepdims=True) + each.mean()
        images = 4 * each.mean(axis=0).var(ddof=1)
        main += (images - (residual**2).sum() / (3 * (count - 1))) / (4 * count)
    assert found.value == pytest.approx(by_seed.mean())
    images_only = np.sqrt(sum(each.mean(axis=0).var(ddof=1) / count for each in tables))
    whole = np.sqrt(max(main, 0) + by_seed.var(ddof=1) / 4)
    assert found.kind == "images and seeds"
    assert found.se == pytest.approx(whole, rel=1e-6) or found.se == pytest.approx(images_only, rel=1e-6)
    assert found.high - found.low >= 2 * 1.95 * images_only
    if not overlap:  # Satterthwaite (1946): the two sets' variances over images, each with count - 1 degrees of freedom
        parts = [each.mean(axis=0).var(ddof=1) / count for each in tables]
        freedom = sum(parts) ** 2 / (sum(part**2 for part in parts) / (count - 1))
        assert mean(mean_over_seeds(each) for each in sets)._variances()[0].df == pytest.approx(freedom, rel=1e-6)


NO_IMAGES = (Variance(0, 1), Variance(0, 1))
NORMAL = stats.norm.ppf(0.975)


def test_the_square_of_a_length_is_the_sum_of_its_parts() -> None:
    """One part: Student's. Beside as much variance over images, and by hand: 1 z² + 1 t². Never below images alone."""
    lone = t_interval(1.0, *NO_IMAGES, Variance(4.0, 3), "seeds")
    assert (lone.low, lone.high) == pytest.approx(stats.t.interval(0.95, 3, 1, 2))
    one = Variance(1, 1e9)
    for df in (1, 2, 3, 4, 9):
        both = t_interval(0.0, one, one, Variance(1.0, df), "images and seeds")
        assert both.high == pytest.approx(np.sqrt(NORMAL**2 + stats.t.ppf(0.975, df) ** 2))
        assert both.df is not None
        assert stats.t.ppf(0.975, both.df) == pytest.approx(both.high / np.sqrt(2))
    floor = t_interval(0.0, Variance(9, 1e9), one, Variance(1.0, 1e9), "images and seeds")
    assert floor.high == pytest.approx(3 * NORMAL)


def test_most_of_what_images_add_to_the_variance_over_seeds_counts_as_known() -> None:
    """Images 4, of which seeds vary by 1: 1 - sqrt(1 / 4) / 2 = 3/4 of it with 2 degrees of freedom. At 2.5 %, 3/32."""
    images, shared, seeds = Variance(4, 1e9), Variance(3, 1e9), Variance(2.0, 2, 1.0)
    t = stats.t.ppf(0.975, 2)
    found = t_interval(0.0, images, shared, seeds, "images and seeds")
    assert found.high == pytest.approx(np.sqrt(3.75 * NORMAL**2 + 1.25 * t**2))
    lower, few = stats.norm.ppf(0.9875), stats.t.ppf(0.9875, 2)
    at_half = half_length(images, shared, seeds, 0.025)
    assert at_half == pytest.approx(np.sqrt((3 + 3 / 32) * lower**2 + (2 - 3 / 32) * few**2))
    little = t_interval(0.0, images, shared, Variance(0.5, 2, 1.0), "images and seeds")
    assert little.high == pytest.approx(2 * NORMAL)  # all of it may be of images
    alone = half_length(Variance(1, 1e9), Variance(0, 1e9), Variance(2.0, 1, 1.0))
    assert alone == pytest.approx(np.sqrt(2) * stats.t.ppf(0.975, 1))  # two seeds and nothing else: nothing is known


def test_several_kinds_of_seeds_pool_their_degrees_of_freedom() -> None:
    """Two cohorts of three pretraining seeds, equally noisy: Welch's t test has 4. Oracle: scipy's quantile."""
    two = [Variance(2.0, 2), Variance(2.0, 2)]
    for parts in (two, [*two, Variance(0.0, 1)]):
        found = t_interval(0.0, *NO_IMAGES, pooled(parts), "seeds")
        assert found.high == pytest.approx(2 * stats.t.ppf(0.975, 4))
    assert pooled([Variance(3.0, 1), Variance(1.0, 2)]).df == pytest.approx(16 / 9.5)  # (3 + 1)² / (9 / 1 + 1 / 2)


def test_runs_on_different_sets_are_independent_draws() -> None:
    """Three sets, two seeds: 1 7 | 6 2 | 3 1. By hand: the sets' parts of the variance are 36/36, 16/36 and 4/36.

    The sums by seed are equal, so that as one set they would leave nothing.
    """
    table = {"x": (1.0, 7.0), "y": (6.0, 2.0), "z": (3.0, 1.0)}
    sets = [mean_over_seeds([Estimate(value) for value in values], None, name) for name, values in table.items()]
    found = mean(sets).interval()
    assert found.se == pytest.approx(np.sqrt((6**2 + 4**2 + 2**2) / 4 / 9))
    assert found.df == pytest.approx(56**2 / (36**2 + 16**2 + 4**2))
    assert found.high - found.value == pytest.approx(found.se * stats.t.ppf(0.975, found.df))
    as_one = mean(mean_over_seeds([Estimate(value) for value in values]) for values in table.values())
    assert as_one.interval().se == pytest.approx(0)


def test_what_runs_of_one_seed_share_is_a_part_of_its_own() -> None:
    """Sets x seeds 0 4 8 | 0 2 7: variances 16 and 13, of their mean 14.25. By hand, all times 3 for three seeds:

    the sets' parts 16/4 + 13/4 = 7.25 lack 7, so that 2 x 7 = 14 is shared, and 0.25 is left to both sets.
    """
    rows = {"a": (0.0, 4.0, 8.0), "b": (0.0, 2.0, 7.0)}
    sets = [mean_over_seeds([Estimate(value) for value in values], None, name) for name, values in rows.items()]
    found = mean(sets).interval()
    parts = np.array([0.25 * 4 / 7.25, 0.25 * 3.25 / 7.25, 14.0])
    assert found.se == pytest.approx(np.sqrt(14.25 / 3))
    assert found.df == pytest.approx(14.25**2 / (parts**2 / 2).sum())
    same = mean(mean_over_seeds([Estimate(value) for value in rows["a"]], None, name) for name in "ab").interval()
    assert (same.se, same.df) == pytest.approx((stats.sem(rows["a"]), 2))  # as if there were one set
    mixed = mean(
        [found_set - Estimate(0.0) for found_set in sets] + [mean_over_seeds([Estimate(v) for v in rows["a"]])]
    )
    assert mixed.interval().df == pytest.approx(2)  # one part is of no set


def test_two_methods_on_several_sets_are_paired_by_set_and_seed() -> None:
    """Oracle: differences by set and seed, then the variance of each set with numpy."""
    generator = np.random.default_rng(5)
    first, second = generator.normal(size=(2, 4, 3)) * np.array([1.0, 3.0, 0.5, 2.0])[:, None]
    one, other = (
        mean(mean_over_seeds([Estimate(v) for v in row], None, str(name)) for name, row in enumerate(table))
        for table in (first, second)
    )
    apart = first - second
    by_set = apart.var(axis=1, ddof=1) / 3 / 16
    whole = apart.mean(axis=0).var(ddof=1) / 3
    shared = min(max(whole - by_set.sum(), 0) * 4 / 3, whole)
    parts = np.array([*(by_set * ((whole - shared) / by_set.sum() if shared else 1)), shared])
    found = (one - other).interval()
    assert found.value == pytest.approx(apart.mean())
    assert found.se == pytest.approx(np.sqrt(parts.sum()))
    assert found.df == pytest.approx(parts.sum() ** 2 / (parts**2 / 2).sum())


def test_pretraining_seeds_are_the_same_for_every_set() -> None:
    """Two sets x three pretraining x two tuning seeds. Oracle: mean squares of the tables, by numpy."""
    table = np.random.default_rng(6).normal(size=(2, 3, 2)) + np.array([0.0, 4.0, 9.0])[:, None]
    models = [
        mean(mean_over_seeds([Estimate(v) for v in row], None, name) for name, row in zip("xy", by_set, strict=True))
        for by_set in table.transpose(1, 0, 2)
    ]
    found = mean_over_seeds(models, Seeds("pretraining", (0, 1, 2), "a")).interval()

    def interaction(square: NDArray[np.float64]) -> float:
        rest = square - square.mean(axis=0) - square.mean(axis=1, keepdims=True) + square.mean()
        return float((rest**2).sum() / 2 / 6)

    whole = table.mean(axis=0)
    over_models = whole.mean(axis=1).var(ddof=1) / 3
    apart = [max(each.mean(axis=0).var(ddof=1) / 2 - interaction(each), 0) / 4 for each in table]
    over_seeds = max(whole.mean(axis=0).var(ddof=1) / 2 - interaction(whole), 0)
    assert found.se == pytest.approx(np.sqrt(over_models + max(sum(apart), over_seeds)))


def test_many_intervals_at_once_are_those_of_each() -> None:
    """Arrays of variances; the last one has no seeds' variance at all."""
    amounts, least = np.array([0.1, 1.0, 5.0, 0.0]), np.array([0.2, 0.5, 0.0, 0.0])
    images, shared = np.array([1.2, 1.5, 1.0, 1.0]), np.ones(4)
    for level in (0.05, 0.01):
        many = half_length(Variance(images, 99), Variance(shared, 99), Variance(amounts, 2, least), level)
        for place, found in enumerate(many):
            each = Variance(float(amounts[place]), 2, float(least[place]))
            alone = half_length(Variance(float(images[place]), 99), Variance(1.0, 99), each, level)
            assert found == pytest.approx(float(alone))
    assert many[-1] == pytest.approx(stats.t.ppf(0.995, 99))


@pytest.mark.parametrize("df", [1, 2, 4])
@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_lengths_grow_as_levels_fall(df: int, together: float) -> None:
    """From 1 to 1e-9, whatever share of the noise is known: a p value is the one level of its interval."""
    shared = Variance(1.0 - together, 200)
    for amount in (0.01, 0.3, 1.0, 30.0):
        seeds = Variance(amount, df, together)
        halves = [float(half_length(Variance(1.0, 200), shared, seeds, level)) for level in np.geomspace(1e-9, 0.9, 60)]
        assert all(one >= other for one, other in itertools.pairwise(halves))


def test_p_values_agree_with_intervals() -> None:
    """A value that lies on the end of its interval has p = 0.05, and the power of its own detectable value is 0.8."""
    found = t_interval(2.0, *NO_IMAGES, Variance(1.0, 4), "seeds")
    edge = t_interval(found.high - 2.0, *NO_IMAGES, Variance(1.0, 4), "seeds")
    assert edge.p == pytest.approx(0.05)
    mixed = (Variance(1.2, 100), Variance(1.0, 100), Variance(2.0, 2, 0.2))
    both = t_interval(1.0, *mixed, "images and seeds")
    assert t_interval(both.high - 1, *mixed, "images and seeds").p == pytest.approx(0.05)
    assert edge.low == pytest.approx(0)
    assert found.detectable == pytest.approx(stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4))
    assert found.beyond(1.0) == pytest.approx(stats.t.sf(1, 4))
    turned = found.times(-10)
    assert (turned.low, turned.high, turned.se) == pytest.approx((-10 * found.high, -10 * found.low, 10))
    assert turned.times(2).se == pytest.approx(20)


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2, 0.5 x 1, each at least the one before; whatever the order."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    listed = as_family([Interval(1, 0.5, 2, p=0.03), None, Interval(1, 0.9, 2, p=0.001), Interval(1, 0.5, 2)])
    assert [each and each.adjusted for each in listed] == [0.03, None, 0.002, None]
    assert [each and each.marked for each in as_family([Interval(1, 0.1, 2, p=0.04)] * 2)] == [False, False]


# -- properties --------------------------------------------------------------------------------------------------------

small = settings(max_examples=40, deadline=None)


@small
@given(st.integers(0, 2**31), st.integers(2, 90), st.integers(2, 7), st.booleans())
def test_equal_models_differ_by_exactly_nothing(seed: int, count: int, models: int, with_cells: bool) -> None:
    """Their place among other models must not matter, not even in the last digit: a mark hangs on it."""
    right = flags(seed, models, count)
    right[-1] = right[0]
    cells = np.random.default_rng(seed).integers(3, size=count).astype(np.int16) if with_cells else None
    bootstrap = Bootstrap(200)
    bootstrap.declare("set", np.arange(count))
    found = bootstrap.accuracies("set", np.arange(count), example_weights(cells, count), right)
    assert (found[-1] - found[0]).interval() == Interval(0, 0, 0)


def test_draws_are_exact() -> None:
    """A draw of 700 images counts in steps of 1/7 %: an interval that ends at zero ends exactly there."""
    a, b = estimates(flags(3, 2, 700))
    for steps in (a.draws * 7, (a - b).draws * 7):
        np.testing.assert_allclose(steps, np.round(steps), rtol=0, atol=1e-9)


@small
@given(st.integers(0, 2**31), st.integers(3, 60), st.floats(-50, 50))
def test_a_shift_of_all_moves_nothing(seed: int, count: int, shift: float) -> None:
    """RI is a difference: adding the same to before and after leaves it, and its interval."""
    right = flags(seed, 2, count)
    a, b = estimates(right, draws=100)
    moved = [Estimate(each.value + shift, each.draws + shift) for each in (a, b)]
    plain = robustness_improvement({"x": a}, {"x": b}, ["x"]).interval()
    shifted = robustness_improvement({"x": moved[0]}, {"x": moved[1]}, ["x"]).interval()
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-9)


@small
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_a_model_that_is_always_right_has_no_interval(seed: int, count: int) -> None:
    right = np.stack([np.ones(count, bool), np.zeros(count, bool), flags(seed, count)])
    sure, wrong, some = estimates(right, draws=50)
    assert sure.interval() == Interval(100, 100, 100)
    assert wrong.interval() == Interval(0, 0, 0)
    assert some.value == pytest.approx(100 * right[2].mean())
    assert some.draws.min() >= 0
    assert some.draws.max() <= 100


@small
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_pareto_against_brute_force(points: list[tuple[int, int]]) -> None:
    def beaten(mine: tuple[int, int]) -> bool:
        return any(other != mine and other[0] >= mine[0] and other[1] >= mine[1] for other in points)

    assert pareto(points) == [place for place, mine in enumerate(points) if not beaten(mine)]


def test_a_small_set_in_a_large_namespace_has_a_finite_interval() -> None:
    """Some draws of 60 sources hold none of the two that a small set shows."""
    bootstrap = Bootstrap(2000)
    for sources in (np.arange(60), np.array([3, 4])):
        bootstrap.declare("scan", sources)
    found = bootstrap.accuracies("scan", np.array([3, 4]), example_weights(None, 2), np.array([[True, False]]))[0]
    assert found.value == 50
    assert np.isfinite(found.draws).all()
    assert found.interval() == Interval(50, 0, 100)


# -- large data sets: drawn by what their images have in common --------------------------------------------------------


def gathered(
    changes: Sequence[NDArray[np.float64]], sources: Sequence[NDArray[np.int64]], draws: int, seed: int
) -> NDArray[np.float64]:
    """Oracle: the mean change over several sets in draws of source images, each gathered by hand; (draws,)."""
    names = np.unique(np.concatenate(sources))
    places = [np.searchsorted(names, each) for each in sources]
    generator, found = np.random.default_rng(seed), np.empty(draws)
    for draw in range(draws):
        taken = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        means = [
            100 * (taken[place] @ change) / taken[place].sum() for place, change in zip(places, changes, strict=True)
        ]
        found[draw] = np.mean(means)
    return found


def same_law(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Kolmogorov and Smirnov do not tell the two apart; nor do the ends of the interval."""
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    spread = theirs.std()
    assert np.percentile(ours, [2.5, 97.5]) == pytest.approx(np.percentile(theirs, [2.5, 97.5]), abs=0.25 * spread)


def any_population(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Draw small namespaces in the way of large ones."""
    if way != "kept":
        monkeypatch.setattr(resample, "KEPT", 0)
    if way == "blocks":
        monkeypatch.setattr(resample, "FEW", 0)
        monkeypatch.setattr(resample, "BLOCK", 8 * 150 * 7)


WAYS = ("kept", "table", "blocks")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("overlap", [0, 50, 150], ids=["apart", "half shared", "shared"])
def test_ri_over_sets_has_the_law_of_gathering(monkeypatch: pytest.MonkeyPatch, way: str, overlap: int) -> None:
    """Three sets; two of them show common sources, one of those three images of each."""
    any_population(monkeypatch, way)
    generator = np.random.default_rng(0)
    first = np.arange(150)
    sources = [first, np.repeat(first + 150 - overlap, 3), np.arange(60)]
    skill = generator.uniform(0.2, 0.9, 300)
    units = ["photo", "photo", "sketch"]
    before = [generator.random(len(each)) < skill[each] for each in sources]
    after = [generator.random(len(each)) < 0.9 * skill[each] for each in sources]
    bootstrap = Bootstrap(6000)
    for name, each in zip(units, sources, strict=True):
        bootstrap.declare(name, each)
    found = [
        bootstrap.accuracies(name, each, example_weights(None, len(each)), flags)
        for name, each, *flags in zip(units, sources, before, after, strict=True)
    ]
    start, end = ({str(n): pair[side] for n, pair in enumerate(found)} for side in (0, 1))
    ri = robustness_improvement(start, end, ["0", "1", "2"])
    changes = [b.astype(float) - a for a, b in zip(before, after, strict=True)]
    apart = [*sources[:2], sources[2] + 1000]
    both = gathered(changes[:2], apart[:2], 6000, 1) * 2 / 3 + gathered(changes[2:], apart[2:], 6000, 2) / 3
    assert ri.value == pytest.approx(100 * np.mean([change.mean() for change in changes]))
    same_law(ri.draws, both)


@pytest.mark.parametrize("way", WAYS)
def test_sources_are_drawn_and_seeds_held_in_every_way(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    any_population(monkeypatch, way)
    right = flags(8, 4, 120)
    draws = 6000
    baseline, *tuned = estimates(right, draws=draws)
    found = mean([mean_over_seeds([each - baseline for each in tuned]), tuned[0] - baseline])
    generator, theirs = np.random.default_rng(4), np.empty(draws)
    for draw in range(draws):
        rows = generator.integers(120, size=120)
        shares = 100 * right[:, rows].mean(axis=1)
        theirs[draw] = (shares[1:].mean() + shares[1]) / 2 - shares[0]
    same_law(found.draws, theirs)
    assert found.value == pytest.approx(100 * ((right[1:].mean() + right[1].mean()) / 2 - right[0].mean()))


@pytest.mark.parametrize("way", WAYS)
def test_what_cancels_is_exactly_nothing_in_every_way(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    any_population(monkeypatch, way)
    a, b, c = estimates(flags(5, 3, 150))
    zero = mean([a - b, b - c]) - (a - c) / 2
    assert zero.value == pytest.approx(0, abs=1e-12)
    assert not zero.draws.any()
    steps = (a - b).draws * 1.5
    np.testing.assert_allclose(steps, np.round(steps), rtol=0, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@small
@given(seed=st.integers(0, 2**31), count=st.integers(1, 40), cells=st.booleans())
def test_always_right_and_equal_models_in_every_way(way: str, seed: int, count: int, cells: bool) -> None:
    """Degenerate cases are exact whatever the way, the sources and the cells."""
    with pytest.MonkeyPatch.context() as patch:
        any_population(patch, way)
        generator = np.random.default_rng(seed)
        sources = generator.integers(-5, 60, size=count)
        weights = example_weights(generator.integers(3, size=count).astype(np.int16) if cells else None, count)
        some = generator.random(count) < 0.5
        bootstrap = Bootstrap(60)
        for each in (sources, np.array([3, 99])):  # others share the namespace
            bootstrap.declare("set", each)
        right = [np.ones(count, bool), some, some, np.zeros(count, bool)]
        sure, one, other, wrong = bootstrap.accuracies("set", sources, weights, right)
        assert set(sure.draws) == {100}
        assert wrong.interval() == Interval(0, 0, 0)
        assert (one - other).interval() == Interval(0, 0, 0)
        assert set(mean([sure, wrong]).draws) == {50}
        assert 0 <= one.interval().low <= one.interval().high <= 100


@small
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 3))
def test_distinct_rows_are_the_histogram(seed: int, count: int, width: int) -> None:
    columns = np.random.default_rng(seed).integers(-2, 3, size=(count, width)) / 3
    rows, counts = resample.distinct_rows(columns)
    expected = Counter(tuple(row) for row in np.round(columns, 9).tolist())
    found = dict(zip(map(tuple, np.round(rows, 9).tolist()), counts.tolist(), strict=True))
    assert found == expected


def test_fifty_thousand_images_take_little_memory() -> None:
    """No matrix of draws and images: the most that is held is a few numbers an image."""
    right = [flags(seed, 50_000) for seed in range(4)]
    bootstrap, sources = Bootstrap(), np.arange(50_000)
    bootstrap.declare("set", sources)
    tracemalloc.start()
    found = bootstrap.accuracies("set", sources, example_weights(None, 50_000), right)
    mean_over_seeds([each - found[0] for each in found[1:]]).interval()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_amounts_that_are_whole_and_amounts_that_are_not_add_up() -> None:
    """Cells of two images and of one: an image of the small one counts two, of the large one one, or half and one."""
    sources, weights = np.arange(3), example_weights(np.array([0, 0, 1], np.int16), 3)
    bootstrap = Bootstrap(50)
    bootstrap.declare("set", sources)
    right = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1]], bool)
    large, half, both = bootstrap.accuracies("set", sources, weights, right)
    assert [each.value for each in (large, half, both)] == [50, 25, 75]
    for change, value in ((large - half, 25), (half - large, -25), (both - half - large, 0)):
        assert change.value == value
    np.testing.assert_allclose((both - half - large).draws, 0, atol=1e-9)
    np.testing.assert_allclose((large - half).draws, large.draws - half.draws, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cells", [1, 6], ids=["an image once", "in six cells"])
def test_the_spread_is_that_of_the_formula(monkeypatch: pytest.MonkeyPatch, way: str, cells: int) -> None:
    """A mean over n source images drawn with replacement has variance Σ(x - x̄)²/n², x being the mean of an image."""
    any_population(monkeypatch, way)
    generator, count, draws = np.random.default_rng(cells), 150, 20_000
    names = np.repeat(np.arange(cells, dtype=np.int16), count)
    sources = np.tile(np.arange(count), cells)
    skill = generator.uniform(0.1, 0.9, count)[sources]
    before, after = (generator.random(len(sources)) < drop * skill for drop in (1.0, 0.8))
    bootstrap = Bootstrap(draws)
    bootstrap.declare("c", sources)
    weights = example_weights(names if cells > 1 else None, len(sources))
    start, end = bootstrap.accuracies("c", sources, weights, [before, after])
    change = 100 * (after.astype(float) - before).reshape(cells, count).mean(axis=0)
    found, deviation = (end - start).draws, change.std() / np.sqrt(count)
    assert (end - start).value == pytest.approx(change.mean())
    assert found.std() == pytest.approx(deviation, rel=0.03)  # six times what 20,000 draws leave open
    assert found.mean() == pytest.approx(change.mean(), abs=6 * deviation / np.sqrt(draws))


@given(st.integers(1, 60_000), st.floats(0.001, 0.9), st.floats(0, 1))
def test_the_tail_of_guessing_is_scipys(count: int, chance: float, share: float) -> None:
    right = round(share * count)
    expected = float(stats.binom.sf(right - 1, count, chance))
    assert binomial_tail(right, count, chance) == pytest.approx(expected, abs=1e-8)
