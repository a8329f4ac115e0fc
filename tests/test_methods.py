"""Methods: every one runs on every family and kind of set, and does the arithmetic that its name claims."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax
from torch import Tensor

import rib
from helpers import FAMILIES, PART, WHOLE, classifier, document, examples, model_row, same_weights, tiny
from rib.data.labels import LabelMap
from rib.methods import METHODS, Method
from rib.methods.base import Passes, Task
from rib.methods.best_rate import BestRate
from rib.methods.ewc import EWC, diagonal_fisher, normalised
from rib.methods.finetune import FineTune
from rib.methods.l2_sp import L2SP
from rib.methods.lwf import LwF
from rib.methods.soup import GreedySoup, Soup, mean_weights
from rib.metrics.intervals import Interval
from rib.models.catalogue import Architecture, ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.text_side import ClassVectors
from rib.models.weights import Weights, interpolate, take_weights, write_weights
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import Fit, How, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.suite.suite import Suite
from rib.training.loop import train
from rib.training.training import Training

ALONE = How(workers=1)
MERGES = {name for name, kind in METHODS.classes.items() if kind.merges_sets}

OF_TRANSFORMERS = {"lora", "peft", "vpt"}
"""Methods that refuse a net without attention; test_protocol.py and test_extensions.py ask what they say."""

WITH_TEXTS = {name for name, kind in METHODS.classes.items() if kind.needs_texts}
"""Methods that refuse a model without texts; the models of these tests have random class vectors."""


def of_methods(folder: Path, families: Sequence[str] = ("resnet",), **fields: Any) -> Suite:
    """A tiny suite whose models have class vectors."""
    rows = {}
    for family in families:
        names = torch.randn(4, classifier(family).width, generator=torch.Generator().manual_seed(1))
        write_weights(folder / f"{family}-names.safetensors", {"classes": names})
        rows[family] = model_row(folder, family) | {"class_vectors": f"{family}-names.safetensors"}
    return tiny(folder, families, **{"model": rows} | fields)


@pytest.mark.parametrize("share", [True, False])
def test_every_step_counts_the_images_that_its_plan_expects(share: bool, tmp_path: Path) -> None:
    """Time left is estimated from both: a probe that trains its head on features passes each image once."""
    methods = sorted(set(METHODS.classes) - {"pretrained", *OF_TRANSFORMERS} - MERGES)
    suite = of_methods(
        tmp_path,
        downstream=["whole", "part", "other"],
        runs=[{"methods": methods, "downstream": ["whole"]}],
        merges=[{"methods": sorted(MERGES)}],
    )
    plan = dataclasses.replace(make_plan(suite), share=share)
    counted: list[tuple[int, float]] = []
    shop = Workshop(
        suite, Store(tmp_path / "store"), How(device="cpu", share=share), lambda *done: counted.append(done)
    )
    seen = {}
    for step in plan.steps:
        counted.clear()
        shop.do(step)
        images, cost = (sum(each) for each in zip(*counted, strict=True)) if counted else (0, 0)
        expected = plan.passes(step)
        assert (images, cost) == (expected.forwards, expected.cost), step.title
        if isinstance(step, Fit):
            seen[step.method.name] = expected
    assert seen["linear_probe"] == Passes(seen=0 if share else 16)  # of 24 images a quarter is held out
    assert seen["finetune"] == Passes(trained=2 * 16)


# -- every method, on both families, on a masked and an unmasked set ---------------------------------------------------


@pytest.fixture(scope="module", params=["resnet", "vit", "text"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A family and a folder whose store is shared by its tests, so that ingredients are made once."""
    return request.param, tmp_path_factory.mktemp(request.param)


@pytest.mark.parametrize("tuned_on", ["whole", "part"])
@pytest.mark.parametrize("method", sorted(set(METHODS.classes) - MERGES))
def test_every_method_runs(method: str, tuned_on: str, place: tuple[str, Path]) -> None:
    family, folder = place
    if method in OF_TRANSFORMERS and family == "resnet":
        pytest.skip("it changes attention, and this net has none")
    if (method, family) == ("vpt", "text"):
        pytest.skip("it adds tokens to those of images; tests/test_texts.py asks what it says to a net of text")
    suite = of_methods(folder, (family,), runs=[{"methods": [method], "downstream": [tuned_on]}])
    finished = rib.run(suite, store=folder / "store", how=ALONE)
    assert finished.failed == {}
    store = Store(folder / "store")
    plan = make_plan(suite)
    wanted = [run for run in plan.runs if run.method == method]
    assert wanted
    workshop = Workshop(suite, store, How(device="cpu"), lambda _images, _passes: None)
    for run in wanted:
        weights = workshop.weights(run.fit)
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())
        if method not in ("diwa", "greedy_soup", "wise_ft_held_out"):  # which may keep the pretrained model alone
            assert same_weights(weights, workshop.weights(run.fit.start)) == (method == "pretrained")
        assert set(run.scores) == {"clean", "whole", "part"}
        for step in (run.fit, *run.scores.values()):
            record = store.record(step.key)
            assert record is not None
            assert record.spec == step.spec
    scores = [score for score in finished.results.scores if score.method == method]
    assert scores
    assert all(score.masked is not None and 0 <= score.masked <= 100 for score in scores)
    row = next(summary for summary in finished.summaries if summary.method == method)
    assert row.missing == ()
    assert (row.mri is None) == (method == "pretrained")


# -- EWC ---------------------------------------------------------------------------------------------------------------


def one_by_one_fisher(net: Classifier, count: int, label_map: LabelMap, seed: int, family: str) -> dict[str, Tensor]:
    """Squared gradients of log p(y|x) in a plain loop over single images, y drawn from the model."""
    pool = examples(count, len(label_map.groups), family=family)
    net.eval()
    images = torch.from_numpy(pool.batch(slice(None)))
    chosen = torch.tensor([group[0] for group in label_map.groups])
    with torch.no_grad():
        drawn = torch.multinomial(
            net(images)[:, chosen].softmax(1), 1, generator=torch.Generator().manual_seed(seed)
        ).flatten()
    total = {name: torch.zeros_like(value) for name, value in net.net.named_parameters()}
    for image, label in zip(images, drawn, strict=True):
        net.zero_grad()
        F.log_softmax(net(image[None])[:, chosen], dim=1)[0, label].backward()
        for name, value in net.net.named_parameters():
            assert value.grad is not None
            total[name] += value.grad**2
    return {name: value / count for name, value in total.items()}


@pytest.mark.parametrize("label_map", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize("family", ["resnet", "vit", "batch_norm", "text", "causal"])
def test_fisher_is_the_mean_of_squared_gradients_of_single_samples(family: str, label_map: LabelMap) -> None:
    pool = examples(9, len(label_map.groups), family=family)
    found = diagonal_fisher(classifier(family), pool, label_map, seed=5)
    expected = one_by_one_fisher(classifier(family), 9, label_map, seed=5, family=family)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=2e-3, atol=1e-7)


def test_fisher_is_not_the_square_of_the_mean_gradient() -> None:
    net, pool = classifier("resnet"), examples(9)
    found = diagonal_fisher(net, pool, WHOLE, seed=5)
    images = torch.from_numpy(pool.batch(slice(None)))
    labels = torch.multinomial(net(images).softmax(1), 1, generator=torch.Generator().manual_seed(5)).flatten()
    net.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    square_of_mean = torch.cat([value.grad.flatten() ** 2 for value in net.net.parameters() if value.grad is not None])
    mean_of_squares = torch.cat([found[name].flatten() for name, _ in net.net.named_parameters()])
    assert float(mean_of_squares.sum()) > 1.2 * float(square_of_mean.sum())  # by Jensen, and by far


def test_normalised_fisher_has_mean_one_and_is_clipped() -> None:
    fisher = {"a": torch.tensor([[0.0, 1.0], [2.0, 1.0]]), "b": torch.tensor([6.0])}  # mean 2
    assert normalised(fisher, 100)["a"].tolist() == [[0, 0.5], [1, 0.5]]
    assert normalised(fisher, 100)["b"].tolist() == [3]
    assert normalised(fisher, 2)["b"].tolist() == [2]
    assert normalised({"a": torch.zeros(3)}, 2)["a"].tolist() == [1, 1, 1]


def test_ewc_with_a_fisher_of_ones_is_l2_sp(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = {name: torch.full_like(value, 0.3) for name, value in classifier("resnet").net.named_parameters()}
    monkeypatch.setattr("rib.methods.ewc.diagonal_fisher", lambda *_, **__: ones)
    tuned = [run_method(method, "resnet") for method in (EWC(strength=0.7), L2SP(strength=0.7), L2SP(strength=0.0))]
    assert all(torch.allclose(tuned[0][name], tuned[1][name], atol=1e-6) for name in tuned[0])
    assert not all(torch.allclose(tuned[1][name], tuned[2][name], atol=1e-4) for name in tuned[0])


def test_ewc_takes_its_fisher_from_the_pretrained_weights_and_the_tuning_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def spy(net: Classifier, pool: Any, label_map: LabelMap, seed: int) -> dict[str, Tensor]:
        seen.update(weights=take_weights(net.net), rows=pool.rows.tolist(), label_map=label_map)
        return diagonal_fisher(net, pool, label_map, seed)

    monkeypatch.setattr("rib.methods.ewc.diagonal_fisher", spy)
    task, notes = make_task("resnet")
    start = take_weights(classifier("resnet").net)
    EWC(samples=6).fit(start, task, [])
    assert same_weights(seen["weights"], start)
    assert len(seen["rows"]) == 6
    assert set(seen["rows"]) <= set(task.tuning.rows.tolist())
    assert seen["label_map"] == PART
    assert notes["fisher_samples"] == 6


# -- L2-SP -------------------------------------------------------------------------------------------------------------


def test_l2_sp_is_the_squared_distance_of_all_parameters() -> None:
    net = classifier("batch_norm")
    start = take_weights(net.net)
    task, _ = make_task("batch_norm")
    pull = L2SP(strength=0.5).pull(start, task)
    for value in net.net.parameters():
        value.grad = torch.full_like(value, 1.0)
    with torch.no_grad():
        for value in net.net.parameters():
            value.add_(0.25)
    pull.add_to(net.net)
    for value in net.net.parameters():  # 1 + d/dθ strength (θ - θ0)² = 1 + 2 · 0.5 · 0.25, the head and norms included
        torch.testing.assert_close(value.grad, torch.full_like(value, 1.25))


@pytest.mark.parametrize("method", [L2SP(strength=0.7), EWC(strength=0.7, samples=6)], ids=["l2_sp", "ewc"])
def test_a_pull_is_the_gradient_of_its_quadratic_term(method: L2SP | EWC) -> None:
    net = classifier("resnet")
    start = take_weights(net.net)
    pull = method.pull(start, make_task("resnet")[0])
    with torch.no_grad():
        for value in net.net.parameters():
            value.add_(0.1 * torch.randn_like(value))
    ones = {name: torch.ones_like(value) for name, value in start.items()}
    weight = pull.weight or ones
    term = 0.7 * sum((weight[n] * (v - start[n]).square()).sum() for n, v in net.net.named_parameters())
    expected = torch.autograd.grad(term, list(net.net.parameters()))
    for value in net.net.parameters():
        value.grad = torch.zeros_like(value)
    pull.add_to(net.net)
    for value, gradient in zip(net.net.parameters(), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient)


def test_a_pull_leaves_frozen_parameters_alone() -> None:
    net = classifier("resnet")
    for value in net.net.parameters():
        value.grad = None
    L2SP().pull(take_weights(net.net), make_task("resnet")[0]).add_to(net.net)
    assert all(value.grad is None for value in net.net.parameters())


# -- LwF ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["resnet", "text"])
@pytest.mark.parametrize("label_map", [WHOLE, PART], ids=["whole", "part"])
def test_lwf_is_the_divergence_from_the_teacher(label_map: LabelMap, family: str) -> None:
    pool = examples(10, len(label_map.groups), family=family)
    task, _ = make_task(family, label_map)
    teacher = classifier(family, seed=0)
    distil = LwF(temperature=2.0, weight=1.5).penalty(take_weights(teacher.net), task)
    rows = torch.tensor([7, 2, 5])
    student = classifier(family, seed=1).eval()
    with torch.no_grad():
        logits = student(torch.from_numpy(pool.batch(rows.numpy())))
        told = teacher.eval()(torch.from_numpy(pool.batch(rows.numpy())))
    found = float(distil(student.net, label_map.mask(logits), rows))
    chosen = [group[0] for group in label_map.groups]
    p = softmax(told.double().numpy()[:, chosen] / 2.0, axis=1)
    divergence = (p * (np.log(p) - log_softmax(logits.double().numpy()[:, chosen] / 2.0, axis=1))).sum(axis=1)
    assert found == pytest.approx(1.5 * divergence.mean(), rel=1e-5)  # mean over the batch, no factor T²
    assert divergence.mean() > 1e-4


# -- WiSE-FT -----------------------------------------------------------------------------------------------------------


def test_interpolation_covers_parameters_head_and_statistics() -> None:
    start, end = (take_weights(classifier("batch_norm", seed).net) for seed in (0, 1))
    end["norm.num_batches_tracked"] = torch.tensor(7)
    at_zero = interpolate(start, end, 0.0)
    assert all(torch.equal(at_zero[name], start[name]) for name in start if start[name].is_floating_point())
    assert same_weights(interpolate(start, end, 1.0), end)
    third = interpolate(start, end, 0.3)
    for name in ("conv.weight", "head.bias", "norm.running_var", "norm.weight"):
        expected = start[name].double() + 0.3 * (end[name].double() - start[name].double())
        torch.testing.assert_close(third[name].double(), expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(third["norm.running_var"], start["norm.running_var"])
    assert third["norm.num_batches_tracked"] == 7


def test_wise_ft_at_its_ends_scores_as_its_ends(tmp_path: Path) -> None:
    suite = tiny(
        tmp_path,
        ("batch_norm",),
        runs=[{"methods": ["finetune", "wise"]}],
        method={"wise": {"kind": "wise_ft", "sweep": {"alpha": [0.0, 0.3, 1.0]}}},
    )
    results = rib.run(suite, store=tmp_path / "store", how=ALONE).results
    rows = {row.method: row for row in results.summaries}
    assert rows["wise alpha=0"].mri == Interval(0, 0, 0)
    assert rows["wise alpha=1"].mri == rows["finetune"].mri
    assert rows["wise alpha=1"].mri != rows["wise alpha=0.3"].mri
    wise = next(run for run in results.plan.runs if run.method == "wise alpha=0.3")
    shop = Workshop(suite, results.store, How(device="cpu"), lambda _images, _passes: None)
    start, end = shop.weights(wise.fit.start), shop.weights(wise.fit.ingredients[0])
    for name, tensor in shop.weights(wise.fit).items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, start[name] + 0.3 * (end[name] - start[name]))


# -- soups -------------------------------------------------------------------------------------------------------------


def test_a_soup_is_the_mean_of_its_members() -> None:
    members = [
        {"w": torch.tensor([1.0, 2.0]), "seen": torch.tensor(3)},
        {"w": torch.tensor([3.0, -2.0]), "seen": torch.tensor(4)},
        {"w": torch.tensor([5.0, 3.0]), "seen": torch.tensor(5)},
    ]
    assert Soup().merge({}, members)["w"].tolist() == [3, 1]
    assert Soup().merge({}, members)["seen"] == 5


@pytest.mark.parametrize("seed", range(3))
def test_greedy_soup_against_brute_force(seed: int) -> None:
    """The rule, restated: best first; join when the mean's held-out accuracy is at least the best so far."""
    members = [take_weights(classifier("resnet", 10 * seed + number).net) for number in range(4)]
    task, notes = make_task("resnet")

    def accuracy(weights: Weights) -> float:
        net = classifier("resnet").eval()
        net.net.load_state_dict(weights)
        with torch.no_grad():
            logits = net(torch.from_numpy(task.held_out.batch(slice(None))))[:, [3, 1, 0]]
        return float((logits.argmax(1).numpy() == task.held_out.labels).mean())

    by_accuracy = sorted(members, key=accuracy, reverse=True)
    soup = [by_accuracy[0]]
    for member in by_accuracy[1:]:
        if accuracy(mean_weights([*soup, member])) >= accuracy(mean_weights(soup)):
            soup.append(member)
    method = GreedySoup(members=("a", "b", "c", "d"))
    found = method.fit(members[0], task, members)
    assert same_weights(found, mean_weights(soup))
    kept = [name for name, member in zip("abcd", members, strict=True) if any(member is other for other in soup)]
    assert notes["members_kept"] == ", ".join(kept)
    assert notes["held_out_accuracy"] == pytest.approx(100 * accuracy(found))
    assert notes["held_out_accuracy"] >= 100 * max(map(accuracy, members)) - 1e-9


def test_greedy_soup_takes_a_member_that_changes_nothing() -> None:
    task, notes = make_task("resnet")
    weights = take_weights(classifier("resnet").net)
    GreedySoup(members=("a", "b")).fit(weights, task, [weights, dict(weights)])
    assert notes["members_kept"] == "a, b"


def test_greedy_soup_leaves_a_harmful_member_out() -> None:
    task, notes = make_task("resnet")
    good = take_weights(classifier("resnet").net)
    tuned = run_method(FineTune(lr=0.05, epochs=20), "resnet")
    bad = {name: -5 * tensor for name, tensor in tuned.items()}
    GreedySoup(members=("good", "bad", "tuned")).fit(good, task, [good, bad, tuned])
    assert "tuned" in notes["members_kept"]
    assert "bad" not in notes["members_kept"]


# -- best rate ---------------------------------------------------------------------------------------------------------


def test_best_rate_takes_the_best_and_of_equals_the_lowest() -> None:
    task, notes = make_task("resnet")
    fitted = [take_weights(classifier("resnet", seed).net) for seed in (3, 4, 5)]
    accuracies = {id(fitted[0]): 40.0, id(fitted[1]): 70.0, id(fitted[2]): 70.0}
    rigged = RiggedTask(**vars(task))
    object.__setattr__(rigged, "accuracies", accuracies)
    chosen = BestRate(rates=(0.1, 0.001, 0.01)).fit({}, rigged, fitted)
    assert chosen is fitted[1]
    assert notes == {
        "held_out_accuracy_at_0.001": 40.0,
        "held_out_accuracy_at_0.01": 70.0,
        "held_out_accuracy_at_0.1": 70.0,
        "chosen_lr": 0.01,
    }
    assert [item.lr for item in BestRate(rates=(0.1, 0.001)).ingredients()] == [0.001, 0.1]  # type: ignore[union-attr]


def test_the_chosen_alpha_is_the_best_on_held_out_images_and_of_equals_the_lowest() -> None:
    task, notes = make_task("resnet")
    start, tuned = (take_weights(classifier("resnet", seed).net) for seed in (3, 4))
    name = next(name for name, tensor in start.items() if tensor.is_floating_point() and tensor.ndim > 1)
    accuracies = {0.0: 60.0, 0.3: 80.0, 0.7: 80.0, 1.0: 70.0}

    class Told(Task):
        def held_out_accuracy(self, weights: Weights) -> float:
            share = (weights[name] - start[name]).norm() / (tuned[name] - start[name]).norm()
            return accuracies[round(float(share), 3)]

    method = METHODS.classes["wise_ft_held_out"](alphas=(1.0, 0.3, 0.0, 0.7))  # type: ignore[call-arg]
    found = method.fit(start, Told(**vars(task)), [tuned])
    assert same_weights(found, METHODS.classes["wise_ft"](alpha=0.3).merge(start, [tuned]))  # type: ignore
    assert notes == {f"held_out_accuracy_at_{alpha:g}": value for alpha, value in accuracies.items()} | {
        "chosen_alpha": 0.3
    }
    assert method.ingredients() == ("finetune",)
    assert method.passes(task.recipe, 10, 5).seen == 20
    with pytest.raises(ValueError, match="less than or equal to 1"):
        METHODS.classes["wise_ft_held_out"](alphas=(0.5, 1.5))  # type: ignore[call-arg]


def test_the_learning_curve_is_in_the_record() -> None:
    task, notes = make_task("resnet")
    METHODS.classes["finetune"](lr=0.05, epochs=4).fit(take_weights(classifier("resnet").net), task, [])  # type: ignore
    losses, accuracies = notes["loss_by_epoch"], notes["tuning_accuracy_by_epoch"]
    assert len(losses) == len(accuracies) == 4
    assert (losses[0], losses[-1], accuracies[-1]) == (
        notes["first_loss"],
        notes["last_loss"],
        notes["tuning_accuracy"],
    )
    assert losses[-1] < losses[0]


class RiggedTask(Task):
    """A task whose held-out accuracies are told."""

    accuracies: Mapping[int, float]

    def held_out_accuracy(self, weights: Weights) -> float:
        return self.accuracies[id(weights)]


# -- ingredients -------------------------------------------------------------------------------------------------------


def test_ingredients_are_steps_of_the_table_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    methods = ["finetune", "linear_probe", "lp_ft", "l2_sp", "lwf", "wise_ft", "soup", "greedy_soup"]
    plan = make_plan(tiny(tmp_path, runs=[{"methods": methods, "downstream": ["part"]}]))
    trained = [step for step in plan.steps if isinstance(step, Fit) and step.data is not None]
    assert len(trained) == 6  # all but the two merges
    by_name = {run.method: run.fit for run in plan.runs}
    assert by_name["lp_ft"].ingredients == (by_name["linear_probe"],)
    assert by_name["wise_ft"].ingredients == (by_name["finetune"],)
    members = ("pretrained", "finetune", "l2_sp", "lwf")
    assert by_name["soup"].ingredients == tuple(by_name[name] for name in members)
    assert [step.key for step in plan.steps] == list(dict.fromkeys(step.key for step in plan.steps))
    place = {step.key: number for number, step in enumerate(plan.steps)}
    assert all(place[need.key] < place[step.key] for step in plan.steps for need in step.needs)


def test_lp_ft_starts_from_the_probe(tmp_path: Path) -> None:
    task, _ = make_task("resnet")
    start = take_weights(classifier("resnet").net)
    probe = METHODS.classes["linear_probe"]().fit(start, task, [])
    found = METHODS.classes["lp_ft"]().fit(start, task, [probe])
    net = classifier("resnet")
    net.net.load_state_dict(probe)
    train(net, Training(task.tuning, task.label_map, task.recipe, seed=task.seed))
    assert same_weights(found, take_weights(net.net))


def test_a_merge_is_never_scored_on_what_an_ingredient_saw(tmp_path: Path) -> None:
    """Where a set plays both roles whole, no tuned model and no merge of one is scored on it."""
    fields = document(tmp_path, runs=[{"methods": ["finetune", "wise_ft", "soup"]}])
    for row in fields["data"].values():
        row.pop("test_fraction")
    plan = make_plan(parse_suite(fields).based_at(tmp_path))
    assert all(run.tuned_on not in run.scores for run in plan.runs)
    assert all(set(run.scores) == {"clean", "whole", "part"} - {run.tuned_on} for run in plan.runs)


# -- divergence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "epochs", "finite"), [(1e3, 3, False), (30.0, 1, True)])
def test_a_diverged_ingredient_is_named_and_not_averaged(
    tmp_path: Path, rate: float, epochs: int, finite: bool
) -> None:
    suite = tiny(
        tmp_path,
        ("vit",),
        runs=[{"methods": ["wild", "finetune", "stew", "wise_ft"], "downstream": ["part"]}],
        method={
            "wild": {"kind": "finetune", "lr": rate, "epochs": epochs},
            "stew": {"kind": "soup", "members": ["pretrained", "finetune", "wild"]},
        },
    )
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    rows = {row.method: row for row in finished.summaries}
    assert (rows["wild"].mri is not None) == finite
    assert rows["stew"].mri is None
    assert rows["stew"].missing
    assert rows["wise_ft"].mri is not None
    assert rows["finetune"].mri is not None
    reasons = [reason for title, reason in finished.failed.items() if title.startswith("soup")]
    assert reasons
    assert all("diverged" in reason and "finetune vit on part" in reason for reason in reasons), reasons


def test_a_choice_of_rates_passes_a_diverged_one_over(tmp_path: Path) -> None:
    suite = tiny(
        tmp_path,
        ("vit",),
        runs=[{"methods": ["best_rate"], "downstream": ["part"]}],
        recipe={"epochs": 1, "batch_size": 8, "eval_batch_size": 16},
        method={"best_rate": {"rates": [0.001, 30.0]}},
    )
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    assert not finished.failed
    (note,) = [note for note in finished.results.notes if note.method == "best_rate"]
    assert note.values["chosen_lr"] == 0.001


# -- the user's own ----------------------------------------------------------------------------------------------------


class Shrink(Method):
    """A method of the user's: every weight times a factor."""

    name = "shrink"
    factor: float = 0.5

    def fit(self, start: Weights, task: Task, fitted: Any) -> Weights:
        return {name: tensor * self.factor for name, tensor in start.items()}


class Crash(Method):
    """A method of the user's with a fault."""

    name = "crash"

    def fit(self, start: Weights, task: Task, fitted: Any) -> Weights:
        raise ZeroDivisionError("a fault of mine")


def test_a_users_method_runs_and_its_fault_is_its_own(tmp_path: Path) -> None:
    suite = tiny(
        tmp_path,
        runs=[{"methods": ["shrink", "crash", "finetune"], "downstream": ["part"]}],
        method={"shrink": {"kind": f"{__name__}:Shrink", "factor": 0.9}, "crash": {"kind": f"{__name__}:Crash"}},
    )
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    rows = {row.method: row for row in finished.summaries}
    assert rows["shrink"].mri is not None
    assert rows["finetune"].mri is not None
    assert rows["crash"].mri is None
    assert any("ZeroDivisionError: a fault of mine (test_methods.py:" in reason for reason in finished.failed.values())


def test_a_method_never_sees_an_evaluation_set(tmp_path: Path) -> None:
    plan = make_plan(of_methods(tmp_path, ("vit",), runs=[{"methods": sorted(set(METHODS.classes) - MERGES)}]))
    for run, step in itertools.product(plan.runs, plan.steps):
        if isinstance(step, Fit) and step.data is not None:
            assert step.data.part == "tune"
        assert all(predict.data.part == "test" for predict in run.scores.values())


# -- helpers -----------------------------------------------------------------------------------------------------------


def make_task(family: str, label_map: LabelMap = PART) -> tuple[Task, dict[str, Any]]:
    """A task on ten tuning and forty held-out pictures, and the notes it takes."""
    notes: dict[str, Any] = {}
    net = classifier(family)
    found = find_architecture(family)
    task = Task(
        architecture=found,
        tuning=examples(10, len(label_map.groups), family=family),
        held_out=examples(40, len(label_map.groups), seed=9, family=family),
        label_map=label_map,
        recipe=Recipe(epochs=2, batch_size=4, lr=0.02),
        seed=3,
        device=net.device,
        watch=lambda _: None,
        checkpoint=None,
        note=notes.__setitem__,
        reference=examples(12, seed=7, family=family),
        reference_map=WHOLE,
        texts=ClassVectors(torch.randn(4, net.width, generator=torch.Generator().manual_seed(8)), 4.0),
    )
    return task, notes


def find_architecture(family: str) -> Architecture:
    return describe(ModelRow.model_validate(FAMILIES[family] | {"weights": "none"}), 4)


def run_method(method: Method, family: str) -> Weights:
    """What a method makes of random weights on the task of `make_task`."""
    task, _ = make_task(family)
    return method.fit(take_weights(classifier(family).net), task, [])
