"""Orders: a model that is right but for the order of its classes is told apart from one that knows nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy.optimize import linear_sum_assignment

import rib
from rib.analysis.orders import _is_diagonal, better_order
from rib.data import digits
from rib.report.latex import write_latex
from rib.report.model_folders import model_card
from rib.report.recommend import advice_lines
from rib.report.results_json import results_json
from rib.results.recommendation import advise
from rib.steps import How
from rib.suite.load import parse_suite


def told(classes: int, count: int, accuracy: float, means: NDArray[np.int64], seed: int = 0) -> Any:
    """What is found of a model of that accuracy whose answer k stands for class means[k]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    known = np.where(generator.random(count) < accuracy, labels, generator.integers(0, classes, count))
    return better_order(labels, np.argsort(means)[known], classes)


@pytest.mark.parametrize(("classes", "count"), [(3, 30), (10, 200), (200, 2000)])
def test_any_other_order_is_found_and_named(classes: int, count: int) -> None:
    means = np.roll(np.arange(classes), 1)
    found = told(classes, count, 0.9, means)
    assert found.means.tolist() == means.tolist()
    assert found.accuracy < 10
    assert found.better > 75
    assert told(classes, count, 0.9, np.arange(classes)) is None


def test_folders_sorted_as_words_are_found_though_some_classes_are_right() -> None:
    """0, 1, 10, 11, 2, …: two of twelve classes keep their place."""
    means = np.array([int(name) for name in sorted(map(str, range(12)))])
    found = told(12, 600, 0.9, means)
    assert found.means.tolist() == means.tolist()
    assert found.accuracy == pytest.approx(100 * 2 / 12, abs=5)


def test_two_classes_exchanged_among_many_are_not_told_from_a_confusion() -> None:
    means = np.arange(20)
    means[[3, 4]] = 4, 3
    assert told(20, 2000, 0.9, means) is None


def test_no_assignment_is_computed_only_where_it_would_change_nothing() -> None:
    generator = np.random.default_rng(0)
    skipped = 0
    for _ in range(300):
        confusion = generator.integers(0, 5, (4, 4)) + np.diag(generator.integers(0, 5, 4)) + 0.5 * np.eye(4)
        if _is_diagonal(confusion):
            skipped += 1
            assert linear_sum_assignment(confusion, maximize=True)[1].tolist() == [0, 1, 2, 3]
    assert 20 < skipped < 280
    assert not _is_diagonal(np.ones((3, 3)))  # every permutation is as good


@pytest.mark.parametrize("accuracy", [0.2, 0.5, 0.99])
def test_an_honest_model_is_left_alone(accuracy: float) -> None:
    assert not any(told(10, 300, accuracy, np.arange(10), seed) for seed in range(50))


@pytest.mark.parametrize("kind", ["even", "skewed", "constant"])
def test_guessing_is_hardly_ever_taken_for_another_order(kind: str) -> None:
    """At most one in a hundred of 400 draws; 13 of 42,500 were when it was measured."""
    generator = np.random.default_rng(1)
    labels = np.arange(200) % 10
    draws = {
        "even": lambda: generator.integers(0, 10, 200),
        "skewed": lambda: np.minimum(generator.geometric(0.4, 200) - 1, 9),
        "constant": lambda: np.full(200, generator.integers(10)),
    }
    assert sum(better_order(labels, draws[kind](), 10) is not None for _ in range(400)) <= 4


@pytest.mark.parametrize(("labels", "classes"), [([], 10), ([0, 0], 1), ([0, 1, 0, 1], 10_000)])
def test_too_little_or_too_much_to_look_at(labels: list[int], classes: int) -> None:
    assert better_order(np.array(labels, np.int64), np.array(labels, np.int64), classes) is None


def test_what_rib_tunes_itself_has_the_order_of_its_pretrained_model(tmp_path: Path) -> None:
    """A training at chance may exchange classes by accident; only a file of weights can have another order."""
    rendered = digits.render("ref", "test", 120)
    for name, images in (("ref", rendered.images), ("a", rendered.images[:, ::-1]), ("b", rendered.images[:, :, ::-1])):
        arrays = {"images": np.ascontiguousarray(images), "labels": 9 - rendered.labels}
        np.savez(tmp_path / f"{name}.npz", **arrays, classes=digits.CLASSES[::-1])
    made = {
        "name": "orders",
        "reference": "ref",
        "downstream": ["a", "b"],
        "models": ["digits:resnet_small"],
        "runs": [{"methods": ["finetune"], "sizes": [20]}],
        "recipe": {"epochs": 1, "lr": 1e-6},
        "data": {name: {"arrays": f"{name}.npz", "test_fraction": 0.5} for name in ("a", "b")}
        | {"ref": {"arrays": "ref.npz"}},
    }
    suite = parse_suite(made).based_at(tmp_path)
    caveats = rib.run(suite, store=tmp_path / "store", how=How(workers=1)).results.caveats
    named = [caveat.partition(":")[0] for caveat in caveats if "probably another order" in caveat]
    assert named == ["resnet_small"]


@pytest.mark.parametrize("reversed_", [True, False])
def test_report_page_json_and_comparison_name_it(reversed_: bool, tmp_path: Path) -> None:
    names = digits.CLASSES[::-1] if reversed_ else digits.CLASSES
    rendered = digits.render("ref", "test", 120)
    labels = 9 - rendered.labels if reversed_ else rendered.labels
    shown = rendered.images
    for name, images in (("ref", shown), ("a", shown[:, ::-1]), ("b", shown[:, :, ::-1])):
        np.savez(tmp_path / f"{name}.npz", images=np.ascontiguousarray(images), labels=labels, classes=names)
    made = {
        "name": "orders",
        "reference": "ref",
        "downstream": ["a", "b"],
        "models": ["digits:resnet_small"],
        "data": {name: {"arrays": f"{name}.npz"} for name in ("ref", "a", "b")},
    }
    suite = parse_suite(made).based_at(tmp_path)
    results = rib.run(suite, store=tmp_path / "store", how=How(workers=1)).results
    found = rib.compare(
        "digits:resnet_small", "digits:resnet_small", suite=suite, store=tmp_path / "store", analyses=False
    )
    assert ["no better than chance" in error for error in found.errors] == [True, True] * reversed_
    assert all("probably another order of classes" in error for error in found.errors), (
        "the cause is the first one named"
    )
    words = "resnet_small: probably another order of classes: right on"
    assert [words in caveat for caveat in results.caveats] == ([True] if reversed_ else [])
    assert [words in caveat for caveat in results_json(results)["caveats"]] == ([True] if reversed_ else [])
    console = Console(width=300, file=io.StringIO())
    console.print(advice_lines(advise(results, 100)))
    assert (words in console.file.getvalue()) == reversed_  # type: ignore[attr-defined]
    write_latex(results, tmp_path / "table.tex")
    assert (f"% data: {words}" in (tmp_path / "table.tex").read_text()) == reversed_
    assert ("probably another order of classes" in model_card(results, results.plan.runs[0])) == reversed_
    if reversed_:
        assert "(it says nine for zero, eight for one" in results.caveats[0]
