"""rib compare: both models see what they were trained with, or the call says what; a wrong view is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rib
from helpers import CLASSES, SIDE, Say, classifier, document, pictures, toml
from rib.data.views import Pixels
from rib.errors import UserError
from rib.models.checkpoints import read_checkpoint
from rib.models.recorded import recorded_accuracy
from rib.models.weights import read_weights, take_weights, write_weights
from rib.plan import World
from rib.plan.pair import make_pair
from rib.results.plausible import REMEDY, near_chance
from rib.steps import How
from rib.suite.load import load_suite

ONE = How(workers=1, device="cpu")
NAMED = {"input_size": [3, SIDE, SIDE], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with a model that was trained on its own view, and the same weights under other names."""
    folder = tmp_path_factory.mktemp("view")
    made = document(folder, per_class=40, downstream=["whole", "part", "other"])
    net = classifier("resnet")
    images, labels = torch.from_numpy(pictures(np.arange(320) % 4, 5, 50)), torch.arange(320) % 4
    optimiser = torch.optim.SGD(net.train().parameters(), lr=0.05, momentum=0.9)
    for step in range(60):
        rows = torch.arange(step * 16, (step + 1) * 16) % 320
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
        optimiser.step()
    write_weights(folder / "resnet-0.safetensors", take_weights(net.net))
    torch.save({"model": net.net.state_dict()}, folder / "same.pth")
    made["model"]["wide"] = {**made["model"]["resnet"], "size": 16}
    write_weights(folder / "drawn.safetensors", take_weights(classifier("resnet", 7).net))
    made["model"]["drawn"] = {**made["model"]["resnet"], "size": 20, "weights": "drawn.safetensors"}
    (folder / "tiny.toml").write_text(toml(made))
    return folder


def accuracy(folder: Path, name: str, view: Pixels, mean: float, std: float) -> float:
    """Accuracy of the trained net on a data set in percent, by a plain loop."""
    net = classifier("resnet").net.eval()
    net.load_state_dict(read_weights(folder / "resnet-0.safetensors"))
    data = World(load_suite(folder / "tiny.toml"), None)[name]
    labels = data.index("test").labels
    pixels = torch.from_numpy(data.read("test", np.arange(len(labels)), view)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        logits = net((pixels - mean) / std)[:, [CLASSES.index(label) for label in data.classes]]
    return 100 * float(np.mean(logits.argmax(1).numpy() == labels))


def test_the_call_states_what_both_models_see_and_the_numbers_are_of_that(place: Path, rib_says: Say) -> None:
    given = ("--size", 16, "--crop", 0.8, "--interpolation", "bilinear", "--mean", "0.4", "--std", "0.3,0.3,0.3")
    code, text = rib_says(
        *("compare", "resnet", place / "same.pth", "--suite", place / "tiny.toml", "--store", place / "store"),
        *(*given, "--workers", 1, "--json", "--html", place / "page.html"),
    )
    assert code == 0, text
    said, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    view = said["view"]
    assert (view["size"], view["crop"], view["mean"], view["std"]) == (16, 0.8, [0.4] * 3, [0.3] * 3)
    assert {name for name, source in view["sources"].items() if source == "stated in this call"} == {
        *("size", "crop", "interpolation", "mean", "std")
    }
    for row in said["tested"]:
        expected = accuracy(place, row["name"], Pixels(16, 0.8, "bilinear"), 0.4, 0.3)
        assert row["before"]["value"] == row["after"]["value"] == pytest.approx(expected)
    assert "Both models see 16 pixels" in (place / "page.html").read_text()


@pytest.mark.parametrize("words", ["1,2", "a", ""])
def test_a_mean_of_two_numbers_is_refused(place: Path, rib_says: Say, words: str) -> None:
    code, text = rib_says(
        "compare", "resnet", "resnet", "--suite", place / "tiny.toml", "--mean", words, "--store", "s"
    )
    assert (code, "--mean is neither one number nor three" in text) == (2, True)


def test_a_value_out_of_range_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="crop"):
        make_pair(load_suite(place / "tiny.toml"), "resnet", "resnet", view={"crop": 0.0})


# -- what files state --------------------------------------------------------------------------------------------------


def stated(folder: Path, document: dict[str, Any], form: str) -> Path:
    """The weights in a file that states something, in one of several ways."""
    folder.mkdir()
    net = classifier("resnet").net
    file = folder / "tuned.pth"
    if form == "safetensors":
        file = folder / "tuned.safetensors"
        from safetensors.torch import save_file

        save_file(dict(net.state_dict()), file, {name: json.dumps(value) for name, value in document.items()})
        return file
    torch.save(net.state_dict() if form in ("beside", "nested") else {"model": net.state_dict(), form: document}, file)
    if form in ("beside", "nested"):
        text = json.dumps(document if form == "beside" else {"pretrained_cfg": document})
        (folder / "config.json").write_text(text)
    return file


@pytest.mark.parametrize("form", ["beside", "nested", "args", "hyper_parameters", "config"])
@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"input_size": [3, 64, 64]}, "size"),
        ({"img_size": 64}, "size"),
        ({"image_size": [64, 64]}, "size"),
        ({"mean": [0.485, 0.456, 0.406]}, "mean"),
        ({"std": [0.2, 0.2, 0.2]}, "std"),
        ({"crop_pct": 0.5}, "crop"),
        ({"crop_mode": "squash"}, "resize"),
    ],
)
def test_weights_that_state_other_images_are_refused(
    place: Path, tmp_path: Path, form: str, document: dict[str, Any], field: str
) -> None:
    suite = load_suite(place / "tiny.toml")
    file = stated(tmp_path / "of", document, form)
    with pytest.raises(UserError, match=f"another {field}") as refused:
        make_pair(suite, "resnet", str(file))
    assert f"--{field}" in str(refused.value)
    with pytest.raises(UserError, match=f"another {field}"):  # as BASE, whatever the row of its architecture states
        make_pair(suite, str(file), str(file), model="wide")


def test_weights_that_state_the_same_images_are_accepted(place: Path, tmp_path: Path) -> None:
    suite = load_suite(place / "tiny.toml")
    for form in ("beside", "nested", "args", "config"):
        make_pair(suite, "resnet", str(stated(tmp_path / form, NAMED, form)))
    file = stated(tmp_path / "other", {"image_size": 64, "resize": "whatever"}, "args")
    pair = make_pair(suite, "resnet", str(file), view={"size": 64})
    assert pair.after.fit.architecture.size == 64


def test_a_base_that_is_the_file_of_a_model_is_seen_as_that_model(place: Path) -> None:
    suite = load_suite(place / "tiny.toml")
    base, tuned = str(place / "resnet-0.safetensors"), str(place / "same.pth")
    with pytest.raises(UserError, match="BASE is the checkpoint of 'resnet'") as refused:
        make_pair(suite, base, tuned, model="drawn")
    assert "name 'resnet' as BASE, or state what both models see: --size" in str(refused.value)
    assert make_pair(suite, base, tuned, model="drawn", view={"size": 20}).before.fit.architecture.size == 20
    for known, size in (("resnet", SIDE), ("wide", 16)):
        assert make_pair(suite, base, tuned, model=known).before.fit.architecture.size == size


# -- accuracies that only a wrong input gives --------------------------------------------------------------------------


def test_a_base_far_below_what_its_file_records_is_an_error(place: Path, tmp_path: Path) -> None:
    weights = classifier("resnet").net
    weights.load_state_dict(read_weights(place / "resnet-0.safetensors"))
    options: dict[str, Any] = {"suite": place / "tiny.toml", "store": place / "store", "how": ONE, "model": "resnet"}
    right = accuracy(place, "clean", Pixels(SIDE, 1.0, "bicubic"), 0.5, 0.5)
    for name, recorded in (("share", right / 100), ("percent", right)):
        torch.save({"model": weights.state_dict(), "best_acc1": recorded}, file := tmp_path / f"{name}.pth")
        found = rib.compare(file, file, **options)
        assert not found.errors, "seen as it was trained"
    low = tmp_path / "low.pth"
    torch.manual_seed(5)
    weights.head.weight.data += 1.5 * torch.randn_like(weights.head.weight)  # a net that is right less often
    torch.save({"model": weights.state_dict(), "best_acc1": right}, low)
    found = rib.compare(low, low, **options)
    before = next(row.before for row in found.tested if row.role == "reference")
    assert before is not None
    assert before.high < right - 10, "or the test tests nothing"
    assert not found.passed
    assert any("far below" in error or "chance" in error for error in found.errors)
    assert REMEDY in found.errors[0]
    assert rib.compare(low, low, view={"size": SIDE}, **options).pair.recorded is None, "the call states the view"


def test_near_chance_is_double_or_five_points_above() -> None:
    assert [near_chance(level) for level in (0.1, 4.0, 10.0, 50.0)] == [0.2, 8.0, 15.0, 55.0]


@pytest.mark.parametrize(
    ("entries", "percent"),
    [
        ({"best_acc1": 71.5}, 71.5),
        ({"best_acc1": torch.tensor(0.715)}, 71.5),
        ({"metric": 80.1, "args": {"eval_metric": "top1"}}, 80.1),
        ({"metric": 0.4, "args": {"eval_metric": "loss"}}, None),
        ({"accuracy": "high"}, None),
        ({"accuracy": True}, None),
        ({"acc1": 7150.0}, None),
        ({"acc1": float("nan")}, None),
        ({"epoch": 3}, None),
    ],
)
def test_what_a_checkpoint_records_is_a_share_or_percent(
    tmp_path: Path, entries: dict[str, Any], percent: float | None
) -> None:
    torch.save({"model": {"w": torch.zeros(1)}, **entries}, tmp_path / "f.pth")
    found = recorded_accuracy(read_checkpoint(tmp_path / "f.pth"))
    assert (found and found.percent) == (None if percent is None else pytest.approx(percent))


def test_a_timm_model_of_fixed_size_is_built_at_the_size_of_the_call(tmp_path: Path) -> None:
    from timm import create_model

    made = document(tmp_path)
    (tmp_path / "s.toml").write_text(toml(made))
    net = create_model("test_vit", num_classes=len(CLASSES), img_size=96)
    torch.save(net.state_dict(), tmp_path / "own.pth")
    file = str(tmp_path / "own.pth")
    pair = make_pair(load_suite(tmp_path / "s.toml"), file, file, model="timm:test_vit", view={"size": 96})
    assert (pair.before.fit.architecture.size, pair.before.fit.architecture.arguments) == (96, {"img_size": 96})
