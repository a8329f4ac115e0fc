"""Answers that are not finite, and training that ends at chance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import PART, WHOLE, Say, classifier, document, examples, tiny, toml
from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.errors import NotFiniteError
from rib.execute.run import execute
from rib.models.weights import read_weights, write_weights
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import Fit, How, Predict
from rib.store.store import Store
from rib.training.loop import train
from rib.training.outcome import is_at_chance
from rib.training.predict import collect, predict, read_out
from rib.training.sweep import Asked, predict_chunk
from rib.training.training import Training

BAD = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("value", BAD)
def test_answers_that_are_not_finite_are_no_predictions(value: float) -> None:
    net, seen = classifier("resnet"), examples(9)
    with torch.no_grad():
        net.net.get_parameter("head.bias")[2] = value  # of one class of four
    with pytest.raises(NotFiniteError, match="NaN or infinity for 9 of 9 inputs"):
        predict(net, seen, WHOLE, batch_size=4)
    features = collect(net, net.features, seen, 4)
    with pytest.raises(NotFiniteError):
        read_out(net, features, 4, "fp32")


def test_answers_to_some_images_that_are_not_finite() -> None:
    """A white image makes this net divide by zero; and a class that the data set lacks counts too."""
    net, pool = classifier("resnet"), examples(9)
    images = np.array(pool.images)
    images[4] = 255
    net.net.register_forward_hook(lambda _, given, out: out / (1 - (given[0].amin((1, 2, 3)) > 0.99).float())[:, None])
    with pytest.raises(NotFiniteError, match="for 1 of 9 inputs"):
        predict(net, Examples.whole(images, pool.index), LabelMap("part", ((3,), (1,), (0,), (2,)), 4), batch_size=4)


def test_features_that_are_not_finite() -> None:
    """Though a head of zeros would hide an infinity from nobody: 0 · inf is NaN."""
    net = classifier("resnet")
    net.head.register_forward_pre_hook(lambda _, given: (given[0] * math.inf,))
    with pytest.raises(NotFiniteError):
        collect(net, lambda images: net.features(images) * math.inf, examples(5), 4)


def test_a_net_that_is_not_finite_does_not_stop_the_others_of_a_sweep() -> None:
    good, bad, pool = classifier("resnet"), classifier("vit"), examples(9)
    with torch.no_grad():
        bad.net.get_parameter("head.bias").fill_(math.nan)
    asked = [Asked(net, net.head, WHOLE, "fp32") for net in (bad, good)]
    for rows in (slice(0, 6), slice(6, 9)):
        predict_chunk(pool.take(np.arange(9)[rows]), asked, 3, lambda _: None)
    assert isinstance(asked[0].error, NotFiniteError)
    assert asked[0].said == []
    assert asked[1].error is None
    expected = predict(good, pool, WHOLE, batch_size=3)
    assert np.array_equal(asked[1].predictions.masked_label_probability, expected.masked_label_probability)


def overflowing(folder: Path) -> Path:
    """A checkpoint of finite weights whose answers are not."""
    weights = read_weights(folder / "resnet-0.safetensors")
    weights["head.weight"] = weights["head.weight"].sign() * 3e38
    write_weights(folder / "big.safetensors", weights)
    return folder / "big.safetensors"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_that_answers_with_nan_has_no_numbers(tmp_path: Path, streamed: bool) -> None:
    suite = tiny(tmp_path, evaluate=["other"], runs=[{"methods": ["linear_probe", "lwf"]}])
    suite.model["resnet"] = suite.model["resnet"].model_copy(update={"weights": str(overflowing(tmp_path))})
    store = Store(tmp_path / "store")
    plan = make_plan(suite, store.facts)
    outcome = execute(plan, store, How(workers=1, device="cpu", pack_budget=0 if streamed else None))
    done = [step for step in plan.steps if store.is_done(step.key)]
    assert not [step for step in done if isinstance(step, Predict)]
    assert not [step for step in done if isinstance(step, Fit) and step.data]
    assert any("NaN or infinity for" in reason for reason in outcome.failed.values())


def test_a_gate_fails_where_a_model_answers_with_nan(tmp_path: Path, rib_says: Say) -> None:
    (tmp_path / "suite.toml").write_text(toml(document(tmp_path)))
    overflowing(tmp_path)
    words = ("--suite", tmp_path / "suite.toml", "--model", "resnet", "--fail-if", "ri < -90", "--workers", 1)
    code, said = rib_says("compare", tmp_path / "resnet-0.safetensors", tmp_path / "big.safetensors", *words)
    assert (code, "NaN or infinity" in said) == (1, True), said


@pytest.mark.parametrize(
    ("right", "count", "chance", "at_chance"),
    [
        (14, 20, 50.0, True),  # P(X >= 14) = 60460 / 2^20 = 0.0577
        (15, 20, 50.0, False),  # P(X >= 15) = 21700 / 2^20 = 0.0207
        (0, 20, 50.0, True),
        (1, 1, 50.0, True),
        (5, 5, 50.0, False),  # 1 / 32
        (20, 20, 100.0, False),  # one class: nothing to tell
        (600, 1000, 10.0, False),
        (112, 1000, 10.0, True),
    ],
)
def test_what_counts_as_chance(right: int, count: int, chance: float, at_chance: bool) -> None:
    assert is_at_chance(100 * right / count, chance, count) == at_chance


@pytest.mark.parametrize(("lr", "label_map", "at_chance"), [(1e-9, PART, True), (0.02, WHOLE, False)])
def test_training_that_ends_at_chance_is_marked(lr: float, label_map: LabelMap, at_chance: bool) -> None:
    recipe = Recipe(epochs=12, batch_size=6, lr=lr)
    pool = examples(40, len(label_map.groups))
    outcome = train(classifier("resnet"), Training(pool, label_map, recipe, seed=0))
    assert outcome.at_chance == at_chance, outcome
    assert outcome.values["at_chance"] == float(at_chance)
    assert outcome.values["chance"] == 100 * np.bincount(pool.labels).max() / 40
    assert outcome.seen == 40


def test_the_last_epoch_may_be_cut_short() -> None:
    outcome = train(classifier("resnet"), Training(examples(20), WHOLE, Recipe(steps=5, batch_size=6), seed=0))
    assert outcome.seen == 6  # 6 + 6 + 6 + 2, and 6


def test_the_record_says_what_ended_at_chance(tmp_path: Path) -> None:
    suite = tiny(tmp_path, recipe={"epochs": 1, "batch_size": 5, "lr": 1e-9})
    store = Store(tmp_path / "store")
    plan = make_plan(suite, store.facts)
    execute(plan, store, How(workers=1, device="cpu"))
    (fit, *_) = [step for step in plan.steps if isinstance(step, Fit) and step.data]
    record = store.record(fit.key)
    assert record is not None
    assert record.values["chance"] == 25.0
    assert record.values["at_chance"] in (0.0, 1.0)
