"""Every registered method at a rate that is too high: a failed step that says why, or a row with a mark."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rib
from handmade import handmade
from helpers import classifier, examples, tiny
from plain_loop import RECIPE, method
from rib.methods import METHODS
from rib.methods.flyp import ImagesAndTexts
from rib.models.weights import take_weights
from rib.report.page import write_page
from rib.results.finding import finding
from rib.results.merges import merge_rows
from rib.results.results import Results
from rib.results.words import marks
from rib.steps import Fit, How, Predict
from rib.training.outcome import is_at_chance
from test_claim import said
from test_methods import MERGES, make_task, of_methods
from test_text_side import vectors

ALONE = How(workers=1)
HUGE, HIGH = 1e38, 30.0
"""At the first rate, weights leave the range of float32; at the second, some trainings end with a finite loss."""

BOUNDED = {"ftp": "its projection bounds every step", "lora": "attention to values too large is a constant answer"}
"""Methods whose weights are finite after a training at the huge rate, and why."""

TRAINING = sorted(set(METHODS.classes) - {"pretrained"})


@pytest.fixture(scope="module", params=[HUGE, HIGH])
def wild(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, Results]:
    """A run of all methods at the rate."""
    folder, rate = tmp_path_factory.mktemp("wild"), request.param
    merges = {"downstream": ["whole", "part", "other"], "merges": [{"methods": sorted(MERGES)}]}
    suite = of_methods(
        folder,
        ("vit",),
        **(merges if rate == HUGE else {}),
        runs=[{"methods": [name for name in TRAINING if name not in MERGES], "downstream": ["part"]}],
        recipe={"epochs": 2, "batch_size": 5, "lr": rate},
        method={"best_rate": {"rates": [rate / 2, rate]}},
    )
    return rate, rib.run(suite, store=folder / "store", how=ALONE).results


@pytest.mark.parametrize("name", TRAINING)
def test_a_rate_that_is_too_high_gives_no_plain_number(name: str, wild: tuple[float, Results]) -> None:
    rate, results = wild
    if name in MERGES:
        if rate == HIGH:
            pytest.skip("their ingredient diverges in the same way")
        merged = next(row for row in merge_rows(results) if row.method == name)
        failed = merged.mri is None
        assert failed
        assert merged.missing
    else:
        row = next(row for row in results.summaries if row.method == name)
        failed = row.mri is None
        assert failed == bool(row.missing)
        assert failed or "✗" in marks(row), "a number without a mark"
    assert failed or rate == HIGH or name in BOUNDED
    reasons = [reason for title, reason in results.failures.items() if title.startswith(f"{name} vit on")]
    assert bool(reasons) == failed
    for reason in reasons:
        assert re.search("diverged.*try a lower learning rate", reason)


def test_a_choice_among_trainings_that_all_diverged_is_refused(tmp_path: Path) -> None:
    suite = tiny(
        tmp_path,
        ("vit",),
        runs=[{"methods": ["best_rate", "diwa"], "downstream": ["part"]}],
        recipe={"epochs": 1, "batch_size": 8, "eval_batch_size": 16, "lr": 30.0},
        method={"best_rate": {"rates": [30.0, 31.0]}, "diwa": {"runs": 2, "rates": [1.0, 1.1]}},
    )
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    fits = {step.method.name: step for step in finished.results.plan.steps if isinstance(step, Fit)}
    diverged = finished.results.records[fits["finetune"].key].values["diverged"]
    assert diverged == 1.0
    for name in ("best_rate", "diwa"):
        assert "and so did its 1 others" in finished.failed[f"{name} vit on part"]
        assert next(row for row in finished.summaries if row.method == name).mri is None


def training(of: str) -> dict[str, float]:
    return {"first_loss": 1.0, "last_loss": 9.0, "diverged": float(of == "two"), "chance": 25.0, "at_chance": 0.0}


def test_a_finite_divergence_is_marked_everywhere_and_passed_on_by_merges(tmp_path: Path) -> None:
    """WiSE-FT and a choice have no training of their own; the soup has one that did not diverge."""

    def notes(fit: Fit) -> dict[str, Any]:
        if fit.method.name == "finetune":
            return training(fit.data.name if fit.data else "")
        return training("") if fit.method.name == "l2_sp" else {}

    def skill(step: Predict) -> float:
        return 60.0 - 5.0 * (step.fit.method.name != "pretrained")

    sets = dict.fromkeys(("clean", "one", "two"), "abcd")
    methods = ["finetune", "l2_sp", "wise_ft", "wise_ft_held_out", "soup"]
    members = {"soup": {"members": ["pretrained", "finetune", "l2_sp"]}}
    found = handmade(tmp_path, skill, sets=sets, methods=methods, method=members, held_out=0.25, notes=notes)
    assert {row.method: row.diverged for row in found.summaries if row.diverged} == dict.fromkeys(
        ("finetune", "wise_ft", "wise_ft_held_out"), ("two",)
    )
    assert "finetune of net diverged on two." in finding(found)
    assert "✗ a training ended at chance or diverged" in said(found)
    write_page(found, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8").count("diverged</em>") >= 3


def test_flyp_says_that_it_ended_at_chance() -> None:
    """Chance is the share of a batch's texts with the class of an image: by a loop over its pairs."""
    task, _ = make_task("resnet")
    loss = ImagesAndTexts(vectors().tower(), task.label_map)
    labels = torch.tensor([0, 0, 0, 1, 2])
    generator = np.random.default_rng(0)
    drawn = [generator.choice(5, 4, p=[0.2] * 5) for _ in range(4000)]
    same = [np.mean(labels.numpy()[batch][:, None] == labels.numpy()[batch][None]) for batch in drawn]
    assert loss.chance(labels, 4) == pytest.approx(max(60.0, 100 * np.mean(same)), abs=1.0)
    even = torch.arange(40) % 4
    assert loss.chance(even, 4) == pytest.approx(100 * (1 + 3 / 4) / 4)
    noted: dict[str, Any] = {}
    recipe = RECIPE.model_copy(update={"lr": 1e-9})
    task = replace(task, recipe=recipe, texts=vectors(), note=noted.__setitem__)
    method("flyp").fit(take_weights(classifier("resnet").net), task, [])
    assert noted["at_chance"] == float(is_at_chance(noted["tuning_accuracy"], noted["chance"], len(examples(10, 3))))
    assert noted["chance"] > 100 / 3
