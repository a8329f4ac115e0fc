"""BatchNorm's statistics: each policy against a plain loop, resumed runs, the plan, the four corners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from helpers import FAMILIES, WHOLE, classifier, document, examples, same_weights, tiny
from rib.analysis.base import Scene, Seen
from rib.analysis.statistics import CORNERS, StatisticsShare, shares
from rib.data.splits import named_generator
from rib.identity import model_identity
from rib.methods.finetune import FineTune
from rib.models.catalogue import ModelRow, PretrainRow
from rib.models.describe import describe
from rib.models.weights import take_weights
from rib.plan import make_plan
from rib.recipe import RECIPES, Recipe
from rib.suite.load import parse_suite
from rib.training.checkpoint import FileCheckpoint
from rib.training.loop import train
from rib.training.schedule import Schedule
from rib.training.statistics import estimate_statistics, statistics_names, take_statistics
from rib.training.training import Training

PLAIN = {"epochs": 2, "batch_size": 6, "lr": 0.03, "momentum": 0.9}
POLICIES = ("freeze", "reestimate", "pretrained")


def trained(count: int = 24, checkpoint: FileCheckpoint | None = None, **fields: Any) -> nn.Module:
    """A BatchNorm net after training."""
    net = classifier("batch_norm")
    train(net, Training(examples(count), WHOLE, Recipe.model_validate(PLAIN | fields), seed=3), checkpoint)
    return net.net


def images(count: int) -> Tensor:
    """The normalised pixels of `examples(count)`."""
    return (torch.from_numpy(np.array(examples(count).images)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def test_frozen_statistics_are_those_of_a_plain_loop_in_evaluation_mode() -> None:
    expected, labels = classifier("batch_norm").net, torch.from_numpy(examples(24).labels)
    expected.eval()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.03, momentum=0.9)
    for step in range(8):
        order = torch.from_numpy(named_generator("shuffle", 3, step // 4).permutation(24)).split(6)[step % 4]
        optimizer.param_groups[0]["lr"] = 0.03 * (1 + np.cos(np.pi * step / 8)) / 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(expected(images(24)[order]), labels[order]).backward()
        optimizer.step()
    found = trained(batchnorm="freeze")
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-4, atol=2e-5, msg=name)
    start = classifier("batch_norm").net
    assert same_weights(take_statistics(found), take_statistics(start))
    assert not torch.equal(found.get_parameter("norm.weight"), start.get_parameter("norm.weight"))


@pytest.mark.parametrize("policy", ["reestimate", "pretrained"])
def test_what_is_done_afterwards_leaves_the_weights_as_updating_leaves_them(policy: str) -> None:
    updated, found = trained(), trained(batchnorm=policy)
    statistics = set(statistics_names(updated))
    assert statistics == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    for name, tensor in updated.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor) == (name not in statistics), name


def test_pretrained_statistics_are_put_back() -> None:
    start = take_statistics(classifier("batch_norm").net)
    assert same_weights(take_statistics(trained(batchnorm="pretrained")), start)


def test_statistics_are_estimated_as_torch_does() -> None:
    expected = trained()
    torch.optim.swa_utils.update_bn([(batch,) for batch in images(24).split(6)], expected)
    found = take_statistics(trained(batchnorm="reestimate"))
    for name, tensor in take_statistics(expected).items():
        torch.testing.assert_close(found[name].float(), tensor.float(), rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("count", "sizes"), [(25, (6, 6, 6, 6)), (26, (6, 6, 6, 8)), (5, (5,))])
def test_batches_weigh_by_their_images_and_a_last_one_of_one_is_left_out(count: int, sizes: tuple[int, ...]) -> None:
    net = classifier("batch_norm")
    training = Training(examples(count), WHOLE, Recipe.model_validate(PLAIN), seed=0)
    estimate_statistics(net, training, net.batch_norms(None))
    module = net.net
    assert isinstance(module, nn.Module)
    with torch.no_grad():
        inner = [module.conv(batch) for batch in images(sum(sizes)).split(list(sizes))]  # type: ignore[operator]
    weights = torch.tensor(sizes) / sum(sizes)
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in inner])
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(dim=1) for batch in inner])
    statistics = take_statistics(module)
    torch.testing.assert_close(statistics["norm.running_mean"], weights @ means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(statistics["norm.running_var"], weights @ variances, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_resumed_run_equals_an_uninterrupted_one(policy: str, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    class Killed(FileCheckpoint):
        def save(self, snapshot: Any) -> None:
            super().save(snapshot)
            raise KilledError

    expected = trained(batchnorm=policy)
    with pytest.raises(KilledError):
        trained(checkpoint=Killed(tmp_path / "c", 0), batchnorm=policy)
    assert same_weights(take_weights(trained(checkpoint=FileCheckpoint(tmp_path / "c", 0), batchnorm=policy)),
                        take_weights(expected))  # fmt: skip


def test_update_is_what_was_done_before() -> None:
    assert Recipe.model_validate({"batchnorm": "update"}) == Recipe()
    with pytest.raises(ValidationError, match="batchnorm"):
        Recipe.model_validate({"batchnorm": "thaw"})
    with pytest.raises(ValidationError, match="a pretraining has none yet"):
        PretrainRow.model_validate({"recipe": {"batchnorm": "pretrained"}})
    assert FineTune(freeze=("statistics",)).run_recipe(Recipe()).batchnorm == "freeze"
    assert FineTune(freeze=("statistics",)).trainable(classifier("batch_norm")) is None


# -- short last batches ------------------------------------------------------------------------------------------------

RULES = ("kept", "merged", "dropped", None)


@pytest.mark.parametrize(
    ("rule", "count", "size", "sizes"),
    [
        ("kept", 97, 32, [32, 32, 33]),  # a BatchNorm learns, and cannot use one image
        ("kept", 98, 32, [32, 32, 32, 2]),
        ("merged", 97, 32, [32, 32, 33]),
        ("merged", 111, 32, [32, 32, 47]),
        ("merged", 112, 32, [32, 32, 32, 16]),
        ("merged", 17, 8, [8, 9]),
        ("merged", 3, 2, [3]),  # half of a batch is one image, which is never alone
        ("merged", 5, 8, [5]),
        ("dropped", 97, 32, [32, 32, 32]),
        ("dropped", 127, 32, [32, 32, 32]),
        ("dropped", 96, 32, [32, 32, 32]),
        ("dropped", 20, 32, [20]),
        ("kept", 20, 32, [20]),
        (None, 97, 32, [32, 32, 33]),  # where a BatchNorm learns
        (None, 98, 32, [32, 32, 34]),
        (None, 112, 32, [32, 32, 32, 16]),
        (None, 3, 2, [3]),
    ],
)
def test_batches_by_hand(rule: str | None, count: int, size: int, sizes: list[int]) -> None:
    recipe = Recipe.model_validate({"batch_size": size, "last_batch": rule, "epochs": 3})
    assert recipe.batches(count, merged=True) == sizes
    assert recipe.total_steps(count, merged=True) == 3 * len(sizes)
    assert recipe.images(count, merged=True) == 3 * sum(sizes)


@given(count=st.integers(2, 300), size=st.integers(2, 70), rule=st.sampled_from(RULES), learns=st.booleans())
def test_no_image_is_lost_but_by_dropping_and_none_is_normalised_alone(
    count: int, size: int, rule: str | None, learns: bool
) -> None:
    recipe = Recipe.model_validate({"batch_size": size, "last_batch": rule})
    sizes = recipe.batches(count, merged=learns)
    assert count - sum(sizes) == (count % size if rule == "dropped" and count > size else 0)
    assert set(sizes[:-1]) <= {size}
    assert not (learns and 1 in sizes)
    if rule == "merged" or (rule is None and learns):
        assert 2 * sizes[-1] <= 3 * size
        assert len(sizes) == 1 or 2 * sizes[-1] >= size


def test_a_dropped_batch_has_other_images_in_every_epoch() -> None:
    labels = np.arange(10) % 2
    recipe = Recipe.model_validate({"batch_size": 4, "last_batch": "dropped"})
    schedule = Schedule(labels, recipe, seed=0, stages=(1.0,), merged=False)
    epochs = [schedule.order(epoch).tolist() for epoch in range(6)]
    assert all(len(set(order)) == len(order) == 8 for order in epochs)
    assert set().union(*epochs) == set(range(10))


@pytest.mark.parametrize("rule", ["merged", "dropped"])
def test_the_rule_is_part_of_the_key_and_the_default_is_not(rule: str, tmp_path: Path) -> None:
    """A net without BatchNorm keeps a short last batch unless it is said; one with it does so if it is said."""
    for recipe in RECIPES.values():  # as published, and under the keys that they had before they could say so
        assert recipe.last_batch == "kept"
        assert model_identity(recipe) == model_identity(recipe.model_copy(update={"last_batch": None}))
    for family in ("resnet", "batch_norm"):
        fits = [
            [run.fit for run in planned(tmp_path, family, last_batch=last).runs if run.method == "finetune"]
            for last in (None, "kept", rule)
        ]
        default, kept, other = ({fit.key for fit in each} for each in fits)
        marks = {fit.last_batch for fit in fits[0]}
        assert (default == kept) == (family == "resnet")
        assert other.isdisjoint(default | kept)
        assert marks == ({"merged"} if family == "batch_norm" else {None})


@pytest.mark.parametrize(
    ("rule", "sizes"),
    [("merged", (6, 6, 6, 8)), ("dropped", (6, 6, 6, 6)), ("kept", (6,) * 4 + (2,)), (None, (6, 6, 6, 8))],
)
def test_statistics_are_estimated_over_the_batches_of_the_rule(rule: str, sizes: tuple[int, ...]) -> None:
    net, seen = classifier("batch_norm"), []
    norm = net.net.get_submodule("norm")
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    recipe = Recipe.model_validate(PLAIN | {"last_batch": rule})
    estimate_statistics(net, Training(examples(26), WHOLE, recipe, seed=0), net.batch_norms(None))
    assert tuple(seen) == sizes


# -- the plan ----------------------------------------------------------------------------------------------------------


def planned(folder: Path, family: str = "batch_norm", **recipe: Any) -> Any:
    return make_plan(tiny(folder, (family,), recipe={"epochs": 2, "batch_size": 5, **recipe}))


def test_a_plan_says_once_that_statistics_are_updated_on_little(tmp_path: Path) -> None:
    notes = [note for note in planned(tmp_path).notes if "BatchNorm" in note]
    assert len(notes) == 1
    assert notes[0].startswith("batch_norm: tuning updates BatchNorm's running statistics with batches of 5 images")
    short = {"held_out": 0.0, "runs": [{"methods": ["finetune"], "sizes": [34]}], "per_class": 24}
    for last, smallest in (("kept", 2), (None, 16), ("dropped", 16)):
        recipe = {"batch_size": 16, "last_batch": last}
        suite = parse_suite(document(tmp_path, ("batch_norm",), **short, recipe=recipe)).based_at(tmp_path)
        assert f"with batches of {smallest} images" in next(note for note in make_plan(suite).notes if "BatchN" in note)
    for policy in POLICIES:
        assert not any("BatchNorm" in note for note in planned(tmp_path, batchnorm=policy).notes)


def test_a_last_batch_of_one_is_no_fault_of_frozen_statistics(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"held_out": 0.0, "runs": [{"methods": ["finetune"], "sizes": [11]}]}
    for policy, last in ((None, "merged"), ("freeze", None), ("pretrained", "merged")):
        recipe = {"batch_size": 5, "batchnorm": policy}
        suite = parse_suite(document(tmp_path, ("batch_norm",), **fields, recipe=recipe)).based_at(tmp_path)
        assert {run.fit.last_batch for run in make_plan(suite).runs if run.method == "finetune"} == {last}


# -- the four corners --------------------------------------------------------------------------------------------------


def right(net: nn.Module, weights: dict[str, Tensor], count: int) -> float:
    net.load_state_dict(weights)
    with torch.no_grad():
        logits = net.eval()(images(count))
    return 100 * float((logits.argmax(dim=1).numpy() == examples(count).labels).mean())


def test_the_corners_are_a_hand_made_swap_of_buffers(tmp_path: Path) -> None:
    before, after = take_weights(classifier("batch_norm").net), take_weights(trained(epochs=12))
    row = ModelRow(build="helpers:bn_net", size=12, weights="w", mean=(0.5,) * 3, std=(0.5,) * 3)
    seen = {"x": Seen(examples(40), WHOLE)}
    passes: list[int] = []
    scene = Scene(describe(row, 4), before, after, seen, torch.device("cpu"), 7, "fp32", passes.append)
    values = StatisticsShare(images=40).look(scene)

    net = classifier("batch_norm").net
    buffers = ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
    mixed = {name: before[name] if name in buffers else after[name] for name in after}
    others = {name: after[name] if name in buffers else before[name] for name in after}
    expected = [right(net, dict(weights), 40) for weights in (before, mixed, others, after)]
    assert [values["accuracy"][corner] for corner in CORNERS] == pytest.approx(expected)
    assert len(set(expected)) > 2  # the swap matters
    assert values["of_weights"] + values["of_statistics"] == pytest.approx(values["change"])
    assert sum(passes) == StatisticsShare(images=40).image_passes(40)


def test_shares_by_hand() -> None:
    assert shares(60.0, 58.0, 20.0, 10.0) == pytest.approx((-6.0, -44.0))
    assert shares(50.0, 40.0, 50.0, 40.0) == (-10.0, 0.0)


def test_a_net_without_batchnorm_changes_by_its_weights_alone() -> None:
    net = classifier("resnet")
    before = take_weights(net.net)
    train(net, Training(examples(24), WHOLE, Recipe.model_validate(PLAIN | {"epochs": 6}), seed=3))
    row = ModelRow(weights="none", **FAMILIES["resnet"])
    scene = Scene(describe(row, 4), before, take_weights(net.net), {"x": Seen(examples(30), WHOLE)},
                  torch.device("cpu"), 16, "fp32", lambda _: None)  # fmt: skip
    values = StatisticsShare().look(scene)
    assert values["of_statistics"] == 0
    assert values["of_weights"] == pytest.approx(values["change"])
