"""Runs that are stopped on their way, and the studies that compare at a gain, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from handmade import handmade
from helpers import PART, classifier, examples, same_weights
from rib.methods.base import Passes
from rib.methods.finetune import FineTune
from rib.methods.stopped import Stopped
from rib.models.weights import take_weights
from rib.recipe import Recipe
from rib.results.answer import Contrast
from rib.results.results import Results
from rib.steps import Predict
from rib.studies import find_study
from rib.studies.trajectory import STEPS
from rib.training.loop import train
from rib.training.schedule import Schedule
from rib.training.training import Training
from test_methods import make_task

RECIPE = Recipe(epochs=3, batch_size=4, lr=0.02, warmup_steps=2)


def stopped(steps: int | None) -> Any:
    net = classifier("resnet")
    pool = examples(10, len(PART.groups))
    train(net, Training(pool, PART, RECIPE, seed=3, stop=steps))
    return take_weights(net.net)


def one_by_one(steps: int) -> Any:
    """Some steps of SGD with momentum in a plain loop, at the rates of the whole run of nine."""
    net, pool = classifier("resnet"), examples(10, len(PART.groups))
    schedule = Schedule(pool.labels, RECIPE, seed=3)
    optimizer = torch.optim.SGD(net.net.parameters(), lr=1.0, momentum=0.9)
    images, labels = torch.from_numpy(pool.batch(slice(None))), torch.from_numpy(pool.labels)
    net.train()
    for step in range(steps):
        epoch, at = divmod(step, 3)
        rows = torch.from_numpy(schedule.order(epoch)).split(schedule.sizes)[at]
        optimizer.param_groups[0]["lr"] = schedule.lr(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(PART.mask(net(images[rows])), labels[rows]).backward()
        optimizer.step()
    return take_weights(net.net)


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_a_stopped_run_has_the_rates_of_the_whole_run(steps: int) -> None:
    found, expected = stopped(steps), one_by_one(steps)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_a_run_that_is_stopped_at_its_end_or_later_is_the_whole_run() -> None:
    assert same_weights(stopped(9), stopped(None))
    assert same_weights(stopped(100), stopped(None))
    assert not same_weights(stopped(8), stopped(None))


def test_the_method_is_fine_tuning_that_is_stopped() -> None:
    task, _ = make_task("resnet")
    start = take_weights(classifier("resnet").net)
    whole = task.recipe.total_steps(10)
    assert same_weights(Stopped(after=whole).fit(start, task, []), FineTune().fit(start, task, []))
    assert not same_weights(Stopped(after=whole - 1).fit(start, task, []), FineTune().fit(start, task, []))
    assert Stopped(after=4).passes(task.recipe, 10, 0) == Passes(trained=4 + 4 + 2 + 4)
    assert Stopped(after=99).passes(task.recipe, 10, 0) == FineTune().passes(task.recipe, 10, 0)


# -- studies -----------------------------------------------------------------------------------------------------------

SETS = {"clean": "abcd", "one": "abcd", "two": "abcd"}
START = 50


def answered(folder: Path, name: str, moves: Mapping[str, tuple[float, float]], **fields: Any) -> list[Contrast]:
    """The contrasts of a study whose methods gain and lose what a test names."""

    def skill(step: Predict) -> float:
        fit, method = step.fit, step.fit.method
        if method.name == "pretrained":
            return START
        keys = [
            f"{method.name} {getattr(method, field)}"
            for field in ("after", "alpha", "strength", "weight")
            if getattr(method, field, None) is not None
        ]
        if epochs := method.name == "finetune" and getattr(method, "epochs", None):
            keys = [f"finetune {epochs}"]
        gain, change = next((moves[key] for key in [*keys, method.name] if key in moves), (0.0, 0.0))
        return START + (gain if fit.tuned_on and fit.tuned_on.name == step.data.name else change)

    given = {"sets": SETS, "seeds": (0, 1), "methods": ["finetune"], "per_class": 100}
    runs = [{"methods": ["finetune"], "sizes": [320]}]
    recipe = {"epochs": 10, "batch_size": 32}
    base = handmade(folder, skill, **given, runs=runs, recipe=recipe, **fields)  # type: ignore[arg-type]
    study = find_study(name, base.suite)
    suite = study.suite(base.suite)
    changed = {key: getattr(suite, key) for key in ("runs", "method", "study")}
    dumped = {
        "runs": [run.model_dump(exclude_none=True) for run in changed["runs"]],
        "method": changed["method"],
        "study": {key: choice.model_dump(exclude_none=True) for key, choice in changed["study"].items()},
    }
    again = folder / "again"
    again.mkdir()
    results: Results = handmade(again, skill, **given, recipe=recipe, **dumped)  # type: ignore[arg-type]
    return list(find_study(name, results.suite).answer(results).contrasts)


def test_a_run_of_a_hundred_steps_is_read_after_ten(tmp_path: Path) -> None:
    """Ten of a hundred steps lose 8 of 10 points: 3 more than half."""
    assert STEPS[:7] == (1, 2, 5, 10, 20, 50, 100)
    (found,) = answered(tmp_path, "trajectory", {"finetune": (20, -10), "stopped 10": (5, -8)})
    assert found.interval is not None
    assert found.interval.value == pytest.approx(-8 + 5)
    assert found.claimed == "below"


def test_groups_of_methods_are_compared_where_they_gain_as_much(tmp_path: Path) -> None:
    moves = {
        "finetune": (20, -10),
        "adapter": (20, -1),
        "l2_sp 0.3": (10, -2),
        "l2_sp 0.03": (20, -5),
        "l2_sp 0.003": (22, -8),
        "wise_ft 0.25": (8, 0),
        "wise_ft 0.5": (16, -2),
        "wise_ft 0.75": (24, -6),
        "ema": (5, 0),
    }
    choice = {"architecture": {"methods": ["adapter", "l2_sp", "wise_ft", "ema"]}}
    regularised, averaged, *_ = answered(tmp_path, "architecture", moves, study=choice)
    assert regularised.interval is not None
    assert regularised.interval.value == pytest.approx(-1 + 5)
    assert averaged.interval is not None
    assert averaged.interval.value == pytest.approx(-1 + 4)  # without ema, which never gains as much
