"""Analyses of weights and activations, against naive formulas, published code's numbers and numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from helpers import FAMILIES, HALF, PART, SIDE, WHOLE, classifier, examples, pictures
from rib.analysis import Scene, Seen, Values
from rib.analysis.cka import CKA, Alignment, cka, compare, gram, layer_grams, minibatches
from rib.analysis.connectivity import Connectivity, barrier
from rib.analysis.drift import Drift, layer_places, relative_change
from rib.analysis.forgetting import Forgetting, halves, probe, reading
from rib.analysis.sample import sample
from rib.data.examples import Examples, Index
from rib.data.labels import LabelMap
from rib.errors import StepError
from rib.metrics.estimates import Estimate
from rib.models.blocks import blocks
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.layers import choose, visible
from rib.models.weights import Weights, take_weights
from rib.training.predict import predict

IMAGES = torch.from_numpy(pictures(np.arange(6) % 4, seed=5))


def scene(
    family: str, data: dict[str, Seen], after: Weights | None = None, seed: int = 0, done: list[int] | None = None
) -> Scene:
    """A net with the weights of one seed before, and with others after."""
    row = ModelRow(weights="none", **FAMILIES[family])
    before = take_weights(classifier(family, seed).net)
    watch = done.append if done is not None else lambda _: None
    device = torch.device("cpu")
    return Scene(describe(row, 4), before, before if after is None else after, data, device, 7, "fp32", watch)


def other(family: str, seed: int = 1) -> Weights:
    return take_weights(classifier(family, seed).net)


# -- CKA: the estimate -------------------------------------------------------------------------------------------------


def song(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    """Unbiased HSIC, Song et al. 2012, eq. 5, on Gram matrices (n, n)."""
    n = len(k)
    k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
    both = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + both - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))


def naive(first: list[Tensor], second: list[Tensor], parts: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """CKA pair by pair and minibatch by minibatch, from features (N, ...)."""

    def total(x: Tensor, y: Tensor) -> float:
        x, y = x.double().flatten(1), y.double().flatten(1)
        return sum(len(p) * song((x[p] @ x[p].T).numpy(), (y[p] @ y[p].T).numpy()) for p in parts)

    return np.array([[total(x, y) / np.sqrt(total(x, x) * total(y, y)) for y in second] for x in first])


def features(seed: int, count: int, *shape: int, mean: float = 0.0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)) + mean


def test_cka_is_the_naive_formula() -> None:
    """Also far from the origin, with an odd number of examples, and with more features than fit a piece."""
    first = [features(0, 13, 5), features(1, 13, 3, 4, 2, mean=100), features(2, 13, 50_000, mean=3)]
    second = [first[0] @ features(3, 5, 6), first[2][:, :7].tanh()]
    assert cka(first, second) == pytest.approx(naive(first, second, [np.arange(13)]), abs=2e-5)


def test_cka_of_minibatches_is_the_loop_over_them() -> None:
    first, second = [features(0, 22, 6), features(1, 22, 3)], [features(2, 22, 4) + features(0, 22, 6)[:, :4]]
    parts, alignment = [np.arange(12), np.arange(12, 22)], Alignment()
    for part in parts:
        alignment.add(*(torch.stack([gram(each[part]) for each in side]) for side in (first, second)))
    assert alignment.cka() == pytest.approx(naive(first, second, parts), abs=1e-6)


def test_cka_gives_the_numbers_of_ckatorch() -> None:
    """Computed once with `ckatorch.core.cka_batch` of ckatorch 1.0.3, on all three minibatches and on the first."""
    t = torch.arange(180, dtype=torch.float64).view(3, 10, 6)
    x = (t * t).sin()
    y, z = (t * t).cos()[..., :4] + x[..., :4], (3 * t).sin() * 2 + 5
    alignment = Alignment()
    for one, two, three in zip(x, y, z, strict=True):
        grams = torch.stack([gram(one), gram(two), gram(three)])
        alignment.add(grams, grams)
    upper = np.triu_indices(3, 1)
    assert alignment.cka()[upper] == pytest.approx([0.2280829087, 0.2060649217, -0.0103959391], abs=1e-6)
    first = cka([x[0], y[0], z[0]], [x[0], y[0], z[0]])
    assert first[upper] == pytest.approx([0.3117266727, 0.2742701516, -0.0539229823], abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 20), scale=st.floats(1e-3, 1e3), shift=st.floats(-20, 20))
def test_cka_ignores_rotation_scale_and_shift(seed: int, count: int, scale: float, shift: float) -> None:
    x = features(seed, count, 8)
    y = x[:, :3] + 0.5 * features(seed + 1, count, 3)
    rotation = torch.linalg.qr(features(seed + 2, 8, 8)).Q
    assert cka([scale * (x + shift) @ rotation], [y]) == pytest.approx(cka([x], [y]), abs=2e-3)
    assert cka([x, y], [x, y]).diagonal() == pytest.approx(1)
    assert cka([x, y], [y, x]) == pytest.approx(cka([y, x], [x, y]).T, abs=1e-9)


def test_cka_is_not_biased() -> None:
    """Independent features: 0 on average, where the biased estimate is far above it (0.98 with 1,000 features)."""
    found = [cka([features(2 * seed, 16, 1000)], [features(2 * seed + 1, 16, 1000)])[0, 0] for seed in range(40)]
    assert abs(np.mean(found)) < 0.06


def test_features_that_say_the_same_of_every_image_have_no_cka() -> None:
    found = cka([torch.full((9, 5), 0.1), features(0, 9, 4)], [features(0, 9, 4)])
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(1)


@pytest.mark.parametrize(("count", "size", "sizes"), [(10, 4, [5, 5]), (9, 4, [5, 4]), (130, 64, [44, 43, 43])])
def test_minibatches_are_even_and_large_enough(count: int, size: int, sizes: list[int]) -> None:
    found = minibatches(count, size)
    assert [len(part) for part in found] == sizes
    assert np.concatenate(found).tolist() == list(range(count))


# -- CKA: of models ----------------------------------------------------------------------------------------------------


def outputs(model: Classifier, names: tuple[str, ...], images: Tensor) -> list[Tensor]:
    """What the modules of these names return, asked of torch alone; for the last name, what the head is given."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, __, output: found.update({name: output.clone()})

    for name in names[:-1]:
        model.net.get_submodule(name).register_forward_hook(keep(name))
    with torch.inference_mode():
        model(images)
    return [*(found[name] for name in names[:-1]), model.features(images).detach()]


@pytest.mark.parametrize("family", ["resnet", "vit", "text", "causal"])
def test_models_are_compared_layer_by_layer(family: str) -> None:
    first, second = classifier(family, 0).eval(), classifier(family, 1).eval()
    shown = examples(19, family=family)
    names = choose(first, torch.from_numpy(shown.batch(slice(0, 6))))
    found = compare(first, second, names, shown, minibatch=7)
    images = torch.from_numpy(shown.batch(slice(None)))
    parts = minibatches(19, 7)
    expected = naive(outputs(first, names, images), outputs(second, names, images), parts)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", ["resnet", "vit", "batch_norm", "text"])
def test_cka_looks(family: str) -> None:
    done: list[int] = []
    data = {"clean": Seen(examples(30, family=family), WHOLE)}
    found = CKA(images=20, minibatch=8, layers=("*",)).look(scene(family, data, other(family), done=done))
    count = len(found["layers"])
    assert sum(done) == CKA(images=20).image_passes(30) == 40
    assert np.array(found["matrix"]).shape == (count, count)
    assert found["images"] == 20
    assert found["diagonal"] == [row[place] for place, row in enumerate(found["matrix"])]
    assert found["mean"] == pytest.approx(np.mean(found["diagonal"]), abs=1e-6)
    same = CKA(images=20, minibatch=8).look(scene(family, data, seed=2))
    assert same["diagonal"] == [1] * len(same["layers"])
    assert same["mean"] == 1


def test_a_mean_runs_over_no_hole() -> None:
    """A stem of zeros says the same of every image."""
    dead = {name: tensor * (name != "stem.weight") for name, tensor in other("resnet", 0).items()}
    found = CKA(layers=("stem", "head")).look(scene("resnet", {"clean": Seen(examples(9), WHOLE)}, dead))
    assert found["matrix"][0][0] is None
    assert found["mean"] is None


def test_precision_of_the_forward_is_not_that_of_the_estimate() -> None:
    model = classifier("vit").eval()
    names = choose(model, IMAGES)
    half = layer_grams(model, names, IMAGES, "bf16")
    assert half.dtype == torch.float32
    assert not torch.equal(half, half.bfloat16().float())


def test_outputs_that_are_not_finite_have_no_cka() -> None:
    loud = {name: tensor * 1e38 for name, tensor in other("batch_norm", 0).items()}
    with pytest.raises(StepError, match=r"layer 'conv' are not finite"):
        CKA().look(scene("batch_norm", {"clean": Seen(examples(9), WHOLE)}, loud))


@pytest.mark.parametrize("images", [0, 3])
def test_cka_needs_four_images(images: int) -> None:
    with pytest.raises(StepError, match=f"4 images or more, not {images}"):
        CKA().look(scene("resnet", {"clean": Seen(examples(images), WHOLE)}))


# -- layers ------------------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A module called twice, one that returns a tuple, one whose output is overwritten, one without images first."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(3, 3)
        self.pair = nn.LSTM(3, 2, batch_first=True)
        self.turned = nn.Linear(3, 3)
        self.shrink = nn.ReLU(inplace=True)
        self.rest = nn.Dropout()
        self.head = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(dim=2).transpose(1, 2)
        x = self.rest(self.twice(self.shrink(self.twice(x))))
        self.turned(x.transpose(0, 1))
        logits: Tensor = self.head(self.pair(x)[0][:, -1])
        return logits


def odd() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Odd(), 4, HALF, HALF).eval()


def test_odd_modules_are_seen_for_what_they_are() -> None:
    model = odd()
    assert visible(model, IMAGES) == ("twice", "shrink", "pair", "input of head", "head")
    pixels = model.prepared(IMAGES).mean(dim=2).transpose(1, 2)
    once = model.net.twice(pixels)  # before it is overwritten
    side_by_side = torch.cat([once.flatten(1), model.net.twice(once.relu()).flatten(1)], dim=1)
    (found,) = layer_grams(model, ("twice",), IMAGES, "fp32")
    assert torch.allclose(found, gram(side_by_side.detach()), atol=1e-5)


def timm_model(name: str, **arguments: Any) -> Classifier:
    from rib import _compat

    _compat.declare_missing_operators()
    import timm

    return Classifier(timm.create_model(name, num_classes=5, **arguments), 5, HALF, HALF).eval()


def torchvision_resnet() -> Classifier:
    from rib.models.vision import torchvision_net

    return Classifier(torchvision_net(5, "resnet18"), 5, HALF, HALF).eval()


VIT_USUAL = ["patch_embed", *(f"blocks.{number}" for number in range(2)), "input of head"]
RESNET_USUAL = ["maxpool", *(f"layer{stage}.{number}" for stage in range(1, 5) for number in (0, 1)), "input of fc"]


@pytest.mark.parametrize(
    ("model", "usual"),
    [
        (lambda: timm_model("vit_tiny_patch16_224", img_size=32, depth=2), VIT_USUAL),
        (lambda: timm_model("resnet18"), RESNET_USUAL),
        (torchvision_resnet, RESNET_USUAL),
        (lambda: classifier("vit").eval(), ["patch_embed", "blocks.0", "input of head"]),
        (lambda: classifier("resnet").eval(), ["norm", "blocks.0", "blocks.1", "input of head"]),
        (lambda: classifier("batch_norm").eval(), ["conv", "norm", "input of head", "head"]),
    ],
    ids=["timm vit", "timm resnet", "torchvision resnet", "vit", "resnet", "no blocks"],
)
def test_usual_layers(model: Any, usual: list[str]) -> None:
    side = 32 if usual in (VIT_USUAL, RESNET_USUAL) else SIDE
    assert list(choose(model(), torch.from_numpy(pictures(np.arange(4), 0, side=side)))) == usual


def test_blocks_are_the_innermost() -> None:
    """A stage of ConvNeXt is an element of a list, too, but has blocks of its own."""
    assert blocks(timm_model("convnext_atto").net)[:3] == (
        "stages.0.blocks.0",
        "stages.0.blocks.1",
        "stages.1.blocks.0",
    )
    assert blocks(classifier("resnet").net) == ("blocks.0", "blocks.1")


def test_patterns_choose_layers() -> None:
    model = timm_model("vit_tiny_patch16_224", img_size=32, depth=2)
    images = torch.from_numpy(pictures(np.arange(4), 0, side=32))
    assert choose(model, images, ["blocks.*"]) == ("blocks.0", "blocks.1")
    assert choose(model, images, ["head", "blocks.?.mlp.fc2"]) == ("blocks.0.mlp.fc2", "blocks.1.mlp.fc2", "head")
    assert "blocks.1.attn.qkv" in choose(model, images, ["blocks.1.**"])
    every = choose(model, images, ["*"])
    assert {"patch_embed.proj", "blocks.0.norm1", "blocks.1.mlp.act", "head"} <= set(every)
    assert not {"blocks.0", "blocks.0.attn", "blocks.0.drop_path1", "pos_drop"} & set(every)
    with pytest.raises(StepError, match=r"did you mean 'blocks\.1\.mlp\.fc2'"):
        choose(model, images, ["blocks.*", "block.1.mlp.fc2"])


# -- drift -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["resnet", "vit", "batch_norm", "text"])
def test_nothing_drifts_where_nothing_changes(family: str) -> None:
    found = Drift().look(scene(family, {}))
    assert set(found["change"]) | set(found["group_change"]) | set(found["kind_change"]) == {0.0}
    assert found["total"] == 0
    assert found["statistics"] == (0 if family == "batch_norm" else None)


def test_drift_by_hand() -> None:
    """‖before‖ = 5 over both tensors, ‖change‖ = √(3² + 0²) = 3."""
    before = {"a": torch.tensor([3.0]), "b": torch.tensor([0.0, 4.0]), "zero": torch.zeros(2)}
    after = {"a": torch.tensor([6.0]), "b": torch.tensor([0.0, 4.0]), "zero": torch.tensor([0.0, 1.0])}
    assert relative_change(before, after, ["a", "b"]) == pytest.approx(0.6)
    assert relative_change(before, after, ["b"]) == 0
    assert relative_change(before, before, ["zero"]) == 0
    assert relative_change(before, after, ["zero"]) is None
    assert relative_change(before, after, before) == pytest.approx(np.sqrt(10) / 5, rel=1e-5)


def test_drift_tells_groups_and_kinds_apart() -> None:
    """Twice the weights of one attention: a change of 1 there, of 0 in every other layer."""
    before = other("vit", 0)
    after = {name: tensor * (1 + name.startswith("blocks.0.attn.qkv.")) for name, tensor in before.items()}
    found = Drift().look(scene("vit", {}, after))
    changes = dict(zip(found["layers"], found["change"], strict=True))
    assert {name for name, change in changes.items() if change} == {"blocks.0.attn.qkv"}
    assert changes["blocks.0.attn.qkv"] == 1
    kinds = dict(zip(found["kind_names"], found["kind_change"], strict=True))
    assert {name for name, change in kinds.items() if change} == {"attention"}
    assert set(kinds) == {"embedding", "attention", "mlp", "norm", "head"}
    assert 0 < found["total"] < kinds["attention"] < 1


def test_biases_that_start_at_zero_have_no_relative_change() -> None:
    before = other("batch_norm", 0) | {"norm.weight": torch.zeros(6), "norm.bias": torch.zeros(6)}
    after = before | {"norm.bias": torch.ones(6), "norm.running_mean": before["norm.running_mean"] * 3}
    found = Drift().look(replace(scene("batch_norm", {}, after), before=before))
    place = found["layers"].index("norm")
    assert found["change"][place] is None
    assert found["norm_before"][place] == 0
    assert found["total"] > 0
    assert found["statistics"] > 0


def test_places_of_a_deep_vit_and_a_resnet() -> None:
    vit = layer_places(timm_model("vit_tiny_patch16_224", depth=12))
    assert [vit[f"blocks.{number}.mlp.fc1.weight"].group for number in range(12)] == (
        ["early"] * 4 + ["middle"] * 4 + ["late"] * 4
    )
    told = {name: (vit[name].layer, vit[name].group, vit[name].kind) for name in vit}
    assert told["pos_embed"] == ("pos_embed", "early", "embedding")
    assert told["patch_embed.proj.bias"] == ("patch_embed.proj", "early", "embedding")
    assert told["norm.weight"] == ("norm", "late", "norm")
    assert told["head.bias"] == ("head", "head", "head")
    resnet = layer_places(timm_model("resnet18"))
    assert [resnet[f"layer{stage}.1.conv1.weight"].group for stage in range(1, 5)] == [
        "early",
        "middle",
        "late",
        "late",
    ]
    assert resnet["conv1.weight"].kind == resnet["layer2.0.downsample.0.weight"].kind == "conv"
    assert resnet["layer2.0.downsample.1.weight"].kind == "norm"


# -- connectivity ------------------------------------------------------------------------------------------------------


def test_barrier_by_hand() -> None:
    """Ends 80 and 60, 50 in the middle: 20 points below the chord there. Above it, there is no barrier."""
    assert barrier(np.array([0, 0.5, 1]), np.array([80, 50, 60])) == 20
    assert barrier(np.array([0, 0.5, 1]), np.array([80, 75, 60])) == 0
    assert barrier(np.array([0, 0.25, 1]), np.array([80, 80, 40])) == 0


@pytest.mark.parametrize("family", ["vit", "batch_norm", "text"])
@pytest.mark.parametrize("label_map", [WHOLE, PART], ids=["whole", "masked"])
def test_the_line_ends_where_the_models_are(family: str, label_map: LabelMap) -> None:
    done: list[int] = []
    shown = examples(24, classes=len(label_map.groups), family=family)
    given_scene = scene(family, {"set": Seen(shown, label_map)}, other(family), done=done)
    found = Connectivity(points=3, images=20).look(given_scene)
    seen = sample(shown, 20)
    for place, seed in ((0, 0), (2, 1)):
        said = predict(classifier(family, seed), seen, label_map, batch_size=20)
        assert found["accuracy"][place] == pytest.approx(100 * said.masked_right.mean())
        assert found["loss"][place] == pytest.approx(-np.log(said.masked_label_probability).mean(), abs=1e-4)
    mixed = classifier(family)
    mixed.net.load_state_dict(
        {
            name: (tensor + other(family)[name]) / 2 if tensor.is_floating_point() else tensor
            for name, tensor in given_scene.before.items()
        }
    )
    middle = predict(mixed, seen, label_map, batch_size=20)
    assert found["accuracy"][1] == pytest.approx(100 * middle.masked_right.mean())
    assert found["loss"][1] == pytest.approx(-np.log(middle.masked_label_probability).mean(), abs=1e-4)
    assert found["loss_barrier"] == pytest.approx(max(0, found["loss"][1] - np.mean(found["loss"][::2])), abs=1e-5)
    assert found["alphas"] == [0, 0.5, 1]
    assert sum(done) == Connectivity(points=3, images=20).image_passes(24) == 60


def test_equal_ends_have_no_barrier() -> None:
    found = Connectivity(points=4).look(scene("resnet", {"set": Seen(examples(12), WHOLE)}))
    assert len(set(found["accuracy"])) == 1
    assert found["barrier"] == found["loss_barrier"] == 0


# -- forgetting --------------------------------------------------------------------------------------------------------


def crossed(first: Weights, second: Weights) -> Weights:
    """The features of one and the head of another."""
    return {name: (second if name.startswith("head.") else first)[name] for name in first}


@pytest.mark.parametrize("family", ["vit", "resnet", "text"])
def test_features_and_heads_are_crossed(family: str) -> None:
    whole, part = examples(48, side=SIDE, family=family), examples(30, 3, seed=1, family=family)
    data = {"whole": Seen(whole, WHOLE), "part": Seen(part, PART)}
    done: list[int] = []
    before, after = other(family, 0), other(family, 1)
    found = Forgetting(images=40).look(scene(family, data, after, done=done))
    assert found["sets"] == ["whole", "part"]
    assert found["images"] == [40, 30]
    assert sum(done) == 2 * (40 + 30)
    model = classifier(family)
    for column, weights in {
        "before": before,
        "new_head": crossed(before, after),
        "new_features": crossed(after, before),
        "after": after,
    }.items():
        model.net.load_state_dict(weights)
        for place, seen in enumerate(data.values()):
            said = predict(model, sample(seen.examples, 40), seen.label_map, batch_size=9)
            assert found[column][place] == pytest.approx(100 * said.masked_right.mean(), abs=1e-3)
    assert found["by_head"][0][0] == pytest.approx(found["new_head"][0] - found["before"][0], abs=1e-3)
    assert found["by_features"][1][0] == pytest.approx(found["new_features"][1] - found["before"][1], abs=1e-3)
    assert all(low <= value <= high for value, low, high in found["together"] + found["probe"])


def told(after: Weights) -> dict[str, Any]:
    """The only set's values, of a net whose head was fitted before."""
    start = fitted()
    base = scene("resnet", {"set": Seen(clear(seed=3), WHOLE)}, after)
    found = Forgetting().look(replace(base, before=start))
    return {name: values[0] for name, values in found.items()}


def clear(seed: int) -> Examples:
    """Pictures with little noise."""
    labels = np.arange(120) % 4
    return Examples.whole(pictures(labels, seed, noise=15), Index(labels, np.arange(120)))


def fitted() -> Weights:
    """A net with random features and a head fitted on them, so that there is something to lose."""
    from sklearn.linear_model import LogisticRegression

    from rib.training.predict import collect

    model, shown = classifier("resnet"), clear(seed=4)
    head = LogisticRegression(max_iter=2000).fit(collect(model, model.features, shown, 50).numpy(), shown.labels)
    tensors = {
        "head.weight": torch.from_numpy(head.coef_).float(),
        "head.bias": torch.from_numpy(head.intercept_).float(),
    }
    return take_weights(model.net) | tensors


def test_a_changed_head_is_a_misreading() -> None:
    start = fitted()
    found = told(start | {"head.weight": start["head.weight"].roll(1, 0), "head.bias": start["head.bias"].roll(1)})
    assert found["before"] > 80
    assert found["after"] < 20
    assert found["by_head"] == found["together"]
    assert found["by_features"] == found["probe"] == [0, 0, 0]
    assert found["reading"] == "mis-read"


def test_features_that_say_nothing_have_lost_it() -> None:
    start = fitted()
    found = told(start | {"stem.weight": 0 * start["stem.weight"]})
    assert found["after"] == pytest.approx(25, abs=1)
    assert found["probe_before"] > 70 > 30 > found["probe_after"]
    assert found["by_features"] == found["together"]
    assert found["reading"] == "lost"


def test_an_unchanged_model_keeps_everything() -> None:
    found = told(fitted())
    assert found["together"] == found["probe"] == [0, 0, 0]
    assert found["reading"] == "kept"


@pytest.mark.parametrize(
    ("together", "probe_change", "word"),
    [
        ((-10, 1), (-1, 1), "mis-read"),
        ((-10, 1), (-9, 1), "lost"),
        ((-10, 1), (-5, 1), "unclear"),
        ((-1, 1), (-9, 1), "kept"),
    ],
)
def test_readings(together: tuple[float, float], probe_change: tuple[float, float], word: str) -> None:
    noise = np.linspace(-1.5, 1.5, 101)
    total, probed = (
        Estimate(value, value + spread * way * noise) for (value, spread), way in ((together, 1), (probe_change, -1))
    )
    assert reading(total, probed) == word


def test_halves_share_no_source_and_miss_no_class() -> None:
    labels = np.repeat(np.arange(5), 12)
    index = Index(labels, np.arange(60) // 3)
    first, second = halves(index, "set")
    assert not set(index.sources[first]) & set(index.sources[second])
    assert sorted([*first, *second]) == list(range(60))
    assert [np.bincount(labels[half]).tolist() for half in (first, second)] == [[6] * 5] * 2


def test_a_probe_learns_nothing_of_what_it_is_judged_on() -> None:
    """Features that only name the source image: a probe that saw a source's other views would be right."""
    labels = np.repeat(np.arange(2), 40)
    sources = np.arange(80) // 4
    names = np.random.default_rng(0).normal(size=(20, 64))[sources].astype(np.float32)
    leaking = (np.arange(0, 80, 2), np.arange(1, 80, 2))
    assert probe(names, labels, leaking).mean() == 1
    assert probe(names, labels, halves(Index(labels, sources), "set")).mean() < 0.8


def test_too_few_images_for_a_probe() -> None:
    shown = Examples.whole(pictures(np.arange(7) % 4, 0), Index(np.arange(7) % 4, np.arange(7)))
    with pytest.raises(StepError, match=r"two source images of each: there are 7 of 4"):
        Forgetting().look(scene("resnet", {"few": Seen(shown, WHOLE)}))


def test_same_twice() -> None:
    """Every draw is a named one."""
    data = {"whole": Seen(examples(40), WHOLE)}
    given_scene = scene("resnet", data, other("resnet"))

    def looks() -> list[Values]:
        return [kind(images=24).look(given_scene) for kind in (CKA, Connectivity, Forgetting)]

    assert looks() == looks()
