"""head = "new": pretrained weights for classes of one's own, equal to a plain loop, and refused where it cannot be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rib
from helpers import CLASSES, RESNET, SIDE, Say, classifier, document, same_weights, tiny, toml
from rib.data.splits import named_generator
from rib.data.views import Pixels
from rib.errors import UserError
from rib.models.build import build
from rib.models.catalogue import HeadRow, ModelRow
from rib.models.describe import describe
from rib.models.loading import load_pretrained, weights_identity
from rib.models.weights import read_weights, take_weights, write_weights
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import How, NewHead, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite

ONE = How(workers=1, device="cpu")
PROBE: dict[str, Any] = {"optimizer": "sgd", "lr": 0.5, "epochs": 3, "batch_size": 8, "momentum": 0.0}
WHOLE: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "epochs": 2, "batch_size": 8, "momentum": 0.0}


def thousand(folder: Path, classes: int = 9) -> Path:
    """Weights of a net with other classes than the suite's."""
    write_weights(folder / "backbone.safetensors", take_weights(classifier("resnet", 3, classes).net))
    return folder / "backbone.safetensors"


def suite_with(folder: Path, **row: Any) -> dict[str, Any]:
    """A suite of one model with a new head."""
    made = document(folder, per_class=12)
    thousand(folder)
    made["model"]["resnet"] |= {"weights": "backbone.safetensors", "head": "new", **row}
    return made


def by_hand(folder: Path, whole: bool) -> dict[str, Tensor]:
    """The same training by a plain loop; the order of an epoch is RIB's named draw."""
    suite = parse_suite(suite_with(folder)).based_at(folder)
    data = make_plan(suite).world["clean"]
    labels = data.index("tune").labels
    pixels = torch.from_numpy(data.read("tune", np.arange(len(labels)), Pixels(SIDE, 1.0, "bicubic")))
    images, targets = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5, torch.from_numpy(labels)
    net = build(describe(suite.model["resnet"], 4)).net
    own = read_weights(folder / "backbone.safetensors")
    net.load_state_dict(own | {name: value for name, value in net.state_dict().items() if name.startswith("head.")})
    for table, parameters in ((PROBE, net.head.parameters()), (WHOLE, net.parameters()))[: 1 + whole]:
        optimiser = torch.optim.SGD(parameters, lr=1.0)
        batches = [
            rows
            for epoch in range(table["epochs"])
            for rows in np.split(
                named_generator("shuffle", 0, epoch).permutation(len(labels)), range(8, len(labels), 8)
            )
        ]
        for step, rows in enumerate(batches):
            optimiser.param_groups[0]["lr"] = table["lr"] * 0.5 * (1 + np.cos(np.pi * step / len(batches)))
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), targets[rows]).backward()
            optimiser.step()
    return dict(net.state_dict())


@pytest.mark.parametrize("whole", [False, True])
def test_the_head_is_that_of_a_plain_loop(tmp_path: Path, whole: bool) -> None:
    made = suite_with(tmp_path, reference={"probe": PROBE, **({"finetune": WHOLE} if whole else {})})
    made["runs"] = [{"methods": ["linear_probe"]}]
    suite = parse_suite(made).based_at(tmp_path)
    found = rib.run(suite, store=tmp_path / "store", how=ONE)
    assert not found.failed
    (step,) = (step for step in found.results.plan.steps if isinstance(step, NewHead))
    store = Store(tmp_path / "store")
    got, expected = store.weights(step.key), by_hand(tmp_path, whole)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(got[name], value, atol=2e-5), name
    kept = read_weights(tmp_path / "backbone.safetensors")
    body = [name for name in kept if not name.startswith("head.")]
    assert all(torch.equal(got[name], kept[name]) for name in body) != whole
    assert store.record(step.key).spec["probe"]["lr"] == 0.5
    net = build(describe(suite.model["resnet"], 4)).eval()
    net.net.load_state_dict(expected)
    data = found.results.plan.world["clean"]
    labels = data.index("test").labels
    with torch.inference_mode():
        right = net(torch.from_numpy(data.read("test", np.arange(len(labels)), step.architecture.view))).argmax(1)
    accuracy = next(score.masked for score in found.results.scores if score.tested_on == "clean")
    assert accuracy == pytest.approx(100 * float(np.mean(right.numpy() == labels)))
    again = rib.run(suite, store=tmp_path / "store", how=ONE)
    assert again.results.plan.steps[0].key == found.results.plan.steps[0].key


def test_an_interrupted_head_resumes_to_the_same(tmp_path: Path) -> None:
    """Each stage from its checkpoint: the two stages are those of a pretraining."""
    made = suite_with(tmp_path, reference={"probe": PROBE, "finetune": WHOLE})
    suite = parse_suite(made).based_at(tmp_path)
    plan = make_plan(suite)
    (step,) = (step for step in plan.steps if isinstance(step, NewHead))
    for stop in (2, 7, 13):
        shops = [Workshop(suite, Store(tmp_path / f"{stop}-{name}"), ONE, lambda *_: None) for name in ("a", "b")]
        shops[0].do(step)
        count = iter(range(10**6))

        def watch(*_: object, count: Any = count, stop: int = stop) -> None:
            if next(count) == stop:
                raise KeyboardInterrupt

        broken = Workshop(suite, shops[1].store, dataclasses.replace(ONE, checkpoint_seconds=0), watch)
        with pytest.raises(KeyboardInterrupt):
            broken.do(step)
        shops[1].do(step)
        assert same_weights(*(shop.store.weights(step.key) for shop in shops))


# -- what it is made of ------------------------------------------------------------------------------------------------


def key_of_head(folder: Path, **row: Any) -> str:
    plan = make_plan(parse_suite(suite_with(folder, **row)).based_at(folder))
    (step,) = (step for step in plan.steps if isinstance(step, NewHead))
    return step.key


def test_the_key_has_the_recipes_the_seed_and_the_weights(tmp_path: Path) -> None:
    keys = [
        key_of_head(tmp_path),
        key_of_head(tmp_path, reference={"probe": PROBE}),
        key_of_head(tmp_path, reference={"probe": PROBE, "finetune": WHOLE}),
        key_of_head(tmp_path, reference={"probe": PROBE, "seed": 1}),
    ]
    net = classifier("resnet", 4, 9).net
    write_weights(tmp_path / "other.safetensors", take_weights(net))
    keys.append(key_of_head(tmp_path, weights="other.safetensors"))
    assert len(set(keys)) == len(keys)
    assert key_of_head(tmp_path, reference={"probe": HeadRow().probe.model_dump(exclude_none=True)}) == keys[0]
    assert key_of_head(tmp_path, family="words") == keys[0]


def test_the_golden_key() -> None:
    """Where it changes, every store forgets the heads it trained (tests/test_identity.py)."""
    from test_identity import DATA, LOAD

    step = NewHead(LOAD, DATA, Recipe(epochs=3), 0)
    assert step.key == "b6c7b2517149798c2bedf91fb65e2217ba99a6ff"
    assert dataclasses.replace(step, finetune=Recipe()).key == "0029744688e91372e1c8f354fa0878153533a8cf"


# -- where the weights may come from -----------------------------------------------------------------------------------

FORMS = ("plain", "data parallel", "no head", "projection", "state_dict", "half", "momentum")


def written(folder: Path, form: str) -> Path:
    """The backbone as training scripts leave it."""
    weights: dict[str, Any] = dict(classifier("resnet", 3, 9).net.state_dict())
    body = {name: value for name, value in weights.items() if not name.startswith("head.")}
    content: dict[str, Any] = {
        "plain": weights,
        "data parallel": {f"module.{name}": value for name, value in weights.items()},
        "no head": body,
        "projection": body | {"head.0.weight": torch.zeros(5, 64), "head.2.weight": torch.zeros(3, 5)},
        "state_dict": {"state_dict": {f"backbone.{name}": value for name, value in body.items()}, "epoch": 3},
        "momentum": {
            "state_dict": {f"module.base_encoder.{name}": value for name, value in body.items()}
            | {f"module.momentum_encoder.{name}": value + 1 for name, value in body.items()}
            | {"module.queue": torch.zeros(3)}
        },
        "half": {name: value.half() for name, value in weights.items()},
    }[form]
    torch.save(content, folder / "form.pth")
    return folder / "form.pth"


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_every_form(tmp_path: Path, form: str) -> None:
    row = ModelRow.model_validate(
        {"build": "rib.models.small:small_resnet", "arguments": {"width": 8}, "size": SIDE, "head": "new"}
        | {"weights": str(written(tmp_path, form))}
        | ({"weights_key": "state_dict/module.base_encoder"} if form == "momentum" else {})
    )
    architecture = describe(row, 4)
    identity = weights_identity("m", row, architecture, Path(), CLASSES)
    loaded = load_pretrained("m", row, architecture, Path(), CLASSES, expected=identity)
    own = classifier("resnet", 3, 9).net.state_dict()
    for name, value in loaded.items():
        if name.startswith("head."):
            assert len(value) == 4
        else:
            assert torch.allclose(value, own[name], atol=1e-2 if form == "half" else 0)


@pytest.mark.parametrize("kind", ["timm", "torchvision", "open_clip", "hf"])
def test_weights_of_every_library(tmp_path: Path, kind: str) -> None:
    rows: dict[str, dict[str, Any]] = {"timm": {"timm": "test_resnet"}, "torchvision": {"torchvision": "resnet18"}}
    if kind == "open_clip":
        open_clip = pytest.importorskip("open_clip")
        config = {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8, "head_width": 16},
        }
        config["text_cfg"] = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        model = open_clip.CLIP(**config)
        torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
        row = ModelRow.model_validate({"open_clip": str(tmp_path), "head": "new"})
        own = {f"visual.{name}": value for name, value in model.visual.state_dict().items()}
    elif kind == "hf":
        from timm import create_model
        from timm.models import save_for_hf

        net = create_model("test_resnet", num_classes=9)
        save_for_hf(net, str(tmp_path), safe_serialization=True)
        row, own = ModelRow.model_validate({"hf": str(tmp_path), "head": "new"}), net.state_dict()
    else:
        wide = ModelRow.model_validate({**rows[kind], "weights": "w.pth"})
        net = build(describe(wide, 9)).net
        torch.save(net.state_dict(), tmp_path / "w.pth")
        row, own = (
            ModelRow.model_validate({**rows[kind], "weights": str(tmp_path / "w.pth"), "head": "new"}),
            net.state_dict(),
        )
    architecture = describe(row, 4)
    head = build(architecture).head_name
    loaded = load_pretrained("m", row, architecture, Path(), CLASSES)
    assert loaded[f"{head}.weight"].shape[0] == 4
    body = [name for name in loaded if not name.startswith(f"{head}.")]
    assert body
    assert all(torch.equal(loaded[name], own[name]) for name in body)


# -- mistakes, at the plan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"pretrain": {}, "weights": None}, "cannot be combined with `pretrain`"),
        ({"outputs": list(CLASSES)}, "cannot be combined with `outputs`"),
        ({"head": None, "reference": {}}, 'add head = "new"'),
        ({"reference": {"probe": {"lr": -1}}}, "probe"),
        ({"reference": {"data": "nothing"}}, "nothing"),
        ({"reference": {"data": "part"}}, "no images to train some classes of the head on"),
        ({"weights": "broken.pth"}, "stem.weight is (1, 3, 3, 3), not (8, 3, 3, 3)"),
        ({"weights": "missing.pth"}, "no weights for model"),
    ],
)
def test_mistakes_are_found_by_the_plan(tmp_path: Path, rib_says: Say, row: dict[str, Any], words: str) -> None:
    weights = dict(classifier("resnet", 3, 9).net.state_dict())
    first = next(name for name, value in weights.items() if value.ndim == 4)
    torch.save(weights | {first: weights[first][:1]}, tmp_path / "broken.pth")
    made = suite_with(tmp_path, **row)
    made["model"]["resnet"] = {name: value for name, value in made["model"]["resnet"].items() if value is not None}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert (code, words in said) == (2, True), said


@pytest.mark.parametrize("how", ["head", "pretrain"])
def test_a_reference_set_that_is_tested_whole_cannot_train_a_model(tmp_path: Path, how: str) -> None:
    made = suite_with(tmp_path)
    if how == "pretrain":
        made["model"]["resnet"] = {**RESNET, "pretrain": {}}
    del made["data"]["clean"]["test_fraction"]
    with pytest.raises(UserError, match="tested on what the model is trained on"):
        make_plan(parse_suite(made).based_at(tmp_path))


def test_other_classes_without_a_new_head_are_refused_with_the_remedy(tmp_path: Path, rib_says: Say) -> None:
    made = suite_with(tmp_path, head=None)
    del made["model"]["resnet"]["head"]
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert "another number of classes" in said
    assert 'head = "new"' in said


def test_a_tuned_file_is_compared_with_a_base_that_has_a_new_head(tmp_path: Path) -> None:
    suite = parse_suite(suite_with(tmp_path, reference={"probe": PROBE})).based_at(tmp_path)
    write_weights(tmp_path / "tuned.safetensors", take_weights(classifier("resnet", 8).net))
    found = rib.compare("resnet", tmp_path / "tuned.safetensors", suite=suite, store=tmp_path / "store", how=ONE)
    assert found.ri is not None
    assert any(isinstance(step, NewHead) for step in found.results.plan.steps)
    assert tiny(tmp_path)
