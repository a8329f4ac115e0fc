"""Methods that add modules to a net: the same answers at first, the base untouched, and all that RIB does with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rib
from helpers import classifier, examples, same_weights, tiny
from plain_loop import RECIPE, Kept, fitted
from rib import _compat
from rib.errors import UserError
from rib.methods import METHODS, Task, TrainedMethod
from rib.models.build import build
from rib.models.catalogue import Architecture, ModelRow
from rib.models.describe import describe
from rib.models.extensions import stated_extension
from rib.models.skeleton import skeleton
from rib.models.weights import EXTENSION, Weights, put_weights, take_weights
from rib.plan import make_plan
from rib.report.model_folders import release
from rib.steps import How, Workshop
from rib.store.store import Store
from test_methods import find_architecture, make_task

_compat.declare_missing_operators()

EXTENDING = ("adapter", "progressive", "side_tuning", "vpt")
PAIRS = [(name, family) for name in EXTENDING for family in ("resnet", "vit") if (name, family) != ("vpt", "resnet")]


def method(name: str, **fields: Any) -> TrainedMethod:
    found = METHODS.find(name)(**fields)
    assert isinstance(found, TrainedMethod)
    return found


def extended_task(name: str, family: str, **fields: Any) -> Task:
    task, _ = make_task(family)
    return replace(task, recipe=RECIPE, extended=method(name, **fields).extend(task.architecture))


def fit(name: str, family: str, checkpoint: Any = None) -> Weights:
    return fitted(method(name), family, checkpoint=checkpoint, extended=extended_task(name, family).extended)


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_the_base_stays_and_the_rest_trains(name: str, family: str) -> None:
    start, tuned = take_weights(classifier(family).net), fit(name, family)
    base = {place: value for place, value in tuned.items() if not place.startswith("extension.")}
    assert base.keys() == start.keys()
    for place, value in base.items():
        assert torch.equal(value, start[place]) != place.startswith("head."), place
    begun = method(name).initial(start, extended_task(name, family))
    changed = [place for place in tuned if place not in base and not torch.equal(tuned[place], begun[place])]
    assert len(changed) > 0.8 * (len(tuned) - len(base))


@pytest.mark.parametrize(("name", "family"), [pair for pair in PAIRS if pair[0] != "vpt"])
def test_training_starts_from_the_pretrained_function(name: str, family: str) -> None:
    task, start = extended_task(name, family), take_weights(classifier(family).net)
    images = torch.from_numpy(examples(6).batch(slice(None)))
    plain, grown = task.build(start).eval(), task.build(method(name).initial(start, task)).eval()
    assert grown.extension_parameters
    torch.testing.assert_close(grown(images), plain(images), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grown.head(grown.features(images)), grown(images))


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_resumed_equals_uninterrupted(name: str, family: str) -> None:
    first = Kept(2)
    with pytest.raises(InterruptedError):
        fit(name, family, first)
    assert same_weights(fit(name, family, Kept(None, first.state)), fit(name, family))


# -- by hand -----------------------------------------------------------------------------------------------------------


def random_like(net: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Weights none of which is left at its start."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }


def grown(name: str, family: str, **fields: Any) -> tuple[nn.Module, Tensor]:
    """An extended net with random weights, and images that it takes."""
    architecture = method(name, **fields).extend(find_architecture(family))
    net = build(architecture).eval()
    put_weights(net.net, random_like(net.net))
    return net.net, net.prepared(torch.from_numpy(examples(3).batch(slice(None))))


def residual(net: Any, x: Tensor) -> list[Tensor]:
    """Stem and blocks of the small residual net, by hand."""
    found = [F.relu(net.norm(net.stem(x)))]
    for block in net.blocks:
        y = F.relu(block.norm1(block.conv1(found[-1])))
        found.append(F.relu(block.norm2(block.conv2(y)) + block.shortcut(found[-1])))
    return found


def through(down: Any, up: Any, x: Tensor) -> Tensor:
    """U relu(D x) of the channels of a map."""
    return up(F.relu(down(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


@torch.no_grad()
def test_an_adapter_by_hand() -> None:
    net, x = grown("adapter", "resnet", width=3)
    inner: Any = net
    bare = classifier("resnet").net
    bare.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith(EXTENSION)})
    h = residual(bare, x)[1]
    h = h + through(inner.extension["blocks_0"].down, inner.extension["blocks_0"].up, h)
    block: Any = bare.get_submodule("blocks.1")
    y = F.relu(block.norm2(block.conv2(F.relu(block.norm1(block.conv1(h))))) + block.shortcut(h))
    y = y + through(inner.extension["blocks_1"].down, inner.extension["blocks_1"].up, y)
    torch.testing.assert_close(net(x), bare.head(y.mean(dim=(2, 3))))  # type: ignore[operator]
    assert inner.extension["blocks_0"].down.weight.shape == (3, 16)


@torch.no_grad()
def test_side_tuning_by_hand() -> None:
    net, x = grown("side_tuning", "resnet")
    inner: Any = net
    base, beside = residual(inner, x)[-1].mean(dim=(2, 3)), residual(inner.extension.column, x)[-1].mean(dim=(2, 3))
    alpha = torch.sigmoid(inner.extension.gate)
    expected = F.linear(alpha * base + (1 - alpha) * beside, inner.head.weight, inner.head.bias)
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_a_progressive_column_by_hand() -> None:
    net, x = grown("progressive", "resnet")
    inner: Any = net
    first = residual(inner, x)
    column, lateral = inner.extension.column, inner.extension.laterals["blocks_0"]
    bare = classifier("resnet").net
    state = {name: value for name, value in column.state_dict().items() if not name.startswith("head")}
    bare.load_state_dict(state, strict=False)
    h = residual(bare, x)[1] + through(lateral.down, lateral.up, lateral.scale * first[1])
    block: Any = bare.get_submodule("blocks.1")
    y = F.relu(block.norm2(block.conv2(F.relu(block.norm1(block.conv1(h))))) + block.shortcut(h))
    features = first[2].mean(dim=(2, 3)) + inner.extension.output(y.mean(dim=(2, 3)))
    torch.testing.assert_close(net(x), F.linear(features, inner.head.weight, inner.head.bias))


@torch.no_grad()
@pytest.mark.parametrize("pooled", [False, True])
def test_prompts_by_hand(pooled: bool) -> None:
    """Two blocks, a class token: after it stand the block's own tokens, which are dropped again."""
    row = ModelRow.model_validate(
        {
            "timm": "vit_tiny_patch16_224",
            "arguments": {"img_size": 32, "depth": 2, "embed_dim": 12, "num_heads": 2},
            "size": 32,
        }
    )
    net = build(method("vpt", count=3).extend(describe(row, 4)), last_block="pooled" if pooled else None).eval()
    put_weights(net.net, random_like(net.net))
    inner: Any = net.net
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.cat([inner.cls_token.expand(2, -1, -1), inner.patch_embed(x)], dim=1) + inner.pos_embed
    for place in range(2):
        own, block = inner.extension.tokens[place].expand(2, -1, -1), inner.blocks[place]
        whole = torch.cat([tokens[:, :1], own, tokens[:, 1:]], dim=1)
        whole = whole + type(block.attn).forward(block.attn, block.norm1(whole))
        whole = whole + block.mlp(block.norm2(whole))
        tokens = torch.cat([whole[:, :1], whole[:, 4:]], dim=1)
    torch.testing.assert_close(inner(x), inner.head(inner.norm(tokens)[:, 0]), rtol=1e-4, atol=1e-5)


# -- other nets --------------------------------------------------------------------------------------------------------


def described(name: str, **row: Any) -> Architecture:
    return describe(ModelRow.model_validate({"timm": name, **row}), 4)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("convnext_atto", 40), ("resnet10t", 64), ("swin_tiny_patch4_window7_224", 96), ("mixer_s32_224", 512)],
)
def test_adapters_find_the_channels_of_other_nets(name: str, channels: int) -> None:
    found = skeleton(method("adapter").extend(described(name)))
    assert found is not None
    first = next(module for place, module in found.classifier.net.named_modules() if place.endswith(".down"))
    assert first.in_features == channels
    assert found.architecture.heads is None


def test_nets_that_cannot_be_extended_are_refused() -> None:
    with pytest.raises(UserError, match="vpt adds tokens") as error:
        skeleton(method("vpt").extend(described("resnet10t")))
    assert "ResNet" in str(error.value)
    with pytest.raises(UserError, match="adapter changes the blocks of a net, and this one has none"):
        skeleton(method("adapter").extend(find_architecture("batch_norm")))
    with pytest.raises(UserError, match="output is that of a single head"):
        build(method("side_tuning").extend(described("resnet10t").model_copy(update={"heads": ("fc", "fc2")})))


def test_a_merge_of_different_nets_is_refused(tmp_path: Path) -> None:
    suite = tiny(tmp_path, runs=[{"methods": ["wise"]}], method={"wise": {"kind": "wise_ft", "tuned": "adapter"}})
    with pytest.raises(UserError, match="which are of another net"):
        make_plan(suite)


def test_the_extension_is_part_of_the_key() -> None:
    plain = find_architecture("resnet")
    keys = {str(method("adapter", width=width).extend(plain).extension) for width in (2, 3)}
    assert len(keys) == 2
    own = plain.extended("user_extensions:shift", by=1.0)
    assert own.extension is not None
    assert own.extension.source


# -- everything that RIB does ------------------------------------------------------------------------------------------


def test_extended_nets_are_predicted_compared_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tiny(
        tmp_path,
        ("vit",),
        runs=[{"methods": ["adapter", "vpt", "shifted"], "downstream": ["part"]}],
        method={"shifted": {"kind": "user_extensions:Shifted", "lr": 0.1}},
        analyses=[{"names": ["cka", "drift", "connectivity", "forgetting"]}],
    )
    with pytest.raises(UserError, match="no run of the suite is chosen for 'connectivity'"):
        make_plan(suite)
    fields = {"analyses": (suite.analyses[0].model_copy(update={"names": ("cka", "drift", "forgetting")}),)}
    suite = suite.model_copy(update=fields).based_at(tmp_path)
    finished = rib.run(suite, store=tmp_path / "store", how=How(workers=1))
    assert finished.failed == {}
    assert {row.method for row in finished.summaries if row.mri is not None} == {"adapter", "vpt", "shifted"}
    plan, store = make_plan(suite), Store(tmp_path / "store")
    shop = Workshop(suite, store, How(device="cpu"), lambda _images, _passes: None)
    for name in ("adapter", "vpt"):
        run = next(run for run in plan.runs if run.method == name)
        net = shop.classifier(run.fit, None)
        images = shop.examples(run.scores["whole"].data, run.fit.architecture.view)
        inputs = torch.from_numpy(images.batch(slice(None)))
        chosen = net.eval()(inputs).argmax(dim=1)
        right = float((chosen == torch.from_numpy(images.labels)).float().mean())
        kept = store.predictions(run.scores["whole"].key).column("masked_class").to_numpy()
        assert right == pytest.approx(float((kept == np.asarray(images.labels)).mean()))
        file = release(finished.results, run, shop.weights(run.fit), tmp_path / "models")
        card, described = file.with_suffix(".md").read_text("utf-8"), json.loads(file.with_suffix(".json").read_text())
        names: dict[str, Any] = {}
        with monkeypatch.context() as inside:
            inside.chdir(tmp_path / "models")
            exec(card.partition("```python\n")[2].partition("```")[0], names)
        torch.testing.assert_close(names["classifier"](inputs), net(inputs))
        assert described["architecture"]["extension"]["function"] == f"rib.models.extensions:{name}"
        assert f"`rib compare BASE {file.name}`" in card
        compared = rib.compare("vit", file, suite=suite, tuned_on="part", store=tmp_path / "store", how=How(workers=1))
        table = {score.tested_on: score.masked for score in finished.results.scores if score.method == name}
        assert found_in(compared) == pytest.approx(table)
        assert f"added, as the JSON file beside its weights states: {name}, " in str(compared.pair.plan.notes)
        file.with_suffix(".json").unlink()
        with pytest.raises(UserError, match="keep the JSON file of the same name"):
            rib.compare("vit", file, suite=suite, tuned_on="part", store=tmp_path / "store", how=How(workers=1))


def found_in(compared: Any) -> dict[str, float]:
    """Accuracy of the tuned model on each set."""
    return {score.tested_on: score.masked for score in compared.results.scores if score.method == "tuned"}


def test_a_file_that_names_other_code_is_refused(tmp_path: Path) -> None:
    architecture = find_architecture("resnet")
    with pytest.raises(UserError, match="RIB has no such extension"):
        build(architecture.extended("rib.models.weights:take_weights"))
    with pytest.raises(UserError, match="sizes out of range"):
        build(architecture.extended("rib.models.extensions:adapter", width=10**9))
    (tmp_path / "net.json").write_text('{"architecture": {"extension": {"function": 3}}}')
    with pytest.raises(UserError, match="cannot read what"):
        stated_extension(tmp_path / "net.safetensors")
