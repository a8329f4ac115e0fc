"""Splits: nested, balanced, disjoint by source, and drawn from nothing but their names."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rib.data.examples import Index
from rib.data.splits import carve, divided, mixed, named_generator, named_seed, nested, tuning_rows
from rib.errors import UserError

small = settings(max_examples=60, deadline=None)


@st.composite
def indices(draw: st.DrawFn) -> Index:
    """A few classes, several examples a source image, in any order."""
    classes = draw(st.integers(1, 5))
    per_class = draw(st.lists(st.integers(2, 9), min_size=classes, max_size=classes))
    copies = draw(st.integers(1, 3))
    labels = np.repeat(np.arange(classes), per_class)
    sources = np.arange(len(labels))
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels) * copies)
    return Index(np.tile(labels, copies)[order].astype(np.int64), np.tile(sources, copies)[order].astype(np.int64))


@small
@given(indices(), st.floats(0.05, 0.85), st.integers(0, 5))
def test_a_carved_part_shares_no_source_and_has_its_share_of_each_class(
    index: Index, fraction: float, seed: int
) -> None:
    first, second = carve(index, fraction, seed, "x")
    assert sorted([*first, *second]) == list(range(len(index)))
    assert list(first) == sorted(first)
    assert list(second) == sorted(second)
    assert not set(index.sources[first]) & set(index.sources[second])
    for label in np.unique(index.labels):
        count = len(np.unique(index.sources[index.labels == label]))
        taken = len(np.unique(index.sources[second][index.labels[second] == label]))
        assert taken == min(max(1, round(fraction * count)), count - 1)


@small
@given(indices(), st.integers(0, 5))
def test_prefixes_are_nested_and_balanced(index: Index, seed: int) -> None:
    order = nested(index.labels, seed, "x")
    assert sorted(order) == list(range(len(index)))
    available = np.bincount(index.labels)
    for size in range(1, len(order) + 1):
        counts = np.bincount(index.labels[order[:size]], minlength=len(available))
        unfilled = counts[counts < available]
        if len(unfilled):  # no class has more than one above any class that has images left
            assert counts.max() - unfilled.min() <= 1


@small
@given(indices(), st.floats(0.1, 0.5), st.integers(0, 3))
def test_held_out_rows_are_the_same_at_every_size_and_seed_and_never_tuned_on(
    index: Index, held_out: float, seed: int
) -> None:
    every, held = tuning_rows(index, None, held_out, seed, "x")
    assert not set(index.sources[every]) & set(index.sources[held])
    sizes = range(len(np.unique(index.labels)), len(every) + 1)
    chosen = [tuning_rows(index, size, held_out, seed, "x") for size in sizes]
    for (rows, kept), (more, more_kept) in itertools.pairwise(chosen):
        assert set(rows) < set(more)
        assert set(kept) <= set(more_kept)
    for rows, kept in chosen:
        assert set(rows) <= set(every)
        assert len(kept) == min(len(rows), len(carve(index, held_out, 0, "held out")[1]))
    assert np.array_equal(held, tuning_rows(index, None, held_out, seed + 1, "x")[1])


def test_seeds_draw_other_subsets_and_no_global_state_matters() -> None:
    labels = np.repeat(np.arange(4), 30)
    index = Index(labels, np.arange(120))
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        np.random.seed(number)
        random.seed(number)
        torch.manual_seed(number)
        drawn.append(tuning_rows(index, 20, 0.1, seed, "x")[0])
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])
    assert set(drawn[1]) != set(drawn[2])


def test_draws_are_pinned() -> None:
    """A change here changes every result: it belongs to another key version."""
    assert named_seed("torch state", 0, 1) == 5677726777757274650
    assert named_generator("a", 1).integers(100, size=4).tolist() == [84, 53, 11, 56]
    assert nested(np.arange(6) % 2, 0, "x").tolist() == [4, 3, 0, 5, 2, 1]
    assert named_seed("a", 12) != named_seed("a1", 2)
    rows, held_out = tuning_rows(Index(np.arange(20) % 2, np.arange(20)), 4, 0.3, 1, "x")
    assert (rows.tolist(), held_out.tolist()) == ([19, 4, 15, 18], [11, 6, 13, 12])


def test_nothing_held_out() -> None:
    index = Index(np.arange(6) % 2, np.arange(6))
    rows, held = tuning_rows(index, None, 0.0, 0, "x")
    assert rows.tolist() == list(range(6))
    assert held.tolist() == []


def test_mixed_numbers_are_those_of_splitmix64() -> None:
    """The first outputs of its reference implementation for the seeds 0 and 1."""
    assert mixed(np.array([0, 1], np.uint64)).tolist() == [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1]


def test_a_division_follows_the_source_alone() -> None:
    whole, part = Index(np.zeros(4000, np.int64), np.arange(4000)), Index(np.zeros(400, np.int64), np.arange(400))
    first, second = divided(whole, 0.3)
    assert sorted([*first, *second]) == list(range(4000))
    assert abs(len(second) / 4000 - 0.3) < 0.03  # four standard deviations
    assert set(divided(part, 0.3)[1]) == {row for row in second if row < 400}
    assert divided(whole, 0.0)[1].tolist() == []


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_a_class_of_two_sources_is_on_either_side(fraction: float) -> None:
    index = Index(np.array([0, 0, 1, 1, 1, 2]), np.array([10, 11, 20, 21, 21, 30]))
    first, second = divided(index, fraction)
    for label in (0, 1):
        assert {label} <= set(index.labels[first]), "on the first side"
        assert {label} <= set(index.labels[second]), "on the second side"
    assert set(index.sources[first]).isdisjoint(index.sources[second])


@pytest.mark.parametrize(("classes", "why"), [(3, "one per class"), (200, "each of another class")])
def test_the_smallest_size_is_explained(classes: int, why: str) -> None:
    index = Index(np.arange(2 * classes) % classes, np.arange(2 * classes))
    with pytest.raises(UserError, match=rf"valid: +{min(classes, 100)} \({why}\) to {2 * classes}"):
        tuning_rows(index, 1, 0.0, 0, "x")


@pytest.mark.parametrize("size", [0, 11])
def test_sizes_out_of_reach(size: int) -> None:
    index = Index(np.arange(10) % 2, np.arange(10))
    with pytest.raises(UserError, match=rf"tuning set of {size} cannot be drawn from 'x'"):
        tuning_rows(index, size, 0.0, 0, "x")
