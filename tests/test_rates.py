"""Methods that choose what trains, and how fast."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import PART, classifier, examples, same_weights
from plain_loop import RECIPE, close, fitted, method, plain
from rib import _compat
from rib.errors import UserError
from rib.models.classifier import Classifier
from rib.models.layers import depths
from rib.models.weights import take_weights

_compat.declare_missing_operators()


def test_layers_of_the_small_nets() -> None:
    blank = torch.zeros(2, 12, 12, 3, dtype=torch.uint8)
    found = depths(classifier("resnet").eval(), blank)
    assert {name: found[name] for name in ("stem.weight", "norm.bias", "blocks.0.conv1.weight")} == {
        "stem.weight": 0, "norm.bias": 0, "blocks.0.conv1.weight": 1,
    }  # fmt: skip
    assert (found["blocks.1.shortcut.weight"], found["head.weight"]) == (2, 3)
    found = depths(classifier("vit").eval(), blank)
    assert found["pos_embed"] == 0
    assert found["blocks.0.attn.qkv.weight"] == 1
    assert found["fc_norm.weight"] == found["head.bias"] == 2
    assert {found[name] for name in found if name.startswith("patch_embed")} == {0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnext_atto", {"stem.0.weight": 0, "stages.0.blocks.0.norm.weight": 1, "stages.1.downsample.1.weight": 3,
                           "stages.1.blocks.0.norm.weight": 3, "head.norm.weight": 13, "head.fc.bias": 13}),
        ("resnet10t", {"conv1.0.weight": 0, "layer1.0.conv1.weight": 1, "layer4.0.conv1.weight": 4, "fc.weight": 5}),
        ("deit_tiny_distilled_patch16_224", {"dist_token": 0, "blocks.11.norm1.weight": 12, "norm.weight": 13}),
    ],
)  # fmt: skip
def test_layers_of_other_nets(name: str, expected: dict[str, int]) -> None:
    import timm

    with torch.device("meta"):
        net = Classifier(timm.create_model(name, num_classes=4), 4).eval()
    found = depths(net, torch.zeros(2, 224, 224, 3, dtype=torch.uint8, device="meta"))
    assert {place: found[place] for place in expected} == expected


def test_llrd_decays_from_the_head_to_the_stem() -> None:
    layer = {"stem": 0, "norm": 0, "blocks.0": 1, "blocks.1": 2, "head": 3}
    factors = {
        name: 0.5 ** (3 - next(depth for place, depth in layer.items() if name.startswith(f"{place}.")))
        for name, _ in classifier("resnet").net.named_parameters()
    }
    assert set(factors.values()) == {1.0, 0.5, 0.25, 0.125}
    close(fitted(method("llrd", decay=0.5)), plain(factors=factors), 1e-6)
    assert same_weights(fitted(method("llrd", decay=1.0)), fitted(method("finetune")))


def test_surgical_takes_rates_from_relative_gradients() -> None:
    net, pool = classifier("resnet").eval(), examples(10, 3)
    logits = net(torch.from_numpy(pool.batch(slice(6))))[:, [group[0] for group in PART.groups]]
    F.cross_entropy(logits, torch.from_numpy(pool.labels[:6])).backward()
    ratios = {}
    for name, value in net.net.named_parameters():
        assert value.grad is not None
        size = value.detach().norm().item()
        ratios[name] = value.grad.norm().item() / size if size else 0.0
    factors = {name: ratio / max(ratios.values()) for name, ratio in ratios.items()}
    assert 0 < sorted(factors.values())[len(factors) // 2] < 1
    close(fitted(method("surgical", samples=6)), plain(factors=factors))


@pytest.mark.parametrize("family", ["resnet", "vit", "batch_norm"])
@pytest.mark.parametrize("name", ["bitfit", "norm_tuning"])
def test_only_what_is_named_trains(name: str, family: str) -> None:
    start, tuned = take_weights(classifier(family).net), fitted(method(name), family)
    norms = classifier(family).norm_parameters
    for place in (place for place, _ in classifier(family).net.named_parameters()):
        trains = place.startswith("head.") or (place.endswith("bias") if name == "bitfit" else place in norms)
        assert torch.equal(start[place], tuned[place]) != trains, place


def test_methods_refuse_nets_without_what_they_train() -> None:
    bare = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.Linear(5, 4)), 4)
    with pytest.raises(UserError, match="bitfit trains biases"):
        method("bitfit").require(bare)
    with pytest.raises(UserError, match="norm_tuning trains norm layers"):
        method("norm_tuning").require(bare)
    with pytest.raises(UserError, match="llrd counts the blocks"):
        method("llrd").require(bare)


def test_a_learning_rate_per_parameter_reaches_adamw() -> None:
    """AdamW's first step is the rate itself, whatever the gradient."""
    recipe = RECIPE.model_copy(update={"optimizer": "adamw", "steps": 1, "batch_size": 10})
    start, tuned = take_weights(classifier("resnet").net), fitted(method("llrd", decay=0.5), recipe=recipe)
    for name, factor in (("head.bias", 1.0), ("blocks.0.conv1.weight", 0.25)):
        moved = (tuned[name] - start[name]).abs()
        assert float(moved.max()) == pytest.approx(RECIPE.lr * factor, rel=1e-3)
